//! What the daemon tells the guardian about time, and about itself. Lies in `limits`.

use super::records::{self, Record, RunDir};
use quorate_membership::BootId;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// K of a guardian that was never told one: the shortest that any profile has.
const UNTOLD: Duration = Duration::from_secs(1);

/// Times of the cluster that the guardian works by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// The boot in which it was written.
    pub boot: BootId,
    /// Process id of the daemon: no group of a guest ends it.
    pub daemon: i32,
    /// K in milliseconds: so long after the lease end every guest is gone, or the host is reset.
    pub kill_ms: u64,
    /// W in milliseconds: the time-out that a hardware watchdog is set to.
    pub watchdog_ms: u64,
    /// Q in milliseconds: so long after a guest's end its last write may land.
    pub drain_ms: u64,
}

impl Record for Limits {
    const KIND: &'static str = "limits";
}

impl Limits {
    /// Where it lies.
    #[must_use]
    pub fn path(run: &RunDir) -> PathBuf {
        run.path().join("limits")
    }

    /// Says it to the guardian of this directory. In a directory that is full it is enough that a
    /// daemon before this one said the same in this boot.
    ///
    /// # Errors
    /// It cannot be written: what stood before stands on.
    pub fn write(&self, run: &RunDir) -> io::Result<()> {
        let done = records::write(&Limits::path(run), self);
        let full = done
            .as_ref()
            .is_err_and(|e| e.kind() == io::ErrorKind::StorageFull);
        let stands = || Limits::read(run, self.boot);
        if full && stands().is_some_and(|l| l.same_times(self)) {
            return Ok(());
        }
        done
    }

    fn same_times(&self, other: &Limits) -> bool {
        let daemon = self.daemon;
        *self == Limits { daemon, ..*other }
    }

    /// What stands; `None` if nothing of this boot can be read.
    #[must_use]
    pub(super) fn read(run: &RunDir, boot: BootId) -> Option<Limits> {
        let read = records::read::<Limits>(&Limits::path(run)).ok().flatten();
        read.filter(|l| l.boot == boot)
    }

    /// Q as last told; a minute if it never was.
    pub(super) fn drain(told: Option<Limits>) -> Duration {
        told.map_or(Duration::from_secs(60), |l| {
            Duration::from_millis(l.drain_ms)
        })
    }

    /// K as last told.
    pub(super) fn kill(told: Option<Limits>) -> Duration {
        told.map_or(UNTOLD, |l| Duration::from_millis(l.kill_ms))
    }
}
