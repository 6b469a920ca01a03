//! The quorate-sim command: the harness for our own cluster, and what only it can do.

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use quorate_simulator::atlas::{self, AtlasArgs};
use quorate_simulator::cluster::Cluster;
use quorate_simulator::harness::Subject;
use quorate_simulator::harness::cli::{self, Verb};
use quorate_simulator::sweep::{self, SweepArgs};
use std::process::ExitCode;

/// Finds the schedule that breaks a promise, or shows that many do not.
///
/// Exit status: 0 nothing broken, 1 a promise or an expectation broken, 2 bad input.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    verb: Ours,
}

#[derive(Subcommand)]
enum Ours {
    #[command(flatten)]
    Any(Verb),
    /// Try every way in which links between N voters can be missing for good, with every leader.
    Atlas(AtlasArgs),
    /// Try every schedule of a few faults on a few hosts.
    Sweep(SweepArgs),
}

fn main() -> ExitCode {
    let command = Cli::command().mut_subcommand("run", |run| run.after_help(Cluster.words()));
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|wrong| wrong.exit());
    let done = match cli.verb {
        Ours::Any(verb) => return cli::obey(&Cluster, verb),
        Ours::Atlas(args) => atlas::chart(&args),
        Ours::Sweep(args) => sweep::sweep(&args),
    };
    done.unwrap_or_else(|why| {
        eprintln!("{why}");
        ExitCode::from(cli::BAD_INPUT)
    })
}
