//! A run looked at while it goes on, for judges that compare it with what the links allow.

use super::{Sim, SimNode, nodes};
use crate::check::Violation;
use crate::harness::Outcome;
use quorate_membership::Time;
use quorate_membership::entry::LogEntry;
use quorate_recovery::command::Command;

impl<N: SimNode> Sim<N> {
    /// Runs up to true time `until`. False if a promise is broken by then; it goes no further.
    pub(crate) fn run_to(&mut self, until: u64) -> bool {
        while self.violation.is_none() {
            let Some(h) = self.world.next(until) else {
                return true;
            };
            self.happen(h);
        }
        false
    }

    /// A broken promise that this run's own checkers do not know.
    pub(crate) fn breaks(&mut self, violation: Violation) {
        self.hold(Err(violation));
    }

    /// The verdict of a run that is over.
    pub(crate) fn close(mut self) -> Outcome {
        if self.violation.is_none() {
            self.end();
        }
        self.outcome()
    }

    /// Who acts as coordinator at true time `at`.
    pub(crate) fn acting(&self, at: u64) -> Option<usize> {
        self.s6.acting(at)
    }

    /// Every entry decided so far.
    pub(crate) fn log(&self) -> &[LogEntry<Command>] {
        &self.audit.log
    }

    /// Whether the host's lease goes on, by its guardian's record and its own clock.
    pub(crate) fn leased(&self, host: usize) -> bool {
        let now = Time(self.world.reading(host));
        self.hosts[host].guardian.end.is_some_and(|end| end > now)
    }

    /// How many entries the node of a host has applied; none while it is down.
    pub(crate) fn applied(&self, host: usize) -> u64 {
        let node = self.nodes[host].as_ref();
        node.map_or(0, |n| n.applied())
    }

    /// How many guests can write somewhere.
    pub(crate) fn guests_running(&self) -> usize {
        let known = self.guest_ids.iter().flatten();
        known.filter(|g| self.s1.writer(**g).is_some()).count()
    }

    /// Whether every host is a member under a lease, in session with every other.
    pub(crate) fn whole(&mut self) -> bool {
        let hosts = self.plan.hosts;
        let member = |h: usize| {
            let record = self.audit.hosts.get(&nodes::id(h));
            self.is_member(h) && self.leased(h) && record.is_some_and(|r| r.armed)
        };
        if !(0..hosts).all(member) {
            return false;
        }
        let mut pairs = (0..hosts).flat_map(|a| (a + 1..hosts).map(move |b| (a, b)));
        pairs.all(|(a, b)| self.world.in_session(a, b))
    }
}
