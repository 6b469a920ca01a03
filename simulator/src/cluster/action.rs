//! What can be done to a cluster. Scenarios and the hunt's generator both make lists of these, so
//! that every schedule is data: it can be stored, replayed and cut down.

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
}

/// How a fence device behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceMode {
    /// Cuts the power, then says so.
    Works,
    /// Refuses.
    Fails,
    /// Cuts the power late; its answer never comes.
    Late,
    /// Says that the host is off and does nothing.
    Lies,
    /// Says done at once and cuts the power within its limit; its status is true.
    Hasty,
    /// Does not answer (its own power or network is gone).
    Gone,
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
    /// Publish some bytes.
    Publish,
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
    /// Creations on a host take up to this long from now on.
    SlowCreate {
        /// Which.
        who: Who,
        /// Longest time.
        longest: u64,
    },
    /// The next kill at lease end on this host sticks (only a hardware watchdog helps).
    StuckKill(Who),
    /// Writes of a host's disk take this long.
    SlowDisk {
        /// Which.
        who: Who,
        /// Shortest and longest.
        delay: (u64, u64),
    },
    /// Every further write of a host's store fails until its daemon starts anew.
    StoreFails(Who),
    /// A client asks a host.
    Ask(Who, Ask),
    /// Everything is whole: links, processes, power, devices, disks.
    Calm,
}
