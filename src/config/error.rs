//! What is wrong with a file, and where.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Why a configuration is refused. Nothing was changed.
///
/// Shown as `quorate.toml:12:5: link[0].address: found …; allowed: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// Line and column, counted from 1; `None` if the file could not be read at all.
    pub place: Option<(usize, usize)>,
    /// The key, with the tables it stands in; empty if it is about the file as a whole.
    pub key: String,
    /// What was found and what is allowed. May have several lines.
    pub message: String,
}

impl ConfigError {
    /// An error about the file as a whole.
    pub(crate) fn whole(path: &Path, message: impl Into<String>) -> ConfigError {
        ConfigError {
            path: path.to_owned(),
            place: None,
            key: String::new(),
            message: message.into(),
        }
    }

    /// Fills in file, line and column of a fault found at a byte range of `text`.
    pub(crate) fn place(path: &Path, text: &str, fault: Fault) -> ConfigError {
        let before = text.get(..fault.at.start).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .map_or(0, |last| last.chars().count())
            + 1;
        ConfigError {
            path: path.to_owned(),
            place: Some((line, column)),
            key: fault.key,
            message: fault.message,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

/// A fault at a byte range, before the file's name and lines are known.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// Bytes of the text it is about.
    pub(crate) at: Range<usize>,
    /// The key.
    pub(crate) key: String,
    /// What was found and what is allowed.
    pub(crate) message: String,
}
