//! What keeps a guest from being started, as the nodes say it, and that it is not started then.

use super::lab::Lab;
use super::site::{HOSTS, OUTSIDER};
use quorate::demo::DemoError;
use std::time::Duration;

/// Longer than any start takes.
pub const QUIET: Duration = Duration::from_secs(8);

/// The kinds of holds of a guest.
pub fn kinds(lab: &Lab<'_>, by: &str, guest: &str) -> Result<Vec<String>, String> {
    let text = lab.site.quorate(by, &["guests", "--json"])?;
    let rows: serde_json::Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let mut rows = rows.as_array().into_iter().flatten();
    let row = rows.find(|r| r["name"] == guest).ok_or(text.clone())?;
    let holds = row["holds"].as_array().into_iter().flatten();
    let kinds = holds.filter_map(|h| h["kind"].as_str().map(str::to_owned));
    Ok(kinds.collect())
}

/// Waits until a host says that `guest` is held for `kind`.
pub fn held(lab: &Lab<'_>, by: &str, guest: &str, kind: &str) -> Result<(), DemoError> {
    lab.wait(&format!("{guest} to be held for {kind}"), || {
        let kinds = kinds(lab, by, guest)?;
        let held = kinds.iter().any(|k| k == kind);
        held.then_some(()).ok_or(format!("{kinds:?}"))
    })
}

/// Waits until a host says that nothing holds `guest`.
pub fn free(lab: &Lab<'_>, by: &str, guest: &str) -> Result<(), DemoError> {
    lab.wait(&format!("{guest} not to be held"), || {
        let kinds = kinds(lab, by, guest)?;
        kinds.is_empty().then_some(()).ok_or(format!("{kinds:?}"))
    })
}

/// The hosts that have a QEMU of `guest`.
pub fn emulated(lab: &Lab<'_>, guest: &str) -> Result<Vec<&'static str>, DemoError> {
    let named = format!("guest={guest},");
    let mut found = Vec::new();
    let all = HOSTS.into_iter().chain([OUTSIDER]);
    for host in all.filter(|h| lab.site.alive(h)) {
        let emulators = lab.site.emulators(host)?;
        if emulators.iter().any(|(_, line)| line.contains(&named)) {
            found.push(host);
        }
    }
    Ok(found)
}

/// Lets time pass; fails if `guest` has a QEMU anywhere then.
pub fn not_started(lab: &Lab<'_>, guest: &str) -> Result<(), DemoError> {
    lab.pass(QUIET)?;
    match emulated(lab, guest)?.as_slice() {
        [] => Ok(()),
        on => Err(DemoError::Failed(format!("{guest} was started on {on:?}"))),
    }
}
