//! The table `[cluster]`: what `quorate cluster init` founds a cluster with.

use super::error::Fault;
use super::reader::{Found, Section, expected};
use super::timeline;
use quorate_membership::{NodeId, ProofPolicy, Timing, TimingError};
use std::ops::Range;
use std::time::Duration;

/// Fewest and most voters: one alone decides nothing safely, more than seven only slow it down.
const VOTERS: std::ops::RangeInclusive<usize> = 3..=7;

/// How a cluster is founded. After that these are values in the log, the same for all hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundingSettings {
    /// The first voters.
    pub voters: Vec<NodeId>,
    /// Name of the profile the timing starts from.
    pub profile: String,
    /// The timing, safe by its own arithmetic.
    pub timing: Timing,
    /// What counts as proof that a host is off.
    pub proof: ProofPolicy,
}

pub(super) fn read(section: Section<'_, '_>, known: &[NodeId]) -> Result<FoundingSettings, Fault> {
    let voters = voters(&section, known)?;
    let profile = section.text("profile")?;
    let base = match profile.as_ref().map(|p| p.value.as_str()) {
        None | Some("default") => Timing::default(),
        Some("fast") => Timing::fast(),
        Some(other) => {
            return Err(Fault {
                at: section.place_of("profile"),
                key: "cluster.profile".into(),
                message: expected(format!("{other:?}"), "\"default\" or \"fast\""),
            });
        }
    };
    let proof = match section.text("proof")? {
        None => ProofPolicy::default(),
        Some(found) => match found.value.as_str() {
            "device" => ProofPolicy::Device,
            "device-and-lease" => ProofPolicy::DeviceAndLease,
            other => {
                return Err(found.fault(expected(
                    format!("{other:?}"),
                    "\"device\" or \"device-and-lease\"",
                )));
            }
        },
    };
    let timing = match section.table("timing")? {
        Some(table) => {
            let timing = overrides(&table, base)?;
            table.finish()?;
            if let Err(e) = timing.check() {
                return Err(unsafe_timing(&timing, &e, |key| table.place_of(key)));
            }
            timing
        }
        None => base,
    };
    section.finish()?;
    Ok(FoundingSettings {
        voters,
        profile: profile.map_or_else(|| "default".into(), |p| p.value),
        timing,
        proof,
    })
}

fn voters(section: &Section<'_, '_>, known: &[NodeId]) -> Result<Vec<NodeId>, Fault> {
    let allowed = format!("{} to {} node ids", VOTERS.start(), VOTERS.end());
    let found = section.numbers("voters", 1, u32::MAX.into())?;
    let found = section.need("voters", found, &allowed)?;
    if !VOTERS.contains(&found.value.len()) {
        return Err(found.fault(expected(found.value.len(), &allowed)));
    }
    let mut voters = Vec::new();
    for voter in &found.value {
        let node = NodeId(voter.value as u32);
        if voters.contains(&node) {
            return Err(voter.fault(format!("{} is listed twice", node.0)));
        }
        if !known.contains(&node) {
            return Err(voter.fault(format!(
                "{} is neither this node nor a [[peer]]; a voter must be reachable",
                node.0
            )));
        }
        voters.push(node);
    }
    Ok(voters)
}

/// Every timing value, in milliseconds except where its name says otherwise.
fn overrides(table: &Section<'_, '_>, mut timing: Timing) -> Result<Timing, Fault> {
    // A day: whatever is longer is a slip of the pen.
    const MS_MAX: u64 = 86_400_000;
    let ms = |found: Found<u64>| Duration::from_millis(found.value);
    for (key, value) in [
        ("heartbeat", &mut timing.heartbeat),
        ("jitter", &mut timing.jitter),
        ("round_trip", &mut timing.round_trip),
        ("lease", &mut timing.lease),
        ("pause_margin", &mut timing.pause_margin),
        ("watchdog", &mut timing.watchdog),
        ("watchdog_granularity", &mut timing.watchdog_granularity),
        ("kill", &mut timing.kill),
        ("drain", &mut timing.drain),
        ("slack", &mut timing.slack),
        ("election", &mut timing.election),
        ("coordinator_lease", &mut timing.coordinator_lease),
    ] {
        if let Some(found) = table.number(key, 0, MS_MAX)? {
            *value = ms(found);
        }
    }
    for (key, value) in [
        ("takeover", &mut timing.takeover),
        ("coordinator_takeover", &mut timing.coordinator_takeover),
    ] {
        if let Some(found) = table.number(key, 0, MS_MAX)? {
            *value = Some(ms(found));
        }
    }
    if let Some(found) = table.number("misses", 1, 10_000)? {
        timing.misses = found.value as u32;
    }
    if let Some(found) = table.number("clock_rate_ppm", 0, 1_000_000)? {
        timing.clock_rate_ppm = found.value as u32;
    }
    Ok(timing)
}

/// The refusal of a timing: the promise broken, both sides, and what would happen when.
fn unsafe_timing(
    timing: &Timing,
    error: &TimingError,
    place: impl Fn(&str) -> Range<usize>,
) -> Fault {
    let key = match error {
        TimingError::Zero { key } => key,
        TimingError::ClockRate { .. } => "clock_rate_ppm",
        // Its name begins with the name of the setting.
        TimingError::Broken { left_name, .. } => left_name.split(' ').next().unwrap_or(left_name),
    };
    let mut message = error.to_string();
    for line in timeline::violation(timing, error) {
        message.push_str("\n  ");
        message.push_str(&line);
    }
    Fault {
        at: place(key),
        key: format!("cluster.timing.{key}"),
        message,
    }
}
