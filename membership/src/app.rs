//! The deterministic state machine that lives in the same log as the membership.

use crate::cluster::Cluster;
use crate::frame::Words;
use crate::id::{Incarnation, NodeId, Token};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// A user's state machine. Every node applies the same calls in the same order, so it must not
/// read a clock, a random source or anything else that differs between nodes.
pub trait Application: Clone + Debug + Default + Serialize + DeserializeOwned {
    /// A change, carried by `Entry::App`.
    type Command: Clone + Debug + PartialEq + Serialize + DeserializeOwned;
    /// The word of a node on its part of the application: a few bytes with each beat, the rest in
    /// bulletins.
    type Status: Words;

    /// Applies `command`, whose entry has token `at`. A command that does not hold is refused
    /// with the reason and must change nothing.
    ///
    /// # Errors
    /// Why the command is void.
    fn apply(
        &mut self,
        at: Token,
        cluster: &Cluster,
        command: &Self::Command,
    ) -> Result<(), String>;

    /// Every incarnation of `host` up to `last` has ended: nothing it did goes on.
    fn ended(&mut self, at: Token, host: NodeId, last: Incarnation, how: Ended);

    /// Whether something of the application may still run on `host`.
    fn holds(&self, host: NodeId) -> bool;

    /// `to` goes on where `from` left off (the daemon restarted inside its lease).
    fn taken_over(&mut self, at: Token, host: NodeId, from: Incarnation, to: Incarnation);
}

/// How a host's incarnation ended, which decides whether writes may still be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By its lease: G contains the drain time already.
    Lease,
    /// By a device, an operator, a new boot or its own word: the drain time must still be waited.
    Otherwise,
}
