//! What a node must find again after losing power, as single writes and as a whole.

use crate::consensus::Round;
use crate::entry::LogEntry;
use crate::founding::Founding;
use crate::id::{Incarnation, NodeId, StoreId, Token};
use crate::vouch::{Claim, PeerRecord, Unvouched};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One durable change. A batch of them is atomic; batches become durable in the order given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Write<C> {
    /// Paxos: no round below this one is promised any more.
    Promise(Round),
    /// Paxos: the round in which the newest entries were accepted.
    AcceptedRound(Round),
    /// Paxos: this many entries are decided. May be lost without harm.
    Decided(u64),
    /// Paxos: the log is cut to `from` entries and continued with `entries`.
    Append {
        /// Entries kept, counted from the beginning of the epoch (trimmed ones included).
        from: u64,
        /// What follows them.
        entries: Vec<LogEntry<C>>,
    },
    /// Paxos: the first `0` entries are dropped; a snapshot holds their effect.
    Trim(u64),
    /// Paxos: the log begins anew, empty, behind so many entries, which are decided; a snapshot in the
    /// same batch holds their effect.
    Rebase(u64),
    /// The state after `applied` entries. Durable together with every earlier write of the batch.
    Snapshot {
        /// Entries contained.
        applied: u64,
        /// The state, encoded.
        bytes: Vec<u8>,
    },
    /// A promise to acknowledge this incarnation no more.
    Stop(StopRecord),
    /// The promise is void or fulfilled.
    Unstop {
        /// The host.
        host: NodeId,
        /// Token of the revoke it was made for.
        revoke: Token,
    },
    /// What another voter claimed, and the newest life of it that was vouched for.
    Peer {
        /// The other voter.
        node: NodeId,
        /// What is remembered of it.
        record: PeerRecord,
    },
    /// The voter's standing changed: vouched for (`None`), or it votes although nobody vouches for
    /// more than what it held then. From this write on marks are made.
    Unvouched(Option<Unvouched>),
}

/// A voter's durable promise to acknowledge an incarnation no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRecord {
    /// The host.
    pub host: NodeId,
    /// The revoked incarnation; no lower one is acknowledged either.
    pub incarnation: Incarnation,
    /// Token of the Revoke entry.
    pub revoke: Token,
}

/// Everything durable of one node's membership, as read at start.
#[derive(Clone, Debug)]
pub struct Image<C> {
    /// The node.
    pub node: NodeId,
    /// The store's own name.
    pub store: StoreId,
    /// This life; already counted up and durable.
    pub incarnation: Incarnation,
    /// The cluster's first record.
    pub founding: Founding,
    /// See [`Write::Promise`].
    pub promise: Option<Round>,
    /// See [`Write::AcceptedRound`].
    pub accepted_round: Option<Round>,
    /// See [`Write::Decided`].
    pub decided: u64,
    /// Entries trimmed from the front of `log`.
    pub trimmed: u64,
    /// The log after the trimmed entries.
    pub log: Vec<LogEntry<C>>,
    /// See [`Write::Snapshot`].
    pub snapshot: Option<(u64, Vec<u8>)>,
    /// See [`Write::Stop`]; at most one per host and revoke.
    pub stops: Vec<StopRecord>,
    /// See [`Write::Peer`].
    pub peers: BTreeMap<NodeId, PeerRecord>,
    /// See [`Write::Unvouched`].
    pub unvouched: Option<Unvouched>,
}

impl<C: Clone> Image<C> {
    /// The image of a store just made.
    #[must_use]
    pub fn new(node: NodeId, store: StoreId, incarnation: Incarnation, founding: Founding) -> Self {
        Image {
            node,
            store,
            incarnation,
            founding,
            promise: None,
            accepted_round: None,
            decided: 0,
            trimmed: 0,
            log: Vec::new(),
            snapshot: None,
            stops: Vec::new(),
            peers: BTreeMap::new(),
            unvouched: None,
        }
    }

    /// What this store says of its voter's log.
    #[must_use]
    pub fn claim(&self) -> Claim {
        Claim {
            epoch: self.founding.epoch,
            promise: self.promise,
            accepted: self.accepted_round,
            index: self.trimmed + self.log.len() as u64,
        }
    }

    /// The image after one more write.
    ///
    /// # Errors
    /// The write does not fit what came before it (a damaged store).
    pub fn apply(&mut self, write: &Write<C>) -> Result<(), String> {
        let length = self.trimmed + self.log.len() as u64;
        match write {
            Write::Promise(r) => self.promise = Some(*r),
            Write::AcceptedRound(r) => self.accepted_round = Some(*r),
            Write::Decided(n) => self.decided = *n,
            Write::Append { from, entries } => {
                if *from < self.trimmed || *from > length {
                    return Err(format!(
                        "entries from index {from} do not continue a log of {}..{length}",
                        self.trimmed
                    ));
                }
                self.log.truncate((from - self.trimmed) as usize);
                self.log.extend(entries.iter().cloned());
            }
            Write::Trim(to) => {
                if *to > length {
                    return Err(format!("trim to index {to} of a log of {length}"));
                }
                if *to > self.trimmed {
                    self.log.drain(..(to - self.trimmed) as usize);
                    self.trimmed = *to;
                }
            }
            Write::Rebase(at) => {
                self.log.clear();
                (self.trimmed, self.decided) = (*at, *at);
            }
            Write::Snapshot { applied, bytes } => self.snapshot = Some((*applied, bytes.clone())),
            Write::Stop(stop) => {
                self.stops
                    .retain(|s| (s.host, s.revoke) != (stop.host, stop.revoke));
                self.stops.push(*stop);
            }
            Write::Unstop { host, revoke } => {
                self.stops
                    .retain(|s| (s.host, s.revoke) != (*host, *revoke));
            }
            Write::Peer { node, record } => {
                self.peers.insert(*node, *record);
            }
            Write::Unvouched(alone) => self.unvouched = alone.clone(),
        }
        Ok(())
    }
}
