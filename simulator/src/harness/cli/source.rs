//! What to run: a seed of the hunt, or a scenario file.

use super::run::{read, with};
use super::{bug, program};
use crate::harness::{Outcome, Subject, run};
use crate::record::Record;
use std::fmt;

/// A seed or a file, as given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A seed.
    Seed(u64),
    /// A scenario file.
    File(String),
}

impl std::str::FromStr for Source {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Source, Self::Err> {
        let digits = text.replace('_', "");
        Ok(digits
            .parse()
            .map_or_else(|_| Source::File(text.to_owned()), Source::Seed))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Seed(seed) => write!(f, "{seed}"),
            Source::File(file) => f.write_str(file),
        }
    }
}

impl Source {
    /// The plan.
    ///
    /// # Errors
    /// The file cannot be read or is no scenario.
    pub fn plan<S: Subject>(&self, subject: &S) -> Result<S::Plan, String> {
        match self {
            Source::Seed(seed) => Ok(subject.draw(*seed)),
            Source::File(file) => read(subject, file),
        }
    }
}

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
    source: &Source,
    planted: Option<&str>,
) -> Result<Recorded, String> {
    let bug = bug(subject, planted)?;
    let plan = source.plan(subject)?;
    let with = with(bug);
    let again = match source {
        Source::Seed(seed) => format!("{} replay {seed}{with}", program()),
        Source::File(file) => format!("{} run {file}{with}", program()),
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
