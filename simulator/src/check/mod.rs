//! One file per promise of the safety contract. Checkers see the truth (power, writers, what was
//! decided), not what nodes claim, and look only at what an event touched.

pub mod audit;
mod commands;
pub mod holds;
mod images;
pub mod l1;
pub mod l2;
mod room;
pub mod s1;
pub mod s10;
pub mod s14;
pub mod s15;
pub mod s16;
pub mod s17;
pub mod s2;
pub mod s3_s5;
pub mod s4;
pub mod s6;
pub mod s7;
pub mod s8;
pub mod s9;
pub mod taken;
pub mod told;
pub mod traffic;

#[cfg(test)]
mod tests_support;

use crate::world::SECOND;
use serde::Serialize;
use std::fmt;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The promise, as the contract names it.
    pub property: &'static str,
    /// True time in nanoseconds.
    pub at: u64,
    /// What went wrong, in one sentence.
    pub what: String,
    /// The two facts that cannot both be right.
    pub facts: [String; 2],
}

impl Violation {
    /// A new one.
    #[must_use]
    pub fn new(property: &'static str, at: u64, what: String, facts: [String; 2]) -> Violation {
        Violation {
            property,
            at,
            what,
            facts,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} broken at {}: {}",
            self.property,
            At(self.at),
            self.what
        )?;
        writeln!(f, "  fact  {}", self.facts[0])?;
        write!(f, "  fact  {}", self.facts[1])
    }
}

/// True time, printed in seconds.
#[derive(Clone, Copy, Debug)]
pub struct At(pub u64);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / SECOND, self.0 % SECOND / 1000)
    }
}

/// A host as people call it: `h1` is node 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostName(pub usize);

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}", self.0 + 1)
    }
}
