//! What goes into a member, and what comes out.

use crate::app::Application;
use crate::apply::Outcome;
use crate::entry::{LogEntry, Profile};
use crate::frame::{Frame, Stream};
use crate::id::{NodeId, Token};
use crate::store::{Image, Write};
use crate::time::Time;
use crate::vouch::Freshness;

/// What a member starts from.
#[derive(Clone, Debug)]
pub struct MemberSetup<C> {
    /// What the store held; its incarnation is already counted up and durable.
    pub image: Image<C>,
    /// What the node is.
    pub profile: Profile,
    /// The lease end the guardian's record gives, if it is of this boot.
    pub inherited_lease: Option<Time>,
    /// Guests may run here, so that somebody has to stand behind the lease: its renewals wait for
    /// [`super::Member::guardian`].
    pub guarded: bool,
    /// What is known of the store beyond it.
    pub freshness: Freshness,
    /// Entries applied between two state snapshots; a restart replays at most about as many, and
    /// the log is cut by as many. See [`super::SNAPSHOT_EVERY`].
    pub snapshot_every: u64,
    /// Bytes of the log beyond which a voter that keeps it from being cut is left behind. See
    /// [`super::LOG_LIMIT`].
    pub log_limit: u64,
}

/// Something to do.
#[derive(Clone, Debug)]
pub enum Output<A: Application> {
    /// Make this durable with the rest of the batch.
    Write(Write<A::Command>),
    /// Send a datagram; `rests`: only once everything written so far is durable.
    Datagram {
        /// Whom it is for, and what it says.
        frame: Frame<A::Status>,
        /// Whether it rests on the writes so far.
        rests: bool,
    },
    /// Send on the session to `peer`, once everything written so far is durable.
    Stream {
        /// The other end.
        peer: NodeId,
        /// What it says.
        message: Stream<A::Command>,
    },
    /// Send on the session to `peer` at once, resting on no write: a datagram where none passes.
    AlsoBySession {
        /// The other end.
        peer: NodeId,
        /// What it says.
        message: Stream<A::Command>,
    },
    /// The host lease now ends then.
    Lease(Time),
    /// An entry was applied.
    Applied(Applied<A::Command>),
    /// Entries were skipped: a state that others made of them was taken over.
    Skipped {
        /// The last entry before them.
        after: Token,
        /// The last of them.
        upto: Token,
    },
    /// This life is over: a new incarnation must begin, without the mark of this boot.
    Anew {
        /// Why.
        why: String,
        /// Its counter must be above this one.
        above: u64,
    },
    /// Two lives of one node are heard: an operator should know, and where each is heard from.
    Copies {
        /// The node.
        node: NodeId,
        /// In words.
        text: String,
    },
    /// Something an operator should know.
    Alert {
        /// The node it is about.
        node: NodeId,
        /// In words.
        text: String,
    },
}

/// An entry that was just applied.
#[derive(Clone, Debug)]
pub struct Applied<C> {
    /// Its token.
    pub token: Token,
    /// The entry.
    pub entry: LogEntry<C>,
    /// What became of it.
    pub outcome: Outcome,
    /// It was applied while starting, from what the store held.
    pub replayed: bool,
}
