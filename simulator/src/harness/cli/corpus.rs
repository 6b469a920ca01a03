//! `corpus`: every scenario of a folder, run and listed.

use super::{line, program};
use crate::check::Violation;
use crate::harness::{Subject, run};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A folder of scenarios.
#[derive(Debug, Args)]
pub struct Corpus {
    /// The folder; its files that end in `.toml` are read.
    folder: String,
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
}

/// What one file came to.
struct Row {
    name: String,
    needs: Option<String>,
    hash: u64,
    violation: Option<Violation>,
}

/// Runs them all, in the order of their names.
pub(super) fn corpus<S: Subject>(subject: &S, args: &Corpus) -> Result<ExitCode, String> {
    let mut rows = Vec::new();
    for path in files(&args.folder)? {
        rows.push(one(subject, &path)?);
    }
    if args.json {
        line(json(&rows));
    } else {
        table(&rows, &args.folder);
    }
    let failed = rows.iter().any(|r| r.violation.is_some());
    Ok(ExitCode::from(u8::from(failed)))
}

/// The scenarios of a folder, by name.
fn files(folder: &str) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{folder}: {e}"))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| format!("{folder}: {e}"))?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(format!(
            "{folder}: no file here ends in .toml; expected scenarios"
        ));
    }
    files.sort();
    Ok(files)
}

fn one<S: Subject>(subject: &S, path: &Path) -> Result<Row, String> {
    let file = path.to_string_lossy();
    let text = std::fs::read_to_string(path).map_err(|e| format!("{file}: {e}"))?;
    let stem = path.file_stem().unwrap_or_default();
    let mut row = Row {
        name: stem.to_string_lossy().into_owned(),
        needs: subject.needs(&file, &text).map_err(|e| e.to_string())?,
        hash: 0,
        violation: None,
    };
    if row.needs.is_none() {
        let plan = subject.read(&file, &text).map_err(|e| e.to_string())?;
        let outcome = run(subject, &plan, false);
        (row.hash, row.violation) = (outcome.hash, outcome.violation);
    }
    Ok(row)
}

fn table(rows: &[Row], folder: &str) {
    let width = rows.iter().map(|r| r.name.len()).max().unwrap_or(0);
    for row in rows {
        let word = match (&row.needs, &row.violation) {
            (Some(needs), _) => format!("needs {needs}"),
            (None, Some(v)) => format!("BROKEN: {}, {}", v.property, v.what),
            (None, None) => "good".into(),
        };
        line(format_args!("{:width$}  {word}", row.name));
    }
    for row in rows {
        if let Some(v) = &row.violation {
            line(format_args!("\n{}: {v}", row.name));
            let file = Path::new(folder).join(format!("{}.toml", row.name));
            line(format_args!(
                "  again: {} run {} --trace",
                program(),
                file.display()
            ));
        }
    }
    let waiting = rows.iter().filter(|r| r.needs.is_some()).count();
    let broken = rows.iter().filter(|r| r.violation.is_some()).count();
    let good = rows.len() - waiting - broken;
    line(format_args!(
        "{good} good, {broken} broken, {waiting} not run"
    ));
}

fn json(rows: &[Row]) -> serde_json::Value {
    let row = |r: &Row| {
        let verdict = match (&r.needs, &r.violation) {
            (Some(_), _) => "not run",
            (None, Some(_)) => "broken",
            (None, None) => "good",
        };
        serde_json::json!({
            "name": r.name, "verdict": verdict, "needs": r.needs, "violation": r.violation,
            "hash": format!("{:016x}", r.hash),
        })
    };
    let rows: Vec<serde_json::Value> = rows.iter().map(row).collect();
    serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "scenarios": rows })
}
