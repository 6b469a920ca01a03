//! Sessions: one ordered, reliable, authenticated stream per pair of nodes, over TCP.
//!
//! Every node listens; of each pair one dials, as [`dials`] says, and goes on dialling with a
//! growing pause. What comes out of [`SessionEvents`] is, per peer, always `Up`, messages in the
//! order they were sent, `Down`; a new session replaces the old one in that order too. A message
//! is only sent on a session whose `Up` was received, so what an older one lost cannot be
//! overtaken unnoticed.
//!
//! Everything is bounded: messages queued for a peer (more close the session, and the core
//! resynchronises), messages not yet taken by the driver (more make the peer wait), handshakes at
//! one time, and each step of a handshake.

mod handshake;
mod peers;
mod record;
mod run;

use crate::net::endpoint::Endpoint;
use crate::net::key::ClusterKey;
use peers::Shared;
use quorate_membership::codec::{self, Kind};
use quorate_membership::{Incarnation, NodeId};
use quorate_recovery::contract::NodeStream;
use run::Note;
use serde::Serialize;
use socket2::SockRef;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;

/// Signs of life that may be missed before a session is given up.
const MISSES: u32 = 4;
/// Messages that may wait for a peer.
const QUEUE: usize = 4096;
/// Bytes that may wait for a peer; a message above that is still taken alone.
const QUEUE_BYTES: usize = 32 << 20;
/// Events that may wait for the driver.
const EVENTS: usize = 1024;
/// Bytes of messages that may wait for the driver, all peers together.
const EVENT_BYTES: usize = 64 << 20;
/// Strangers that may be greeting us at one time.
const HANDSHAKES: usize = 64;
/// Bytes of a session that one packet carries. With the headers of IPv6 and TCP they are what every
/// link must carry whole (1,280 bytes). Where cards take larger packets than a switch between them,
/// larger parts vanish without a word, while beats pass.
const SEGMENT_BYTES: u32 = 1_220;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;
/// First and longest pause between two attempts to reach a peer.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What a node needs to have sessions.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Where to listen.
    pub listen: Endpoint,
    /// T: a sign of life is sent after this long without a message; a session on which nothing
    /// came for 4·T is given up.
    pub keepalive: Duration,
}

/// Why sessions could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The address cannot be listened on.
    #[error("sessions: cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// The keepalive time is zero.
    #[error("sessions: keepalive is 0; it must be at least 1 ms")]
    Keepalive,
}

/// What happened on the session to a peer.
#[derive(Clone, Debug)]
pub enum SessionEvent {
    /// It is open; what an older one still had queued is gone.
    Up {
        /// The other end.
        peer: NodeId,
        /// The life of the other end, as it proved with the cluster key.
        incarnation: Incarnation,
    },
    /// It is gone.
    Down {
        /// The other end.
        peer: NodeId,
    },
    /// A message came, in order.
    Message {
        /// The other end.
        peer: NodeId,
        /// What it says.
        message: NodeStream,
    },
}

/// Why a connection was closed or never became a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Closed {
    #[error("the other end closed it")]
    Ended,
    #[error("the connection broke")]
    Broken,
    #[error("nothing was heard for four keepalives")]
    Silent,
    #[error("the other end has another cluster key")]
    WrongKey,
    #[error("another node answers at this address")]
    UnexpectedPeer,
    #[error("the other end is not quorate")]
    Magic,
    #[error("the other end speaks another version")]
    Version,
    #[error("a record was damaged")]
    Damaged,
    #[error("a record is too long")]
    TooLong,
    #[error("a record does not hold a message this version understands")]
    Decode,
    #[error("too much was queued for the peer")]
    Overflow,
    #[error("a newer session of the same peer took its place")]
    Replaced,
    #[error("the address cannot be reached")]
    Unreachable,
    #[error("too many strangers at one time")]
    Busy,
    #[error("not wanted any more")]
    Unwanted,
}

/// Sessions opened and connections closed since start, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SessionCounters {
    /// Sessions that came up.
    pub opened: u64,
    /// Closed by the other end.
    pub ended: u64,
    /// The connection broke.
    pub broken: u64,
    /// Nothing was heard for 4·T, in a session or a handshake.
    pub silent: u64,
    /// The other end has another cluster key.
    pub wrong_key: u64,
    /// Another node than the one dialled, or this node itself.
    pub unexpected_peer: u64,
    /// The other end is not quorate.
    pub magic: u64,
    /// The other end speaks another version.
    pub version: u64,
    /// A record did not open.
    pub damaged: u64,
    /// A record above 16 MiB, or a message that would need one.
    pub too_long: u64,
    /// A record that is no message.
    pub decode: u64,
    /// The queue for the peer was full.
    pub overflow: u64,
    /// A newer session of the same peer took its place.
    pub replaced: u64,
    /// Attempts to dial that reached nobody.
    pub unreachable: u64,
    /// Connections refused because too many were greeting at one time.
    pub busy: u64,
    /// Closed because this node no longer wants it.
    pub unwanted: u64,
    /// Messages dropped because there was no session to the peer.
    pub unsent: u64,
}

impl SessionCounters {
    fn count(&mut self, why: Closed) {
        *match why {
            Closed::Ended => &mut self.ended,
            Closed::Broken => &mut self.broken,
            Closed::Silent => &mut self.silent,
            Closed::WrongKey => &mut self.wrong_key,
            Closed::UnexpectedPeer => &mut self.unexpected_peer,
            Closed::Magic => &mut self.magic,
            Closed::Version => &mut self.version,
            Closed::Damaged => &mut self.damaged,
            Closed::TooLong => &mut self.too_long,
            Closed::Decode => &mut self.decode,
            Closed::Overflow => &mut self.overflow,
            Closed::Replaced => &mut self.replaced,
            Closed::Unreachable => &mut self.unreachable,
            Closed::Busy => &mut self.busy,
            Closed::Unwanted => &mut self.unwanted,
        } += 1;
    }
}

/// Whether `me` dials `peer`: of two voters the lower id does; a follower dials voters; followers
/// have no session with each other.
#[must_use]
pub fn dials(me: NodeId, i_vote: bool, peer: NodeId, peer_votes: bool) -> bool {
    match (i_vote, peer_votes) {
        (true, true) => me < peer,
        (false, true) => me != peer,
        (_, false) => false,
    }
}

/// The start of all sessions of this node.
pub struct Sessions;

impl Sessions {
    /// Listens, and dials whom [`SessionHandle::set_peers`] names. Must run inside a tokio
    /// runtime; everything ends when the last handle is dropped.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn start(
        config: &SessionConfig,
        key: &ClusterKey,
        me: NodeId,
        incarnation: Incarnation,
    ) -> Result<(SessionHandle, SessionEvents), SessionError> {
        let refused = |source| SessionError::Listen {
            address: config.listen.clone(),
            source,
        };
        let listener = listen(&config.listen).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        // Another than the one asked for if the system chose the port.
        let found = SessionConfig {
            listen: Endpoint {
                port: address.port(),
                ..config.listen.clone()
            },
            ..*config
        };
        Sessions::begin(&found, key, (me, incarnation), address, Some(listener))
    }

    /// As [`Sessions::start`], but an address that cannot be listened on yet is waited for.
    ///
    /// # Errors
    /// Only what no time heals.
    pub fn start_late(
        config: &SessionConfig,
        key: &ClusterKey,
        me: NodeId,
        incarnation: Incarnation,
    ) -> Result<(SessionHandle, SessionEvents), SessionError> {
        let address = SocketAddr::new(config.listen.at.ip, config.listen.port);
        Sessions::begin(config, key, (me, incarnation), address, None)
    }

    fn begin(
        config: &SessionConfig,
        key: &ClusterKey,
        me: (NodeId, Incarnation),
        address: SocketAddr,
        listener: Option<TcpListener>,
    ) -> Result<(SessionHandle, SessionEvents), SessionError> {
        if config.keepalive.is_zero() {
            return Err(SessionError::Keepalive);
        }
        let (notes, from_sessions) = mpsc::channel(EVENTS);
        let root = key.purpose("quorate session 1");
        let shared = Shared::new(me, root, config.keepalive, notes);
        let accepting = peers::listen(shared.clone(), config.listen.clone(), listener);
        let accepting = tokio::spawn(accepting).abort_handle();
        let handle = SessionHandle {
            inner: Arc::new(Inner {
                shared: shared.clone(),
                runtime: tokio::runtime::Handle::current(),
                accepting,
                address,
            }),
        };
        let events = SessionEvents {
            shared,
            notes: from_sessions,
        };
        Ok((handle, events))
    }
}

/// A socket whose connection, made or accepted, carries no packet that a network may drop for its
/// size: each end tells the other the longest part that it takes.
fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    SockRef::from(&socket).set_tcp_mss(SEGMENT_BYTES)?;
    Ok(socket)
}

fn listen(at: &Endpoint) -> io::Result<TcpListener> {
    let address = at.resolve()?;
    let socket = socket(address)?;
    // A restart need not wait for old connections.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What the driver holds to send and to say whom to dial. Clones share the same sessions.
#[derive(Clone)]
pub struct SessionHandle {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
    accepting: tokio::task::AbortHandle,
    address: SocketAddr,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.stop();
    }
}

impl SessionHandle {
    /// Queues a message for `peer` and says whether it was queued. Never waits: without a session
    /// whose `Up` was received it is dropped; a full queue closes the session.
    pub fn send(&self, peer: NodeId, message: &NodeStream) -> bool {
        let shared = &self.inner.shared;
        let Some(outbox) = shared.outbox(peer) else {
            shared.count_unsent();
            return false;
        };
        // A log sync or a state grows with what the peer missed; one too long for a message closes
        // the session, and is counted, instead of ending us.
        let Ok(bytes) = codec::encode(Kind::Stream, message) else {
            shared.give_up(peer, &outbox, Closed::TooLong);
            return false;
        };
        let queued = outbox.push(bytes);
        if !queued {
            shared.give_up(peer, &outbox, Closed::Overflow);
        }
        queued
    }

    /// Whom to dial, and where; see [`dials`]. Sessions this node had dialled to others, or to
    /// other addresses, are closed.
    pub fn set_peers<A: Into<Endpoint>>(&self, peers: BTreeMap<NodeId, A>) {
        let peers = peers.into_iter().map(|(n, at)| (n, at.into())).collect();
        peers::set(&self.inner.shared, &self.inner.runtime, peers);
    }

    /// A datagram of that life of `peer` came: if it is dialled and was not reached, that is tried again
    /// at once.
    pub fn heard(&self, peer: NodeId, life: Incarnation) {
        peers::heard(&self.inner.shared, peer, life);
    }

    /// The address listened on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.address
    }

    /// What happened since start.
    #[must_use]
    pub fn counters(&self) -> SessionCounters {
        self.inner.shared.counters()
    }

    /// Why no session can come in at the moment; `None` if one can.
    #[must_use]
    pub fn not_listening(&self) -> Option<String> {
        self.inner.shared.not_listening()
    }

    /// Why each peer that is to be dialled was not reached at the last attempt, in words.
    #[must_use]
    pub fn unreached(&self) -> BTreeMap<NodeId, String> {
        self.inner.shared.unreached()
    }
}

/// Where the driver hears of sessions.
pub struct SessionEvents {
    shared: Arc<Shared>,
    notes: mpsc::Receiver<Note>,
}

impl SessionEvents {
    /// The next event; `None` when all handles are gone. May be cancelled without losing one.
    pub async fn recv(&mut self) -> Option<SessionEvent> {
        Some(match self.notes.recv().await? {
            Note::Up {
                peer,
                incarnation,
                outbox,
            } => {
                self.shared.came_up(peer, outbox);
                SessionEvent::Up { peer, incarnation }
            }
            Note::Down { peer } => {
                self.shared.went_down(peer);
                SessionEvent::Down { peer }
            }
            Note::Message { peer, message, .. } => SessionEvent::Message {
                peer,
                message: *message,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::net::TcpStream;

    #[test]
    fn exactly_one_of_a_pair_dials_where_a_voter_is_in_it() {
        for (votes_1, votes_2) in [(true, true), (true, false), (false, true), (false, false)] {
            let one = dials(NodeId(1), votes_1, NodeId(2), votes_2);
            let two = dials(NodeId(2), votes_2, NodeId(1), votes_1);
            assert_eq!(one ^ two, votes_1 || votes_2, "{votes_1} {votes_2}");
            assert!(!(one && two));
        }
        assert!(!dials(NodeId(1), true, NodeId(1), true));
    }

    #[tokio::test]
    async fn no_packet_of_a_session_is_larger_than_every_network_carries() {
        let config = SessionConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(),
            keepalive: Duration::from_secs(10),
        };
        let key = ClusterKey::from_bytes([1; 32]);
        let (me, life) = (
            NodeId(1),
            Incarnation {
                counter: 1,
                random: 1,
            },
        );
        let (node, _events) = Sessions::start(&config, &key, me, life).expect("starts");
        let ours = TcpStream::connect(node.local_addr()).await;
        let plain = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let plain = plain.expect("a free port");
        let address = plain.local_addr().expect("bound");
        node.set_peers([(NodeId(2), address)].into());
        let (theirs, _) = plain.accept().await.expect("it dials");
        let (unbound, _) = tokio::join!(TcpStream::connect(address), plain.accept());
        let segment = |stream: &TcpStream| SockRef::from(stream).tcp_mss().expect("connected");
        let unbound = segment(&unbound.expect("connected"));
        assert!(unbound > SEGMENT_BYTES, "the card takes more: {unbound}");
        for (stream, end) in [(ours.expect("connected"), "listens"), (theirs, "dials")] {
            let found = segment(&stream);
            assert!(found <= SEGMENT_BYTES, "where it {end}: {found}");
        }
    }
}
