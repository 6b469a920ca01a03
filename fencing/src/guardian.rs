//! The heart of the guardian: when this host's guests are ended, whatever anyone else says.
//!
//! A host may run guests only under a lease. When the lease is over, the guests are ended by their
//! process groups, paused or not, and a watchdog that is no longer fed covers the case that ending
//! them does not work. The guardian asks nobody, reads a record the daemon writes, and a record
//! that is missing, foreign or unreadable is a lease that is over.
//!
//! Two rules outlive a lease that returns. A kill that has begun is repeated until every guest is
//! gone and no start is pending: a process stuck in the kernel would otherwise survive into the
//! next lease, half killed. And the watchdog is not fed meanwhile, so that a kill which does not
//! work ends with the machine.
//!
//! A kill is an attempt. A process that waits for its storage in the kernel is ended by no signal,
//! and its write lands when the storage is back, beside the next copy's. So the end is *observed*:
//! if something is left when 4/5 of K have passed since the lease end, the host is reset.

use crate::mutants::planted;
use std::time::Duration;

/// How soon a kill is repeated while something is left of it.
pub const KILL_AGAIN: Duration = Duration::from_millis(20);
/// Time after which a reset that did not happen is asked for again.
pub const RESET_AGAIN: Duration = Duration::from_secs(1);

/// What the guardian sees, all read at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// That moment, read *before* the rest: what is seen late is then judged early, not late.
    pub now: Duration,
    /// The first moment without lease, by the same clock. `None`: the record is missing, foreign
    /// or unreadable, which means over.
    pub lease_end: Option<Duration>,
    /// Whether self-fencing is armed. A record that cannot be read leaves this as last read.
    pub armed: bool,
    /// Guest process groups that exist, paused ones and those being created included.
    pub guests: usize,
    /// Starts and incoming migrations that were begun and not answered.
    pub pending: usize,
    /// K: how long after the lease end the last guest must be gone.
    pub kill: Duration,
}

impl Sight {
    fn empty(&self) -> bool {
        self.guests == 0 && self.pending == 0
    }

    fn over(&self) -> bool {
        self.lease_end.is_none_or(|end| self.now >= end)
    }
}

/// What the guardian does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing. Look again when a process or a pending start appears, or the record changes.
    Idle,
    /// Nothing before this moment; then look again.
    WaitUntil(Duration),
    /// End every guest process group now, and look again at the time given.
    Kill {
        /// When to look again.
        again: Duration,
    },
    /// The kill did not work in time: reset the host now, and look again at the time given.
    Reset {
        /// Moment of the next look, if the host is still there.
        again: Duration,
    },
}

/// A kill that has begun.
#[derive(Clone, Copy, Debug)]
struct Kill {
    began: Duration,
    /// The lease end that it began for; `None` if no record named one.
    over: Option<Duration>,
    /// A reset was asked for; not before this again.
    asked: Option<Duration>,
}

impl Kill {
    /// Moment at which the host is reset if something is left. The last fifth of K is for the reset itself. A
    /// kill that began late, for a start that was held up, has half of K to work.
    fn due(&self, kill: Duration) -> Duration {
        let most = kill * 4 / 5;
        match self.over {
            Some(over) => (over + most).max(self.began + kill / 2),
            None => self.began + most,
        }
    }
}

/// Decides when guests are ended, and when the host is reset. One per host, alive as long as
/// guests may be.
#[derive(Clone, Debug, Default)]
pub struct Guardian {
    kill: Option<Kill>,
    latest: Duration,
}

impl Guardian {
    /// A guardian that has begun nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a kill has begun and something may be left of it.
    #[must_use]
    pub fn killing(&self) -> bool {
        self.kill.is_some()
    }

    /// Moment at which the host is reset if something is still left of the kill that has begun.
    #[must_use]
    pub fn reset_due(&self, kill: Duration) -> Option<Duration> {
        self.kill.map(|k| k.due(kill))
    }

    /// What to do about what is seen.
    ///
    /// A kill that has begun goes on even if the lease returns or self-fencing is disarmed.
    pub fn see(&mut self, sight: &Sight) -> Act {
        // A clock that steps back never makes a lease younger.
        self.latest = self.latest.max(sight.now);
        let sight = Sight {
            now: self.latest,
            ..*sight
        };
        if sight.empty() {
            self.kill = None;
            return Act::Idle;
        }
        let begins = self.kill.is_none() && sight.armed && sight.over();
        if begins && !planted("lease-end-not-enforced") {
            self.kill = Some(Kill {
                began: sight.now,
                over: sight.lease_end,
                asked: None,
            });
        }
        if let Some(kill) = &mut self.kill {
            let due = kill.due(sight.kill).max(kill.asked.unwrap_or_default());
            if sight.now < due || planted("no-reset-of-a-stuck-host") {
                let again = sight.now.saturating_add(KILL_AGAIN);
                return Act::Kill { again };
            }
            let again = sight.now.saturating_add(RESET_AGAIN);
            kill.asked = Some(again);
            return Act::Reset { again };
        }
        match sight.lease_end {
            Some(end) if sight.armed => Act::WaitUntil(end),
            _ => Act::Idle,
        }
    }
}

/// What may be done with the watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feeding {
    /// Feed it, then say [`Feed::fed`] with the clock read again.
    Feed,
    /// Do not feed it: let it reset the machine unless every guest is reaped first.
    Hold,
}

/// Decides whether the watchdog is fed. It is fed only up to the lease end while guests exist.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    withheld: bool,
    latest: Duration,
}

impl Feed {
    /// A watchdog that nothing is held against.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it may be fed now. Once it may not, it may not until every guest is reaped.
    ///
    /// A host without guests and pending starts feeds it with or without a lease: there is nothing
    /// a reset would end.
    pub fn may(&mut self, sight: &Sight) -> Feeding {
        self.judge(sight);
        if self.withheld {
            Feeding::Hold
        } else {
            Feeding::Feed
        }
    }

    /// It was fed, and this is seen with the clock read again afterwards. A feed that slipped past
    /// the lease end, because the process was stopped between look and feed, is the last one.
    pub fn fed(&mut self, after: &Sight) -> Feeding {
        self.may(after)
    }

    /// Whether the watchdog may be closed without resetting the machine: no guest, no pending
    /// start, nothing held, and `drained`: no doubt about writes still in flight.
    ///
    /// Disarmed hosts may close it with guests, since nothing ends them by lease.
    pub fn may_close(&mut self, sight: &Sight, drained: bool) -> bool {
        self.judge(sight);
        !self.withheld && drained && (sight.empty() || !sight.armed)
    }

    fn judge(&mut self, sight: &Sight) {
        self.latest = self.latest.max(sight.now);
        let sight = Sight {
            now: self.latest,
            ..*sight
        };
        if sight.empty() {
            self.withheld = false;
        } else if sight.armed && sight.over() && !planted("fed-past-lease-end") {
            self.withheld = true;
        }
    }
}

#[cfg(test)]
mod tests;
