//! The commands of the harness, the same for everything it can run.
//!
//! A program for a protocol of one's own is one line: [`main`] with its [`Subject`].

mod corpus;
mod cuts;
mod diff;
mod explain;
mod hashes;
mod hunt;
mod mutants;
mod print;
mod run;
mod shrink;
mod source;
mod view;
mod watch;

#[cfg(test)]
mod tests;

pub use print::{line, print};
pub use source::{Again, Source};

use super::Subject;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ops::Range;
use std::process::ExitCode;

/// Exit status of bad input.
pub const BAD_INPUT: u8 = 2;

/// Finds the schedule that breaks a promise, or shows that many do not.
///
/// Exit status: 0 nothing broken, 1 a promise or an expectation broken, 2 bad input.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// What every subject can be asked.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a scenario file.
    Run(run::Run),
    /// Run every scenario of a folder.
    Corpus(corpus::Corpus),
    /// Run many seeds, each with faults of its own.
    Hunt(hunt::HuntArgs),
    /// Run one seed of the hunt again.
    Replay(run::Replay),
    /// Cut a failing run down to a scenario of the few faults that matter.
    Shrink(shrink::ShrinkArgs),
    /// Print the run hash of seeds: the same in every build and every process.
    Hashes(hashes::Hashes),
    /// Draw a run: one page that needs no network.
    View(view::View),
    /// Say where two runs part.
    Diff(diff::Diff),
    /// Say what led to a broken promise.
    Explain(explain::Explain),
    /// List the bugs that can be planted, and the mixes of faults.
    Bugs,
    /// Plant each bug in turn and show that it is found (needs the feature `mutants`).
    Mutants(mutants::Mutants),
    /// Cut failures of planted bugs down and compare with the least that is known.
    Cuts(cuts::Cuts),
}

/// The whole program for one subject: reads the arguments, does it, says how it ended.
pub fn main<S: Subject>(subject: &S) -> ExitCode {
    let words = subject.words();
    let command = Cli::command().mut_subcommand("run", |run| run.after_help(words));
    match Cli::from_arg_matches(&command.get_matches()) {
        Ok(cli) => obey(subject, cli.verb),
        Err(wrong) => wrong.exit(),
    }
}

/// Does what one verb says.
pub fn obey<S: Subject>(subject: &S, verb: Verb) -> ExitCode {
    let done = match verb {
        Verb::Run(args) => run::run(subject, &args),
        Verb::Corpus(args) => corpus::corpus(subject, &args),
        Verb::Hunt(args) => hunt::chase(subject, &args),
        Verb::Replay(args) => run::replay(subject, &args),
        Verb::Hashes(args) => Ok(hashes::hashes(subject, &args)),
        Verb::Shrink(args) => shrink::cut(subject, &args),
        Verb::View(args) => view::view(subject, &args),
        Verb::Diff(args) => diff::diff(subject, &args),
        Verb::Explain(args) => explain::show(subject, &args),
        Verb::Bugs => {
            for (name, what) in subject.bugs() {
                line(format_args!("{name:<28} {what}"));
            }
            for (name, what) in subject.mixes() {
                line(format_args!("--mix {name:<22} {what}"));
            }
            if let Some(why) = subject.unplantable() {
                line(format_args!("\n{why}"));
            }
            Ok(ExitCode::SUCCESS)
        }
        Verb::Cuts(args) => cuts::cuts(subject, &args),
        Verb::Mutants(args) => mutants::mutants(subject, &args),
    };
    done.unwrap_or_else(|why| {
        eprintln!("{why}");
        ExitCode::from(BAD_INPUT)
    })
}

/// This program as it was called, for commands that are printed.
#[must_use]
pub fn program() -> String {
    let path = std::env::args_os().next();
    path.map_or("quorate-sim".into(), |p| p.to_string_lossy().into_owned())
}

/// Reads a count or a range of seeds.
///
/// # Errors
/// What is allowed.
pub fn seeds(text: &str) -> Result<Range<u64>, String> {
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

/// The bug of that name.
///
/// # Errors
/// There is none of that name (with the names there are), or this build cannot carry any.
pub fn bug<S: Subject>(subject: &S, name: Option<&str>) -> Result<Option<&'static str>, String> {
    let Some(name) = name else { return Ok(None) };
    let bugs = subject.bugs();
    let Some((found, _)) = bugs.iter().find(|(n, _)| *n == name) else {
        let names: Vec<&str> = bugs.iter().map(|(n, _)| *n).collect();
        return Err(format!(
            "--bug {name:?} is unknown; allowed: {}",
            names.join(", ")
        ));
    };
    match subject.unplantable() {
        Some(why) => Err(format!("--bug {name}: {why}")),
        None => Ok(Some(found)),
    }
}

/// Name and meaning of the bugs of these names, or of all if none is named; for `command`.
fn chosen<S: Subject>(
    subject: &S,
    only: &[String],
    command: &str,
) -> Result<Vec<(&'static str, &'static str)>, String> {
    for name in only {
        bug(subject, Some(name)).map_err(|why| why.replacen("--bug", "--only", 1))?;
    }
    if let Some(why) = subject.unplantable() {
        return Err(format!("{command}: {why}"));
    }
    let mut bugs = subject.bugs();
    bugs.retain(|(name, _)| only.is_empty() || only.iter().any(|o| o == name));
    Ok(bugs)
}

/// The mix of that name.
///
/// # Errors
/// There is none of that name (with the names there are).
pub fn mix<S: Subject>(subject: &S, name: Option<&str>) -> Result<Option<&'static str>, String> {
    let Some(name) = name else { return Ok(None) };
    let mixes = subject.mixes();
    let names: Vec<&str> = mixes.iter().map(|(n, _)| *n).collect();
    match mixes.iter().find(|(n, _)| *n == name) {
        Some((found, _)) => Ok(Some(found)),
        None => Err(format!(
            "--mix {name:?} is unknown; allowed: {}",
            names.join(", ")
        )),
    }
}
