//! `sweep`: the command.

use super::{PACES, Sweep, Swept};
use crate::atlas::part;
use crate::cluster::Cluster;
use crate::harness::cli::{Again, bug, line, print, program};
use crate::harness::{Subject, run};
use clap::Args;
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Files written at most: beyond, it is one fault seen very often.
const FILES: usize = 50;

/// Which sweep, and how.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// Hosts, all of them voters.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=5))]
    nodes: u8,
    /// Faults in one schedule at most.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=4))]
    events: u8,
    /// Threads; as many as there are cores if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Make the run of this number alone.
    #[arg(long, value_name = "NUMBER")]
    only: Option<usize>,
    /// Only the K-th of every M runs: an M-th of the sweep, evenly spread.
    #[arg(long, value_name = "K/M", value_parser = part, conflicts_with = "only")]
    part: Option<(usize, usize)>,
    /// With --only: print one line per event.
    #[arg(long, requires = "only")]
    trace: bool,
    /// Feeds every random stream; another one has another leader and other delays.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the scenario of each run that breaks a promise is written, 50 at most.
    #[arg(long, default_value = ".", value_name = "DIRECTORY")]
    out: PathBuf,
    /// Plant this bug first (needs a build with the feature `mutants`).
    #[arg(long)]
    bug: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl SweepArgs {
    fn again(&self, number: usize) -> String {
        let (nodes, events, seed) = (self.nodes, self.events, self.seed);
        let mut text = format!("{} sweep --only {number}", program());
        for (name, value, usual) in [("nodes", nodes, 3), ("events", events, 3)] {
            if value != usual {
                text += &format!(" --{name} {value}");
            }
        }
        if seed != 1 {
            text += &format!(" --seed {seed}");
        }
        if let Some(bug) = &self.bug {
            text += &format!(" --bug {bug}");
        }
        text + " --trace"
    }
}

/// Sweeps.
///
/// # Errors
/// No cluster forms, there is no run of that number, or a scenario cannot be written.
pub fn sweep(args: &SweepArgs) -> Result<ExitCode, String> {
    let begun = Instant::now();
    let planted = bug(&Cluster, args.bug.as_deref())?;
    let sweep = Sweep::new(args.nodes.into(), args.events.into(), args.seed)?;
    let runs = sweep.runs();
    if let Some(number) = args.only {
        if number >= runs {
            return Err(format!(
                "--only {number}: runs are numbered from 0 to {}",
                runs - 1
            ));
        }
        if !args.json {
            line(said(&sweep, number));
        }
        Cluster.plant(planted);
        let outcome = run(&Cluster, &sweep.plan(number), args.trace);
        return Ok(print(&outcome, args.json, &Again::only(args.again(number))));
    }
    if !args.out.is_dir() {
        return Err(format!("--out {}: not a directory", args.out.display()));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.map_or(cores, usize::from);
    let loud = std::io::stderr().is_terminal() && !args.json;
    // A panic of the code under test is a finding and is printed as one.
    std::panic::set_hook(Box::new(|_| {}));
    let (first, every) = args.part.unwrap_or((1, 1));
    let numbers: Vec<usize> = (first - 1..runs).step_by(every).collect();
    let runs = numbers.len();
    let swept = sweep.run(&numbers, jobs, planted, |done| {
        if loud && done % 16 == 0 {
            let left = (runs - done) as f64 * begun.elapsed().as_secs_f64() / done as f64;
            let bar = "#".repeat(done * 40 / runs.max(1));
            eprint!("\r[{bar:<40}] {done} of {runs} runs, {left:.0} s left ");
        }
    });
    if loud {
        eprint!("\r{:90}\r", "");
    }
    let seconds = begun.elapsed().as_secs_f64().max(0.001);
    tell(args, &sweep, &swept, seconds)?;
    Ok(ExitCode::from(u8::from(!swept.broken.is_empty())))
}

/// The faults of a run on one line.
fn said(sweep: &Sweep, number: usize) -> String {
    let (faults, pace) = sweep.faults(number);
    let words: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let words = words.join(", ");
    if faults.len() == 1 {
        return words;
    }
    format!("{words}; {} s apart", pace as f64 / 1e9)
}

fn tell(args: &SweepArgs, sweep: &Sweep, swept: &Swept, seconds: f64) -> Result<(), String> {
    let mut broken = Vec::new();
    for (i, (number, outcome)) in swept.broken.iter().enumerate() {
        let file = (i < FILES).then(|| args.out.join(format!("sweep-{number}.toml")));
        if let Some(file) = &file {
            save(file, &Cluster.write(&sweep.plan(*number)))?;
        }
        let faults = said(sweep, *number);
        let again = args.again(*number);
        if args.json {
            broken.push(json!({
                "run": number, "faults": faults, "violation": outcome.violation,
                "scenario": file, "replay": again,
            }));
            continue;
        }
        if let Some(v) = &outcome.violation {
            line(v);
        }
        let version = env!("CARGO_PKG_VERSION");
        line(format_args!("  faults  {faults}"));
        line(format_args!(
            "  run {number}, seed {}, version {version}",
            outcome.seed
        ));
        line(format_args!("  again: {again}"));
        if let Some(file) = file {
            line(format_args!("  as a scenario: {}", file.display()));
        }
        line("");
    }
    let speed = swept.simulated as f64 / 1e9 / seconds;
    if args.json {
        line(json!({
            "nodes": args.nodes, "events": args.events, "seed": args.seed,
            "schedules": sweep.schedules(), "runs": swept.runs, "violations": broken,
            "things": swept.events, "seconds": seconds, "times_real_time": speed,
            "exposure": swept.exposure, "version": env!("CARGO_PKG_VERSION"),
        }));
        return Ok(());
    }
    line(format_args!(
        "{} schedules of up to {} faults on {} hosts, at {} paces: {} runs",
        sweep.schedules(),
        args.events,
        args.nodes,
        PACES.len(),
        swept.runs
    ));
    line(format_args!("exposure: {}", swept.exposure));
    line(format_args!(
        "{} violations; {} events, {seconds:.1} s, {speed:.0} times real time",
        swept.broken.len(),
        swept.events
    ));
    Ok(())
}

fn save(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))
}
