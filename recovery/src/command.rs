//! What the recovery application puts into the log, and what a host says with each beat.

use crate::guest::{GuestId, GuestSpec, Wanted};
use crate::hold::{self, HoldReason, Released, ReleasedBy};
use crate::images::{LeftImage, Life, NewTop, ScratchImage};
use crate::kinds::GuestKinds;
use quorate_fencing::Level;
use quorate_membership::frame::Words;
use quorate_membership::{Incarnation, NodeId, Token};
use serde::{Deserialize, Serialize};

/// A change of the guests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Protect a guest; its id is this entry's token.
    AddGuest(Box<GuestSpec>),
    /// Forget a guest that is wanted stopped and closed.
    RemoveGuest {
        /// The guest.
        guest: GuestId,
    },
    /// The operator wants a guest running or stopped.
    SetWanted {
        /// The guest.
        guest: GuestId,
        /// What is wanted.
        wanted: Wanted,
    },
    /// The guest belongs to this host from here on; its epoch is this entry's token. Void unless
    /// the record's epoch is `previous` and closed, and the incarnation the admitted, unrevoked one.
    Placed {
        /// The guest.
        guest: GuestId,
        /// The epoch the proposer saw closed (zero for the first).
        previous: Token,
        /// Where it goes.
        host: NodeId,
        /// The host's admitted incarnation.
        incarnation: Incarnation,
    },
    /// The host's word: the process is gone, and every epoch up to this one will be refused.
    Closed {
        /// The guest.
        guest: GuestId,
        /// The epoch closed.
        epoch: Token,
        /// The host.
        host: NodeId,
        /// The incarnation that says so. Void if a later one has taken the guest over: what a
        /// host whose store failed says, its next life does not know.
        incarnation: Incarnation,
        /// Why.
        why: Closure,
    },
    /// How this host is to be fenced, in order of levels; the lease is always the last.
    SetFencing {
        /// The host.
        host: NodeId,
        /// Its levels.
        levels: Vec<Level>,
    },
    /// Bytes for every subscriber of the library.
    Publish(#[serde(with = "crate::bytes")] Vec<u8>),
    /// The guest is not placed, nor started where its kind of hold bars that, until it is released.
    /// Void unless the record's epoch is the one named.
    Hold {
        /// The guest.
        guest: GuestId,
        /// Its epoch when the reason was seen.
        epoch: Token,
        /// Why.
        reason: HoldReason,
    },
    /// Takes holds back, each as it was seen: a newer one stays.
    Release {
        /// Which.
        holds: Vec<Released>,
        /// Who answers for it.
        by: ReleasedBy,
    },
    /// The guest writes to other top images than its record has: the record follows. Only hosts
    /// that have read them take the guest from then on. Void unless it runs there under that epoch.
    Follow {
        /// The guest.
        guest: GuestId,
        /// Of which life of it this is the host's word.
        life: Life,
        /// The new images.
        tops: Vec<NewTop>,
        /// What was left behind for them.
        left: Vec<LeftImage>,
        /// No block job is under way any more: what held the guest for one has passed with this.
        over: bool,
    },
    /// A host has read the images that the record follows since that entry.
    Reads {
        /// The guest.
        guest: GuestId,
        /// The entry.
        followed: Token,
        /// The host.
        host: NodeId,
    },
    /// A person's word: the guest is as this description says. It answers holds that came of what
    /// its description or its images were. Void under another epoch.
    Adopt {
        /// The guest.
        guest: GuestId,
        /// Its epoch when the person looked.
        epoch: Token,
        /// The description.
        xml: String,
    },
    /// The locks of these guests are written on this host's disks: what stood there before is
    /// expected no more. Void unless the epoch of one of them is the record's.
    Locked {
        /// The host.
        host: NodeId,
        /// Guests and their epochs.
        guests: Vec<(GuestId, Token)>,
    },
    /// A fence device was read while its host ran. Void unless the host is a member in that
    /// incarnation, and stated its devices by that entry.
    Tried {
        /// The host.
        host: NodeId,
        /// Its incarnation, heard after the reading.
        incarnation: Incarnation,
        /// The entry by which it states its devices.
        stated: Token,
        /// The device's name.
        device: String,
        /// It said on; otherwise off.
        on: bool,
    },
    /// The images that backups of a guest keep old blocks in are these from now on: what is known
    /// to hold nothing new does not keep it from being started. Void unless it runs there under
    /// that epoch.
    Scratch {
        /// The guest.
        guest: GuestId,
        /// Of which life of it this is the host's word.
        life: Life,
        /// The images.
        images: Vec<ScratchImage>,
    },
}

/// Why a host closed a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Closure {
    /// It was told to stop it, or the record says it belongs elsewhere.
    Told,
    /// It failed, and restarting here did not help.
    Failed {
        /// How, in words.
        how: String,
        /// How long it had run under this epoch before the failures that used up its budget here,
        /// in milliseconds.
        ran_ms: u64,
    },
    /// The lease ended.
    LeaseEnded,
    /// It was shut down from inside, and its policy takes that for its owner's wish.
    ShutDown,
    /// It could not be created here, or lost its disk here: another host may run it.
    Refused(String),
    /// Nothing of it was begun: the hypervisor of this host does not answer, or it has no guardian.
    NotBegun(String),
    /// Somebody took it in hand past this cluster, as by a migration to a foreign host: it may run
    /// elsewhere, and is held.
    Taken(hold::Words),
}

/// What a host says about its part with each beat; of fixed size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestStatus {
    /// Kinds of guests whose hypervisor does not answer: none of these may be given to this host.
    pub blind: GuestKinds,
    /// Guests here lost their disks, or the last creation here failed, and none has started since.
    pub unfit: bool,
    /// How many guests run there.
    pub running: u32,
}

/// One thing a host says about a guest, in its bulletin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestWord {
    /// Its process is gone and its epochs up to this one are durably refused.
    Closed(GuestId, Token, Closure),
    /// It runs.
    Running(GuestId, Token),
}

impl Words for GuestStatus {
    type Item = GuestWord;
}
