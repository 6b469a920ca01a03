//! One action at a time on each resource, and who gives way to whom.

use super::call::Cancel;
use crate::clock::Clock;
use crate::hypervisor::lock;
use quorate_membership::Time;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is done with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Before it is ours to start: is it configured, is it stopped?
    Check,
    /// `start`.
    Start,
    /// `stop`.
    Stop,
    /// A regular `monitor`.
    Monitor,
}

impl Op {
    /// Whether `other`, which is under way, is given up for this.
    fn outranks(self, other: Op) -> bool {
        match self {
            Op::Stop => other != Op::Stop,
            Op::Start | Op::Check => other == Op::Monitor,
            Op::Monitor => false,
        }
    }
}

#[derive(Default)]
struct State {
    number: u64,
    busy: Option<(Op, u64, Arc<Cancel>)>,
    /// The last that ended, with its number.
    ended: Option<(u64, Result<(), String>)>,
    /// Starts that came to their end, for who looks after them.
    started: u64,
}

/// The actions on one resource.
#[derive(Default)]
pub(super) struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

impl Slot {
    /// Carries `body` out on a thread of its own, or joins the same action if it is under way, and
    /// waits for its end until `give_up`. It goes on after that; who asks again joins it.
    ///
    /// # Errors
    /// Those of the action, or that it has not ended yet.
    pub(super) fn perform(
        self: &Arc<Slot>,
        op: Op,
        give_up: Time,
        body: impl FnOnce(&Cancel) -> Result<(), String> + Send + 'static,
    ) -> Result<(), String> {
        let mut state = lock(&self.state);
        let mine = loop {
            match &state.busy {
                None => {
                    state.number += 1;
                    let (number, cancel) = (state.number, Arc::new(Cancel::default()));
                    let (this, theirs) = (Arc::clone(self), Arc::clone(&cancel));
                    let begun =
                        std::thread::Builder::new()
                            .name("resource".into())
                            .spawn(move || {
                                let end = Ending {
                                    slot: this,
                                    number,
                                    op,
                                };
                                let result = body(&theirs);
                                end.with(result);
                            });
                    begun.map_err(|e| format!("no thread: {e}"))?;
                    state.busy = Some((op, number, cancel));
                    break number;
                }
                Some((under_way, number, cancel)) if *under_way == op && !cancel.cancelled() => {
                    break *number;
                }
                Some((under_way, _, cancel)) => {
                    if op.outranks(*under_way) {
                        cancel.cancel();
                    }
                    if Clock.now() >= give_up {
                        return Err(format!("{under_way:?} is still under way"));
                    }
                    state = self.wait(state, give_up);
                }
            }
        };
        loop {
            if let Some((number, result)) = &state.ended
                && *number >= mine
            {
                return if *number == mine {
                    result.clone()
                } else {
                    Err("another action came between".into())
                };
            }
            if Clock.now() >= give_up {
                return Err(format!("{op:?} is still under way"));
            }
            state = self.wait(state, give_up);
        }
    }

    /// Gives up whatever `op` outranks, without waiting for it.
    pub(super) fn clear(&self, op: Op) {
        if let Some((under_way, _, cancel)) = &lock(&self.state).busy
            && op.outranks(*under_way)
        {
            cancel.cancel();
        }
    }

    /// Whether something is under way.
    pub(super) fn busy(&self) -> bool {
        lock(&self.state).busy.is_some()
    }

    /// How many starts came to their end.
    pub(super) fn started(&self) -> u64 {
        lock(&self.state).started
    }

    /// Waits until something changes here, or until `until`.
    pub(super) fn look(&self, until: Time) {
        drop(self.wait(lock(&self.state), until));
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, until: Time) -> MutexGuard<'a, State> {
        // In steps, because the clock of leases counts suspended time and this wait does not.
        let step = until.since(Clock.now()).min(Duration::from_millis(500));
        self.changed
            .wait_timeout(state, step)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

/// The end of an action, also by a panic.
struct Ending {
    slot: Arc<Slot>,
    number: u64,
    op: Op,
}

impl Ending {
    fn with(&self, result: Result<(), String>) {
        let mut state = lock(&self.slot.state);
        if self.op == Op::Start && result.is_ok() {
            state.started += 1;
        }
        state.ended = Some((self.number, result));
        state.busy = None;
        self.slot.changed.notify_all();
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let broken = lock(&self.slot.state)
            .busy
            .as_ref()
            .is_some_and(|(_, number, _)| *number == self.number);
        if broken {
            self.with(Err("it broke off".into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_same_action_is_joined_and_a_stop_outranks() {
        let slot = Arc::new(Slot::default());
        let (go, wait) = mpsc::channel::<()>();
        let early = slot.perform(Op::Start, Clock.now(), move |cancel| {
            let _ = wait.recv();
            if cancel.cancelled() {
                Err("called off".into())
            } else {
                Ok(())
            }
        });
        assert!(early.expect_err("goes on").contains("under way"));
        assert!(slot.busy());
        let again = slot.perform(Op::Start, Clock.now(), |_| unreachable!("joined"));
        assert!(again.is_err());
        let monitor = slot.perform(Op::Monitor, Clock.now(), |_| unreachable!("gives way"));
        assert!(monitor.is_err());
        slot.clear(Op::Stop);
        go.send(()).expect("it waits");
        let patience = Clock.now() + Duration::from_secs(30);
        assert_eq!(slot.perform(Op::Stop, patience, |_| Ok(())), Ok(()));
        assert_eq!(slot.started(), 0, "that start was called off");
        assert_eq!(slot.perform(Op::Start, patience, |_| Ok(())), Ok(()));
        assert_eq!(slot.started(), 1);
        let panics = slot.perform(Op::Monitor, patience, |_| panic!("as it may"));
        assert!(panics.expect_err("broken").contains("broke off"));
        assert!(!slot.busy());
    }
}
