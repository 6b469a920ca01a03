//! The log is cut where states hold its effect, and a voter that lacks what is cut takes over a state.
//!
//! A leader cuts what every voter has in a durable state. A voter that is away, or whose disk is slow,
//! would keep it from cutting for ever, so beyond [`Member::log_limit`] bytes it is left behind. Nothing
//! decided is lost by that: each voter drops only what a durable state of its own contains. Who is left
//! behind remembers all that it promised and accepted, so it needs nobody to vouch for it: it takes the
//! state and log of the voter that told it so, and goes on.

use super::duties::kind;
use super::follow::MESSAGE;
use super::{Member, Output};
use crate::app::Application;
use crate::codec;
use crate::consensus::Replica;
use crate::frame::Stream;
use crate::id::{NodeId, Slot, Token};
use crate::mutants::planted;
use crate::store::Write;
use crate::time::Time;
use crate::vouch::Standing;
use std::time::Duration;

/// Encoded bytes of a log for whoever has no reason to choose. All of it fits one session message,
/// which brings back a voter that lacks it.
pub const LOG_LIMIT: u64 = 8 << 20;
/// A state is written at the latest after so many parts of the limit, and so much is cut at once.
const PARTS: u64 = 4;
/// Pause between two alerts that the log grows for one voter.
const TOLD: Duration = Duration::from_secs(600);

/// A program is given so long after its start to say what it has taken.
const SPEAKS: Duration = Duration::from_secs(60);
/// A node without a log of its own keeps no state that its program has not taken for so many snapshots.
const UNTAKEN: u64 = 16;

/// Entries contained in the state that was taken last, that is on its way (with its batch, once that
/// is known), and that is durable.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshots {
    pub(super) taken: u64,
    /// The state that was taken last, while the program has not taken what led to it.
    pub(super) held: Option<(u64, Vec<u8>)>,
    pub(super) pending: Option<(u64, Option<u64>)>,
    pub(super) durable: u64,
    /// Bytes of the state that was taken last.
    pub(super) bytes: u64,
}

impl Snapshots {
    /// Of a node that starts from this state.
    pub(super) fn of(image: Option<&(u64, Vec<u8>)>) -> Snapshots {
        let (applied, bytes) = image.map_or((0, 0), |(applied, bytes)| (*applied, bytes.len()));
        Snapshots {
            taken: applied,
            durable: applied,
            bytes: bytes as u64,
            ..Snapshots::default()
        }
    }

    /// Another's state of so many entries and bytes is written.
    pub(super) fn taken_over(&mut self, applied: u64, bytes: usize) {
        *self = Snapshots {
            taken: applied,
            pending: Some((applied, None)),
            durable: self.durable,
            bytes: bytes as u64,
            held: None,
        };
    }
}

/// Part of what the program above this member was told that it has not taken yet. A state that contains
/// it is not written, so that a start tells it again; within [`LOG_LIMIT`], so that a program that takes
/// nothing does not keep the log from being cut for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Untaken {
    /// Empty: the program has taken everything, or never needs anything again.
    #[default]
    Nothing,
    /// Not said so far.
    Unknown,
    /// Begins with what the entry of this token told.
    From(Token),
}

/// The newest word of the program about that, and the number of entries applied then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taking {
    untaken: Untaken,
    applied: u64,
}

impl Taking {
    /// Of a program that needs nothing again.
    pub(super) const ALL: Taking = Taking {
        untaken: Untaken::Nothing,
        applied: u64::MAX,
    };
}

/// Time that so many bytes take over the slowest line that a voter can come back by: 64 kB/s. A state is
/// one message, so nothing tells how much of it has come; no more is granted than the longest takes.
pub(super) fn over_a_slow_line(bytes: u64) -> Duration {
    Duration::from_millis(bytes.min(MESSAGE as u64) / 64)
}

impl<A: Application> Member<A> {
    /// Time in which a voter that is asked for a state says that it has none to give.
    pub(super) fn answer_time(&self) -> Duration {
        self.cluster().timing.election * 4
    }

    /// Says what the program has not taken of what it was told up to now. Who never says so has taken
    /// everything.
    pub fn set_untaken(&mut self, untaken: Untaken) {
        let applied = self.state.cluster.applied;
        self.taking = Taking { untaken, applied };
    }

    /// Whether a start may go on from the state after so many entries.
    fn may_keep(&self, now: Time, applied: u64) -> bool {
        let epoch = self.state.cluster.epoch;
        let taken = match self.taking.untaken {
            Untaken::Nothing => true,
            Untaken::Unknown => now.since(self.began) >= SPEAKS,
            Untaken::From(token) => Token::new(epoch, applied) < token,
        };
        if taken && applied <= self.taking.applied || planted("states-kept-before-they-are-taken") {
            return true;
        }
        let durable = self.snapshot.durable;
        match &self.replica {
            Some(replica) => replica.bytes_from(durable) > self.log_limit,
            None => {
                let since = self.state.cluster.applied.saturating_sub(durable);
                since > self.snapshot_every.saturating_mul(UNTAKEN)
            }
        }
    }

    /// Every so many entries or bytes the whole state becomes durable, so that the log can be cut.
    pub(super) fn take_snapshot(&mut self, now: Time) {
        if let Some((applied, bytes)) = self.snapshot.held.take() {
            if self.may_keep(now, applied) {
                self.keep(applied, bytes);
            } else {
                self.snapshot.held = Some((applied, bytes));
            }
            return;
        }
        let applied = self.state.cluster.applied;
        let taken = self.snapshot.taken;
        if self.snapshot.pending.is_some() || applied == taken {
            return;
        }
        let bytes = |r: &Replica<_>| r.bytes_from(taken) >= self.log_limit / PARTS;
        let long = self.replica.as_ref().is_some_and(bytes);
        if applied < taken + self.snapshot_every && !long {
            return;
        }
        self.snapshot.taken = applied;
        let encoded = codec::encode(codec::Kind::State, &self.state);
        self.snapshot.bytes = encoded.as_ref().map_or(0, |bytes| bytes.len() as u64);
        match encoded {
            Ok(bytes) if self.may_keep(now, applied) => self.keep(applied, bytes),
            Ok(bytes) => self.snapshot.held = Some((applied, bytes)),
            // The log is kept instead; it is tried again after as many entries.
            Err(e) => self.output.push(Output::Alert {
                node: self.me,
                text: format!("the state cannot be kept, so the log is not cut: {e}"),
            }),
        }
    }

    fn keep(&mut self, applied: u64, bytes: Vec<u8>) {
        self.output
            .push(Output::Write(Write::Snapshot { applied, bytes }));
        self.snapshot.pending = Some((applied, None));
    }

    /// The leader's part: cuts what every voter has in a durable state, and beyond the limit also what
    /// some lack that a quorum has.
    pub(super) fn cut_log(&mut self, now: Time) {
        let cluster = &self.state.cluster;
        let kept = self.reports.kept(cluster, self.me, self.snapshot.durable);
        let Some(replica) = &mut self.replica else {
            return;
        };
        let first = replica.first();
        let everywhere = kept.first().map_or(0, |(at, _)| *at);
        let at_quorum = kept[kept.len() - cluster.quorum()].0;
        let dropped = |at: u64| replica.bytes_from(first) - replica.bytes_from(at);
        let worth = |at: u64| {
            at >= first + self.snapshot_every || at > first && dropped(at) >= self.log_limit / PARTS
        };
        let voters = |lacks_nothing: &dyn Fn(u64) -> bool| -> Vec<Slot> {
            let them = kept.iter().filter(|(at, _)| lacks_nothing(*at));
            them.filter_map(|(_, v)| cluster.slot(*v)).collect()
        };
        if worth(everywhere) {
            replica.cut(everywhere, &voters(&|_| true));
            return;
        }
        let length = replica.bytes_from(first);
        if length > self.log_limit {
            // The fewest voters are left behind.
            let fits = |at: &u64| *at <= at_quorum && replica.bytes_from(*at) <= self.log_limit;
            let cut = kept.iter().map(|(at, _)| *at).find(fits);
            let mut cut = cut.unwrap_or(at_quorum);
            if planted("cut-beyond-own-state") {
                cut = replica.decided();
            }
            if cut > first {
                let has = |at: u64| at >= cut || planted("cut-beyond-own-state");
                replica.cut(cut, &voters(&has));
            }
        } else if length > self.log_limit / 2 && at_quorum > everywhere {
            self.tell_growing(now, kept[0].1, length);
        }
    }

    fn tell_growing(&mut self, now: Time, node: NodeId, length: u64) {
        if !self.cool(now, kind::GROWS, node.0.into(), TOLD) {
            return;
        }
        let text = format!(
            "the log holds {} kB, for {} has not taken it over: beyond {} kB it is cut, and that node then \
             comes back by a state",
            length / 1000,
            self.state.cluster.name(node),
            self.log_limit / 1000
        );
        self.output.push(Output::Alert { node, text });
    }

    /// Tells the voter `peer` that what it lacks is cut here.
    pub(super) fn tell_cut(&mut self, now: Time, peer: NodeId) {
        let pause = self.cluster().timing.election;
        if planted("cut-and-not-told") || !self.cool(now, kind::CUT, peer.0.into(), pause) {
            return;
        }
        let Some(first) = self.replica.as_ref().map(Replica::first) else {
            return;
        };
        let bytes = self.snapshot.bytes;
        let message = Stream::Cut { first, bytes };
        self.output.push(Output::Stream { peer, message });
    }

    /// Another voter has cut what this one lacks.
    pub(super) fn cut_told(&mut self, now: Time, peer: NodeId, first: u64, bytes: u64) {
        let standing = self.vouching.standing;
        let voter = self.state.cluster.slot(peer).is_some();
        let Some(replica) = self.replica.as_mut().filter(|_| voter) else {
            return self.count("cut of no use");
        };
        if standing == Standing::Seeking || replica.decided() >= first {
            return self.count("cut of no use");
        }
        // It could be elected, and nobody would follow it.
        replica.hold();
        self.vouching.left_behind(standing, peer);
        let from = replica.decided();
        let patience = self.answer_time() + over_a_slow_line(bytes);
        self.fetch_from(now, peer, from, patience);
    }
}
