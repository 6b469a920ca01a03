//! The demo, as an operator would run it, is a test.

mod common;

use quorate::demo::{self, Options};
use std::path::PathBuf;

#[test]
fn the_demo_moves_every_guest_and_none_ever_runs_twice() {
    if common::skipped("the_demo_moves_every_guest_and_none_ever_runs_twice") {
        return;
    }
    let _turn = common::Turn::take();
    let options = Options {
        exe: Some(PathBuf::from(common::PROGRAM)),
        ..Options::default()
    };
    let report = demo::run(&options, &|| false, &|line| println!("{line}"));
    let report = report.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(report.charges, Vec::<String>::new(), "{report}");
    assert_eq!(report.guests.len(), 6, "{report}");
    let moved = report.guests.iter().filter(|g| g.hosts.len() > 1).count();
    assert!(
        moved >= 2,
        "two hosts failed, {moved} guests moved: {report}"
    );
    let measured = |step: &str| report.steps.iter().filter(|s| s.step == step).count();
    for (step, times) in [
        ("verdict", 2),
        ("fence", 1),
        ("proof", 2),
        ("last guest back", 2),
    ] {
        assert_eq!(measured(step), times, "{step}: {report}");
    }
}
