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
//! `other-voter`, `host-of-g1`; times and lengths are seconds, and steps stand in the order of their
//! times. A step that waits for something instead has `when = "verdict"` in place of `time`.
//!
//! `needs = "…"` at the top says that the product or the harness lacks something this story is
//! about: it is kept and listed, and not run.

mod expect;
mod fields;
pub(crate) mod protocol;
mod shape;
mod steps;
mod twists;
mod verbs;
mod when;
mod words;
mod write;

pub use steps::verb;
pub use write::write;

use crate::cluster::Plan;
use crate::cluster::plan::{Expect, Expected};
use crate::world::SECOND;
use fields::{Fields, Lines, Scope};
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
    let mut text = String::from("keys of [cluster]:\n");
    for (keys, what) in shape::KEYS {
        text.push_str(&format!("  {keys:<42} {what}\n"));
    }
    text.push_str("\nverbs of [[at]] (each with `time`, or with `when`):\n");
    for (verb, keys, what) in verbs::VERBS.iter().chain(twists::VERBS) {
        text.push_str(&format!("  {verb:<16} {keys:<40} {what}\n"));
    }
    text.push_str("\nwhat a step can wait for, with `when`:\n  ");
    let whens: Vec<&str> = words::WHENS.iter().map(|(word, _)| *word).collect();
    text.push_str(&whens.join(", "));
    text.push('\n');
    for (keys, what) in when::KEYS {
        text.push_str(&format!("  {keys:<42} {what}\n"));
    }
    text.push_str("\nkeys of [[expect]] (with `by`, or `after` for what holds from then on):\n");
    for (keys, what) in expect::EXPECTATIONS {
        text.push_str(&format!("  {keys:<42} {what}\n"));
    }
    text
}

/// Reads a scenario.
///
/// # Errors
/// File, line, column, what was found, what is allowed.
pub fn parse(file: &str, text: &str) -> Result<Plan, BadScenario> {
    opened(file, text, |top, lines| {
        let needs_at = top.place("needs");
        if let Some(needs) = top.word("needs")? {
            let what = format!("this scenario needs {}, which is not there yet", needs.0);
            return Err((needs_at, what));
        }
        read(top, lines)
    })
}

/// What a scenario needs that is not there yet; nothing if it can be run. The steps and
/// expectations of one that cannot are not looked at, since they are about what is missing.
///
/// # Errors
/// It is no TOML, has no cluster, or what it needs is no text.
pub fn needs(file: &str, text: &str) -> Result<Option<String>, BadScenario> {
    opened(file, text, |top, _| {
        let needs = top.word("needs")?.map(|(word, _)| word);
        shape::read(cluster(top)?)?;
        Ok(needs)
    })
}

fn opened<T>(
    file: &str,
    text: &str,
    read: impl FnOnce(&mut Fields<'_, '_>, &Lines<'_>) -> Result<T, Bad>,
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
    let mut top = Fields::new(document.get_ref(), 0);
    read(&mut top, &lines).map_err(|(at, what)| bad(at, what))
}

fn cluster<'t, 'a>(top: &mut Fields<'t, 'a>) -> Result<Fields<'t, 'a>, Bad> {
    let missing = "no [cluster]; expected it, with hosts and voters at least";
    top.table("cluster")?.ok_or((0, missing.to_owned()))
}

/// An error at a byte offset.
type Bad = (usize, String);

fn read(top: &mut Fields<'_, '_>, lines: &Lines<'_>) -> Result<Plan, Bad> {
    let cluster = cluster(top)?;
    let end_at = cluster.place("end");
    let mut plan = shape::read(cluster)?;
    let scope = Scope {
        hosts: plan.hosts,
        guests: plan.guests,
        networks: plan.networks,
    };
    for (table, at) in top.tables("at")? {
        step(Fields::new(table, at), scope, &mut plan)?;
    }
    let mut last = 0;
    for (table, at) in top.tables("expect")? {
        let mut f = Fields::new(table, at);
        let (by, after) = (f.seconds("by")?, f.seconds("after")?);
        let (Some(time), true) = (by.or(after), by.is_none() || after.is_none()) else {
            let what = "an expectation needs either `by` or `after`".to_owned();
            return Err((at, what));
        };
        let what = expect::read(&mut f, scope, after.is_some())?;
        if after.is_some() && !matches!(what, Expected::NotRuns { .. }) {
            let what = "`after` is for `runs = false` only; others are judged `by` a time";
            return Err((f.place("after"), what.to_owned()));
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
            steps::seconds(plan.end),
            steps::seconds(last)
        );
        return Err((end_at, what));
    }
    Ok(plan)
}

/// Reads one step, for a time or for a condition.
fn step(mut f: Fields<'_, '_>, scope: Scope, plan: &mut Plan) -> Result<(), Bad> {
    let at = f.at;
    let time = f.seconds("time")?;
    if let Some(mut trigger) = when::read(&mut f, scope)? {
        if time.is_some() {
            let what = "a step has `time` or `when`, not both".to_owned();
            return Err((f.place("time"), what));
        }
        trigger.action = verbs::action(&mut f, scope)?;
        f.finish()?;
        plan.triggers.push(trigger);
        return Ok(());
    }
    let missing = "no `time`: seconds from the beginning (or `when`, a condition)";
    let time = time.ok_or((at, missing.to_owned()))?;
    if let Some((before, _)) = plan.timeline.last().filter(|(t, _)| *t > time) {
        let what = format!(
            "time goes back to {} s; expected: {} s or later, as the step before",
            steps::seconds(time),
            steps::seconds(*before)
        );
        return Err((f.place("time"), what));
    }
    let action = verbs::action(&mut f, scope)?;
    f.finish()?;
    plan.timeline.push((time, action));
    Ok(())
}

#[cfg(test)]
mod tests;
