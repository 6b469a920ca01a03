//! The atlas: every way in which links between a few voters can be missing for good, one way or
//! both, with the leader in every place, each compared with what the links allow.
//!
//! What a partition does to a cluster is a matter of which directed links are left. So all of them
//! are tried, once up to relabelling: 36 cases for three voters, 752 for four, 45,960 for five. A case
//! begins with a whole cluster. Which host leads it is the seed's choice, so the graph is laid over
//! the hosts such that its leader is that one: no leader has to be made.
//!
//! Every case of one size has the same beginning. It is run anew each time all the same: a world
//! cannot be copied, because the consensus library's election state can be neither copied nor read,
//! and made anew from what is durable it would be that of a voter that restarted.

mod cli;
pub mod graph;
mod trial;

pub(crate) use cli::part;
pub use cli::{AtlasArgs, chart};
pub use trial::{Start, Took, Trial};

use crate::check::Violation;
use crate::cluster::Cluster;
use crate::harness::{Counts, Outcome, Subject};
use crate::oracle::forecast;
use graph::Case;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A case whose figure is the greatest so far; the least case of those that share it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Worst(pub Option<(u64, Case)>);

impl Worst {
    fn take(&mut self, value: u64, case: Case) {
        let more = |(most, known): (u64, Case)| value > most || value == most && case < known;
        if self.0.is_none_or(more) {
            self.0 = Some((value, case));
        }
    }

    fn merge(&mut self, other: Worst) {
        if let Some((value, case)) = other.0 {
            self.take(value, case);
        }
    }
}

/// What an atlas came to.
#[derive(Debug, Default)]
pub struct Atlas {
    /// Cases run.
    pub cases: usize,
    /// Those of them in which a coordinator must act.
    pub available: usize,
    /// Things that happened.
    pub events: u64,
    /// Simulated nanoseconds.
    pub simulated: u64,
    /// How much was exercised.
    pub exposure: Counts,
    /// Longest until somebody acted for good, of the cases that agree.
    pub acting: Worst,
    /// Longest without a fresh entry.
    pub still: Worst,
    /// Most terms.
    pub terms: Worst,
    /// Longest that somebody acted or something was decided, of the cases without a quorum.
    pub over: Worst,
    /// Cases with a host that keeps its lease and gets no log, and the most such hosts.
    pub unreached: (usize, Worst),
    /// Cases in which the cluster and the oracle disagree, or a promise broke, in order.
    pub disagreements: Vec<Trial>,
}

impl Atlas {
    fn take(&mut self, trial: Trial) {
        let (case, took) = (trial.case, trial.took);
        self.cases += 1;
        self.events += trial.outcome.events;
        self.simulated += trial.outcome.ended;
        self.exposure.merge(&trial.outcome.exposure);
        let available = trial.forecast.hub.is_some();
        self.available += usize::from(available);
        if trial.outcome.violation.is_some() {
            self.disagreements.push(trial);
        } else if available {
            self.acting.take(took.acting, case);
            self.still.take(took.still, case);
            self.terms.take(took.terms, case);
            if took.unreached > 0 {
                self.unreached.0 += 1;
                self.unreached.1.take(took.unreached, case);
            }
        } else {
            self.over.take(took.over, case);
        }
    }

    fn merge(&mut self, other: Atlas) {
        self.cases += other.cases;
        self.available += other.available;
        self.events += other.events;
        self.simulated += other.simulated;
        self.exposure.merge(&other.exposure);
        self.acting.merge(other.acting);
        self.still.merge(other.still);
        self.terms.merge(other.terms);
        self.over.merge(other.over);
        self.unreached.0 += other.unreached.0;
        self.unreached.1.merge(other.unreached.1);
        self.disagreements.extend(other.disagreements);
        self.disagreements.sort_by_key(|t| t.case);
    }
}

/// Runs cases on `jobs` threads, `seconds` simulated ones each after the cut, with the bug planted. The result is the same
/// for any number of threads. `progress` is called now and then with the number of cases begun.
pub fn survey(
    start: &Start,
    cases: &[Case],
    seconds: u64,
    jobs: usize,
    bug: Option<&'static str>,
    progress: impl Fn(usize) + Sync,
) -> Atlas {
    let next = AtomicUsize::new(0);
    let total = Mutex::new(Atlas::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                Cluster.plant(bug);
                let mut mine = Atlas::default();
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(at) else { break };
                    mine.take(trial(start, *case, seconds, false));
                    progress(at + 1);
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

/// Runs one case; a panic of the code under test is a broken promise.
#[must_use]
pub fn trial(start: &Start, case: Case, seconds: u64, traced: bool) -> Trial {
    let run = || start.run(case, seconds, traced);
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("(no text)");
        let facts = ["code under test never panics".into(), said.to_owned()];
        let graph = case.graph.renamed(&start.hosts(case));
        Trial {
            case,
            forecast: forecast(graph.nodes(), |a, b| graph.passes(a, b)),
            outcome: Outcome {
                seed: 0,
                hash: 0,
                violation: Some(Violation::new("panic", 0, "a node panicked".into(), facts)),
                events: 0,
                ended: 0,
                exposure: Counts::default(),
                trace: Vec::new(),
                record: None,
            },
            took: Took::default(),
        }
    })
}
