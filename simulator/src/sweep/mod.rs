//! The sweep: every schedule of a few faults on a few nodes, at a few paces.
//!
//! Most failures that were studied in the field need no more than three faults on three nodes, if
//! they are the right ones (Yuan et al., OSDI 2014; Alquraan et al., OSDI 2018). So all of them are
//! tried, with every checker watching: first the cluster forms and its guests run, then the faults
//! come one after the other, then everything is made whole and the promises of liveness count.

mod cli;
pub mod faults;

pub use cli::{SweepArgs, sweep};

use crate::cluster::action::Action;
use crate::cluster::{Cluster, Plan, Sim};
use crate::harness::{Counts, Outcome, Subject, run};
use crate::world::{MS, SECOND};
use faults::Fault;
use quorate_recovery::Node;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Time between two faults: within one round trip, within one election, after a verdict but before
/// the lease is proved over, and after that (the fast profile).
pub const PACES: [u64; 4] = [5 * MS, 700 * MS, 4500 * MS, 12 * SECOND];

/// How often a forming cluster is looked at.
const LOOK: u64 = 50 * MS;
/// The cluster must stand by then.
const FORMED: u64 = 30 * SECOND;
/// The first fault comes so long after the cluster stands.
const REST: u64 = SECOND;
/// Everything is made whole so long after the last fault: a verdict has fallen, nothing is proved
/// by lease yet.
const HEAL: u64 = 6 * SECOND;
/// Every guest runs again so long after that: the worst of L1 is G, a takeover and a boot.
const AFTER: u64 = 24 * SECOND;

/// The beginning all schedules share, with its leader called h1.
#[derive(Clone, Debug)]
pub struct Sweep {
    plan: Plan,
    /// Its place is taken by node 0 of a schedule.
    leader: usize,
    begin: u64,
    schedules: Vec<Vec<Fault>>,
}

/// What a sweep came to.
#[derive(Debug, Default)]
pub struct Swept {
    /// Runs made.
    pub runs: usize,
    /// Things that happened.
    pub events: u64,
    /// Simulated nanoseconds.
    pub simulated: u64,
    /// How much was exercised.
    pub exposure: Counts,
    /// Runs in which a promise broke, by their numbers, in order.
    pub broken: Vec<(usize, Outcome)>,
}

impl Sweep {
    /// All schedules of one to `events` faults on so many nodes. Each node is a voter and a host with
    /// a working fence device, and there are as many guests as nodes.
    ///
    /// # Errors
    /// The cluster does not form: there is nothing to break.
    pub fn new(nodes: usize, events: usize, seed: u64) -> Result<Sweep, String> {
        let mut plan = Plan::new(seed, nodes, nodes, nodes);
        plan.end = FORMED;
        let mut sim = Sim::<Node>::new(plan.clone(), false);
        let mut at = 0;
        let stands = |sim: &mut Sim<Node>| sim.whole() && sim.guests_running() == nodes;
        while !(stands(&mut sim) && sim.acting(at).is_some()) {
            at += LOOK;
            if at > FORMED || !sim.run_to(at) {
                let why = sim.close().violation.map(|v| v.to_string());
                let why = why.unwrap_or_else(|| format!("not whole after {} s", FORMED / SECOND));
                return Err(format!("seed {seed}, {nodes} hosts: {why}"));
            }
        }
        let begin = at + REST;
        let leader = sim.run_to(begin).then(|| sim.acting(begin)).flatten();
        let leader = leader.ok_or("the coordinator of a whole cluster did not stay")?;
        Ok(Sweep {
            plan,
            leader,
            begin,
            schedules: faults::schedules(nodes, events),
        })
    }

    /// How many runs there are, numbered from 0: each schedule at each pace, except that a single
    /// fault has but one.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.singles() + (self.schedules.len() - self.singles()) * PACES.len()
    }

    fn singles(&self) -> usize {
        self.schedules.iter().filter(|s| s.len() == 1).count()
    }

    /// How many schedules there are.
    #[must_use]
    pub fn schedules(&self) -> usize {
        self.schedules.len()
    }

    /// The faults of a run by the names of its hosts, and the time between two.
    #[must_use]
    pub fn faults(&self, number: usize) -> (Vec<Fault>, u64) {
        let singles = self.singles();
        let (schedule, pace) = match number.checked_sub(singles) {
            None => (number, 0),
            Some(rest) => (singles + rest / PACES.len(), rest % PACES.len()),
        };
        // Node 0 leads; the others follow in the order of hosts.
        let mut names: Vec<usize> = (0..self.plan.hosts).filter(|h| *h != self.leader).collect();
        names.insert(0, self.leader);
        let faults = self.schedules.get(schedule).into_iter().flatten();
        (faults.map(|f| f.renamed(&names)).collect(), PACES[pace])
    }

    /// A run as data.
    #[must_use]
    pub fn plan(&self, number: usize) -> Plan {
        let (faults, pace) = self.faults(number);
        let mut plan = self.plan.clone();
        let mut at = self.begin;
        for fault in &faults {
            plan.timeline
                .extend(fault.actions().into_iter().map(|a| (at, a)));
            at += pace;
        }
        let healed = at - pace + HEAL;
        plan.timeline.push((healed, Action::Calm));
        plan.healed = Some(healed);
        plan.end = healed + AFTER;
        plan
    }

    /// Makes the runs of these numbers on `jobs` threads with the bug planted. The result is the same for any number of
    /// threads. `progress` is called with the number of runs begun.
    pub fn run(
        &self,
        numbers: &[usize],
        jobs: usize,
        bug: Option<&'static str>,
        progress: impl Fn(usize) + Sync,
    ) -> Swept {
        let next = AtomicUsize::new(0);
        let total = Mutex::new(Swept::default());
        std::thread::scope(|scope| {
            for _ in 0..jobs.max(1) {
                scope.spawn(|| {
                    Cluster.plant(bug);
                    let mut mine = Swept::default();
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(number) = numbers.get(at) else { break };
                        mine.take(*number, run(&Cluster, &self.plan(*number), false));
                        progress(at + 1);
                    }
                    if let Ok(mut total) = total.lock() {
                        total.merge(mine);
                    }
                });
            }
        });
        total
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Swept {
    fn take(&mut self, number: usize, outcome: Outcome) {
        self.runs += 1;
        self.events += outcome.events;
        self.simulated += outcome.ended;
        self.exposure.merge(&outcome.exposure);
        if outcome.violation.is_some() {
            self.broken.push((number, outcome));
        }
    }

    fn merge(&mut self, other: Swept) {
        self.runs += other.runs;
        self.events += other.events;
        self.simulated += other.simulated;
        self.exposure.merge(&other.exposure);
        self.broken.extend(other.broken);
        self.broken.sort_by_key(|(number, _)| *number);
    }
}
