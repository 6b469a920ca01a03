//! What a libvirt domain's description says, and which descriptions are refused.
//!
//! Only what matters for protecting a guest is read; libvirt judges the rest when it creates it.
//! Every refusal names line and column, so an operator finds the place in his own file.

use crate::guest::Needs;
use std::fmt;

mod amounts;
pub mod layout;
mod reader;
mod remarks;
mod source;

pub use source::{Source, lies_under};

/// Longest description, in bytes. It travels in a log entry.
pub const LONGEST: usize = 65_536;

/// A domain as its description has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// libvirt's word for the hypervisor, as `kvm` or `qemu`.
    pub kind: String,
    /// The domain's name.
    pub name: String,
    /// Its UUID; never zero.
    pub uuid: u128,
    /// The hardware address of every network interface, in the order of the description.
    pub macs: Vec<Mac>,
    /// Everything the guest reads from or writes to.
    pub disks: Vec<Disk>,
    /// vCPUs at most, and memory at most.
    pub needs: Needs,
    /// What an operator should know although nothing is refused for it.
    pub notes: Vec<String>,
}

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A disk, a directory handed to the guest, or its firmware's variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// As the guest knows it, `vda`.
    pub target: String,
    /// Where it is described.
    pub at: Place,
    /// What it is.
    pub kind: DiskKind,
    /// The image and every image below it; none for an empty drive.
    pub sources: Vec<Source>,
    /// The guest may write to it.
    pub writable: bool,
    /// It is made for several writers at once.
    pub shareable: bool,
    /// libvirt starts the guest without it where it is missing.
    pub optional: bool,
}

/// What kind of disk one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskKind {
    /// A disk of the guest, whole or a logical unit.
    Fixed,
    /// A drive whose medium may be changed: compact disc, floppy.
    Removable,
    /// A directory of the host.
    Directory,
    /// The file in which the firmware keeps its variables.
    Nvram,
}

/// A place in a description, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why a description is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where, if it has a place.
    pub at: Option<Place>,
    /// What was found and what is allowed.
    pub what: String,
    /// Editing the domain's definition mends it.
    pub editable: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "{at}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for String {
    fn from(refusal: Refusal) -> String {
        refusal.to_string()
    }
}

impl Refusal {
    fn nowhere(what: String) -> Refusal {
        Refusal {
            at: None,
            what,
            editable: false,
        }
    }
}

impl Domain {
    /// Reads a description and refuses one that could not be protected anywhere: no name, UUID or
    /// hardware address of its own, a disk that goes through the host's cache, a source of a kind
    /// that nobody can tell to be shared, a helper process that writes beside QEMU.
    ///
    /// # Errors
    /// Line and column, what was found, what is allowed.
    pub fn read(xml: &str) -> Result<Domain, Refusal> {
        reader::read(xml)
    }

    /// Refuses disks that only one host has: whatever is no network source must lie under one of
    /// the directories (or be one of the devices) that the operator declared shared. A disc that
    /// the guest starts without, and the firmware's variables, are named by [`Domain::remarks`].
    ///
    /// # Errors
    /// Line and column, disk, path, what is shared.
    pub fn check_shared(&self, shared: &[String]) -> Result<(), Refusal> {
        for disk in &self.disks {
            if disk.kind == DiskKind::Nvram || (disk.optional && !disk.writable) {
                continue;
            }
            let Some(path) = disk.local(shared) else {
                continue;
            };
            let known = if shared.is_empty() {
                "no directory is declared shared".to_owned()
            } else {
                format!("shared are {}", shared.join(", "))
            };
            return Err(Refusal {
                at: Some(disk.at),
                what: format!(
                    "disk {}: {path} is on this host only ({known}): the guest could not start \
                     elsewhere",
                    disk.target
                ),
                editable: false,
            });
        }
        Ok(())
    }

    /// What an operator should know although nothing is refused for it, where these directories
    /// and devices are shared.
    #[must_use]
    pub fn remarks(&self, shared: &[String]) -> Vec<String> {
        let mut remarks = self.notes.clone();
        for disk in &self.disks {
            let at = disk.at;
            match (disk.kind, disk.local(shared)) {
                (DiskKind::Nvram, Some(path)) => remarks.push(format!(
                    "{at}: the firmware's variables lie in {path}, on this host only: on another \
                     host the guest starts with the variables of the template, without its own \
                     boot entries and keys; put them where every host reaches them"
                )),
                (DiskKind::Nvram, None) => remarks.push(format!(
                    "{at}: the firmware's variables are written through the host's memory, so the \
                     latest change of one may be missing after a host is lost"
                )),
                (_, Some(path)) if disk.optional => remarks.push(format!(
                    "{at}: disk {}: {path} is on this host only; elsewhere the guest starts with \
                     an empty drive",
                    disk.target
                )),
                _ => {}
            }
        }
        remarks
    }

    /// Refuses a domain that takes name, UUID, hardware address or a writable disk of another
    /// protected one, which is given with its guest's name.
    ///
    /// # Errors
    /// What they both have, and who has it already.
    pub fn check_against(&self, guest: &str, other: &Domain) -> Result<(), Refusal> {
        self.check_beside(guest, other, &Source::same)
    }

    /// The same where `same` tells whether two spellings mean one image.
    ///
    /// # Errors
    /// What they both have, and who has it already.
    pub fn check_beside(
        &self,
        guest: &str,
        other: &Domain,
        same: &dyn Fn(&Source, &Source) -> bool,
    ) -> Result<(), Refusal> {
        let clash = |what: String| Refusal::nowhere(format!("guest {guest} has its {what}"));
        if self.uuid == other.uuid {
            return Err(clash(format!("UUID {}", uuid(self.uuid))));
        }
        if self.name == other.name {
            return Err(clash(format!("name {}", self.name)));
        }
        if let Some(mac) = self.macs.iter().find(|m| other.macs.contains(m)) {
            return Err(clash(format!("hardware address {mac}")));
        }
        for mine in &self.disks {
            for theirs in &other.disks {
                if let Some(source) = mine.collides(theirs, same) {
                    return Err(Refusal {
                        at: Some(mine.at),
                        what: format!(
                            "disk {}: guest {guest} has {source} as its {}",
                            mine.target, theirs.target
                        ),
                        editable: false,
                    });
                }
            }
        }
        Ok(())
    }
}

impl Disk {
    /// The first of its images that lies on this host only.
    fn local(&self, shared: &[String]) -> Option<&str> {
        self.sources.iter().find_map(|source| match source {
            Source::Path(path) if !shared.iter().any(|dir| lies_under(path, dir)) => {
                Some(path.as_str())
            }
            _ => None,
        })
    }

    /// An image that one of two disks writes to while the other has it too.
    fn collides(&self, other: &Disk, same: &dyn Fn(&Source, &Source) -> bool) -> Option<&Source> {
        if self.shareable && other.shareable {
            return None;
        }
        // A read-only image below both is what images below others are for. A directory that is
        // written may hold the other's image at any depth.
        let top = |d: &Disk, at: usize| d.writable && at == 0;
        for (i, mine) in self.sources.iter().enumerate() {
            for (j, theirs) in other.sources.iter().enumerate() {
                if (top(self, i) || top(other, j)) && same(mine, theirs) {
                    return Some(mine);
                }
            }
        }
        None
    }
}

/// A UUID as people write it.
#[must_use]
pub fn uuid(id: u128) -> String {
    let h = format!("{id:032x}");
    let (a, b, c, d, e) = (&h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..]);
    format!("{a}-{b}-{c}-{d}-{e}")
}

/// 32 hexadecimal digits with or without dashes; zero names nothing.
#[must_use]
pub fn parse_uuid(text: &str) -> Option<u128> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let fine = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let id = fine.then(|| u128::from_str_radix(&digits, 16).ok())??;
    (id != 0).then_some(id)
}

/// A word as a shell takes it for one.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
#[path = "domain_tests.rs"]
mod tests;
