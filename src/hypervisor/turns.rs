//! One call at a time for each guest, and locks that outlive a thread that panicked.

use quorate_recovery::guest::GuestId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Takes a lock; what a thread that panicked left is as whole as any other state here.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whose turn it is with a guest. Orders wait for it; who looks after ended guests steps back.
#[derive(Default)]
pub(crate) struct Turns(Mutex<BTreeMap<GuestId, Arc<Mutex<()>>>>);

impl Turns {
    /// What is locked by whoever acts on `guest`.
    pub(crate) fn of(&self, guest: GuestId) -> Arc<Mutex<()>> {
        Arc::clone(lock(&self.0).entry(guest).or_default())
    }
}
