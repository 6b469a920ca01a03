//! `hunt`: many seeds.

use super::run::again;
use super::{bug, line, mix, print, seeds};
use crate::harness::{Mixed, Subject, hunt};
use clap::Args;
use std::io::IsTerminal;
use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

/// Which seeds, and how.
#[derive(Debug, Args)]
pub struct HuntArgs {
    /// How many, from 1 on; or a range A..B without B.
    #[arg(long, value_parser = seeds)]
    seeds: Range<u64>,
    /// Print the verdict as JSON.
    #[arg(long)]
    json: bool,
    /// Go on after a failure and list every kind that was found.
    #[arg(long)]
    keep_going: bool,
    /// Plant this bug first (needs a build with the feature `mutants`).
    #[arg(long)]
    bug: Option<String>,
    /// Draw from this mix of faults (`bugs` lists them) instead of the swarm.
    #[arg(long)]
    mix: Option<String>,
    /// Threads; as many as there are cores if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
}

/// Hunts.
pub(super) fn chase<S: Subject>(subject: &S, args: &HuntArgs) -> Result<ExitCode, String> {
    let planted = bug(subject, args.bug.as_deref())?;
    let mix = mix(subject, args.mix.as_deref())?;
    let subject = &Mixed { subject, mix };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.map_or(cores, usize::from);
    let all = args.seeds.end - args.seeds.start;
    let loud = std::io::stderr().is_terminal() && !args.json;
    let begun = Instant::now();
    // A panic of the code under test is a finding and is printed as one.
    std::panic::set_hook(Box::new(|_| {}));
    let seeds = args.seeds.clone();
    let found = hunt(subject, seeds, jobs, args.keep_going, planted, |done| {
        if loud && done % 16 == 0 {
            let rate = done as f64 / begun.elapsed().as_secs_f64().max(0.001);
            eprint!("\r{done} of {all} seeds, {rate:.0} a second ");
        }
    });
    if loud {
        eprint!("\r{:60}\r", "");
    }
    if let Some(outcome) = &found.failure {
        if !args.json {
            line(format_args!("after {} seeds:", found.seeds));
            if args.keep_going {
                for (kind, (count, first)) in &found.kinds {
                    line(format_args!("{count:>6} x {kind}, first by seed {first}"));
                }
            }
        }
        return Ok(print(
            outcome,
            args.json,
            &again(outcome.seed, mix, planted),
        ));
    }
    let seconds = begun.elapsed().as_secs_f64().max(0.001);
    let speed = found.simulated as f64 / 1e9 / seconds;
    if args.json {
        line(serde_json::json!({
            "seeds": found.seeds, "violation": null, "events": found.events,
            "seconds": seconds, "times_real_time": speed, "exposure": found.exposure,
        }));
    } else {
        line(format_args!(
            "{} seeds clean: {} events, {seconds:.1} s, {speed:.0} times real time",
            found.seeds, found.events
        ));
        line(format_args!("exposure: {}", found.exposure));
    }
    Ok(ExitCode::SUCCESS)
}
