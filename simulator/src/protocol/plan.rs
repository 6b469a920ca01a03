//! One run of a protocol as data.

use super::Fault;
use crate::world::{Clock, MS, SECOND};

/// A whole run. Times are true times in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Feeds every random stream.
    pub seed: u64,
    /// Nodes; all are started at once.
    pub nodes: usize,
    /// Delay of every link: shortest, added uniformly.
    pub delay: (u64, u64),
    /// Messages lost, per million.
    pub loss: u32,
    /// Messages delivered twice, per million.
    pub duplicate: u32,
    /// Each node's clock: how far ahead it began, and its rate error.
    pub clocks: Vec<Clock>,
    /// What is done, in order of time.
    pub steps: Vec<Step>,
    /// When the trouble ends: what lasts so long ends then at the latest, what has no end stays.
    pub healed: Option<u64>,
    /// When the run ends.
    pub end: u64,
}

/// One fault of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When it begins.
    pub at: u64,
    /// How long it lasts; to the end of the run if nothing is said.
    pub lasts: Option<u64>,
    /// What it is.
    pub fault: Fault,
}

impl Plan {
    /// A quiet run of so many nodes.
    #[must_use]
    pub fn new(seed: u64, nodes: usize) -> Plan {
        Plan {
            seed,
            nodes,
            delay: (MS / 10, MS / 2),
            loss: 0,
            duplicate: 0,
            clocks: vec![Clock::default(); nodes],
            steps: Vec::new(),
            healed: None,
            end: 30 * SECOND,
        }
    }

    /// When a step is over; `None` if it stays.
    #[must_use]
    pub fn over(&self, step: &Step) -> Option<u64> {
        let end = step.at.saturating_add(step.lasts?);
        Some(self.healed.map_or(end, |healed| end.min(healed)))
    }
}
