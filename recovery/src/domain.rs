//! What a libvirt domain's description says, and which descriptions are refused.
//!
//! Only what matters for protecting a guest is read; libvirt judges the rest when it creates it.
//! Every refusal names line and column, so an operator finds the place in his own file.

use crate::guest::Needs;
use roxmltree::{Document, Node, ParsingOptions};
use std::collections::BTreeSet;
use std::fmt;

/// Longest description, in bytes. It travels in a log entry.
pub const LONGEST: usize = 65_536;
/// More elements and attributes than any description has.
const NODES: u32 = 20_000;

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

/// A disk, or a directory handed to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// As the guest knows it, `vda`.
    pub target: String,
    /// Where it is described.
    pub at: Place,
    /// The image and every image below it; none for an empty drive.
    pub sources: Vec<Source>,
    /// The guest may write to it.
    pub writable: bool,
    /// It is made for several writers at once.
    pub shareable: bool,
}

/// Where an image lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A file, a directory or a block device of the host.
    Path(String),
    /// On the network: protocol, name, first server.
    Network(String, String, String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Path(path) => f.write_str(path),
            Source::Network(protocol, name, server) => write!(f, "{protocol}:{name} at {server}"),
        }
    }
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

impl Domain {
    /// Reads a description and refuses one that could not be protected anywhere: no name, UUID or
    /// hardware address of its own, a disk that goes through the host's cache, a source of a kind
    /// that nobody can tell to be shared.
    ///
    /// # Errors
    /// Line and column, what was found, what is allowed.
    pub fn read(xml: &str) -> Result<Domain, String> {
        if xml.len() > LONGEST {
            return Err(format!(
                "the description has {} bytes, {LONGEST} are allowed",
                xml.len()
            ));
        }
        let options = ParsingOptions {
            allow_dtd: false,
            nodes_limit: NODES,
            ..ParsingOptions::default()
        };
        let doc = Document::parse_with_options(xml, options).map_err(|e| {
            let pos = e.pos();
            let text = e.to_string();
            let suffix = format!(" at {pos}");
            let what = text.strip_suffix(&suffix).unwrap_or(&text);
            format!("line {}, column {}: {what}", pos.row, pos.col)
        })?;
        Reader { doc: &doc }.domain()
    }

    /// Refuses disks that only one host has: whatever is no network source must lie under one of
    /// the directories (or be one of the devices) that the operator declared shared.
    ///
    /// # Errors
    /// Line and column, disk, path, what is shared.
    pub fn check_shared(&self, shared: &[String]) -> Result<(), String> {
        for disk in &self.disks {
            for source in &disk.sources {
                let Source::Path(path) = source else {
                    continue;
                };
                if shared.iter().any(|dir| lies_under(path, dir)) {
                    continue;
                }
                let known = if shared.is_empty() {
                    "no directory is declared shared".to_owned()
                } else {
                    format!("shared are {}", shared.join(", "))
                };
                return Err(format!(
                    "{}: disk {}: {path} is on this host only ({known}): \
                     the guest could not start elsewhere",
                    disk.at, disk.target
                ));
            }
        }
        Ok(())
    }

    /// Refuses a domain that takes name, UUID, hardware address or a writable disk of another
    /// protected one, which is given with its guest's name.
    ///
    /// # Errors
    /// What they both have, and who has it already.
    pub fn check_against(&self, guest: &str, other: &Domain) -> Result<(), String> {
        if self.uuid == other.uuid {
            return Err(format!("guest {guest} has its UUID {}", uuid(self.uuid)));
        }
        if self.name == other.name {
            return Err(format!("guest {guest} has its name {}", self.name));
        }
        if let Some(mac) = self.macs.iter().find(|m| other.macs.contains(m)) {
            return Err(format!("guest {guest} has its hardware address {mac}"));
        }
        for mine in &self.disks {
            for theirs in &other.disks {
                let written = mine.writable || theirs.writable;
                let meant = mine.shareable && theirs.shareable;
                let same = mine.sources.iter().find(|s| theirs.sources.contains(s));
                // A read-only image below both is what images below others are for.
                let top = |d: &Disk, s: &Source| d.writable && d.sources.first() == Some(s);
                if let Some(source) = same
                    && written
                    && !meant
                    && (top(mine, source) || top(theirs, source))
                {
                    return Err(format!(
                        "{}: disk {}: guest {guest} has {source} as its {}",
                        mine.at, mine.target, theirs.target
                    ));
                }
            }
        }
        Ok(())
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

fn parse_mac(text: &str) -> Option<Mac> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next().filter(|p| matches!(p.len(), 1 | 2))?;
        if !part.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    // The lowest bit of the first byte makes it an address of many.
    (parts.next().is_none() && mac[0] & 1 == 0 && mac != [0; 6]).then_some(Mac(mac))
}

/// Whether a path lies in a directory or is it, by whole names. One that climbs lies nowhere.
fn lies_under(path: &str, dir: &str) -> bool {
    let names = |p: &str| -> Option<Vec<String>> {
        let names = p.strip_prefix('/')?.split('/');
        let names = names.filter(|n| !n.is_empty() && *n != ".");
        let names: Vec<String> = names.map(str::to_owned).collect();
        (!names.iter().any(|n| n == "..")).then_some(names)
    };
    match (names(path), names(dir)) {
        (Some(path), Some(dir)) => path.starts_with(&dir),
        _ => false,
    }
}

struct Reader<'a, 'x> {
    doc: &'a Document<'x>,
}

impl<'a, 'x> Reader<'a, 'x> {
    fn place(&self, node: Node<'_, '_>) -> Place {
        let pos = self.doc.text_pos_at(node.range().start);
        Place {
            line: pos.row,
            column: pos.col,
        }
    }

    fn fault<T>(&self, at: Node<'_, '_>, what: impl fmt::Display) -> Result<T, String> {
        Err(format!("{}: {what}", self.place(at)))
    }

    fn child(node: Node<'a, 'x>, name: &str) -> Option<Node<'a, 'x>> {
        node.children().find(|n| n.has_tag_name(name))
    }

    /// The text of the one child of this name.
    fn text(&self, node: Node<'a, 'x>, name: &str) -> Result<&'a str, String> {
        let mut children = node.children().filter(|n| n.has_tag_name(name));
        let Some(child) = children.next() else {
            return self.fault(
                node,
                format!("<{}> has no <{name}>", node.tag_name().name()),
            );
        };
        if let Some(second) = children.next() {
            return self.fault(second, format!("a second <{name}>"));
        }
        Ok(child.text().unwrap_or_default().trim())
    }

    fn domain(&self) -> Result<Domain, String> {
        let root = self.doc.root_element();
        if !root.has_tag_name("domain") {
            let found = root.tag_name().name();
            return self.fault(root, format!("found <{found}>, expected <domain>"));
        }
        let kind = root.attribute("type").unwrap_or_default();
        if !["kvm", "qemu", "test"].contains(&kind) {
            let what = format!("domain type {kind:?}: kvm and qemu can be protected");
            return self.fault(root, what);
        }
        let name = self.text(root, "name")?;
        if name.is_empty() {
            return self.fault(root, "<name> is empty");
        }
        let id = self.text(root, "uuid").map_err(|why| {
            format!("{why}: without its own it would be another domain at each start")
        })?;
        let Some(id) = parse_uuid(id) else {
            let what = format!("uuid {id:?}: 32 hexadecimal digits, not all zero, are allowed");
            return self.fault(Self::child(root, "uuid").unwrap_or(root), what);
        };
        let mut domain = Domain {
            kind: kind.to_owned(),
            name: name.to_owned(),
            uuid: id,
            macs: Vec::new(),
            disks: Vec::new(),
            needs: self.needs(root)?,
            notes: Vec::new(),
        };
        let devices = Self::child(root, "devices");
        for node in devices.iter().flat_map(Node::children) {
            match node.tag_name().name() {
                "disk" => domain.disks.push(self.disk(node)?),
                "filesystem" => domain.disks.push(self.filesystem(node)?),
                "interface" => domain.macs.push(self.mac(node, &domain.macs)?),
                "hostdev" => domain.notes.push(format!(
                    "{}: a device of the host is handed to the guest: \
                     it starts only on hosts that have the like",
                    self.place(node)
                )),
                _ => {}
            }
        }
        self.notes(root, &mut domain.notes);
        Ok(domain)
    }

    fn needs(&self, root: Node<'a, 'x>) -> Result<Needs, String> {
        let memory = self.text(root, "memory")?;
        let node = Self::child(root, "memory").unwrap_or(root);
        let unit = node.attribute("unit").unwrap_or("KiB");
        let factor: Option<u128> = match unit {
            "b" | "bytes" => Some(1),
            "KB" => Some(1000),
            "k" | "KiB" => Some(1 << 10),
            "MB" => Some(1_000_000),
            "M" | "MiB" => Some(1 << 20),
            "GB" => Some(1_000_000_000),
            "G" | "GiB" => Some(1 << 30),
            "TB" => Some(1_000_000_000_000),
            "T" | "TiB" => Some(1 << 40),
            _ => None,
        };
        let bytes = factor.and_then(|f| memory.parse::<u64>().ok().map(|n| u128::from(n) * f));
        let mib = bytes.and_then(|b| u64::try_from(b.div_ceil(1 << 20)).ok());
        let Some(memory_mib) = mib.filter(|mib| *mib > 0) else {
            return self.fault(node, format!("memory {memory:?} {unit:?} is no amount"));
        };
        let vcpus = match Self::child(root, "vcpu") {
            None => 1,
            Some(node) => {
                let text = node.text().unwrap_or_default().trim();
                match text.parse::<u32>().ok().filter(|n| *n > 0) {
                    Some(n) => n,
                    None => return self.fault(node, format!("vcpu {text:?} is no count")),
                }
            }
        };
        Ok(Needs { vcpus, memory_mib })
    }

    fn mac(&self, node: Node<'a, 'x>, before: &[Mac]) -> Result<Mac, String> {
        let found = Self::child(node, "mac").and_then(|m| m.attribute("address"));
        let Some(text) = found else {
            let what = "interface without <mac address>: it would be drawn anew at each start";
            return self.fault(node, what);
        };
        match parse_mac(text) {
            None => {
                let what = format!("mac address {text:?}: six bytes of one station are allowed");
                self.fault(node, what)
            }
            Some(mac) if before.contains(&mac) => {
                self.fault(node, format!("a second interface with address {mac}"))
            }
            Some(mac) => Ok(mac),
        }
    }

    fn disk(&self, node: Node<'a, 'x>) -> Result<Disk, String> {
        let device = node.attribute("device").unwrap_or("disk");
        let target = Self::child(node, "target").and_then(|t| t.attribute("dev"));
        let target = target.unwrap_or("without target").to_owned();
        let writable = device != "cdrom" && Self::child(node, "readonly").is_none();
        let mut sources = Vec::new();
        let mut seen = BTreeSet::new();
        let mut layer = Some(node);
        while let Some(at) = layer {
            if let Some(source) = self.source(at, &target)?
                && seen.insert(source.clone())
            {
                sources.push(source);
            }
            layer = Self::child(at, "backingStore");
        }
        // A copy under way writes to a second image.
        if let Some(mirror) = Self::child(node, "mirror") {
            let what = format!("disk {target}: a block copy is under way; wait until it is done");
            return self.fault(mirror, what);
        }
        if sources.is_empty() && !matches!(device, "cdrom" | "floppy") {
            return self.fault(node, format!("disk {target} has no source"));
        }
        let driver = Self::child(node, "driver");
        let cache = driver.and_then(|d| d.attribute("cache"));
        if writable && !sources.is_empty() && !matches!(cache, Some("none" | "directsync")) {
            let found = match cache {
                None | Some("default") => "none is set, which means writeback".to_owned(),
                Some(other) => format!("found {other:?}"),
            };
            let what = format!(
                "disk {target}: driver cache: {found}; on storage that other hosts reach only \
                 \"none\" and \"directsync\" are allowed, or writes would wait in this host's memory"
            );
            return self.fault(driver.unwrap_or(node), what);
        }
        Ok(Disk {
            target,
            at: self.place(node),
            sources,
            writable,
            shareable: Self::child(node, "shareable").is_some(),
        })
    }

    /// The source of a disk or of an image below one.
    fn source(&self, node: Node<'a, 'x>, target: &str) -> Result<Option<Source>, String> {
        let Some(source) = Self::child(node, "source") else {
            return Ok(None);
        };
        let kind = node.attribute("type").unwrap_or("file");
        let path = |name: &str| source.attribute(name).filter(|p| !p.is_empty());
        match kind {
            "file" => Ok(path("file").map(|p| Source::Path(p.to_owned()))),
            "block" => Ok(path("dev").map(|p| Source::Path(p.to_owned()))),
            "network" => {
                let protocol = path("protocol").unwrap_or_default();
                if protocol.is_empty() {
                    return self.fault(source, format!("disk {target}: no protocol is named"));
                }
                let server = Self::child(source, "host");
                let server = server.and_then(|h| h.attribute("name").or(h.attribute("socket")));
                Ok(Some(Source::Network(
                    protocol.to_owned(),
                    path("name").unwrap_or_default().to_owned(),
                    server.unwrap_or("its default server").to_owned(),
                )))
            }
            other => self.fault(
                node,
                format!(
                    "disk {target}: type {other:?}: nobody can tell whether other hosts reach it; \
                     \"file\", \"block\" and \"network\" are allowed"
                ),
            ),
        }
    }

    fn filesystem(&self, node: Node<'a, 'x>) -> Result<Disk, String> {
        let target = Self::child(node, "target").and_then(|t| t.attribute("dir"));
        let target = target.unwrap_or("without target").to_owned();
        let source = Self::child(node, "source").and_then(|s| s.attribute("dir"));
        let Some(dir) = source else {
            let what = format!("file system {target}: only <source dir> is allowed");
            return self.fault(node, what);
        };
        Ok(Disk {
            target,
            at: self.place(node),
            sources: vec![Source::Path(dir.to_owned())],
            writable: Self::child(node, "readonly").is_none(),
            shareable: true,
        })
    }

    fn notes(&self, root: Node<'a, 'x>, notes: &mut Vec<String>) {
        let os = Self::child(root, "os");
        for node in os.iter().flat_map(Node::children) {
            let name = node.tag_name().name();
            if matches!(name, "kernel" | "initrd" | "loader" | "nvram")
                && let Some(path) = node.text().map(str::trim).filter(|t| !t.is_empty())
            {
                notes.push(format!(
                    "{}: {name} {path} must be the same on every host",
                    self.place(node)
                ));
            }
        }
        if let Some(node) = root.descendants().find(|n| n.has_attribute("passwd")) {
            notes.push(format!(
                "{}: a password stands here; every node of the cluster gets the description",
                self.place(node)
            ));
        }
        for node in root.children() {
            if node.tag_name().name() == "commandline" && node.tag_name().namespace().is_some() {
                notes.push(format!(
                    "{}: arguments for QEMU are handed on unread: what they open is not checked",
                    self.place(node)
                ));
            }
        }
    }
}

#[cfg(test)]
#[path = "domain_tests.rs"]
mod tests;
