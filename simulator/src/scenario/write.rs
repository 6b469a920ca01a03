//! Writing a plan as the scenario file that gives it back.
//!
//! Every nanosecond is kept, so a drawn plan can be stored, read and cut down by hand. What is as it
//! is by default is left out.

use super::shape::lengths;
use crate::cluster::Plan;
use crate::cluster::action::{Action, Ask, Class, DeviceMode, Ill, Who};
use crate::cluster::plan::{Expect, Expected};
use crate::world::{MS, SECOND};
use quorate_membership::entry::Away;
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
    for e in plan.expect.iter().filter(|e| e.at <= plan.end) {
        let _ = write!(text, "\n[[expect]]\n{}", expectation(e));
    }
    text
}

/// Nanoseconds as seconds, with every digit.
pub(super) fn seconds(ns: u64) -> String {
    fraction(ns, SECOND, 9)
}

fn millis(ns: u64) -> String {
    fraction(ns, MS, 6)
}

pub(super) fn fraction(value: u64, unit: u64, digits: usize) -> String {
    let text = format!("{}.{:0digits$}", value / unit, value % unit);
    let short = text.trim_end_matches('0').trim_end_matches('.');
    short.to_owned()
}

/// One value where all are alike, a list where they are not.
fn all<T: PartialEq>(values: &[T], word: impl Fn(&T) -> String) -> String {
    match values.first() {
        Some(first) if values.iter().all(|v| v == first) => word(first),
        _ => list(values.iter().map(word)),
    }
}

fn list(words: impl Iterator<Item = String>) -> String {
    format!("[{}]", words.collect::<Vec<_>>().join(", "))
}

fn quoted(word: &str) -> String {
    format!("\"{word}\"")
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
    f.put("end", seconds(plan.end));
    if let Some(healed) = plan.healed {
        f.put("healed", seconds(healed));
    }
    if plan.proof == ProofPolicy::DeviceAndLease {
        f.word("proof", "device-and-lease");
    }
    let plain = Plan::new(plan.seed, plan.hosts, plan.voters, plan.guests);
    if plan.devices != plain.devices {
        let word = |d: &Option<DeviceMode>| quoted(d.map_or("none", device));
        f.put("devices", all(&plan.devices, word));
    }
    if plan.watchdogs != plain.watchdogs {
        f.put("watchdogs", all(&plan.watchdogs, bool::to_string));
    }
    if plan.agents != plain.agents {
        f.put("agents", all(&plan.agents, bool::to_string));
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

fn device(mode: DeviceMode) -> &'static str {
    match mode {
        DeviceMode::Works => "works",
        DeviceMode::Fails => "fails",
        DeviceMode::Late => "late",
        DeviceMode::Lies => "lies",
        DeviceMode::Gone => "gone",
    }
}

fn class(class: Class) -> &'static str {
    match class {
        Class::Beat => "beat",
        Class::Ack => "ack",
        Class::Observation => "observation",
        Class::Election => "election",
        Class::Join => "join",
        Class::Session => "session",
    }
}

fn who(who: &Who) -> String {
    match who {
        Who::Host(host) => format!("h{}", host + 1),
        Who::Coordinator => "coordinator".into(),
        Who::OtherVoter => "other-voter".into(),
        Who::HostOf(guest) => format!("host-of-g{}", guest + 1),
    }
}

/// The lines of one table.
struct Step(String);

impl Step {
    fn put(&mut self, key: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn unless<T: PartialEq + std::fmt::Display>(&mut self, key: &str, value: T, usual: T) {
        if value != usual {
            self.put(key, value);
        }
    }

    fn word(&mut self, key: &str, value: &str) {
        self.put(key, quoted(value));
    }

    fn verb(&mut self, verb: &str) {
        self.word("do", verb);
    }

    fn host(&mut self, verb: &str, host: &Who) {
        self.verb(verb);
        self.word("host", &who(host));
    }

    fn for_so_long(&mut self, verb: &str, host: &Who, length: u64) {
        self.host(verb, host);
        self.put("for", seconds(length));
    }

    fn ends(&mut self, verb: &str, from: &Who, to: &Who) {
        self.verb(verb);
        self.word("from", &who(from));
        self.word("to", &who(to));
    }

    fn action(&mut self, action: &Action) {
        match action {
            Action::Cut { from, to, net } => {
                self.ends("cut", from, to);
                if let Some(net) = net {
                    self.put("net", net);
                }
            }
            Action::Mend { from, to } => self.ends("mend", from, to),
            Action::Isolate(host) => self.host("isolate", host),
            Action::Deaf(host) => self.host("deaf", host),
            Action::Mute(host) => self.host("mute", host),
            Action::OnlyTo(host, keep) => {
                self.host("only-to", host);
                self.word("keep", &who(keep));
            }
            Action::Partition(groups) => {
                self.verb("partition");
                let group = |g: &Vec<Who>| list(g.iter().map(|w| quoted(&who(w))));
                self.put("groups", list(groups.iter().map(group)));
            }
            Action::Reconnect(host) => self.host("reconnect", host),
            Action::Heal => self.verb("heal"),
            Action::FenceNetwork { from, cut: true } => self.host("fence-net-cut", from),
            Action::FenceNetwork { from, cut: false } => self.host("fence-net-mend", from),
            Action::Noise { loss, duplicate } => {
                self.verb("noise");
                self.put("loss", loss);
                self.put("duplicate", duplicate);
            }
            Action::Delay {
                jitter,
                long,
                long_max,
            } => {
                self.verb("delay");
                self.put("jitter-ms", millis(*jitter));
                self.unless("long", *long, 0);
                self.unless("long-ms", millis(*long_max), "0".into());
            }
            Action::Block {
                from,
                to,
                class: kind,
            } => {
                self.ends("block", from, to);
                self.word("class", class(*kind));
            }
            Action::Crash { who, restart } => {
                self.host("crash", who);
                if let Some(restart) = restart {
                    self.put("restart", seconds(*restart));
                }
            }
            Action::Stop { who, length } => self.for_so_long("stop", who, *length),
            Action::Freeze { who, length } => self.for_so_long("freeze", who, *length),
            Action::PowerOff { who, back } => {
                self.host("power-off", who);
                if let Some(back) = back {
                    self.put("back", seconds(*back));
                }
            }
            Action::PowerOn(host) => self.host("power-on", host),
            Action::AllPowerOff { back } => {
                self.verb("all-power-off");
                self.put("back", seconds(*back));
            }
            Action::GuestCrash(guest) => self.guest("guest-crash", *guest),
            Action::Guest(guest, ill) => self.ill(*guest, *ill),
            Action::Starve { who, length } => self.for_so_long("starve", who, *length),
            Action::Device { who, mode } => {
                self.host("device", who);
                self.word("mode", device(*mode));
            }
            Action::Silent { who, length } => self.for_so_long("silent", who, *length),
            Action::SlowCreate { who, longest } => {
                self.host("slow-create", who);
                self.put("longest", seconds(*longest));
            }
            Action::StuckKill(host) => self.host("stuck-kill", host),
            Action::SlowDisk { who, delay } => {
                self.host("slow-disk", who);
                self.put("from-ms", millis(delay.0));
                self.put("to-ms", millis(delay.1));
            }
            Action::StoreFails(host) => self.host("store-fails", host),
            Action::Ask(host, ask) => self.ask(host, ask),
            Action::Calm => self.verb("calm"),
        }
    }

    fn guest(&mut self, verb: &str, guest: usize) {
        self.verb(verb);
        self.put("guest", quoted(&format!("g{}", guest + 1)));
    }

    fn ill(&mut self, guest: usize, ill: Ill) {
        let (verb, length) = match ill {
            Ill::Panics => ("guest-panic", None),
            Ill::Hangs { .. } => ("guest-hang", None),
            Ill::Sickens => ("guest-sick", None),
            Ill::AgentStops => ("guest-agent-stop", None),
            Ill::Computes(length) => ("guest-compute", Some(length)),
            Ill::Freezes(length) => ("guest-freeze", Some(length)),
            Ill::Suspended(length) => ("guest-suspend", Some(length)),
            Ill::DiskFull(length) => ("guest-disk-full", Some(length)),
            Ill::ShutsDown => ("guest-shutdown", None),
        };
        self.guest(verb, guest);
        if let Some(length) = length {
            self.put("for", seconds(length));
        }
        if ill == (Ill::Hangs { spins: false }) {
            self.put("spins", false);
        }
    }

    fn ask(&mut self, host: &Who, ask: &Ask) {
        let verb = match ask {
            Ask::Stop(_) => "ask-stop",
            Ask::Start(_) => "ask-start",
            Ask::Fence(_) => "ask-fence",
            Ask::ConfirmOff(_) => "ask-confirm-off",
            Ask::Publish => "ask-publish",
            Ask::Leave(_) => "ask-leave",
        };
        self.host(verb, host);
        match ask {
            Ask::Stop(guest) | Ask::Start(guest) => {
                self.put("guest", quoted(&format!("g{}", guest + 1)));
            }
            Ask::Fence(target) | Ask::ConfirmOff(target) => self.word("target", &who(target)),
            Ask::Publish => {}
            Ask::Leave(Away::Stop) => self.word("why", "stop"),
            Ask::Leave(Away::Reboot) => self.word("why", "reboot"),
            Ask::Leave(Away::Shutdown) => self.word("why", "shutdown"),
        }
    }
}

fn expectation(e: &Expect) -> String {
    let mut f = Step(String::new());
    let standing = matches!(e.what, Expected::NotRuns { .. });
    f.put(if standing { "after" } else { "by" }, seconds(e.at));
    let name = |host: usize| who(&Who::Host(host));
    let guest = |guest: usize| format!("g{}", guest + 1);
    match &e.what {
        Expected::Runs { guest: g, on } | Expected::NotRuns { guest: g, on } => {
            f.word("guest", &guest(*g));
            f.put("runs", !standing);
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
            f.word("guest", &guest(*g));
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
        Expected::Member(host) => {
            f.word("host", &name(*host));
            f.put("member", true);
        }
    }
    f.0
}
