//! A run named on the command line: a seed, or a scenario file.

use super::run::read;
use super::{bug, program};
use crate::harness::{Outcome, Subject, run};
use crate::record::Record;

/// A run that was made, with everything it recorded.
pub(super) struct Recorded {
    pub(super) outcome: Outcome,
    pub(super) record: Record,
    /// The command that makes it again.
    pub(super) again: String,
    pub(super) bug: Option<&'static str>,
}

/// Makes the run of a seed or a scenario file, with a bug planted, and records it.
pub(super) fn record<S: Subject>(
    subject: &S,
    source: &str,
    planted: Option<&str>,
) -> Result<Recorded, String> {
    let bug = bug(subject, planted)?;
    let with = bug.map_or(String::new(), |b| format!(" --bug {b}"));
    let (plan, again) = match source.replace('_', "").parse::<u64>() {
        Ok(seed) => (
            subject.draw(seed),
            format!("{} replay {seed}{with}", program()),
        ),
        Err(_) => (
            read(subject, source)?,
            format!("{} run {source}{with}", program()),
        ),
    };
    subject.plant(bug);
    let mut outcome = run(subject, &plan, true);
    subject.plant(None);
    let Some(record) = outcome.record.take() else {
        return Err(match &outcome.violation {
            Some(v) => format!("{source}: the run left no record: {v}"),
            None => format!("{source}: what is run here records nothing"),
        });
    };
    Ok(Recorded {
        outcome,
        record,
        again,
        bug,
    })
}
