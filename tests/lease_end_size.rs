//! A lease ends on a host with 300 guests and 6,000 processes, in the default profile. Root.

mod common;
mod guardian_support;
mod lease_end_support;
mod ocf_support;

use lease_end_support::{Host, Whose};
use ocf_support::skipped;
use std::time::Duration;

/// Reads of one process in one pass: its line, and its environment to the end.
const READS: u64 = 4;
/// Passes that an ending may need. Two that find nothing always; the others see what is dying.
const PASSES: u64 = 12;

#[test]
fn plays_a_host() {
    if let Some(host) = Host::played() {
        host.be();
    }
}

/// What a pass costs grows with the processes of the host; how many are made does not grow with the
/// guests, whoever's the processes are.
#[test]
fn the_lease_ends_with_300_guests_and_6000_processes() {
    let _turn = common::Turn::alone();
    for whose in [Whose::Grouped, Whose::Strangers] {
        let name = format!("the_lease_ends_with_300_guests_and_6000_processes ({whose:?})");
        let host = Host {
            guests: 300,
            processes: 6000,
            whose,
            kill: Duration::from_secs(5),
            check: Duration::from_millis(50),
        };
        let outcome = match host.play(&["--exact", "plays_a_host", "--nocapture"]) {
            Ok(outcome) => outcome.expect("the host was reset"),
            Err(why) => {
                skipped(&name, &why);
                continue;
            }
        };
        println!("{whose:?}: {outcome:?}");
        assert_eq!(outcome.left, 0, "{whose:?}");
        assert!(outcome.processes >= 6000, "{whose:?}: {outcome:?}");
        let most = PASSES * READS * outcome.processes;
        assert!(outcome.reads <= most, "{whose:?}: {outcome:?}");
    }
}
