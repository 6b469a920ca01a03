//! `view`: a run as a picture.

use super::line;
use super::source::{Source, record};
use crate::harness::Subject;
use crate::record::sentences;
use crate::view::{About, chrome, html};
use clap::Args;
use std::process::ExitCode;

/// Which run, and where its picture goes.
#[derive(Debug, Args)]
pub struct View {
    /// A seed of the hunt, or a scenario file.
    #[arg(value_name = "SEED|FILE")]
    source: Source,
    /// The page; `run-SEED.html` if not given.
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
    /// Also write the run for viewers of traces (Chrome, Perfetto).
    #[arg(long, value_name = "FILE")]
    chrome: Option<String>,
    /// Plant this bug first.
    #[arg(long)]
    bug: Option<String>,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
}

/// Draws. Exit status 0 whatever the run came to: the picture is what was asked for.
pub(super) fn view<S: Subject>(subject: &S, args: &View) -> Result<ExitCode, String> {
    let run = record(subject, &args.source, args.bug.as_deref())?;
    let seed = run.outcome.seed;
    let about = About {
        seed,
        hash: run.outcome.hash,
        again: run.again,
        bug: run.bug.map(str::to_owned),
    };
    let write =
        |file: &str, text: String| std::fs::write(file, text).map_err(|e| format!("{file}: {e}"));
    let page = args.output.clone();
    let page = page.unwrap_or_else(|| format!("run-{seed}.html"));
    write(&page, html(&run.record, &about))?;
    if let Some(file) = &args.chrome {
        write(file, chrome(&run.record))?;
    }
    let story = sentences(&run.record);
    if args.json {
        line(serde_json::json!({
            "seed": seed, "html": page, "chrome": args.chrome, "entries": run.record.entries.len(),
            "violation": run.outcome.violation, "story": story,
        }));
    } else {
        story.iter().for_each(line);
        line(format_args!("picture: {page}"));
        if let Some(file) = &args.chrome {
            line(format_args!("trace:   {file}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
