//! The end of a round, for which faults wait.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// End of a round, once it is set.
#[derive(Debug, Default)]
pub(crate) struct Over {
    over: Mutex<bool>,
    told: Condvar,
}

impl Over {
    pub(crate) fn set(&self, over: bool) {
        *self.over.lock().expect("nobody panics with it") = over;
        self.told.notify_all();
    }

    /// Waits for the end of the round, at most so long; gives whether it is over.
    pub(crate) fn wait(&self, most: Duration) -> bool {
        let over = self.over.lock().expect("nobody panics with it");
        let waited = self.told.wait_timeout_while(over, most, |over| !*over);
        *waited.expect("nobody panics with it").0
    }
}
