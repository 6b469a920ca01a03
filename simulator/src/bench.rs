//! `quorate-sim bench`: how fast the harness runs our cluster, in CPU time, so that a busy machine
//! costs no figure.

use crate::cluster::{Cluster, Plan};
use crate::harness::cli::line;
use crate::harness::{Hunt, Order, Outcome, hunt, run};
use crate::world::SECOND;
use clap::Args;
use quorate_membership::Timing;
use std::process::ExitCode;

/// Virtual seconds a seed is counted as, whatever its plan lasts.
const SEED_SECONDS: f64 = 120.0;

/// What is measured.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Simulated seconds of the quiet clusters.
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u64).range(60..=864_000))]
    seconds: u64,
    /// Seeds of the hunt.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seeds: u64,
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
}

/// One line of the table.
struct Measured {
    name: &'static str,
    simulated: f64,
    events: u64,
    cpu: f64,
}

impl Measured {
    fn times_real_time(&self) -> f64 {
        self.simulated / self.cpu
    }
}

/// Measures.
///
/// # Errors
/// The machine does not tell CPU time, or a run breaks a promise.
pub fn bench(args: &BenchArgs) -> Result<ExitCode, String> {
    let quiet = |name, timing| -> Result<Measured, String> {
        let mut plan = Plan::new(1, 8, 5, 40);
        plan.timing = timing;
        plan.end = args.seconds * SECOND;
        let begun = cpu_seconds()?;
        let outcome = run(&Cluster, &plan, false);
        let cpu = cpu_seconds()? - begun;
        whole(&outcome)?;
        let simulated = outcome.ended as f64 / SECOND as f64;
        Ok(Measured {
            name,
            simulated,
            events: outcome.events,
            cpu: cpu.max(0.01),
        })
    };
    let lines = [
        quiet("quiet, default timing", Timing::default())?,
        quiet("quiet, fast timing", Timing::fast())?,
    ];
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let order = Order {
        seeds: 1..args.seeds + 1,
        jobs: cores,
        go_on: true,
        bug: None,
        mix: None,
    };
    let begun = cpu_seconds()?;
    let found = hunt(&Cluster, &order, Hunt::default(), 1, |_| (), |_, _| Ok(()))?;
    let cpu = (cpu_seconds()? - begun).max(0.01);
    if let Some(seed) = found.failure.map(|f| f.seed) {
        return Err(format!(
            "seed {seed} breaks a promise: quorate-sim replay {seed}"
        ));
    }
    let seeds = Measured {
        name: "hunt",
        simulated: found.simulated as f64 / SECOND as f64,
        events: found.events,
        cpu,
    };
    // Seeds of 120 s on all cores of this machine.
    let rate = seeds.times_real_time() / SEED_SECONDS * cores as f64;
    let all = lines.into_iter().chain([seeds]);
    if args.json {
        let rows: Vec<serde_json::Value> = all
            .map(|m| {
                serde_json::json!({
                    "name": m.name, "simulated_seconds": m.simulated, "events": m.events,
                    "cpu_seconds": m.cpu, "times_real_time": m.times_real_time(),
                    "events_per_cpu_second": m.events as f64 / m.cpu,
                })
            })
            .collect();
        line(serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"), "cores": cores, "runs": rows,
            "seeds_of_120_s_per_second": rate,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    line("8 hosts, 5 of them voters, 40 guests, all checkers on; the hunt as it draws them");
    for m in all {
        line(format_args!(
            "{:<22} {:>8.0} s simulated in {:>6.2} s of CPU: {:>6.0} times real time, {:>8.0} events a second",
            m.name,
            m.simulated,
            m.cpu,
            m.times_real_time(),
            m.events as f64 / m.cpu,
        ));
    }
    line(format_args!(
        "{rate:.0} seeds of 120 s a second on {cores} cores of CPU time"
    ));
    Ok(ExitCode::SUCCESS)
}

fn whole(outcome: &Outcome) -> Result<(), String> {
    match &outcome.violation {
        Some(v) => Err(format!("the quiet cluster breaks a promise: {v}")),
        None => Ok(()),
    }
}

/// CPU time of this process so far: user and system, all threads.
fn cpu_seconds() -> Result<f64, String> {
    let file = "/proc/self/stat";
    let text = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
    parse_cpu(&text).ok_or(format!("{file}: no CPU times in {text:?}"))
}

/// Fields 14 and 15, in ticks of 10 ms; the name in field 2 may hold anything, brackets too.
fn parse_cpu(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let stat = "12 (a) b) R 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20";
        assert_eq!(parse_cpu(stat), Some(3.0));
        assert_eq!(parse_cpu("12 (x) R 1"), None);
        assert!(cpu_seconds().is_ok());
    }
}
