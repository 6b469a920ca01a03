//! What a machine is made of, read leniently from the description of one that runs, and how that
//! differs from what its record says.

use super::reader::child;
use super::source::Source;
use roxmltree::{Document, Node, ParsingOptions};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// More of a running machine's description is not read, in bytes.
const LIVE_LONGEST: usize = 1 << 20;
/// More elements and attributes than any description has.
const NODES: u32 = 100_000;

/// The parts of a machine that a start elsewhere must find again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The machine by its full name, as `pc-q35-7.2`; `None` if it is not named.
    pub machine: Option<String>,
    /// The firmware's program, if one is named.
    pub loader: Option<String>,
    /// Disks whose medium stays, by the guest's name for them.
    pub disks: BTreeMap<String, Plate>,
    /// What may change without harm to a disk: cards, memory, processors, removable media; in
    /// words.
    pub minor: BTreeSet<String>,
}

/// A disk of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plate {
    /// Its top image; `None` if that cannot be told.
    pub top: Option<Top>,
    /// A block job copies or merges it now.
    pub job: bool,
}

/// A top image: the one that the guest writes to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Top {
    /// Where it lies.
    pub source: Source,
    /// It is a block device, not a file.
    pub device: bool,
    /// Its format, as `qcow2`.
    pub format: String,
}

/// One difference between a machine that runs and its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The guest writes to another image than the record has.
    Top {
        /// Which disk.
        disk: String,
        /// The image of the record.
        was: Option<Top>,
        /// The image that is written.
        is: Option<Top>,
    },
    /// A block job is under way, after which the guest may write to another image.
    Job {
        /// Which disk.
        disk: String,
    },
    /// A disk was plugged or unplugged.
    Disk {
        /// Which.
        disk: String,
        /// The machine has it and the record does not.
        more: bool,
    },
    /// Machine or firmware is another.
    Board {
        /// Of the record.
        was: String,
        /// Of the machine that runs.
        is: String,
    },
    /// What harms no disk.
    Minor(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |top: &Option<Top>| match top {
            Some(top) => top.source.to_string(),
            None => "no image that can be told".to_owned(),
        };
        match self {
            Difference::Top { disk, was, is } => {
                write!(
                    f,
                    "{disk} writes to {}, its record has {}",
                    place(is),
                    place(was)
                )
            }
            Difference::Job { disk } => write!(f, "a block job is under way on {disk}"),
            Difference::Disk { disk, more: true } => write!(f, "{disk} was plugged in"),
            Difference::Disk { disk, more: false } => write!(f, "{disk} was taken out"),
            Difference::Board { was, is } => write!(f, "it runs as {is}, its record has {was}"),
            Difference::Minor(what) => f.write_str(what),
        }
    }
}

impl Layout {
    /// Reads a description, of a record or of a machine that runs. `None` if it cannot be read:
    /// nothing follows.
    #[must_use]
    pub fn read(xml: &str) -> Option<Layout> {
        if xml.len() > LIVE_LONGEST {
            return None;
        }
        let options = ParsingOptions {
            allow_dtd: false,
            nodes_limit: NODES,
            ..ParsingOptions::default()
        };
        let doc = Document::parse_with_options(xml, options).ok()?;
        let root = doc.root_element();
        if !root.has_tag_name("domain") {
            return None;
        }
        let os = child(root, "os");
        let machine = os
            .and_then(|os| child(os, "type"))
            .and_then(|t| t.attribute("machine"));
        let loader = os.and_then(|os| child(os, "loader")).and_then(|l| l.text());
        let mut layout = Layout {
            machine: machine.map(str::to_owned),
            loader: loader
                .map(|text| text.trim().to_owned())
                .filter(|t| !t.is_empty()),
            ..Layout::default()
        };
        layout.size(root);
        let devices = root.children().filter(|n| n.has_tag_name("devices"));
        for node in devices.flat_map(|d| d.children()) {
            match node.tag_name().name() {
                "disk" => layout.disk(node),
                "interface" => {
                    let address = child(node, "mac").and_then(|m| m.attribute("address"));
                    let address = address.unwrap_or_default().to_ascii_lowercase();
                    layout.minor.insert(format!("network card {address}"));
                }
                _ => {}
            }
        }
        Some(layout)
    }

    /// Memory and processors. Where memory may be plugged in or is given by cells, libvirt counts it
    /// anew at the start: what is written says nothing.
    fn size(&mut self, root: Node<'_, '_>) {
        let cells = child(root, "cpu").and_then(|cpu| child(cpu, "numa"));
        let counted = cells.is_some() || child(root, "maxMemory").is_some();
        if let Some(node) = child(root, "memory").filter(|_| !counted) {
            let text = node.text().unwrap_or_default();
            let bytes = super::amounts::bytes(text, node.attribute("unit"));
            self.minor
                .extend(bytes.map(|b| format!("memory of {} KiB", b / 1024)));
        }
        if let Some(node) = child(root, "vcpu") {
            let text = node.text().unwrap_or_default().trim();
            let count = node.attribute("current").unwrap_or(text);
            self.minor.insert(format!("{count} processors"));
        }
    }

    fn disk(&mut self, node: Node<'_, '_>) {
        let target = child(node, "target").and_then(|t| t.attribute("dev"));
        let target = target.unwrap_or("without target").to_owned();
        let top = top(node);
        if matches!(node.attribute("device"), Some("cdrom" | "floppy")) {
            let place = top.map_or_else(|| "empty".to_owned(), |t| t.source.to_string());
            self.minor.insert(format!("{target}: {place}"));
            return;
        }
        let job = child(node, "mirror").is_some();
        self.disks.insert(target, Plate { top, job });
    }

    /// What differs in a machine that runs from this record.
    #[must_use]
    pub fn against(&self, live: &Layout) -> Vec<Difference> {
        let mut out = Vec::new();
        // `q35` stands for whatever the host that starts it has; `pc-q35-7.2` is one machine.
        let machine = self.machine.as_ref().filter(|m| m.contains('.'));
        for (was, is) in [
            (machine, &live.machine),
            (self.loader.as_ref(), &live.loader),
        ] {
            if let (Some(was), Some(is)) = (was, is)
                && was != is
            {
                let (was, is) = (was.clone(), is.clone());
                out.push(Difference::Board { was, is });
            }
        }
        for (disk, plate) in &live.disks {
            let disk = disk.clone();
            if plate.job {
                out.push(Difference::Job { disk: disk.clone() });
            }
            match self.disks.get(&disk) {
                None => out.push(Difference::Disk { disk, more: true }),
                Some(known) if !alike(&known.top, &plate.top) => out.push(Difference::Top {
                    disk,
                    was: known.top.clone(),
                    is: plate.top.clone(),
                }),
                Some(_) => {}
            }
        }
        for disk in self.disks.keys().filter(|d| !live.disks.contains_key(*d)) {
            let disk = disk.clone();
            out.push(Difference::Disk { disk, more: false });
        }
        let minor = |has: &Layout, lacks: &Layout, which: &str| {
            let only = has.minor.difference(&lacks.minor);
            let words: Vec<&str> = only.map(String::as_str).collect();
            (!words.is_empty()).then(|| Difference::Minor(format!("{which} {}", words.join(", "))))
        };
        out.extend(minor(live, self, "it has"));
        out.extend(minor(self, live, "its record has"));
        out
    }
}

/// Whether two tops are one image. Formats that are not said are not compared.
fn alike(one: &Option<Top>, other: &Option<Top>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.source.same(&other.source),
        // What cannot be told on either side is no difference that anybody could act on.
        (None, None) => true,
        _ => false,
    }
}

/// The top image of a disk.
fn top(node: Node<'_, '_>) -> Option<Top> {
    let source = child(node, "source")?;
    let kind = node.attribute("type").unwrap_or("file");
    let path = |name: &str| source.attribute(name).filter(|p| !p.is_empty());
    let found = match kind {
        "file" => Source::path(path("file")?).ok()?,
        "block" => Source::path(path("dev")?).ok()?,
        "network" => super::reader::network(source)?,
        _ => return None,
    };
    let format = child(node, "driver").and_then(|d| d.attribute("type"));
    Some(Top {
        source: found,
        device: kind == "block",
        format: format.unwrap_or("raw").to_owned(),
    })
}

/// A record's description with another top image for one of its disks, which is a file or a device
/// of the host. What the description says of images below the old one is left out: the images'
/// headers say it. `None` if the description has no such disk or the image is no path.
#[must_use]
pub fn with_top(xml: &str, disk: &str, top: &Top) -> Option<String> {
    let Source::Path(path) = &top.source else {
        return None;
    };
    let doc = Document::parse(xml).ok()?;
    let devices = child(doc.root_element(), "devices")?;
    let named = |n: &Node<'_, '_>| {
        n.has_tag_name("disk") && child(*n, "target").and_then(|t| t.attribute("dev")) == Some(disk)
    };
    let node = devices.children().find(named)?;
    let (kind, name) = if top.device {
        ("block", "dev")
    } else {
        ("file", "file")
    };
    let mut edits = Vec::new();
    edits.push(set(node, "type", kind)?);
    let source = child(node, "source")?;
    edits.push((
        source.range(),
        format!("<source {name}='{}'/>", escaped(path)),
    ));
    edits.push(set(child(node, "driver")?, "type", &top.format)?);
    for below in node.children().filter(|n| n.has_tag_name("backingStore")) {
        edits.push((below.range(), String::new()));
    }
    edits.sort_by_key(|(range, _)| range.start);
    let mut text = xml.to_owned();
    for (range, new) in edits.into_iter().rev() {
        text.replace_range(range, &new);
    }
    Some(text)
}

/// The edit that sets an attribute of an element.
fn set(node: Node<'_, '_>, name: &str, value: &str) -> Option<(std::ops::Range<usize>, String)> {
    match node.attribute_node(name) {
        Some(old) => Some((old.range_value(), escaped(value))),
        None => {
            let at = node.range().start + 1 + node.tag_name().name().len();
            Some((at..at, format!(" {name}='{}'", escaped(value))))
        }
    }
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&apos;")
}

#[cfg(test)]
mod tests {
    use super::super::Domain;
    use super::*;

    const RECORD: &str = "<domain type='kvm'><name>a</name>\
        <uuid>5ee5ee5e-1111-2222-3333-444444444444</uuid><memory>65536</memory>\
        <os><type machine='pc-q35-7.2'>hvm</type><loader>/fw</loader></os><devices>\
        <disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/>\
        <source file='/s/a.raw'/><target dev='vda'/></disk>\
        <disk device='cdrom' type='file'><target dev='sda'/></disk></devices></domain>";

    fn top(path: &str) -> Top {
        Top {
            source: Source::Path(path.into()),
            device: false,
            format: "qcow2".into(),
        }
    }

    fn against(live: &str) -> Vec<Difference> {
        let record = Layout::read(RECORD).expect("good");
        record.against(&Layout::read(live).expect("good"))
    }

    #[test]
    fn a_machine_as_it_was_started_differs_in_nothing() {
        assert_eq!(against(RECORD), []);
        let unit = "<memory unit='MiB'>64</memory>";
        assert_eq!(against(&RECORD.replace("<memory>65536</memory>", unit)), []);
        let alias = RECORD.replace("pc-q35-7.2", "q35");
        let record = Layout::read(&alias).expect("good");
        assert_eq!(record.against(&Layout::read(RECORD).expect("good")), []);
    }

    #[test]
    fn a_disc_a_card_and_a_size_are_no_part_of_the_machine() {
        for (was, is, told) in [
            (
                "<target dev='sda'/>",
                "<source file='/i'/><target dev='sda'/>",
                "it has sda: /i; its record has sda: empty",
            ),
            (
                "</devices>",
                "<interface><mac address='AA:BB:CC:00:00:01'/></interface></devices>",
                "it has network card aa:bb:cc:00:00:01",
            ),
            (
                "<memory>65536",
                "<memory>65537",
                "it has memory of 65537 KiB; its record has memory of 65536 KiB",
            ),
        ] {
            let found = against(&RECORD.replace(was, is));
            let minor = |d: &Difference| matches!(d, Difference::Minor(_));
            assert!(found.iter().all(minor), "{found:?}");
            let words: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(words.join("; "), told);
        }
    }

    #[test]
    fn images_jobs_disks_and_boards_that_differ_are_seen() {
        let overlay = RECORD.replace(
            "<source file='/s/a.raw'/>",
            "<source file='/s/a.1'/><backingStore type='file'><source file='/s/a.raw'/>\
             </backingStore>",
        );
        let found = against(&overlay);
        let [Difference::Top { disk, is, .. }] = found.as_slice() else {
            panic!("another difference: {found:?}");
        };
        let is = is.as_ref().map(|t| &t.source);
        assert_eq!(
            (disk.as_str(), is),
            ("vda", Some(&Source::Path("/s/a.1".into())))
        );
        let job = RECORD.replace(
            "<target dev='vda'/>",
            "<mirror type='file'/><target dev='vda'/>",
        );
        assert!(matches!(against(&job)[..], [Difference::Job { .. }]));
        let more = "<disk type='file'><source file='/x'/><target dev='vdb'/></disk></devices>";
        let more = RECORD.replace("</devices>", more);
        assert!(matches!(
            against(&more)[..],
            [Difference::Disk { more: true, .. }]
        ));
        let record = Layout::read(&more).expect("good");
        let less = record.against(&Layout::read(RECORD).expect("good"));
        assert!(matches!(less[..], [Difference::Disk { more: false, .. }]));
        for (from, to) in [("pc-q35-7.2", "pc-q35-8.0"), ("/fw", "/fw2")] {
            let other = RECORD.replace(from, to);
            assert!(
                matches!(against(&other)[..], [Difference::Board { .. }]),
                "{to}"
            );
        }
        assert_eq!(Layout::read("<domain"), None);
        assert_eq!(Layout::read("<network/>"), None);
    }

    #[test]
    fn a_record_follows_its_top_image_there_and_back() {
        let there = with_top(RECORD, "vda", &top("/s/it's.1")).expect("edited");
        let read = Domain::read(&there).unwrap_or_else(|e| panic!("{e}: {there}"));
        assert_eq!(read.disks[0].sources, [Source::Path("/s/it's.1".into())]);
        assert!(there.contains("type='qcow2' cache='none'"), "{there}");
        let raw = Top {
            format: "raw".into(),
            ..top("/s/a.raw")
        };
        assert_eq!(with_top(&there, "vda", &raw).as_deref(), Some(RECORD));
        let below = RECORD.replace(
            "<target dev='vda'/>",
            "<backingStore type='file'><source file='/s/b'/></backingStore><target dev='vda'/>",
        );
        let there = with_top(&below, "vda", &top("/s/a.1")).expect("edited");
        assert_eq!(
            Domain::read(&there).expect("good").disks[0].sources.len(),
            1
        );
        assert_eq!(with_top(RECORD, "vdz", &top("/s/a.1")), None);
        let remote = Top {
            source: Source::Network {
                protocol: "rbd".into(),
                name: "p/a".into(),
                servers: vec![],
            },
            ..top("")
        };
        assert_eq!(with_top(RECORD, "vda", &remote), None);
        let bare = RECORD
            .replace(" type='raw' cache", " cache")
            .replace("type='file' device='disk'", "device='disk'");
        let there = with_top(&bare, "vda", &top("/s/a.1")).expect("edited");
        assert!(Domain::read(&there).is_ok(), "{there}");
    }
}
