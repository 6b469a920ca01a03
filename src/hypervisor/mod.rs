//! What runs guests on this host, behind one interface.
//!
//! Every call of a hypervisor may hang, so each runs on a thread of its own with a deadline. The
//! [`Runner`] takes orders and gives facts; orders for one guest are carried out one after the
//! other, in the order they came.

pub mod embedded;
pub mod kinds;
mod launch;
mod runner;
mod spare;
mod turns;

pub use launch::guest_launch_main;
#[cfg(feature = "libvirt")]
pub(crate) use launch::register;
pub use runner::{Limits, Runner};
pub(crate) use turns::{Turns, lock};

use crate::clock::Clock;
use quorate_membership::{Time, Token};
use quorate_recovery::contract::GuestSeen;
use quorate_recovery::guest::{GuestId, GuestSpec, Probe};
use quorate_recovery::hold::HoldReason;
use quorate_recovery::images::Harmless;
use quorate_recovery::kinds::GuestKinds;
use quorate_recovery::observation::{Cause, Observation, Sample};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc::UnboundedSender;

/// A guest whose processes ended without an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The guest.
    pub guest: GuestId,
    /// The epoch it ran under.
    pub epoch: Token,
    /// Exit status in words.
    pub how: String,
    /// As far as it is known.
    pub cause: Cause,
}

/// What a driver tells by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A guest's processes ended without an order.
    Gone(Gone),
    /// Something was seen of a guest that is there.
    Seen(GuestId, Token, Observation),
    /// A guest must be held: nothing of it was started.
    Hold(GuestId, Token, HoldReason),
}

/// What one poll of a host's guests shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// Every guest of the kinds that could be asked.
    pub seen: Vec<GuestSeen>,
    /// The kinds that could not, and why.
    pub blind: Option<(GuestKinds, String)>,
}

impl From<Result<Vec<GuestSeen>, String>> for Poll {
    /// A poll of all kinds at once: complete, or nothing follows about any guest.
    fn from(list: Result<Vec<GuestSeen>, String>) -> Poll {
        let (seen, blind) = match list {
            Ok(seen) => (seen, None),
            Err(why) => (Vec::new(), Some((GuestKinds::ALL, why))),
        };
        Poll { seen, blind }
    }
}

/// The end of the host's lease as its record has it, read anew at each call.
#[derive(Clone)]
pub struct LeaseEnd(Arc<dyn Fn() -> Option<Time> + Send + Sync>);

impl LeaseEnd {
    /// `read` gives the end of the lease as it stands; nothing if it cannot be read.
    pub fn new(read: impl Fn() -> Option<Time> + Send + Sync + 'static) -> LeaseEnd {
        LeaseEnd(Arc::new(read))
    }

    fn now(&self) -> Option<Time> {
        (self.0)()
    }
}

impl std::fmt::Debug for LeaseEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LeaseEnd({:?})", self.now())
    }
}

/// Permission to act, which a driver asks for immediately before each effect.
#[derive(Clone, Debug)]
pub struct Gate {
    not_after: Option<Time>,
    lease: Option<LeaseEnd>,
    give_up: Time,
    abandoned: Arc<AtomicBool>,
}

impl Gate {
    /// Open until `not_after`; the whole call must be done by `give_up`.
    #[must_use]
    pub fn new(not_after: Option<Time>, give_up: Time) -> Gate {
        Gate {
            not_after,
            lease: None,
            give_up,
            abandoned: Arc::default(),
        }
    }

    /// The same permission for as long as the host's lease goes on, as it stands at the moment of
    /// acting: what takes minutes is not too late because the lease was renewed meanwhile.
    #[must_use]
    pub fn under(self, lease: Option<LeaseEnd>) -> Gate {
        Gate { lease, ..self }
    }

    /// The last moment for an effect, by the lease as it stands now.
    fn bound(&self) -> Option<Time> {
        let renewed = self.lease.as_ref().and_then(LeaseEnd::now);
        self.not_after
            .map(|fixed| renewed.map_or(fixed, |end| fixed.max(end)))
    }

    /// The same permission for a call that must be done by `give_up` at the latest.
    #[must_use]
    pub fn by(&self, give_up: Time) -> Gate {
        Gate {
            give_up: self.give_up.min(give_up),
            ..self.clone()
        }
    }

    /// Not later than this may the effect be, on this host's clock.
    #[must_use]
    pub fn not_after(&self) -> Time {
        self.bound().unwrap_or(Time::NEVER).min(self.give_up)
    }

    /// When the call must have answered.
    #[must_use]
    pub fn give_up(&self) -> Time {
        self.give_up
    }

    /// Nobody waits for the answer any more: no further effect.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::SeqCst);
    }

    /// Whether anybody waits for the answer still.
    ///
    /// # Errors
    /// Nobody does: no further effect.
    pub fn awaited(&self) -> Result<(), String> {
        if self.abandoned.load(Ordering::SeqCst) {
            return Err("given up by the caller".into());
        }
        Ok(())
    }

    /// Whether the effect may be made now.
    ///
    /// # Errors
    /// "too late", or that nobody waits for it any more.
    pub fn pass(&self) -> Result<(), String> {
        self.awaited()?;
        let bound = self.bound();
        // The clock last: nothing lies between it and the effect.
        let now = Clock.now();
        if bound.is_some_and(|bound| now > bound) {
            return Err("too late".into());
        }
        Ok(())
    }
}

/// A hypervisor. Calls block and may hang; each is made on a thread that can be left behind.
/// A driver asks its [`Gate`] immediately before every effect.
pub trait Driver: Send + Sync + 'static {
    /// Takes note of images that hold no start up, before the guest is created.
    fn recall(&self, _guest: GuestId, _harmless: &Harmless) {}

    /// Creates the guest, held: none of its own code has run. One that is there, held, under the
    /// same epoch is that guest.
    ///
    /// # Errors
    /// It was not created; nothing of it is left, or [`Driver::list`] shows it.
    fn create(
        &self,
        guest: GuestId,
        epoch: Token,
        spec: &GuestSpec,
        gate: &Gate,
    ) -> Result<(), String>;

    /// Lets it run.
    ///
    /// # Errors
    /// It is not known to run.
    fn resume(&self, guest: GuestId, epoch: Token, gate: &Gate) -> Result<(), String>;

    /// Holds it.
    ///
    /// # Errors
    /// It is not known to be held.
    fn pause(&self, guest: GuestId, epoch: Token, gate: &Gate) -> Result<(), String>;

    /// Ends everything of the guest under this epoch and every lower one, starts under way too.
    /// `Ok` means that it was looked for and is gone.
    ///
    /// # Errors
    /// Something of it may be left.
    fn end(&self, guest: GuestId, epoch: Token, gate: &Gate) -> Result<(), String>;

    /// Every guest on this host: a complete poll or none.
    ///
    /// # Errors
    /// It cannot tell; nothing follows about any guest.
    fn list(&self) -> Result<Vec<GuestSeen>, String>;

    /// Every guest of the kinds that can be seen now.
    fn poll(&self) -> Poll {
        self.list().into()
    }

    /// Everything that may run on this host, for a daemon that starts: without asking anybody who
    /// may not answer. It may show more than [`Driver::list`], never less.
    ///
    /// # Errors
    /// It cannot tell.
    fn present(&self) -> Result<Vec<GuestSeen>, String> {
        self.list()
    }

    /// Whether this life is of this driver's making.
    ///
    /// # Errors
    /// It cannot tell.
    fn owns(&self, guest: GuestId, epoch: Token) -> Result<bool, String> {
        let all = self.list()?;
        Ok(all.iter().any(|s| (s.guest, s.epoch) == (guest, epoch)))
    }

    /// Tells of guests that end by themselves, and of what happens to those that are there, from
    /// now on, for as long as somebody listens.
    ///
    /// # Errors
    /// It cannot watch.
    fn watch(&self, tell: UnboundedSender<Notice>) -> Result<(), String>;

    /// Starts the guest's operating system anew in the process it has.
    ///
    /// # Errors
    /// It was not reset, as far as is known; or this kind of guest has none.
    fn reset(&self, _guest: GuestId, _epoch: Token, _gate: &Gate) -> Result<(), String> {
        Err("guests of this kind have no reset".into())
    }

    /// Keeps what shows the guest's state, for people.
    ///
    /// # Errors
    /// Nothing was kept; nothing follows from that.
    fn capture(
        &self,
        _guest: GuestId,
        _epoch: Token,
        _why: &str,
        _gate: &Gate,
    ) -> Result<(), String> {
        Err("guests of this kind have nothing to show".into())
    }

    /// Runs a guest's probe and gives what came of it: `Ok(Err(how))` says that it failed.
    ///
    /// # Errors
    /// It could not be run; nothing follows about what the guest is for.
    fn probe(
        &self,
        _guest: GuestId,
        _epoch: Token,
        _probe: &Probe,
        _gate: &Gate,
    ) -> Result<Result<(), String>, String> {
        Err("guests of this kind have no probes".into())
    }

    /// How every guest that can be looked at stands. One whose looks hang is left out, and holds
    /// up no other.
    ///
    /// # Errors
    /// It cannot tell; nothing follows about any guest.
    fn sample(&self) -> Result<Vec<(GuestId, Token, Sample)>, String> {
        Ok(Vec::new())
    }
}
