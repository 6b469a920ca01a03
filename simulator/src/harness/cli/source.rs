//! What to run: a seed of the hunt, or a scenario file.

use super::run::read;
use crate::harness::Subject;
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
