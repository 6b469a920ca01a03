//! The links: up to eight networks that carry datagrams, each by multicast or by unicast copies.
//!
//! A multicast link sends everything once to its group; whom a frame is for is judged by the
//! receiving core. A unicast link sends one copy to each addressee it knows. Sending never waits:
//! a datagram that the system does not take at once is lost and counted, as on any network.

use quorate_membership::{LinkId, NodeId, codec};
use serde::Serialize;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::num::NonZeroU32;
use std::task::{Context, Poll};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

/// Links a node may have.
pub const LINKS: usize = 8;
/// No datagram is longer than this many bytes: none travels as fragments, of which one that is lost
/// loses it whole.
pub const LONGEST: usize = codec::DATAGRAM;
/// Bytes the system keeps for us while the loop is busy.
const RECEIVE_BUFFER: usize = 1 << 20;

/// One network between the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Name for people, the same at every node.
    pub name: String,
    /// How datagrams travel on it.
    pub kind: LinkKind,
}

/// How datagrams travel on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// One copy to a group that all nodes join.
    Multicast {
        /// The card.
        interface: Interface,
        /// The group and its port.
        group: SocketAddr,
        /// Routers a datagram may pass, plus one; 1 keeps it on the wire.
        ttl: u8,
        /// Whether this machine hears its own datagrams: needed when several nodes share it.
        loopback: bool,
    },
    /// A copy to each node's address.
    Unicast {
        /// This node's address and port.
        bind: SocketAddr,
        /// The other nodes' addresses on this link.
        peers: BTreeMap<NodeId, SocketAddr>,
    },
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interface {
    /// The one that has this address.
    Address(IpAddr),
    /// The one of this name.
    Name(String),
}

/// Why a link could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// None, or more than there may be.
    #[error("{found} links are configured; 1 to {LINKS} are allowed")]
    Count {
        /// How many.
        found: usize,
    },
    /// A multicast link's group is not one.
    #[error("link {link:?}: {group} is not a multicast address")]
    NotAGroup {
        /// The link.
        link: String,
        /// What was given.
        group: SocketAddr,
    },
    /// Card and group belong to different IP versions.
    #[error("link {link:?}: interface {interface} and group {group} differ in IP version")]
    Mixed {
        /// The link.
        link: String,
        /// The card's address.
        interface: IpAddr,
        /// The group.
        group: SocketAddr,
    },
    /// The system refused.
    #[error("link {link:?}: cannot {action} {address}: {source}{}", hint(source))]
    System {
        /// The link.
        link: String,
        /// What was tried.
        action: &'static str,
        /// The address or card concerned.
        address: String,
        /// Why it failed.
        source: io::Error,
    },
}

fn hint(e: &io::Error) -> &'static str {
    match e.kind() {
        io::ErrorKind::AddrInUse => " (another program uses this port)",
        io::ErrorKind::AddrNotAvailable => " (no card of this host has this address)",
        _ => match e.raw_os_error() {
            // ENODEV, which std gives no kind of its own.
            Some(19) => " (no card of this host has this address or name)",
            _ => "",
        },
    }
}

/// What happened on a link since start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LinkCounters {
    /// The link's name.
    pub name: String,
    /// Datagrams sent; every copy counts.
    pub sent: u64,
    /// Datagrams received, whatever they were.
    pub received: u64,
    /// Datagrams the system did not take.
    pub send_errors: u64,
    /// Errors of receiving.
    pub receive_errors: u64,
    /// Addressees without a known address on this link.
    pub unknown_peer: u64,
    /// The last error, in words.
    pub last_error: Option<String>,
}

struct Link {
    socket: UdpSocket,
    road: Road,
    counters: LinkCounters,
}

enum Road {
    Group(SocketAddr),
    Copies(BTreeMap<NodeId, SocketAddr>),
}

/// All links of this node; a [`LinkId`] is the place in the configuration, counted from 0.
pub struct Links {
    links: Vec<Link>,
    /// The link looked at first, so that a flooded one cannot starve the others.
    next: usize,
    buffer: Vec<u8>,
}

impl Links {
    /// Opens every link. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// The first link that cannot be opened, with its address and the cause.
    pub fn open(configs: &[LinkConfig]) -> Result<Links, LinkError> {
        if configs.is_empty() || configs.len() > LINKS {
            return Err(LinkError::Count {
                found: configs.len(),
            });
        }
        let links = configs.iter().map(Link::open).collect::<Result<_, _>>()?;
        Ok(Links {
            links,
            next: 0,
            buffer: vec![0; 1 << 16],
        })
    }

    /// Names of the links, in order of their ids.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.links.iter().map(|l| l.counters.name.as_str())
    }

    /// What happened on each link since start.
    #[must_use]
    pub fn counters(&self) -> Vec<LinkCounters> {
        self.links.iter().map(|l| l.counters.clone()).collect()
    }

    /// The address a link's socket is bound to.
    ///
    /// # Errors
    /// There is no such link, or the system's reason.
    pub fn local_addr(&self, link: LinkId) -> io::Result<SocketAddr> {
        let link = self.links.get(usize::from(link.0));
        link.ok_or(io::ErrorKind::NotFound)?.socket.local_addr()
    }

    /// Tells a unicast link the other nodes' addresses; no effect on a multicast link.
    pub fn set_peers(&mut self, link: LinkId, addresses: BTreeMap<NodeId, SocketAddr>) {
        if let Some(link) = self.links.get_mut(usize::from(link.0))
            && let Road::Copies(peers) = &mut link.road
        {
            *peers = addresses;
        }
    }

    /// Sends one sealed datagram on every link. Never waits; what fails is counted.
    pub fn send(&mut self, to: &[NodeId], datagram: &[u8]) {
        for link in &mut self.links {
            link.send(to, datagram);
        }
    }

    /// The next datagram of any link: the link, the bytes, and where they came from. May be
    /// cancelled at any time without losing a datagram.
    pub async fn recv(&mut self) -> (LinkId, Vec<u8>, SocketAddr) {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<(LinkId, Vec<u8>, SocketAddr)> {
        let count = self.links.len();
        for turn in 0..count {
            let at = (self.next + turn) % count;
            let link = &mut self.links[at];
            let mut buffer = ReadBuf::new(&mut self.buffer);
            match link.socket.poll_recv_from(cx, &mut buffer) {
                Poll::Pending => {}
                Poll::Ready(Ok(from)) => {
                    link.counters.received += 1;
                    self.next = (at + 1) % count;
                    return Poll::Ready((LinkId(at as u8), buffer.filled().to_vec(), from));
                }
                Poll::Ready(Err(e)) => {
                    link.counters.receive_errors += 1;
                    link.counters.last_error = Some(e.to_string());
                    // The error is used up; look again, but let other work go first.
                    cx.waker().wake_by_ref();
                }
            }
        }
        Poll::Pending
    }
}

impl Link {
    fn open(config: &LinkConfig) -> Result<Link, LinkError> {
        let name = &config.name;
        let (socket, road) = match &config.kind {
            LinkKind::Multicast {
                interface,
                group,
                ttl,
                loopback,
            } => (
                multicast(name, interface, *group, *ttl, *loopback)?,
                Road::Group(*group),
            ),
            LinkKind::Unicast { bind, peers } => {
                (unicast(name, *bind)?, Road::Copies(peers.clone()))
            }
        };
        let system = System { link: name };
        let socket: StdUdpSocket = socket.into();
        let socket = system.of("watch", "its socket", UdpSocket::from_std(socket))?;
        let counters = LinkCounters {
            name: name.clone(),
            ..LinkCounters::default()
        };
        Ok(Link {
            socket,
            road,
            counters,
        })
    }

    fn send(&mut self, to: &[NodeId], datagram: &[u8]) {
        let (socket, counters) = (&self.socket, &mut self.counters);
        match &self.road {
            Road::Group(group) => send_one(socket, counters, *group, datagram),
            Road::Copies(peers) if to.is_empty() => {
                for address in peers.values() {
                    send_one(socket, counters, *address, datagram);
                }
            }
            Road::Copies(peers) => {
                for node in to {
                    match peers.get(node) {
                        Some(address) => send_one(socket, counters, *address, datagram),
                        None => counters.unknown_peer += 1,
                    }
                }
            }
        }
    }
}

fn send_one(socket: &UdpSocket, counters: &mut LinkCounters, to: SocketAddr, datagram: &[u8]) {
    // Past the runtime's own readiness, which is unknown until its first poll of the socket and
    // would lose the first beats. The socket itself does not block.
    let sent = if datagram.len() > LONGEST {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a datagram of {} bytes is above {LONGEST}", datagram.len()),
        ))
    } else {
        SockRef::from(socket).send_to(datagram, &to.into())
    };
    match sent {
        Ok(_) => {
            counters.sent += 1;
        }
        Err(e) => {
            counters.send_errors += 1;
            counters.last_error = Some(format!("to {to}: {e}"));
        }
    }
}

/// Turns refusals of the system into errors that name the link.
struct System<'a> {
    link: &'a str,
}

impl System<'_> {
    fn of<T, E: Into<io::Error>>(
        &self,
        action: &'static str,
        address: impl ToString,
        result: Result<T, E>,
    ) -> Result<T, LinkError> {
        result.map_err(|e| LinkError::System {
            link: self.link.to_owned(),
            action,
            address: address.to_string(),
            source: e.into(),
        })
    }
}

fn new_socket(system: &System<'_>, address: SocketAddr) -> Result<Socket, LinkError> {
    let domain = Domain::for_address(address);
    let made = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP));
    let socket = system.of("make a socket for", address, made)?;
    system.of("set up", address, socket.set_nonblocking(true))?;
    // The system caps this silently at net.core.rmem_max; a smaller buffer still works.
    system.of(
        "size the buffer of",
        address,
        socket.set_recv_buffer_size(RECEIVE_BUFFER),
    )?;
    if address.is_ipv6() {
        system.of("set up", address, socket.set_only_v6(true))?;
    }
    Ok(socket)
}

fn unicast(link: &str, bind: SocketAddr) -> Result<Socket, LinkError> {
    let system = System { link };
    let socket = new_socket(&system, bind)?;
    system.of("bind to", bind, socket.bind(&bind.into()))?;
    Ok(socket)
}

fn multicast(
    link: &str,
    interface: &Interface,
    group: SocketAddr,
    ttl: u8,
    loopback: bool,
) -> Result<Socket, LinkError> {
    let system = System { link };
    if !group.ip().is_multicast() {
        return Err(LinkError::NotAGroup {
            link: link.to_owned(),
            group,
        });
    }
    if let Interface::Address(interface) = interface
        && interface.is_ipv4() != group.is_ipv4()
    {
        return Err(LinkError::Mixed {
            link: link.to_owned(),
            interface: *interface,
            group,
        });
    }
    let socket = new_socket(&system, group)?;
    // Several nodes of one machine share group and port, and each gets every datagram.
    system.of("share", group, socket.set_reuse_address(true))?;
    // To the group itself: datagrams for other groups and for this host do not reach the socket.
    system.of("bind to", group, socket.bind(&group.into()))?;
    match group.ip() {
        IpAddr::V4(address) => {
            join_v4(&system, &socket, interface, address)?;
            system.of(
                "limit the reach of",
                group,
                socket
                    .set_multicast_ttl_v4(ttl.into())
                    .and_then(|()| socket.set_multicast_loop_v4(loopback))
                    .and_then(|()| socket.set_multicast_all_v4(false)),
            )?;
        }
        IpAddr::V6(address) => {
            join_v6(&system, &socket, interface, address)?;
            system.of(
                "limit the reach of",
                group,
                socket
                    .set_multicast_hops_v6(ttl.into())
                    .and_then(|()| socket.set_multicast_loop_v6(loopback)),
            )?;
        }
    }
    Ok(socket)
}

// Without the interface given for sending, a datagram leaves by the default route or, where there
// is none, not at all.

fn join_v4(
    system: &System<'_>,
    socket: &Socket,
    interface: &Interface,
    group: Ipv4Addr,
) -> Result<(), LinkError> {
    match interface {
        Interface::Address(IpAddr::V4(address)) => {
            let sends = socket.set_multicast_if_v4(address);
            system.of("send from", address, sends)?;
            let joined = socket.join_multicast_v4(&group, address);
            system.of("join its group at", address, joined)
        }
        // Refused before.
        Interface::Address(IpAddr::V6(_)) => Ok(()),
        Interface::Name(name) => {
            let index = index_of(system, socket, name)?;
            let any = Ipv4Addr::UNSPECIFIED;
            let sends = rustix::net::sockopt::set_ip_multicast_if_with_ifindex(
                socket,
                &any,
                &any,
                index.get(),
            );
            system.of("send from", name, sends)?;
            let card = InterfaceIndexOrAddress::Index(index.get());
            let joined = socket.join_multicast_v4_n(&group, &card);
            system.of("join its group at", name, joined)
        }
    }
}

fn join_v6(
    system: &System<'_>,
    socket: &Socket,
    interface: &Interface,
    group: Ipv6Addr,
) -> Result<(), LinkError> {
    let (name, index) = match interface {
        Interface::Name(name) => (name.clone(), index_of(system, socket, name)?),
        Interface::Address(address) => {
            let table = std::fs::read_to_string("/proc/net/if_inet6");
            let table = system.of("find the card of", address, table)?;
            let index = index_in_table(&table, *address)
                .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable));
            let index = system.of("find the card of", address, index)?;
            (address.to_string(), index)
        }
    };
    let sends = socket.set_multicast_if_v6(index.get());
    system.of("send from", &name, sends)?;
    let joined = socket.join_multicast_v6(&group, index.get());
    system.of("join its group at", &name, joined)
}

fn index_of(system: &System<'_>, socket: &Socket, name: &str) -> Result<NonZeroU32, LinkError> {
    let index = rustix::net::netdevice::name_to_index(socket, name);
    let index = system.of("find card", name, index)?;
    let none = || io::Error::from(io::ErrorKind::NotFound);
    system.of("find card", name, NonZeroU32::new(index).ok_or_else(none))
}

/// The card with an IPv6 address, from the system's table: address and index in hexadecimal lead
/// each line.
fn index_in_table(table: &str, address: IpAddr) -> Option<NonZeroU32> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    let wanted = format!("{:032x}", u128::from(address));
    let line = table.lines().find(|line| line.starts_with(&wanted))?;
    let index = line.split_ascii_whitespace().nth(1)?;
    NonZeroU32::new(u32::from_str_radix(index, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_card_of_an_ipv6_address_is_read_from_the_systems_table() {
        let table = "\
00000000000000000000000000000001 01 80 10 80       lo
fe800000000000000042acfffe110002 0a 40 20 80     eth0
";
        let find = |text: &str| {
            let address = text.parse().expect("an address");
            index_in_table(table, address).map(NonZeroU32::get)
        };
        assert_eq!(find("fe80::42:acff:fe11:2"), Some(10));
        assert_eq!(find("::1"), Some(1));
        assert_eq!(find("fe80::1"), None);
        assert_eq!(find("127.0.0.1"), None);
    }
}
