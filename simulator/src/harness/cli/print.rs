//! How a verdict is printed.

use super::Again;
use crate::check::At;
use crate::harness::Outcome;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

/// Prints a line; a reader that has gone away (`| head`) is no error.
pub fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints what a run came to, with the commands that show a failure again.
pub fn print(outcome: &Outcome, json: bool, again: &Again) -> ExitCode {
    for text in &outcome.trace {
        line(text);
    }
    let version = env!("CARGO_PKG_VERSION");
    if json {
        line(serde_json::json!({
            "seed": outcome.seed, "hash": format!("{:016x}", outcome.hash),
            "violation": outcome.violation, "events": outcome.events,
            "ended_seconds": outcome.ended as f64 / 1e9, "exposure": outcome.exposure,
            "version": version, "replay": again.replay, "shrink": again.shrink, "view": again.view,
        }));
    } else {
        match &outcome.violation {
            Some(v) => {
                line(v);
                line(format_args!("  seed {}, version {version}", outcome.seed));
                line(format_args!("  again: {}", again.replay));
                for (what, command) in [("shrink", &again.shrink), ("view", &again.view)] {
                    if let Some(command) = command {
                        line(format_args!("  {what}: {command}"));
                    }
                }
            }
            None => line(format_args!(
                "clean: {} events up to {} s",
                outcome.events,
                At(outcome.ended)
            )),
        }
        line(format_args!("hash {:016x}", outcome.hash));
    }
    ExitCode::from(u8::from(outcome.violation.is_some()))
}
