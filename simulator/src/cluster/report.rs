//! Clients, expectations, and what a run comes to.

use super::action::Wish;
use super::plan::Expected;
use super::{Event, Sim, SimNode, nodes};
use crate::check::l2::Stretch;
use crate::check::s10::S10;
use crate::check::{HostName, Violation, l1};
use crate::harness::Outcome;
use crate::record::Record;
use crate::world::{MS, SECOND};
use quorate_recovery::contract::Reply;

/// What a violation can be of: the promises that have a checker, and a panic of the node.
pub const PROPERTIES: &[&str] = &[
    "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S14", "S15", "S16", "S17", "N1",
    "N2", "N3", "L1", "L2", "panic",
];

impl<N: SimNode> Sim<N> {
    /// From the last fault until every process runs and every session is open.
    pub(super) fn settle_time(&self) -> u64 {
        4 * SECOND
    }

    /// Clients ask for every guest that the log does not know yet.
    pub(super) fn clients(&mut self) {
        let mut missing = false;
        for guest in 0..self.plan.guests {
            if self.guest_ids[guest].is_some() {
                continue;
            }
            self.guest_ids[guest] = self.audit.guest_named(&format!("g{}", guest + 1));
            if self.guest_ids[guest].is_none() {
                missing = true;
                let host = self.client_rng.index(self.plan.hosts);
                self.add_guest(host, guest);
            }
        }
        if missing {
            let wait = self.client_rng.range(500 * MS, 800 * MS);
            self.world.after(wait, Event::Clients);
        }
    }

    pub(super) fn replied(&mut self, client: u64, reply: &Reply) {
        let Some(at) = self.asked.iter().position(|(c, _)| *c == client) else {
            return;
        };
        let (_, wish) = self.asked.swap_remove(at);
        match (reply, wish) {
            (Reply::Done { .. }, wish) => {
                self.acknowledged.push((client, self.world.now(), wish));
            }
            // A guest is asked for again and again, so another's asking may bring it.
            (Reply::Refused(_) | Reply::NotProposed(_), Wish::Message) => self.denied.push(client),
            (Reply::Refused(_) | Reply::NotProposed(_), Wish::Guest(_)) | (Reply::Unknown, _) => {}
        }
    }

    /// A voter restarts (it was fenced, or its old life was proved ended): what L2 promises counts
    /// from when it is back.
    pub(super) fn liveness_again(&mut self, host: usize) {
        let healed = self.plan.healed.is_some_and(|at| self.world.now() >= at);
        if healed && host < self.plan.voters {
            self.stretch = None;
            self.stretches += 1;
            let (settle, number) = (self.settle_time(), self.stretches);
            self.world
                .after(settle, Event::Liveness { step: 0, number });
        }
    }

    /// L2, in three steps: the condition holds; a fresh entry; a coordinator.
    pub(super) fn liveness(&mut self, step: u8, number: u32) {
        if number != self.stretches {
            return;
        }
        let now = self.world.now();
        let t = &self.plan.timing;
        let slack = SECOND;
        let elections = 4 * t.election.as_nanos() as u64 + slack;
        let takeover = t.coordinator_takeover().as_nanos() as u64 + slack;
        let decided = self.audit.log.len() as u64;
        match (step, self.stretch) {
            (0, _) => {
                let Some(hub) = self.hub() else { return };
                self.stretch = Some(Stretch {
                    since: now,
                    hub,
                    decided,
                });
                self.act(&super::action::Action::Ask(
                    super::action::Who::Host(hub),
                    super::action::Ask::Publish,
                ));
                self.world
                    .after(elections, Event::Liveness { step: 1, number });
            }
            (1, Some(s)) => {
                let result = s.decided(now, decided);
                self.hold(result);
                self.world
                    .after(takeover, Event::Liveness { step: 2, number });
            }
            (_, Some(s)) => {
                let result = s.acting(now, self.s6.acting(now));
                self.hold(result);
            }
            _ => {}
        }
    }

    pub(super) fn unexpected(&mut self, line: usize, text: String) {
        let at = self.world.now();
        self.hold(Err(Violation::new(
            "expectation",
            at,
            format!("line {line} of the scenario does not hold"),
            [format!("expected on line {line}"), text],
        )));
    }

    /// Judges one expectation at its time.
    pub(super) fn judge(&mut self, i: usize) {
        let e = self.plan.expect[i].clone();
        let now = self.world.now();
        let runs_on = |sim: &Self, guest: usize| {
            let id = sim.guest_ids[guest].or_else(|| {
                let name = format!("g{}", guest + 1);
                sim.audit.guest_named(&name)
            });
            id.and_then(|g| sim.s1.writer(g))
        };
        let counts = |sim: &Self, host: usize| {
            let of = sim.audit.counts.get(&nodes::id(host));
            of.copied().unwrap_or_default()
        };
        let place = |at: Option<usize>| match at {
            Some(host) => format!("on {}", HostName(host)),
            None => "nowhere".into(),
        };
        let wrong = match &e.what {
            Expected::Runs { guest, on } => {
                let at = runs_on(self, *guest);
                let fits = at.is_some() && on.is_none_or(|on| at == Some(on));
                (!fits).then(|| format!("guest g{} runs {}", guest + 1, place(at)))
            }
            Expected::NotRuns { guest, on } | Expected::RunsNot { guest, on } => {
                if matches!(e.what, Expected::NotRuns { .. }) {
                    self.standing.push(i);
                }
                let at = runs_on(self, *guest);
                let fits = at.is_none() || on.is_some_and(|on| at != Some(on));
                (!fits).then(|| format!("guest g{} runs {}", guest + 1, place(at)))
            }
            Expected::NeverFenced(host) => {
                let cuts = self.hosts[*host].cuts;
                (cuts > 0).then(|| format!("{} was cut {cuts} times", HostName(*host)))
            }
            Expected::Fenced(host) => {
                let cuts = self.hosts[*host].cuts;
                (cuts == 0).then(|| format!("{} was never cut", HostName(*host)))
            }
            Expected::NeverLost(host) => {
                let n = counts(self, *host).revokes;
                (n > 0).then(|| format!("{} verdicts fell on {}", n, HostName(*host)))
            }
            Expected::Lost(host) => {
                let n = counts(self, *host).revokes;
                (n == 0).then(|| format!("no verdict fell on {}", HostName(*host)))
            }
            Expected::StartsAtMost { guest, starts } => {
                let started = |g: usize| {
                    let of = self
                        .starts
                        .iter()
                        .find(|(id, _)| Some(*id) == self.guest_ids[g]);
                    of.map_or(0, |(_, n)| *n)
                };
                let mut each = guest.map_or(0..self.plan.guests, |g| g..g + 1);
                let often = each.find(|g| started(*g) > *starts);
                often.map(|g| format!("guest g{} was started {} times", g + 1, started(g)))
            }
            Expected::RebootsAtMost { host, reboots } => {
                let mut each = host.map_or(0..self.plan.hosts, |h| h..h + 1);
                let often = each.find(|h| self.hosts[*h].outages > *reboots);
                often.map(|h| {
                    let times = self.hosts[h].outages;
                    format!("{} lost its power {times} times", HostName(h))
                })
            }
            Expected::NoFencing => {
                let cut = (0..self.plan.hosts).find(|h| self.hosts[*h].cuts > 0);
                cut.map(|h| format!("a device cut {}", HostName(h)))
            }
            Expected::Power { host, on } => {
                let is = self.hosts[*host].on;
                (is != *on).then(|| format!("{} has power: {is}", HostName(*host)))
            }
            Expected::ChangesAtMost { most, since } => {
                let n = self.watch.changes.iter().filter(|t| **t >= *since).count() as u64;
                (n > *most).then(|| format!("the coordinator changed {n} times"))
            }
            Expected::TermsAtMost { most, since } => {
                let n = self.watch.terms.iter().filter(|t| **t >= *since).count() as u64;
                (n > *most).then(|| format!("{n} terms began"))
            }
            Expected::Broken(promises) => Some(format!("{} held", promises.join(" and "))),
            Expected::Coordinator { not } => {
                let acting = self.s6.acting(now);
                let not = not.as_ref().map(|w| self.who(w));
                match acting {
                    None => Some("nobody acts as coordinator".into()),
                    Some(host) if Some(host) == not => {
                        Some(format!("{} acts as coordinator", HostName(host)))
                    }
                    Some(_) => None,
                }
            }
            Expected::NoCoordinator => {
                let acting = self.s6.acting(now);
                acting.map(|host| format!("{} acts as coordinator", HostName(host)))
            }
            Expected::Well(guest) => {
                let at = runs_on(self, *guest);
                let id = self.guest_ids[*guest];
                let ill = at.and_then(|host| {
                    let procs = self.hosts[host].procs.iter();
                    let mut found = procs.filter(|p| Some(p.guest) == id);
                    found.find(|p| !p.mind.mood.well()).map(|p| p.mind.mood)
                });
                match (at, ill) {
                    (None, _) => Some(format!("guest g{} runs nowhere", guest + 1)),
                    (_, Some(mood)) => Some(format!("guest g{} is {mood:?}", guest + 1)),
                    _ => None,
                }
            }
            Expected::AllRun => (0..self.plan.guests)
                .find(|g| runs_on(self, *g).is_none())
                .map(|g| format!("guest g{} runs nowhere", g + 1)),
            Expected::NoneRuns => (0..self.plan.guests)
                .find_map(|g| Some((g, runs_on(self, g)?)))
                .map(|(g, at)| format!("guest g{} runs on {}", g + 1, HostName(at))),
            Expected::NoMember(host) => self
                .is_member(*host)
                .then(|| format!("{} is one", HostName(*host))),
            Expected::Member(host) => (!self.is_member(*host)).then(|| {
                let record = self.audit.hosts.get(&nodes::id(*host));
                format!("{} is not: {record:?}", HostName(*host))
            }),
        };
        if let Some(text) = wrong {
            self.unexpected(e.line, text);
        }
    }

    /// What must hold when the run is over.
    pub(super) fn end(&mut self) {
        let now = self.plan.end;
        self.compare();
        let grounded = self.s2.end(now, 2 * SECOND);
        self.hold(grounded);
        // No disk may say yet that what was acknowledged just now is decided.
        let late = now.saturating_sub(SECOND);
        self.acknowledged.retain(|(_, at, _)| *at < late);
        for (client, _, wish) in std::mem::take(&mut self.acknowledged) {
            let kept = match wish {
                Wish::Guest(guest) => S10::added(now, &format!("g{}", guest + 1), &self.audit),
                Wish::Message => S10::published(now, client, &self.audit),
            };
            self.hold(kept);
        }
        let told = self.told.end(now, &self.audit.messages);
        self.hold(told);
        for client in std::mem::take(&mut self.denied) {
            let denied = S10::denied(now, client, &self.audit);
            self.hold(denied);
        }
        if let Some(healed) = self.plan.healed {
            if self.audit.guests.len() < self.plan.guests {
                let known = self.audit.guests.len();
                let what = "a guest that clients ask for is never added".to_owned();
                let facts = [
                    format!("clients asked for {} guests", self.plan.guests),
                    format!("{known} are in the log"),
                ];
                self.hold(Err(Violation::new("L1", now, what, facts)));
            }
            let run = l1::end(now, healed, &self.audit, &self.s1, &self.locks.s15);
            self.hold(run);
        }
    }

    /// Whether the plan expects this violation, by this time.
    fn foreseen(&self, v: &Violation) -> bool {
        self.plan.expect.iter().any(|e| match &e.what {
            Expected::Broken(promises) => v.at <= e.at && promises.contains(&v.property),
            _ => false,
        })
    }

    pub(super) fn outcome(mut self) -> Outcome {
        let record = self.world.take_record();
        self.violation = self.violation.take().filter(|v| !self.foreseen(v));
        let mut exposure = std::mem::take(&mut self.exposure);
        let mut count = |name: &'static str, n: u64| exposure.add(name, n);
        count("entries", self.audit.log.len() as u64);
        for c in self.audit.counts.values() {
            count("verdicts", c.revokes.into());
            count("leases expired", c.expired.into());
            count("hosts fenced", c.fenced.into());
        }
        let cuts = self.hosts.iter().map(|h| u64::from(h.cuts));
        count("power cuts", cuts.sum());
        count("kills at lease end", self.kills.into());
        count(
            "starts",
            self.starts.iter().map(|(_, n)| u64::from(*n)).sum(),
        );
        count("remedies", self.remedies.into());
        count("triggers", self.triggered());
        Outcome {
            seed: self.plan.seed,
            hash: self.hash.finish(),
            violation: self.violation,
            events: self.world.events(),
            ended: self.world.now(),
            exposure,
            trace: record.as_ref().map_or(Vec::new(), Record::trace),
            record,
        }
    }
}
