//! The table `[libvirt]`: guests as libvirt's domains.

use super::error::Fault;
use super::reader::{Section, absolute, expected};
use serde::{Deserialize, Serialize};

/// Guests as libvirt's domains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LibvirtSettings {
    /// Which libvirt, `qemu:///system` unless the file says otherwise.
    pub uri: String,
    /// Directories and devices that every host reaches, in the operator's word.
    pub shared: Vec<String>,
}

/// More than anybody shares.
const SHARED_MAX: usize = 64;

pub(super) fn read(
    root: &Section<'_, '_>,
    witness: bool,
) -> Result<Option<LibvirtSettings>, Fault> {
    const URI: &str = "a URI of libvirt's QEMU driver on this host, like \"qemu:///system\"";
    let Some(section) = root.table("libvirt")? else {
        return Ok(None);
    };
    if witness {
        return Err(section.fault("a witness runs no guests; allowed: no such table"));
    }
    if cfg!(not(feature = "libvirt")) {
        return Err(section.fault("this build has no libvirt; build with --features libvirt"));
    }
    let uri = match section.text("uri")? {
        None => "qemu:///system".to_owned(),
        Some(found) => {
            if found.value.starts_with("test:") {
                return Err(found.fault(format!(
                    "found {:?}, libvirt's mock hypervisor, which runs nothing; allowed: {URI}",
                    found.value
                )));
            }
            // A domain elsewhere would live on when this host's guardian ends its guests.
            let driver = found.value.split_once("://");
            let local = driver.is_some_and(|(driver, rest)| {
                matches!(driver, "qemu" | "qemu+unix") && rest.starts_with('/')
            });
            if !local {
                return Err(found.fault(expected(format!("{:?}", found.value), URI)));
            }
            found.value
        }
    };
    let mut shared = Vec::new();
    if let Some(listed) = section.texts("shared")? {
        if listed.value.len() > SHARED_MAX {
            let allowed = format!("at most {SHARED_MAX} paths");
            return Err(listed.fault(expected(listed.value.len(), &allowed)));
        }
        for found in &listed.value {
            let path = absolute(found)?;
            if path.components().count() == 1 {
                return Err(found.fault(
                    "found \"/\"; allowed: a directory or device that every host reaches, and \
                     the root of a host is its own",
                ));
            }
            if path.components().any(|c| c.as_os_str() == "..") {
                return Err(found.fault(expected(
                    format!("{:?}", found.value),
                    "a path without \"..\"",
                )));
            }
            shared.push(found.value.clone());
        }
    }
    section.finish()?;
    Ok(Some(LibvirtSettings { uri, shared }))
}
