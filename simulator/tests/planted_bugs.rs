//! Planted bugs are found, by the promise they break. A harness that misses one is blind there.
//!
//! Five of them, one for each way to look and each room, and all that have a scenario, in seconds;
//! `quorate-sim mutants` looks for the rest as well and takes its time.

use quorate_simulator::harness::Way;
use quorate_simulator::mutants::{bugs, ways};
use std::collections::BTreeSet;
use std::process::{Command, Output};

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorate-sim"))
        .args(args)
        .output()
        .expect("quorate-sim runs")
}

fn said(run: &Output) -> String {
    String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr)
}

#[test]
fn five_planted_bugs_are_found_each_by_the_promise_it_breaks() {
    let bugs = [
        // By seeds of the swarm: membership, fencing, recovery, the driver.
        ("lease-from-receipt", "S3"),
        ("lease-end-not-enforced", "S3"),
        ("word-before-end", "S14"),
        ("restart-grants-fresh-lease", "S3"),
        // By a scenario.
        ("brake-by-log-alone", "S7"),
    ];
    let mut args = vec!["mutants", "--json", "--seconds", "600", "--jobs", "1"];
    for (bug, _) in &bugs {
        args.extend(["--only", bug]);
    }
    let run = sim(&args);
    assert_eq!(run.status.code(), Some(0), "{}", said(&run));
    let table: serde_json::Value = serde_json::from_slice(&run.stdout).expect("JSON");
    let rows = table["bugs"].as_array().expect("a row for each bug");
    assert_eq!(rows.len(), bugs.len(), "{table}");
    for (bug, broke) in bugs {
        let row = rows.iter().find(|r| r["bug"] == bug).expect("its row");
        assert_eq!(row["broke"], broke, "{row}");
    }
}

/// A scenario that no longer comes to the moment it was written for stays clean, with the bug and
/// without: nothing else would tell.
#[test]
fn every_scenario_told_for_a_bug_finds_it() {
    let told = |bug: &str| matches!(ways(bug)[..], [Way::Story(..)]);
    let told: Vec<&str> = bugs().iter().map(|b| b.0).filter(|b| told(b)).collect();
    assert!(told.len() >= 40, "{}", told.len());
    let mut args = vec!["mutants", "--jobs", "1"];
    for bug in &told {
        args.extend(["--only", bug]);
    }
    let run = sim(&args);
    assert_eq!(run.status.code(), Some(0), "{}", said(&run));
}

#[test]
fn a_bug_is_seen_again_by_the_command_that_is_printed() {
    let bug = "answer-to-an-old-revoke";
    let hunt = [
        "hunt", "--mix", "return", "--seeds", "1..5000", "--bug", bug,
    ];
    let found = sim(&hunt);
    assert_eq!(found.status.code(), Some(1), "{}", said(&found));
    let text = said(&found);
    let again = text.split_once("again: ").expect("a command").1;
    let again: Vec<&str> = again.lines().next().expect("a line").split(' ').collect();
    assert!(
        again.contains(&"--mix") && again.contains(&bug),
        "{again:?}"
    );
    let seen = sim(&again[1..]);
    assert_eq!(seen.status.code(), Some(1), "{}", said(&seen));
    let broken = |text: &str| {
        let line = text
            .lines()
            .find(|l| l.contains(" broken at "))
            .map(str::to_owned);
        line.expect("what broke")
    };
    let seen = said(&seen);
    let last = seen
        .lines()
        .rfind(|l| l.contains(" broken at "))
        .expect("what broke");
    assert!(last.ends_with(&broken(&text)), "{last}");
}

#[test]
fn failures_are_cut_down_and_compared_with_what_is_known() {
    let run = sim(&[
        "cuts",
        "--json",
        "--each",
        "2",
        "--only",
        "unarmed-lease-proves",
    ]);
    assert_eq!(run.status.code(), Some(0), "{}", said(&run));
    let table: serde_json::Value = serde_json::from_slice(&run.stdout).expect("JSON");
    let cuts = table["bugs"][0]["cuts"].as_array().expect("cuts");
    assert_eq!(cuts.len(), 2, "{table}");
    for cut in cuts {
        let number = |name: &str| cut[name].as_u64().expect("a number");
        assert!(number("known") <= number("after"), "{cut}");
        assert!((1..=3).contains(&number("after")), "{cut}");
        assert!(number("after") <= number("before"), "{cut}");
    }
    assert_eq!(table["within_one_percent"], 100.0, "{table}");
}

#[test]
fn every_bug_has_a_name_of_its_own_and_says_first_which_promise_it_breaks() {
    let bugs = bugs();
    assert!(bugs.len() >= 90, "{}", bugs.len());
    let names: BTreeSet<&str> = bugs.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), bugs.len());
    for (name, meaning) in bugs {
        let (promises, what) = meaning.split_once(": ").expect("promise: what");
        let of_the_contract = |p: &str| {
            let number = p
                .strip_prefix(['S', 'L', 'N'])
                .and_then(|n| n.parse::<u8>().ok());
            number.is_some_and(|n| (1..=17).contains(&n))
        };
        assert!(
            promises.split(' ').all(of_the_contract),
            "{name}: {meaning}"
        );
        assert!(!what.is_empty(), "{name}");
    }
}

#[test]
fn names_nobody_gave_are_bad_input() {
    for args in [
        &["hunt", "--seeds", "1..2", "--bug", "no-such-bug"][..],
        &["hunt", "--seeds", "1..2", "--mix", "no-such-mix"],
        &["mutants", "--only", "no-such-bug"],
    ] {
        let run = sim(args);
        assert_eq!(run.status.code(), Some(2), "{args:?}");
        let text = said(&run);
        assert!(
            text.contains("no-such") && text.contains("allowed:"),
            "{text}"
        );
    }
}
