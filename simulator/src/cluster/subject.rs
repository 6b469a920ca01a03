//! Our cluster as something the harness can run.

use super::{Plan, Sim, draw};
use crate::harness::{Outcome, Subject};
use crate::mutants;
use crate::scenario::{self, BadScenario};
use quorate_recovery::Node;

/// Hosts with our node, their hypervisors, guardians, watchdogs and fence devices.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cluster;

impl Subject for Cluster {
    type Plan = Plan;

    fn draw(&self, seed: u64) -> Plan {
        draw::plan(seed)
    }

    fn run(&self, plan: &Plan, traced: bool) -> Outcome {
        Sim::<Node>::new(plan.clone(), traced).run()
    }

    fn seed(&self, plan: &Plan) -> u64 {
        plan.seed
    }

    fn faults(&self, plan: &Plan) -> usize {
        plan.timeline.len() + plan.triggers.len()
    }

    fn keep(&self, plan: &Plan, faults: &[usize]) -> Plan {
        let mut kept = plan.clone();
        // Triggers are numbered after what has a time.
        let timed = plan.timeline.len();
        let at = |i: &usize| plan.timeline.get(*i).cloned();
        let when = |i: &usize| plan.triggers.get(i.checked_sub(timed)?).cloned();
        kept.timeline = faults.iter().filter_map(at).collect();
        kept.triggers = faults.iter().filter_map(when).collect();
        kept
    }

    fn simpler(&self, _plan: &Plan) -> Vec<Plan> {
        Vec::new()
    }

    fn write(&self, plan: &Plan) -> String {
        scenario::write(plan)
    }

    fn read(&self, file: &str, text: &str) -> Result<Plan, BadScenario> {
        scenario::parse(file, text)
    }

    fn needs(&self, file: &str, text: &str) -> Result<Option<String>, BadScenario> {
        scenario::needs(file, text)
    }

    fn words(&self) -> String {
        scenario::help()
    }

    fn bugs(&self) -> Vec<(&'static str, &'static str)> {
        mutants::bugs()
    }

    fn unplantable(&self) -> Option<&'static str> {
        let why = "this build cannot carry bugs; build it with --features mutants";
        (!mutants::POSSIBLE).then_some(why)
    }

    fn plant(&self, bug: Option<&'static str>) {
        mutants::plant(bug);
    }
}
