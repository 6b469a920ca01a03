//! How a cluster begins: every first voter's store is named before anyone votes.

use crate::id::{ClusterId, Epoch, NodeId, Slot, StoreId};
use crate::timing::Timing;
use serde::{Deserialize, Serialize};

/// The first record of a cluster, the same at every node, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// The cluster's name.
    pub cluster: ClusterId,
    /// The version of the rules by which its log is applied at first.
    pub rules: u16,
    /// Its first epoch: above every one that its first voters knew of, so that no token of it is below
    /// one that was given out before it was founded.
    pub epoch: Epoch,
    /// The voters of that epoch, slot 1 first, each with the store it will vote from.
    pub voters: Vec<(NodeId, StoreId)>,
    /// The timing every node runs.
    pub timing: Timing,
    /// What counts as proof that a host is off.
    pub proof: ProofPolicy,
}

/// What counts as proof that a host is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProofPolicy {
    /// An observed off state of a commissioned device suffices.
    #[default]
    Device,
    /// A device result counts only together with an expired lease, so that a device that lies
    /// cannot make a guest run twice; it never makes a start earlier than the lease does.
    DeviceAndLease,
}

impl Founding {
    /// The slot `node` votes in, if it does.
    #[must_use]
    pub fn slot(&self, node: NodeId) -> Option<Slot> {
        let at = self.voters.iter().position(|(n, _)| *n == node)?;
        u8::try_from(at + 1).ok().map(Slot)
    }

    /// Votes needed for a decision.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.voters.len() / 2 + 1
    }
}
