//! What is worth looking at: most facts change nothing for this host's guests or for the
//! coordinator, and a cluster of many guests must not be looked through for each of them.
//!
//! Three things make a part of the node look: a fact that is not passing, an entry or a lease that
//! came of it, and time. Time is kept exact by deadlines ([`Looks::due`]); what has none is looked
//! at once in an election timeout at the latest.

use crate::contract::Fact;
use quorate_membership::Time;
use quorate_membership::frame::Datagram;
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
    /// Whether the host's part must be looked at now, whatever the fact.
    pub(super) fn are_due(&self, now: Time) -> bool {
        now >= self.due || now >= self.at_latest
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

/// Whether nothing need be looked at because of this fact alone: what it brings about (an entry, a
/// lease, an order to give) says so itself, and the rest is seen at the next tick.
pub(super) fn passing(fact: &Fact) -> bool {
    let frame = match fact {
        Fact::Frame { frame, .. } => frame,
        Fact::Observed { .. }
        | Fact::HostObserved(_)
        | Fact::Stream { .. }
        | Fact::SessionUp { .. }
        | Fact::SessionDown { .. }
        | Fact::Persisted { .. }
        | Fact::Timeout => return true,
        _ => return false,
    };
    match &frame.body {
        Datagram::Beat(beat) | Datagram::Relayed { beat, .. } => beat.status.closed.is_empty(),
        Datagram::Ack(_)
        | Datagram::Observation(_)
        | Datagram::Election { .. }
        | Datagram::Join(_) => true,
    }
}
