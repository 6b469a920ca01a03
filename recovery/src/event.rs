//! What a node tells people.

use quorate_membership::Token;
use serde::{Deserialize, Serialize};

/// Something people may want to know. Wall time is added by the driver, for people only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Token of the entry it comes from; zero if it is local.
    pub token: Token,
    /// What kind of event.
    pub kind: EventKind,
    /// The host it is about.
    pub host: Option<String>,
    /// The guest it is about.
    pub guest: Option<String>,
    /// In words.
    pub text: String,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A new view of the cluster.
    View,
    /// A new coordinator, or none.
    Coordinator,
    /// A host is suspected, here.
    Suspect,
    /// A host is lost.
    Verdict,
    /// A revoke was taken back.
    Restored,
    /// A fence attempt or its end.
    Fence,
    /// It is proved that a host can do nothing any more.
    Proof,
    /// A guest was given to a host.
    Placed,
    /// A guest runs.
    Started,
    /// A guest ended.
    Ended,
    /// A guest or its definition changed by request.
    Changed,
    /// This host's lease.
    Lease,
    /// What the monitors of its host make of a guest, and what is done about it.
    Health,
    /// Bytes published by a library user.
    Published,
    /// Something an operator should look at.
    Alert,
}
