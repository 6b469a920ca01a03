use super::*;
use crate::harness::Counts;
use crate::scenario::BadScenario;
use crate::world::{Rng, Stream};

/// Says of seed and faults which promise is broken.
type Breaks = fn(u64, &[u32]) -> Option<&'static str>;

/// Its faults are numbers.
struct Toy(Breaks);

fn s1(broken: bool) -> Option<&'static str> {
    broken.then_some("S1")
}

#[derive(Clone, Debug, PartialEq)]
struct ToyPlan {
    seed: u64,
    faults: Vec<u32>,
}

impl Subject for Toy {
    type Plan = ToyPlan;

    fn draw(&self, seed: u64) -> ToyPlan {
        let faults = (0..40).collect();
        ToyPlan { seed, faults }
    }

    fn run(&self, plan: &ToyPlan, _: bool) -> Outcome {
        let facts = [String::new(), String::new()];
        let broken = (self.0)(plan.seed, &plan.faults);
        Outcome {
            seed: plan.seed,
            hash: 0,
            violation: broken.map(|promise| Violation::new(promise, 9, String::new(), facts)),
            events: 1,
            ended: 9,
            exposure: Counts::default(),
            trace: Vec::new(),
            record: None,
        }
    }

    fn seed(&self, plan: &ToyPlan) -> u64 {
        plan.seed
    }

    fn faults(&self, plan: &ToyPlan) -> usize {
        plan.faults.len()
    }

    fn keep(&self, plan: &ToyPlan, faults: &[usize]) -> ToyPlan {
        let kept = faults.iter().map(|i| plan.faults[*i]).collect();
        ToyPlan {
            faults: kept,
            ..plan.clone()
        }
    }

    fn simpler(&self, _: &ToyPlan) -> Vec<ToyPlan> {
        Vec::new()
    }

    fn with_seed(&self, plan: &ToyPlan, seed: u64) -> Option<ToyPlan> {
        let faults = plan.faults.clone();
        Some(ToyPlan { seed, faults })
    }

    fn write(&self, plan: &ToyPlan) -> String {
        format!("{plan:?}")
    }

    fn read(&self, _: &str, _: &str) -> Result<ToyPlan, BadScenario> {
        unreachable!("no scenario of a toy is read")
    }
}

/// One throw of a die for a seed and the number of faults.
fn lucky(seed: u64, faults: &[u32], one_in: u64) -> bool {
    Rng::new(seed ^ (faults.len() as u64) << 32, Stream::Faults).range(0, one_in - 1) == 0
}

/// What is left of forty faults of seed 1, which must fail.
fn left(breaks: Breaks) -> (Vec<u32>, u32) {
    let toy = Toy(breaks);
    let plan = toy.draw(1);
    let shrunk = shrink(&toy, &plan, RUNS, |_, _| {}).expect("it fails");
    assert_eq!(shrunk.faults, (40, shrunk.plan.faults.len()));
    assert!(shrunk.outcome.violation.is_some(), "what is left fails");
    assert!(shrunk.runs <= RUNS, "{}", shrunk.runs);
    (shrunk.plan.faults, shrunk.runs)
}

#[test]
fn what_matters_is_left_wherever_it_is() {
    let (faults, runs) = left(|_, f| s1([3, 17, 38].iter().all(|n| f.contains(n))));
    assert_eq!(faults, [3, 17, 38]);
    assert!(runs < 1500, "{runs}");
    let (faults, _) = left(|_, f| s1(f.contains(&39)));
    assert_eq!(faults, [39]);
}

#[test]
fn two_that_make_up_for_each_other_go_together() {
    // 8 cuts and 9 mends: with one alone nothing is seen.
    let (faults, _) = left(|_, f| s1(f.contains(&20) && f.contains(&8) == f.contains(&9)));
    assert_eq!(faults, [20]);
}

#[test]
fn a_race_that_few_faults_make_rare_is_cut_down_by_patience() {
    let (faults, runs) = left(|seed, f| {
        let rarer = match f.len() {
            0..=1 => return None,
            2..=4 => 20,
            5..=12 => 8,
            _ => 1,
        };
        s1(f.contains(&5) && lucky(seed, f, rarer))
    });
    assert!(faults.contains(&5) && faults.len() <= 3, "{faults:?}");
    assert!(runs > 100, "{runs}");
}

#[test]
fn what_matters_is_found_far_apart_and_under_rare_seeds_too() {
    let (faults, runs) = left(|seed, f| {
        let there = [3, 17, 38].iter().all(|n| f.contains(n));
        s1(there && (f.len() == 40 || lucky(seed, f, 12)))
    });
    assert_eq!(faults, [3, 17, 38]);
    assert!(runs < RUNS, "{runs}");
}

#[test]
fn another_promise_is_another_story() {
    let (faults, _) = left(|_, f| Some(if f.contains(&7) { "S1" } else { "S2" }));
    assert_eq!(faults, [7]);
}

#[test]
fn every_removal_leaves_something_out_and_the_most_comes_first() {
    assert!(removals(0).is_empty());
    assert_eq!(removals(1), [vec![0]]);
    for all in 2..30 {
        let sets = removals(all);
        assert!(
            sets.iter()
                .all(|s| !s.is_empty() && s.iter().all(|i| *i < all))
        );
        let single = |i: &usize| sets.contains(&vec![*i]);
        assert!((0..all).all(|i| single(&i)), "{all}");
        let lengths: Vec<usize> = sets.iter().map(Vec::len).collect();
        assert!(lengths[0] >= lengths[lengths.len() - 1], "{lengths:?}");
    }
}
