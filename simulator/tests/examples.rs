//! The worked examples: each is broken and found, each is clean once it is repaired, and the guide
//! says of each what is true.

use quorate_simulator::check::Violation;
use quorate_simulator::harness::{Counts, Subject, hunt, run};

#[expect(dead_code, reason = "its main is for who runs it")]
#[path = "../examples/election/main.rs"]
mod election;
#[expect(dead_code, reason = "its main is for who runs it")]
#[path = "../examples/lease/main.rs"]
mod lease;
#[expect(dead_code, reason = "its main is for who runs it")]
#[path = "../examples/lock/main.rs"]
mod lock;

/// Finds the accident in the first thousand seeds, and cuts it down by what the test offers.
fn found<S: Subject>(test: &S) -> (Violation, S::Plan) {
    let found = hunt(test, 1..1000, 1, false, None, |_| {});
    let outcome = found.failure.expect("broken in 1,000 seeds");
    let broken = outcome.violation.expect("a failure");
    let mut plan = test.draw(outcome.seed);
    let same = |plan: &S::Plan| {
        let now = run(test, plan, false).violation;
        now.is_some_and(|v| v.property == broken.property)
    };
    for fault in (0..test.faults(&plan)).rev() {
        let others: Vec<usize> = (0..test.faults(&plan)).filter(|f| *f != fault).collect();
        let less = test.keep(&plan, &others);
        if same(&less) {
            plan = less;
        }
    }
    while let Some(next) = test.simpler(&plan).into_iter().find(|p| same(p)) {
        plan = next;
    }
    (run(test, &plan, false).violation.expect("the same"), plan)
}

/// No seed breaks the repaired one, and it was put to the test.
fn clean<S: Subject>(test: &S) -> Counts {
    let found = hunt(test, 1..2001, 2, false, Some("none"), |_| {});
    assert_eq!(found.failure.and_then(|f| f.violation), None);
    assert_eq!(found.seeds, 2000);
    let never: Vec<_> = found.exposure.0.iter().filter(|(_, n)| **n == 0).collect();
    assert!(never.is_empty(), "never done: {never:?}");
    found.exposure
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
fn a_lease_counted_from_its_receipt_is_found_by_one_delay() {
    let (broken, plan) = found(&lease::test());
    assert_eq!(broken.property, "one holder");
    let text = lease::test().write(&plan);
    assert!(lease::test().faults(&plan) <= 2, "{text}");
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
