//! A protocol and its promise as something the harness can run.

use super::draw::{self, Rules};
use super::run::Run;
use super::{Kind, Plan, Promise, Protocol, simpler};
use crate::check::Violation;
use crate::harness::{Outcome, Subject};
use crate::scenario::{self, BadScenario};
use crate::world::{MS, SECOND, SESSION_CLASS};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::RangeInclusive;

thread_local! {
    /// Which bug is planted in what this thread runs; the default of the test if nobody said.
    static BUG: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// The name under which a test whose bug is planted by default runs without it.
const NO_BUG: &str = "none";

/// A protocol under test: what it is promised to be, and what it must bear.
///
/// By default three to five nodes go through twenty seconds of every kind of fault but clocks that
/// jump, and have ten seconds afterwards.
pub struct Test<P, C> {
    rules: Rules,
    /// Planted unless `--bug` says something else.
    broken: Option<&'static str>,
    of: PhantomData<fn(P, C)>,
}

impl<P: Protocol, C: Promise<P>> Default for Test<P, C> {
    fn default() -> Test<P, C> {
        Test::new()
    }
}

impl<P: Protocol, C: Promise<P>> Test<P, C> {
    /// A test with the defaults.
    #[must_use]
    pub fn new() -> Test<P, C> {
        let kinds = Kind::ALL.into_iter().filter(|k| *k != Kind::ClockJump);
        let rules = Rules {
            nodes: 3..=5,
            kinds: kinds.collect(),
            timeout: SECOND,
            trouble: 20 * SECOND,
            settle: 10 * SECOND,
            clock_ppm: 1000,
            lasting: true,
            classes: P::CLASSES.len().clamp(1, SESSION_CLASS.into()) as u8,
            sessions: P::SESSIONS,
        };
        Test {
            rules,
            broken: None,
            of: PhantomData,
        }
    }

    /// How many nodes are drawn; fewer than the least are never tried.
    #[must_use]
    pub fn nodes(mut self, nodes: RangeInclusive<usize>) -> Self {
        self.rules.nodes = nodes;
        self
    }

    /// The protocol's longest time-out in nanoseconds: most faults last from a tenth of it to eight
    /// times as long.
    #[must_use]
    pub fn timeout(mut self, ns: u64) -> Self {
        self.rules.timeout = ns;
        self
    }

    /// How long trouble goes on in a drawn run, in nanoseconds.
    #[must_use]
    pub fn trouble(mut self, ns: u64) -> Self {
        self.rules.trouble = ns;
        self
    }

    /// How long the protocol has after it before [`Promise::due`] is asked, in nanoseconds.
    #[must_use]
    pub fn settle(mut self, ns: u64) -> Self {
        self.rules.settle = ns;
        self
    }

    /// The worst error of a clock's rate that it must bear, in parts per million.
    #[must_use]
    pub fn clock_ppm(mut self, ppm: u32) -> Self {
        self.rules.clock_ppm = ppm;
        self
    }

    /// Kinds of faults that it need not bear.
    #[must_use]
    pub fn without(mut self, kinds: &[Kind]) -> Self {
        self.rules.kinds.retain(|k| !kinds.contains(k));
        self
    }

    /// Kinds of faults that it must bear too.
    #[must_use]
    pub fn with(mut self, kinds: &[Kind]) -> Self {
        self = self.without(kinds);
        self.rules.kinds.extend(kinds);
        self
    }

    /// Every cut ends with the trouble. By default some stay for ever in some runs, but leave a
    /// node that has two-way links to a quorum.
    #[must_use]
    pub fn all_heals(mut self) -> Self {
        self.rules.lasting = false;
        self
    }

    /// Plants this bug of [`Protocol::BUGS`] unless `--bug none` or another is asked for.
    #[must_use]
    pub fn broken_by(mut self, bug: &'static str) -> Self {
        self.broken = Some(bug);
        self
    }

    fn bug(&self) -> Option<&'static str> {
        BUG.get().or(self.broken).filter(|bug| *bug != NO_BUG)
    }
}

impl<P: Protocol, C: Promise<P>> Subject for Test<P, C> {
    type Plan = Plan;

    fn draw(&self, seed: u64) -> Plan {
        draw::plan(&self.rules, seed)
    }

    fn run(&self, plan: &Plan, traced: bool) -> Outcome {
        let mut outcome = Run::<P, C>::new(plan, self.bug(), traced).run();
        for kind in &self.rules.kinds {
            outcome.exposure.add(kind.counted(), 0);
        }
        outcome
    }

    fn seed(&self, plan: &Plan) -> u64 {
        plan.seed
    }

    fn faults(&self, plan: &Plan) -> usize {
        plan.steps.len()
    }

    fn keep(&self, plan: &Plan, faults: &[usize]) -> Plan {
        let steps = faults.iter().filter_map(|i| plan.steps.get(*i).cloned());
        Plan {
            steps: steps.collect(),
            ..plan.clone()
        }
    }

    fn simpler(&self, plan: &Plan) -> Vec<Plan> {
        simpler::simpler(plan, *self.rules.nodes.start(), self.rules.settle)
    }

    fn with_seed(&self, plan: &Plan, seed: u64) -> Option<Plan> {
        let plan = plan.clone();
        Some(Plan { seed, ..plan })
    }

    fn until(&self, plan: &Plan, failure: &Violation) -> Plan {
        // What was owed was asked for at the end: all of the run is needed for that.
        if failure.at == 0 || failure.at >= plan.end {
            return plan.clone();
        }
        let end = plan.end.min((failure.at / MS + 1) * MS);
        let steps = plan.steps.iter().filter(|s| s.at <= failure.at);
        Plan {
            steps: steps.cloned().collect(),
            healed: plan.healed.filter(|healed| *healed <= failure.at),
            end,
            ..plan.clone()
        }
    }

    fn write(&self, plan: &Plan) -> String {
        scenario::protocol::write(plan, P::CLASSES)
    }

    fn read(&self, file: &str, text: &str) -> Result<Plan, BadScenario> {
        scenario::protocol::parse(file, text, P::CLASSES)
    }

    fn words(&self) -> String {
        scenario::protocol::help()
    }

    fn bugs(&self) -> Vec<(&'static str, &'static str)> {
        let none = self
            .broken
            .map(|_| (NO_BUG, "the protocol as it should be"));
        P::BUGS.iter().copied().chain(none).collect()
    }

    fn plant(&self, bug: Option<&'static str>) {
        BUG.set(bug);
    }
}
