//! What the lab tells at the end: seconds per step, and what the guests wrote.

use serde::Serialize;
use std::fmt;

/// One measured step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// The case.
    pub case: String,
    /// What happened.
    pub step: String,
    /// Seconds since the failure of this case.
    pub seconds: f64,
    /// In words.
    pub text: String,
}

/// What the disk of one guest says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GuestLine {
    /// Its name.
    pub guest: String,
    /// The host of each start, one after the other.
    pub hosts: Vec<String>,
    /// Records it wrote.
    pub records: u64,
}

/// A measured lab.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Every step.
    pub steps: Vec<Step>,
    /// Every guest, by its own records.
    pub guests: Vec<GuestLine>,
    /// Everything that went wrong: two writers, or a case that failed.
    pub charges: Vec<String>,
    /// Cases that were not run, and why.
    pub skipped: Vec<String>,
    /// Wall seconds of it all.
    pub seconds: f64,
}

impl Report {
    /// Takes in what another lab measured.
    pub fn take(&mut self, other: Report) {
        self.steps.extend(other.steps);
        self.guests.extend(other.guests);
        self.charges.extend(other.charges);
        self.skipped.extend(other.skipped);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut case = "";
        for step in &self.steps {
            if step.case != case {
                case = &step.case;
                writeln!(f, "\n{case} (seconds)")?;
            }
            writeln!(
                f,
                "  {:>8.3}  {:<22} {}",
                step.seconds, step.step, step.text
            )?;
        }
        writeln!(f, "\nwhat the guests wrote to their disks")?;
        for guest in &self.guests {
            writeln!(
                f,
                "  {:<4} {:>6} records  {}",
                guest.guest,
                guest.records,
                guest.hosts.join(" → ")
            )?;
        }
        for why in &self.skipped {
            writeln!(f, "  skipped: {why}")?;
        }
        writeln!(f)?;
        if self.charges.is_empty() {
            writeln!(
                f,
                "No two copies of a guest ever wrote to a disk at once. ({:.0} s)",
                self.seconds
            )
        } else {
            writeln!(f, "FAILED:")?;
            let mut charges = self.charges.iter();
            charges.try_for_each(|charge| writeln!(f, "  {charge}"))
        }
    }
}
