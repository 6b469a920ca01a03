//! Every planted bug is found, by the promise it breaks. A harness that misses one is blind there.

use std::process::Command;

/// Hunts for a planted bug the way a person would.
fn found(bug: &str, promises: &[&str]) {
    let run = Command::new(env!("CARGO_BIN_EXE_quorate-sim"))
        .args(["hunt", "--seeds", "1..5000", "--bug", bug])
        .output()
        .expect("quorate-sim runs");
    let said =
        String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{bug} was not found:\n{said}");
    let named = |p: &&str| said.contains(&format!("{p} broken"));
    assert!(
        promises.iter().any(named),
        "{bug} breaks one of {promises:?}:\n{said}"
    );
    assert!(
        said.contains("quorate-sim replay"),
        "no command to see it again:\n{said}"
    );
}

#[test]
fn a_lease_counted_from_the_acknowledgement_is_found() {
    found("lease-from-receipt", &["S3", "S1"]);
}

#[test]
fn a_restarted_voter_that_says_never_is_found() {
    found("restarted-voter-says-never", &["S14", "S1", "S3"]);
}

#[test]
fn a_forgotten_promise_to_stop_is_found() {
    found("stop-promise-forgotten", &["S14", "S1", "S3"]);
}

#[test]
fn a_timeout_taken_for_success_is_found() {
    found("timeout-as-success", &["S8", "S14", "S1"]);
}

#[test]
fn a_restart_that_grants_itself_a_lease_is_found() {
    found("restart-grants-fresh-lease", &["S3", "S1", "S14"]);
}

#[test]
fn a_silent_agent_taken_for_death_is_found() {
    found("silence-is-death", &["S9"]);
}

#[test]
fn blindness_taken_for_silence_is_found() {
    found("blindness-is-silence", &["S9"]);
}

#[test]
fn a_starved_guest_taken_for_dead_is_found() {
    found("starved-is-hung", &["S9"]);
}

#[test]
fn a_bug_nobody_planted_is_bad_input() {
    let run = Command::new(env!("CARGO_BIN_EXE_quorate-sim"))
        .args(["hunt", "--seeds", "1..2", "--bug", "no-such-bug"])
        .output()
        .expect("quorate-sim runs");
    assert_eq!(run.status.code(), Some(2));
}
