//! `diff`: where two runs part.

use super::line;
use super::source::{Source, record};
use crate::harness::Subject;
use crate::record::{Record, compare};
use clap::Args;
use std::process::ExitCode;

/// Two runs.
#[derive(Debug, Args)]
pub struct Diff {
    /// A seed of the hunt, or a scenario file.
    #[arg(value_name = "SEED|FILE")]
    a: Source,
    /// The other one; the same again if not given.
    #[arg(value_name = "SEED|FILE")]
    b: Option<Source>,
    /// Plant this bug in the other one.
    #[arg(long)]
    bug: Option<String>,
    /// Lines shown before and after the parting.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=1000))]
    lines: u16,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

fn lines(record: &Record, from: usize, count: usize) -> Vec<String> {
    let some = record.entries.iter().skip(from).take(count);
    some.map(|e| record.line(e).to_string()).collect()
}

/// Compares. Exit status 0 if the runs are the same, 1 if they part.
pub(super) fn diff<S: Subject>(subject: &S, args: &Diff) -> Result<ExitCode, String> {
    let a = record(subject, &args.a, None)?;
    let source = args.b.as_ref().unwrap_or(&args.a);
    let b = record(subject, source, args.bug.as_deref())?;
    let parting = compare(&a.record, &b.record);
    let count = usize::from(args.lines);
    let hashes = [a.outcome.hash, b.outcome.hash].map(|h| format!("{h:016x}"));
    let Some(parting) = parting else {
        let entries = a.record.entries.len();
        if args.json {
            line(serde_json::json!({ "same": true, "entries": entries, "hashes": hashes }));
        } else {
            line(format_args!(
                "the same: {entries} entries, hash {}",
                hashes[0]
            ));
        }
        return Ok(ExitCode::SUCCESS);
    };
    let at = parting.entry;
    let before = at.saturating_sub(count);
    let common = lines(&a.record, before, at - before);
    let parts = [&a, &b].map(|r| lines(&r.record, at, count));
    if args.json {
        line(serde_json::json!({
            "same": false, "entry": at, "common": common, "a": parts[0], "b": parts[1],
            "hashes": hashes,
        }));
        return Ok(ExitCode::FAILURE);
    }
    line(format_args!("the same for {at} entries, then they part"));
    common.iter().for_each(|l| line(format_args!("  {l}")));
    for (sign, run, part) in [('-', &a, &parts[0]), ('+', &b, &parts[1])] {
        line(format_args!("{sign} {}", run.again));
        part.iter().for_each(|l| line(format_args!("{sign} {l}")));
        if part.len() < count {
            line(format_args!("{sign} (its end)"));
        }
    }
    Ok(ExitCode::FAILURE)
}
