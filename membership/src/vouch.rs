//! What a voter's store may be believed: how far its log had come, and who vouches for it.
//!
//! A store that was set back (a restored backup, a reverted virtual machine) has forgotten promises
//! and entries that others count on. Within one boot a mark outside the store tells; after a boot
//! the other voters must: any quorum that counted this voter shares a member with any n − q + 1 of
//! the others (reading 18).

use crate::consensus::Round;
use crate::id::{Epoch, Incarnation, NodeId, Slot};
use crate::mutants::planted;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How far a log had come: epoch, round of the newest entries, entries. The greater one is newer.
pub type LogEnd = (Epoch, Option<Round>, u64);

/// How far the log of one voter had come, by its own word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The set of voters it belongs to.
    pub epoch: Epoch,
    /// The highest round promised.
    pub promise: Option<Round>,
    /// The round of the newest entries.
    pub accepted: Option<Round>,
    /// Entries accepted, counted from the beginning of the epoch.
    pub index: u64,
}

impl Claim {
    /// What decides which of two logs is the newer one.
    #[must_use]
    pub fn log(&self) -> LogEnd {
        (self.epoch, self.accepted, self.index)
    }

    /// Whether a store that held this has forgotten something if it now holds `other`.
    #[must_use]
    pub fn newer_than(&self, other: &Claim) -> bool {
        if planted("set-back-by-counter-only") {
            return false;
        }
        let promise = self.epoch == other.epoch && self.promise > other.promise;
        self.log() > other.log() || promise
    }

    /// Raises what is lower than in `other`; gives whether anything was.
    pub fn raise(&mut self, other: &Claim) -> bool {
        let before = *self;
        if other.epoch > self.epoch {
            *self = *other;
        } else if other.epoch == self.epoch {
            self.promise = self.promise.max(other.promise);
            if other.log() > self.log() {
                (self.accepted, self.index) = (other.accepted, other.index);
            }
        }
        *self != before
    }
}

/// Whether a voter's store can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// The mark of this boot, or enough other voters, vouch for it.
    Vouched,
    /// It votes, but too few could say whether its store is the newest.
    Unvouched,
    /// It does not vote: it waits for what the others say.
    Seeking,
}

/// What a voter remembers of another, durably.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRecord {
    /// The highest that it ever claimed.
    pub claim: Claim,
    /// Counter of the newest incarnation that is known to have been vouched for; nothing of a lower
    /// one counts any more.
    pub life: u64,
    /// Which of the lives of that number this voter vouched for itself; 0 if others told of it. A copy
    /// and its original may begin lives of one number.
    pub random: u64,
}

/// A voter that votes although too few could say whether its store is the newest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unvouched {
    /// What the store held before the first such vote.
    pub held: Claim,
    /// The voters whose memory of this one was compared with that.
    pub compared: BTreeSet<NodeId>,
}

/// What a start knows of the store beyond the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// The mark of this boot: what the store last held durably. `None` after a boot.
    pub mark: Option<Claim>,
    /// The voter waits, however long, rather than vote unvouched.
    pub waits: bool,
}

/// What voters tell each other of their stores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The sender's standing.
    pub standing: Standing,
    /// What the sender holds durably.
    pub claim: Claim,
    /// The highest that the sender ever heard the receiver claim.
    pub heard: Claim,
    /// The newest log that each other voter ever claimed to the sender, and that its own mark names.
    pub heard_of: Vec<(Slot, LogEnd)>,
    /// The newest beat the sender heard of the receiver, and of which incarnation.
    pub beat: (Incarnation, u64),
    /// Asks the receiver to vouch for the sender in this incarnation.
    pub asks: bool,
    /// Answers such a question of this incarnation's counter: the sender counts on no lower one any
    /// more, and says so in all it sends from now on.
    pub vouches: Option<u64>,
}
