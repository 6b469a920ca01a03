//! The worked examples: each is broken and found, each is clean once it is repaired, and the guide
//! says of each what is true.

use quorate_simulator::check::Violation;
use quorate_simulator::harness::{Hunt, Order, RUNS, Subject, hunt, shrink};
use std::ops::Range;

#[expect(dead_code, reason = "its main is for who runs it")]
#[path = "../examples/election/main.rs"]
mod election;
#[expect(dead_code, reason = "its main is for who runs it")]
#[path = "../examples/lease/main.rs"]
mod lease;
#[expect(dead_code, reason = "its main is for who runs it")]
#[path = "../examples/lock/main.rs"]
mod lock;
#[expect(dead_code, reason = "its main is for who runs it")]
#[path = "../examples/raft/main.rs"]
mod raft;

fn hunted<S: Subject>(test: &S, seeds: Range<u64>, bug: Option<&'static str>) -> Hunt {
    let order = Order {
        seeds,
        jobs: 2,
        go_on: false,
        bug,
        mix: None,
    };
    let found = hunt(test, &order, Hunt::default(), 0, |_| {}, |_, _| Ok(()));
    found.expect("nobody ends it")
}

/// Finds the accident in the first thousand seeds, and cuts it down.
fn found<S: Subject>(test: &S) -> (Violation, S::Plan) {
    let failure = hunted(test, 1..1001, None).failure;
    let plan = test.draw(failure.expect("broken in 1,000 seeds").seed);
    let shrunk = shrink(test, &plan, RUNS, |_, _| {}).expect("it fails");
    (shrunk.outcome.violation.expect("it fails"), shrunk.plan)
}

/// No seed breaks the repaired one, and it was put to the test.
fn clean<S: Subject>(test: &S) {
    let found = hunted(test, 1..2001, Some("none"));
    assert_eq!((found.seeds, found.kinds), (2000, Default::default()));
    let never: Vec<_> = found.exposure.0.iter().filter(|(_, n)| **n == 0).collect();
    assert!(never.is_empty(), "never done: {never:?}");
}

#[test]
fn a_lock_without_a_fencing_token_is_found_by_one_late_message() {
    let (broken, plan) = found(&lock::test());
    assert_eq!(broken.property, "one writer");
    assert!(broken.facts.iter().all(|f| f.contains("wrote with token")));
    let text = lock::test().write(&plan);
    assert!(lock::test().faults(&plan) <= 3, "{text}");
}

#[test]
fn a_lock_with_a_fencing_token_is_clean() {
    clean(&lock::test());
}

#[test]
fn a_lease_counted_from_its_receipt_is_found() {
    let (broken, plan) = found(&lease::test());
    assert_eq!(broken.property, "one holder");
    let text = lease::test().write(&plan);
    assert!(lease::test().faults(&plan) <= 5, "{text}");
}

#[test]
fn a_lease_counted_from_its_request_is_clean() {
    clean(&lease::test());
}

#[test]
fn an_election_that_never_ends_is_found_under_one_one_way_cut() {
    let (broken, plan) = found(&election::test());
    assert_eq!(broken.property, "a leader stays");
    let text = election::test().write(&plan);
    assert_eq!(election::test().faults(&plan), 1, "{text}");
    assert!(
        text.contains("do = \"cut\"") && !text.contains("both"),
        "{text}"
    );
}

#[test]
fn an_election_in_which_beats_are_passed_on_is_clean() {
    clean(&election::test());
}

#[test]
fn the_four_classic_mistakes_in_raft_are_found_in_a_thousand_seeds() {
    let test = raft::test();
    let bugs: Vec<&str> = test.bugs().into_iter().map(|(name, _)| name).collect();
    assert_eq!(bugs.len(), 4);
    for bug in bugs {
        let found = hunted(&test, 1..1001, Some(bug));
        test.plant(None);
        assert!(found.failure.is_some(), "{bug}: {} seeds", found.seeds);
    }
}

#[test]
fn raft_as_it_should_be_is_clean() {
    let found = hunted(&raft::test(), 1..201, None);
    assert_eq!((found.seeds, found.kinds), (200, Default::default()));
}
