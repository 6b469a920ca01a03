//! The brake: how many hosts devices may cut within one window.
//!
//! A false alarm must not cut the power of a whole cluster. The brake holds back *device* fences
//! only: an expired lease and a host's own word are never braked, since those guests are gone
//! already and holding their restart back would help nobody.

use crate::mutants::planted;
use std::collections::BTreeMap;
use std::time::Duration;
use thiserror::Error;

/// The window the limit applies to.
pub const WINDOW: Duration = Duration::from_secs(600);

/// A device fence that may not begin now.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{used} hosts were cut in the last {window:?} and at most {limit} may be; \
     a place is free in {free_in:?}. Leases and hosts' own words are not held back"
)]
pub struct Braked {
    /// How many distinct hosts may be cut within the window.
    pub limit: u32,
    /// How many were.
    pub used: u32,
    /// The window.
    pub window: Duration,
    /// When the next place is free if nothing else is attempted, from now.
    pub free_in: Duration,
}

/// How many distinct hosts devices may cut within one window, of `n_hosts`, where the cluster
/// promises to survive the loss of any `k`: max(1, three tenths rounded down, k).
#[must_use]
pub fn limit(n_hosts: u32, k: u32) -> u32 {
    // In 64 bits: three times a 32-bit number does not fit 32.
    let tenths = u64::from(n_hosts) * 3 / 10;
    u32::try_from(tenths).unwrap_or(u32::MAX).max(k).max(1)
}

/// Whether a device fence of `host` may begin now.
///
/// `attempts` are the device attempts of the log: host and age. A new coordinator that has not yet
/// measured a window of its own gives every logged attempt the age zero. Attempts older than
/// `window` no longer count; several on one host count once, and a further attempt on a host that
/// is counted already takes no new place.
///
/// # Errors
/// The brake holds: how many hosts were cut, how many may be, and when a place is free.
pub fn allows(
    n_hosts: u32,
    k: u32,
    window: Duration,
    attempts: &[(u32, Duration)],
    host: u32,
) -> Result<(), Braked> {
    let mut youngest: BTreeMap<u32, Duration> = BTreeMap::new();
    for &(cut, age) in attempts.iter().filter(|(_, age)| *age <= window) {
        let kept = youngest.entry(cut).or_insert(age);
        *kept = age.min(*kept);
    }
    let limit = limit(n_hosts, k);
    let used = u32::try_from(youngest.len()).unwrap_or(u32::MAX);
    if youngest.contains_key(&host) || used < limit || planted("brake-off") {
        return Ok(());
    }
    let mut ages: Vec<Duration> = youngest.into_values().collect();
    ages.sort_unstable();
    // A place is free when fewer than `limit` are left: when the limit-th youngest leaves.
    let leaves = ages.get(limit as usize - 1).copied().unwrap_or_default();
    let free_in = window
        .saturating_sub(leaves)
        .saturating_add(Duration::from_nanos(1));
    Err(Braked {
        limit,
        used,
        window,
        free_in,
    })
}

#[cfg(test)]
mod tests;
