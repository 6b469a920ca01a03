//! `hashes`: what every seed comes to, to be compared between builds, machines and processes.

use super::{line, seeds};
use crate::harness::{Subject, run};
use clap::Args;
use std::ops::Range;
use std::process::ExitCode;

/// Which seeds.
#[derive(Debug, Args)]
pub struct Hashes {
    /// How many, from 1 on; or a range A..B without B.
    #[arg(long, value_parser = seeds)]
    seeds: Range<u64>,
    /// Print a JSON object of seed and hash for each line.
    #[arg(long)]
    json: bool,
}

/// Runs the seeds, one after the other, and prints their hashes.
pub(super) fn hashes<S: Subject>(subject: &S, args: &Hashes) -> ExitCode {
    for seed in args.seeds.clone() {
        let outcome = run(subject, &subject.draw(seed), false);
        let (hash, events) = (format!("{:016x}", outcome.hash), outcome.events);
        if args.json {
            line(serde_json::json!({ "seed": seed, "hash": hash, "events": events }));
        } else {
            line(format_args!("{seed} {hash} {events}"));
        }
    }
    ExitCode::SUCCESS
}
