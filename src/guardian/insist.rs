//! The last word about a lease end: a thread that looks at a few numbers in memory, and resets the
//! host when what was ended is still there, or when the thread that ends it does not get on. It
//! touches no process, no disk and no log, so nothing that hangs on this host holds it up.

use super::reset::Means;
use super::schedule::sleep_until;
use super::search::STACK;
use super::watchdog::WatchdogSeen;
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
    /// Moment at which the host is reset if something is left of a kill that has begun.
    due: AtomicU64,
    kill: AtomicU64,
    /// The watchdog is fed before this moment only.
    feed_until: AtomicU64,
    /// W in nanoseconds; 0 until it is known.
    timeout: AtomicU64,
    /// It was fed after that moment.
    slipped: AtomicBool,
    /// It is to be closed, and it is.
    closing: AtomicBool,
    closed: AtomicBool,
    watchdog: Mutex<Option<Result<WatchdogSeen, String>>>,
    check: Duration,
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
    /// The watchdog is fed before this moment only; `None`: for as long as this is said.
    pub(super) feed_until: Option<Time>,
}

impl Word {
    pub(super) fn new(now: Time, check: Duration) -> Word {
        Word {
            check,
            feed_until: AtomicU64::new(0),
            timeout: AtomicU64::new(0),
            slipped: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            watchdog: Mutex::default(),
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
        let feed = round.feed_until.map_or(NEVER, |end| end.0);
        self.feed_until.store(feed, Ordering::SeqCst);
        self.at.store(round.now.0, Ordering::SeqCst);
    }

    /// Whether the thread that ends guests has not got on for too long.
    fn silent(&self, now: Time) -> bool {
        let kill = Duration::from_nanos(self.kill.load(Ordering::SeqCst));
        now >= Time(self.at.load(Ordering::SeqCst)) + (self.check * 3).max(kill / 4)
    }

    /// Whether the watchdog may be fed now. A thread that hangs is no reason to feed it.
    pub(super) fn may_feed(&self, now: Time) -> bool {
        !self.silent(now) && now.0 < self.feed_until.load(Ordering::SeqCst)
    }

    /// The watchdog was fed, and this is the time after it.
    pub(super) fn fed(&self, now: Time) {
        if now.0 >= self.feed_until.load(Ordering::SeqCst) {
            self.slipped.store(true, Ordering::SeqCst);
        }
    }

    /// Whether a feed slipped past its end since the last call.
    pub(super) fn slipped(&self) -> bool {
        self.slipped.swap(false, Ordering::SeqCst)
    }

    /// W, once it is known.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let nanos = self.timeout.load(Ordering::SeqCst);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    pub(super) fn set_timeout(&self, timeout: Duration) {
        self.timeout.store(nanos(timeout), Ordering::SeqCst);
    }

    /// Says which watchdog is fed, or why none is.
    pub(super) fn watchdog(&self, seen: Result<WatchdogSeen, String>) {
        if let Ok(mut told) = self.watchdog.try_lock() {
            *told = Some(seen);
        }
    }

    /// What was said of the watchdog since the last call.
    pub(super) fn watchdog_news(&self) -> Option<Result<WatchdogSeen, String>> {
        self.watchdog.try_lock().ok()?.take()
    }

    pub(super) fn closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    pub(super) fn closed(&self, done: io::Result<()>) {
        if let Err(e) = &done {
            self.watchdog(Err(format!("the watchdog goes on counting: {e}")));
        }
        self.closed.store(done.is_ok(), Ordering::SeqCst);
    }

    /// Closes the watchdog, for a host with no guest and no doubt; whether that is done by now.
    pub(super) fn close(&self) -> bool {
        self.closing.store(true, Ordering::SeqCst);
        self.closed.load(Ordering::SeqCst)
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
    /// What the same rules say of what was known last.
    alone: Guardian,
    /// No reset before this again.
    again: u64,
}

impl Judge {
    fn new() -> Judge {
        Judge {
            alone: Guardian::new(),
            again: 0,
        }
    }

    /// Whether the host is to be reset now, and when to look again.
    fn look(&mut self, now: Time, word: &Word) -> (bool, Time) {
        let get = |n: &AtomicU64| n.load(Ordering::SeqCst);
        let kill = Duration::from_nanos(get(&word.kill));
        let due = if word.silent(now) {
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
            return (true, now + word.check);
        }
        let next = (now + word.check).0.min(due.max(self.again));
        (false, Time(next.max(now.0 + 1)))
    }
}

/// Starts the thread.
///
/// # Errors
/// There is none.
pub(super) fn start(word: Arc<Word>, mut means: Means) -> io::Result<()> {
    let serve = move || {
        let mut judge = Judge::new();
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
            feed_until: Some(Time::from_millis(end)),
        }
    }

    fn resets(judge: &mut Judge, word: &Word, now: u64) -> bool {
        judge.look(Time::from_millis(now), word).0
    }

    #[test]
    fn the_word_of_the_other_thread_is_followed() {
        let word = Word::new(Time::ZERO, CHECK);
        let mut judge = Judge::new();
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
        let word = Word::new(Time::ZERO, CHECK);
        let mut judge = Judge::new();
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
        let mut judge = Judge::new();
        assert!(
            (9_000..40_000)
                .step_by(100)
                .all(|now| !resets(&mut judge, &word, now))
        );
    }

    #[test]
    fn a_thread_that_gets_on_again_has_the_say_again() {
        let word = Word::new(Time::ZERO, CHECK);
        let mut judge = Judge::new();
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

    #[test]
    fn the_watchdog_is_fed_only_with_a_lease_and_by_one_that_gets_on() {
        let word = Word::new(Time::ZERO, CHECK);
        let at = Time::from_millis;
        assert!(!word.may_feed(at(1)), "nothing was said yet");
        word.say(&round(8_000, 10_000, true, None));
        assert!(word.may_feed(at(8_100)));
        assert!(!word.may_feed(at(9_500)), "the other thread is silent");
        word.say(&round(9_950, 10_000, true, None));
        assert!(word.may_feed(at(9_999)) && !word.may_feed(at(10_000)));
        word.fed(at(9_999));
        assert!(!word.slipped());
        word.fed(at(10_000));
        assert!(word.slipped() && !word.slipped(), "told once");
    }
}
