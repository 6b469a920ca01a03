//! Bugs of the driver around the node, planted on purpose: what the daemon's own loop must not do.

use super::{Sim, SimNode};
use crate::mutants;
use quorate_membership::Time;
use quorate_membership::store::Image;
use quorate_recovery::contract::Fact;

impl<N: SimNode> Sim<N> {
    /// The time given with a fact: read when the fact is in hand (C6).
    pub(super) fn clock_for(&mut self, host: usize, fact: &Fact) -> Time {
        let now = Time(self.world.reading(host));
        let read = &mut self.hosts[host].read;
        if read.0 != self.world.now() {
            *read = (self.world.now(), read.2, now);
        }
        let came = matches!(fact, Fact::Frame { .. } | Fact::Stream { .. });
        if came && mutants::host("time-before-fact") {
            return read.1;
        }
        now
    }

    /// What a daemon does wrong as it starts.
    pub(super) fn flaws_of_start(&mut self, host: usize) {
        let h = &mut self.hosts[host];
        if mutants::host("store-made-anew") && self.world.disk(host).failed {
            let i = &h.image;
            h.image = Image::new(i.node, i.store, i.incarnation, i.founding.clone());
            h.promises.clear();
            self.s10.cut(host, 0);
        }
        let g = &mut self.hosts[host].guardian;
        if mutants::host("restart-grants-fresh-lease") && g.end.is_some() {
            g.end = Some(Time(self.world.reading(host)) + self.plan.timing.lease);
        }
    }
}
