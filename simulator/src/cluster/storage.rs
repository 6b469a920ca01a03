//! What goes wrong with a host's hypervisor, its way to the shared storage and its watchdog.

use super::action::{WatchdogMode, Who};
use super::picture::mark;
use super::{Event, Sim, SimNode};
use quorate_recovery::observation::Cause;

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
        if mode == WatchdogMode::Absent {
            // The daemon reads of it with the guardian's counter.
            h.watchdog = false;
        }
    }

    /// The storage holds what is written from now on: a write that is under way is done when it
    /// answers again, whatever became of the guest.
    pub(super) fn writes_held(&mut self, who: &Who, length: u64) {
        let host = self.who(who);
        if !self.hosts[host].on {
            return;
        }
        let h = &mut self.hosts[host];
        h.writes_held_until = h.writes_held_until.max(self.world.now() + length);
        for p in &mut h.procs {
            p.held |= p.writing;
        }
        let boot = h.boot;
        self.world.after(length, Event::GoesOn { host, boot });
    }

    /// The storage answers again: held writes are done, and what was ended meanwhile is gone.
    pub(super) fn writes_go_on(&mut self, host: usize) {
        if self.hosts[host].writes_held_until > self.world.now() {
            return;
        }
        for at in (0..self.hosts[host].procs.len()).rev() {
            let p = &mut self.hosts[host].procs[at];
            let held = std::mem::take(&mut p.held);
            if p.killed {
                self.gone(host, at, "it was ended before", Cause::Died);
            } else if held {
                self.set_writing(host, at);
            }
        }
    }

    /// Nobody gets an answer who looks through the processes of a host.
    pub(super) fn scan_hangs(&mut self, who: &Who, length: u64) {
        let host = self.who(who);
        if !self.hosts[host].on {
            return;
        }
        let h = &mut self.hosts[host];
        h.scan_hangs_until = h.scan_hangs_until.max(self.world.now() + length);
        let boot = h.boot;
        self.world.after(length, Event::GoesOn { host, boot });
    }

    /// A guest's processes go where only the kernel's count of their group shows them.
    pub(super) fn hides(&mut self, guest: usize) {
        let id = self.guest_ids[guest];
        for host in &mut self.hosts {
            let mut procs = host.procs.iter_mut();
            if let Some(p) = procs.find(|p| Some(p.guest) == id) {
                p.hidden = true;
            }
        }
    }
}
