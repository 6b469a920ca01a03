//! One run as data: the shape of the cluster, what is done to it, and what is expected.

use super::action::{Action, DeviceMode, Who};
use super::triggers::Trigger;
use crate::world::{MS, SECOND};
use quorate_membership::member::LOG_LIMIT;
use quorate_membership::{ProofPolicy, Timing};
use quorate_recovery::guest::Needs;

/// A whole run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Feeds every random stream.
    pub seed: u64,
    /// Hosts; all run a daemon.
    pub hosts: usize,
    /// The first so many vote.
    pub voters: usize,
    /// The last so many voters are witnesses: they never run guests.
    pub witnesses: usize,
    /// Guests that are added when the cluster stands.
    pub guests: usize,
    /// Which of them have an agent inside.
    pub agents: Vec<bool>,
    /// The timing every node runs.
    pub timing: Timing,
    /// What counts as proof.
    pub proof: ProofPolicy,
    /// Cluster networks.
    pub networks: usize,
    /// The networks know no addressees: every node overhears every datagram.
    pub multicast: bool,
    /// Clock rate error of each host in parts per billion.
    pub rates: Vec<i64>,
    /// Hosts with a hardware watchdog.
    pub watchdogs: Vec<bool>,
    /// The fence device of each host.
    pub devices: Vec<Option<DeviceMode>>,
    /// The second fence level of each host: a switched outlet.
    pub outlets: Vec<Option<DeviceMode>>,
    /// Delay of the cluster links in nanoseconds: shortest, added uniformly.
    pub delay: (u64, u64),
    /// Chance per million that a daemon stalls between deciding and doing.
    pub stall: u32,
    /// Chance per million that a creation hangs for up to 15 s.
    pub create_hangs: u32,
    /// Chance per million that a creation fails.
    pub create_fails: u32,
    /// Hosts that are no virtual machines: a new boot of one cannot be a copy.
    pub bare: Vec<bool>,
    /// Voters wait, however long, rather than vote unvouched.
    pub waits: bool,
    /// Epochs of clusters that a first voter belonged to before.
    pub founded: u32,
    /// Each guest writes to an image on the shared storage, beside which its lock stands.
    pub images: bool,
    /// Entries a node applies between two snapshots of its state.
    pub snapshot_every: u64,
    /// Memory of each host for guests, in MiB.
    pub room: Vec<u64>,
    /// Memory that each guest needs, in MiB.
    pub wants: Vec<u64>,
    /// Priority of each guest.
    pub priorities: Vec<i32>,
    /// Bytes of the log beyond which a voter that is away is left behind.
    pub log_limit: u64,
    /// A program above each node takes a message so many nanoseconds after it was told; none listens if
    /// it is zero.
    pub taken_late: u64,
    /// What is done, by true time.
    pub timeline: Vec<(u64, Action)>,
    /// What is done when something happens.
    pub triggers: Vec<Trigger>,
    /// When the last fault ends and liveness counts; never if `None`.
    pub healed: Option<u64>,
    /// When the run ends.
    pub end: u64,
    /// What must hold.
    pub expect: Vec<Expect>,
}

/// An expectation of a scenario. Times are true times in nanoseconds. Where one stands in its file
/// is no part of what it expects: two are equal whatever their lines.
#[derive(Clone, Debug, Eq)]
pub struct Expect {
    /// Line in the scenario file, for the report.
    pub line: usize,
    /// When it is judged.
    pub at: u64,
    /// What is expected.
    pub what: Expected,
}

impl PartialEq for Expect {
    fn eq(&self, other: &Expect) -> bool {
        (self.at, &self.what) == (other.at, &other.what)
    }
}

/// What a scenario expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The guest can write somewhere (on `on`, if named) at that time.
    Runs {
        /// The guest.
        guest: usize,
        /// Where.
        on: Option<usize>,
    },
    /// The guest can write nowhere, or not on `on`, at any time from then on.
    NotRuns {
        /// The guest.
        guest: usize,
        /// Where.
        on: Option<usize>,
    },
    /// The guest can write nowhere, or not on `on`, at that time.
    RunsNot {
        /// The guest.
        guest: usize,
        /// Where.
        on: Option<usize>,
    },
    /// The host was never cut by a device up to then.
    NeverFenced(usize),
    /// The host was cut by a device at least once up to then.
    Fenced(usize),
    /// No verdict fell on the host up to then.
    NeverLost(usize),
    /// A verdict fell on the host by then.
    Lost(usize),
    /// The guest was started at most this often up to then.
    StartsAtMost {
        /// The guest; each if none is named.
        guest: Option<usize>,
        /// How often.
        starts: u32,
    },
    /// Somebody acts as coordinator at that time; not this host if one is named.
    Coordinator {
        /// Who must not be it.
        not: Option<Who>,
    },
    /// Nobody acts as coordinator at that time.
    NoCoordinator,
    /// The guest can write somewhere and nothing is wrong inside it at that time.
    Well(usize),
    /// Every guest runs at that time.
    AllRun,
    /// No guest runs at that time.
    NoneRuns,
    /// The host is admitted and unrevoked at that time.
    Member(usize),
    /// It is not.
    NoMember(usize),
    /// The host has power at that time, or has none.
    Power {
        /// The host.
        host: usize,
        /// Which.
        on: bool,
    },
    /// The host lost its power at most this often up to then.
    RebootsAtMost {
        /// The host; each if none is named.
        host: Option<usize>,
        /// How often.
        reboots: u32,
    },
    /// No device cut any host up to then.
    NoFencing,
    /// From `since` to then another host became coordinator at most so often.
    ChangesAtMost {
        /// How often.
        most: u64,
        /// True time from which it counts.
        since: u64,
    },
    /// From `since` to then at most so many terms began.
    TermsAtMost {
        /// How many.
        most: u64,
        /// True time from which it counts.
        since: u64,
    },
    /// One of these promises is broken by then, since the plan takes an assumption of theirs away.
    /// The run is good if it is, and ends there.
    Broken(Vec<&'static str>),
}

impl Plan {
    /// Needs of a guest.
    #[must_use]
    pub fn needs(&self, guest: usize) -> Needs {
        Needs {
            memory_mib: self.wants[guest],
            ..Needs::default()
        }
    }

    /// A quiet run of a small cluster of the fast profile.
    #[must_use]
    pub fn new(seed: u64, hosts: usize, voters: usize, guests: usize) -> Plan {
        Plan {
            seed,
            hosts,
            voters,
            witnesses: 0,
            guests,
            agents: vec![true; guests],
            timing: Timing::fast(),
            proof: ProofPolicy::Device,
            networks: 1,
            multicast: false,
            rates: vec![0; hosts],
            watchdogs: vec![false; hosts],
            devices: vec![Some(DeviceMode::Works); hosts],
            outlets: vec![None; hosts],
            delay: (MS / 10, 2 * MS),
            stall: 0,
            create_hangs: 0,
            create_fails: 0,
            bare: vec![true; hosts],
            waits: false,
            founded: 0,
            images: false,
            // Short enough in most runs for logs to be cut and states to be handed over.
            snapshot_every: [24, 64, 200, 1024][seed as usize % 4],
            room: vec![(guests.max(64) as u64) << 10; hosts],
            wants: vec![Needs::default().memory_mib; guests],
            priorities: vec![0; guests],
            log_limit: LOG_LIMIT,
            taken_late: 0,
            timeline: Vec::new(),
            triggers: Vec::new(),
            healed: None,
            end: 30 * SECOND,
            expect: Vec::new(),
        }
    }
}
