//! One case: the cluster forms with every link whole, the links that the graph lacks are cut for
//! ever, and what follows is compared with the oracle.

use super::graph::Case;
use crate::check::{At, HostName, Violation};
use crate::cluster::action::{Action, Who};
use crate::cluster::{Plan, Sim};
use crate::harness::Outcome;
use crate::oracle::{Forecast, forecast};
use crate::world::{MS, SECOND};
use quorate_membership::Timing;
use quorate_membership::entry::Entry;
use quorate_recovery::Node;
use std::time::Duration;

/// How often a run is looked at, in simulated time. A coordinator that is gone for less between two
/// looks is seen by the terms it takes to replace it.
const LOOK: u64 = 50 * MS;
/// The cluster must be whole by then.
const FORMED: u64 = 20 * SECOND;
/// What is cut is cut so long after the cluster is whole.
const REST: u64 = SECOND;
/// Allowed beyond every bound of the contract: what is on its way when links are cut, late timers, and
/// five looks.
const SLACK: u64 = 5 * LOOK;
/// Whoever gets the log has everything that was decided so long before.
const BEHIND: u64 = 5 * SECOND;

/// The run of all cases of one size before anything is cut: one seed, so the same for all.
#[derive(Clone, Debug)]
pub struct Start {
    plan: Plan,
    /// Who acts as coordinator when links are cut.
    leader: usize,
    /// When they are cut.
    cut: u64,
}

/// How long the cluster took, in nanoseconds after the cut, and what it went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Took {
    /// To the last look at which nobody acted as coordinator.
    pub acting: u64,
    /// To the last term that was decided.
    pub settled: u64,
    /// The longest time without a fresh entry that ended in one.
    pub still: u64,
    /// Terms decided after the cut.
    pub terms: u64,
    /// To the last look at which somebody acted or something was decided.
    pub over: u64,
    /// Hosts under a lease at the end that are too far from the leader to get the log.
    pub unreached: u64,
}

/// What one case came to.
#[derive(Debug)]
pub struct Trial {
    /// The case.
    pub case: Case,
    /// What the oracle says.
    pub forecast: Forecast,
    /// The verdict of the run.
    pub outcome: Outcome,
    /// Times, for cases in which somebody must act.
    pub took: Took,
}

/// Nanoseconds.
fn ns(d: Duration) -> u64 {
    d.as_nanos() as u64
}

impl Start {
    /// Lets a cluster of so many voters form: fast profile, no guests, no fence devices (a device
    /// would switch off hosts, and a graph whose nodes go away is another graph).
    ///
    /// # Errors
    /// It does not become whole: there is nothing to cut.
    pub fn new(nodes: usize, seed: u64) -> Result<Start, String> {
        let mut plan = Plan::new(seed, nodes, nodes, 0);
        plan.devices.fill(None);
        plan.end = FORMED;
        let mut sim = Sim::<Node>::new(plan.clone(), false);
        let mut at = 0;
        while at < FORMED {
            at += LOOK;
            if !sim.run_to(at) {
                let broken = sim.close().violation.map(|v| v.to_string());
                return Err(broken.unwrap_or_default());
            }
            if sim.whole() && sim.acting(at).is_some() {
                let cut = at + REST;
                let whole = sim.run_to(cut);
                let leader = sim.acting(cut).filter(|_| whole);
                let leader = leader.ok_or("the coordinator of a whole cluster did not stay")?;
                return Ok(Start { plan, leader, cut });
            }
        }
        let s = FORMED / SECOND;
        Err(format!(
            "seed {seed}: {nodes} voters are not whole after {s} s"
        ))
    }

    /// The host of each node of the case: its leader is the host that leads, the others follow in
    /// order.
    #[must_use]
    pub fn hosts(&self, case: Case) -> Vec<usize> {
        let mut others = (0..case.graph.nodes()).filter(|h| *h != self.leader);
        (0..case.graph.nodes())
            .map(|node| {
                if node == case.leader {
                    self.leader
                } else {
                    others.next().unwrap_or(self.leader)
                }
            })
            .collect()
    }

    /// The whole run of a case as data, with `seconds` after the cut.
    #[must_use]
    pub fn plan(&self, case: Case, seconds: u64) -> Plan {
        let graph = case.graph.renamed(&self.hosts(case));
        let mut plan = self.plan.clone();
        for from in 0..graph.nodes() {
            for to in (0..graph.nodes()).filter(|to| !graph.passes(from, *to)) {
                let action = Action::Cut {
                    from: Who::Host(from),
                    to: Who::Host(to),
                    net: None,
                };
                plan.timeline.push((self.cut, action));
            }
        }
        plan.end = self.cut + seconds * SECOND;
        plan
    }

    /// Runs a case and judges it.
    #[must_use]
    pub fn run(&self, case: Case, seconds: u64, traced: bool) -> Trial {
        let graph = case.graph.renamed(&self.hosts(case));
        let forecast = forecast(graph.nodes(), |a, b| graph.passes(a, b));
        self.judged(case, forecast, seconds, traced)
    }

    /// Runs a case and compares it with a forecast.
    fn judged(&self, case: Case, forecast: Forecast, seconds: u64, traced: bool) -> Trial {
        let graph = case.graph.renamed(&self.hosts(case));
        let plan = self.plan(case, seconds);
        let end = plan.end;
        let mut judge = Judge::new(&plan.timing, self.cut, end, forecast);
        let mut sim = Sim::<Node>::new(plan, traced);
        // Actions at the very time of the cut are carried out last before it.
        let mut going = sim.run_to(self.cut - 1);
        if going && sim.acting(self.cut - 1) != Some(self.leader) {
            let name = HostName(self.leader);
            let facts = [
                format!("{name} leads when nothing is cut"),
                "it does not in this run".into(),
            ];
            sim.breaks(Violation::new(
                "atlas",
                self.cut,
                "two runs differ".into(),
                facts,
            ));
        }
        judge.begin(&sim);
        let mut at = self.cut;
        while going && at < end {
            at = (at + LOOK).min(end);
            going = sim.run_to(at);
            if going && let Err(v) = judge.look(&sim, at) {
                sim.breaks(v);
                going = false;
            }
        }
        if going {
            let linked = |a, b| graph.linked(a, b);
            judge
                .end(&sim, end, linked)
                .unwrap_or_else(|v| sim.breaks(v));
        }
        Trial {
            case,
            took: judge.took,
            forecast: judge.forecast,
            outcome: sim.close(),
        }
    }
}

/// Compares a run with the oracle, look by look.
struct Judge {
    forecast: Forecast,
    cut: u64,
    /// A coordinator acts from then on.
    acts_by: u64,
    /// Whatever is decided was on its way before.
    over: u64,
    /// No fresh entry may be missing for so long.
    still: u64,
    /// A lease that nothing renews is over by then.
    leases: u64,
    /// Entries seen, and when the newest was.
    seen: usize,
    grew: u64,
    /// From then on entries are too fresh to be asked for at the end, and those before it.
    fresh: u64,
    old: usize,
    took: Took,
}

impl Judge {
    fn new(t: &Timing, cut: u64, end: u64, forecast: Forecast) -> Judge {
        let rate = |d: Duration| ns(d) + ns(d) * u64::from(t.clock_rate_ppm) / 1_000_000;
        let elections = 4 * ns(t.election);
        Judge {
            forecast,
            cut,
            acts_by: cut + elections + ns(t.coordinator_takeover()) + SLACK,
            over: cut + rate(t.coordinator_lease) + SLACK,
            still: elections + SLACK,
            leases: cut + rate(t.lease) + SLACK,
            seen: 0,
            grew: cut,
            fresh: end.saturating_sub(BEHIND),
            old: 0,
            took: Took::default(),
        }
    }

    fn begin(&mut self, sim: &Sim<Node>) {
        self.seen = sim.log().len();
    }

    fn look(&mut self, sim: &Sim<Node>, at: u64) -> Result<(), Violation> {
        let log = sim.log();
        let fresh = &log[self.seen..];
        let terms = fresh
            .iter()
            .filter(|e| matches!(e.body, Entry::Term { .. }));
        let terms = terms.count() as u64;
        let (grown, since) = (!fresh.is_empty(), at - self.cut);
        self.seen = log.len();
        self.took.terms += terms;
        if grown {
            self.took.still = self.took.still.max(at - self.grew);
            self.grew = at;
        }
        if terms > 0 {
            self.took.settled = since;
        }
        let acting = sim.acting(at);
        if acting.is_none() {
            self.took.acting = since;
        }
        if acting.is_some() || grown {
            self.took.over = since;
        }
        if at <= self.fresh {
            self.old = self.seen;
        }
        match self.forecast.hub {
            Some(hub) => self.must_work(at, hub, acting, terms),
            None => self.must_not_work(at, acting, grown),
        }?;
        let mut hosts = self.forecast.keeps.iter().enumerate();
        hosts.try_for_each(|(host, keeps)| self.lease(at, host, *keeps, sim.leased(host)))
    }

    /// Who gets the log at the end, by who leads then: voters in session with the leader, and those
    /// in session with one of them, whom they follow. Others are counted only: a lease renewed by relays
    /// or one-way links does not bring the log, and no promise says that it does.
    fn end(
        &mut self,
        sim: &Sim<Node>,
        at: u64,
        linked: impl Fn(usize, usize) -> bool,
    ) -> Result<(), Violation> {
        let hosts = self.forecast.keeps.len();
        let Some(leader) = sim.acting(at).filter(|_| self.forecast.hub.is_some()) else {
            return Ok(());
        };
        for host in 0..hosts {
            let near = |a: usize, b: usize| a == b || linked(a, b);
            if !(0..hosts).any(|via| near(host, via) && near(via, leader)) {
                self.took.unreached += u64::from(self.forecast.keeps[host]);
                continue;
            }
            let applied = sim.applied(host);
            if applied < self.old as u64 {
                let name = HostName(host);
                let what = format!("{name} does not get the log");
                let first = format!(
                    "{} entries were decided by {}, and {name} is at most two sessions from {}",
                    self.old,
                    At(self.fresh),
                    HostName(leader)
                );
                let second = format!("it has applied {applied} at {}", At(at));
                return Err(Violation::new("L2", at, what, [first, second]));
            }
        }
        Ok(())
    }

    fn must_work(
        &self,
        at: u64,
        hub: usize,
        acting: Option<usize>,
        terms: u64,
    ) -> Result<(), Violation> {
        let linked = format!(
            "{} is linked both ways to a quorum since {}",
            HostName(hub),
            At(self.cut)
        );
        let broken = |what: &str, second: String| {
            Err(Violation::new(
                "L2",
                at,
                what.into(),
                [linked.clone(), second],
            ))
        };
        if at - self.grew > self.still {
            let second = format!("no fresh entry was decided since {}", At(self.grew));
            return broken("a connected majority decides nothing", second);
        }
        if at <= self.acts_by {
            return Ok(());
        }
        if acting.is_none() {
            let second = format!("nobody acts as coordinator at {}", At(at));
            return broken("a connected majority has no coordinator", second);
        }
        if terms > 0 {
            let second = format!("a term is decided at {}", At(at));
            return broken("the leader changes though the links do not", second);
        }
        Ok(())
    }

    fn must_not_work(&self, at: u64, acting: Option<usize>, grown: bool) -> Result<(), Violation> {
        let second = match acting {
            _ if at <= self.over => return Ok(()),
            Some(host) => format!("{} acts as coordinator at {}", HostName(host), At(at)),
            None if grown => format!("an entry is decided at {}", At(at)),
            None => return Ok(()),
        };
        let none = format!(
            "no voter is linked both ways to a quorum since {}",
            At(self.cut)
        );
        let what = "a minority decides".into();
        Err(Violation::new("oracle", at, what, [none, second]))
    }

    fn lease(&self, at: u64, host: usize, keeps: bool, has: bool) -> Result<(), Violation> {
        let name = HostName(host);
        let (what, first, second) = match (keeps, has) {
            (true, false) => (
                format!("{name} loses its lease"),
                format!("a quorum of voters can acknowledge {name}"),
                format!("its lease is over at {}", At(at)),
            ),
            (false, true) if at > self.leases => (
                format!("{name} keeps its lease"),
                format!(
                    "fewer than a quorum can acknowledge {name} since {}",
                    At(self.cut)
                ),
                format!("its lease goes on at {}", At(at)),
            ),
            _ => return Ok(()),
        };
        Err(Violation::new("oracle", at, what, [first, second]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the judge says of a case under a forecast that is changed.
    fn under(case: &str, change: impl Fn(&mut Forecast)) -> String {
        let start = Start::new(3, 1).expect("three voters form a cluster");
        let case: Case = case.parse().expect("a case");
        let true_one = start.run(case, 20, false);
        assert_eq!(true_one.outcome.violation, None, "{case}");
        let mut forecast = true_one.forecast;
        change(&mut forecast);
        let other = start.judged(case, forecast, 20, false).outcome;
        other.violation.map(|v| v.what).unwrap_or_default()
    }

    #[test]
    fn a_wrong_forecast_is_noticed_both_ways() {
        // Nobody is linked; then: everybody is.
        let no_work = under("3-0-1", |f| f.hub = Some(0));
        assert_eq!(no_work, "a connected majority decides nothing");
        let no_rest = under("3-3f-1", |f| f.hub = None);
        assert_eq!(no_rest, "a minority decides");
        let lost = under("3-0-1", |f| f.keeps[2] = true);
        assert_eq!(lost, "h3 loses its lease");
        let kept = under("3-3f-1", |f| f.keeps[2] = false);
        assert_eq!(kept, "h3 keeps its lease");
    }

    #[test]
    fn the_leader_of_a_case_is_the_host_that_leads() {
        let start = Start::new(4, 1).expect("four voters form a cluster");
        for leader in 0..4 {
            let case: Case = format!("4-1-{}", leader + 1).parse().expect("a case");
            let hosts = start.hosts(case);
            assert_eq!(hosts[leader], start.leader);
            let mut all = hosts.clone();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3]);
            // Eleven of twelve links are cut.
            assert_eq!(start.plan(case, 60).timeline.len(), 11);
        }
    }
}
