//! Feeds the watchdog for as long as the rules say so. Its thread is its own: a driver that hangs in
//! here holds nobody up, and then the watchdog is not fed.

use super::insist::Word;
use super::schedule::sleep_until;
use super::search::STACK;
use super::watchdog::Watchdog;
use crate::clock::Clock;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Between two tries to open it.
const RETRY: Duration = Duration::from_secs(5);
/// Between two looks before it is open.
const LOOK: Duration = Duration::from_millis(100);

/// Starts the thread, which opens `device` once W is known.
///
/// # Errors
/// There is none.
pub(super) fn start(word: Arc<Word>, device: PathBuf) -> io::Result<()> {
    let serve = move || {
        let (mut watchdog, mut every) = open(&word, &device);
        loop {
            if word.closing() {
                word.closed(watchdog.close());
                return;
            }
            // The clock is read last: a feed that slips past the end is the last one.
            if word.may_feed(Clock.now()) {
                if let Err(e) = watchdog.feed() {
                    word.watchdog(Err(format!("the watchdog is not fed: {e}")));
                }
                word.fed(Clock.now());
            }
            every = every.max(Duration::from_millis(20));
            sleep_until(Clock.now() + every);
        }
    };
    let thread = thread::Builder::new().name("feeder".into());
    thread.stack_size(STACK).spawn(serve).map(|_| ())
}

/// The open watchdog, and how often it is fed.
fn open(word: &Word, device: &std::path::Path) -> (Watchdog, Duration) {
    loop {
        let Some(timeout) = word.timeout() else {
            sleep_until(Clock.now() + LOOK);
            continue;
        };
        match Watchdog::open(device, timeout) {
            Ok(watchdog) => {
                let seen = watchdog.seen().clone();
                let every = Duration::from_millis(seen.timeout_ms) / 6;
                word.watchdog(Ok(seen));
                return (watchdog, every);
            }
            Err(e) => {
                word.watchdog(Err(format!("there is no watchdog: {e}")));
                sleep_until(Clock.now() + RETRY);
            }
        }
    }
}
