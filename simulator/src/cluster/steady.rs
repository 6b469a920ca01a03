//! What the checkers of S4 and S7 are told of links, processes and disks.

use super::guests::ns;
use super::{Sim, SimNode, nodes};
use crate::world::{Link, SECOND};
use quorate_membership::Token;
use quorate_membership::entry::{Entry, Ground};
use quorate_recovery::command::Command;

impl<N: SimNode> Sim<N> {
    /// A host that is held for so long has no reason left to lose anything: daemons and sessions are
    /// back, the log has moved on, and every lease has been renewed since.
    fn long(&self) -> u64 {
        let t = &self.plan.timing;
        let lease = ns(t.lease);
        self.settle_time() + 2 * lease + 10 * ns(t.election) + SECOND
    }

    /// Something was done: links may have changed.
    pub(super) fn note_links(&mut self) {
        let now = self.world.now();
        let trip = ns(self.plan.timing.round_trip);
        let quick = |l: &Link| l.long == 0 && l.gap == 0 && l.base + l.jitter <= trip / 2;
        let kind = |l: &Link| l.loss == 0 && l.reorder == 0 && quick(l);
        for a in 0..self.plan.hosts {
            for b in 0..a {
                let whole = (0..self.plan.networks).any(|net| {
                    let (there, back) = (self.world.link(net, a, b), self.world.link(net, b, a));
                    whole(there) && kind(there) && whole(back) && kind(back)
                });
                self.s4.link(now, a, b, whole);
            }
        }
    }

    /// An entry was decided that may say something of hosts.
    pub(super) fn note_hosts(&mut self, token: Token) {
        let now = self.world.now();
        let long = self.long();
        match &self.audit.log[token.index() as usize - 1].body {
            Entry::Admit { node, .. } => self.s4.admitted(now, node.0 as usize - 1),
            Entry::Revoke { hosts } => {
                let judged = hosts.iter().filter(|(.., why)| *why != Ground::Ordered);
                let mut reasons =
                    judged.map(|(node, ..)| self.s4.judged(now, node.0 as usize - 1, long));
                let reason = reasons.find(Result::is_err).unwrap_or(Ok(()));
                self.hold(reason);
            }
            _ => {}
        }
    }

    /// The guardian begins to end guests because the lease is over.
    pub(super) fn note_expiry(&mut self, host: usize) {
        let judged = self
            .audit
            .hosts
            .get(&nodes::id(host))
            .is_none_or(|r| r.revoke.is_some() || r.proved || r.away);
        if !judged && !self.hosts[host].procs.is_empty() {
            let reason = self.s4.expired(self.world.now(), host, self.long());
            self.hold(reason);
        }
    }

    /// Voters whose disk holds the entry of an attempt on `host`, cut into a snapshot or not. One
    /// whose store was lost is taken to have held it.
    pub(super) fn holders(&self, host: usize, attempt: Token) -> usize {
        let index = attempt.index();
        let names = |e: &Entry<Command>| matches!(e, Entry::Attempt { host: h, .. } if *h == nodes::id(host));
        let holds = |v: &usize| {
            let image = &self.hosts[*v].image;
            let place = index.checked_sub(image.trimmed + 1);
            self.hosts[*v].rotten
                || place.is_none_or(|at| image.log.get(at as usize).is_some_and(|e| names(&e.body)))
        };
        (0..self.plan.voters).filter(holds).count()
    }
}

/// Whether everything passes a link.
pub(super) fn whole(l: &Link) -> bool {
    !l.cut && !l.clogged && l.blocked == 0 && l.largest == 0
}
