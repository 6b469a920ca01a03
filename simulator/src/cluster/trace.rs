//! One line per event, only when asked for.

use crate::check::At;
use std::fmt::Arguments;

/// Where the trace goes.
#[derive(Debug, Default)]
pub(super) struct Trace {
    lines: Option<Vec<String>>,
}

impl Trace {
    /// A trace that keeps its lines, or one that costs nothing.
    #[must_use]
    pub(super) fn new(on: bool) -> Trace {
        Trace {
            lines: on.then(Vec::new),
        }
    }

    /// Whether lines are kept.
    #[must_use]
    pub(super) fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Adds a line.
    pub(super) fn line(&mut self, now: u64, text: Arguments<'_>) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>11} {text}", At(now).to_string()));
        }
    }

    /// The lines, oldest first.
    #[must_use]
    pub(super) fn take(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

/// Adds a line to the trace of `$sim`, formatting it only if it is kept.
macro_rules! trace {
    ($sim:expr, $($arg:tt)*) => {
        if $sim.trace.is_on() {
            let now = $sim.world.now();
            $sim.trace.line(now, format_args!($($arg)*));
        }
    };
}
pub(super) use trace;
