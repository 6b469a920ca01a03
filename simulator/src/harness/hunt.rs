//! Hunting: many seeds, each with its own plan, on as many threads as there are cores.

use super::{Counts, Outcome, Subject, run};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Seeds of one stretch, for each thread: after it the state of the hunt is whole.
const STRETCH: u64 = 64;

/// What a hunt is to do.
#[derive(Clone, Debug)]
pub struct Order {
    /// The seeds.
    pub seeds: Range<u64>,
    /// Threads.
    pub jobs: usize,
    /// Whether it goes on after a failure.
    pub go_on: bool,
    /// The bug that is planted in every thread.
    pub bug: Option<&'static str>,
    /// The mix the seeds are drawn from, as a name for the state on disk.
    pub mix: Option<&'static str>,
}

/// What a hunt came to so far. Equal hunts give equal values on any number of threads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hunt {
    /// Seeds run.
    pub seeds: u64,
    /// Things that happened in them.
    pub events: u64,
    /// Simulated nanoseconds.
    pub simulated: u64,
    /// How much was exercised.
    pub exposure: Counts,
    /// The failure of the lowest seed that broke a promise, of those that were run.
    pub failure: Option<Failure>,
    /// Which promises were broken, how often, and by which seed first.
    pub kinds: BTreeMap<String, (u64, u64)>,
}

/// A seed that broke a promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The promise.
    pub property: String,
    /// Hash of that run: one that differs when the seed runs again is another run.
    pub hash: u64,
}

/// Property of a finding that a plan did not run twice in the same way.
pub const DETERMINISM: &str = "determinism";

/// Every so many seeds one is run a second time, and both runs must be equal.
const TWICE_IN: u64 = 100;

/// What a thread of a hunt is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// This seed begins on the thread of this number.
    Begins {
        /// The thread, from 0.
        job: usize,
        /// The seed.
        seed: u64,
    },
    /// The seed of the thread of this number is done.
    Done {
        /// The thread, from 0.
        job: usize,
    },
}

/// Runs the seeds of `order` from `from` on and adds to `total`. `progress` is called with every
/// seed that begins and is done; `whole` after every stretch, with what was found up to the seed given.
///
/// # Errors
/// What `whole` returns ends the hunt.
pub fn hunt<S: Subject>(
    subject: &S,
    order: &Order,
    mut total: Hunt,
    from: u64,
    progress: impl Fn(Progress) + Sync,
    mut whole: impl FnMut(&Hunt, u64) -> Result<(), String>,
) -> Result<Hunt, String> {
    let jobs = order.jobs.max(1);
    let mut from = from.max(order.seeds.start);
    while from < order.seeds.end && (order.go_on || total.failure.is_none()) {
        let to = order.seeds.end.min(from + STRETCH * jobs as u64);
        total.merge(stretch(subject, order, from..to, jobs, &progress));
        whole(&total, to)?;
        from = to;
    }
    Ok(total)
}

fn stretch<S: Subject>(
    subject: &S,
    order: &Order,
    seeds: Range<u64>,
    jobs: usize,
    progress: &(impl Fn(Progress) + Sync),
) -> Hunt {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let all = Mutex::new(Hunt::default());
    std::thread::scope(|scope| {
        for job in 0..jobs {
            let (next, stop, all) = (&next, &stop, &all);
            scope.spawn(move || {
                subject.plant(order.bug);
                let mut mine = Hunt::default();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    progress(Progress::Begins { job, seed });
                    let outcome = run(subject, &subject.draw(seed), false);
                    if seed.is_multiple_of(TWICE_IN) && outcome.violation.is_none() {
                        mine.compare(&outcome, &run(subject, &subject.draw(seed), false));
                    }
                    mine.take(&outcome);
                    if mine.failure.is_some() && !order.go_on {
                        stop.store(true, Ordering::Relaxed);
                    }
                    progress(Progress::Done { job });
                }
                all.lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner())
                    .merge(mine);
            });
        }
    });
    all.into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Hunt {
    fn take(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.events += outcome.events;
        self.simulated += outcome.ended;
        self.exposure.merge(&outcome.exposure);
        if let Some(v) = &outcome.violation {
            self.fails(v.property, outcome);
        }
    }

    /// Two runs of one plan: a difference is a finding by itself.
    fn compare(&mut self, first: &Outcome, second: &Outcome) {
        if first.hash != second.hash {
            self.fails(DETERMINISM, first);
        }
    }

    fn fails(&mut self, property: &str, outcome: &Outcome) {
        self.broke(property, 1, outcome.seed);
        self.lowest(Failure {
            seed: outcome.seed,
            property: property.to_owned(),
            hash: outcome.hash,
        });
    }

    /// Adds what another hunt of other seeds came to.
    pub fn merge(&mut self, other: Hunt) {
        for (kind, (count, seed)) in &other.kinds {
            self.broke(kind, *count, *seed);
        }
        self.seeds += other.seeds;
        self.events += other.events;
        self.simulated += other.simulated;
        self.exposure.merge(&other.exposure);
        if let Some(failure) = other.failure {
            self.lowest(failure);
        }
    }

    fn lowest(&mut self, failure: Failure) {
        if self
            .failure
            .as_ref()
            .is_none_or(|known| failure.seed < known.seed)
        {
            self.failure = Some(failure);
        }
    }

    fn broke(&mut self, kind: &str, count: u64, seed: u64) {
        let known = self.kinds.entry(kind.to_owned()).or_insert((0, seed));
        *known = (known.0 + count, known.1.min(seed));
    }
}
