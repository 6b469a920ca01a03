//! `cuts`: how far failures of planted bugs are cut down, compared with the least that is known.

use super::{bug, line};
use crate::harness::{Hunt, Mixed, Order, RUNS, Subject, Way, hunt, shrink};
use clap::Args;
use serde::Serialize;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Failures whose known minimum has more faults than this are listed and not counted.
const SMALL: usize = 5;

/// How many failures, and which.
#[derive(Debug, Args)]
pub struct Cuts {
    /// Failing seeds of each bug that are cut down.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    each: u32,
    /// Seconds spent on finding each of them.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Only this bug; may be given more than once.
    #[arg(long)]
    only: Vec<String>,
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
}

/// What came of one bug.
#[derive(Debug, Default, Serialize)]
struct Row {
    bug: &'static str,
    /// Seed, property, faults before and after, runs, seconds.
    cuts: Vec<Cut>,
}

#[derive(Debug, Serialize)]
struct Cut {
    seed: u64,
    property: &'static str,
    before: usize,
    after: usize,
    runs: u32,
    seconds: f64,
}

/// Cuts failures of each bug down.
pub(super) fn cuts<S: Subject>(subject: &S, args: &Cuts) -> Result<ExitCode, String> {
    let mut chosen = Vec::new();
    for name in &args.only {
        let known = bug(subject, Some(name)).map_err(|why| why.replacen("--bug", "--only", 1))?;
        chosen.extend(known);
    }
    if let Some(why) = subject.unplantable() {
        return Err(format!("cuts: {why}"));
    }
    let loud = std::io::stderr().is_terminal();
    std::panic::set_hook(Box::new(|_| {}));
    let mut rows = Vec::new();
    for (name, _) in subject.bugs() {
        if !chosen.is_empty() && !chosen.contains(&name) {
            continue;
        }
        if loud {
            eprint!("\r{:60}\r{name} ...", "");
        }
        let row = cut(subject, name, args)?;
        if loud {
            eprint!("\r{:60}\r", "");
        }
        if !args.json && !row.cuts.is_empty() {
            let words: Vec<String> = row
                .cuts
                .iter()
                .map(|c| format!("{} {}: {} to {}", c.property, c.seed, c.before, c.after))
                .collect();
            line(format_args!("{name:<28} {}", words.join(", ")));
        }
        rows.push(row);
    }
    sum(&rows, args.json);
    Ok(ExitCode::SUCCESS)
}

/// Cuts down the first failures of one bug, in the first way that has any.
fn cut<S: Subject>(subject: &S, bug: &'static str, args: &Cuts) -> Result<Row, String> {
    let mut row = Row {
        bug,
        cuts: Vec::new(),
    };
    for way in subject.ways(bug) {
        let mix = match way {
            Way::Swarm => None,
            Way::Mix(mix) => Some(mix),
            // A story is as small as its author made it.
            Way::Story(..) => continue,
        };
        let subject = &Mixed { subject, mix };
        let mut next = 1;
        for _ in 0..args.each {
            let Some(seed) = failing(subject, bug, next, args.seconds)? else {
                break;
            };
            next = seed + 1;
            let begun = Instant::now();
            subject.plant(Some(bug));
            let shrunk = shrink(subject, &subject.draw(seed), RUNS, |_, _| {});
            subject.plant(None);
            if let Some((s, v)) = shrunk
                .as_ref()
                .and_then(|s| Some((s, s.outcome.violation.as_ref()?)))
            {
                row.cuts.push(Cut {
                    seed,
                    property: v.property,
                    before: s.faults.0,
                    after: s.faults.1,
                    runs: s.runs,
                    seconds: begun.elapsed().as_secs_f64(),
                });
            }
        }
        if !row.cuts.is_empty() {
            break;
        }
    }
    Ok(row)
}

/// The first seed from `next` on that breaks a promise with the bug planted.
fn failing<S: Subject>(
    subject: &Mixed<'_, S>,
    bug: &'static str,
    mut next: u64,
    seconds: u64,
) -> Result<Option<u64>, String> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        let order = Order {
            seeds: next..next + 4 * jobs as u64,
            jobs,
            go_on: true,
            bug: Some(bug),
            mix: subject.mix,
        };
        let found = hunt(subject, &order, Hunt::default(), next, || (), |_, _| Ok(()))?;
        if found.failure.is_some() {
            return Ok(found.failure);
        }
        next = order.seeds.end;
    }
    Ok(None)
}

/// Compares every failure with the least that any failure of its bug and promise came to.
fn sum(rows: &[Row], json: bool) {
    let least = |row: &Row, property: &str| {
        let same = row.cuts.iter().filter(|c| c.property == property);
        same.map(|c| c.after).min().unwrap_or(0)
    };
    let mut small: Vec<(usize, usize)> = Vec::new();
    for row in rows {
        for c in &row.cuts {
            small.push((c.after, least(row, c.property)));
        }
    }
    small.retain(|(_, least)| *least <= SMALL);
    let near = small
        .iter()
        .filter(|(after, least)| *after <= least + 1)
        .count();
    let mut sizes: Vec<usize> = small.iter().map(|(after, _)| *after).collect();
    sizes.sort_unstable();
    let median = sizes.get(sizes.len() / 2).copied().unwrap_or(0);
    let mut seconds: Vec<f64> = rows
        .iter()
        .flat_map(|r| &r.cuts)
        .map(|c| c.seconds)
        .collect();
    seconds.sort_unstable_by(f64::total_cmp);
    let middle = seconds.get(seconds.len() / 2).copied().unwrap_or(0.0);
    let longest = seconds.last().copied().unwrap_or(0.0);
    let share = 100.0 * near as f64 / small.len().max(1) as f64;
    if json {
        line(serde_json::json!({
            "bugs": rows, "failures": small.len(), "within_one_percent": share,
            "median_faults": median, "median_seconds": middle, "longest_seconds": longest,
        }));
    } else {
        line(format_args!(
            "{} failures whose least is {SMALL} faults or fewer: {share:.0} % came to that or one more; \
             median {median} faults; {middle:.1} s, at most {longest:.1} s",
            small.len()
        ));
    }
}
