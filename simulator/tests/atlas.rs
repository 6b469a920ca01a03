//! The atlas and the sweep as a person runs them.

use std::process::{Command, Output};

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorate-sim"))
        .args(args)
        .output()
        .expect("quorate-sim runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

#[test]
fn all_graphs_of_three_voters_agree_with_the_oracle_on_any_number_of_threads() {
    let results: Vec<serde_json::Value> = ["1", "3"]
        .iter()
        .map(|jobs| {
            let output = sim(&["atlas", "3", "--json", "--jobs", jobs]);
            assert_eq!(output.status.code(), Some(0), "{}", said(&output));
            let mut result = json(&output);
            result["seconds"] = 0.into();
            result
        })
        .collect();
    assert_eq!(results[0], results[1]);
    let of = |key: &str| results[0][key].as_u64();
    assert_eq!((of("graphs"), of("cases")), (Some(16), Some(36)));
    assert_eq!((of("available"), of("unavailable")), (Some(21), Some(15)));
    assert_eq!(results[0]["disagreements"], serde_json::json!([]));
}

#[test]
fn every_case_of_four_voters_agrees_with_the_oracle() {
    let output = sim(&["atlas", "4", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let result = json(&output);
    assert_eq!(result["cases"], 752);
    assert_eq!(result["disagreements"], serde_json::json!([]));
}

#[test]
fn parts_of_the_atlas_of_five_agree_and_another_seed_does_too() {
    for part in ["17/3000", "2018/3000"] {
        for seed in ["1", "2"] {
            let output = sim(&["atlas", "5", "--part", part, "--seed", seed, "--json"]);
            assert_eq!(output.status.code(), Some(0), "{}", said(&output));
            assert_eq!(json(&output)["graphs"], 9608);
        }
    }
}

#[test]
fn one_case_is_the_same_run_as_its_scenario() {
    let case = "4-5d-2";
    let alone = sim(&["atlas", "4", "--only", case]);
    assert_eq!(alone.status.code(), Some(0), "{}", said(&alone));
    let text = sim(&["atlas", "4", "--only", case, "--scenario"]).stdout;
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("atlas-case.toml");
    std::fs::write(&file, text).expect("room for a scenario");
    let again = sim(&["run", file.to_str().expect("a plain path")]);
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    let hash = |output: &Output| {
        let said = said(output);
        let at = said
            .lines()
            .find(|l| l.starts_with("hash "))
            .map(String::from);
        at.expect("a hash")
    };
    assert_eq!(hash(&alone), hash(&again));
}

#[test]
fn single_faults_and_a_part_of_all_triples_break_nothing() {
    let output = sim(&["sweep", "--events", "1", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(json(&output)["runs"], 15);
    let output = sim(&["sweep", "--part", "7/400", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(json(&output)["schedules"], 7983);
}

#[test]
fn bad_input_is_named_and_ends_with_2() {
    for (args, named) in [
        (&["atlas", "6"][..], "6"),
        (&["atlas", "4", "--only", "4-ffff-1"], "4-ffff-1"),
        (&["atlas", "4", "--only", "3-0-1"], "3 nodes"),
        (&["atlas", "4", "--part", "5/4"], "K/M"),
        (&["atlas", "3", "--part", "99/100"], "no case"),
        (&["sweep", "--events", "0"], "0"),
        (&["sweep", "--only", "99999999"], "numbered from 0 to"),
        (&["sweep", "--out", "/nowhere/at/all"], "not a directory"),
    ] {
        let output = sim(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(said(&output).contains(named), "{args:?}: {}", said(&output));
    }
}
