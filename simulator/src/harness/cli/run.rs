//! `run` and `replay`: one run, looked at.

use super::{Again, Source, bug, mix, print, program};
use crate::harness::{Mixed, Subject, run as play};
use clap::Args;
use std::process::ExitCode;

/// A scenario file.
#[derive(Debug, Args)]
pub struct Run {
    /// The scenario.
    file: String,
    /// Print one line per event.
    #[arg(long)]
    trace: bool,
    /// Print the verdict as JSON.
    #[arg(long)]
    json: bool,
    /// Plant this bug first.
    #[arg(long)]
    bug: Option<String>,
}

/// A seed.
#[derive(Debug, Args)]
pub struct Replay {
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
    /// The mix it was drawn from, if not the swarm.
    #[arg(long)]
    mix: Option<String>,
}

/// Runs a scenario file.
pub(super) fn run<S: Subject>(subject: &S, args: &Run) -> Result<ExitCode, String> {
    let planted = bug(subject, args.bug.as_deref())?;
    let plan = read(subject, &args.file)?;
    subject.plant(planted);
    let outcome = play(subject, &plan, args.trace);
    let source = Source::File(args.file.clone());
    Ok(print(&outcome, args.json, &Again::of(&source, planted)))
}

/// Reads a scenario file into a plan.
pub(super) fn read<S: Subject>(subject: &S, file: &str) -> Result<S::Plan, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
    subject.read(file, &text).map_err(|e| e.to_string())
}

/// Runs one seed again.
pub(super) fn replay<S: Subject>(subject: &S, args: &Replay) -> Result<ExitCode, String> {
    let planted = bug(subject, args.bug.as_deref())?;
    subject.plant(planted);
    let mix = mix(subject, args.mix.as_deref())?;
    let subject = &Mixed { subject, mix };
    let outcome = play(subject, &subject.draw(args.seed), args.trace);
    let source = Source::Seed(args.mix.clone(), args.seed);
    Ok(print(&outcome, args.json, &Again::of(&source, planted)))
}

/// The command that runs a seed again.
pub(super) fn again(seed: u64, mix: Option<&str>, bug: Option<&str>) -> String {
    let mix = mix.map_or(String::new(), |m| format!(" --mix {m}"));
    format!("{} replay {seed}{mix}{} --trace", program(), with(bug))
}

/// The words that plant a bug again.
pub(super) fn with(bug: Option<&str>) -> String {
    bug.map_or(String::new(), |b| format!(" --bug {b}"))
}
