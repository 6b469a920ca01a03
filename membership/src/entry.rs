//! What the replicated log holds.

use crate::id::{BootId, Incarnation, NodeId, StoreId, Token};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::time::Duration;

/// A proposal with the name that makes its repeats recognisable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry<C> {
    /// Who proposed it.
    pub id: ProposalId,
    /// What is proposed.
    pub body: Entry<C>,
}

/// Names one proposal: a repeat of it is applied once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ProposalId {
    /// The proposing node.
    pub node: NodeId,
    /// Its incarnation: two copies of one store number theirs alike.
    pub incarnation: Incarnation,
    /// Rises with every proposal of that incarnation.
    pub sequence: u64,
}

/// One change of the cluster. Each is judged by its own conditions at its place in the log; one
/// that does not hold there is void and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry<C> {
    /// Nothing; keeps the log moving while something is undecided.
    Noop,
    /// This incarnation of a leader is coordinator from here on; the term is this entry's token.
    Term {
        /// The coming coordinator.
        node: NodeId,
        /// Its incarnation; a restarted leader needs a new term (V9).
        incarnation: Incarnation,
    },
    /// Extends the coordinator's lease; valid only while `term` is current.
    Renew {
        /// Token of the Term entry.
        term: Token,
        /// Tells the proposer which of its renewals this is.
        number: u64,
    },
    /// The coordinator gives up its term, and its successor need not wait.
    Resign {
        /// Token of the Term entry.
        term: Token,
        /// The resigner's own wait was over, so that nobody before it can act any more either.
        waited: bool,
    },
    /// A node's new life counts from here on and ends the previous one.
    Admit {
        /// The node.
        node: NodeId,
        /// Its new incarnation.
        incarnation: Incarnation,
        /// What it is.
        profile: Profile,
        /// It has ended every guest of earlier incarnations and refuses their epochs for ever.
        emptied: bool,
    },
    /// The incarnation attests who ends its guests at lease end, and the timing it runs. Void if a
    /// word of that number or a later one stands.
    Armed {
        /// The host.
        host: NodeId,
        /// The attesting incarnation.
        incarnation: Incarnation,
        /// Number of the word.
        number: u64,
        /// What stands behind the lease.
        armed: Armed,
        /// Token of the timing values attested.
        timing: Token,
    },
    /// The verdict "lost", for all hosts that fell together: voters stop acknowledging them.
    Revoke {
        /// Host, the incarnation judged, and the ground.
        hosts: Vec<(NodeId, Incarnation, Ground)>,
    },
    /// Takes an unproved revoke back.
    Restore {
        /// The host.
        host: NodeId,
        /// Token of the Revoke entry.
        revoke: Token,
    },
    /// The host's revoked incarnation can do nothing any more.
    Proof {
        /// The host.
        host: NodeId,
        /// The incarnation proved ended.
        incarnation: Incarnation,
        /// Token of the standing Revoke entry.
        revoke: Token,
        /// How that is known.
        proof: Proof,
    },
    /// A device is about to be told to cut the host; logged before launch.
    Attempt {
        /// The host.
        host: NodeId,
        /// The incarnation aimed at.
        incarnation: Incarnation,
        /// Token of the standing Revoke entry.
        revoke: Token,
        /// Place of the level among the host's levels, from 0.
        level: u8,
        /// The devices' names, for people.
        device: String,
        /// Launch ends this long after the proposal was made.
        launch_within: Duration,
        /// The device answers or is given up this long after launch.
        limit: Duration,
    },
    /// An attempt can have no more effect.
    AttemptEnded {
        /// The host.
        host: NodeId,
        /// Token of the Attempt entry.
        attempt: Token,
        /// What came of it.
        end: AttemptEnd,
    },
    /// The operator takes a node out of service, so its silence is no failure.
    Away {
        /// The node.
        node: NodeId,
        /// The incarnation that goes.
        incarnation: Incarnation,
        /// Why.
        why: Away,
    },
    /// A change of the application.
    App(C),
    /// The incarnation takes its word back: nobody but its daemon ends its guests at lease end, and
    /// an expired lease proves nothing about it. Void if a later word stands.
    Unarmed {
        /// The host.
        host: NodeId,
        /// The incarnation that says so.
        incarnation: Incarnation,
        /// Number of the word.
        number: u64,
    },
    /// From here on the log is applied by these rules; a node that does not know them goes no further.
    Rules {
        /// Their version, above the one before.
        version: u16,
    },
}

/// What a node says of itself when it asks to be admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Name for people.
    pub name: String,
    /// Its store; another store under the same node id is refused.
    pub store: StoreId,
    /// The boot of its machine.
    pub boot: BootId,
    /// Votes but never runs guests.
    pub witness: bool,
    /// What it offers guests, as the application understands it (vCPU, MiB).
    pub capacity: Capacity,
    /// The machine it runs on.
    pub machine: Machine,
}

/// What tells one machine from another, as its daemon found it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The firmware's UUID of the machine; 0 if it gives none.
    pub uuid: u128,
    /// A digest of the permanent addresses of its network cards; 0 if it has none.
    pub cards: u64,
    /// No hypervisor is seen, or its owner says so: the machine cannot have been copied while it ran.
    pub bare: bool,
}

/// Room for guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
}

/// What ends a host's guests at lease end when its daemon does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ArmedClass {
    /// The guardian process: covers a dead or stopped daemon, not a frozen host.
    Guardian,
    /// A hardware watchdog as well: covers a frozen host too.
    Watchdog,
}

/// What stands behind a host's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Armed {
    /// What ends the guests.
    pub class: ArmedClass,
    /// What cannot be ended is ended with the whole host: a reset was found possible there.
    pub reset: bool,
}

/// The most bytes of the name of who confirms that a host is off: it is kept in the host's record.
pub const CONFIRMED_BY_MAX: usize = 512;

/// How it is known that an incarnation can do nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// Its lease is over by the answers of a quorum.
    LeaseExpired,
    /// A device observed it off.
    Fenced {
        /// The device or devices of the level that proved it.
        device: String,
        /// The proof class of the level, for people.
        class: String,
    },
    /// An operator confirmed it off.
    Confirmed {
        /// What the operator typed.
        by: String,
    },
}

/// What came of a fence attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttemptEnd {
    /// The device observed the host off.
    Off,
    /// The device failed.
    Failed,
    /// No answer within the limit; it may still act, but not after bound plus limit.
    Unknown,
    /// It was never launched.
    NotLaunched,
}

/// What a verdict rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ground {
    /// A quorum of voters reported silence on every link.
    Silent,
    /// The host itself says that nothing renewed its lease for T_d; or it gets no log, and holds
    /// only guests that it does not know of.
    Deaf,
    /// An operator ordered it.
    Ordered,
}

/// Why an operator took a node out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Away {
    /// The daemon alone was stopped; its guests run on until the lease ends.
    Stop,
    /// The host reboots; its guests were ended first.
    Reboot,
    /// The host shuts down; its guests were ended first.
    Shutdown,
}
