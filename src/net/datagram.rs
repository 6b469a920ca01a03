//! The links: up to eight networks that carry datagrams, each by multicast or by unicast copies.
//!
//! A multicast link sends everything once to its group; whom a frame is for is judged by the
//! receiving core. A unicast link sends one copy to each addressee it knows. Sending never waits:
//! a datagram that the system does not take at once is lost and counted, as on any network.

use super::cards::{self, Cards};
use super::endpoint::of_one_link;
use super::sockets::{System, multicast, unicast};
use quorate_membership::{LinkId, NodeId, codec};
use serde::Serialize;
use socket2::SockRef;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdUdpSocket};
use std::task::{Context, Poll};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

/// Links a node may have.
pub const LINKS: usize = 8;
/// No datagram is longer than this many bytes: none travels as fragments, of which one that is lost
/// loses it whole.
pub const LONGEST: usize = codec::DATAGRAM;

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
        /// Name of the card, where the address alone does not name one.
        card: Option<String>,
        /// The other nodes' addresses on this link.
        peers: BTreeMap<NodeId, SocketAddr>,
    },
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interface {
    /// The one that has this address, wherever that is at the moment.
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
    config: LinkConfig,
    state: State,
    counters: LinkCounters,
}

enum State {
    Open {
        socket: UdpSocket,
        road: Road,
        /// The card it was opened on; `None` where that is the system's choice.
        card: Option<u32>,
    },
    /// Why it is not open.
    Closed(String),
}

/// What changed with a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkChange {
    /// Its name.
    pub link: String,
    /// Why it is closed; `None` if it is open, perhaps on another card than before.
    pub closed: Option<String>,
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
        let cards = Cards::read().unwrap_or_default();
        let mut links = Links::closed(configs)?;
        for link in &mut links.links {
            link.open(&cards)?;
        }
        Ok(links)
    }

    /// Opens what can be opened, and leaves the rest to [`Links::look`]. Must run inside a tokio
    /// runtime.
    ///
    /// # Errors
    /// Only what no time heals: too few or too many links, or a group that is none.
    pub fn open_late(configs: &[LinkConfig]) -> Result<Links, LinkError> {
        let mut links = Links::closed(configs)?;
        let cards = Cards::read().unwrap_or_default();
        for link in &mut links.links {
            match link.open(&cards) {
                Ok(()) => {}
                Err(e @ LinkError::System { .. }) => link.state = State::Closed(e.to_string()),
                Err(e) => return Err(e),
            }
        }
        Ok(links)
    }

    fn closed(configs: &[LinkConfig]) -> Result<Links, LinkError> {
        if configs.is_empty() || configs.len() > LINKS {
            return Err(LinkError::Count {
                found: configs.len(),
            });
        }
        Ok(Links {
            links: configs.iter().map(Link::new).collect(),
            next: 0,
            buffer: vec![0; 1 << 16],
        })
    }

    /// Looks at the cards of this machine: opens what is closed and can be opened now, closes what
    /// lost its address, opens anew what has it on another card. To be called every second or so.
    pub fn look(&mut self) -> Vec<LinkChange> {
        let Ok(cards) = Cards::read() else {
            // Nothing is known of the cards; what is open stays.
            return Vec::new();
        };
        let looked = self.links.iter_mut().filter_map(|link| link.look(&cards));
        looked.collect()
    }

    /// The links that are closed, and why.
    pub fn not_open(&self) -> impl Iterator<Item = (&str, &str)> {
        self.links.iter().filter_map(|link| match &link.state {
            State::Open { .. } => None,
            State::Closed(why) => Some((link.config.name.as_str(), why.as_str())),
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
        match self.links.get(usize::from(link.0)).map(|l| &l.state) {
            Some(State::Open { socket, .. }) => socket.local_addr(),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Tells a unicast link the other nodes' addresses; no effect on a multicast link.
    pub fn set_peers(&mut self, link: LinkId, addresses: BTreeMap<NodeId, SocketAddr>) {
        if let Some(link) = self.links.get_mut(usize::from(link.0))
            && let LinkKind::Unicast { peers, .. } = &mut link.config.kind
        {
            peers.clone_from(&addresses);
            if let State::Open {
                road: Road::Copies(peers),
                card,
                ..
            } = &mut link.state
            {
                *peers = on_card(&addresses, *card);
            }
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
            let State::Open { socket, .. } = &link.state else {
                continue;
            };
            let mut buffer = ReadBuf::new(&mut self.buffer);
            match socket.poll_recv_from(cx, &mut buffer) {
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
    fn new(config: &LinkConfig) -> Link {
        Link {
            config: config.clone(),
            state: State::Closed("not opened yet".to_owned()),
            counters: LinkCounters {
                name: config.name.clone(),
                ..LinkCounters::default()
            },
        }
    }

    /// The card it belongs on now, and whether its address may be used there; `None` where no card
    /// has the address.
    fn card(&self, cards: &Cards) -> Option<(u32, bool)> {
        match &self.config.kind {
            LinkKind::Multicast { interface, .. } => match interface {
                Interface::Address(address) => cards.find(*address, None),
                Interface::Name(name) => cards::index(name).ok().map(|card| (card, true)),
            },
            LinkKind::Unicast { bind, card, .. } => match card {
                Some(name) => {
                    let card = cards::index(name).ok()?;
                    cards.find(bind.ip(), Some(card))
                }
                None => cards.find(bind.ip(), None),
            },
        }
    }

    fn open(&mut self, cards: &Cards) -> Result<(), LinkError> {
        let name = &self.config.name;
        let card = self.card(cards).map(|(card, _)| card);
        let (socket, road) = match &self.config.kind {
            LinkKind::Multicast {
                interface,
                group,
                ttl,
                loopback,
            } => {
                let group = in_scope(*group, card);
                let socket = multicast(name, interface, card, group, *ttl, *loopback)?;
                (socket, Road::Group(group))
            }
            LinkKind::Unicast { bind, peers, .. } => {
                let socket = unicast(name, in_scope(*bind, card))?;
                (socket, Road::Copies(on_card(peers, card)))
            }
        };
        let system = System { link: name };
        let socket: StdUdpSocket = socket.into();
        let socket = system.of("watch", "its socket", UdpSocket::from_std(socket))?;
        self.state = State::Open { socket, road, card };
        Ok(())
    }

    fn look(&mut self, cards: &Cards) -> Option<LinkChange> {
        let now = self.card(cards);
        let closed = match (&self.state, now) {
            // As it was.
            (State::Open { card, .. }, Some((now, _))) if *card == Some(now) => return None,
            // Bound without a card: to any address, or to one that is local by a route.
            (State::Open { card: None, .. }, None) => return None,
            (State::Open { .. }, None) => Some("no card of this host has its address".to_owned()),
            (State::Open { .. } | State::Closed(_), _) => {
                self.open(cards).err().map(|e| e.to_string())
            }
        };
        if let Some(why) = &closed {
            let said = matches!(&self.state, State::Closed(before) if before == why);
            self.state = State::Closed(why.clone());
            if said {
                return None;
            }
        }
        Some(LinkChange {
            link: self.config.name.clone(),
            closed,
        })
    }

    fn send(&mut self, to: &[NodeId], datagram: &[u8]) {
        let counters = &mut self.counters;
        let (socket, road) = match &self.state {
            State::Open { socket, road, .. } => (socket, road),
            State::Closed(why) => {
                counters.send_errors += 1;
                counters.last_error = Some(why.clone());
                return;
            }
        };
        match road {
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

/// An address of one link with the index of its card; any other as it is.
fn in_scope(address: SocketAddr, card: Option<u32>) -> SocketAddr {
    match (address, card) {
        (SocketAddr::V6(mut v6), Some(card)) if of_one_link(v6.ip().to_owned().into()) => {
            v6.set_scope_id(card);
            v6.into()
        }
        _ => address,
    }
}

fn on_card(
    peers: &BTreeMap<NodeId, SocketAddr>,
    card: Option<u32>,
) -> BTreeMap<NodeId, SocketAddr> {
    let scoped = peers.iter().map(|(n, at)| (*n, in_scope(*at, card)));
    scoped.collect()
}
