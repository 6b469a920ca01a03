//! What the executor refuses for good, and what it may forget.

use super::sight::{Deed, Surroundings};
use super::{Executor, ExecutorWrite, GuestPromise};
use crate::command::Closure;
use crate::guest::GuestId;

impl Executor {
    /// The store failed. `unsent`: guests whose creation was still held back for a promise that
    /// will never be durable; nothing of them exists.
    pub(crate) fn store_failed(&mut self, unsent: &[GuestId]) {
        self.store_failed = true;
        // Closings on their way to the disk are said for this life alone, like those to come.
        for (_, _, batch) in self.closures.values_mut() {
            *batch = Some(0);
        }
        for guest in unsent {
            if let Some(process) = self.processes.remove(guest) {
                self.astray = true;
                let why = Closure::Refused("the store of this host failed".into());
                self.close(*guest, process.epoch, why);
            }
        }
    }

    /// Nothing of earlier incarnations runs: refuse all their epochs, then the word is true.
    pub(super) fn empty(&mut self) {
        let open: Vec<(GuestId, GuestPromise)> = self
            .promises
            .iter()
            .filter(|(_, p)| p.closed < p.promised)
            .map(|(g, p)| (*g, *p))
            .collect();
        if self.emptied.is_some() && open.is_empty() {
            return;
        }
        let nothing = open.is_empty();
        for (guest, p) in open {
            self.close(guest, p.promised, Closure::LeaseEnded);
        }
        self.emptied = Some(nothing.then_some(0));
    }

    /// Promises about guests the log has forgotten are not needed: ids are never used twice.
    pub(super) fn forget(&mut self, s: &Surroundings<'_>) {
        let Some(newest) = s.guests.guests.keys().next_back() else {
            return;
        };
        if !s.admitted() {
            return;
        }
        let dead: Vec<GuestId> = self
            .promises
            .keys()
            .filter(|g| **g < *newest && !self.processes.contains_key(g))
            .filter(|g| !s.guests.guests.contains_key(g))
            .copied()
            .collect();
        for guest in dead {
            self.promises.remove(&guest);
            self.closures.remove(&guest);
            self.failures.remove(&guest);
            self.ran.remove(&guest);
            self.resets.remove(&guest);
            self.kept.remove(&guest);
            self.deeds.push(Deed::Write(ExecutorWrite {
                guest,
                promise: None,
            }));
        }
    }
}
