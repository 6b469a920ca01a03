//! The table `[cluster]`: what stands before anything is done to it.

use super::Bad;
use super::fields::{Fields, decimal, truth, wrong};
use super::words::{DEVICES, value};
use crate::cluster::Plan;
use crate::cluster::action::DeviceMode;
use crate::world::MS;
use quorate_membership::member::LOG_LIMIT;
use quorate_membership::{ProofPolicy, Timing};
use std::time::Duration;
use toml::Spanned;
use toml::de::DeValue;

/// Keys and what they mean, for the help.
pub(super) const KEYS: &[(&str, &str)] = &[
    (
        "voters = 3, hosts = voters",
        "how many; at most 7 and 8; the first hosts vote",
    ),
    (
        "guests = 1, witnesses = 0",
        "guests to add; voters, the last ones, that run none",
    ),
    (
        "seed = 1, end, healed",
        "randomness; when it ends; from when on liveness counts",
    ),
    (
        "timing = \"fast\"",
        "or \"default\", or a table: profile and what differs from it",
    ),
    ("proof = \"device\"", "or \"device-and-lease\""),
    (
        "devices, outlets, watchdogs",
        "of all hosts, or a list with one for each",
    ),
    (
        "agents = true",
        "in all guests, or a list with one for each",
    ),
    (
        "networks = 1, multicast = false, delay-ms = [0.1, 2]",
        "shortest delay, and what is added at random",
    ),
    (
        "room-mib, wants-mib, priorities",
        "memory of hosts, needs of guests, their priorities; one number for all, or a list",
    ),
    ("clock-ppm = [0, 50]", "rate errors, from the first host on"),
    (
        "stall, create-hangs, create-fails",
        "chance per million of each step or creation",
    ),
    (
        "bare = true",
        "no virtual machines, of all hosts, or a list with one for each",
    ),
    (
        "unvouched-wait = false",
        "voters that nobody vouches for wait rather than vote",
    ),
    (
        "images = false",
        "each guest has an image, and a lock beside it",
    ),
    (
        "founded-before = 0",
        "epochs of clusters that a first voter belonged to before",
    ),
    (
        "log-limit",
        "bytes of the log beyond which a voter that is away is left behind; 8388608",
    ),
    (
        "taken-late-ms = 0",
        "a program above each node takes a message so long after it was told; 0: none listens",
    ),
    (
        "snapshot-every",
        "entries between two snapshots of a node; by the seed",
    ),
];

/// Reads it.
pub(super) fn read(mut f: Fields<'_, '_>) -> Result<Plan, Bad> {
    let voters_at = f.place("voters");
    let voters = f.whole("voters", 1, 7)?.unwrap_or(3) as usize;
    let hosts = f.whole("hosts", 1, 8)?.unwrap_or(voters as u64) as usize;
    if hosts < voters {
        return Err((
            voters_at,
            format!("{voters} voters, but only {hosts} hosts"),
        ));
    }
    let guests = f.whole("guests", 0, 4000)?.unwrap_or(1) as usize;
    let mut plan = Plan::new(seed(&mut f)?, hosts, voters, guests);
    plan.witnesses = f.whole("witnesses", 0, voters as u64)?.unwrap_or(0) as usize;
    plan.multicast = f.truth("multicast")?.unwrap_or(false);
    plan.networks = f.whole("networks", 1, 8)?.unwrap_or(1) as usize;
    plan.end = f.seconds("end")?.unwrap_or(0);
    plan.timing = timing(&mut f)?;
    if let Some((word, at)) = f.word("proof")? {
        plan.proof = match word.as_str() {
            "device" => ProofPolicy::Device,
            "device-and-lease" => ProofPolicy::DeviceAndLease,
            _ => {
                let what = format!("proof {word:?}; allowed: device, device-and-lease");
                return Err((at, what));
            }
        };
    }
    if let Some(devices) = f.each("devices", hosts, "host", |v| device(v, "devices"))? {
        plan.devices = devices;
    }
    if let Some(outlets) = f.each("outlets", hosts, "host", |v| device(v, "outlets"))? {
        plan.outlets = outlets;
    }
    if let Some(on) = f.each("watchdogs", hosts, "host", |v| truth(v, "watchdogs"))? {
        plan.watchdogs = on;
    }
    if let Some(on) = f.each("agents", guests, "guest", |v| truth(v, "agents"))? {
        plan.agents = on;
    }
    if let Some(room) = f.each("room-mib", hosts, "host", |v| amount(v, "room-mib"))? {
        plan.room = room;
    }
    if let Some(wants) = f.each("wants-mib", guests, "guest", |v| amount(v, "wants-mib"))? {
        plan.wants = wants;
    }
    if let Some(all) = f.each("priorities", guests, "guest", |v| amount(v, "priorities"))? {
        plan.priorities = all;
    }
    clocks(&mut f, &mut plan)?;
    if let Some([base, jitter]) = f.all_millis("delay-ms")? {
        plan.delay = (base, jitter);
    }
    for (key, chance) in [
        ("stall", &mut plan.stall),
        ("create-hangs", &mut plan.create_hangs),
        ("create-fails", &mut plan.create_fails),
    ] {
        *chance = f.whole(key, 0, 1_000_000)?.unwrap_or(0) as u32;
    }
    if let Some(bare) = f.each("bare", hosts, "host", |v| truth(v, "bare"))? {
        plan.bare = bare;
    }
    plan.waits = f.truth("unvouched-wait")?.unwrap_or(false);
    plan.images = f.truth("images")?.unwrap_or(false);
    plan.founded = f.whole("founded-before", 0, 65_534)?.unwrap_or(0) as u32;
    if let Some(entries) = f.whole("snapshot-every", 1, 1_000_000)? {
        plan.snapshot_every = entries;
    }
    plan.taken_late = f.whole("taken-late-ms", 0, 3_600_000)?.unwrap_or(0) * MS;
    if let Some(bytes) = f.whole("log-limit", 1, LOG_LIMIT)? {
        plan.log_limit = bytes;
    }
    plan.healed = f.seconds("healed")?;
    f.finish()?;
    Ok(plan)
}

/// The seed: a number, or a text for those that TOML has no number for.
pub(super) fn seed(f: &mut Fields<'_, '_>) -> Result<u64, Bad> {
    if f.is_text("seed") {
        let found = f.word("seed")?;
        let (word, at) = found.unwrap_or_default();
        let bad = |_| (at, format!("seed {word:?}; expected a whole number"));
        return word.parse().map_err(bad);
    }
    Ok(f.whole("seed", 0, i64::MAX as u64)?.unwrap_or(1))
}

fn device(v: &Spanned<DeValue<'_>>, key: &str) -> Result<Option<DeviceMode>, Bad> {
    match v.get_ref() {
        DeValue::String(s) if s == "none" => Ok(None),
        DeValue::String(s) => value(DEVICES, "device", s, v.span().start).map(Some),
        other => Err(wrong(v, key, other, "a text, or one for each host")),
    }
}

/// Rate errors, from the first host on; hosts that are not named run true.
fn clocks(f: &mut Fields<'_, '_>, plan: &mut Plan) -> Result<(), Bad> {
    let at = f.place("clock-ppm");
    let Some(rates) = f.array("clock-ppm")? else {
        return Ok(());
    };
    if rates.len() > plan.hosts {
        let what = format!("clock-ppm names more than {} hosts", plan.hosts);
        return Err((at, what));
    }
    for (host, rate) in rates.iter().enumerate() {
        let ppm = decimal(rate.get_ref()).filter(|p| p.abs() <= 100_000.0);
        let what = "numbers from -100000 to 100000";
        let ppm = ppm.ok_or_else(|| wrong(rate, "clock-ppm", rate.get_ref(), what))?;
        plan.rates[host] = (ppm * 1000.0).round() as i64;
    }
    Ok(())
}

/// What no run could be made with if it were nothing.
const SOME_TIME: [&str; 6] = [
    "heartbeat",
    "lease",
    "watchdog",
    "kill",
    "election",
    "coordinator-lease",
];

/// A profile by name, or a table of what differs from the fast one.
fn timing(f: &mut Fields<'_, '_>) -> Result<Timing, Bad> {
    if f.is_text("timing") {
        let (word, at) = f.word("timing")?.unwrap_or_default();
        return profile(&word, at);
    }
    let Some(mut t) = f.table("timing")? else {
        return Ok(Timing::fast());
    };
    let mut timing = match t.word("profile")? {
        Some((word, at)) => profile(&word, at)?,
        None => Timing::fast(),
    };
    for (key, value) in lengths(&mut timing) {
        let at = t.place(key);
        if let Some(ns) = t.seconds(key)? {
            if SOME_TIME.contains(&key) && ns < 10 * MS {
                let what = format!("{key} is below 0.01; expected 0.01 s or longer");
                return Err((at, what));
            }
            *value = Duration::from_nanos(ns);
        }
    }
    if let Some(misses) = t.whole("misses", 1, 1000)? {
        timing.misses = misses as u32;
    }
    if let Some(ppm) = t.whole("clock-rate-ppm", 0, 100_000)? {
        timing.clock_rate_ppm = ppm as u32;
    }
    if let Some(ns) = t.seconds("takeover")? {
        timing.takeover = Some(Duration::from_nanos(ns));
    }
    if let Some(ns) = t.seconds("coordinator-takeover")? {
        timing.coordinator_takeover = Some(Duration::from_nanos(ns));
    }
    let at = t.at;
    t.finish()?;
    timing
        .check()
        .map_err(|why| (at, format!("this timing is not safe: {why}")))?;
    Ok(timing)
}

fn profile(word: &str, at: usize) -> Result<Timing, Bad> {
    match word {
        "fast" => Ok(Timing::fast()),
        "default" => Ok(Timing::default()),
        _ => Err((at, format!("timing {word:?}; allowed: fast, default"))),
    }
}

/// The lengths of a timing that are always there, by their keys.
pub(super) fn lengths(t: &mut Timing) -> [(&'static str, &mut Duration); 12] {
    [
        ("heartbeat", &mut t.heartbeat),
        ("jitter", &mut t.jitter),
        ("round-trip", &mut t.round_trip),
        ("lease", &mut t.lease),
        ("pause-margin", &mut t.pause_margin),
        ("watchdog", &mut t.watchdog),
        ("watchdog-granularity", &mut t.watchdog_granularity),
        ("kill", &mut t.kill),
        ("drain", &mut t.drain),
        ("slack", &mut t.slack),
        ("election", &mut t.election),
        ("coordinator-lease", &mut t.coordinator_lease),
    ]
}

/// A whole number of up to nine digits.
fn amount<T: TryFrom<u64>>(v: &Spanned<DeValue<'_>>, key: &str) -> Result<T, Bad> {
    let number = match v.get_ref() {
        DeValue::Integer(i) => i.to_string().parse::<u64>().ok(),
        _ => None,
    };
    let small = number.filter(|n| *n < 1_000_000_000);
    let fits = small.and_then(|n| T::try_from(n).ok());
    fits.ok_or_else(|| wrong(v, key, v.get_ref(), "a whole number from 0 to 999999999"))
}
