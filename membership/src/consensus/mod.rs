//! The replicated log: OmniPaxos behind rules of our own. The only place that names the crate.

mod abdication;
mod guard;
mod replica;
mod storage;
mod straggler;
#[cfg(test)]
mod tests;

pub use guard::Refused;
pub use replica::{NewerLog, Outgoing, Replica, ReplicaConfig};

use crate::entry::LogEntry;
use crate::id::{Epoch, Slot};
use crate::vouch::Claim;
use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::messages::ballot_leader_election::BLEMessage;
use omnipaxos::messages::sequence_paxos::{PaxosMessage, PaxosMsg};
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

impl Round {
    /// A round of the library; its default stands for none.
    fn some(ballot: Ballot) -> Option<Round> {
        (ballot != Ballot::default()).then_some(Round(ballot))
    }
}

impl ElectionMessage {
    /// The voter that it is for.
    #[must_use]
    pub fn to(&self) -> Slot {
        Slot(u8::try_from(self.0.to).unwrap_or(u8::MAX))
    }
}

impl<C: Command> LogMessage<C> {
    /// What its sender holds durably, as far as the message says so by itself.
    #[must_use]
    pub fn claim(&self, epoch: Epoch) -> Option<Claim> {
        let (promise, accepted, index) = match &self.0.msg {
            PaxosMsg::PrepareReq(m) => (m.n, Ballot::default(), 0),
            PaxosMsg::Prepare(m) => (m.n, m.n_accepted, m.accepted_idx),
            PaxosMsg::Promise(m) => (m.n, m.n_accepted, m.accepted_idx),
            PaxosMsg::Accepted(m) => (m.n, m.n, m.accepted_idx),
            PaxosMsg::NotAccepted(m) => (m.n, Ballot::default(), 0),
            _ => return None,
        };
        Some(Claim {
            epoch,
            promise: Round::some(promise),
            accepted: Round::some(accepted),
            index: index as u64,
        })
    }

    /// Whether it carries entries of a leader, who holds what it sends.
    #[must_use]
    pub fn leads(&self) -> bool {
        matches!(
            self.0.msg,
            PaxosMsg::AcceptSync(_) | PaxosMsg::AcceptDecide(_)
        )
    }

    /// Whether a leader counts it: a promise or an acceptance.
    fn counts(&self) -> bool {
        matches!(self.0.msg, PaxosMsg::Promise(_) | PaxosMsg::Accepted(_))
    }
}

impl<C: Command> Entry for LogEntry<C> {
    /// The library's own snapshots lose entries (upstream behaviour, 0.2.4): never used.
    type Snapshot = NoSnapshot;
}
