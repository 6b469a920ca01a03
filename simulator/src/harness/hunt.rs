//! Hunting: many seeds, each with its own plan, on as many threads as there are cores.

use super::{Counts, Outcome, Subject, run};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a hunt came to.
#[derive(Clone, Debug, Default)]
pub struct Hunt {
    /// Seeds run.
    pub seeds: u64,
    /// Things that happened in them.
    pub events: u64,
    /// Simulated nanoseconds.
    pub simulated: u64,
    /// How much was exercised.
    pub exposure: Counts,
    /// The run with the lowest seed that broke a promise, of those that were run.
    pub failure: Option<Outcome>,
    /// Which promises were broken, how often, and by which seed first.
    pub kinds: BTreeMap<String, (u64, u64)>,
}

/// Runs `seeds` on `jobs` threads, each with the bug planted, and stops at the first failure or goes
/// on. `progress` is called now and then with the number of seeds done.
pub fn hunt<S: Subject>(
    subject: &S,
    seeds: Range<u64>,
    jobs: usize,
    go_on: bool,
    bug: Option<&'static str>,
    progress: impl Fn(u64) + Sync,
) -> Hunt {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Hunt::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                subject.plant(bug);
                let mut mine = Hunt::default();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    mine.take(run(subject, &subject.draw(seed), false));
                    if mine.failure.is_some() && !go_on {
                        stop.store(true, Ordering::Relaxed);
                    }
                    progress(seed - seeds.start + 1);
                }
                if let Ok(mut total) = total.lock() {
                    total.merge(mine);
                }
            });
        }
    });
    total
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Hunt {
    fn take(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.events += outcome.events;
        self.simulated += outcome.ended;
        self.exposure.merge(&outcome.exposure);
        if let Some(v) = &outcome.violation {
            let known = self
                .kinds
                .entry(v.property.to_owned())
                .or_insert((0, outcome.seed));
            *known = (known.0 + 1, known.1.min(outcome.seed));
            self.keep(outcome);
        }
    }

    /// Adds what another hunt of other seeds came to.
    pub fn merge(&mut self, other: Hunt) {
        for (kind, (count, seed)) in other.kinds {
            let known = self.kinds.entry(kind).or_insert((0, seed));
            *known = (known.0 + count, known.1.min(seed));
        }
        self.seeds += other.seeds;
        self.events += other.events;
        self.simulated += other.simulated;
        self.exposure.merge(&other.exposure);
        if let Some(outcome) = other.failure {
            self.keep(outcome);
        }
    }

    fn keep(&mut self, outcome: Outcome) {
        if self.failure.as_ref().is_none_or(|f| outcome.seed < f.seed) {
            self.failure = Some(outcome);
        }
    }
}
