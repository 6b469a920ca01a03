//! The tables `[[fence]]`: how this host is to be fenced.

use super::Peer;
use super::error::Fault;
use super::reader::{Found, Section, absolute, expected};
use crate::net::of_one_link;
use quorate_fencing::{Device, Level, ProofClass};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A fence device answers within minutes or not at all.
const LIMIT_MS_MAX: u64 = 600_000;

/// Where fence agents are looked for: the distributions' place, then our own.
pub(super) fn agent_dirs(root: &Section<'_, '_>) -> Result<Vec<PathBuf>, Fault> {
    match root.texts("agent_dirs")? {
        Some(listed) => listed.value.iter().map(absolute).collect(),
        None => Ok(vec!["/usr/sbin".into(), "/usr/lib/quorate/agents".into()]),
    }
}

/// The levels of this host, in order.
pub(super) fn read(root: &Section<'_, '_>, dirs: &[PathBuf]) -> Result<Vec<Level>, Fault> {
    let mut levels: Vec<Level> = Vec::new();
    for section in root.tables("fence")? {
        let mut devices: Vec<Device> = Vec::new();
        for device in section.tables("device")? {
            let (found, name) = read_device(device, dirs)?;
            let mut earlier = levels.iter().flat_map(|l| &l.devices).chain(&devices);
            if earlier.any(|d| d.name == found.name) {
                return Err(name.fault(format!("{:?} is an earlier device's too", found.name)));
            }
            devices.push(found);
        }
        if devices.is_empty() {
            return section.need("device", None, "at least one table [[fence.device]]");
        }
        section.finish()?;
        let level = Level { devices };
        // What the crate that fences would refuse, said where it stands.
        judge(&section, levels.len() + 1, &level)?;
        levels.push(level);
    }
    if let Err(faults) = quorate_fencing::check(&levels) {
        return Err(root.fault_at("fence", listed(&faults)));
    }
    Ok(levels)
}

/// The agent that waits for word of a host's crash kernel.
const KDUMP: &str = "fence_kdump";

/// Says by which address a crash kernel speaks: the agent resolves what it is told, and the name of a
/// host may be in no DNS. Its own address on the first link, unless the file names another.
pub(super) fn name_host(
    root: &Section<'_, '_>,
    levels: &mut [Level],
    me: &Peer,
    peers: &[Peer],
) -> Result<(), Fault> {
    let kdump = |d: &&mut Device| d.agent.rsplit('/').next() == Some(KDUMP);
    let devices = levels.iter_mut().flat_map(|l| &mut l.devices);
    for device in devices.filter(kdump) {
        // An address of one link says nothing without the card of whoever asks.
        let first = me.addresses.first().filter(|a| !of_one_link(**a));
        let names = device.parameters.entry("nodename".to_owned());
        let named = names.or_insert_with(|| match first {
            Some(address) => address.to_string(),
            None => me.name.clone(),
        });
        let of = |p: &&Peer| {
            let address = named.parse::<IpAddr>().ok();
            let session = address == Some(p.session.at.ip);
            p.name == *named || session || p.addresses.iter().any(|a| Some(*a) == address)
        };
        if let Some(other) = peers.iter().find(of) {
            return Err(root.fault_at(
                "fence",
                format!(
                    "device {:?}: nodename {named:?} is {}; a dump of that host would count as the \
                     end of this one. Allowed: where the crash kernel of {} speaks from",
                    device.name, other.name, me.name
                ),
            ));
        }
    }
    Ok(())
}

/// Judges one level alone, so that the complaint has the place of its table.
fn judge(section: &Section<'_, '_>, number: usize, level: &Level) -> Result<(), Fault> {
    quorate_fencing::check(std::slice::from_ref(level)).map_err(|mut faults| {
        for fault in &mut faults {
            fault.level = number;
        }
        section.fault(listed(&faults))
    })
}

fn listed(faults: &[quorate_fencing::Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    lines.join("\n  ")
}

fn read_device(
    section: Section<'_, '_>,
    dirs: &[PathBuf],
) -> Result<(Device, Found<String>), Fault> {
    let name = section.need("name", section.text("name")?, "a name for people")?;
    let agent = section.need("agent", section.text("agent")?, "a fence agent")?;
    find_agent(&agent, dirs)?;
    let class = section
        .text("class")?
        .map(|found| {
            let text: StrDeserializer<'_, Error> = found.value.as_str().into_deserializer();
            ProofClass::deserialize(text).map_err(|e| found.fault(e.to_string()))
        })
        .transpose()?;
    let limit_ms = section.number("limit_ms", 1, LIMIT_MS_MAX)?;
    let parameters = match section.table("parameters")? {
        Some(table) => table.free_texts()?,
        None => Vec::new(),
    };
    for (key, value) in &parameters {
        // The agent reads one `name=value` a line.
        if key.contains(['=', '\n']) || value.contains('\n') {
            return Err(section.fault(format!(
                "parameter {key:?} cannot be said in a line `name=value`"
            )));
        }
    }
    section.finish()?;
    let device = Device {
        name: name.value.clone(),
        agent: agent.value,
        parameters: parameters.into_iter().collect(),
        class,
        limit_ms: limit_ms.map_or(20_000, |n| n.value),
    };
    Ok((device, name))
}

/// An agent that is missing must show now, not when a host is to be fenced.
fn find_agent(agent: &Found<String>, dirs: &[PathBuf]) -> Result<(), Fault> {
    let given = Path::new(&agent.value);
    let tried: Vec<PathBuf> = if given.is_absolute() {
        vec![given.to_owned()]
    } else if agent.value.is_empty() || agent.value.contains('/') {
        return Err(agent.fault(expected(
            format!("{:?}", agent.value),
            "the name of an agent in agent_dirs, or an absolute path",
        )));
    } else {
        dirs.iter().map(|dir| dir.join(given)).collect()
    };
    if tried.iter().any(|path| path.is_file()) {
        return Ok(());
    }
    let places: Vec<String> = tried.iter().map(|p| p.display().to_string()).collect();
    Err(agent.fault(format!(
        "no such fence agent; looked for {}",
        places.join(", ")
    )))
}
