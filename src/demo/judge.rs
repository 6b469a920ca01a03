//! Whether two copies of a guest ever ran at once, and whether every guest came back.
//!
//! Judged from what the guests wrote about themselves and from nothing else: no log of ours, no
//! status, no event. Pure, so that it can be tested with records no healthy cluster writes.

use super::record::{INTERVAL_NS, Life, Record, parse};
use std::collections::BTreeMap;
use std::fmt;

/// A life's first and last line of one guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Who wrote them.
    pub life: Life,
    /// The first line, boot clock in nanoseconds.
    pub first: u64,
    /// The last line.
    pub last: u64,
    /// How many lines.
    pub lines: usize,
}

/// A restart that must show in the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The guest.
    pub guest: String,
    /// The host that failed.
    pub off: String,
    /// When it failed; the new life begins after this.
    pub failed_at: u64,
}

/// Why the demo failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Charge {
    /// A line that no guest writes.
    Unreadable {
        guest: String,
        line: usize,
        text: String,
    },
    /// A guest that never ran.
    NeverRan { guest: String },
    /// Two lives overlap, or are closer than the records can tell apart.
    Twice {
        guest: String,
        first: Life,
        second: Life,
        gap_ns: i128,
    },
    /// A guest did not come back elsewhere after its host failed.
    NotBack { guest: String, off: String },
    /// A guest does not run at the end.
    Silent { guest: String, for_ns: u64 },
}

/// What the records of one guest say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// Its lives, in order of their first lines.
    pub runs: Vec<Run>,
    /// The least time between the last line of one life and the first of the next.
    pub least_gap_ns: Option<u64>,
}

/// Judges the records of all guests. `end` is when they were read.
pub fn judge(
    records: &BTreeMap<String, String>,
    expected: &[Expected],
    end: u64,
) -> (BTreeMap<String, Finding>, Vec<Charge>) {
    let mut findings = BTreeMap::new();
    let mut charges = Vec::new();
    for (guest, text) in records {
        let lines = read(guest, text, &mut charges);
        let finding = runs(&lines);
        charge(guest, &lines, &finding, end, &mut charges);
        findings.insert(guest.clone(), finding);
    }
    for wanted in expected {
        let back = findings.get(&wanted.guest).is_some_and(|f| {
            f.runs
                .iter()
                .any(|run| run.life.host != wanted.off && run.first > wanted.failed_at)
        });
        if !back {
            charges.push(Charge::NotBack {
                guest: wanted.guest.clone(),
                off: wanted.off.clone(),
            });
        }
    }
    (findings, charges)
}

fn read(guest: &str, text: &str, charges: &mut Vec<Charge>) -> Vec<Record> {
    let mut out = Vec::new();
    // What follows the last newline is a line still being written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    for (i, line) in whole.lines().enumerate() {
        match parse(line) {
            Some(record) => out.push(record),
            None => charges.push(Charge::Unreadable {
                guest: guest.to_owned(),
                line: i + 1,
                text: line.to_owned(),
            }),
        }
    }
    out
}

fn runs(lines: &[Record]) -> Finding {
    let mut by_life: BTreeMap<&Life, Run> = BTreeMap::new();
    for record in lines {
        let run = by_life.entry(&record.life).or_insert_with(|| Run {
            life: record.life.clone(),
            first: record.at,
            last: record.at,
            lines: 0,
        });
        run.first = run.first.min(record.at);
        run.last = run.last.max(record.at);
        run.lines += 1;
    }
    let mut runs: Vec<Run> = by_life.into_values().collect();
    runs.sort_by_key(|run| (run.first, run.last));
    let least_gap_ns = runs
        .windows(2)
        .map(|pair| pair[1].first.saturating_sub(pair[0].last))
        .min();
    Finding { runs, least_gap_ns }
}

fn charge(guest: &str, lines: &[Record], finding: &Finding, end: u64, charges: &mut Vec<Charge>) {
    let guest = || guest.to_owned();
    let Some(last) = finding.runs.iter().map(|run| run.last).max() else {
        charges.push(Charge::NeverRan { guest: guest() });
        return;
    };
    // The end of every earlier life, not only of the one before: a long life may span several.
    for (i, run) in finding.runs.iter().enumerate() {
        let Some(before) = finding.runs[..i].iter().max_by_key(|earlier| earlier.last) else {
            continue;
        };
        let gap_ns = i128::from(run.first) - i128::from(before.last);
        // A copy runs on unseen for up to one interval after its last line.
        if gap_ns <= i128::from(INTERVAL_NS) {
            charges.push(Charge::Twice {
                guest: guest(),
                first: before.life.clone(),
                second: run.life.clone(),
                gap_ns,
            });
        }
    }
    // The order of lines in the file is the order the storage saw. A life that writes again after
    // another began shows here even if somebody's clock were wrong.
    let mut over: Vec<&Life> = Vec::new();
    for pair in lines.windows(2) {
        let (earlier, later) = (&pair[0].life, &pair[1].life);
        if earlier == later {
            continue;
        }
        over.push(earlier);
        if over.contains(&later) {
            charges.push(Charge::Twice {
                guest: guest(),
                first: later.clone(),
                second: earlier.clone(),
                gap_ns: i128::from(pair[1].at) - i128::from(pair[0].at),
            });
            break;
        }
    }
    // Long enough for a busy machine, short beside any restart.
    const FRESH_NS: u64 = 2_000_000_000;
    let for_ns = end.saturating_sub(last);
    if for_ns > FRESH_NS {
        charges.push(Charge::Silent {
            guest: guest(),
            for_ns,
        });
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (epoch {}, pid {})", self.host, self.epoch, self.pid)
    }
}

impl fmt::Display for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Charge::Unreadable { guest, line, text } => {
                write!(f, "{guest}: line {line} is no record: {text:?}")
            }
            Charge::NeverRan { guest } => write!(f, "{guest} never ran"),
            Charge::Twice {
                guest,
                first,
                second,
                gap_ns,
            } => write!(
                f,
                "{guest} ran twice at once, or nearly: {first} and {second}, {} ms apart",
                gap_ns / 1_000_000
            ),
            Charge::NotBack { guest, off } => {
                write!(f, "{guest} did not start elsewhere after {off} failed")
            }
            Charge::Silent { guest, for_ns } => write!(
                f,
                "{guest} does not run at the end: silent for {} ms",
                for_ns / 1_000_000
            ),
        }
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
