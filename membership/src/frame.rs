//! What nodes send each other.

use crate::attest::Word;
pub use crate::bulletin::Part;
use crate::consensus::{Command, ElectionMessage, LogMessage};
use crate::entry::{LogEntry, Profile};
use crate::founding::Founding;
use crate::id::{ClusterId, Epoch, Incarnation, NodeId, Slot, StoreId, Token};
use crate::states::StateWord;
use crate::vouch::{Claim, Statement};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::time::Duration;

/// What nodes say of an application: a little with each beat, the rest in bulletins.
pub trait Words: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned {
    /// One thing that is said in a bulletin.
    type Item: Clone + Debug + PartialEq + Serialize + DeserializeOwned;
}

/// An application that says nothing.
impl Words for () {
    type Item = ();
}

/// A datagram: authenticated, possibly lost, late or repeated, on every link.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "S: Words", deserialize = "S: Words"))]
pub struct Frame<S: Words> {
    /// Who sent it; equal to what the key says.
    pub header: Header,
    /// Whom it is for; none means everyone. On a multicast link others overhear it, and do nothing
    /// with it.
    pub to: Vec<NodeId>,
    /// What it says.
    pub body: Datagram<S>,
}

/// Stands in front of every datagram and opens every session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The sender's cluster; zero before it belongs to one.
    pub cluster: ClusterId,
    /// The newest epoch the sender knows. Filters consensus frames only.
    pub epoch: Epoch,
    /// The sender.
    pub from: NodeId,
    /// The sender's incarnation.
    pub incarnation: Incarnation,
    /// Rises with every datagram of that incarnation; the same on every link.
    pub number: u64,
}

/// The body of a datagram.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "S: Words", deserialize = "S: Words"))]
pub enum Datagram<S: Words> {
    /// The lease beat of a host.
    Beat(Beat<S>),
    /// A voter passes on the beat of a host that another voter does not hear.
    Relayed {
        /// The header the beat came with.
        header: Header,
        /// The beat.
        beat: Box<Beat<S>>,
    },
    /// A voter acknowledges a beat, at once.
    Ack(Ack),
    /// What a voter sees, to the other voters.
    Observation(Observation),
    /// Leader election, one addressee.
    Election {
        /// The incarnation the sender believes it talks to; stale replies die of it.
        to_incarnation: u64,
        /// OmniPaxos' own message.
        message: ElectionMessage,
    },
    /// The forming of a cluster and the welcome of its members.
    Join(Join),
    /// A part of what a node says of its part of the application.
    Bulletin(Part<S::Item>),
    /// A voter passes on a part of a bulletin, as it does with beats.
    RelayedBulletin {
        /// The header the part came with.
        header: Header,
        /// The part.
        part: Part<S::Item>,
    },
}

/// The lease beat: small whatever runs, frequent, resting on no disk write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beat<S> {
    /// Rises with every beat of the incarnation; what an acknowledgement names.
    pub sequence: u64,
    /// Present until the incarnation is admitted.
    pub hello: Option<Box<Hello>>,
    /// How long the sender's lease still lasts; zero when it is over.
    pub lease_left: Duration,
    /// How long ago something last renewed it (since start if nothing did).
    pub renewed_ago: Duration,
    /// Token of the timing values the sender runs.
    pub timing: Token,
    /// Who ends its guests at lease end, if anybody.
    pub word: Word,
    /// The sender can promise nothing new, so no guest should be given to it.
    pub full: bool,
    /// Bit i−1 is set if the voter in slot i has acknowledged nothing lately: relay to it, please.
    pub unheard: u8,
    /// Bit i−1 is set if a beat of the voter in slot i came lately: the sender can hear.
    pub hears: u8,
    /// Index of the last entry the sender applied.
    pub applied: u64,
    /// The application's part; of fixed size.
    pub status: S,
}

/// A node asks to be admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What it is.
    pub profile: Profile,
    /// It has ended every guest of earlier incarnations and durably refuses their epochs.
    pub emptied: bool,
}

/// The acknowledgement of one beat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The host whose beat it was. The frame of an acknowledgement is addressed to that host, and to
    /// the voter that relayed the beat, if one did, which passes it on.
    pub host: NodeId,
    /// The incarnation acknowledged.
    pub incarnation: Incarnation,
    /// The beat acknowledged.
    pub sequence: u64,
    /// The acknowledging voter.
    pub slot: Slot,
    /// The epoch it acknowledges under.
    pub epoch: Epoch,
    /// The acknowledging voter's incarnation: its counter.
    pub life: u64,
    /// Voters that it vouched for, each with the counter of its newest such incarnation: what an earlier
    /// one acknowledges counts no more.
    pub lives: Vec<(Slot, u64)>,
}

/// What one voter sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The reporting voter.
    pub slot: Slot,
    /// Its incarnation's counter.
    pub incarnation: u64,
    /// It started or paused so recently that its silence reports do not count.
    pub blind: bool,
    /// How long its store takes for a write: the longer of the last write and the one under way.
    pub disk: Duration,
    /// The hosts this is about, first and last: a long observation travels in several.
    pub about: (NodeId, NodeId),
    /// Hosts of them unheard for more than a heartbeat plus jitter, and for how long.
    pub silent: Vec<(NodeId, Duration)>,
    /// Index up to which its state snapshot is durable; the log may be trimmed to the least.
    pub durable: u64,
    /// Its answers to standing revokes of them.
    pub answers: Vec<Answer>,
    /// What it made of the log.
    pub state: StateWord,
}

/// A voter's answer to a revoke: it acknowledges that incarnation no more, durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The host.
    pub host: NodeId,
    /// Token of the Revoke entry.
    pub revoke: Token,
    /// now − max(last acknowledgement of any incarnation of the host, start of acknowledging in
    /// this voter's incarnation and epoch), at the moment of sending.
    pub age: Duration,
}

/// The forming of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Join {
    /// A node without a cluster tells its store.
    Seeking {
        /// Its store.
        store: StoreId,
        /// The cluster it has durably pledged its vote to, if it has.
        pledged: Option<ClusterId>,
        /// The highest epoch of any cluster that it knows of; 0 for none.
        floor: Epoch,
    },
    /// A founder calls the first voters it was given.
    Invite {
        /// The cluster being founded.
        cluster: ClusterId,
        /// Its first voters.
        voters: Vec<NodeId>,
    },
    /// The cluster exists; this is its first record.
    Founded(Box<Founding>),
}

/// What travels on a session: one ordered, reliable, authenticated stream per pair of nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "C: Command", deserialize = "C: Command"))]
pub enum Stream<C: Command> {
    /// Log replication between voters.
    Log {
        /// The epoch it belongs to; another epoch's is dropped.
        epoch: Epoch,
        /// Voters that were vouched for, each with the counter of its newest such incarnation: what
        /// was counted from an earlier one counts no more.
        lives: Vec<(Slot, u64)>,
        /// OmniPaxos' own message.
        message: Box<LogMessage<C>>,
    },
    /// A follower's proposals, for a voter to put into the log.
    Propose(Vec<LogEntry<C>>),
    /// A follower wants every decided entry from this index (counted from 0) on.
    Follow {
        /// First index wanted.
        from: u64,
    },
    /// Decided entries.
    Feed {
        /// Epoch of the entries.
        epoch: Epoch,
        /// Index (from 0) of the first.
        from: u64,
        /// The entries.
        entries: Vec<LogEntry<C>>,
    },
    /// The whole state, for a follower that is behind what the voter still has as entries.
    State {
        /// Epoch of the state.
        epoch: Epoch,
        /// Entries contained.
        applied: u64,
        /// The state as the store holds it.
        bytes: Vec<u8>,
    },
    /// A datagram, encoded as on a link: where datagrams do not pass, leases go by sessions too.
    Datagram(Vec<u8>),
    /// What a voter says of its store and of the receiver's.
    Statement(Box<Statement>),
    /// A voter that must catch up asks for the accepted log from this index (counted from 0) on.
    Fetch {
        /// First index wanted.
        from: u64,
    },
    /// A part of the sender's accepted log.
    Fetched {
        /// What the sender holds.
        claim: Box<Claim>,
        /// Index (from 0) of the first entry.
        from: u64,
        /// The state before that entry, where what was asked for is cut already.
        state: Option<Vec<u8>>,
        /// The entries.
        entries: Vec<LogEntry<C>>,
    },
    /// The receiver's life is refused: another one of it, with this counter, was admitted or vouched for.
    Superseded {
        /// The counter of that incarnation.
        life: u64,
    },
    /// The sender's state is wrong: it wants the receiver's, and then every decided entry.
    Whole,
    /// Notice that the receiver lacks what is cut from the sender's log: it must take over a state.
    Cut {
        /// The first index that the sender's log still has.
        first: u64,
        /// Bytes of the sender's state, about: how long it takes to come over a slow line.
        bytes: u64,
    },
    /// The sender can hand no state over now.
    NoState,
    /// Answer to a question that a voter is asked: the sender has left the log, and what it answered
    /// before counts no more.
    LeftLog,
}

/// Bytes of what one observation says of hosts, as it is cut.
const OBSERVED_BYTES: usize = 850;
/// The longest that one host silent takes, and one answer.
const SILENT_BYTES: usize = 24;
const ANSWER_BYTES: usize = 32;

impl Observation {
    /// The same in parts that each fit one datagram: each about a range of hosts, all hosts together.
    #[must_use]
    pub fn in_parts(self) -> Vec<Observation> {
        let mut bytes: std::collections::BTreeMap<NodeId, usize> = Default::default();
        for (host, _) in &self.silent {
            *bytes.entry(*host).or_default() += SILENT_BYTES;
        }
        for answer in &self.answers {
            *bytes.entry(answer.host).or_default() += ANSWER_BYTES;
        }
        let (mut starts, mut room) = (vec![self.about.0], OBSERVED_BYTES);
        for (host, needs) in bytes {
            if needs > room {
                starts.push(host);
                room = OBSERVED_BYTES;
            }
            room = room.saturating_sub(needs);
        }
        if starts.len() == 1 {
            return vec![self];
        }
        let last = |at: usize| starts.get(at + 1).map_or(self.about.1, |n| NodeId(n.0 - 1));
        let ranges = starts
            .iter()
            .enumerate()
            .map(|(at, from)| (*from, last(at)));
        ranges
            .map(|about| Observation {
                about,
                silent: within(&self.silent, about, |(host, _)| *host),
                answers: within(&self.answers, about, |a| a.host),
                ..self
            })
            .collect()
    }

    /// Whether it says anything of `host`.
    #[must_use]
    pub fn covers(&self, host: NodeId) -> bool {
        (self.about.0..=self.about.1).contains(&host)
    }
}

fn within<T: Clone>(all: &[T], about: (NodeId, NodeId), host: impl Fn(&T) -> NodeId) -> Vec<T> {
    let inside = |t: &&T| (about.0..=about.1).contains(&host(t));
    all.iter().filter(inside).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Kind, size};

    #[test]
    fn a_long_observation_is_cut_by_hosts_and_nothing_of_it_is_lost() {
        let silent: Vec<_> = (1..=1000)
            .map(|n| (NodeId(u32::MAX - 2000 + n), Duration::MAX))
            .collect();
        let answers: Vec<_> = silent
            .iter()
            .step_by(3)
            .map(|(host, age)| Answer {
                host: *host,
                revoke: Token(u64::MAX),
                age: *age,
            })
            .collect();
        let whole = Observation {
            slot: Slot(7),
            incarnation: u64::MAX,
            blind: false,
            disk: Duration::MAX,
            about: (NodeId(0), NodeId(u32::MAX)),
            silent: silent.clone(),
            durable: u64::MAX,
            answers: answers.clone(),
            state: StateWord {
                token: Token(u64::MAX),
                hash: u32::MAX,
                rules: u16::MAX,
            },
        };
        let parts = whole.in_parts();
        assert!(parts.len() > 10, "{}", parts.len());
        assert!(
            parts
                .iter()
                .all(|p| size(Kind::Frame, p).is_some_and(|n| n <= 1000))
        );
        assert!(
            parts
                .windows(2)
                .all(|w| w[0].about.1.0 + 1 == w[1].about.0.0)
        );
        assert_eq!(
            (parts[0].about.0.0, parts[parts.len() - 1].about.1.0),
            (0, u32::MAX)
        );
        let said: Vec<_> = parts.iter().flat_map(|p| p.silent.clone()).collect();
        assert_eq!(said, silent);
        let said: Vec<_> = parts.iter().flat_map(|p| p.answers.clone()).collect();
        assert_eq!(said, answers);
    }
}
