//! The replicated log: OmniPaxos behind rules of our own. The only place that names the crate.

mod abdication;
mod guard;
mod replica;
mod storage;
mod straggler;
#[cfg(test)]
mod tests;

pub use guard::Refused;
pub use replica::{Outgoing, Replica, ReplicaConfig};

use crate::entry::LogEntry;
use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::messages::ballot_leader_election::BLEMessage;
use omnipaxos::messages::sequence_paxos::PaxosMessage;
use omnipaxos::storage::{Entry, NoSnapshot};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// A Paxos round, opaque outside this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Round(pub(crate) Ballot);

/// A message of leader election; travels as a datagram.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ElectionMessage(pub(crate) BLEMessage);

/// A message of log replication; travels on a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(
    transparent,
    bound(serialize = "C: Command", deserialize = "C: Command")
)]
pub struct LogMessage<C: Command>(pub(crate) PaxosMessage<LogEntry<C>>);

/// What the log can carry: any plain data.
pub trait Command: Clone + Debug + Serialize + DeserializeOwned {}
impl<C: Clone + Debug + Serialize + DeserializeOwned> Command for C {}

impl<C: Command> Entry for LogEntry<C> {
    /// The library's own snapshots lose entries (upstream behaviour, 0.2.4): never used.
    type Snapshot = NoSnapshot;
}
