//! What the harness does with anything that can be run from a plan: hunt seeds, cut failures down,
//! show them. It knows nothing of what it runs; see [`Subject`].

pub mod cli;
mod counts;
mod hunt;
mod mix;
mod resume;
mod shrink;

pub use counts::Counts;
pub use hunt::{DETERMINISM, Failure, Hunt, Order, Progress, hunt};
pub use mix::Mixed;
pub use resume::{Resume, read as read_resume};
pub use shrink::{RUNS, Shrunk, shrink};

use crate::check::Violation;
use crate::record::{Record, left_behind};
use crate::scenario::BadScenario;
use serde::Serialize;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A kind of run the harness can make: plans are drawn from seeds and run to a verdict.
///
/// A plan is one run as data. Its *faults* are what is done during the run, in order; they are
/// counted from 0 and can be left out one by one without changing what the others do.
pub trait Subject: Sync {
    /// One run as data.
    type Plan: Clone + Send;

    /// The plan of a seed: the same one for ever.
    fn draw(&self, seed: u64) -> Self::Plan;

    /// Runs a plan to its end or to the first broken promise. The same plan gives the same
    /// outcome; `traced` adds trace and record and nothing else.
    fn run(&self, plan: &Self::Plan, traced: bool) -> Outcome;

    /// Feeds every random stream of a plan.
    fn seed(&self, plan: &Self::Plan) -> u64;

    /// How many faults a plan has.
    fn faults(&self, plan: &Self::Plan) -> usize;

    /// The plan with only the faults of these numbers (ascending).
    fn keep(&self, plan: &Self::Plan, faults: &[usize]) -> Self::Plan;

    /// Plans that differ from this one in one step towards a plainer story (fewer nodes, no noise, a
    /// shorter, rounder or weaker fault), the most drastic step first. None has more faults.
    fn simpler(&self, plan: &Self::Plan) -> Vec<Self::Plan>;

    /// The same plan under another seed: other delays, the same faults. `None` if that is not possible.
    fn with_seed(&self, plan: &Self::Plan, seed: u64) -> Option<Self::Plan> {
        let _ = (plan, seed);
        None
    }

    /// What befalls `donor`, in the world of `world`; `None` if it names what is not there, or leaves
    /// the assumptions that `world` keeps.
    fn graft(&self, world: &Self::Plan, donor: &Self::Plan) -> Option<Self::Plan> {
        let _ = (world, donor);
        None
    }

    /// The plan without what comes after this failure of it.
    fn until(&self, plan: &Self::Plan, failure: &Violation) -> Self::Plan {
        let _ = failure;
        plan.clone()
    }

    /// The plan as a scenario file, which [`Subject::read`] gives back.
    fn write(&self, plan: &Self::Plan) -> String;

    /// Reads a scenario.
    ///
    /// # Errors
    /// File, place, what was found and what is allowed.
    fn read(&self, file: &str, text: &str) -> Result<Self::Plan, BadScenario>;

    /// What a scenario needs that is not there yet, so that it is kept and not run.
    ///
    /// # Errors
    /// As those of [`Subject::read`].
    fn needs(&self, file: &str, text: &str) -> Result<Option<String>, BadScenario> {
        let _ = (file, text);
        Ok(None)
    }

    /// What can be written in a scenario, for its help.
    fn words(&self) -> String {
        String::new()
    }

    /// Name and meaning of every bug that can be planted in what is run.
    fn bugs(&self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }

    /// Name and aim of every mix of faults there is beside the one of [`Subject::draw`].
    fn mixes(&self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }

    /// The plan of a seed in a mix; that of [`Subject::draw`] if there is no such mix.
    fn draw_mix(&self, mix: &str, seed: u64) -> Self::Plan {
        let _ = mix;
        self.draw(seed)
    }

    /// How a planted bug is looked for, the quickest way first.
    fn ways(&self, bug: &str) -> Vec<Way> {
        let _ = bug;
        vec![Way::Swarm]
    }

    /// Why this build cannot carry planted bugs, if it cannot.
    fn unplantable(&self) -> Option<&'static str> {
        None
    }

    /// Plants a bug for the runs of this thread, or none.
    fn plant(&self, bug: Option<&'static str>) {
        let _ = bug;
    }
}

/// A way to look for a planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Seeds of [`Subject::draw`].
    Swarm,
    /// Seeds of this mix.
    Mix(&'static str),
    /// One scenario: its file, and what that says.
    Story(&'static str, &'static str),
}

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Feeds every random stream.
    pub seed: u64,
    /// Equal runs have equal hashes.
    pub hash: u64,
    /// The first broken promise or expectation.
    pub violation: Option<Violation>,
    /// Things that happened.
    pub events: u64,
    /// True time at the end, in nanoseconds.
    pub ended: u64,
    /// How much was exercised.
    pub exposure: Counts,
    /// One line per event, if asked for.
    #[serde(skip)]
    pub trace: Vec<String>,
    /// What happened and why, if asked for.
    #[serde(skip)]
    pub record: Option<Record>,
}

/// Runs one plan; a panic of the code under test is a broken promise.
pub fn run<S: Subject>(subject: &S, plan: &S::Plan, traced: bool) -> Outcome {
    match catch_unwind(AssertUnwindSafe(|| subject.run(plan, traced))) {
        Ok(outcome) => outcome,
        Err(panic) => {
            let said = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("(no text)");
            let facts = ["code under test never panics".into(), said.to_owned()];
            let record = left_behind("a node panicked", &facts);
            let at = record.as_ref().map_or(0, |r| r.ended);
            Outcome {
                seed: subject.seed(plan),
                hash: 0,
                violation: Some(Violation::new("panic", at, "a node panicked".into(), facts)),
                events: 0,
                ended: at,
                exposure: Counts::default(),
                trace: record.as_ref().map_or(Vec::new(), Record::trace),
                record,
            }
        }
    }
}
