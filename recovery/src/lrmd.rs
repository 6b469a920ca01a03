//! LRMd's judge: what the monitors of a host see of its guests, and what follows from it.
//!
//! It has no clock and no I/O: observations come with the time they were taken in hand, and what
//! comes out is how a guest stands, in words, and whether it has failed. What is done about a
//! failure is the executor's affair.
//!
//! Blindness is not death: a look that failed, came late or is missing counts for nothing, and no
//! evidence is carried across it. That a guest hangs is said only when several signs agree, for as
//! long as its policy asks, and all of them are unlike what it did while it was known to live.

use crate::guest::Policy;
use crate::observation::Held;
use quorate_membership::Time;
use std::time::Duration;

mod host;
mod signs;
mod watch;

pub(crate) use host::HostWatch;
pub(crate) use watch::{GONE, Watch};

/// Two looks further apart than this have seen nothing of what was between them: three times the
/// usual distance of 2 s.
const GAP: Duration = Duration::from_secs(6);
/// A look that is taken in hand later than this after it was made says that the node itself was
/// late, and so, maybe, everything on this machine.
const LATE: Duration = Duration::from_secs(2);
/// A guest that began anew is given so long to boot, unless its agent answers before.
const BOOT: Duration = Duration::from_secs(60);
/// What is said sooner than this after a guest began anew may be of the life before; it counts if
/// the guest shows no life for so long after.
const EARLY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
/// After it was held and goes on, nothing is judged for so long.
const SETTLE: Duration = Duration::from_secs(10);
/// Silence of the agent for so long is worth a word. It is never more than that alone.
const SILENCE: Duration = Duration::from_secs(6);
/// An agent that was silent for longer than this while the guest was seen to live is gone for
/// reasons of its own; its silence says nothing about the guest.
const TOGETHER: Duration = Duration::from_secs(30);
/// A disk that fails here, and is not just full, may work elsewhere: after so long it is tried, if
/// some host is there that is not known to lack it too. Held, the guest simply goes on once the disk
/// is back; ended, it would have to be started.
const IO_PATIENCE: Duration = Duration::from_secs(300);
/// First and longest time between two tries to let a guest go on after an I/O error.
const IO_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What the judge must know besides what was seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) now: Time,
    pub(crate) policy: &'a Policy,
    /// Failures of its probe in a row that make a failure; none if it has no probe.
    pub(crate) probe_failures: Option<u32>,
    /// The guest is not meant to run now, by an order of this cluster; or was not until this time.
    pub(crate) steady: Option<Time>,
    /// Far more wants to run on this host than it has CPUs.
    pub(crate) crowded: bool,
    /// A disk that fails here may work on another host.
    pub(crate) elsewhere: bool,
}

/// How a guest has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Its kernel panicked, and it is still there.
    Panicked,
    /// Its watchdog device fired.
    Watchdog,
    /// Its probe failed, so often.
    Probe(u32, String),
    /// Its monitor says so.
    Monitor(String),
    /// It hangs, by this evidence.
    Hung(String),
    /// It has been held by an I/O error for long.
    IoError(String),
}

impl Failure {
    pub(crate) fn words(&self) -> String {
        match self {
            Failure::Panicked => "its kernel panicked".into(),
            Failure::Watchdog => "its watchdog was not fed".into(),
            Failure::Probe(n, how) => format!("its probe failed {n} times in a row: {how}"),
            Failure::Monitor(how) => format!("its monitor says: {how}"),
            Failure::Hung(evidence) => format!("hangs: {evidence}"),
            Failure::IoError(what) => format!("held for long by {what}"),
        }
    }
}

/// How a guest stands in the eyes of its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Healthy,
    /// Something is odd; nothing follows from it.
    Suspect(String),
    /// Held by somebody else than this cluster.
    Held(Held),
    /// Held because a disk failed or is full; which, and why.
    IoError(String),
    Failed(Failure),
}

impl Standing {
    pub(crate) fn words(&self) -> String {
        match self {
            Standing::Healthy => "healthy".into(),
            Standing::Suspect(why) => format!("suspect: {why}"),
            Standing::Held(Held::Move) => "held for a migration or a snapshot".into(),
            Standing::Held(_) => "held by somebody else than this cluster".into(),
            Standing::IoError(what) => format!("held by {what}"),
            Standing::Failed(failure) => failure.words(),
        }
    }

    /// Whether an operator should look at it.
    fn alerts(&self) -> bool {
        match self {
            Standing::Healthy | Standing::Suspect(_) | Standing::Held(Held::Move) => false,
            Standing::Held(_) | Standing::IoError(_) => true,
            Standing::Failed(_) => false,
        }
    }

    /// Standings of one kind are told once.
    fn kind(&self) -> u8 {
        match self {
            Standing::Healthy => 0,
            Standing::Suspect(_) => 1,
            Standing::Held(Held::Move) => 2,
            Standing::Held(_) => 3,
            Standing::IoError(_) => 4,
            Standing::Failed(Failure::Panicked) => 5,
            Standing::Failed(Failure::Watchdog) => 6,
            Standing::Failed(Failure::Probe(..)) => 7,
            Standing::Failed(Failure::Monitor(_)) => 8,
            Standing::Failed(Failure::Hung(_)) => 9,
            Standing::Failed(Failure::IoError(_)) => 10,
        }
    }
}

/// A change of standing worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// An operator should look at it.
    pub(crate) alert: bool,
    pub(crate) text: String,
}

#[cfg(test)]
mod tests;
