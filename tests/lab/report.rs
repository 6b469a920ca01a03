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
    /// The cases it was there for.
    pub cases: String,
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

/// The steps of a fail-over, in order; the boot of the guest stands between the last two.
const COLUMNS: [(&str, &str); 6] = [
    ("suspect", "noticed"),
    ("verdict", "verdict"),
    ("proof", "proof"),
    ("placed", "placed"),
    ("started", "started"),
    ("first record", "writes"),
];

impl Report {
    /// The seconds of a step of a case; of the last guest if there are several.
    fn seconds_of(&self, case: &str, step: &str) -> Option<f64> {
        let all = self.steps.iter();
        let fitting = all.filter(|s| s.case == case && s.step == step);
        fitting.map(|s| s.seconds).reduce(f64::max)
    }

    /// One line for each fail-over.
    fn matrix(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cases: Vec<&str> = Vec::new();
        for step in &self.steps {
            if step.step == "proof" && !cases.contains(&step.case.as_str()) {
                cases.push(&step.case);
            }
        }
        if cases.is_empty() {
            return Ok(());
        }
        write!(f, "\n{:<14}", "seconds to")?;
        COLUMNS
            .iter()
            .try_for_each(|(_, name)| write!(f, "{name:>9}"))?;
        writeln!(f, "{:>9}", "its boot")?;
        for case in cases {
            write!(f, "{case:<14}")?;
            for (step, _) in COLUMNS {
                match self.seconds_of(case, step) {
                    Some(seconds) => write!(f, "{seconds:>9.2}")?,
                    None => write!(f, "{:>9}", "-")?,
                }
            }
            let ends = ["started", "first record"].map(|step| self.seconds_of(case, step));
            match ends {
                [Some(started), Some(writes)] => writeln!(f, "{:>9.2}", writes - started)?,
                _ => writeln!(f, "{:>9}", "-")?,
            }
        }
        Ok(())
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
        self.matrix(f)?;
        writeln!(f, "\nwhat the guests wrote to their disks")?;
        for guest in &self.guests {
            writeln!(
                f,
                "  {:<4} {:>6} records  {:<16} {}",
                guest.guest,
                guest.records,
                guest.hosts.join(" → "),
                guest.cases
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
