//! The table `[storage]`: what this host is to know of the shared storage.

use super::error::Fault;
use super::reader::{Section, absolute};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The shared storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageSettings {
    /// The directory for the locks of all images; without it each stands beside its image.
    pub lock_dir: Option<PathBuf>,
}

pub(super) fn read(root: &Section<'_, '_>, witness: bool) -> Result<StorageSettings, Fault> {
    let mut settings = StorageSettings::default();
    let Some(section) = root.table("storage")? else {
        return Ok(settings);
    };
    if witness {
        return Err(section.fault("a witness runs no guests; allowed: no such table"));
    }
    if let Some(found) = section.text("lock_dir")? {
        settings.lock_dir = Some(absolute(&found)?);
    }
    section.finish()?;
    Ok(settings)
}
