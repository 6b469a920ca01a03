//! `explain`: what led to a broken promise.

use super::line;
use super::source::{Source, record};
use crate::check::At;
use crate::harness::Subject;
use crate::record::{Chain, Record, explain, sentences};
use clap::Args;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Which run.
#[derive(Debug, Args)]
pub struct Explain {
    /// A seed of the hunt, or a scenario file.
    #[arg(value_name = "SEED|FILE")]
    source: Source,
    /// Plant this bug first.
    #[arg(long)]
    bug: Option<String>,
    /// Print the chains as JSON.
    #[arg(long)]
    json: bool,
}

/// Longer lines are cut: entries of a log may be long.
const WIDTH: usize = 160;

fn cut(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        Some((at, _)) => format!("{} \u{2026}", &text[..at]),
        None => text.to_owned(),
    }
}

fn print(record: &Record, number: usize, chain: &Chain) {
    line(format_args!("fact {number}: {}", chain.fact));
    if chain.hops.is_empty() {
        line("  nothing in the record fits it");
    }
    for (i, hop) in chain.hops.iter().enumerate() {
        let e = record.entry(hop.entry);
        let why = if i == 0 { "" } else { "because " };
        let words = cut(&record.words(e));
        line(format_args!(
            "{:>12} {:<4} {why}{words}",
            At(e.at).to_string(),
            record.lane(e.lane)
        ));
        for mark in &hop.marks {
            let words = cut(&record.words(record.entry(*mark)));
            line(format_args!("{:>17}   {words}", ""));
        }
        if hop.skipped > 0 {
            let s = if hop.skipped > 1 { "s" } else { "" };
            line(format_args!(
                "{:>17} \u{2026} {} ordinary step{s}",
                "", hop.skipped
            ));
        }
    }
}

fn chain(record: &Record, chain: &Chain) -> Value {
    let words = |entry: u32| record.words(record.entry(entry));
    let hops: Vec<Value> = chain
        .hops
        .iter()
        .map(|h| {
            let e = record.entry(h.entry);
            let marks: Vec<String> = h.marks.iter().map(|m| words(*m)).collect();
            json!({
                "seconds": e.at as f64 / 1e9, "lane": record.lane(e.lane),
                "what": words(h.entry), "marks": marks, "skipped": h.skipped,
            })
        })
        .collect();
    json!({ "fact": chain.fact, "hops": hops })
}

/// Explains. Exit status 1 if a promise is broken, as everywhere.
pub(super) fn show<S: Subject>(subject: &S, args: &Explain) -> Result<ExitCode, String> {
    let run = record(subject, &args.source, args.bug.as_deref())?;
    let story = sentences(&run.record);
    let Some(why) = explain(&run.record) else {
        if args.json {
            line(json!({ "violation": null, "story": story }));
        } else {
            line("nothing to explain: no promise was broken");
        }
        return Ok(ExitCode::SUCCESS);
    };
    if args.json {
        let faults: Vec<Value> = why
            .lying
            .iter()
            .map(|l| {
                json!({
                    "number": l.fault.number + 1, "what": l.fault.text, "how": l.how,
                    "from_seconds": l.fault.from as f64 / 1e9,
                    "until_seconds": l.fault.until as f64 / 1e9,
                })
            })
            .collect();
        line(json!({
            "violation": run.outcome.violation, "story": story, "faults": faults,
            "chains": why.chains.each_ref().map(|c| chain(&run.record, c)),
            "replay": run.again,
        }));
        return Ok(ExitCode::FAILURE);
    }
    story.iter().for_each(line);
    for (i, c) in why.chains.iter().enumerate() {
        print(&run.record, i + 1, c);
    }
    line("faults on the way:");
    if why.lying.is_empty() {
        line(match why.before {
            0 => "  none: it breaks without any fault".to_owned(),
            n => format!("  none was found among {n}; `shrink` says which of them are needed"),
        });
    }
    for l in &why.lying {
        line(format_args!(
            "  {}: {} ({} to {}): {}",
            l.fault.number + 1,
            l.fault.text,
            At(l.fault.from),
            At(l.fault.until),
            l.how
        ));
    }
    Ok(ExitCode::FAILURE)
}
