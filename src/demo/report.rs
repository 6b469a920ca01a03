//! What the demo tells: a line when something happens, a table of seconds at the end.

use serde::Serialize;
use std::fmt;

/// One measured step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// The part of the story: `form`, `power-off`, `cable`.
    pub act: &'static str,
    /// What happened.
    pub step: &'static str,
    /// Seconds since the act began: since the failure, for the last two.
    pub seconds: f64,
    /// In words.
    pub text: String,
}

/// What the records of one guest say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GuestLine {
    /// Its name.
    pub guest: String,
    /// The hosts it ran on, one after the other.
    pub hosts: Vec<String>,
    /// Lines it wrote.
    pub lines: usize,
    /// Least seconds between the end of one life and the begin of the next; `None` if it had one.
    pub least_gap_seconds: Option<f64>,
}

/// The measured demo.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Every step.
    pub steps: Vec<Step>,
    /// Every guest, by its own records.
    pub guests: Vec<GuestLine>,
    /// Everything the judge found wrong; empty if no two copies of a guest ever ran at once and
    /// every guest came back.
    pub charges: Vec<String>,
    /// Wall seconds of the whole demo.
    pub seconds: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut act = "";
        for step in &self.steps {
            if step.act != act {
                act = step.act;
                let title = match act {
                    "power-off" => "after the power cut (seconds)",
                    "cable" => "after the cable was pulled (seconds)",
                    _ => "forming (seconds)",
                };
                writeln!(f, "\n{title}")?;
            }
            writeln!(
                f,
                "  {:>8.3}  {:<22} {}",
                step.seconds, step.step, step.text
            )?;
        }
        writeln!(f, "\nwhat the guests wrote")?;
        for guest in &self.guests {
            let gap = match guest.least_gap_seconds {
                Some(gap) => format!("never nearer than {gap:.3} s"),
                None => "one life".into(),
            };
            writeln!(
                f,
                "  {:<4} {:>6} lines  {:<16} {gap}",
                guest.guest,
                guest.lines,
                guest.hosts.join(" → ")
            )?;
        }
        writeln!(f)?;
        if self.charges.is_empty() {
            writeln!(
                f,
                "No two copies of a guest ever ran at once, and every guest came back. ({:.0} s)",
                self.seconds
            )
        } else {
            writeln!(f, "FAILED:")?;
            self.charges
                .iter()
                .try_for_each(|charge| writeln!(f, "  {charge}"))
        }
    }
}
