//! What goes wrong with a host's hypervisor, its way to the shared storage and its watchdog.

use super::action::{WatchdogMode, Who};
use super::picture::mark;
use super::{Local, Sim, SimNode};
use crate::world::MS;
use quorate_membership::entry::ArmedClass;
use quorate_recovery::contract::Fact;

impl<N: SimNode> Sim<N> {
    /// The hypervisor's daemon ends and comes back: what it had in hand is refused when it is back.
    pub(super) fn hypervisor_crash(&mut self, who: &Who, length: u64) {
        let host = self.who(who);
        let until = self.world.now() + length;
        mark!(self, host, Note, "hypervisor crashes");
        let h = &mut self.hosts[host];
        h.silent_until = h.silent_until.max(until);
        h.untold_until = h.untold_until.max(until);
        h.aborted = h.creation_number;
        self.disturb(host, length);
    }

    /// Guests stop at their next write, whoever lets them go on, until the storage is back.
    pub(super) fn storage_gone(&mut self, who: &Who, length: u64) {
        let host = self.who(who);
        let until = self.world.now() + length;
        self.hosts[host].storage_gone_until = until;
        for at in 0..self.hosts[host].procs.len() {
            self.meets_its_disk(host, at);
        }
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
