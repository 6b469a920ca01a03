//! The host's part (LRMd): what it has promised about guests.

use crate::guest::GuestId;
use quorate_membership::Token;
use serde::{Deserialize, Serialize};

/// A durable promise about one guest, written before its first effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestPromise {
    /// No order of a lower epoch is obeyed.
    pub promised: Token,
    /// No order of this epoch or a lower one is obeyed: the guest was ended, or never existed.
    pub closed: Token,
}

/// A durable change of the executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorWrite {
    /// The guest.
    pub guest: GuestId,
    /// What is promised about it from now on; `None` forgets a removed guest.
    pub promise: Option<GuestPromise>,
}
