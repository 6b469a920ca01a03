//! Whether the fencing configuration of one host is one we dare to run.

use crate::agent::{BadCall, folded, parameter};
use crate::class::{Device, Level, NoClass, ProofClass};
use std::collections::BTreeMap;
use thiserror::Error;

/// The most levels a host may have.
pub const LEVELS_MAX: usize = 9;
/// The most devices a level may have.
pub const DEVICES_MAX: usize = 16;
/// The most parameters a device may have.
pub const PARAMETERS_MAX: usize = 64;
/// The longest a device may take, in milliseconds.
pub const LIMIT_MS_MAX: u64 = 600_000;
/// The longest name of a device, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// One thing wrong with the levels of a host.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{key}: found {found}; allowed: {allowed}", place(*level, device.as_deref()))]
pub struct Fault {
    /// The level, counted from 1; zero for all of them together.
    pub level: usize,
    /// The device, if it is about one.
    pub device: Option<String>,
    /// The key.
    pub key: String,
    /// What was found there. Values of parameters are never shown.
    pub found: String,
    /// What is allowed there.
    pub allowed: String,
}

fn place(level: usize, device: Option<&str>) -> String {
    match (level, device) {
        (0, _) => String::new(),
        (level, None) => format!("level {level}: "),
        (level, Some(device)) => format!("level {level}, device {device:?}: "),
    }
}

/// Whether these levels, in the order in which they are tried, may fence a host.
///
/// # Errors
/// Everything wrong with them, in order.
pub fn check(levels: &[Level]) -> Result<(), Vec<Fault>> {
    let mut faults = Faults::default();
    if levels.len() > LEVELS_MAX {
        let allowed = format!("at most {LEVELS_MAX}; the lease is always the last and not named");
        faults.add("levels", levels.len().to_string(), allowed);
    }
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, level) in levels.iter().enumerate() {
        (faults.level, faults.device) = (index + 1, None);
        if level.devices.is_empty() || level.devices.len() > DEVICES_MAX {
            faults.add(
                "devices",
                level.devices.len().to_string(),
                format!("1 to {DEVICES_MAX}"),
            );
        }
        for device in &level.devices {
            faults.device = Some(device.name.clone());
            if let Some(first) = names.insert(&device.name, index + 1) {
                let found = format!("{:?}, which level {first} has too", device.name);
                faults.add("name", found, "a name of its own for each device of a host");
            }
            check_device(device, &mut faults);
        }
        faults.device = None;
        check_classes(level, &mut faults);
    }
    if faults.found.is_empty() {
        Ok(())
    } else {
        Err(faults.found)
    }
}

#[derive(Default)]
struct Faults {
    level: usize,
    device: Option<String>,
    found: Vec<Fault>,
}

impl Faults {
    fn add(&mut self, key: &str, found: impl Into<String>, allowed: impl Into<String>) {
        self.found.push(Fault {
            level: self.level,
            device: self.device.clone(),
            key: key.to_owned(),
            found: found.into(),
            allowed: allowed.into(),
        });
    }
}

fn check_device(device: &Device, faults: &mut Faults) {
    let name = &device.name;
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let allowed = format!("1 to {NAME_BYTES_MAX} bytes without control characters");
        faults.add("name", format!("{name:?}"), allowed);
    }
    if !agent_allowed(&device.agent) {
        let allowed = "a fence_* file name (letters, digits, '_', '-', '.') or an absolute path";
        faults.add("agent", format!("{:?}", device.agent), allowed);
    }
    if device.limit_ms == 0 || device.limit_ms > LIMIT_MS_MAX {
        faults.add(
            "limit_ms",
            device.limit_ms.to_string(),
            format!("1 to {LIMIT_MS_MAX}"),
        );
    }
    match device.class() {
        Ok(_) => {}
        Err(NoClass::Unsaid { agent }) => {
            let classes = ProofClass::ALL.map(ProofClass::as_str).join(", ");
            let found = format!("none, and {agent} is not in the shipped table");
            faults.add("class", found, format!("one of {classes}"));
        }
        Err(NoClass::Nothing { agent, why }) => {
            faults.add(
                "agent",
                format!("{agent}: {why}"),
                "an agent whose word proves something",
            );
        }
        Err(NoClass::Contradicts { agent, known, said }) => {
            let allowed = format!("{known}, as the shipped table says of {agent}, or no class");
            faults.add("class", said.as_str(), allowed);
        }
    }
    check_parameters(device, faults);
}

fn check_parameters(device: &Device, faults: &mut Faults) {
    if device.parameters.len() > PARAMETERS_MAX {
        let found = device.parameters.len().to_string();
        faults.add("parameters", found, format!("at most {PARAMETERS_MAX}"));
    }
    // Agents take `port` and `plug`, and `-` and `_`, as one name, and the last line wins: which
    // one that is must not depend on the alphabet.
    let mut same: BTreeMap<String, &str> = BTreeMap::new();
    for (name, value) in &device.parameters {
        let key = format!("parameters.{}", name.escape_debug());
        match parameter(name, value) {
            Ok(()) | Err(BadCall::Target(_)) => {}
            Err(BadCall::Name { name, why }) => faults.add(&key, format!("name {name:?}"), why),
            Err(BadCall::Value { why, .. }) => faults.add(&key, "a value that is refused", why),
        }
        let one = match folded(name) {
            plug if plug == "plug" => "port".to_owned(),
            other => other,
        };
        if let Some(first) = same.insert(one, name) {
            let found = format!("{name:?} beside {first:?}");
            faults.add(&key, found, "one of the two: agents take them as the same");
        }
    }
}

fn agent_allowed(agent: &str) -> bool {
    let plain = |s: &str| {
        !s.is_empty()
            && s.chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
    };
    match agent.strip_prefix('/') {
        Some(path) => path
            .split('/')
            .all(|part| plain(part) && part != "." && part != ".."),
        None => plain(agent) && agent.starts_with("fence_"),
    }
}

fn check_classes(level: &Level, faults: &mut Faults) {
    // A device without class has been named already.
    let mut classes = Vec::new();
    for device in &level.devices {
        match device.class() {
            Ok(class) => classes.push(class),
            Err(_) => return,
        }
    }
    if let Err(why) = level.proves()
        && !level.devices.is_empty()
    {
        faults.add(
            "devices",
            why.to_string(),
            "at least one device of class power or crash",
        );
    }
    if classes.contains(&ProofClass::Crash) && classes.contains(&ProofClass::Power) {
        let found = "a device of class crash beside one of class power";
        let allowed = "a level of its own for the crash device, before the power level: devices \
                       of one level act together, and the power cut would end the dump";
        faults.add("devices", found, allowed);
    }
}

#[cfg(test)]
mod tests;
