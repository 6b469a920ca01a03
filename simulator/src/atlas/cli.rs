//! `atlas`: the command.

use super::graph::{self, Case};
use super::{Atlas, Start, Trial, Worst, survey, trial};
use crate::cluster::Cluster;
use crate::harness::Subject;
use crate::harness::cli::{bug, line, program};
use clap::Args;
use serde_json::json;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Instant;

/// Which atlas, and how.
#[derive(Debug, Args)]
pub struct AtlasArgs {
    /// Voters: 2 to 5.
    #[arg(value_parser = clap::value_parser!(u8).range(graph::NODES.0 as i64..=graph::NODES.1 as i64))]
    nodes: u8,
    /// Threads; as many as there are cores if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Run this case alone, as a disagreement names it.
    #[arg(long, value_name = "CASE")]
    only: Option<Case>,
    /// Only the K-th of every M cases: an M-th of the atlas, evenly spread.
    #[arg(long, value_name = "K/M", value_parser = part, conflicts_with = "only")]
    part: Option<(usize, usize)>,
    /// With --only: print one line per event.
    #[arg(long, requires = "only")]
    trace: bool,
    /// With --only: print the case as a scenario file and run nothing.
    #[arg(long, requires = "only")]
    scenario: bool,
    /// Simulated seconds after the cut.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..=86_400))]
    seconds: u64,
    /// Feeds every random stream; another one has another leader and other delays.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Plant this bug first (needs a build with the feature `mutants`).
    #[arg(long)]
    bug: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl AtlasArgs {
    /// The command that runs a case again.
    fn again(&self, case: Case) -> String {
        let mut text = format!("{} atlas {} --only {case}", program(), self.nodes);
        if self.seed != 1 {
            text += &format!(" --seed {}", self.seed);
        }
        if self.seconds != 60 {
            text += &format!(" --seconds {}", self.seconds);
        }
        if let Some(bug) = &self.bug {
            text += &format!(" --bug {bug}");
        }
        text
    }
}

/// Reads K/M.
pub(crate) fn part(text: &str) -> Result<(usize, usize), String> {
    let numbers = text.split_once('/');
    let numbers = numbers.and_then(|(k, m)| Some((k.parse().ok()?, m.parse().ok()?)));
    let fits = |(k, m): &(usize, usize)| (1..=*m).contains(k);
    let wrong = || "two whole numbers K/M, K from 1 to M".to_owned();
    numbers.filter(fits).ok_or_else(wrong)
}

/// Makes the atlas.
///
/// # Errors
/// The case is one of another atlas, or no cluster forms.
pub fn chart(args: &AtlasArgs) -> Result<ExitCode, String> {
    let nodes = usize::from(args.nodes);
    if let Some(case) = args.only.filter(|c| c.graph.nodes() != nodes) {
        let has = case.graph.nodes();
        return Err(format!(
            "--only {case}: it has {has} nodes, the atlas {nodes}"
        ));
    }
    let planted = bug(&Cluster, args.bug.as_deref())?;
    let start = Start::new(nodes, args.seed)?;
    Cluster.plant(planted);
    match args.only {
        Some(case) => Ok(one(args, &start, case)),
        None => all(args, &start, planted),
    }
}

fn one(args: &AtlasArgs, start: &Start, case: Case) -> ExitCode {
    if args.scenario {
        line(Cluster.write(&start.plan(case, args.seconds)).trim_end());
        return ExitCode::SUCCESS;
    }
    let done = trial(start, case, args.seconds, args.trace);
    for text in &done.outcome.trace {
        line(text);
    }
    let broken = done.outcome.violation.is_some();
    if args.json {
        line(described(args, start, &done));
    } else if broken {
        drawn(args, start, &done);
    } else {
        line(format_args!("{case} agrees with the oracle"));
        graph_of(start, &done);
        let took = done.took;
        if done.forecast.hub.is_some() {
            line(format_args!(
                "  {} terms, a coordinator for good after {:.2} s, longest without an entry {:.2} s",
                took.terms,
                took.acting as f64 / 1e9,
                took.still as f64 / 1e9
            ));
        }
        line(format_args!("hash {:016x}", done.outcome.hash));
    }
    ExitCode::from(u8::from(broken))
}

fn all(args: &AtlasArgs, start: &Start, planted: Option<&'static str>) -> Result<ExitCode, String> {
    let begun = Instant::now();
    let all = graph::cases(args.nodes.into());
    graph::complete(&all)?;
    let graphs = all.chunk_by(|a, b| a.graph == b.graph).count();
    let (first, every) = args.part.unwrap_or((1, 1));
    let cases: Vec<Case> = all.into_iter().skip(first - 1).step_by(every).collect();
    if cases.is_empty() {
        return Err(format!("--part {first}/{every}: no case is in it"));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.map_or(cores, usize::from);
    let loud = std::io::stderr().is_terminal() && !args.json;
    // A panic of the code under test is a finding and is printed as one.
    std::panic::set_hook(Box::new(|_| {}));
    let found = survey(start, &cases, args.seconds, jobs, planted, |done| {
        if loud && done % 16 == 0 {
            let share = done * 40 / cases.len();
            let rate = done as f64 / begun.elapsed().as_secs_f64().max(0.001);
            let left = (cases.len() - done) as f64 / rate;
            eprint!(
                "\r[{:<40}] {done} of {} cases, {left:.0} s left ",
                "#".repeat(share),
                cases.len()
            );
        }
    });
    if loud {
        eprint!("\r{:90}\r", "");
    }
    let seconds = begun.elapsed().as_secs_f64().max(0.001);
    if args.json {
        summed(args, start, &found, graphs, seconds);
    } else {
        told(args, start, &found, graphs, seconds);
    }
    Ok(ExitCode::from(u8::from(!found.disagreements.is_empty())))
}

/// The result as JSON, on one line.
fn summed(args: &AtlasArgs, start: &Start, found: &Atlas, graphs: usize, seconds: f64) {
    let worst = |w: Worst| {
        w.0.map(|(v, case)| json!({"value": v, "case": case.to_string()}))
    };
    let wrong = found.disagreements.iter();
    let wrong: Vec<_> = wrong.map(|t| described(args, start, t)).collect();
    line(json!({
        "nodes": args.nodes, "seed": args.seed, "graphs": graphs, "cases": found.cases,
        "available": found.available, "unavailable": found.cases - found.available,
        "disagreements": wrong, "events": found.events, "seconds": seconds,
        "simulated_seconds": found.simulated as f64 / 1e9, "exposure": found.exposure,
        "longest_without_coordinator_ns": worst(found.acting),
        "longest_without_entry_ns": worst(found.still), "most_terms": worst(found.terms),
        "longest_over_ns": worst(found.over),
        "cases_with_unreached": found.unreached.0, "most_unreached": worst(found.unreached.1),
        "version": env!("CARGO_PKG_VERSION"),
    }));
}

/// The result for people.
fn told(args: &AtlasArgs, start: &Start, found: &Atlas, graphs: usize, seconds: f64) {
    for t in &found.disagreements {
        drawn(args, start, t);
        line("");
    }
    let part = args.part.map(|(k, m)| format!(" (part {k} of {m})"));
    line(format_args!(
        "{} voters: {graphs} graphs, {} cases{} with their leaders; {} must work, {} must not",
        args.nodes,
        found.cases,
        part.unwrap_or_default(),
        found.available,
        found.cases - found.available
    ));
    let time = |w: Worst| w.0.map(|(v, case)| (v as f64 / 1e9, case));
    if let Some((s, case)) = time(found.acting) {
        line(format_args!(
            "longest without a coordinator: {s:.2} s after the cut ({case})"
        ));
    }
    if let Some((s, case)) = time(found.still) {
        line(format_args!(
            "longest without a fresh entry: {s:.2} s ({case})"
        ));
    }
    if let Some((n, case)) = found.terms.0 {
        line(format_args!("most terms after the cut: {n} ({case})"));
    }
    if let Some((s, case)) = time(found.over) {
        line(format_args!(
            "longest that anybody acted without a quorum: {s:.2} s ({case})"
        ));
    }
    if let (cases, Some((_, case))) = (found.unreached.0, found.unreached.1.0) {
        line(format_args!(
            "{cases} cases have a host that keeps its lease and is too far from the leader for the log ({case})"
        ));
    }
    line(format_args!("exposure: {}", found.exposure));
    line(format_args!(
        "{} disagreements; {} events, {seconds:.1} s, {:.0} times real time",
        found.disagreements.len(),
        found.events,
        found.simulated as f64 / 1e9 / seconds
    ));
}

/// A disagreement, with its graph and the commands to look at it.
fn drawn(args: &AtlasArgs, start: &Start, t: &Trial) {
    if let Some(v) = &t.outcome.violation {
        line(v);
    }
    graph_of(start, t);
    let again = args.again(t.case);
    let version = env!("CARGO_PKG_VERSION");
    line(format_args!(
        "  case {}, seed {}, version {version}",
        t.case, args.seed
    ));
    line(format_args!("  again: {again} --trace"));
    line(format_args!("  as a scenario: {again} --scenario"));
}

/// The links as the hosts have them: who reaches whom.
fn graph_of(start: &Start, t: &Trial) {
    let hosts = start.hosts(t.case);
    let graph = t.case.graph.renamed(&hosts);
    line(format_args!("  links  {graph}"));
    let head: Vec<String> = (1..=graph.nodes()).map(|n| format!("h{n}")).collect();
    line(format_args!("         to {}", head.join(" ")));
    for from in 0..graph.nodes() {
        let cell = |to: usize| match (from == to, graph.passes(from, to)) {
            (true, _) => " .",
            (_, true) => " x",
            _ => "  ",
        };
        let row: Vec<&str> = (0..graph.nodes()).map(cell).collect();
        let leads = from == hosts[t.case.leader];
        let leads = if leads { "  led at first" } else { "" };
        line(format_args!(
            "  from h{} {}{leads}",
            from + 1,
            row.join(" ")
        ));
    }
}

fn described(args: &AtlasArgs, start: &Start, t: &Trial) -> serde_json::Value {
    let hosts = start.hosts(t.case);
    json!({
        "case": t.case.to_string(), "leader": hosts[t.case.leader] + 1,
        "links": t.case.graph.renamed(&hosts).to_string(),
        "must_work": t.forecast.hub.is_some(), "violation": t.outcome.violation,
        "terms": t.took.terms, "hash": format!("{:016x}", t.outcome.hash),
        "replay": format!("{} --trace", args.again(t.case)),
    })
}
