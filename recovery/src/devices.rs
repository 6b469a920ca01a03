//! What the log knows of fence devices: how they are stated, and what each said of its host while
//! that ran.

use crate::machine::Guests;
use crate::mutants::planted;
use crate::trials::has_state;
use quorate_fencing::boxes::outlet;
use quorate_fencing::{Device, Level};
use quorate_membership::cluster::HostState;
use quorate_membership::{Cluster, Incarnation, NodeId, Token};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The devices of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    /// The entry by which the host stated them last.
    pub stated: Token,
    /// What each said of the host while that ran: true for on. Absent: it was never read then.
    pub said: BTreeMap<String, bool>,
}

/// Reason for which the word of a level is not relied on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRelied {
    /// The device said off while its host ran.
    #[error("its device {name} said off while the host ran, so it is not relied on")]
    SaidOff {
        /// The device.
        name: String,
    },
    /// The device was never read while its host ran.
    #[error("its device {name} was never read while the host ran, so it is not relied on")]
    NeverRead {
        /// The device.
        name: String,
    },
    /// Two hosts state one outlet.
    #[error(
        "its device {name} is the outlet that {other} states as {twin}, so it is not relied on"
    )]
    SharedOutlet {
        /// The device.
        name: String,
        /// The other host.
        other: NodeId,
        /// Name of it at the other host.
        twin: String,
    },
}

/// The devices of levels.
fn all(levels: &[Level]) -> impl Iterator<Item = &Device> {
    levels.iter().flat_map(|level| &level.devices)
}

impl Guests {
    /// Takes over how a host is fenced. What a device said goes on counting only if it is stated
    /// as before.
    pub(crate) fn state_fencing(
        &mut self,
        at: Token,
        host: NodeId,
        levels: &[Level],
    ) -> Result<(), String> {
        quorate_fencing::check(levels)
            .map_err(|faults| faults.first().map(ToString::to_string).unwrap_or_default())?;
        self.has_space_for_levels(host, levels)?;
        if self.fencing.get(&host).map(Vec::as_slice) == Some(levels) {
            return Err("no change".into());
        }
        let before = self.fencing.insert(host, levels.to_vec());
        let before = before.unwrap_or_default();
        let same = |name: &String| {
            let of = |levels| all(levels).find(|d| d.name == *name);
            of(&before).is_some() && of(&before) == of(levels)
        };
        let devices = self.devices.entry(host).or_default();
        devices.said.retain(|name, _| same(name));
        devices.stated = at;
        Ok(())
    }

    /// A device was read while its host ran.
    pub(crate) fn tried(
        &mut self,
        cluster: &Cluster,
        host: NodeId,
        incarnation: Incarnation,
        (stated, device): (Token, &str),
        on: bool,
    ) -> Result<(), String> {
        let record = cluster.hosts.get(&host);
        let runs = |h: &quorate_membership::Host| {
            h.incarnation == incarnation && h.state() == HostState::Member
        };
        if !record.is_some_and(runs) {
            return Err(format!("{host} is no member in that incarnation"));
        }
        let levels = self.fencing.get(&host).map_or(&[][..], Vec::as_slice);
        let known = all(levels).any(|d| d.name == device);
        match self.devices.get_mut(&host) {
            Some(devices) if devices.stated == stated && known => {
                match devices.said.insert(device.to_owned(), on) {
                    Some(before) if before == on => Err("no change".into()),
                    _ => Ok(()),
                }
            }
            _ => Err("the device is stated otherwise now".into()),
        }
    }

    /// Whether the word of this level of a host is relied on.
    ///
    /// # Errors
    /// The device that is not, and the reason.
    pub fn relied_on(&self, host: NodeId, level: &Level) -> Result<(), NotRelied> {
        if planted("device-not-tried") {
            return Ok(());
        }
        let said = self.devices.get(&host).map(|d| &d.said);
        for device in level.devices.iter().filter(|d| has_state(d)) {
            let name = &device.name;
            match said.and_then(|said| said.get(name)) {
                Some(true) => {}
                Some(false) => {
                    return Err(NotRelied::SaidOff { name: name.clone() });
                }
                None => {
                    return Err(NotRelied::NeverRead { name: name.clone() });
                }
            }
            let Some(mine) = outlet(device) else { continue };
            let others = self.fencing.iter().filter(|(other, _)| **other != host);
            for (other, levels) in others {
                if let Some(twin) = all(levels).find(|d| outlet(d).as_ref() == Some(&mine)) {
                    return Err(NotRelied::SharedOutlet {
                        name: name.clone(),
                        other: *other,
                        twin: twin.name.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// What is known of each device of a host: its name, and whether it said on while the host ran;
    /// `None` if it was never read then.
    pub fn device_words(&self, host: NodeId) -> impl Iterator<Item = (&Device, Option<bool>)> {
        let said = self.devices.get(&host).map(|d| &d.said);
        let levels = self.fencing.get(&host).map_or(&[][..], Vec::as_slice);
        all(levels).map(move |d| (d, said.and_then(|said| said.get(&d.name)).copied()))
    }

    /// Outlets that several hosts state as theirs: each with the first two, and their devices' names.
    #[must_use]
    pub fn twins(&self) -> Vec<[(NodeId, &str); 2]> {
        let mut first: BTreeMap<String, (NodeId, &str)> = BTreeMap::new();
        let mut twins = Vec::new();
        for (host, levels) in &self.fencing {
            for device in all(levels) {
                let Some(key) = outlet(device) else { continue };
                match first.get(&key) {
                    Some(earlier) if earlier.0 != *host => {
                        twins.push([*earlier, (*host, device.name.as_str())]);
                    }
                    Some(_) => {}
                    None => drop(first.insert(key, (*host, device.name.as_str()))),
                }
            }
        }
        twins
    }
}
