//! Devices, levels, and what the word of a device proves.

use crate::boxes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// One fence device that can act on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Name for people.
    pub name: String,
    /// The agent: `fence_*`, looked up in the agent directories, or an absolute path.
    pub agent: String,
    /// Handed to the agent on its standard input, one `name=value` a line.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// What its word proves; needed only for agents the shipped table does not know.
    #[serde(default)]
    pub class: Option<ProofClass>,
    /// How long it may take, in milliseconds.
    #[serde(default = "default_limit")]
    pub limit_ms: u64,
}

fn default_limit() -> u64 {
    20_000
}

/// Devices that must all succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// The devices.
    pub devices: Vec<Device>,
}

/// What a device's word proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProofClass {
    /// Its status reads a power state. An observed *off* proves that nothing runs on the host and
    /// that whatever its memory held is gone.
    Power,
    /// It hears the host's crash kernel. The old kernel, and every guest with it, ended before the
    /// crash kernel could speak, so hearing it is an observation; there is no state to read.
    Crash,
    /// It writes a message that the target is to read and obey within a known time. Only the time
    /// speaks, and only if the target's reader is known to live: a request, no observation.
    Timed,
    /// It cuts the host off storage or network. Proves that later I/O does not arrive; the guests
    /// go on running, and what was already submitted is not called back.
    Fabric,
    /// It only judges the surroundings ("can *we* reach the gateway?"). May stop a level before
    /// anything is cut, never completes one.
    Veto,
    /// A person confirms. As good as the person; taken by another way than an agent.
    Manual,
}

impl ProofClass {
    /// Every class, in the order of the documentation.
    pub const ALL: [ProofClass; 6] = [
        Self::Power,
        Self::Crash,
        Self::Timed,
        Self::Fabric,
        Self::Veto,
        Self::Manual,
    ];

    /// The word used in configuration, in the log and on the screen.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::Crash => "crash",
            Self::Timed => "timed",
            Self::Fabric => "fabric",
            Self::Veto => "veto",
            Self::Manual => "manual",
        }
    }

    /// Whether a level that holds a device of this class can be proof that the host is off.
    #[must_use]
    pub const fn proves(self) -> bool {
        matches!(self, Self::Power | Self::Crash)
    }

    /// Why a device of this class alone is no proof; `None` for a proving class.
    #[must_use]
    pub const fn why_not(self) -> Option<&'static str> {
        match self {
            Self::Power | Self::Crash => None,
            Self::Timed => Some(
                "a message on shared storage is a request: without attested readers on the target \
                 nothing observes that it was obeyed, and elapsed time is the lease over again",
            ),
            Self::Fabric => Some(
                "cutting storage or network leaves the guests running, and writes already \
                 submitted may still arrive",
            ),
            Self::Veto => Some("a veto may stop a level; its consent says nothing about the host"),
            Self::Manual => Some(
                "an operator confirms with the command for it, which checks the evidence first; \
                 an agent cannot type the confirmation",
            ),
        }
    }
}

impl fmt::Display for ProofClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a device has no usable class.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoClass {
    /// Neither the table nor the configuration says what the agent's word proves.
    #[error("agent {agent} is not in the shipped table: say its class")]
    Unsaid {
        /// The agent.
        agent: String,
    },
    /// The agent is known to prove nothing, whatever the configuration says.
    #[error("agent {agent} proves nothing: {why}")]
    Nothing {
        /// The agent.
        agent: String,
        /// Why its word is worthless here.
        why: &'static str,
    },
    /// The configuration contradicts the table.
    #[error("agent {agent} is of class {known}, the configuration says {said}")]
    Contradicts {
        /// The agent.
        agent: String,
        /// What the table says.
        known: ProofClass,
        /// What the configuration says.
        said: ProofClass,
    },
}

/// Why a level is no proof, even if every device of it succeeds.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoProof {
    /// It has no device.
    #[error("a level without devices proves nothing")]
    Empty,
    /// A device of it has no class.
    #[error("device {device:?}: {why}")]
    Class {
        /// The device.
        device: String,
        /// Why.
        why: NoClass,
    },
    /// None of its devices is of a proving class.
    #[error("no device of class power or crash; device {device:?} is of class {class}: {why}")]
    NoProvingDevice {
        /// The first device, named for the reason.
        device: String,
        /// Its class.
        class: ProofClass,
        /// Why that class is no proof.
        why: &'static str,
    },
}

/// What the shipped table says of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Its word has this class.
    Class(ProofClass),
    /// Its word proves nothing, for this reason.
    Nothing(&'static str),
}

/// Agents whose `status` reads the power state of one machine, real or virtual.
const POWER: &[&str] = &[
    "fence_aliyun",
    "fence_alom",
    "fence_amt",
    "fence_amt_ws",
    "fence_apc",
    "fence_apc_snmp",
    "fence_aws",
    "fence_bladecenter",
    "fence_cdu",
    "fence_cisco_ucs",
    "fence_cyberpower_ssh",
    "fence_docker",
    "fence_drac",
    "fence_drac5",
    "fence_eaton_snmp",
    "fence_eaton_ssh",
    "fence_ecloud",
    "fence_emerson",
    "fence_eps",
    "fence_gce",
    "fence_hds_cb",
    "fence_hetzner_cloud",
    "fence_hpblade",
    "fence_ibm_powervs",
    "fence_ibm_vpc",
    "fence_ibmblade",
    "fence_ibmz",
    "fence_idrac",
    "fence_ilo",
    "fence_ilo2",
    "fence_ilo3",
    "fence_ilo3_ssh",
    "fence_ilo4",
    "fence_ilo4_ssh",
    "fence_ilo5",
    "fence_ilo5_ssh",
    "fence_ilo6",
    "fence_ilo6_ssh",
    "fence_ilo7",
    "fence_ilo_moonshot",
    "fence_ilo_mp",
    "fence_ilo_ssh",
    "fence_imm",
    "fence_intelmodular",
    "fence_ipdu",
    "fence_ipmilan",
    "fence_ipmilanplus",
    "fence_ironic",
    "fence_kubevirt",
    "fence_ldom",
    "fence_lindypdu",
    "fence_lpar",
    "fence_netio",
    "fence_nutanix_ahv",
    "fence_openstack",
    "fence_powerman",
    "fence_pve",
    "fence_quorate_demo",
    "fence_raritan",
    "fence_raritan_px3",
    "fence_redfish",
    "fence_rhevm",
    "fence_rsa",
    "fence_rsb",
    "fence_shelly_gen2",
    "fence_skalar",
    "fence_tripplite_snmp",
    "fence_vbox",
    "fence_virsh",
    "fence_virt",
    "fence_vmware",
    "fence_vmware_rest",
    "fence_vmware_soap",
    "fence_vmware_vcloud",
    "fence_wti",
    "fence_xenapi",
    "fence_xvm",
    "fence_zvmip",
];

/// Agents that cut a host off storage or network.
const FABRIC: &[&str] = &[
    "fence_aws_vpc",
    "fence_aws_vpc_net",
    "fence_azure_arm_network",
    "fence_brocade",
    "fence_cisco_mds",
    "fence_ifmib",
    "fence_mpath",
    "fence_sanbox2",
    "fence_scsi",
];

/// What the shipped table says of this agent: a `fence_*` name or an absolute path, of which the
/// file name counts. `None`: the table does not know it, and the configuration must say a class.
///
/// Not in the table on purpose: `fence_azure_arm` (a parameter turns it into a network cut), and
/// `fence_ovh` (its off is a boot into another system, depending on the provider's profile).
#[must_use]
pub fn known(agent: &str) -> Option<Known> {
    let name = agent.rsplit('/').next().unwrap_or(agent);
    if POWER.contains(&name) {
        return Some(Known::Class(ProofClass::Power));
    }
    if FABRIC.contains(&name) {
        return Some(Known::Class(ProofClass::Fabric));
    }
    match name {
        "fence_kdump" => Some(Known::Class(ProofClass::Crash)),
        "fence_sbd" | "fence_sanlock" => Some(Known::Class(ProofClass::Timed)),
        "fence_heuristics_ping" | "fence_heuristics_resource" => {
            Some(Known::Class(ProofClass::Veto))
        }
        "fence_ack_manual" => Some(Known::Class(ProofClass::Manual)),
        "fence_dummy" => Some(Known::Nothing("it only keeps a note in a file")),
        "fence_compute" | "fence_evacuate" => Some(Known::Nothing(
            "it tells a cloud that a host is gone, and cuts nothing",
        )),
        "fence_crosslink" => Some(Known::Nothing(
            "it takes an unanswered ping as off; silence is not off",
        )),
        "fence_rcd_serial" => Some(Known::Nothing(
            "it pulses a reset line and reads nothing back",
        )),
        _ => None,
    }
}

impl Device {
    /// The class of its word: the shipped table first, then the configuration's for an agent the
    /// table does not know.
    ///
    /// # Errors
    /// If nobody says a class, the agent is known to prove nothing, or the two contradict.
    pub fn class(&self) -> Result<ProofClass, NoClass> {
        let agent = || self.agent.clone();
        match (known(&self.agent), self.class) {
            (Some(Known::Nothing(why)), _) => Err(NoClass::Nothing {
                agent: agent(),
                why,
            }),
            (Some(Known::Class(known)), Some(said)) if known != said => Err(NoClass::Contradicts {
                agent: agent(),
                known,
                said,
            }),
            (Some(Known::Class(class)), _) | (None, Some(class)) => Ok(class),
            (None, None) => Err(NoClass::Unsaid { agent: agent() }),
        }
    }

    /// How long it may take, from its own start.
    #[must_use]
    pub fn limit(&self) -> Duration {
        Duration::from_millis(self.limit_ms)
    }
}

impl Level {
    /// What the level proves if all its devices succeed: `Power` if one of them reads a power
    /// state, else `Crash`.
    ///
    /// # Errors
    /// Why not: it is empty, a device has no class, or none is of a proving class.
    pub fn proves(&self) -> Result<ProofClass, NoProof> {
        let mut classes = Vec::with_capacity(self.devices.len());
        for device in &self.devices {
            let class = device.class().map_err(|why| NoProof::Class {
                device: device.name.clone(),
                why,
            })?;
            classes.push(class);
        }
        if let Some(best) = classes.iter().copied().filter(|c| c.proves()).min() {
            return Ok(best);
        }
        let (device, class) = self
            .devices
            .iter()
            .zip(classes)
            .next()
            .ok_or(NoProof::Empty)?;
        Err(NoProof::NoProvingDevice {
            device: device.name.clone(),
            class,
            why: class.why_not().unwrap_or_default(),
        })
    }

    /// How long the whole level may take from its launch: the slowest veto, then the devices that
    /// act, those of one box one after another, the boxes beside each other.
    #[must_use]
    pub fn limit(&self) -> Duration {
        let vetoes = self.devices.iter();
        let vetoes = vetoes.filter(|d| d.class() == Ok(ProofClass::Veto));
        let vetoes = vetoes.map(Device::limit).max().unwrap_or_default();
        vetoes.saturating_add(boxes::longest(self))
    }
}

#[cfg(test)]
mod tests;
