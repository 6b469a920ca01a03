//! `mutants`: every planted bug is looked for until it is found or the time is up.

use super::{chosen, line};
use crate::harness::{Hunt, Mixed, Order, Subject, Way, hunt, run};
use clap::Args;
use serde::Serialize;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Which bugs, and for how long.
#[derive(Debug, Args)]
pub struct Mutants {
    /// Seconds spent on each way to look for one bug.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Only this bug; may be given more than once.
    #[arg(long)]
    only: Vec<String>,
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
    /// Threads; as many as there are cores if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
}

/// What came of one bug.
#[derive(Debug, Serialize)]
struct Row {
    bug: &'static str,
    /// Promises it should break, as its meaning begins.
    promise: &'static str,
    /// What broke.
    broke: Option<String>,
    /// The last way that was tried.
    by: String,
    seed: Option<u64>,
    seeds: u64,
    seconds: f64,
}

/// Plants each bug in turn.
pub(super) fn mutants<S: Subject>(subject: &S, args: &Mutants) -> Result<ExitCode, String> {
    let bugs = chosen(subject, &args.only, "mutants")?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.map_or(cores, usize::from);
    let loud = std::io::stderr().is_terminal();
    // A panic of the code under test is a finding and is printed as one.
    std::panic::set_hook(Box::new(|_| {}));
    if !args.json {
        line(format_args!(
            "{:<28} {:<10} {:<12} {:<46} {:>6} {:>6} {:>8}",
            "bug", "promise", "broke", "by", "seed", "seeds", "seconds"
        ));
    }
    let mut rows = Vec::new();
    for (name, meaning) in bugs {
        if loud {
            eprint!("\r{:60}\r{name} ...", "");
        }
        let row = find(subject, (name, meaning), args.seconds, jobs)?;
        if loud {
            eprint!("\r{:60}\r", "");
        }
        if !args.json {
            print(&row);
        }
        rows.push(row);
    }
    let found = rows.iter().filter(|r| r.broke.is_some()).count();
    if args.json {
        line(serde_json::json!({ "bugs": rows, "found": found, "planted": rows.len() }));
    } else {
        line(format_args!("{found} of {} planted bugs found", rows.len()));
    }
    Ok(ExitCode::from(u8::from(found < rows.len())))
}

/// Tries every way to find one bug.
fn find<S: Subject>(
    subject: &S,
    (bug, meaning): (&'static str, &'static str),
    seconds: u64,
    jobs: usize,
) -> Result<Row, String> {
    let begun = Instant::now();
    let mut row = Row {
        bug,
        promise: meaning.split_once(':').map_or("", |(promise, _)| promise),
        broke: None,
        by: String::new(),
        seed: None,
        seeds: 0,
        seconds: 0.0,
    };
    for way in subject.ways(bug) {
        let limit = Duration::from_secs(seconds);
        let (by, seeds, broken) = match way {
            Way::Swarm => {
                let (seeds, broken) = search(subject, None, bug, limit, jobs)?;
                ("swarm".to_owned(), seeds, broken)
            }
            Way::Mix(mix) => {
                let (seeds, broken) = search(subject, Some(mix), bug, limit, jobs)?;
                (format!("mix {mix}"), seeds, broken)
            }
            Way::Story(file, text) => {
                let name = file.rsplit('/').next().unwrap_or(file);
                (name.to_owned(), 1, tell(subject, file, text, bug))
            }
        };
        row.by = by;
        row.seeds += seeds;
        if let Some((property, seed)) = broken {
            (row.broke, row.seed) = (Some(property), Some(seed));
            break;
        }
    }
    row.seconds = begun.elapsed().as_secs_f64();
    Ok(row)
}

/// Hunts until a promise breaks or the time is up; gives the seeds run, the promise and the lowest
/// seed that broke it.
fn search<S: Subject>(
    subject: &S,
    mix: Option<&'static str>,
    bug: &'static str,
    limit: Duration,
    jobs: usize,
) -> Result<(u64, Option<(String, u64)>), String> {
    let begun = Instant::now();
    let subject = &Mixed { subject, mix };
    let step = 4 * jobs as u64;
    let mut all = Hunt::default();
    let mut next = 1;
    while all.failure.is_none() && begun.elapsed() < limit {
        let order = Order {
            seeds: next..next + step,
            jobs,
            go_on: false,
            bug: Some(bug),
            mix,
        };
        all = hunt(subject, &order, all, next, |_| (), |_, _| Ok(()))?;
        next += step;
    }
    let broken = all.failure.map(|f| (f.property, f.seed));
    Ok((all.seeds, broken))
}

/// Runs one scenario with the bug planted; a scenario that cannot be read finds nothing.
fn tell<S: Subject>(
    subject: &S,
    file: &str,
    text: &str,
    bug: &'static str,
) -> Option<(String, u64)> {
    let plan = match subject.read(file, text) {
        Ok(plan) => plan,
        Err(why) => {
            eprintln!("{why}");
            return None;
        }
    };
    subject.plant(Some(bug));
    let outcome = run(subject, &plan, false);
    subject.plant(None);
    let seed = outcome.seed;
    outcome.violation.map(|v| (v.property.to_owned(), seed))
}

fn print(row: &Row) {
    let seed = row.seed.map_or("-".to_owned(), |s| s.to_string());
    let broke = row.broke.as_deref().unwrap_or("NOT FOUND");
    line(format_args!(
        "{:<28} {:<10} {:<12} {:<46} {:>6} {:>6} {:>8.1}",
        row.bug, row.promise, broke, row.by, seed, row.seeds, row.seconds
    ));
}
