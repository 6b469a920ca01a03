//! What a scenario expects.

use super::Bad;
use super::fields::{Fields, Scope};
use crate::cluster::plan::Expected;
use crate::cluster::report::PROPERTIES;

/// Keys, meaning.
pub(super) const EXPECTATIONS: &[(&str, &str)] = &[
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
        "[guest,] starts-at-most = N",
        "so often at most it (each guest) was started up to then",
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
        "host, member = true|false",
        "the host is admitted and not revoked at that time, or is not",
    ),
    (
        "host, on = true|false",
        "the host has power at that time, or has none",
    ),
    (
        "[host,] reboots-at-most = N",
        "so often at most it (each host) lost its power up to then",
    ),
    ("no-fencing = true", "no device cut any host up to then"),
    (
        "coordinator = true [, not = host]",
        "somebody (else) acts as coordinator at that time",
    ),
    ("coordinator = false", "nobody does"),
    (
        "coordinator-changes-at-most = N [, since]",
        "so often at most another host became coordinator (since a time)",
    ),
    (
        "terms-at-most = N [, since]",
        "so many terms at most began (since a time)",
    ),
    ("all-run = true", "every guest runs at that time"),
    ("none-run = true", "no guest runs at that time"),
    (
        "violation = promise, or a list",
        "one of these is broken by then: an assumption of theirs is taken away",
    ),
];

/// Reads one; `by`, `after` and their like were taken already. `standing`: with `after`.
pub(super) fn read(f: &mut Fields<'_, '_>, scope: Scope, standing: bool) -> Result<Expected, Bad> {
    let at = f.at;
    let guest = f.guest("guest", scope.guests)?;
    let host = f.host_number("host", scope.hosts)?;
    let allowed: Vec<&str> = EXPECTATIONS.iter().map(|(keys, _)| *keys).collect();
    let nothing = || {
        let what = format!("this expects nothing; allowed: {}", allowed.join(" | "));
        (at, what)
    };
    if let Some(guest) = guest {
        return of_guest(f, guest, host, standing)?.ok_or_else(nothing);
    }
    if let Some(host) = host {
        return of_host(f, host)?.ok_or_else(nothing);
    }
    Ok(if let Some(acts) = f.truth("coordinator")? {
        let not = f.who("not", scope)?;
        if acts {
            Expected::Coordinator { not }
        } else {
            Expected::NoCoordinator
        }
    } else if let Some(most) = f.whole("coordinator-changes-at-most", 0, MANY)? {
        let since = f.seconds("since")?.unwrap_or(0);
        Expected::ChangesAtMost { most, since }
    } else if let Some(most) = f.whole("terms-at-most", 0, MANY)? {
        let since = f.seconds("since")?.unwrap_or(0);
        Expected::TermsAtMost { most, since }
    } else if let Some(starts) = f.whole("starts-at-most", 0, MANY)? {
        let (guest, starts) = (None, starts as u32);
        Expected::StartsAtMost { guest, starts }
    } else if let Some(reboots) = f.whole("reboots-at-most", 0, MANY)? {
        let (host, reboots) = (None, reboots as u32);
        Expected::RebootsAtMost { host, reboots }
    } else if f.truth("no-fencing")? == Some(true) {
        Expected::NoFencing
    } else if f.truth("all-run")? == Some(true) {
        Expected::AllRun
    } else if f.truth("none-run")? == Some(true) {
        Expected::NoneRuns
    } else if let Some(promises) = f.texts("violation")? {
        let known = |(word, at): (String, usize)| {
            let found = PROPERTIES.iter().find(|p| **p == word);
            let allowed = PROPERTIES.join(", ");
            let what = || format!("violation {word:?}; allowed: {allowed}");
            found.copied().ok_or_else(|| (at, what()))
        };
        Expected::Broken(promises.into_iter().map(known).collect::<Result<_, _>>()?)
    } else {
        return Err(nothing());
    })
}

/// No run counts further.
const MANY: u64 = 1_000_000;

fn of_guest(
    f: &mut Fields<'_, '_>,
    guest: usize,
    on: Option<usize>,
    standing: bool,
) -> Result<Option<Expected>, Bad> {
    if let Some(runs) = f.truth("runs")? {
        return Ok(Some(match (runs, standing) {
            (true, _) => Expected::Runs { guest, on },
            (false, true) => Expected::NotRuns { guest, on },
            (false, false) => Expected::RunsNot { guest, on },
        }));
    }
    if on.is_some() {
        return Ok(None);
    }
    if f.truth("well")? == Some(true) {
        return Ok(Some(Expected::Well(guest)));
    }
    let starts = f.whole("starts-at-most", 0, MANY)?;
    Ok(starts.map(|starts| Expected::StartsAtMost {
        guest: Some(guest),
        starts: starts as u32,
    }))
}

fn of_host(f: &mut Fields<'_, '_>, host: usize) -> Result<Option<Expected>, Bad> {
    if let Some(fenced) = f.truth("fenced")? {
        return Ok(Some(match fenced {
            true => Expected::Fenced(host),
            false => Expected::NeverFenced(host),
        }));
    }
    if let Some(lost) = f.truth("lost")? {
        return Ok(Some(match lost {
            true => Expected::Lost(host),
            false => Expected::NeverLost(host),
        }));
    }
    if let Some(is) = f.truth("member")? {
        return Ok(Some(match is {
            true => Expected::Member(host),
            false => Expected::NoMember(host),
        }));
    }
    if let Some(on) = f.truth("on")? {
        return Ok(Some(Expected::Power { host, on }));
    }
    let reboots = f.whole("reboots-at-most", 0, MANY)?;
    Ok(reboots.map(|reboots| Expected::RebootsAtMost {
        host: Some(host),
        reboots: reboots as u32,
    }))
}
