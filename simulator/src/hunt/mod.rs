//! Hunting: many seeds, each with its own plan, on as many threads as there are cores.

pub mod generate;
mod ills;

use crate::check::Violation;
use crate::cluster::report::{Exposure, Report};
use crate::cluster::{Plan, Sim, SimNode};
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
    pub exposure: Exposure,
    /// The run with the lowest seed that broke a promise, of those that were run.
    pub failure: Option<Report>,
    /// Which promises were broken, how often, and by which seed first.
    pub kinds: BTreeMap<String, (u64, u64)>,
}

/// Runs one plan; a panic of the code under test is a broken promise.
pub fn run<N: SimNode>(plan: Plan, traced: bool) -> Report {
    let seed = plan.seed;
    let sim = Sim::<N>::new(plan, traced);
    match catch_unwind(AssertUnwindSafe(|| sim.run())) {
        Ok(report) => report,
        Err(panic) => {
            let said = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("(no text)");
            let facts = ["code under test never panics".into(), said.to_owned()];
            Report {
                seed,
                hash: 0,
                violation: Some(Violation::new("panic", 0, "a node panicked".into(), facts)),
                events: 0,
                ended: 0,
                exposure: Exposure::default(),
                trace: Vec::new(),
            }
        }
    }
}

/// Runs `seeds` on `jobs` threads and stops at the first failure, or goes on. `prepare` runs once in every
/// thread; `progress` is called now and then with the number of seeds done.
pub fn hunt<N: SimNode>(
    seeds: Range<u64>,
    jobs: usize,
    go_on: bool,
    prepare: impl Fn() + Sync,
    progress: impl Fn(u64) + Sync,
) -> Hunt {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Hunt::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                prepare();
                let mut mine = Hunt::default();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let report = run::<N>(generate::plan(seed), false);
                    mine.take(report);
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
    fn take(&mut self, report: Report) {
        self.seeds += 1;
        self.events += report.events;
        self.simulated += report.ended;
        self.exposure.add(&report.exposure);
        if let Some(v) = &report.violation {
            let known = self
                .kinds
                .entry(v.property.to_owned())
                .or_insert((0, report.seed));
            *known = (known.0 + 1, known.1.min(report.seed));
            self.keep(report);
        }
    }

    fn merge(&mut self, other: Hunt) {
        for (kind, (count, seed)) in other.kinds {
            let known = self.kinds.entry(kind).or_insert((0, seed));
            *known = (known.0 + count, known.1.min(seed));
        }
        self.seeds += other.seeds;
        self.events += other.events;
        self.simulated += other.simulated;
        self.exposure.add(&other.exposure);
        if let Some(report) = other.failure {
            self.keep(report);
        }
    }

    fn keep(&mut self, report: Report) {
        if self.failure.as_ref().is_none_or(|f| report.seed < f.seed) {
            self.failure = Some(report);
        }
    }
}
