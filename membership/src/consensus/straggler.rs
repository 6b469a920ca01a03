//! Voters that promised a round which came to nothing.
//!
//! A voter that promised a candidate above the present leader, where the candidate failed (or was
//! the voter itself, restarted since), answers this leader no more; the library leaves it so
//! until the leader falls: its election does not move while the leader has a quorum, and the
//! leader ignores its request for a prepare. The voter would apply nothing and block trimming.
//! So a leader that sees one for several election rounds goes through a prepare above it.
//!
//! Only a voter that is unhappy counts, one that sees no leader of that round at work; and only a
//! leader that a quorum follows acts. So two leaders never raise their rounds against each other.

use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::messages::ballot_leader_election::HeartbeatReply;

/// Election rounds that a straggler is given to come along by itself.
const PATIENCE: u32 = 8;

/// What the replies to our heartbeats say of stragglers.
#[derive(Clone, Debug, Default)]
pub(super) struct Stragglers {
    /// Voters that replied in this round and are not above us.
    following: u8,
    /// The highest round that an unhappy voter follows above ours, in this round.
    above: Option<Ballot>,
    /// Rounds in a row that ended with one.
    rounds: u32,
}

impl Stragglers {
    /// Notes a reply that was counted while `promise` was our own promise.
    pub(super) fn reply(&mut self, promise: Ballot, reply: &HeartbeatReply) {
        if reply.leader <= promise {
            self.following = self.following.saturating_add(1);
        } else if !reply.happy {
            self.above = self.above.max(Some(reply.leader));
        }
    }

    /// Whether a quorum of so many has replied in this round and is not above us.
    pub(super) fn followed(&self, slots: u8) -> bool {
        self.following + 1 > slots / 2
    }

    /// An election round has ended. Gives the round to get above, if it is time to.
    pub(super) fn round_over(&mut self, leads: bool, slots: u8) -> Option<Ballot> {
        let above = self.above.take();
        let quorum = self.followed(slots);
        self.following = 0;
        if !leads || !quorum || above.is_none() {
            self.rounds = 0;
            return None;
        }
        self.rounds += 1;
        if self.rounds < PATIENCE {
            return None;
        }
        self.rounds = 0;
        above
    }
}
