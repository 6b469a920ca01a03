//! The file of one host, `/etc/quorate/quorate.toml`.
//!
//! A [`Config`] that exists is consistent: everything the file alone can get wrong was refused,
//! with line and column, before anything was touched. What only the cluster knows (its timing once
//! it is founded, who is a member) is not here.

mod boot_service;
mod capacity;
mod check;
mod error;
mod fence;
mod founding;
mod libvirt;
mod links;
mod ocf;
mod reader;
mod storage;
mod timeline;

pub use boot_service::boot_service;
pub use capacity::{machine_memory, memory_room};
pub use check::{CheckReport, PromiseLine, report, report_for};
pub use error::ConfigError;
pub use founding::FoundingSettings;
pub use libvirt::LibvirtSettings;
pub use ocf::OcfSettings;
pub use storage::StorageSettings;

use crate::net::Endpoint;
use error::Fault;
use quorate_fencing::Level;
use quorate_membership::{LinkId, NodeId};
use reader::{Found, Section, expected, parse};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// Links a cluster may have.
pub const LINKS_MAX: usize = 8;
/// Peers one file may name.
const PEERS_MAX: usize = 1024;

/// One host's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where it was read from.
    pub path: PathBuf,
    /// This node.
    pub node: NodeId,
    /// Its name for people.
    pub name: String,
    /// Votes but never runs guests.
    pub witness: bool,
    /// As a voter it waits, however long, until others vouch for its store, rather than vote unvouched.
    pub unvouched_waits: bool,
    /// A unit of its own runs the guardian; not in the file, but said on the command line.
    pub guardian_unit: bool,
    /// Durable state: the store.
    pub state_dir: PathBuf,
    /// State that must not outlive a boot: lease end, guardian. Belongs on a memory file system.
    pub run_dir: PathBuf,
    /// The cluster key.
    pub key_file: PathBuf,
    /// Unix socket of the API.
    pub socket: PathBuf,
    /// Where the kernel names this boot.
    pub boot_id_file: PathBuf,
    /// Where the machine is named; a store is bound to it.
    pub machine_id_file: PathBuf,
    /// Where the firmware names the machine.
    pub product_uuid_file: PathBuf,
    /// Whether this is a machine of its own and no virtual one, if its owner says so; else it is found
    /// out.
    pub bare_metal: Option<bool>,
    /// Room for guests, as far as the file says; the rest is read from the machine.
    pub capacity: CapacitySettings,
    /// Networks between the nodes, at least one.
    pub links: Vec<Link>,
    /// Where sessions are accepted.
    pub listen: Endpoint,
    /// All other nodes this one is told about.
    pub peers: Vec<Peer>,
    /// How `quorate cluster init` founds the cluster; ignored by everything else.
    pub founding: Option<FoundingSettings>,
    /// How *this* host is to be fenced, in order of levels; the lease is always the last.
    pub fence: Vec<Level>,
    /// Where fence agents are looked for.
    pub agent_dirs: Vec<PathBuf>,
    /// Guests as libvirt's domains; without it this host runs none.
    pub libvirt: Option<LibvirtSettings>,
    /// Guests as resources of resource agents.
    pub ocf: OcfSettings,
    /// The shared storage.
    pub storage: StorageSettings,
}

/// Room for guests as the file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapacitySettings {
    /// Virtual CPUs.
    pub vcpus: Option<u32>,
    /// Memory in MiB.
    pub memory_mib: Option<u64>,
}

/// One network between the nodes, seen from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number: the place in the file, the same at all nodes.
    pub id: LinkId,
    /// Its name for people.
    pub name: String,
    /// Address of this host's interface.
    pub address: IpAddr,
    /// Name of the interface, if the file gives it.
    pub card: Option<String>,
    /// How datagrams reach everybody.
    pub carrier: Carrier,
}

/// How datagrams reach everybody on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// To a multicast group and port.
    Multicast(SocketAddr),
    /// A copy to every peer's address, at this port.
    Unicast {
        /// UDP port, the same at all nodes.
        port: u16,
    },
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub node: NodeId,
    /// Its name for people.
    pub name: String,
    /// Where it accepts sessions.
    pub session: Endpoint,
    /// Its address on each link, in the order of the links; empty where all links are multicast.
    pub addresses: Vec<IpAddr>,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The first fault with file, line, column, key, what was found and what is allowed.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| ConfigError::whole(path, format!("cannot be read: {e}")))?;
        Config::parse(path, &text)
    }

    /// Checks the text of a file; `path` is only for messages.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        let root = DeTable::parse(text).map_err(|e| {
            let at = e.span().unwrap_or(0..0);
            ConfigError::place(
                path,
                text,
                Fault {
                    at,
                    key: String::new(),
                    message: e.message().to_owned(),
                },
            )
        })?;
        let root = Section::new("", 0..0, root.get_ref());
        read(path, root).map_err(|fault| ConfigError::place(path, text, fault))
    }

    /// The name of `node`, if this file knows it.
    #[must_use]
    pub fn name_of(&self, node: NodeId) -> Option<&str> {
        if node == self.node {
            return Some(&self.name);
        }
        self.peers
            .iter()
            .find(|p| p.node == node)
            .map(|p| p.name.as_str())
    }
}

fn read(path: &Path, root: Section<'_, '_>) -> Result<Config, Fault> {
    let node = root.number("node", 1, u32::MAX.into())?;
    let node = root.need("node", node, "a node id from 1 up")?;
    let name = node_name(&root)?;
    let witness = root.flag("witness")?.unwrap_or(false);
    let unvouched_waits = unvouched_waits(&root)?;
    let state_dir = root
        .path("state_dir")?
        .unwrap_or_else(|| "/var/lib/quorate".into());
    let run_dir = root
        .path("run_dir")?
        .unwrap_or_else(|| "/run/quorate".into());
    let key_file = root.path("key_file")?;
    let key_file = root.need(
        "key_file",
        key_file,
        "a file made by `quorate key generate`",
    )?;
    let socket = root
        .path("socket")?
        .unwrap_or_else(|| run_dir.join("quorate.sock"));
    let boot_id_file = root
        .path("boot_id_file")?
        .unwrap_or_else(|| "/proc/sys/kernel/random/boot_id".into());
    let machine_id_file = root
        .path("machine_id_file")?
        .unwrap_or_else(|| "/etc/machine-id".into());
    let product_uuid_file = root
        .path("product_uuid_file")?
        .unwrap_or_else(|| "/sys/class/dmi/id/product_uuid".into());
    let bare_metal = root.flag("bare_metal")?;
    let capacity = capacity(&root, witness)?;
    let links = links::read(&root)?;
    let listen = root.parsed::<Endpoint>("listen", ADDRESS_AND_PORT)?;
    let listen = reachable(root.need("listen", listen, ADDRESS_AND_PORT)?)?;
    let me = Peer {
        node: NodeId(node.value as u32),
        name: name.value.clone(),
        session: listen.value.clone(),
        addresses: links.iter().map(|l| l.address).collect(),
    };
    let peers = peers(&root, &me, &links)?;
    let known: Vec<NodeId> = peers.iter().map(|p| p.node).chain([me.node]).collect();
    let founding = root
        .table("cluster")?
        .map(|section| founding::read(section, &known))
        .transpose()?;
    let agent_dirs = fence::agent_dirs(&root)?;
    let mut fence = fence::read(&root, &agent_dirs)?;
    fence::name_host(&root, &mut fence, &me, &peers)?;
    if let (true, Some(first)) = (witness, fence.first()) {
        return Err(Fault {
            at: root.place_of("fence"),
            key: "fence".into(),
            message: format!(
                "a witness runs no guests and is never fenced; found {} device(s), allowed: none",
                first.devices.len()
            ),
        });
    }
    let libvirt = libvirt::read(&root, witness)?;
    let ocf = ocf::read(&root, witness)?;
    let storage = storage::read(&root, witness)?;
    root.finish()?;
    Ok(Config {
        path: path.to_owned(),
        node: me.node,
        name: me.name,
        witness,
        unvouched_waits,
        guardian_unit: false,
        state_dir,
        run_dir,
        key_file,
        socket,
        boot_id_file,
        machine_id_file,
        product_uuid_file,
        bare_metal,
        capacity,
        links,
        listen: listen.value,
        peers,
        founding,
        fence,
        agent_dirs,
        libvirt,
        ocf,
        storage,
    })
}

/// Whether a voter that nobody can vouch for waits rather than votes.
fn unvouched_waits(section: &Section<'_, '_>) -> Result<bool, Fault> {
    const ALLOWED: &str = "\"vote\" or \"wait\"";
    let Some(word) = section.text("unvouched")? else {
        return Ok(false);
    };
    match word.value.as_str() {
        "vote" => Ok(false),
        "wait" => Ok(true),
        other => Err(word.fault(expected(format!("{other:?}"), ALLOWED))),
    }
}

const ADDRESS_AND_PORT: &str = "an IP address and a port, like \"10.0.0.1:5406\"";

/// A name for people: it stands in tables, file names and on command lines.
fn node_name(section: &Section<'_, '_>) -> Result<Found<String>, Fault> {
    const ALLOWED: &str = "1 to 64 characters of a-z A-Z 0-9 . _ -";
    let name = section.need("name", section.text("name")?, ALLOWED)?;
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.value.is_empty() || name.value.len() > 64 || !name.value.chars().all(fine) {
        return Err(name.fault(expected(format!("{:?}", name.value), ALLOWED)));
    }
    Ok(name)
}

fn capacity(root: &Section<'_, '_>, witness: bool) -> Result<CapacitySettings, Fault> {
    let Some(section) = root.table("capacity")? else {
        return Ok(CapacitySettings::default());
    };
    if witness {
        return Err(section.fault("a witness runs no guests; allowed: no such table"));
    }
    let vcpus = section.number("vcpus", 1, 65_536)?;
    let memory_mib = section.number("memory_mib", 1, 1 << 40)?;
    section.finish()?;
    Ok(CapacitySettings {
        vcpus: vcpus.map(|n| n.value as u32),
        memory_mib: memory_mib.map(|n| n.value),
    })
}

/// A port of zero would be another one at every start, and an address of one link says nothing
/// without the card.
fn reachable(found: Found<Endpoint>) -> Result<Found<Endpoint>, Fault> {
    let Endpoint { at, port } = &found.value;
    if *port == 0 || at.ip.is_unspecified() || at.ip.is_multicast() {
        return Err(found.fault(expected(
            &found.value,
            "a fixed port above 0 and an address that peers can reach",
        )));
    }
    if at.lacks_card() {
        let message = format!(
            "an address of one link needs the name of this host's card, like \"[{}%eth0]:{port}\"",
            at.ip
        );
        return Err(found.fault(expected(&found.value, &message)));
    }
    Ok(found)
}

fn peers(root: &Section<'_, '_>, me: &Peer, links: &[Link]) -> Result<Vec<Peer>, Fault> {
    let sections = root.tables("peer")?;
    if let Some(section) = sections.get(PEERS_MAX) {
        return Err(section.fault(format!("is one too many; allowed: up to {PEERS_MAX} peers")));
    }
    let mut peers: BTreeMap<NodeId, Peer> = BTreeMap::new();
    let mut seen: Vec<Peer> = vec![me.clone()];
    let mut named_myself = false;
    for section in sections {
        let (peer, faults) = peer(section, links)?;
        // One list of peers may serve all hosts, so a host's own entry is fine if it is true.
        if peer.node == me.node && !named_myself {
            named_myself = true;
            let same_addresses = peer.addresses.is_empty() || peer.addresses == me.addresses;
            if (&peer.name, &peer.session) != (&me.name, &me.session) || !same_addresses {
                return Err(faults.node.fault(format!(
                    "{} is this host, but the entry differs from `name`, `listen` or the links' \
                     addresses",
                    peer.node.0
                )));
            }
            continue;
        }
        for other in &seen {
            if other.node == peer.node {
                return Err(faults.node.fault(format!(
                    "{} is the id of {:?} too; every node needs its own",
                    peer.node.0, other.name
                )));
            }
            if other.name == peer.name {
                return Err(faults.name.fault(format!(
                    "{:?} is the name of node {} too",
                    peer.name, other.node.0
                )));
            }
            if other.session == peer.session {
                return Err(faults
                    .session
                    .fault(format!("{} is {:?}'s too", peer.session, other.name)));
            }
            if let Some(same) = peer.addresses.iter().find(|a| other.addresses.contains(a)) {
                return Err(faults
                    .session
                    .fault(format!("address {same} is {:?}'s too", other.name)));
            }
        }
        seen.push(peer.clone());
        peers.insert(peer.node, peer);
    }
    Ok(peers.into_values().collect())
}

/// Where a peer's identifying keys stand, for faults that show only beside other peers.
struct PeerPlaces {
    node: Found<u64>,
    name: Found<String>,
    session: Found<Endpoint>,
}

fn peer(section: Section<'_, '_>, links: &[Link]) -> Result<(Peer, PeerPlaces), Fault> {
    let node = section.number("node", 1, u32::MAX.into())?;
    let node = section.need("node", node, "a node id from 1 up")?;
    let name = node_name(&section)?;
    let session = section.parsed::<Endpoint>("session", ADDRESS_AND_PORT)?;
    let session = reachable(section.need("session", session, ADDRESS_AND_PORT)?)?;
    let unicast = links
        .iter()
        .any(|l| matches!(l.carrier, Carrier::Unicast { .. }));
    let per_link = format!(
        "{} IP address(es), one per link in their order",
        links.len()
    );
    let listed = section.texts("addresses")?;
    let addresses = match listed {
        Some(listed) => {
            if listed.value.len() != links.len() {
                return Err(listed.fault(expected(listed.value.len(), &per_link)));
            }
            listed
                .value
                .iter()
                .map(|a| parse::<IpAddr>(a, "an IP address").map(|found| found.value))
                .collect::<Result<Vec<_>, _>>()?
        }
        None if unicast => return section.need("addresses", None, &per_link),
        None => Vec::new(),
    };
    section.finish()?;
    let peer = Peer {
        node: NodeId(node.value as u32),
        name: name.value.clone(),
        session: session.value.clone(),
        addresses,
    };
    let places = PeerPlaces {
        node,
        name,
        session,
    };
    Ok((peer, places))
}

#[cfg(test)]
mod tests;
