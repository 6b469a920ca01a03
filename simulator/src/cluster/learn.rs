//! What reaches a disk, and what the checkers learn from it.

use super::fingerprint::entry_name;
use super::nodes::id;
use super::{Local, Sim, SimNode};
use crate::check::Violation;
use crate::check::audit::Finding;
use crate::check::s10::S10;
use quorate_membership::{Time, Token};
use quorate_recovery::contract::{Fact, NodeWrite};

impl<N: SimNode> Sim<N> {
    /// A batch reached the disk.
    pub(super) fn stored(&mut self, host: usize, batch: u64, writes: Vec<NodeWrite>) {
        self.write(host, writes);
        self.learn(host);
        self.world
            .tell(host, 0, Local::fact(Fact::Persisted { batch }));
    }

    pub(super) fn write(&mut self, host: usize, writes: Vec<NodeWrite>) {
        match self.hosts[host].store(writes) {
            Ok(None) => {}
            Ok(Some(length)) => self.s10.cut(host, length),
            Err(why) => {
                let at = self.world.now();
                let name = self.name(host);
                self.hold(Err(Violation::new(
                    "S10",
                    at,
                    format!("the store of {name} refuses a write"),
                    ["writes continue what is stored".into(), why],
                )));
            }
        }
    }

    /// Lets the auditor read what a disk says is decided.
    pub(super) fn learn(&mut self, host: usize) {
        let now = self.world.now();
        let mut found = std::mem::take(&mut self.found);
        let image = &self.hosts[host].image;
        let agreed = self
            .s10
            .check(now, host, image, &mut self.audit, &mut found);
        self.hold(agreed);
        if !found.is_empty() {
            for (token, finding) in found.drain(..) {
                self.hash.add(token.0);
                self.finding(host, token, finding);
            }
            let grounded = self.s2.grown(&self.audit);
            self.hold(grounded);
            self.judge_cuts();
        }
        self.found = found;
    }

    fn finding(&mut self, at: usize, token: Token, finding: Finding) {
        let above = S10::above(self.world.now(), token, self.plan.founded);
        self.hold(above);
        self.note_order(token);
        let body = &self.audit.log[token.index() as usize - 1].body;
        let name = match &finding {
            Finding::Void(why) => format!("void: {why}"),
            _ => format!("entry: {}", entry_name(body)),
        };
        self.exposure.add(name, 1);
        if let Finding::Void(why) = &finding {
            self.mark_entry(at, token, Some(why));
        } else {
            self.mark_entry(at, token, None);
            self.draw_entry(token);
        }
        if !matches!(finding, Finding::Void(_)) {
            self.note_wish(token);
            self.decided(token);
            self.note_hosts(token);
        }
        let now = self.world.now();
        let (node, how) = match finding {
            Finding::Proved { host, drained } => {
                if drained {
                    self.lease_proved_over(host.0 as usize - 1);
                }
                let how = if drained {
                    "lease expired"
                } else {
                    "fenced or confirmed"
                };
                (host, how)
            }
            Finding::Renewed { host } => (host, "a new boot, or emptied"),
            Finding::Closed { guest, host, epoch } => {
                let at = host.0 as usize - 1;
                let runs = self.hosts[at]
                    .procs
                    .iter()
                    .find(|p| p.guest == guest && p.epoch <= epoch && p.writing);
                if let Some(p) = runs {
                    let v = Violation::new(
                        "S14",
                        now,
                        format!("the word of {} is not true", self.name(at)),
                        [
                            format!("entry {token}: it closed {guest} up to epoch {epoch}"),
                            format!("{guest} of epoch {} can write there", p.epoch),
                        ],
                    );
                    self.hold(Err(v));
                }
                return;
            }
            Finding::Plain | Finding::Void(_) => return,
        };
        let host = node.0 as usize - 1;
        let h = &self.hosts[host];
        let counts = h.guardian.uncovered <= now;
        let procs = h.procs.iter().filter(|p| p.writing && counts);
        let running = procs.map(|p| (p.guest, p.epoch));
        let true_proof = self.s14.proved(now, host, token, how, running);
        self.hold(true_proof);
    }

    /// The log says that a host's lease is over: so it must be, by what was really sent.
    fn lease_proved_over(&mut self, host: usize) {
        let now = self.world.now();
        let record = self.audit.hosts.get(&id(host));
        let incarnation = record.map_or(0, |r| r.incarnation.counter);
        let t = &self.plan.timing;
        let end = t.kill.max(t.watchdog * 2 + t.watchdog_granularity);
        let after = end + t.drain;
        let clock = Time(self.world.reading(host));
        let over = self.s3.proved_over(now, host, incarnation, clock, after);
        self.hold(over);
    }
}
