//! The guest of the demo: it does nothing but write down that it runs.

use super::record::{INTERVAL_NS, now};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Runs as a guest: appends a line to `record` every 20 ms until it is ended.
///
/// This is the hidden command `quorate demo-guest FILE`. A line is one write to a file opened for
/// appending, so lines of two copies would never mix, only interleave.
#[must_use]
pub fn guest(record: &Path) -> ExitCode {
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let epoch = std::env::var("QUORATE_EPOCH").unwrap_or_else(|_| "-".into());
    let pid = std::process::id();
    let mut file = match OpenOptions::new().create(true).append(true).open(record) {
        Ok(file) => file,
        Err(e) => {
            eprintln!("{}: {e}", record.display());
            return ExitCode::FAILURE;
        }
    };
    loop {
        let line = format!("{} {host} {epoch} {pid}\n", now());
        if let Err(e) = file.write_all(line.as_bytes()) {
            eprintln!("{}: {e}", record.display());
            return ExitCode::FAILURE;
        }
        std::thread::sleep(Duration::from_nanos(INTERVAL_NS));
    }
}
