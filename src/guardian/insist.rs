//! The last word about a lease end: a thread that looks at a few numbers in memory, and resets the
//! host when what was ended is still there, or when the thread that ends it does not get on. It
//! touches no process, no disk and no log, so nothing that hangs on this host holds it up.

use super::reset::Means;
use super::schedule::sleep_until;
use super::search::STACK;
use crate::clock::Clock;
use quorate_fencing::guardian::{Act, Guardian, RESET_AGAIN, Sight};
use quorate_membership::Time;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread;
use std::time::Duration;

/// Stands for no moment at all.
const NEVER: u64 = u64::MAX;

/// What the thread that ends guests says of itself, in every round.
#[derive(Debug)]
pub(super) struct Word {
    /// When it said it.
    at: AtomicU64,
    lease_end: AtomicU64,
    /// Something is left that the host is reset for.
    left: AtomicBool,
    /// When the host is reset if something is left of a kill that has begun.
    due: AtomicU64,
    kill: AtomicU64,
    /// What is left, in words.
    why: Mutex<String>,
    /// What came of the last reset, in words.
    came: Mutex<Option<String>>,
}

/// One round's word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub(super) now: Time,
    pub(super) lease_end: Option<Time>,
    pub(super) left: bool,
    pub(super) due: Option<Duration>,
    pub(super) kill: Duration,
}

impl Word {
    pub(super) fn new(now: Time) -> Word {
        Word {
            at: AtomicU64::new(now.0),
            lease_end: AtomicU64::new(NEVER),
            left: AtomicBool::new(false),
            due: AtomicU64::new(NEVER),
            kill: AtomicU64::new(0),
            why: Mutex::default(),
            came: Mutex::default(),
        }
    }

    pub(super) fn say(&self, round: &Round) {
        let lease_end = round.lease_end.map_or(NEVER, |end| end.0);
        self.lease_end.store(lease_end, Ordering::SeqCst);
        self.left.store(round.left, Ordering::SeqCst);
        self.kill.store(nanos(round.kill), Ordering::SeqCst);
        let due = round.due.filter(|_| round.left);
        self.due.store(due.map_or(NEVER, nanos), Ordering::SeqCst);
        self.at.store(round.now.0, Ordering::SeqCst);
    }

    /// Says what is left, for whoever looks for the reason afterwards.
    pub(super) fn left(&self, why: String) {
        *self
            .why
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = why;
    }

    /// What came of a reset since the last call.
    pub(super) fn came(&self) -> Option<String> {
        self.came.try_lock().ok()?.take()
    }
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(NEVER)
}

/// Decides by the word of the other thread, or without it when it is silent.
struct Judge {
    check: Duration,
    /// What the same rules say of what was known last.
    alone: Guardian,
    /// No reset before this again.
    again: u64,
}

impl Judge {
    fn new(check: Duration) -> Judge {
        Judge {
            check,
            alone: Guardian::new(),
            again: 0,
        }
    }

    /// Whether the host is to be reset now, and when to look again.
    fn look(&mut self, now: Time, word: &Word) -> (bool, Time) {
        let get = |n: &AtomicU64| n.load(Ordering::SeqCst);
        let kill = Duration::from_nanos(get(&word.kill));
        let silent = now >= Time(get(&word.at)) + (self.check * 3).max(kill / 4);
        let due = if silent {
            let end = get(&word.lease_end);
            let act = self.alone.see(&Sight {
                now: Duration::from_nanos(now.0),
                lease_end: (end != NEVER).then(|| Duration::from_nanos(end)),
                armed: true,
                guests: usize::from(word.left.load(Ordering::SeqCst)),
                pending: 0,
                kill,
            });
            match act {
                Act::Reset { .. } => now.0,
                Act::Kill { again } => return (false, Time(nanos(again))),
                Act::Idle | Act::WaitUntil(_) => NEVER,
            }
        } else {
            self.alone = Guardian::new();
            get(&word.due)
        };
        if now.0 >= due.max(self.again) {
            self.again = (now + RESET_AGAIN).0;
            return (true, now + self.check);
        }
        let next = (now + self.check).0.min(due.max(self.again));
        (false, Time(next.max(now.0 + 1)))
    }
}

/// Starts the thread.
///
/// # Errors
/// There is none.
pub(super) fn start(word: Arc<Word>, check: Duration, mut means: Means) -> io::Result<()> {
    let serve = move || {
        let mut judge = Judge::new(check);
        loop {
            let (reset, next) = judge.look(Clock.now(), &word);
            if reset {
                // Whoever holds it may hang.
                let what = match word.why.try_lock() {
                    Ok(what) if !what.is_empty() => what.clone(),
                    Ok(_) | Err(TryLockError::WouldBlock) => "what is left is not known".into(),
                    Err(TryLockError::Poisoned(what)) => what.into_inner().clone(),
                };
                let why = format!("the guests did not end with their lease: {what}");
                let came = match means.reset(&why) {
                    Ok(()) => format!("{why}; this host is reset"),
                    Err(e) => format!("{why}; this host cannot be reset: {e}"),
                };
                if let Ok(mut told) = word.came.try_lock() {
                    *told = Some(came);
                }
            }
            sleep_until(next);
        }
    };
    let thread = thread::Builder::new().name("insist".into());
    thread.stack_size(STACK).spawn(serve).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: Duration = Duration::from_millis(100);
    const K: Duration = Duration::from_secs(5);

    fn round(now: u64, end: u64, left: bool, due: Option<u64>) -> Round {
        Round {
            now: Time::from_millis(now),
            lease_end: Some(Time::from_millis(end)),
            left,
            due: due.map(Duration::from_millis),
            kill: K,
        }
    }

    fn resets(judge: &mut Judge, word: &Word, now: u64) -> bool {
        judge.look(Time::from_millis(now), word).0
    }

    #[test]
    fn the_word_of_the_other_thread_is_followed() {
        let word = Word::new(Time::ZERO);
        let mut judge = Judge::new(CHECK);
        // The lease is over, and it has not begun to end anything: it saw a later record.
        word.say(&round(10_000, 9_000, true, None));
        assert!(!resets(&mut judge, &word, 10_000));
        word.say(&round(13_900, 9_000, true, Some(14_000)));
        assert!(!resets(&mut judge, &word, 13_999));
        let (_, next) = judge.look(Time::from_millis(13_950), &word);
        assert_eq!(next, Time::from_millis(14_000), "it sleeps no longer");
        assert!(resets(&mut judge, &word, 14_000));
        assert!(!resets(&mut judge, &word, 14_100), "not in every round");
        word.say(&round(15_000, 9_000, true, Some(14_000)));
        assert!(resets(&mut judge, &word, 15_000));
        word.say(&round(16_500, 9_000, false, Some(14_000)));
        assert!(!resets(&mut judge, &word, 16_500), "nothing is left");
    }

    #[test]
    fn a_thread_that_hangs_is_not_waited_for() {
        let word = Word::new(Time::ZERO);
        let mut judge = Judge::new(CHECK);
        word.say(&round(8_000, 10_000, true, None));
        let mut now = 8_000;
        let reset = loop {
            let (reset, next) = judge.look(Time::from_millis(now), &word);
            if reset {
                break now;
            }
            now = (next.0 / 1_000_000).max(now + 1);
            assert!(now < 30_000);
        };
        assert_eq!(reset, 14_000, "4/5 of K after the lease end");
        // Without guests nothing is reset, however long it hangs.
        word.say(&round(8_000, 10_000, false, None));
        let mut judge = Judge::new(CHECK);
        assert!(
            (9_000..40_000)
                .step_by(100)
                .all(|now| !resets(&mut judge, &word, now))
        );
    }

    #[test]
    fn a_thread_that_gets_on_again_has_the_say_again() {
        let word = Word::new(Time::ZERO);
        let mut judge = Judge::new(CHECK);
        word.say(&round(8_000, 10_000, true, None));
        assert!(!resets(&mut judge, &word, 10_500));
        // It was held up, and read a renewed lease.
        word.say(&round(10_600, 45_000, true, None));
        assert!(!resets(&mut judge, &word, 10_650));
        assert!(
            !resets(&mut judge, &word, 14_500),
            "silent again, with a lease"
        );
    }
}
