//! `shrink`: a failure cut down to a scenario.

use super::run::with;
use super::{Source, bug, line, program};
use crate::harness::{RUNS, Subject, shrink};
use clap::Args;
use std::io::IsTerminal;
use std::process::ExitCode;

/// Which failure, and where to put what is left.
#[derive(Debug, Args)]
pub struct ShrinkArgs {
    /// A seed of the hunt, or a scenario file.
    source: Source,
    /// Where the scenario goes; `shrunk-SEED.toml` if not given, `-` for standard output.
    #[arg(long, short)]
    output: Option<String>,
    /// Runs spent at most.
    #[arg(long, default_value_t = RUNS, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Print the verdict as JSON.
    #[arg(long)]
    json: bool,
    /// Plant this bug first.
    #[arg(long)]
    bug: Option<String>,
}

/// Shrinks.
pub(super) fn cut<S: Subject>(subject: &S, args: &ShrinkArgs) -> Result<ExitCode, String> {
    let planted = bug(subject, args.bug.as_deref())?;
    let plan = args.source.plan(subject)?;
    subject.plant(planted);
    std::panic::set_hook(Box::new(|_| {}));
    let loud = std::io::stderr().is_terminal();
    let shrunk = shrink(subject, &plan, args.runs, |runs, faults| {
        if loud && runs % 8 == 0 {
            eprint!("\r{runs} runs, {faults} faults left ");
        }
    });
    if loud {
        eprint!("\r{:60}\r", "");
    }
    let Some(shrunk) = shrunk else {
        let source = &args.source;
        return Err(format!(
            "{source} breaks no promise: there is nothing to cut down"
        ));
    };
    let Some(violation) = &shrunk.outcome.violation else {
        return Err("what was cut down breaks no promise".into());
    };
    let (before, after) = shrunk.faults;
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!(
        "# {}.\n# {}\n# {}\n# Cut down from {} by version {version}: {before} faults, now {after}.\n",
        format!("{} broken: {}", violation.property, violation.what).replace('\n', " "),
        violation.facts[0].replace('\n', " "),
        violation.facts[1].replace('\n', " "),
        match &args.source {
            super::Source::Seed(seed) => format!("seed {seed}"),
            super::Source::File(file) => file.clone(),
        },
    );
    if let Some(bug) = planted {
        text.push_str(&format!("# With the planted bug {bug}.\n"));
    }
    text.push_str(&subject.write(&shrunk.plan));
    let seed = subject.seed(&plan);
    let file = args.output.clone().unwrap_or(format!("shrunk-{seed}.toml"));
    if file == "-" {
        line(text.trim_end());
        return Ok(ExitCode::from(1));
    }
    std::fs::write(&file, &text).map_err(|e| format!("{file}: {e}"))?;
    let again = format!("{} run {file}{} --trace", program(), with(planted));
    let view = format!("{} view {file}{}", program(), with(planted));
    if args.json {
        line(serde_json::json!({
            "seed": seed, "violation": violation, "file": file, "faults_before": before,
            "faults_after": after, "runs": shrunk.runs, "version": version,
            "replay": again, "view": view,
        }));
    } else {
        line(violation);
        line(format_args!(
            "  {before} faults, cut down to {after} in {} runs: {file}",
            shrunk.runs
        ));
        line(format_args!("  again: {again}"));
        line(format_args!("  see:   {view}"));
    }
    Ok(ExitCode::from(1))
}
