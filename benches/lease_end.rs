//! How long a host with many guests and processes takes to be empty after its lease end, as share
//! of K; above 80 % it would have been reset. Needs root. `lease_end GUESTS PROCESSES` for one size.
#![allow(missing_docs)]

#[path = "../tests/guardian_support/mod.rs"]
mod guardian_support;
#[path = "../tests/lease_end_support/mod.rs"]
mod lease_end_support;

use lease_end_support::{Host, Whose};
use std::time::Duration;

/// The default profile and the fast one: name, K, and how often the lease is looked at.
const PROFILES: [(&str, u64, u64); 2] = [("default", 5000, 50), ("fast", 1000, 50)];
const SIZES: [(u64, u64); 4] = [(10, 200), (50, 1000), (50, 4000), (300, 6000)];

fn main() {
    if let Some(host) = Host::played() {
        host.be();
        return;
    }
    let only: Vec<u64> = std::env::args().flat_map(|a| a.parse()).collect();
    println!("| profile | guests | processes | whose | seconds | of K | reads |");
    println!("|---|---|---|---|---|---|---|");
    for (profile, kill, check) in PROFILES {
        for (guests, processes) in SIZES {
            if !only.is_empty() && only != [guests, processes] {
                continue;
            }
            for (name, whose) in [
                ("the guests', in groups", Whose::Grouped),
                ("the guests', without groups", Whose::Marked),
                ("others'", Whose::Strangers),
            ] {
                let host = Host {
                    guests,
                    processes,
                    whose,
                    kill: Duration::from_millis(kill),
                    check: Duration::from_millis(check),
                };
                match host.play(&[]) {
                    Ok(None) => println!(
                        "| {profile} | {guests} | {processes} | {name} | reset | above 80 % | |"
                    ),
                    Ok(Some(o)) => println!(
                        "| {profile} | {guests} | {} | {name} | {}.{:03} | {} % | {} |",
                        o.processes,
                        o.took_ms / 1000,
                        o.took_ms % 1000,
                        o.took_ms * 100 / kill,
                        o.reads,
                    ),
                    Err(why) => println!("skipped: {profile}, {guests} guests, {name}: {why}"),
                }
            }
        }
    }
}
