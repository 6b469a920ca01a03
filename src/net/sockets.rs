//! Sockets of links: made, bound, and joined to their groups.

use super::cards;
use super::datagram::{Interface, LinkError};
use super::endpoint::of_one_link;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes the system keeps for us while the loop is busy.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Turns refusals of the system into errors that name the link.
pub(super) struct System<'a> {
    pub(super) link: &'a str,
}

impl System<'_> {
    pub(super) fn of<T, E: Into<io::Error>>(
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

pub(super) fn unicast(link: &str, bind: SocketAddr) -> Result<Socket, LinkError> {
    let system = System { link };
    let socket = new_socket(&system, bind)?;
    system.of("bind to", bind, socket.bind(&bind.into()))?;
    Ok(socket)
}

pub(super) fn multicast(
    link: &str,
    interface: &Interface,
    card: Option<u32>,
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
    if of_one_link(group.ip()) && card.is_none() {
        let name = match interface {
            Interface::Name(name) => name.clone(),
            Interface::Address(address) => address.to_string(),
        };
        let none = io::Error::from(io::ErrorKind::AddrNotAvailable);
        return system.of("find the card of", name, Err(none));
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
            join_v6(&system, &socket, interface, card, address)?;
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
            let index = system.of("find card", name, cards::index(name))?;
            let any = Ipv4Addr::UNSPECIFIED;
            let sends =
                rustix::net::sockopt::set_ip_multicast_if_with_ifindex(socket, &any, &any, index);
            system.of("send from", name, sends)?;
            let card = InterfaceIndexOrAddress::Index(index);
            let joined = socket.join_multicast_v4_n(&group, &card);
            system.of("join its group at", name, joined)
        }
    }
}

fn join_v6(
    system: &System<'_>,
    socket: &Socket,
    interface: &Interface,
    card: Option<u32>,
    group: Ipv6Addr,
) -> Result<(), LinkError> {
    let name = match interface {
        Interface::Name(name) => name.clone(),
        Interface::Address(address) => address.to_string(),
    };
    let card = card.ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable));
    let card = system.of("find the card of", &name, card)?;
    let sends = socket.set_multicast_if_v6(card);
    system.of("send from", &name, sends)?;
    let joined = socket.join_multicast_v6(&group, card);
    system.of("join its group at", &name, joined)
}
