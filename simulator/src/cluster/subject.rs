//! Our cluster as something the harness can run.

use super::{Plan, Sim, draw, plainer};
use crate::check::Violation;
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
        plainer::faults(plan)
    }

    fn keep(&self, plan: &Plan, faults: &[usize]) -> Plan {
        plainer::keep(plan, faults)
    }

    fn simpler(&self, plan: &Plan) -> Vec<Plan> {
        plainer::simpler(plan)
    }

    fn with_seed(&self, plan: &Plan, seed: u64) -> Option<Plan> {
        Some(Plan {
            seed,
            ..plan.clone()
        })
    }

    fn graft(&self, world: &Plan, donor: &Plan) -> Option<Plan> {
        plainer::graft(world, donor)
    }

    fn until(&self, plan: &Plan, failure: &Violation) -> Plan {
        plainer::until(plan, failure)
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
