//! What the monitors of a host (LRMd) see of guests and of the host itself. Facts only: what they
//! mean is judged without I/O, by the clock the facts come with.

use quorate_membership::Time;

/// How a guest came to its end without an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// Its process ended, or nobody can say how.
    #[default]
    Died,
    /// Its operating system shut down and switched it off.
    ShutDown,
    /// Its kernel panicked, and it is set up to end then.
    Panicked,
    /// Somebody took it away past this cluster: migrated or saved it.
    Taken,
}

/// Something seen of one guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// Something happened to it.
    Event(GuestEvent),
    /// How it stands, looked at regularly.
    Sample(Sample),
    /// Its probe was run: `Err` says how it failed. A probe that could not be run is none.
    Probe(Result<(), String>),
}

/// Something that happened to a guest that is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestEvent {
    /// Its kernel panicked.
    Panicked,
    /// Its watchdog device was not fed, and is set up to do nothing about it itself.
    Watchdog,
    /// A disk failed or is full; which, and why, as `enospc`.
    IoError {
        /// The disk as the guest has it, `vda`.
        device: String,
        /// The hypervisor's word.
        reason: String,
    },
    /// It was reset, from inside or by its watchdog.
    Rebooted,
    /// The agent inside connected, or went.
    Agent(bool),
    /// It was held by somebody else than this cluster.
    Held(Held),
    /// It goes on.
    Continued,
    /// Its process is seen to be gone; how it ended is being found out, and is told as its end.
    Ending,
    /// Its monitor says that it does not work (a resource agent).
    Failed(String),
}

/// Why a guest is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Somebody, or this cluster itself, told it to.
    Told,
    /// A disk failed or is full.
    IoError,
    /// Its watchdog device fired and is set up to hold it.
    Watchdog,
    /// Migration, snapshot, backup or a saved memory.
    Move,
    /// Anything else, or not known.
    Other,
}

/// How a guest stands at one moment. Counters rise for as long as the same process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was looked at, by the clock of the node.
    pub at: Time,
    /// Why it is held, if it is.
    pub held: Option<Held>,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Time its virtual CPUs have run, together, in nanoseconds.
    pub cpu_ns: u64,
    /// Time they were ready and found no CPU of the host, in nanoseconds, if that is known.
    pub wait_ns: Option<u64>,
    /// Requests its disks have completed; `None` if it has no disks or nobody can say.
    pub disk_requests: Option<u64>,
    /// Packets it has sent; what it receives says nothing about it.
    pub packets_sent: Option<u64>,
    /// What the agent inside says.
    pub agent: Agent,
    /// A job that makes it look dead: migration, snapshot, backup.
    pub job: Option<String>,
}

/// What the agent inside a guest says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// It has none, or it was not asked.
    None,
    /// It answered.
    Answered,
    /// It answered that file systems are frozen through it.
    Frozen,
    /// It was asked and did not answer in time.
    Silent,
}

/// How the host itself stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostHealth {
    /// CPUs.
    pub cpus: u32,
    /// Processes that want to run, averaged over a minute, in thousandths.
    pub load_milli: u64,
    /// Memory that new processes can have, in MiB.
    pub memory_available_mib: u64,
    /// Memory there is, in MiB.
    pub memory_mib: u64,
    /// Room left where the store is, in MiB.
    pub state_free_mib: u64,
    /// What is wrong, in words, by source: `libvirt` with "no answer within 4 s", say. Empty: nothing.
    pub faults: Vec<(String, String)>,
}
