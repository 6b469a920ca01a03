//! A subject whose seeds are drawn from one mix of faults.

use super::{Outcome, Subject, Way};
use crate::check::Violation;
use crate::scenario::BadScenario;

/// The subject, with [`Subject::draw`] replaced by a mix of its own, if one is named.
#[derive(Clone, Copy, Debug)]
pub struct Mixed<'s, S> {
    /// What is run.
    pub subject: &'s S,
    /// The name of the mix.
    pub mix: Option<&'static str>,
}

impl<S: Subject> Subject for Mixed<'_, S> {
    type Plan = S::Plan;

    fn draw(&self, seed: u64) -> S::Plan {
        match self.mix {
            Some(mix) => self.subject.draw_mix(mix, seed),
            None => self.subject.draw(seed),
        }
    }

    fn run(&self, plan: &S::Plan, traced: bool) -> Outcome {
        self.subject.run(plan, traced)
    }

    fn seed(&self, plan: &S::Plan) -> u64 {
        self.subject.seed(plan)
    }

    fn faults(&self, plan: &S::Plan) -> usize {
        self.subject.faults(plan)
    }

    fn keep(&self, plan: &S::Plan, faults: &[usize]) -> S::Plan {
        self.subject.keep(plan, faults)
    }

    fn simpler(&self, plan: &S::Plan) -> Vec<S::Plan> {
        self.subject.simpler(plan)
    }

    fn with_seed(&self, plan: &S::Plan, seed: u64) -> Option<S::Plan> {
        self.subject.with_seed(plan, seed)
    }

    fn graft(&self, world: &S::Plan, donor: &S::Plan) -> Option<S::Plan> {
        self.subject.graft(world, donor)
    }

    fn until(&self, plan: &S::Plan, failure: &Violation) -> S::Plan {
        self.subject.until(plan, failure)
    }

    fn needs(&self, file: &str, text: &str) -> Result<Option<String>, BadScenario> {
        self.subject.needs(file, text)
    }

    fn words(&self) -> String {
        self.subject.words()
    }

    fn write(&self, plan: &S::Plan) -> String {
        self.subject.write(plan)
    }

    fn read(&self, file: &str, text: &str) -> Result<S::Plan, BadScenario> {
        self.subject.read(file, text)
    }

    fn bugs(&self) -> Vec<(&'static str, &'static str)> {
        self.subject.bugs()
    }

    fn mixes(&self) -> Vec<(&'static str, &'static str)> {
        self.subject.mixes()
    }

    fn draw_mix(&self, mix: &str, seed: u64) -> S::Plan {
        self.subject.draw_mix(mix, seed)
    }

    fn ways(&self, bug: &str) -> Vec<Way> {
        self.subject.ways(bug)
    }

    fn unplantable(&self) -> Option<&'static str> {
        self.subject.unplantable()
    }

    fn plant(&self, bug: Option<&'static str>) {
        self.subject.plant(bug);
    }
}
