//! Runs of a hunt that do not end are named, not waited for.

use super::{Again, Source, line};
use crate::harness::{Order, Progress};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Names seeds whose runs do not end: a promise or a protocol that hangs would hang the hunt without a
/// word.
pub(super) struct Watch {
    /// By thread, the seed it runs and since when.
    runs: Mutex<Vec<Option<(u64, Instant)>>>,
    longest: Duration,
}

/// Between two looks at what runs.
const LOOK: Duration = Duration::from_millis(200);
/// Run time after which a seed is named, and again after each further stretch of it.
const SLOW: Duration = Duration::from_secs(20);

impl Watch {
    pub(super) fn new(order: &Order, longest: Duration) -> Watch {
        Watch {
            runs: Mutex::new(vec![None; order.jobs.max(1)]),
            longest,
        }
    }

    pub(super) fn heard(&self, progress: Progress) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        match progress {
            Progress::Begins { job, seed } => runs[job] = Some((seed, Instant::now())),
            Progress::Done { job } => runs[job] = None,
        }
    }

    /// Looks until the sender of `over` is gone. A run above the limit ends the program: no thread can be ended
    /// from outside.
    pub(super) fn look(&self, over: &Receiver<()>, mix: &Option<String>, bug: Option<&str>) {
        let mut named = vec![0u64; self.running().len()];
        while over.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            for (job, run) in self.running().into_iter().enumerate() {
                let Some((seed, since)) = run else {
                    named[job] = 0;
                    continue;
                };
                let takes = since.elapsed();
                if takes >= self.longest {
                    let replay = Again::of(&Source::Seed(mix.clone(), seed), bug).replay;
                    line(format_args!(
                        "seed {seed} does not end: its run takes more than {} s (--run-limit)\n  again: {replay}",
                        self.longest.as_secs()
                    ));
                    std::process::exit(1);
                }
                let stretches = takes.as_secs() / SLOW.as_secs();
                if stretches > named[job] {
                    named[job] = stretches;
                    eprintln!("running: seed {seed} since {} s", takes.as_secs());
                }
            }
        }
    }

    fn running(&self) -> Vec<Option<(u64, Instant)>> {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.clone()
    }
}
