//! The table `[ocf]`: resources of resource agents as guests.

use super::error::Fault;
use super::reader::{Section, absolute, expected};
use crate::ocf;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// More than anybody has.
const DIRS_MAX: usize = 16;

/// Resources of resource agents as guests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OcfSettings {
    /// Directories with a directory per provider in each, in order.
    pub dirs: Vec<PathBuf>,
    /// Whether this host is reset when a resource does not stop at lease end.
    pub reset: bool,
}

impl Default for OcfSettings {
    fn default() -> OcfSettings {
        OcfSettings {
            dirs: ocf::default_dirs(),
            reset: true,
        }
    }
}

pub(super) fn read(root: &Section<'_, '_>, witness: bool) -> Result<OcfSettings, Fault> {
    let mut settings = OcfSettings::default();
    let Some(section) = root.table("ocf")? else {
        return Ok(settings);
    };
    if witness {
        return Err(section.fault("a witness runs no guests; allowed: no such table"));
    }
    if let Some(listed) = section.texts("dirs")? {
        if listed.value.is_empty() || listed.value.len() > DIRS_MAX {
            let allowed = format!("1 to {DIRS_MAX} absolute paths");
            return Err(listed.fault(expected(listed.value.len(), &allowed)));
        }
        settings.dirs = listed
            .value
            .iter()
            .map(absolute)
            .collect::<Result<_, _>>()?;
    }
    if let Some(reset) = section.flag("reset")? {
        settings.reset = reset;
    }
    section.finish()?;
    Ok(settings)
}
