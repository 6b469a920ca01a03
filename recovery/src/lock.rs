//! The lock beside an image: who wrote to it last, as the disk itself says.

use crate::guest::GuestId;
use crate::hold::Words;
use quorate_membership::{ClusterId, Incarnation, NodeId, Token};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most locks that one hold names.
pub const LOCKS: usize = 32;

/// What a lock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// The cluster that wrote it.
    pub cluster: ClusterId,
    /// The guest it wrote it for.
    pub guest: GuestId,
    /// That guest's epoch.
    pub epoch: Token,
    /// The host the epoch was given to.
    pub host: NodeId,
    /// That host's incarnation when the epoch was given.
    pub incarnation: Incarnation,
    /// Raised while the guest runs.
    pub raised: u64,
}

/// A lock that was seen beside an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenLock {
    /// The image, as the guest names it.
    pub image: Words,
    /// What stood there.
    pub lock: Lock,
}

impl fmt::Display for SeenLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let l = &self.lock;
        write!(
            f,
            "{} was last written by {} in cluster {}, {} epoch {}, raised {} times",
            self.image, l.host, l.cluster, l.guest, l.epoch, l.raised
        )
    }
}
