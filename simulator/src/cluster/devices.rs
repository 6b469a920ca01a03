//! Power: fence devices, outages, frozen hosts.

use super::action::DeviceMode;
use super::host::Guardian;
use super::{Event, Local, Sim, SimNode, trace};
use crate::check::s8;
use crate::world::MS;
use quorate_membership::entry::AttemptEnd;
use quorate_membership::{BootId, Time, Token};
use quorate_recovery::contract::{Fact, FenceLaunch};

impl<N: SimNode> Sim<N> {
    /// The daemon's driver is about to launch a fence agent.
    pub(super) fn launch(&mut self, by: usize, launch: FenceLaunch) {
        let clock = Time(self.world.reading(by));
        let host = (launch.host.0 as usize).wrapping_sub(1);
        let attempt = launch.attempt;
        if clock > launch.not_after || host >= self.plan.hosts {
            trace!(self, "{} attempt {attempt} is not launched", self.name(by));
            self.fenced(by, 0, attempt, AttemptEnd::NotLaunched);
            return;
        }
        let limit = launch.limit.as_nanos() as u64;
        let life = self.world.life(by);
        let reach = !self.world.link(self.plan.networks, by, host).cut;
        let mode = self.hosts[host].device.filter(|_| reach);
        let rng = &mut self.fence_rng;
        let (act, left) = match mode {
            Some(DeviceMode::Works) => {
                let act = rng.range(20 * MS, 800 * MS);
                (act, rng.range(MS, 300 * MS))
            }
            Some(DeviceMode::Late) => {
                // Given up at the limit; the device acts all the same, before it.
                self.fenced(by, limit, attempt, AttemptEnd::Unknown);
                (self.fence_rng.range(limit / 3, limit), u64::MAX)
            }
            Some(DeviceMode::Lies) => {
                let delay = rng.range(100 * MS, 500 * MS);
                self.fenced(by, delay, attempt, AttemptEnd::Off);
                return;
            }
            Some(DeviceMode::Fails) => {
                let delay = rng.range(50 * MS, 500 * MS);
                self.fenced(by, delay, attempt, AttemptEnd::Failed);
                return;
            }
            Some(DeviceMode::Gone) | None => {
                self.fenced(by, limit, attempt, AttemptEnd::Unknown);
                return;
            }
        };
        let act = if left == u64::MAX {
            act
        } else {
            act.min(limit / 2)
        };
        self.world.after(
            act,
            Event::FenceAct {
                by,
                life,
                attempt,
                host,
                left,
            },
        );
    }

    fn fenced(&mut self, by: usize, delay: u64, attempt: Token, end: AttemptEnd) {
        let fact = Fact::FenceDone {
            attempt,
            end,
            detail: format!("simulated: {end:?}"),
        };
        self.world.tell(by, delay, Local::Fact(fact));
    }

    /// A device cuts a host, whatever has become of who asked for it.
    pub(super) fn fence_act(
        &mut self,
        by: usize,
        life: u32,
        attempt: Token,
        host: usize,
        left: u64,
    ) {
        let now = self.world.now();
        trace!(self, "{} is CUT for attempt {attempt}", self.name(host));
        self.hosts[host].cuts += 1;
        if self.hosts[host].on {
            if attempt.index() > self.audit.log.len() as u64 {
                self.cuts.push((now, host, attempt));
            } else {
                let meant = s8::cut(now, host, attempt, &self.audit);
                self.hold(meant);
            }
        }
        let back = self.fence_rng.range(200 * MS, 6000 * MS);
        self.power_off(host, Some(back));
        if left != u64::MAX && self.world.life(by) == life {
            self.fenced(by, left, attempt, AttemptEnd::Off);
        }
    }

    /// Power is gone, and comes back after `back`.
    pub(super) fn power_off(&mut self, host: usize, back: Option<u64>) {
        if !self.hosts[host].on {
            return;
        }
        trace!(self, "{} loses power", self.name(host));
        self.hosts[host].on = false;
        self.set_all_writing(host);
        let h = &mut self.hosts[host];
        h.procs.clear();
        h.creations.clear();
        h.busy.clear();
        h.frozen_until = 0;
        h.guardian = Guardian {
            fed: h.guardian.fed + 1,
            ..Guardian::default()
        };
        let boot = h.boot;
        self.world.set_reachable(host, false);
        self.crash(host);
        if let Some(back) = back {
            self.world.after(back, Event::PowerOn { host, boot });
        }
    }

    pub(super) fn power_on(&mut self, host: usize) {
        let h = &mut self.hosts[host];
        if h.on {
            return;
        }
        h.on = true;
        h.boot += 1;
        h.stuck_kill = false;
        h.silent_until = 0;
        let bits = (self.process_rng.bits(), self.process_rng.bits());
        h.profile.boot = BootId(u128::from(bits.0) << 64 | u128::from(bits.1));
        let (boot, watchdog) = (h.boot, h.watchdog);
        trace!(self, "{} has power, boot {boot}", self.name(host));
        self.world.set_reachable(host, true);
        let delay = self.process_rng.range(100 * MS, 1500 * MS);
        self.world.after(delay, Event::DaemonStart { host, boot });
        if watchdog {
            self.world.after(MS, Event::FeedLook { host, boot });
        }
    }

    /// The whole host stands still; only a hardware watchdog goes on counting.
    pub(super) fn freeze(&mut self, host: usize, length: u64) {
        let until = self.world.now() + length;
        let h = &mut self.hosts[host];
        if !h.on || until <= h.frozen_until {
            return;
        }
        h.frozen_until = until;
        trace!(self, "{} is frozen", self.name(host));
        self.set_all_writing(host);
        self.world.set_reachable(host, false);
        self.world.stop(host, length);
        self.world.after(length, Event::Thaw { host, until });
    }

    pub(super) fn thaw(&mut self, host: usize, until: u64) {
        let h = &mut self.hosts[host];
        if !h.on || h.frozen_until != until {
            return;
        }
        h.frozen_until = 0;
        trace!(self, "{} goes on", self.name(host));
        self.set_all_writing(host);
        self.world.set_reachable(host, true);
        self.world.resume(host);
    }
}
