//! Writing a plan as the scenario file that gives it back.
//!
//! Every nanosecond is kept, so a drawn plan can be stored, read and cut down by hand. What is as it
//! is by default is left out.

use super::shape::lengths;
use super::steps::{Step, fraction, list, millis, quoted, seconds, who};
use super::words::{DEVICES, word};
use crate::cluster::Plan;
use crate::cluster::action::{DeviceMode, Who};
use crate::cluster::plan::{Expect, Expected};
use quorate_membership::{ProofPolicy, Timing};
use std::fmt::Write;

/// The plan as a scenario; [`parse`](super::parse) gives it back. What would be done or judged
/// after the run's end is left out, since it never is.
#[must_use]
pub fn write(plan: &Plan) -> String {
    let mut text = String::new();
    cluster(&mut text, plan);
    for (time, action) in plan.timeline.iter().filter(|(at, _)| *at <= plan.end) {
        let mut step = Step(String::new());
        step.put("time", seconds(*time));
        step.action(action);
        let _ = write!(text, "\n[[at]]\n{}", step.0);
    }
    for trigger in &plan.triggers {
        let mut step = Step(String::new());
        step.trigger(trigger);
        let _ = write!(text, "\n[[at]]\n{}", step.0);
    }
    for e in plan.expect.iter().filter(|e| e.at <= plan.end) {
        let _ = write!(text, "\n[[expect]]\n{}", expectation(e));
    }
    text
}

/// One value where all are alike, a list where they are not.
fn all<T: PartialEq>(values: &[T], word: impl Fn(&T) -> String) -> String {
    match values.first() {
        Some(first) if values.iter().all(|v| v == first) => word(first),
        _ => list(values.iter().map(word)),
    }
}

fn cluster(text: &mut String, plan: &Plan) {
    let mut f = Step("[cluster]\n".into());
    if plan.seed > i64::MAX as u64 {
        f.word("seed", &plan.seed.to_string());
    } else {
        f.put("seed", plan.seed);
    }
    f.put("hosts", plan.hosts);
    f.put("voters", plan.voters);
    f.put("guests", plan.guests);
    f.unless("witnesses", plan.witnesses, 0);
    f.unless("networks", plan.networks, 1);
    f.unless("multicast", plan.multicast, false);
    f.put("end", seconds(plan.end));
    if let Some(healed) = plan.healed {
        f.put("healed", seconds(healed));
    }
    if plan.proof == ProofPolicy::DeviceAndLease {
        f.word("proof", "device-and-lease");
    }
    let plain = Plan::new(plan.seed, plan.hosts, plan.voters, plan.guests);
    let name = |d: &Option<DeviceMode>| quoted(d.as_ref().map_or("none", |d| word(DEVICES, d)));
    if plan.devices != plain.devices {
        f.put("devices", all(&plan.devices, name));
    }
    if plan.outlets != plain.outlets {
        f.put("outlets", all(&plan.outlets, name));
    }
    if plan.watchdogs != plain.watchdogs {
        f.put("watchdogs", all(&plan.watchdogs, bool::to_string));
    }
    if plan.agents != plain.agents {
        f.put("agents", all(&plan.agents, bool::to_string));
    }
    if plan.room != plain.room {
        f.put("room-mib", all(&plan.room, u64::to_string));
    }
    if plan.wants != plain.wants {
        f.put("wants-mib", all(&plan.wants, u64::to_string));
    }
    if plan.priorities != plain.priorities {
        f.put("priorities", all(&plan.priorities, i32::to_string));
    }
    if plan.rates != plain.rates {
        let ppm = |ppb: &i64| {
            let sign = if *ppb < 0 { "-" } else { "" };
            format!("{sign}{}", fraction(ppb.unsigned_abs(), 1000, 3))
        };
        f.put("clock-ppm", list(plan.rates.iter().map(ppm)));
    }
    if plan.delay != plain.delay {
        let (base, jitter) = plan.delay;
        f.put("delay-ms", list([base, jitter].into_iter().map(millis)));
    }
    f.unless("stall", plan.stall, 0);
    f.unless("create-hangs", plan.create_hangs, 0);
    f.unless("create-fails", plan.create_fails, 0);
    if plan.bare != plain.bare {
        f.put("bare", all(&plan.bare, bool::to_string));
    }
    f.unless("unvouched-wait", plan.waits, false);
    f.unless("images", plan.images, false);
    f.unless("founded-before", plan.founded, 0);
    f.unless("snapshot-every", plan.snapshot_every, plain.snapshot_every);
    f.unless("log-limit", plan.log_limit, plain.log_limit);
    f.unless("taken-late-ms", plan.taken_late / crate::world::MS, 0);
    text.push_str(&f.0);
    timing(text, &plan.timing);
}

fn timing(text: &mut String, t: &Timing) {
    if *t == Timing::fast() {
        return;
    }
    if *t == Timing::default() {
        text.push_str("timing = \"default\"\n");
        return;
    }
    let (mut own, mut fast) = (t.clone(), Timing::fast());
    let mut f = Step("\n[cluster.timing]\nprofile = \"fast\"\n".into());
    let both = lengths(&mut own).into_iter().zip(lengths(&mut fast));
    for ((key, value), (_, usual)) in both {
        if value != usual {
            f.put(key, seconds(value.as_nanos() as u64));
        }
    }
    f.unless("misses", t.misses, Timing::fast().misses);
    f.unless(
        "clock-rate-ppm",
        t.clock_rate_ppm,
        Timing::fast().clock_rate_ppm,
    );
    for (key, value) in [
        ("takeover", t.takeover),
        ("coordinator-takeover", t.coordinator_takeover),
    ] {
        if let Some(value) = value {
            f.put(key, seconds(value.as_nanos() as u64));
        }
    }
    text.push_str(&f.0);
}

fn expectation(e: &Expect) -> String {
    let mut f = Step(String::new());
    let standing = matches!(e.what, Expected::NotRuns { .. });
    f.put(if standing { "after" } else { "by" }, seconds(e.at));
    let name = |host: usize| who(&Who::Host(host));
    let guest = |guest: usize| format!("g{}", guest + 1);
    match &e.what {
        Expected::Runs { guest: g, on }
        | Expected::RunsNot { guest: g, on }
        | Expected::NotRuns { guest: g, on } => {
            f.word("guest", &guest(*g));
            f.put("runs", matches!(e.what, Expected::Runs { .. }));
            if let Some(host) = on {
                f.word("host", &name(*host));
            }
        }
        Expected::Fenced(host) | Expected::NeverFenced(host) => {
            f.word("host", &name(*host));
            f.put("fenced", matches!(e.what, Expected::Fenced(_)));
        }
        Expected::Lost(host) | Expected::NeverLost(host) => {
            f.word("host", &name(*host));
            f.put("lost", matches!(e.what, Expected::Lost(_)));
        }
        Expected::StartsAtMost { guest: g, starts } => {
            if let Some(g) = g {
                f.word("guest", &guest(*g));
            }
            f.put("starts-at-most", starts);
        }
        Expected::Coordinator { not } => {
            f.put("coordinator", true);
            if let Some(not) = not {
                f.word("not", &who(not));
            }
        }
        Expected::NoCoordinator => f.put("coordinator", false),
        Expected::Well(g) => {
            f.word("guest", &guest(*g));
            f.put("well", true);
        }
        Expected::AllRun => f.put("all-run", true),
        Expected::NoneRuns => f.put("none-run", true),
        Expected::Member(host) | Expected::NoMember(host) => {
            f.word("host", &name(*host));
            f.put("member", matches!(e.what, Expected::Member(_)));
        }
        Expected::Power { host, on } => {
            f.word("host", &name(*host));
            f.put("on", on);
        }
        Expected::RebootsAtMost { host, reboots } => {
            if let Some(host) = host {
                f.word("host", &name(*host));
            }
            f.put("reboots-at-most", reboots);
        }
        Expected::NoFencing => f.put("no-fencing", true),
        Expected::ChangesAtMost { most, since } => {
            f.put("coordinator-changes-at-most", most);
            f.unless("since", seconds(*since), "0".into());
        }
        Expected::TermsAtMost { most, since } => {
            f.put("terms-at-most", most);
            f.unless("since", seconds(*since), "0".into());
        }
        Expected::Broken(promises) => {
            f.put("violation", list(promises.iter().map(|p| quoted(p))));
        }
    }
    f.0
}
