//! `hunt`: many seeds.

use super::watch::Watch;
use super::{Again, Source, bug, line, mix, print, program, seeds};
use crate::harness::{
    DETERMINISM, Failure, Hunt, Mixed, Order, Outcome, Progress, Resume, Subject, hunt,
    read_resume, run,
};
use clap::Args;
use std::io::IsTerminal;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

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
    /// Plant this bug first (`bugs` lists those that this build can carry).
    #[arg(long)]
    bug: Option<String>,
    /// Draw from this mix of faults (`bugs` lists them) instead of the swarm.
    #[arg(long)]
    mix: Option<String>,
    /// Threads; as many as there are cores if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Seconds one run may take before it counts as one that never ends.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    run_limit: u64,
    /// Keep the state of the hunt in this file, and go on where it says.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
}

/// Hunts.
pub(super) fn chase<S: Subject>(subject: &S, args: &HuntArgs) -> Result<ExitCode, String> {
    let mix = mix(subject, args.mix.as_deref())?;
    let subject = &Mixed { subject, mix };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let order = Order {
        seeds: args.seeds.clone(),
        jobs: args.jobs.map_or(cores, usize::from),
        go_on: args.keep_going,
        bug: bug(subject, args.bug.as_deref())?,
        mix,
    };
    let path = PathBuf::from(program());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = format!("{name} {}", env!("CARGO_PKG_VERSION"));
    let (mut total, mut from) = (Hunt::default(), order.seeds.start);
    if let Some(file) = &args.resume
        && let Some(state) = read_resume(&name, &order, file)?
    {
        (total, from) = (state.found, state.next);
    }
    // A panic of the code under test is a finding and is printed as one.
    std::panic::set_hook(Box::new(|_| {}));
    let bar = Bar::new(&order, from, args.json);
    let longest = Duration::from_secs(args.run_limit);
    let watch = Watch::new(&order, longest);
    let begun = Instant::now();
    let before = (total.seeds, total.simulated);
    let (over, told) = mpsc::channel();
    let found = std::thread::scope(|scope| {
        let watching = &watch;
        let (mix, bug) = (&args.mix, order.bug);
        scope.spawn(move || watching.look(&told, mix, bug));
        let found = hunt(
            subject,
            &order,
            total,
            from,
            |progress| {
                watch.heard(progress);
                if matches!(progress, Progress::Done { .. }) {
                    bar.one();
                }
            },
            |found, next| match &args.resume {
                Some(file) => Resume::new(&name, &order, next, found).write(file),
                None => Ok(()),
            },
        );
        drop::<mpsc::Sender<()>>(over);
        found
    });
    bar.end();
    let found = found?;
    if let Some(failure) = &found.failure {
        subject.plant(order.bug);
        let again = run(subject, &subject.draw(failure.seed), false);
        fails(&found, failure, &again, args, order.bug);
        return Ok(ExitCode::FAILURE);
    }
    let seconds = begun.elapsed().as_secs_f64().max(0.001);
    let speed = (found.simulated - before.1) as f64 / 1e9 / seconds;
    let rate = (found.seeds - before.0) as f64 / seconds;
    if args.json {
        line(serde_json::json!({
            "seeds": found.seeds, "violation": null, "events": found.events, "seconds": seconds,
            "seeds_per_second": rate, "times_real_time": speed, "exposure": found.exposure,
        }));
    } else {
        line(format_args!(
            "{} seeds clean: {} events; {seconds:.1} s, {rate:.0} seeds a second, {speed:.0} times real time",
            found.seeds, found.events
        ));
        line(&found.exposure);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what a hunt found. Its first failure was run again: a run that does not repeat is a finding
/// too, and is never taken for a clean one.
fn fails(found: &Hunt, failure: &Failure, again: &Outcome, args: &HuntArgs, bug: Option<&str>) {
    let same = again.hash == failure.hash && failure.property != DETERMINISM;
    let source = Source::Seed(args.mix.clone(), failure.seed);
    let commands = Again::of(&source, bug);
    let diff = format!("{} diff {source}", program());
    if args.json {
        let kinds = found.kinds.iter().map(|(kind, (count, first))| {
            serde_json::json!({ "promise": kind, "count": count, "first_seed": first })
        });
        line(serde_json::json!({
            "seeds": found.seeds, "kinds": kinds.collect::<Vec<_>>(), "seed": failure.seed,
            "promise": failure.property, "repeated": same, "violation": again.violation,
            "hash": format!("{:016x}", failure.hash), "events": found.events,
            "exposure": found.exposure, "version": env!("CARGO_PKG_VERSION"),
            "replay": commands.replay, "shrink": commands.shrink, "view": commands.view,
            "diff": diff,
        }));
        return;
    }
    line(format_args!("after {} seeds:", found.seeds));
    for (kind, (count, first)) in &found.kinds {
        line(format_args!("{count:>6} x {kind}, first by seed {first}"));
    }
    if same {
        print(again, false, &commands);
    } else if failure.property == DETERMINISM {
        line(format_args!(
            "seed {}: two runs of one plan differ: what is run is not deterministic\n  see: {diff}",
            failure.seed
        ));
    } else {
        line(format_args!(
            "seed {} broke {}, and another run of it {}: what is run is not deterministic\n  see: {diff}",
            failure.seed,
            failure.property,
            match &again.violation {
                Some(v) => format!("broke {} in another way", v.property),
                None => "broke nothing".to_owned(),
            }
        ));
    }
}

/// The line on a terminal that says how far a hunt has come.
struct Bar {
    done: AtomicU64,
    /// Seeds done before this begun, and all.
    before: u64,
    all: u64,
    begun: Instant,
    loud: bool,
}

impl Bar {
    fn new(order: &Order, from: u64, json: bool) -> Bar {
        Bar {
            done: AtomicU64::new(0),
            before: from - order.seeds.start,
            all: order.seeds.end - order.seeds.start,
            begun: Instant::now(),
            loud: std::io::stderr().is_terminal() && !json,
        }
    }

    fn one(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if !self.loud || !done.is_multiple_of(16) {
            return;
        }
        let rate = done as f64 / self.begun.elapsed().as_secs_f64().max(0.001);
        let far = self.before + done;
        let left = (self.all - far) as f64 / rate.max(0.001);
        let full = (far * 20 / self.all.max(1)) as usize;
        eprint!(
            "\r[{:<20}] {far} of {} seeds, {rate:.0} a second, {left:.0} s left ",
            "#".repeat(full),
            self.all
        );
    }

    fn end(&self) {
        if self.loud {
            eprint!("\r{:79}\r", "");
        }
    }
}
