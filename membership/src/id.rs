//! Identities. Every number that could be taken for another has a type of its own.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One daemon instance's place in the cluster; chosen by the operator, never reused for another disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

/// A random name of the cluster, minted once by its founder.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ClusterId(pub u128);

/// A random name of one durable store; a node whose disk was replaced has another.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct StoreId(pub u128);

/// The kernel's name of one boot of a machine.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BootId(pub u128);

/// One life of a node: rises at every start. The random part tells two copies of one store apart.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Incarnation {
    /// Durable counter, one higher at every start of the daemon; 0 means "none yet".
    pub counter: u64,
    /// Drawn anew at every start.
    pub random: u64,
}

/// Number of a Paxos configuration: one set of voters, one OmniPaxos log.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u32);

/// A voter's place in its epoch: 1 to n, dense.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(pub u8);

/// One network between the nodes; up to eight.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LinkId(pub u8);

/// The fencing number of a log entry: (epoch, index) in one integer that rises for ever.
///
/// Packing, fixed for all time: epoch in the upper 16 bits, index in the lower 48. Zero is "none".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub u64);

impl Token {
    /// No entry.
    pub const NONE: Token = Token(0);

    /// The token of the entry at `index` (counted from 1) of `epoch`.
    ///
    /// # Panics
    /// If either does not fit its field; 65,535 changes of voters or 2^48 entries are out of reach.
    #[must_use]
    pub fn new(epoch: Epoch, index: u64) -> Token {
        assert!(epoch.0 < 1 << 16 && index < 1 << 48, "token out of range");
        Token(u64::from(epoch.0) << 48 | index)
    }

    /// The epoch the entry was decided in.
    #[must_use]
    pub fn epoch(self) -> Epoch {
        Epoch((self.0 >> 48) as u32)
    }

    /// The entry's place in its epoch's log, counted from 1.
    #[must_use]
    pub fn index(self) -> u64 {
        self.0 & ((1 << 48) - 1)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch().0, self.index())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.counter)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_order_by_epoch_then_index() {
        let a = Token::new(Epoch(1), 900);
        let b = Token::new(Epoch(2), 1);
        assert!(Token::NONE < a && a < b);
        assert_eq!((b.epoch(), b.index()), (Epoch(2), 1));
    }
}
