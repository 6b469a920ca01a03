//! Reads a description as libvirt does, and stricter where libvirt takes one of several readings.

use super::source::Source;
use super::{Disk, DiskKind, Domain, LONGEST, Mac, Place, Refusal, parse_uuid};
use roxmltree::{Document, Node, ParsingOptions};
use std::fmt;

/// More elements and attributes than any description has.
const NODES: u32 = 20_000;

/// Elements of which libvirt takes one, the first or the last, or puts several together. A second
/// one is refused, so that nobody judges another one than libvirt uses.
const SINGLE: [&str; 12] = [
    "name",
    "uuid",
    "memory",
    "currentMemory",
    "vcpu",
    "cpu",
    "os",
    "features",
    "devices",
    "metadata",
    "memoryBacking",
    "maxMemory",
];
/// The same within a disk.
const SINGLE_IN_DISK: [&str; 6] = [
    "driver",
    "source",
    "target",
    "backingStore",
    "mirror",
    "auth",
];

/// Parses a description within the limits; no document types, so no entities.
pub(super) fn parse(xml: &str) -> Result<Document<'_>, Refusal> {
    if xml.len() > LONGEST {
        return Err(Refusal::nowhere(format!(
            "the description has {} bytes, {LONGEST} are allowed",
            xml.len()
        )));
    }
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: NODES,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(xml, options).map_err(|e| {
        let pos = e.pos();
        let text = e.to_string();
        let suffix = format!(" at {pos}");
        Refusal {
            at: Some(Place {
                line: pos.row,
                column: pos.col,
            }),
            what: text.strip_suffix(&suffix).unwrap_or(&text).to_owned(),
            editable: false,
        }
    })
}

pub(super) fn read(xml: &str) -> Result<Domain, Refusal> {
    let doc = parse(xml)?;
    Reader { doc: &doc }.domain()
}

/// The first child of this name.
pub(super) fn child<'a, 'x>(node: Node<'a, 'x>, name: &str) -> Option<Node<'a, 'x>> {
    node.children().find(|n| n.has_tag_name(name))
}

pub(super) struct Reader<'a, 'x> {
    pub(super) doc: &'a Document<'x>,
}

impl<'a, 'x> Reader<'a, 'x> {
    pub(super) fn place(&self, node: Node<'_, '_>) -> Place {
        let pos = self.doc.text_pos_at(node.range().start);
        Place {
            line: pos.row,
            column: pos.col,
        }
    }

    pub(super) fn fault<T>(&self, at: Node<'_, '_>, what: impl fmt::Display) -> Result<T, Refusal> {
        Err(Refusal {
            at: Some(self.place(at)),
            what: what.to_string(),
            editable: false,
        })
    }

    /// The same for what `virsh edit` can change.
    fn editable<T>(&self, at: Node<'_, '_>, what: impl fmt::Display) -> Result<T, Refusal> {
        self.fault(at, what).map_err(|refusal| Refusal {
            editable: true,
            ..refusal
        })
    }

    /// The text of the one child of this name. Anything in it but text is refused: tools differ
    /// in what they take for the text then.
    pub(super) fn text(&self, node: Node<'a, 'x>, name: &str) -> Result<&'a str, Refusal> {
        let Some(found) = child(node, name) else {
            return self.fault(
                node,
                format!("<{}> has no <{name}>", node.tag_name().name()),
            );
        };
        if let Some(other) = found.children().find(|n| !n.is_text()) {
            let what = format!("<{name}> may hold text only, no comment and no element");
            return self.fault(other, what);
        }
        Ok(found.text().unwrap_or_default())
    }

    /// Refuses a second child of any of these names.
    fn single(&self, node: Node<'_, '_>, names: &[&str]) -> Result<(), Refusal> {
        for name in names {
            if let Some(second) = node.children().filter(|n| n.has_tag_name(*name)).nth(1) {
                return self.fault(second, format!("a second <{name}>"));
            }
        }
        Ok(())
    }

    fn domain(&self) -> Result<Domain, Refusal> {
        let root = self.doc.root_element();
        if !root.has_tag_name("domain") {
            let found = root.tag_name().name();
            return self.fault(root, format!("found <{found}>, expected <domain>"));
        }
        if let Some(space) = root.tag_name().namespace() {
            return self.fault(root, format!("<domain> is of the name space {space}"));
        }
        self.single(root, &SINGLE)?;
        let kind = root.attribute("type").unwrap_or_default();
        if !["kvm", "qemu", "test"].contains(&kind) {
            let what = format!("domain type {kind:?}: kvm and qemu can be protected");
            return self.fault(root, what);
        }
        let name = self.name(root)?;
        let id = self.text(root, "uuid").map_err(|why| Refusal {
            what: format!(
                "{}: without its own it would be another domain at each start",
                why.what
            ),
            ..why
        })?;
        let Some(uuid) = parse_uuid(id.trim()) else {
            let what = format!("uuid {id:?}: 32 hexadecimal digits, not all zero, are allowed");
            return self.fault(child(root, "uuid").unwrap_or(root), what);
        };
        let mut domain = Domain {
            kind: kind.to_owned(),
            name: name.to_owned(),
            uuid,
            macs: Vec::new(),
            disks: Vec::new(),
            needs: self.needs(root)?,
            notes: Vec::new(),
        };
        let devices = child(root, "devices");
        for node in devices.iter().flat_map(Node::children) {
            match node.tag_name().name() {
                "disk" => domain.disks.push(self.disk(node)?),
                "filesystem" => domain.disks.push(self.filesystem(node)?),
                "interface" => {
                    if let Some(mac) = self.mac(node, &domain.macs)? {
                        domain.macs.push(mac);
                    }
                }
                _ => self.device(node)?,
            }
        }
        domain.disks.extend(self.nvram(root)?);
        self.apart(&domain.disks)?;
        self.notes(root, &mut domain.notes);
        Ok(domain)
    }

    /// The domain's name, which libvirt takes with every blank in it.
    fn name(&self, root: Node<'a, 'x>) -> Result<&'a str, Refusal> {
        let name = self.text(root, "name")?;
        let at = child(root, "name").unwrap_or(root);
        if name.trim().is_empty() {
            return self.fault(at, "<name> is empty");
        }
        if name.trim() != name {
            return self.fault(at, "<name> begins or ends with blanks, which libvirt keeps");
        }
        if name.contains(['/', '\n']) {
            return self.fault(at, "<name>: libvirt allows neither \"/\" nor line breaks");
        }
        Ok(name)
    }

    /// The hardware address of an interface; `None` for the second one of a failover pair, which
    /// has the address of the first by design.
    fn mac(&self, node: Node<'a, 'x>, before: &[Mac]) -> Result<Option<Mac>, Refusal> {
        self.single(node, &["mac", "teaming"])?;
        let found = child(node, "mac").and_then(|m| m.attribute("address"));
        let Some(text) = found else {
            let what = "interface without <mac address>: it would be drawn anew at each start";
            return self.editable(node, what);
        };
        match parse_mac(text) {
            None => {
                let what = format!("mac address {text:?}: six bytes of one station are allowed");
                self.editable(node, what)
            }
            Some(mac) if before.contains(&mac) => {
                if self.paired(node, mac) {
                    return Ok(None);
                }
                self.editable(node, format!("a second interface with address {mac}"))
            }
            Some(mac) => Ok(Some(mac)),
        }
    }

    /// Whether an interface and the one before it with the same address are the two halves of one
    /// failover pair.
    fn paired(&self, node: Node<'a, 'x>, mac: Mac) -> bool {
        let address = |n: &Node<'_, '_>| {
            let text = child(*n, "mac").and_then(|m| m.attribute("address"));
            text.and_then(parse_mac)
        };
        let halves: Vec<_> = node
            .parent()
            .into_iter()
            .flat_map(|devices| devices.children())
            .filter(|n| n.has_tag_name("interface") && address(n) == Some(mac))
            .collect();
        let [one, two] = halves.as_slice() else {
            return false;
        };
        let half = |n: Node<'a, 'x>, kind: &str| {
            child(n, "teaming").filter(|t| t.attribute("type") == Some(kind))
        };
        [(*one, *two), (*two, *one)]
            .into_iter()
            .any(|(stays, goes)| {
                let alias = child(stays, "alias").and_then(|a| a.attribute("name"));
                half(stays, "persistent").is_some()
                    && alias.is_some()
                    && half(goes, "transient").and_then(|t| t.attribute("persistent")) == alias
            })
    }

    fn disk(&self, node: Node<'a, 'x>) -> Result<Disk, Refusal> {
        self.single(node, &SINGLE_IN_DISK)?;
        let device = node.attribute("device").unwrap_or("disk");
        let target = child(node, "target").and_then(|t| t.attribute("dev"));
        let target = target.unwrap_or("without target").to_owned();
        let writable = device != "cdrom" && child(node, "readonly").is_none();
        let sources = self.chain(node, &target)?;
        // A copy under way writes to a second image.
        if let Some(mirror) = child(node, "mirror") {
            let what = format!("disk {target}: a block copy is under way; wait until it is done");
            return self.fault(mirror, what);
        }
        if let Some(transient) = child(node, "transient") {
            let what = format!(
                "disk {target}: <transient> throws its writes away at each end, which a restart is"
            );
            return self.editable(transient, what);
        }
        if sources.is_empty() && !matches!(device, "cdrom" | "floppy") {
            return self.fault(node, format!("disk {target} has no source"));
        }
        let driver = child(node, "driver");
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
            return self.editable(driver.unwrap_or(node), what);
        }
        let source = child(node, "source");
        let startup = source.and_then(|s| s.attribute("startupPolicy"));
        Ok(Disk {
            target,
            at: self.place(node),
            kind: match device {
                "cdrom" | "floppy" => DiskKind::Removable,
                _ => DiskKind::Fixed,
            },
            sources,
            writable,
            shareable: child(node, "shareable").is_some(),
            optional: startup == Some("optional") && matches!(device, "cdrom" | "floppy"),
        })
    }

    /// The image of a disk and every image below it, data files of their own included.
    fn chain(&self, disk: Node<'a, 'x>, target: &str) -> Result<Vec<Source>, Refusal> {
        let mut sources: Vec<Source> = Vec::new();
        let mut layer = Some(disk);
        while let Some(at) = layer {
            self.single(at, &["source", "backingStore"])?;
            let source = child(at, "source");
            let data = source.and_then(|s| child(s, "dataStore"));
            let data = data.or_else(|| child(at, "dataStore"));
            for one in [Some(at), data].into_iter().flatten() {
                if let Some(source) = self.source(one, target)?
                    && !sources.contains(&source)
                {
                    sources.push(source);
                }
            }
            if let Some(helped) = source.and_then(|s| child(s, "reservations")) {
                let what = format!(
                    "disk {target}: <reservations> are made by a helper process beside QEMU, which \
                     this host's lease does not end"
                );
                return self.editable(helped, what);
            }
            layer = child(at, "backingStore");
        }
        Ok(sources)
    }

    /// The source of a disk or of an image below one.
    fn source(&self, node: Node<'a, 'x>, target: &str) -> Result<Option<Source>, Refusal> {
        let Some(source) = child(node, "source") else {
            return Ok(None);
        };
        let kind = node.attribute("type").unwrap_or("file");
        let path = |name: &str| source.attribute(name).filter(|p| !p.is_empty());
        let local = |path: Option<&str>| match path.map(Source::path) {
            None => Ok(None),
            Some(Ok(found)) => Ok(Some(found)),
            Some(Err(why)) => {
                let path = path.unwrap_or_default();
                self.fault(source, format!("disk {target}: {path} {why}"))
            }
        };
        match kind {
            "file" => local(path("file")),
            "block" => local(path("dev")),
            "network" => match network(source) {
                Some(found) => Ok(Some(found)),
                None => self.fault(source, format!("disk {target}: no protocol is named")),
            },
            "vhostuser" | "vhostvdpa" => self.fault(
                node,
                format!(
                    "disk {target}: type {kind:?}: a process beside QEMU does its I/O, which this \
                     host's lease does not end"
                ),
            ),
            other => self.fault(
                node,
                format!(
                    "disk {target}: type {other:?}: nobody can tell whether other hosts reach it; \
                     \"file\", \"block\" and \"network\" are allowed"
                ),
            ),
        }
    }

    fn filesystem(&self, node: Node<'a, 'x>) -> Result<Disk, Refusal> {
        self.single(node, &["driver", "source", "target"])?;
        let target = child(node, "target").and_then(|t| t.attribute("dir"));
        let target = target.unwrap_or("without target").to_owned();
        let driver = child(node, "driver").and_then(|d| d.attribute("type"));
        if let Some(other) = driver.filter(|d| *d != "path") {
            let what = format!(
                "file system {target}: driver type {other:?}: a process beside QEMU reads and \
                 writes it, through this host's memory, and this host's lease does not end it; \
                 only a read-only one with driver type \"path\" is allowed"
            );
            return self.editable(node, what);
        }
        let Some(dir) = child(node, "source").and_then(|s| s.attribute("dir")) else {
            let what = format!("file system {target}: only <source dir> is allowed");
            return self.fault(node, what);
        };
        let Ok(source) = Source::path(dir) else {
            return self.fault(
                node,
                format!("file system {target}: {dir} is no plain path"),
            );
        };
        if child(node, "readonly").is_none() {
            let what = format!(
                "file system {target}: writes to {dir} would wait in this host's memory and could \
                 reach the storage after the guest runs elsewhere; <readonly/> is needed"
            );
            return self.editable(node, what);
        }
        Ok(Disk {
            target,
            at: self.place(node),
            kind: DiskKind::Directory,
            sources: vec![source],
            writable: false,
            shareable: true,
            optional: false,
        })
    }

    /// The file of the firmware's variables, if the description names one.
    fn nvram(&self, root: Node<'a, 'x>) -> Result<Option<Disk>, Refusal> {
        let Some(node) = child(root, "os").and_then(|os| child(os, "nvram")) else {
            return Ok(None);
        };
        let source = if child(node, "source").is_some() {
            self.source(node, "nvram")?
        } else {
            let path = node.text().map(str::trim).filter(|t| !t.is_empty());
            match path.map(Source::path) {
                None => None,
                Some(Ok(source)) => Some(source),
                Some(Err(why)) => return self.fault(node, format!("nvram {why}")),
            }
        };
        Ok(source.map(|source| Disk {
            target: "nvram".to_owned(),
            at: self.place(node),
            kind: DiskKind::Nvram,
            sources: vec![source],
            writable: true,
            shareable: false,
            optional: false,
        }))
    }

    /// Refuses two disks of one guest that have one image, one of them writing to it.
    fn apart(&self, disks: &[Disk]) -> Result<(), Refusal> {
        for (i, one) in disks.iter().enumerate() {
            for other in &disks[..i] {
                if let Some(source) = one.collides(other, &Source::same) {
                    return Err(Refusal {
                        at: Some(one.at),
                        what: format!(
                            "disk {}: {source} is this guest's {} too",
                            one.target, other.target
                        ),
                        editable: false,
                    });
                }
            }
        }
        Ok(())
    }
}

/// A source on the network; `None` if no protocol is named.
pub(super) fn network(source: Node<'_, '_>) -> Option<Source> {
    let text = |name: &str| source.attribute(name).filter(|p| !p.is_empty());
    let servers = source.children().filter(|n| n.has_tag_name("host"));
    let mut servers: Vec<String> = servers
        .filter_map(|h| {
            let name = h.attribute("name").or(h.attribute("socket"))?;
            let port = h.attribute("port").map(|p| format!(":{p}"));
            Some(name.to_ascii_lowercase() + port.as_deref().unwrap_or_default())
        })
        .collect();
    servers.sort();
    servers.dedup();
    Some(Source::Network {
        protocol: text("protocol")?.to_owned(),
        name: text("name").unwrap_or_default().to_owned(),
        servers,
    })
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
