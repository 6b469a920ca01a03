//! What to run: a seed of the hunt, or a scenario file.

use super::run::{again, read, with};
use super::{bug, mix, program};
use crate::harness::{Mixed, Outcome, Subject, run};
use crate::record::Record;
use std::fmt;

/// A seed or a file, as given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A seed, of a mix if one is named (`MIX:SEED`).
    Seed(Option<String>, u64),
    /// A scenario file.
    File(String),
}

impl std::str::FromStr for Source {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Source, Self::Err> {
        let number = |digits: &str| digits.replace('_', "").parse::<u64>().ok();
        let seed = match text.rsplit_once(':') {
            Some((mix, digits)) => number(digits).map(|n| (Some(mix.to_owned()), n)),
            None => number(text).map(|n| (None, n)),
        };
        Ok(match seed {
            Some((mix, seed)) => Source::Seed(mix, seed),
            None => Source::File(text.to_owned()),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Seed(None, seed) => write!(f, "{seed}"),
            Source::Seed(Some(mix), seed) => write!(f, "{mix}:{seed}"),
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
            Source::Seed(None, seed) => Ok(subject.draw(*seed)),
            Source::Seed(Some(name), seed) => {
                let mix = mix(subject, Some(name))?;
                Ok(Mixed { subject, mix }.draw(*seed))
            }
            Source::File(file) => read(subject, file),
        }
    }
}

/// The commands that show a failure again.
#[derive(Clone, Debug)]
pub struct Again {
    /// Runs it again with a line for each event.
    pub replay: String,
    /// Cuts it down; none where that is not possible.
    pub shrink: Option<String>,
    /// Draws it; none where that is not possible.
    pub view: Option<String>,
}

impl Again {
    /// For a run of this source with this bug planted.
    #[must_use]
    pub fn of(source: &Source, bug: Option<&str>) -> Again {
        let with = with(bug);
        let replay = match source {
            Source::Seed(mix, seed) => again(*seed, mix.as_deref(), bug),
            Source::File(file) => format!("{} run {file}{with} --trace", program()),
        };
        Again {
            replay,
            shrink: Some(format!("{} shrink {source}{with}", program())),
            view: Some(format!("{} view {source}{with}", program())),
        }
    }

    /// For a run that only this command makes.
    #[must_use]
    pub fn only(replay: String) -> Again {
        Again {
            replay,
            shrink: None,
            view: None,
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
    let again = Again::of(source, bug).replay;
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
