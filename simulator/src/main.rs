//! The quorate-sim command.

use clap::{Parser, Subcommand};
use quorate_recovery::Node;
use quorate_simulator::check::At;
use quorate_simulator::cluster::report::Report;
use quorate_simulator::{hunt, mutants, scenario};
use std::io::{IsTerminal, Write};
use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

/// Prints a line; a reader that has gone away (`| head`) is no error.
macro_rules! say {
    ($($arg:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($arg)*);
    }};
}

/// Finds the schedule that breaks a promise, or shows that many do not.
///
/// Exit status: 0 nothing broken, 1 a promise or an expectation broken, 2 bad input.
#[derive(Parser)]
#[command(name = "quorate-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a scenario file.
    #[command(after_help = scenario::help())]
    Run {
        /// The scenario.
        file: String,
        /// Print one line per event.
        #[arg(long)]
        trace: bool,
        /// Print the verdict as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run many seeds, each with faults of its own.
    Hunt {
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
        /// Threads; as many as there are cores if not given.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
        jobs: Option<u16>,
    },
    /// Run one seed of the hunt again.
    Replay {
        /// The seed.
        seed: u64,
        /// Print one line per event.
        #[arg(long)]
        trace: bool,
        /// Print the verdict as JSON.
        #[arg(long)]
        json: bool,
        /// Plant this bug first.
        #[arg(long)]
        bug: Option<String>,
    },
    /// List the bugs that can be planted.
    Bugs,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |s: &str| s.replace('_', "").parse::<u64>().ok();
    let range = match text.split_once("..") {
        Some((a, b)) => number(a).zip(number(b)),
        None => number(text).and_then(|n| Some((1, n.checked_add(1)?))),
    };
    match range {
        Some((a, b)) if a < b => Ok(a..b),
        _ => Err("a number above 0, or A..B with A below B".into()),
    }
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Verb::Run { file, trace, json } => run(&file, trace, json),
        Verb::Hunt {
            seeds,
            json,
            keep_going,
            bug,
            jobs,
        } => match planted(bug.as_deref()) {
            Ok(bug) => chase(seeds, json, keep_going, bug, jobs),
            Err(code) => code,
        },
        Verb::Replay {
            seed,
            trace,
            json,
            bug,
        } => match planted(bug.as_deref()) {
            Ok(bug) => {
                mutants::plant(bug);
                let plan = hunt::generate::plan(seed);
                let report = hunt::run::<Node>(plan, trace);
                print(&report, json, &replay(seed, bug))
            }
            Err(code) => code,
        },
        Verb::Bugs => {
            for (name, what) in mutants::bugs() {
                say!("{name:<28} {what}");
            }
            if !mutants::POSSIBLE {
                say!("\nThis build cannot carry them: build it with --features mutants.");
            }
            ExitCode::SUCCESS
        }
    }
}

/// The bug of that name, or exit 2 with the names there are.
fn planted(name: Option<&str>) -> Result<Option<&'static str>, ExitCode> {
    let Some(name) = name else { return Ok(None) };
    let bugs = mutants::bugs();
    let Some((found, _)) = bugs.iter().find(|(n, _)| *n == name) else {
        let names: Vec<&str> = bugs.iter().map(|(n, _)| *n).collect();
        eprintln!("--bug {name:?} is unknown; allowed: {}", names.join(", "));
        return Err(ExitCode::from(2));
    };
    if !mutants::POSSIBLE {
        eprintln!("--bug {name}: this build cannot carry bugs; build it with --features mutants");
        return Err(ExitCode::from(2));
    }
    Ok(Some(found))
}

fn replay(seed: u64, bug: Option<&str>) -> String {
    let bug = bug.map_or(String::new(), |b| format!(" --bug {b}"));
    format!("quorate-sim replay {seed}{bug} --trace")
}

fn run(file: &str, trace: bool, json: bool) -> ExitCode {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) => {
            eprintln!("{file}: {e}");
            return ExitCode::from(2);
        }
    };
    match scenario::parse(file, &text) {
        Ok(plan) => {
            let report = hunt::run::<Node>(plan, trace);
            print(&report, json, &format!("quorate-sim run {file} --trace"))
        }
        Err(e) => {
            eprintln!("{e}");
            ExitCode::from(2)
        }
    }
}

fn chase(
    seeds: Range<u64>,
    json: bool,
    keep_going: bool,
    bug: Option<&'static str>,
    jobs: Option<u16>,
) -> ExitCode {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = jobs.map_or(cores, usize::from);
    let all = seeds.end - seeds.start;
    let loud = std::io::stderr().is_terminal() && !json;
    let begun = Instant::now();
    // A panic of the code under test is a finding and is printed as one.
    std::panic::set_hook(Box::new(|_| {}));
    let found = hunt::hunt::<Node>(
        seeds,
        jobs,
        keep_going,
        || mutants::plant(bug),
        |done| {
            if loud && done % 16 == 0 {
                let rate = done as f64 / begun.elapsed().as_secs_f64().max(0.001);
                eprint!("\r{done} of {all} seeds, {rate:.0} a second ");
            }
        },
    );
    if loud {
        eprint!("\r{:60}\r", "");
    }
    if let Some(report) = &found.failure {
        if !json {
            say!("after {} seeds:", found.seeds);
            if keep_going {
                for (kind, (count, first)) in &found.kinds {
                    say!("{count:>6} x {kind}, first by seed {first}");
                }
            }
        }
        return print(report, json, &replay(report.seed, bug));
    }
    let seconds = begun.elapsed().as_secs_f64().max(0.001);
    let speed = found.simulated as f64 / 1e9 / seconds;
    if json {
        let value = serde_json::json!({
            "seeds": found.seeds, "violation": null, "events": found.events,
            "seconds": seconds, "times_real_time": speed, "exposure": found.exposure,
        });
        say!("{value}");
    } else {
        let e = &found.exposure;
        say!(
            "{} seeds clean: {} events, {:.1} s, {speed:.0} times real time",
            found.seeds,
            found.events,
            seconds
        );
        say!(
            "exposure: {} entries, {} verdicts, {} leases expired, {} hosts fenced, {} power cuts, {} kills at lease end, {} starts, {} remedies",
            e.entries,
            e.revokes,
            e.expired,
            e.fenced,
            e.cuts,
            e.kills,
            e.starts,
            e.remedies
        );
    }
    ExitCode::SUCCESS
}

fn print(report: &Report, json: bool, again: &str) -> ExitCode {
    for line in &report.trace {
        say!("{line}");
    }
    if json {
        let value = serde_json::json!({
            "seed": report.seed, "hash": format!("{:016x}", report.hash),
            "violation": report.violation, "events": report.events,
            "ended_seconds": report.ended as f64 / 1e9, "exposure": report.exposure,
            "version": env!("CARGO_PKG_VERSION"), "replay": again,
        });
        say!("{value}");
    } else {
        match &report.violation {
            Some(v) => {
                say!("{v}");
                say!(
                    "  seed {}, version {}",
                    report.seed,
                    env!("CARGO_PKG_VERSION")
                );
                say!("  again: {again}");
            }
            None => say!(
                "clean: {} events up to {} s",
                report.events,
                At(report.ended)
            ),
        }
        say!("hash {:016x}", report.hash);
    }
    match report.violation {
        Some(_) => ExitCode::from(1),
        None => ExitCode::SUCCESS,
    }
}
