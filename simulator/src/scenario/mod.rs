//! Scenarios: one story per file, in TOML.
//!
//! ```toml
//! [cluster]
//! hosts = 4
//! voters = 3
//! guests = 2
//!
//! [[at]]
//! time = 10.0
//! do = "isolate"
//! host = "h1"
//!
//! [[expect]]
//! by = 30.0
//! guest = "g1"
//! runs = true
//! ```
//!
//! `quorate-sim run --help` lists every verb. Hosts are `h1` to `h8`, or `coordinator`,
//! `other-voter`, `host-of-g1`; times and lengths are seconds.

mod fields;
pub(crate) mod protocol;
mod shape;
mod verbs;
mod write;

pub use write::write;

use crate::cluster::Plan;
use crate::cluster::plan::{Expect, Expected};
use crate::world::SECOND;
use fields::{Fields, Lines};
use std::fmt;
use toml::de::DeTable;

/// Why a file is no scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadScenario {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// What was found and what is allowed.
    pub what: String,
}

impl fmt::Display for BadScenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = (self.line, self.column);
        write!(f, "{}:{line}:{column}: {}", self.file, self.what)
    }
}

impl std::error::Error for BadScenario {}

/// Words for help: every verb with its keys, and every expectation.
#[must_use]
pub fn help() -> String {
    let mut text = String::from("verbs of [[at]] (each with `time`):\n");
    for (verb, keys, what) in verbs::VERBS {
        text.push_str(&format!("  {verb:<16} {keys:<28} {what}\n"));
    }
    text.push_str("\nkeys of [[expect]] (with `by`, or `after` for what holds from then on):\n");
    for (keys, what) in EXPECTATIONS {
        text.push_str(&format!("  {keys:<34} {what}\n"));
    }
    text
}

/// Every expectation.
const EXPECTATIONS: &[(&str, &str)] = &[
    (
        "guest, runs = true [, host]",
        "the guest can write somewhere (there) at that time",
    ),
    (
        "guest, runs = false [, host]",
        "it cannot (not there); with `after`: from then on",
    ),
    (
        "guest, well = true",
        "it can write and nothing is wrong inside it at that time",
    ),
    (
        "guest, starts-at-most = N",
        "so often at most it was started up to then",
    ),
    (
        "host, fenced = true|false",
        "a device cut the host up to then, or never",
    ),
    (
        "host, lost = true|false",
        "a verdict fell on the host up to then, or never",
    ),
    (
        "host, member = true",
        "the host is admitted and not revoked at that time",
    ),
    (
        "coordinator = true [, not = host]",
        "somebody (else) acts as coordinator at that time",
    ),
    ("coordinator = false", "nobody does"),
    ("all-run = true", "every guest runs at that time"),
    ("none-run = true", "no guest runs at that time"),
];

/// Reads a scenario.
///
/// # Errors
/// File, line, column, what was found, what is allowed.
pub fn parse(file: &str, text: &str) -> Result<Plan, BadScenario> {
    document(file, text, read)
}

/// Reads a TOML document; what is wrong in it is named with its place.
fn document<T>(
    file: &str,
    text: &str,
    read: impl FnOnce(&DeTable<'_>, &Lines<'_>) -> Result<T, Bad>,
) -> Result<T, BadScenario> {
    let lines = Lines::new(text);
    let bad = |offset: usize, what: String| BadScenario {
        file: file.to_owned(),
        line: lines.of(offset),
        column: lines.column(offset),
        what,
    };
    let document = DeTable::parse(text).map_err(|e| {
        let at = e.span().map_or(0, |s| s.start);
        bad(at, e.message().trim().replace('\n', ", "))
    })?;
    read(document.get_ref(), &lines).map_err(|(at, what)| bad(at, what))
}

/// An error at a byte offset.
type Bad = (usize, String);

fn read(document: &DeTable<'_>, lines: &Lines<'_>) -> Result<Plan, Bad> {
    let mut top = Fields::new(document, 0);
    let cluster = top.table("cluster")?.ok_or((
        0,
        "no [cluster]: it needs at least hosts and voters".to_owned(),
    ))?;
    let end_at = cluster.place("end");
    let mut plan = shape::read(cluster)?;
    let (hosts, guests) = (plan.hosts, plan.guests);
    for (table, at) in top.tables("at")? {
        let mut f = Fields::new(table, at);
        let time = f.seconds("time")?;
        let time = time.ok_or((at, "no `time`: seconds from the beginning".to_owned()))?;
        if let Some((before, _)) = plan.timeline.last().filter(|(t, _)| *t > time) {
            let what = format!(
                "time goes back to {} s; expected: {} s or later, as the step before",
                write::seconds(time),
                write::seconds(*before)
            );
            return Err((f.place("time"), what));
        }
        let action = verbs::action(&mut f, hosts, guests)?;
        f.finish()?;
        plan.timeline.push((time, action));
    }
    let mut last = 0;
    for (table, at) in top.tables("expect")? {
        let mut f = Fields::new(table, at);
        let (by, after) = (f.seconds("by")?, f.seconds("after")?);
        let (Some(time), true) = (by.or(after), by.is_none() || after.is_none()) else {
            let what = "an expectation needs either `by` or `after`".to_owned();
            return Err((at, what));
        };
        let what = expected(&mut f, hosts, guests, at)?;
        if after.is_some() && !matches!(what, Expected::NotRuns { .. }) {
            let what = "`after` is for `runs = false` only; others are judged `by` a time";
            return Err((at, what.to_owned()));
        }
        f.finish()?;
        last = last.max(time);
        let line = lines.of(at);
        plan.expect.push(Expect {
            line,
            at: time,
            what,
        });
    }
    top.finish()?;
    let last_action = plan.timeline.last().map_or(0, |(at, _)| *at);
    let last = last.max(last_action);
    if plan.end == 0 {
        plan.end = last + SECOND;
    } else if plan.end < last {
        let what = format!(
            "end is {} s; expected: {} s or later, when the last line is due",
            write::seconds(plan.end),
            write::seconds(last)
        );
        return Err((end_at, what));
    }
    Ok(plan)
}

fn expected(
    f: &mut Fields<'_, '_>,
    hosts: usize,
    guests: usize,
    at: usize,
) -> Result<Expected, Bad> {
    let guest = f.guest("guest", guests)?;
    let host = f.host_number("host", hosts)?;
    if let Some(guest) = guest {
        if let Some(runs) = f.truth("runs")? {
            return Ok(if runs {
                Expected::Runs { guest, on: host }
            } else {
                Expected::NotRuns { guest, on: host }
            });
        }
        if f.truth("well")? == Some(true) && host.is_none() {
            return Ok(Expected::Well(guest));
        }
        if let Some(starts) = f.whole("starts-at-most", 0, 1000)? {
            let starts = starts as u32;
            return Ok(Expected::StartsAtMost { guest, starts });
        }
    } else if let Some(host) = host {
        if let Some(fenced) = f.truth("fenced")? {
            return Ok(if fenced {
                Expected::Fenced(host)
            } else {
                Expected::NeverFenced(host)
            });
        }
        if let Some(lost) = f.truth("lost")? {
            return Ok(if lost {
                Expected::Lost(host)
            } else {
                Expected::NeverLost(host)
            });
        }
        if f.truth("member")? == Some(true) {
            return Ok(Expected::Member(host));
        }
    } else if let Some(acts) = f.truth("coordinator")? {
        let not = f.who("not", hosts, guests)?;
        return Ok(if acts {
            Expected::Coordinator { not }
        } else {
            Expected::NoCoordinator
        });
    } else if f.truth("all-run")? == Some(true) {
        return Ok(Expected::AllRun);
    } else if f.truth("none-run")? == Some(true) {
        return Ok(Expected::NoneRuns);
    }
    let allowed: Vec<&str> = EXPECTATIONS.iter().map(|(keys, _)| *keys).collect();
    let what = format!("this expects nothing; allowed: {}", allowed.join(" | "));
    Err((at, what))
}

#[cfg(test)]
mod tests;
