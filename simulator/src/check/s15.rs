//! S15. The accident: the log is wrong about an image (it was set back, cloned, or is another
//! cluster's), and a guest is started on a disk that somebody else writes to. A start rests on
//! locks that were read, and no lock that the log does not account for is passed over until a
//! person has released it. A lock that cannot be read is no ground to keep a guest down.

use super::audit::Audit;
use super::{At, HostName, Violation};
use quorate_recovery::guest::GuestId;
use quorate_recovery::lock::Lock;
use std::collections::BTreeMap;

/// How long the auditor may take to see an entry that a node has applied.
const SEEN: u64 = 2_000_000_000;

/// What stands beside images that is of nobody in this log.
#[derive(Debug, Default)]
pub struct S15 {
    /// The lock of somebody else that stands there, and since when.
    aliens: BTreeMap<GuestId, (u64, Lock)>,
    /// Every such lock that ever stood there.
    ever: Vec<(GuestId, Lock)>,
    /// The last time a host read the locks of a guest, and whether it could.
    reads: BTreeMap<(usize, GuestId), (u64, bool)>,
    /// Starts past a lock that was not released as far as the auditor had seen.
    open: Vec<(u64, usize, GuestId, Lock)>,
}

impl S15 {
    /// Somebody else wrote a lock.
    pub fn written(&mut self, now: u64, guest: GuestId, lock: Lock) {
        self.aliens.insert(guest, (now, lock));
        self.ever.push((guest, lock));
    }

    /// The lock of somebody else beside a guest's image.
    #[must_use]
    pub fn alien(&self, guest: GuestId) -> Option<Lock> {
        self.aliens.get(&guest).map(|(_, lock)| *lock)
    }

    /// The guest's own lock was written over it.
    pub fn overwritten(&mut self, guest: GuestId) {
        self.aliens.remove(&guest);
    }

    /// A host looks at the locks of a guest.
    pub fn reads(&mut self, now: u64, host: usize, guest: GuestId, unreadable: bool) {
        self.reads.insert((host, guest), (now, !unreadable));
    }

    /// A host creates a guest.
    pub fn starts(&mut self, now: u64, host: usize, guest: GuestId) {
        let read = self.reads.remove(&(host, guest));
        let Some((since, lock)) = self.aliens.get(&guest) else {
            return;
        };
        let passed = match read {
            Some((at, true)) => *since <= at,
            Some((_, false)) => false,
            None => true,
        };
        if passed {
            self.open.push((now, host, guest, *lock));
        }
    }

    /// Looks at the starts that the auditor must have seen the ground of by now.
    ///
    /// # Errors
    /// One has none.
    pub fn judge(&mut self, now: u64, audit: &Audit) -> Result<(), Violation> {
        if self.open.is_empty() {
            return Ok(());
        }
        let due = |(at, ..): &(u64, usize, GuestId, Lock)| at + SEEN <= now;
        let released = |lock: &Lock| audit.released.contains(lock);
        let bad = self
            .open
            .iter()
            .find(|o| due(o) && !released(&o.3))
            .copied();
        self.open.retain(|o| !due(o));
        let Some((at, host, guest, lock)) = bad else {
            return Ok(());
        };
        Err(Violation::new(
            "S15",
            at,
            format!("{guest} is started past a lock that the log does not account for"),
            [
                format!(
                    "beside its image stands a lock of cluster {}, epoch {}, raised {} times, since {}",
                    lock.cluster,
                    lock.life.epoch,
                    lock.raised,
                    At(self.aliens.get(&guest).map_or(at, |(since, _)| *since))
                ),
                format!(
                    "{} creates it, and nobody released that lock",
                    HostName(host)
                ),
            ],
        ))
    }

    /// Whether a guest may be held for these locks: each stood beside its image.
    #[must_use]
    pub fn grounded(&self, guest: GuestId, locks: &[Lock]) -> bool {
        !locks.is_empty() && locks.iter().all(|l| self.ever.contains(&(guest, *l)))
    }
}
