//! What the executor sees, what it keeps about each process, and what it wants done.

use super::ExecutorWrite;
use crate::command::Closure;
use crate::contract::GuestOrder;
use crate::guest::GuestId;
use crate::hold::{HoldReason, Words};
use crate::lrmd::Watch;
use crate::machine::{GuestRecord, Guests};
use quorate_membership::{Cluster, Host, Incarnation, NodeId, Time, Token};
use std::time::Duration;

/// What the executor sees of the rest of the node.
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Time,
    pub(crate) me: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) cluster: &'a Cluster,
    /// What the applied log says of this host, if it was ever admitted.
    pub(crate) record: Option<&'a Host>,
    pub(crate) guests: &'a Guests,
    pub(crate) lease_end: Option<Time>,
    /// Nobody but this daemon would end its guests at lease end.
    pub(crate) unarmed: bool,
    pub(crate) leaving: bool,
    /// Another machine speaks as this node: nothing is started here.
    pub(crate) copied: bool,
    /// What was applied here is known to be wrong: nothing is started by it.
    pub(crate) doubtful: bool,
}

impl Surroundings<'_> {
    pub(super) fn lease_left(&self) -> Duration {
        self.lease_end
            .map_or(Duration::ZERO, |end| end.since(self.now))
    }

    pub(super) fn admitted(&self) -> bool {
        self.record
            .is_some_and(|h| h.incarnation == self.incarnation)
    }

    /// The record of `guest`, if the applied log gives it to this very incarnation.
    pub(super) fn mine(&self, guest: GuestId) -> Option<&GuestRecord> {
        self.guests
            .guests
            .get(&guest)
            .filter(|r| r.open() && r.host == Some(self.me) && r.incarnation == self.incarnation)
    }

    /// An earlier incarnation of this host was judged: what it left behind must end.
    pub(super) fn predecessor_judged(&self) -> bool {
        self.record.is_some_and(|h| {
            h.incarnation < self.incarnation && (h.revoke.is_some() || h.proved.is_some())
        })
    }

    /// This incarnation is proved to do nothing any more, or an operator had it judged.
    pub(super) fn judged(&self) -> bool {
        use quorate_membership::entry::Ground;
        self.record.is_some_and(|h| {
            h.incarnation == self.incarnation
                && (h.proved.is_some() || matches!(h.revoke, Some((_, Ground::Ordered))))
        })
    }
}

#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) epoch: Token,
    pub(super) phase: Phase,
    /// The newest order and when it was given; number 0 stands for a refusal just had.
    pub(super) order: Option<(u64, Time)>,
    /// What is promised once it has ended; `None`: it may be started again under this epoch.
    pub(super) closing: Option<Closure>,
    /// Complete polls in a row that did not show it; one alone may be older than its creation.
    pub(super) missed: u8,
    /// Since when it runs undisturbed by this cluster.
    pub(super) steady: Time,
    /// A look showed it; nobody in this life of the daemon created it.
    pub(super) found: bool,
    /// Its own code has run.
    pub(super) ran: bool,
    /// A reset under way, and a probe.
    pub(super) reset: Option<(u64, Time)>,
    pub(super) probe: Option<(u64, Time)>,
    /// Writing the locks of images that its record followed to, under way.
    pub(super) relock: Option<(u64, Time)>,
    /// Its disk fails here, and another host may have it.
    pub(super) elsewhere: bool,
    /// Writing its locks was ordered, or it has none.
    pub(super) locked: bool,
    /// The entry that had changed its images when its locks were last ordered.
    pub(super) locked_as: Token,
    /// Why its locks cannot be raised.
    pub(super) lock_failing: Option<Words>,
    pub(super) watch: Watch,
}

impl Process {
    pub(super) fn new(now: Time, epoch: Token, phase: Phase, watch: Watch) -> Process {
        Process {
            epoch,
            phase,
            order: None,
            closing: None,
            missed: 0,
            steady: now,
            found: false,
            ran: phase == Phase::Running,
            reset: None,
            probe: None,
            relock: None,
            elsewhere: false,
            locked: false,
            locked_as: Token::NONE,
            lock_failing: None,
            watch,
        }
    }

    /// It runs, from now on or again.
    pub(super) fn runs(&mut self, now: Time) {
        self.phase = Phase::Running;
        self.steady = now;
        if self.ran {
            self.watch.goes_on(now);
        } else {
            self.ran = true;
            self.watch.begins(now);
        }
    }
}

/// Where a guest process stands. An unanswered creation counts as a running guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing was created yet: its locks are being read.
    Reading,
    Creating,
    /// Exists, held: created or paused.
    Held,
    /// Held; its locks are being written.
    Locking,
    Continuing,
    Running,
    Pausing,
    Ending,
}

/// What the executor wants done.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Write(ExecutorWrite),
    /// `rests`: only once every write so far is durable.
    Order {
        order: GuestOrder,
        rests: bool,
    },
    Started(GuestId, Token),
    Ended(GuestId, Token, String),
    Alert(GuestId, String),
    /// A reason to hold it was seen.
    Hold(GuestId, Token, HoldReason),
    /// Its locks are written.
    Locked(GuestId, Token),
    /// How the monitors see a guest, and what is done about it.
    Health(GuestId, String),
    /// Something of this host itself.
    Host(String),
}
