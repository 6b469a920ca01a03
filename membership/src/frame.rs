//! What nodes send each other.

use crate::consensus::{Command, ElectionMessage, LogMessage};
use crate::entry::{ArmedClass, LogEntry, Profile};
use crate::founding::Founding;
use crate::id::{ClusterId, Epoch, Incarnation, NodeId, Slot, StoreId, Token};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A datagram: authenticated, possibly lost, late or repeated, on every link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Frame<S> {
    /// Who sent it; equal to what the key says.
    pub header: Header,
    /// What it says.
    pub body: Datagram<S>,
}

/// Stands in front of every datagram and opens every session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The sender's cluster; zero before it belongs to one.
    pub cluster: ClusterId,
    /// The newest epoch the sender knows. Filters consensus frames only.
    pub epoch: Epoch,
    /// The sender.
    pub from: NodeId,
    /// The sender's incarnation.
    pub incarnation: Incarnation,
    /// Rises with every datagram of that incarnation; the same on every link.
    pub number: u64,
}

/// The body of a datagram.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Datagram<S> {
    /// The lease beat of a host.
    Beat(Beat<S>),
    /// A voter passes on the beat of a host that another voter does not hear.
    Relayed {
        /// The header the beat came with.
        header: Header,
        /// The beat.
        beat: Box<Beat<S>>,
    },
    /// A voter acknowledges a beat, at once.
    Ack(Ack),
    /// What a voter sees, to the other voters.
    Observation(Observation),
    /// Leader election, one addressee.
    Election {
        /// The incarnation the sender believes it talks to; stale replies die of it.
        to_incarnation: u64,
        /// OmniPaxos' own message.
        message: ElectionMessage,
    },
    /// The forming of a cluster and the welcome of its members.
    Join(Join),
}

/// The lease beat: small, frequent, resting on no disk write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beat<S> {
    /// Rises with every beat of the incarnation; what an acknowledgement names.
    pub sequence: u64,
    /// Present until the incarnation is admitted.
    pub hello: Option<Box<Hello>>,
    /// How long the sender's lease still lasts; zero when it is over.
    pub lease_left: Duration,
    /// How long ago something last renewed it (since start if nothing did).
    pub renewed_ago: Duration,
    /// Token of the timing values the sender runs.
    pub timing: Token,
    /// Who ends its guests at lease end, if anybody.
    pub armed: Option<ArmedClass>,
    /// Bit i−1 is set if the voter in slot i has acknowledged nothing lately: relay to it, please.
    pub unheard: u8,
    /// Index of the last entry the sender applied.
    pub applied: u64,
    /// The application's part.
    pub status: S,
}

/// A node asks to be admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What it is.
    pub profile: Profile,
    /// It has ended every guest of earlier incarnations and durably refuses their epochs.
    pub emptied: bool,
}

/// The acknowledgement of one beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The host whose beat it was (an acknowledgement may come through another voter).
    pub host: NodeId,
    /// The incarnation acknowledged.
    pub incarnation: Incarnation,
    /// The beat acknowledged.
    pub sequence: u64,
    /// The acknowledging voter.
    pub slot: Slot,
    /// The epoch it acknowledges under.
    pub epoch: Epoch,
}

/// What one voter sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The reporting voter.
    pub slot: Slot,
    /// Its incarnation's counter.
    pub incarnation: u64,
    /// It started, paused or was cut off too recently for its silence reports to count.
    pub blind: bool,
    /// Hosts unheard for more than a heartbeat plus jitter, and for how long.
    pub silent: Vec<(NodeId, Duration)>,
    /// Index up to which its state snapshot is durable; the log may be trimmed to the least.
    pub durable: u64,
    /// Its answers to standing revokes.
    pub answers: Vec<Answer>,
}

/// A voter's answer to a revoke: it acknowledges that incarnation no more, durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The host.
    pub host: NodeId,
    /// Token of the Revoke entry.
    pub revoke: Token,
    /// now − max(last acknowledgement of any incarnation of the host, start of acknowledging in
    /// this voter's incarnation and epoch), at the moment of sending.
    pub age: Duration,
}

/// The forming of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Join {
    /// A node without a cluster tells its store.
    Seeking {
        /// Its store.
        store: StoreId,
        /// The cluster it has durably pledged its vote to, if it has.
        pledged: Option<ClusterId>,
    },
    /// A founder calls the first voters it was given.
    Invite {
        /// The cluster being founded.
        cluster: ClusterId,
        /// Its first voters.
        voters: Vec<NodeId>,
    },
    /// The cluster exists; this is its first record.
    Founded(Box<Founding>),
}

/// What travels on a session: one ordered, reliable, authenticated stream per pair of nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "C: Command", deserialize = "C: Command"))]
pub enum Stream<C: Command> {
    /// Log replication between voters.
    Log {
        /// The epoch it belongs to; another epoch's is dropped.
        epoch: Epoch,
        /// OmniPaxos' own message.
        message: LogMessage<C>,
    },
    /// A follower's proposals, for a voter to put into the log.
    Propose(Vec<LogEntry<C>>),
    /// A follower wants every decided entry from this index (counted from 0) on.
    Follow {
        /// First index wanted.
        from: u64,
    },
    /// Decided entries.
    Feed {
        /// Epoch of the entries.
        epoch: Epoch,
        /// Index (from 0) of the first.
        from: u64,
        /// The entries.
        entries: Vec<LogEntry<C>>,
    },
    /// The whole state, for a follower that is behind what the voter still has as entries.
    State {
        /// Epoch of the state.
        epoch: Epoch,
        /// Entries contained.
        applied: u64,
        /// The state as the store holds it.
        bytes: Vec<u8>,
    },
}
