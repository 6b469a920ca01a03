//! What is worth looking at: most facts change nothing for this host's guests or for the
//! coordinator, and a cluster of many guests must not be looked through for each of them.
//!
//! Three things make a part of the node look: a fact that is not passing, an entry or a lease that
//! came of it, and time. Time is kept exact by deadlines ([`Looks::due`]); what has none is looked
//! at once in an election timeout at the latest.

use crate::command::GuestWord;
use crate::contract::Fact;
use crate::machine::Guests;
use quorate_membership::entry::Entry;
use quorate_membership::frame::Datagram;
use quorate_membership::store::Write;
use quorate_membership::{Output, Time};
use std::time::Duration;

/// When the host's part is to be looked at again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks {
    /// The first moment at which time alone calls for something.
    due: Time,
    /// Everything is looked at by then, at the first fact that comes.
    at_latest: Time,
}

impl Default for Looks {
    fn default() -> Looks {
        Looks {
            due: Time::ZERO,
            at_latest: Time::ZERO,
        }
    }
}

impl Looks {
    /// Whether time calls for something: leases above all.
    pub(super) fn are_due(&self, now: Time) -> bool {
        now >= self.due
    }

    /// Whether the host's part must be looked at with the next fact, whatever that is.
    pub(super) fn are_late(&self, now: Time) -> bool {
        now >= self.at_latest
    }

    /// The host's part was looked at; time alone calls for it again at `due`.
    pub(super) fn looked(&mut self, now: Time, due: Time, patience: Duration) {
        *self = Looks {
            due,
            at_latest: now + patience,
        };
    }

    /// Something new is due, perhaps earlier than all else.
    pub(super) fn sooner(&mut self, due: Time) {
        self.due = self.due.min(due);
    }

    /// When this node must be woken for it.
    pub(super) fn deadline(&self) -> Time {
        self.due
    }
}

/// What came of a fact besides the fact itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Something the host's part and the coordinator's must look at.
    pub(super) any: bool,
    /// Entries that may change what is said of guests or hosts, or a whole state taken over.
    pub(super) records: bool,
    /// Entries that only carry the coordinator's lease on.
    pub(super) renewed: bool,
}

/// What `outputs` bring.
pub(super) fn news(outputs: &[Output<Guests>]) -> News {
    let mut news = News::default();
    for output in outputs {
        match output {
            Output::Applied(a) if matches!(a.entry.body, Entry::Noop | Entry::Renew { .. }) => {
                news.renewed = true;
            }
            Output::Applied(_) => (news.any, news.records) = (true, true),
            Output::Lease(_) => news.any = true,
            Output::Write(Write::Snapshot { .. }) => news.records = true,
            _ => {}
        }
    }
    news
}

/// Whether nothing need be looked at because of this fact alone: what it brings about (an entry, a
/// lease, an order to give, an end that was seen) says so itself, and the rest is seen at the next
/// tick.
pub(super) fn passing(fact: &Fact) -> bool {
    let frame = match fact {
        Fact::Frame { frame, .. } => frame,
        Fact::Observed { .. }
        | Fact::HostObserved(_)
        | Fact::Guests { .. }
        | Fact::GuestDone { .. }
        | Fact::DeviceRead { .. }
        | Fact::Stream { .. }
        | Fact::SessionUp { .. }
        | Fact::SessionDown { .. }
        | Fact::Persisted { .. }
        | Fact::Guardian(_)
        | Fact::Timeout => return true,
        _ => return false,
    };
    match &frame.body {
        Datagram::Bulletin(part) | Datagram::RelayedBulletin { part, .. } => {
            let closes = |w: &GuestWord| matches!(w, GuestWord::Closed(..));
            !part.items.iter().any(closes)
        }
        Datagram::Beat(_)
        | Datagram::Relayed { .. }
        | Datagram::Ack(_)
        | Datagram::Observation(_)
        | Datagram::Election { .. }
        | Datagram::Join(_) => true,
    }
}
