//! Facts in, effects out: the contract between the node and whatever runs it.
//!
//! 1. After every fact, carry out the effects in order up to `Wait`; only then give the next fact.
//! 2. Nothing that rests on a write leaves before that write is durable. The node holds such
//!    effects back itself until it is told `Persisted`.
//! 3. Time never goes back, and is read *after* the fact is in hand.
//! 4. Same configuration, same facts, same order: same effects, byte for byte.
//! 5. A node that cannot renew its lease asks nobody for permission to stop its guests.

pub use crate::event::{Event, EventKind};
pub use crate::reply::{NotProposed, Reply};
pub use crate::trials::{DeviceWord, TrialLaunch};

use crate::command::{Command, GuestStatus};
use crate::domain::layout::Layout;
use crate::executor::ExecutorWrite;
use crate::guest::{GuestId, GuestSpec, Probe};
use crate::hold::{HoldKind, HoldReason};
use crate::images::{Harmless, ScratchImage, Stamp};
use crate::kinds::GuestKinds;
use crate::lock::{LockPlan, LockReading, LockState, LockedImage};
use crate::observation::{Cause, HostHealth, Observation};
use quorate_fencing::Device;
use quorate_membership::attest::Pulse;
use quorate_membership::entry::{AttemptEnd, Away};
use quorate_membership::frame::{Frame, Stream};
use quorate_membership::store::Write;
use quorate_membership::{Incarnation, LinkId, NodeId, Time, Token};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A datagram of a guest-protecting cluster.
pub type NodeFrame = Frame<GuestStatus>;
/// A session message of a guest-protecting cluster.
pub type NodeStream = Stream<Command>;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A datagram arrived. The driver has authenticated it: `frame.header.from` is who sent it.
    Frame {
        /// The link it came by.
        link: LinkId,
        /// What it says.
        frame: NodeFrame,
    },
    /// A session to `peer` is open; what an older one still had queued is gone.
    SessionUp {
        /// The other end.
        peer: NodeId,
        /// Its incarnation, as the handshake of the session named it.
        incarnation: Incarnation,
    },
    /// The session to `peer` is gone.
    SessionDown {
        /// The other end.
        peer: NodeId,
    },
    /// A message came on the session from `peer`, in order.
    Stream {
        /// The other end.
        peer: NodeId,
        /// What it says.
        message: NodeStream,
    },
    /// The deadline of the last `Wait` has come, or any moment before it.
    Timeout,
    /// Every batch up to this one is durable.
    Persisted {
        /// The number given with the batch.
        batch: u64,
    },
    /// The store failed: the voter ends, the host part goes on.
    StoreFailed {
        /// What failed.
        why: String,
    },
    /// Every guest process of this machine, seen by one complete poll.
    Guests {
        /// All of them.
        seen: Vec<GuestSeen>,
    },
    /// The hypervisor of some kinds of guests does not answer; nothing follows about any guest of
    /// these kinds, nor about one whose kind is not known.
    HypervisorBlind {
        /// The kinds.
        kinds: GuestKinds,
        /// Every guest process of the other kinds, seen by one complete poll of them; `None` if what
        /// it saw may be older than what was said of guests since.
        seen: Option<Vec<GuestSeen>>,
        /// Why.
        why: String,
    },
    /// A guest's process ended without having been told to.
    GuestGone {
        /// The guest.
        guest: GuestId,
        /// The epoch it ran under.
        epoch: Token,
        /// Exit status in words.
        how: String,
        /// As far as it is known.
        cause: Cause,
    },
    /// A monitor saw something of a guest that is there.
    Observed {
        /// The guest.
        guest: GuestId,
        /// The epoch it runs under.
        epoch: Token,
        /// What was seen.
        seen: Observation,
    },
    /// This host sees a reason to hold a guest. It is entered into the log, once, unless the
    /// guest's epoch is another there.
    Hold {
        /// The guest.
        guest: GuestId,
        /// The epoch it was seen under.
        epoch: Token,
        /// Why.
        reason: HoldReason,
    },
    /// The reason of a hold has passed. Heeded for kinds that pass ([`HoldKind::passes`]).
    HoldPassed {
        /// The guest.
        guest: GuestId,
        /// The epoch it was seen under.
        epoch: Token,
        /// The kind of hold.
        kind: HoldKind,
    },
    /// The answer to [`GuestAction::ReadLocks`].
    LocksRead {
        /// The order.
        order: u64,
        /// What stands beside each image.
        readings: Vec<LockReading>,
    },
    /// How the locks of a guest that runs here stand has changed.
    LockState {
        /// The guest.
        guest: GuestId,
        /// The epoch it runs under.
        epoch: Token,
        /// How they stand.
        state: LockState,
    },
    /// What a guest that runs here is made of, by its hypervisor.
    Machine {
        /// The guest.
        guest: GuestId,
        /// The epoch it runs under.
        epoch: Token,
        /// Its parts.
        layout: Box<Layout>,
        /// Its top images and those of its record, as they are found on the storage, by path.
        stamps: Vec<(String, Stamp)>,
        /// Images that a backup which is under way keeps old blocks in, and those of its record that
        /// still lie there, in order; `None` if they could not be looked at.
        scratch: Option<Vec<ScratchImage>>,
    },
    /// This host has read the top images that a guest's record follows since an entry.
    ImagesRead {
        /// The guest.
        guest: GuestId,
        /// The entry.
        followed: Token,
    },
    /// How this host stands.
    HostObserved(HostHealth),
    /// The answer to a guest order.
    GuestDone {
        /// The order.
        order: u64,
        /// What came of it. `Ok` of an `End` means: the process tree is gone.
        result: Result<(), String>,
    },
    /// The answer to a fence launch.
    FenceDone {
        /// Token of the Attempt entry.
        attempt: Token,
        /// What came of it.
        end: AttemptEnd,
        /// The agent's words, for people.
        detail: String,
    },
    /// The answer to [`Effect::Try`].
    DeviceRead {
        /// The trial.
        trial: u64,
        /// What came of it.
        word: DeviceWord,
        /// What the agent does not know of the device's parameters.
        remark: Option<String>,
    },
    /// A new reading of the guardian's counter; `None`: there is no guardian that can be trusted.
    /// Takes the place of a [`Fact::Timeout`] that is due.
    Guardian(Option<Pulse>),
    /// The lease record, by which the guardian goes, could not be written.
    LeaseUnwritten {
        /// The end that stands in it; `None`: it cannot be read either.
        stands: Option<Time>,
        /// Why.
        why: String,
    },
    /// It could be written again.
    LeaseWritten,
    /// A client asks.
    Request {
        /// Names the client in the reply.
        client: u64,
        /// What it asks.
        request: Request,
    },
}

/// A guest process as a poll of the hypervisor found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestSeen {
    /// The guest.
    pub guest: GuestId,
    /// The epoch it was created under.
    pub epoch: Token,
    /// Created or paused, not running.
    pub paused: bool,
}

/// How a node went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Departure {
    /// The log says that it is away, and none of its guests is left here that must not be.
    Recorded,
    /// It went without that: no quorum answered in time.
    Unrecorded,
}

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Protect a guest.
    AddGuest(GuestSpec),
    /// Stop protecting a guest that is stopped.
    RemoveGuest {
        /// Its name.
        name: String,
    },
    /// The guest is as this description says, whatever its record has said.
    AdoptGuest {
        /// Its name.
        name: String,
        /// The description.
        xml: String,
    },
    /// Want a guest running.
    StartGuest {
        /// Its name.
        name: String,
    },
    /// Want a guest stopped.
    StopGuest {
        /// Its name.
        name: String,
    },
    /// Hold a guest: it runs on, and is started nowhere until it is released.
    HoldGuest {
        /// Its name.
        name: String,
        /// Who asks.
        by: String,
        /// Why.
        why: String,
    },
    /// Take holds back, after a look at what they name.
    ReleaseGuests {
        /// Names of guests; empty: every guest that `all_of` fits.
        names: Vec<String>,
        /// Only holds of this kind.
        all_of: Option<HoldKind>,
        /// Who answers for it.
        by: String,
    },
    /// Declare a host lost and fence it.
    FenceHost {
        /// Its name.
        host: String,
    },
    /// The operator has seen that a host is off.
    ConfirmOff {
        /// Its name.
        host: String,
        /// Who confirms.
        by: String,
        /// Counters of the incarnation that is over and of the later one that is heard, where one is.
        lives: Option<(u64, u64)>,
    },
    /// Take this node out of service.
    Leave(Away),
    /// Put bytes into the log for every subscriber (the library's group messages).
    Publish {
        /// What is published.
        bytes: Vec<u8>,
    },
}

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Make these writes durable, atomically and after every earlier batch, then say `Persisted`.
    Persist {
        /// Rises by one with every batch.
        batch: u64,
        /// The writes.
        writes: Vec<NodeWrite>,
    },
    /// Send a datagram on every link.
    Datagram {
        /// Whom it is for, and what it says.
        frame: NodeFrame,
    },
    /// Send on the session to `peer`; dropped if there is none.
    Stream {
        /// The other end.
        peer: NodeId,
        /// What it says.
        message: NodeStream,
    },
    /// Carry out a guest order and say `GuestDone`.
    Guest(GuestOrder),
    /// Run a fence agent and say `FenceDone`.
    Fence(FenceLaunch),
    /// Read a fence device, change nothing, and say `DeviceRead`.
    Try(Box<TrialLaunch>),
    /// The lease now lasts until this moment of the node's own clock: tell the guardian.
    Lease {
        /// The lease end.
        end: Time,
    },
    /// Something people may want to know.
    Event(Event),
    /// Two lives of one node are heard: people must know, and from which addresses.
    Copies {
        /// The node.
        node: NodeId,
        /// What to say; the driver adds the addresses.
        event: Event,
    },
    /// Bytes published into the log, once each and in the order of the log.
    Published {
        /// Token of the entry: the fencing number of the message.
        token: Token,
        /// What was published.
        bytes: Vec<u8>,
        /// Read from the store at the start: an earlier life may have told it.
        replayed: bool,
    },
    /// Entries were skipped, since a state that others made of them was taken over: what was published
    /// by them is never told here.
    Skipped {
        /// The last entry before them.
        after: Token,
        /// The last of them.
        upto: Token,
    },
    /// The answer to a request.
    Reply {
        /// The client.
        client: u64,
        /// What came of it.
        reply: Reply,
    },
    /// The mark of this boot vouches for the store no more: drop it, durably for this boot, before
    /// anything that follows.
    Unmark,
    /// The node must be stopped and started anew as a new incarnation.
    Restart {
        /// Why.
        why: String,
        /// Its counter must be above this one.
        above: u64,
    },
    /// The node is done and the daemon should exit.
    Exit {
        /// How it went.
        how: Departure,
        /// In words.
        why: String,
    },
    /// Nothing more to do until this moment or the next fact. Always last.
    Wait {
        /// When to say `Timeout` at the latest.
        until: Time,
    },
}

/// One durable change of a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum NodeWrite {
    /// Of its membership.
    Member(Write<Command>),
    /// Of its executor: what it promised about guests.
    Executor(ExecutorWrite),
}

/// Longest that a host gives the creation of a guest of any kind before it says that it failed. The
/// planner, which judges a host whose creations do not end, waits longer.
pub const CREATION: Duration = Duration::from_secs(240);

/// An order to the hypervisor driver.
#[derive(Clone, Debug, PartialEq)]
pub struct GuestOrder {
    /// Names the order in its answer.
    pub order: u64,
    /// The guest.
    pub guest: GuestId,
    /// The guest epoch it acts for.
    pub epoch: Token,
    /// What to do.
    pub action: GuestAction,
    /// Compared with the clock immediately before acting: not later. `End` has none. A `Create` may
    /// act until the lease end told last ([`Effect::Lease`]), if that is later: it may have waited
    /// for a write, or take minutes, while the lease went on.
    pub not_after: Option<Time>,
}

/// What to do with a guest.
#[derive(Clone, Debug, PartialEq)]
pub enum GuestAction {
    /// Read the locks beside these images, and say `LocksRead`.
    ReadLocks(Vec<LockedImage>),
    /// Write its locks and raise them from then on, for as long as its processes live. `Ok` means
    /// that every one is written.
    WriteLocks(Box<LockPlan>),
    /// Create it, paused.
    Create(Box<Start>),
    /// Let it run.
    Continue,
    /// Hold it.
    Pause,
    /// Start its operating system anew in the process it has.
    Reset,
    /// Keep what shows its state, a screenshot where it has one. Best effort.
    Capture {
        /// What it is kept for.
        why: String,
    },
    /// Run its probe; what comes of it is told as an observation.
    Probe(Probe),
    /// End it and wait until its process tree is gone.
    End,
}

/// What a guest is created from.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Its description.
    pub spec: GuestSpec,
    /// Images beside its own that do not hold it up.
    pub harmless: Harmless,
}

impl From<GuestSpec> for Start {
    fn from(spec: GuestSpec) -> Start {
        Start {
            spec,
            harmless: Harmless::default(),
        }
    }
}

/// A fence agent to run.
#[derive(Clone, Debug, PartialEq)]
pub struct FenceLaunch {
    /// Token of the Attempt entry.
    pub attempt: Token,
    /// The host to cut.
    pub host: NodeId,
    /// Its name, handed to the agent.
    pub name: String,
    /// The devices of the level, all of which must observe it off.
    pub devices: Vec<Device>,
    /// Compared with the clock immediately before launch: not later.
    pub not_after: Time,
    /// The whole level's deadline, counted from launch.
    pub limit: Duration,
}
