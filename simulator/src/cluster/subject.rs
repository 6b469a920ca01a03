//! Our cluster as something the harness can run.

use super::{Plan, Sim, draw};
use crate::harness::{Outcome, Subject, Way};
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
        plan.timeline.len()
    }

    fn keep(&self, plan: &Plan, faults: &[usize]) -> Plan {
        let mut kept = plan.clone();
        kept.timeline = faults
            .iter()
            .filter_map(|i| plan.timeline.get(*i).cloned())
            .collect();
        kept
    }

    fn simpler(&self, _plan: &Plan) -> Vec<Plan> {
        Vec::new()
    }

    fn write(&self, _plan: &Plan) -> String {
        String::new()
    }

    fn read(&self, file: &str, text: &str) -> Result<Plan, BadScenario> {
        scenario::parse(file, text)
    }

    fn bugs(&self) -> Vec<(&'static str, &'static str)> {
        mutants::bugs()
    }

    fn mixes(&self) -> Vec<(&'static str, &'static str)> {
        draw::aimed::MIXES.to_vec()
    }

    fn draw_mix(&self, mix: &str, seed: u64) -> Plan {
        draw::aimed::aimed(mix, seed).unwrap_or_else(|| draw::plan(seed))
    }

    fn ways(&self, bug: &str) -> Vec<Way> {
        mutants::ways(bug)
    }

    fn unplantable(&self) -> Option<&'static str> {
        let why = "this build cannot carry bugs; build it with --features mutants";
        (!mutants::POSSIBLE).then_some(why)
    }

    fn plant(&self, bug: Option<&'static str>) {
        mutants::plant(bug);
    }
}
