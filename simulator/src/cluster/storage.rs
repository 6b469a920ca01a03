//! What goes wrong with a host's hypervisor and its watchdog.

use super::action::{WatchdogMode, Who};
use super::{Local, Sim, SimNode, trace};
use crate::world::MS;
use quorate_membership::entry::ArmedClass;
use quorate_recovery::contract::Fact;

impl<N: SimNode> Sim<N> {
    /// The hypervisor's daemon ends and comes back: what it had in hand is refused when it is back.
    pub(super) fn hypervisor_crash(&mut self, who: &Who, length: u64) {
        let host = self.who(who);
        let until = self.world.now() + length;
        trace!(self, "{} hypervisor crashes", self.name(host));
        let h = &mut self.hosts[host];
        h.silent_until = h.silent_until.max(until);
        h.untold_until = h.untold_until.max(until);
        h.aborted = h.creation_number;
        self.disturb(host, length);
    }

    pub(super) fn watchdog_turns(&mut self, who: &Who, mode: WatchdogMode) {
        let host = self.who(who);
        let h = &mut self.hosts[host];
        h.watchdog_mode = mode;
        if mode == WatchdogMode::Absent && h.watchdog {
            h.watchdog = false;
            let fact = Fact::Armed(Some(ArmedClass::Guardian));
            self.world.tell(host, MS, Local::fact(fact));
        }
    }
}
