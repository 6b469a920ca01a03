//! `cuts`: how far failures of planted bugs are cut down, compared with the least that is known.
//!
//! What is known of a failure is its own cut, and what other failures of the same bug came to: those
//! faults are tried in the world of this one, which may have more voters or steadier processes, under
//! many seeds. If the same promise breaks there, so few faults are known to be enough.

use super::{chosen, line};
use crate::harness::{Mixed, RUNS, Subject, Way, run, shrink};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures whose known minimum has more faults than this are listed and not counted.
const SMALL: usize = 5;

/// Seeds under which the faults of another failure are tried.
const TRIES: u64 = 200;

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
    /// So few are known to be enough in its world.
    known: usize,
    runs: u32,
    seconds: f64,
}

impl Cut {
    fn words(&self) -> String {
        let fewer = format!(" (known: {})", self.known);
        let fewer = if self.known < self.after { &fewer } else { "" };
        let Cut { property, seed, .. } = self;
        format!(
            "{property} {seed}: {} to {}{fewer}",
            self.before, self.after
        )
    }
}

impl Row {
    /// Says what came of it, at once: the whole takes long.
    fn print(&self) {
        let words: Vec<String> = self.cuts.iter().map(Cut::words).collect();
        let words = if words.is_empty() {
            "no failure found".to_owned()
        } else {
            words.join(", ")
        };
        line(format_args!("{:<28} {words}", self.bug));
    }
}

/// Cuts failures of each bug down.
pub(super) fn cuts<S: Subject>(subject: &S, args: &Cuts) -> Result<ExitCode, String> {
    let bugs = chosen(subject, &args.only, "cuts")?;
    std::panic::set_hook(Box::new(|_| {}));
    // A bug is planted in one thread: each takes the next one that nobody has taken.
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(BTreeMap::new());
    let work = || {
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some((name, _)) = bugs.get(at)
        {
            let row = cut(subject, name, args);
            if !args.json {
                row.print();
            }
            let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
            rows.insert(at, row);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    let rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    let rows: Vec<Row> = rows.into_values().collect();
    sum(&rows, args.json);
    Ok(ExitCode::SUCCESS)
}

/// Cuts down the first failures of one bug, in the first way that has any.
fn cut<S: Subject>(subject: &S, bug: &'static str, args: &Cuts) -> Row {
    let mut row = Row {
        bug,
        cuts: Vec::new(),
    };
    subject.plant(Some(bug));
    for way in subject.ways(bug) {
        let mix = match way {
            Way::Swarm => None,
            Way::Mix(mix) => Some(mix),
            // A story is as small as its author made it.
            Way::Story(..) => continue,
        };
        let subject = &Mixed { subject, mix };
        let mut from = 1;
        let mut plans = Vec::new();
        for _ in 0..args.each {
            let patience = Duration::from_secs(args.seconds);
            let Some(seed) = failing(subject, from, patience) else {
                break;
            };
            from = seed + 1;
            let begun = Instant::now();
            let shrunk = shrink(subject, &subject.draw(seed), RUNS, |_, _| {});
            if let Some((s, v)) = shrunk
                .as_ref()
                .and_then(|s| Some((s, s.outcome.violation.as_ref()?)))
            {
                row.cuts.push(Cut {
                    seed,
                    property: v.property,
                    before: s.faults.0,
                    after: s.faults.1,
                    known: s.faults.1,
                    runs: s.runs,
                    seconds: begun.elapsed().as_secs_f64(),
                });
                plans.push(s.plan.clone());
            }
        }
        known(subject, bug, &mut row.cuts, &plans);
        if !row.cuts.is_empty() {
            break;
        }
    }
    subject.plant(None);
    row
}

/// Finds out how few faults are known to be enough for each failure: tries the smaller cuts, which
/// are `plans`, in its world.
fn known<S: Subject>(subject: &S, bug: &'static str, cuts: &mut [Cut], plans: &[S::Plan]) {
    let came_to: Vec<_> = cuts.iter().map(|c| (c.property, c.after)).collect();
    for cut in cuts {
        let world = subject.draw(cut.seed);
        for (donor, (property, after)) in plans.iter().zip(&came_to) {
            let smaller = *property == cut.property && *after < cut.known;
            let grafted = smaller.then(|| subject.graft(&world, donor)).flatten();
            if grafted.is_some_and(|plan| is_enough(subject, bug, &plan, property)) {
                cut.known = *after;
            }
        }
    }
}

/// Whether a plan breaks this promise, under some seed, for the bug that is planted.
fn is_enough<S: Subject>(subject: &S, bug: &'static str, plan: &S::Plan, property: &str) -> bool {
    let breaks = |seed: &u64| {
        let tried = subject.with_seed(plan, *seed);
        tried.is_some_and(|p| broken(subject, &p) == Some(property))
    };
    let Some(seed) = (1..=TRIES).find(breaks) else {
        return false;
    };
    // What breaks without the bug as well says nothing.
    subject.plant(None);
    let sound = !breaks(&seed);
    subject.plant(Some(bug));
    sound
}

/// The promise that a plan breaks.
fn broken<S: Subject>(subject: &S, plan: &S::Plan) -> Option<&'static str> {
    run(subject, plan, false).violation.map(|v| v.property)
}

/// The first seed from `from` on that breaks a promise, if one is found in time.
fn failing<S: Subject>(subject: &S, from: u64, patience: Duration) -> Option<u64> {
    let begun = Instant::now();
    let seeds = (from..).take_while(|_| begun.elapsed() < patience);
    let fails = |seed: &u64| broken(subject, &subject.draw(*seed)).is_some();
    seeds.into_iter().find(fails)
}

/// Compares every failure with the least that is known to be enough for it, and with the least that
/// any failure of its bug and promise came to, in whatever world.
fn sum(rows: &[Row], json: bool) {
    let least = |row: &Row, c: &Cut| {
        let same = row.cuts.iter().filter(|d| d.property == c.property);
        same.map(|d| d.after).min().unwrap_or(0)
    };
    let mut small: Vec<(usize, usize, usize)> = Vec::new();
    for row in rows {
        small.extend(row.cuts.iter().map(|c| (c.after, c.known, least(row, c))));
    }
    small.retain(|(_, known, _)| *known <= SMALL);
    let share = |near: &dyn Fn(&(usize, usize, usize)) -> bool| {
        100.0 * small.iter().filter(|x| near(x)).count() as f64 / small.len().max(1) as f64
    };
    let near = share(&|(after, known, _)| *after <= known + 1);
    let strict = share(&|(after, _, least)| *after <= least + 1);
    let mut sizes: Vec<usize> = small.iter().map(|(after, ..)| *after).collect();
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
    if json {
        line(serde_json::json!({
            "bugs": rows, "failures": small.len(), "within_one_percent": near,
            "within_one_of_any_world_percent": strict,
            "median_faults": median, "median_seconds": middle, "longest_seconds": longest,
        }));
    } else {
        line(format_args!(
            "{} failures for which {SMALL} faults or fewer are known to be enough: {near:.0} % came to \
             that or one more\n({strict:.0} % to the least of any world or one more); median {median} \
             faults; {middle:.1} s, at most {longest:.1} s",
            small.len()
        ));
    }
}
