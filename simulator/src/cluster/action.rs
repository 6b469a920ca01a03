//! What can be done to a cluster. Scenarios and the hunt's generator both make lists of these, so
//! that every schedule is data: it can be stored, replayed and cut down.

pub use super::modes::{DeviceMode, Fate, GuardianMode, LockTurn, WatchdogMode};

use quorate_membership::entry::Away;

/// Whom an action is about, resolved when it is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// This host, counted from 0.
    Host(usize),
    /// The host whose node acts as coordinator; if nobody does, the one named by the last term.
    Coordinator,
    /// The lowest voter that does not.
    OtherVoter,
    /// The host where this guest (counted from 0) can write; its record's host if nowhere.
    HostOf(usize),
    /// The host that the condition of a trigger was about.
    That,
}

/// A shape of a network: which links pass. The others are cut; what was cut before stays cut. Hosts
/// stand in a row or circle that begins with the one named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The first so many on one side, the others on the other; half of all if 0.
    Halves(usize),
    /// Two halves that both see the first host.
    Bridge,
    /// Each sees just enough neighbours for a majority, no two the same one.
    Ring,
    /// Each sees the one before and the one after.
    Chain,
    /// All see the first host only.
    Star,
    /// Each directed link passes with this chance per million, drawn from the number.
    Random {
        /// Chance to pass.
        pass: u32,
        /// Feeds the draw.
        graph: u64,
    },
}

/// Which directions of the links outside a shape are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Both.
    Both,
    /// Only from the earlier host to the later one, in the order of the shape.
    Down,
    /// Only from the later host to the earlier one.
    Up,
}

/// Kinds of messages that can be filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Beats of hosts, relayed ones too.
    Beat = 0,
    /// Acknowledgements.
    Ack = 1,
    /// Observations.
    Observation = 2,
    /// Leader election.
    Election = 3,
    /// The forming of a cluster.
    Join = 4,
    /// Everything on sessions: the log.
    Session = crate::world::SESSION_CLASS as isize,
}

/// What a client waits for, as far as its answer is judged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish {
    /// A guest is added.
    Guest(usize),
    /// Its message is published.
    Message,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Want a guest stopped.
    Stop(usize),
    /// Want a guest running.
    Start(usize),
    /// Fence a host.
    Fence(Who),
    /// Say that a host is off.
    ConfirmOff(Who),
    /// Hold a guest.
    Hold(usize),
    /// Release a guest from whatever it is held for.
    Release(usize),
    /// Publish some bytes.
    Publish,
    /// Publish so many bytes.
    PublishMany(u32),
    /// Take the asked host out of service.
    Leave(Away),
}

/// What befalls a guest. Lengths are nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ill {
    /// Its kernel panics and stays there.
    Panics,
    /// Its kernel dies without a word.
    Hangs {
        /// At 100 % CPU, or halted.
        spins: bool,
    },
    /// What it is for works no more; its probe says so.
    Sickens,
    /// The agent inside is stopped.
    AgentStops,
    /// It computes and writes nothing.
    Computes(u64),
    /// Its file systems are frozen through its agent.
    Freezes(u64),
    /// A person holds it.
    Suspended(u64),
    /// Its disk has no room, and it is held for that.
    DiskFull(u64),
    /// It shuts down from inside.
    ShutsDown,
    /// Somebody takes a snapshot past the cluster: it writes to a new image above its old one.
    Snapshot {
        /// The new image lies on its host only.
        local: bool,
    },
    /// Somebody merges its top image into the one below: it writes to that one again.
    Merges,
    /// Somebody copies its image and lets it go on with the copy, so long after the begin.
    Copies(u64),
    /// Somebody backs it up for so long: an image above its own keeps the blocks that it overwrites,
    /// and is removed at the end.
    BackedUp(u64),
    /// Somebody migrates it to a host of no cluster, where it goes on.
    Taken,
}

impl Ill {
    /// Whether it changes what the guest's image is.
    #[must_use]
    pub fn of_images(self) -> bool {
        matches!(
            self,
            Ill::Snapshot { .. } | Ill::Merges | Ill::Copies(_) | Ill::BackedUp(_)
        )
    }
}

/// One thing done to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing passes from one host to another, on one cluster network or all.
    Cut {
        /// Sender.
        from: Who,
        /// Receiver.
        to: Who,
        /// The network; all if none is named.
        net: Option<usize>,
    },
    /// It passes again.
    Mend {
        /// Sender.
        from: Who,
        /// Receiver.
        to: Who,
    },
    /// All links of a host are cut, both ways.
    Isolate(Who),
    /// A host hears nothing but is heard.
    Deaf(Who),
    /// A host is heard by nobody but hears.
    Mute(Who),
    /// A host's links to all but one host are cut, both ways.
    OnlyTo(Who, Who),
    /// Links between hosts of different groups are cut; a host in no group is left alone.
    Partition(Vec<Vec<Who>>),
    /// All links of a host pass again.
    Reconnect(Who),
    /// All links of all cluster networks pass again.
    Heal,
    /// The network to the fence devices is cut from this host, or passes again.
    FenceNetwork {
        /// The host that would fence.
        from: Who,
        /// Cut or whole.
        cut: bool,
    },
    /// All cluster links lose and double datagrams, per million.
    Noise {
        /// Lost.
        loss: u32,
        /// Doubled.
        duplicate: u32,
    },
    /// All cluster links have this much more delay at most, in nanoseconds, and some datagrams
    /// take far longer.
    Delay {
        /// Added uniformly.
        jitter: u64,
        /// Datagrams that take a long way, per million.
        long: u32,
        /// The longest such way.
        long_max: u64,
    },
    /// One kind of message no longer passes.
    Block {
        /// Sender.
        from: Who,
        /// Receiver.
        to: Who,
        /// What is stopped.
        class: Class,
    },
    /// All links of a host hold what is sent, both ways, until this ends: then it comes in a burst.
    Clog {
        /// Whose.
        who: Who,
        /// Clogged or free.
        on: bool,
    },
    /// Messages of more bytes vanish between two hosts, in this direction.
    Hole {
        /// Sender.
        from: Who,
        /// Receiver.
        to: Who,
        /// Bytes of the largest that passes.
        largest: u32,
    },
    /// On all cluster links so many datagrams per million are overtaken by the next.
    Reorder(u32),
    /// All cluster links carry so many messages a second at most; 0 for any number.
    Rate(u32),
    /// The network takes a shape.
    Shape {
        /// Which.
        shape: Shape,
        /// The host it begins with.
        first: Who,
        /// What is cut of the links that do not belong to it.
        way: Way,
        /// The network to the fence devices has the same shape.
        fence: bool,
    },
    /// The links of a host (to one other, or to all) come and go.
    Flap {
        /// Whose.
        who: Who,
        /// To whom; to all if nobody is named.
        peer: Option<Who>,
        /// Nanoseconds from one cut to the next; half of it the links are whole.
        period: u64,
        /// Cuts that are still to come.
        times: u32,
    },
    /// The links of some hosts are clogged one host after the other, and freed in another order.
    Swizzle {
        /// Whose.
        hosts: Vec<Who>,
        /// Nanoseconds from one step to the next.
        every: u64,
        /// Feeds the draw of both orders.
        order: u64,
    },
    /// The daemon ends at once and starts again after `restart`, if at all.
    Crash {
        /// Whose.
        who: Who,
        /// Nanoseconds until the next start.
        restart: Option<u64>,
    },
    /// The daemon is stopped for so long (nanoseconds); guests and guardian go on.
    Stop {
        /// Whose.
        who: Who,
        /// How long.
        length: u64,
    },
    /// The whole host is frozen for so long.
    Freeze {
        /// Which.
        who: Who,
        /// How long.
        length: u64,
    },
    /// A host loses power and gets it back after `back`, if at all.
    PowerOff {
        /// Which.
        who: Who,
        /// Nanoseconds until power is back.
        back: Option<u64>,
    },
    /// A host gets its power back.
    PowerOn(Who),
    /// Every host loses power at once and gets it back after `back`.
    AllPowerOff {
        /// Nanoseconds until power is back.
        back: u64,
    },
    /// A guest's process ends by itself.
    GuestCrash(usize),
    /// Something befalls a guest.
    Guest(usize, Ill),
    /// Other processes take the CPUs of a host's guests for so long.
    Starve {
        /// Which.
        who: Who,
        /// How long.
        length: u64,
    },
    /// A host's fence device behaves like this from now on.
    Device {
        /// Whose.
        who: Who,
        /// How.
        mode: DeviceMode,
    },
    /// The hypervisor of a host answers nothing for so long.
    Silent {
        /// Which.
        who: Who,
        /// How long.
        length: u64,
    },
    /// The hypervisor of another kind of guests than any here answers nothing for so long.
    OtherSilent {
        /// Whose.
        who: Who,
        /// How long.
        length: u64,
    },
    /// Creations on a host take up to this long from now on.
    SlowCreate {
        /// Which.
        who: Who,
        /// Longest time.
        longest: u64,
    },
    /// From now on no signal ends a guest's process on this host.
    StuckKill(Who),
    /// The shared storage answers no write of a host for so long, and carries out then what it holds:
    /// neither a pause nor a signal takes such a write back.
    WritesHeld {
        /// Which.
        who: Who,
        /// How long.
        length: u64,
    },
    /// Whoever looks through the processes of a host gets no answer for so long.
    ScanHangs {
        /// Which.
        who: Who,
        /// How long.
        length: u64,
    },
    /// A guest's processes are from now on where only the kernel's count of their group shows them.
    Hides(usize),
    /// Writes of a host's disk take this long.
    SlowDisk {
        /// Which.
        who: Who,
        /// Shortest and longest.
        delay: (u64, u64),
    },
    /// Every further write of a host's store fails until its daemon starts anew.
    StoreFails(Who),
    /// Writes of a host's store succeed again: there is room.
    StoreMends(Who),
    /// Nothing becomes durable on a host's disk for so long.
    DiskStalls {
        /// Which.
        who: Who,
        /// How long.
        length: u64,
    },
    /// A host's store has rotted: it is found at the daemon's next start, which fails, and every
    /// further one.
    Rots(Who),
    /// Something befalls a host's store, or a copy of it.
    Store {
        /// Whose.
        who: Who,
        /// What.
        fate: Fate,
    },
    /// A second machine is started with a copy of a host's disk.
    Clones {
        /// Whose disk.
        who: Who,
        /// The machine that gets it, and is no longer what it was.
        onto: Who,
    },
    /// A host's watchdog behaves like this from now on.
    Watchdog {
        /// Whose.
        who: Who,
        /// How.
        mode: WatchdogMode,
    },
    /// A host's guardian fails for so long. Where its daemon does too, within one lease, only a
    /// watchdog helps.
    Guardian {
        /// Whose.
        who: Who,
        /// How.
        mode: GuardianMode,
        /// How long; one that is gone is replaced then, once a daemon runs there.
        length: u64,
    },
    /// What tells a host's daemon that a guest's process ended is silent for so long; polls go on.
    EventsLost {
        /// Which.
        who: Who,
        /// How long.
        length: u64,
    },
    /// The shared storage cannot be reached from a host for so long: guests that run there are held by
    /// their I/O errors, and none can be created.
    StorageGone {
        /// Which.
        who: Who,
        /// How long.
        length: u64,
    },
    /// A host's hypervisor ends and is back after so long: it answers nothing and tells nothing
    /// meanwhile, and what it was creating comes to nothing. Guests that run go on.
    HypervisorCrash {
        /// Which.
        who: Who,
        /// How long.
        length: u64,
    },
    /// The last write of a guest that ends on this host lands so long after its end. More than the
    /// timing's Q breaks an assumption of S1.
    LateWrites {
        /// Which.
        who: Who,
        /// How long; 0 for within Q, as usual.
        length: u64,
    },
    /// Something becomes of the lock beside a guest's image.
    Lock(usize, LockTurn),
    /// A client asks a host.
    Ask(Who, Ask),
    /// Everything is whole: links, processes, power, devices, disks.
    Calm,
}
