//! How to be sure that a host is off.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whether this build can carry planted bugs. The root package asserts that it cannot.
pub const PLANTED_BUGS: bool = cfg!(feature = "mutants");

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProofClass {
    /// Its status reads a power state: proves the host off.
    Power,
}
