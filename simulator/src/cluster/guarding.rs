//! The guardian and the watchdog of every host: what ends guests when the lease is over.

use super::action::{GuardianMode, WatchdogMode};
use super::guests::ns;
use super::picture::mark;
use super::triggers::When;
use super::{Event, Sim, SimNode};
use crate::mutants;
use crate::world::MS;
use quorate_fencing::guardian::{Act, Feeding};
use quorate_membership::Time;
use quorate_recovery::contract::Fact;
use quorate_recovery::observation::Cause;

impl<N: SimNode> Sim<N> {
    /// The guardian learns the lease end.
    pub(super) fn lease(&mut self, host: usize, end: Time) {
        let now = self.world.now();
        let true_end = self.s3.claims(now, host, end);
        self.hold(true_end);
        self.hosts[host].guardian.end = Some(end);
        let until = self.world.clock(host).true_time(end.0);
        self.world.band(host as u32, "lease", "", until);
        self.set_guardian_timer(host);
    }

    fn set_guardian_timer(&mut self, host: usize) {
        let Some(end) = self.hosts[host].guardian.end else {
            return;
        };
        let now = self.world.now();
        let at = self.world.clock(host).true_time(end.0).max(now);
        let h = &mut self.hosts[host];
        // One timer is enough as long as it does not come too late.
        if h.guardian.timer == 0 || at < h.guardian.timer {
            h.guardian.timer = at;
            let boot = h.boot;
            self.world
                .after(at - now, Event::Guardian { host, boot, at });
        }
    }

    pub(super) fn guardian_timer(&mut self, host: usize, at: u64) {
        let clock = Time(self.world.reading(host));
        let g = &mut self.hosts[host].guardian;
        if g.timer != at {
            return;
        }
        g.timer = 0;
        if !g.works() {
            return;
        }
        if g.end.is_some_and(|end| clock < end) {
            self.set_guardian_timer(host);
        } else {
            self.guard(host);
        }
    }

    /// Ends every guest if the lease is over, and resets the host if that does not work.
    pub(super) fn guard(&mut self, host: usize) {
        if !self.hosts[host].guardian.works() {
            return;
        }
        let (now, clock) = (self.world.now(), Time(self.world.reading(host)));
        let h = &mut self.hosts[host];
        if h.scan_hangs_until > now && mutants::host("guardian-waits-for-a-scan") {
            return;
        }
        let sight = h.sight(now, clock);
        let begun = h.guardian.logic.killing();
        match h.guardian.logic.see(&sight) {
            Act::Kill { .. } if !begun => {}
            Act::Reset { .. } => {
                mark!(
                    self,
                    host,
                    Fence,
                    "something is left: the guardian resets it"
                );
                let longest = ns(self.plan.timing.kill) * 15 / 100;
                let delay = self.guest_rng.range(MS, longest.max(2 * MS));
                let boot = self.hosts[host].boot;
                self.world.after(delay, Event::Reset { host, boot });
                return;
            }
            _ => return,
        }
        self.kills += 1;
        self.note_expiry(host);
        self.notice(When::LeaseExpires, Some(host), None);
        mark!(self, host, Kill, "lease over: the guardian ends all guests");
        self.plan_kill(host);
        self.look_again(host);
    }

    /// Looks again when the host is to be reset if something is left.
    fn look_again(&mut self, host: usize) {
        let h = &self.hosts[host];
        let Some(due) = h.guardian.logic.reset_due(h.kill) else {
            return;
        };
        let due = Time(due.as_nanos() as u64 + MS);
        let now = self.world.now();
        let at = self.world.clock(host).true_time(due.0).max(now + MS);
        let boot = self.hosts[host].boot;
        self.world.after(at - now, Event::Left { host, boot });
    }

    /// The guardian's other thread, which waits for nothing, looks whether something is left.
    pub(super) fn left(&mut self, host: usize) {
        let before = self.hosts[host].boot;
        self.guard(host);
        let h = &self.hosts[host];
        if h.on && h.boot == before && h.guardian.logic.killing() {
            let boot = h.boot;
            let again = ns(quorate_fencing::guardian::RESET_AGAIN) / 4;
            self.world.after(again, Event::Left { host, boot });
        }
    }

    pub(super) fn reset_host(&mut self, host: usize) {
        let h = &self.hosts[host];
        if h.watchdog && h.stuck_kill {
            // A driver holds it up: the watchdog stands behind.
            mark!(self, host, Note, "the reset does not come");
            return;
        }
        let back = self.guest_rng.range(300 * MS, 4000 * MS);
        self.power_off(host, Some(back));
    }

    /// A signal reaches the guests; most ends take much less than K.
    pub(super) fn plan_kill(&mut self, host: usize) {
        // K is counted by the host's clock; a fast one leaves less true time.
        let rate = self.world.clock(host).rate_ppb.max(0) as u64;
        let longest = ns(self.plan.timing.kill) * 3 / 4;
        let longest = longest - longest / 1000 * (rate / 1_000_000);
        let delay = self.guest_rng.range(MS, longest);
        let boot = self.hosts[host].boot;
        self.world.after(delay, Event::Killed { host, boot });
    }

    pub(super) fn killed(&mut self, host: usize) {
        let g = &self.hosts[host].guardian;
        if !g.logic.killing() || !g.works() {
            return;
        }
        let blind = mutants::host("populated-fails-open");
        for at in (0..self.hosts[host].procs.len()).rev() {
            if !(self.hosts[host].procs[at].hidden && blind) {
                self.gone(host, at, "the guardian ended it", Cause::Died);
            }
        }
        // The kill goes on until no start is pending: what appears later is ended as well (V7).
        self.guard(host);
    }

    /// The storage answers again, or a look at the processes comes back.
    pub(super) fn goes_on(&mut self, host: usize) {
        self.writes_go_on(host);
        self.guard(host);
    }

    /// The daemon's timer is due: it reads the guardian's counter before anything leaves.
    pub(super) fn timer(&mut self, host: usize) {
        let clock = Time(self.world.reading(host));
        let fact = match self.hosts[host].pulse(clock) {
            Some(pulse) => Fact::Guardian(Some(pulse)),
            None => Fact::Timeout,
        };
        self.step(host, fact);
    }

    /// The guardian fails for so long.
    pub(super) fn guardian_fails(&mut self, host: usize, mode: GuardianMode, length: u64) {
        let now = self.world.now();
        let until = now + length;
        let h = &mut self.hosts[host];
        let witness = h.profile.witness;
        if !h.on || witness || h.guardian.fails.is_some_and(|(_, _, end)| end >= until) {
            return;
        }
        let began = h.guardian.fails.map_or(now, |(_, began, _)| began);
        h.guardian.fails = Some((mode, began, until));
        if mode != GuardianMode::Still {
            // What it remembers goes with it.
            h.guardian.logic = Default::default();
        }
        let (boot, busy) = (h.boot, h.disturbed > now);
        mark!(self, host, Truth, "its guardian is {mode:?}");
        self.world
            .after(length, Event::GuardianBack { host, boot, until });
        // A lease that is not renewed ends guests, and is no fault of the silence rules.
        let lease = ns(self.plan.timing.lease);
        self.s4.disturbed(host, until + 2 * lease);
        if busy || !self.world.is_running(host) {
            self.hosts[host].guardian.uncovered = u64::MAX;
        }
    }

    /// The guardian works again, unless it was to fail for longer meanwhile.
    pub(super) fn guardian_back(&mut self, host: usize, until: u64) {
        let clock = Time(self.world.reading(host));
        let running = self.world.is_running(host);
        let h = &mut self.hosts[host];
        let Some((mode, began, end)) = h.guardian.fails else {
            return;
        };
        if end != until {
            return;
        }
        let boot = h.boot;
        if mode == GuardianMode::Gone && !running {
            // Nobody is there to start another.
            let until = until + 100 * MS;
            h.guardian.fails = Some((mode, began, until));
            let back = Event::GuardianBack { host, boot, until };
            return self.world.after(100 * MS, back);
        }
        h.guardian.fails = None;
        h.guardian.back = self.world.now();
        h.guardian.timer = 0;
        if mode == GuardianMode::Restless {
            h.guardian.third_start = Some(clock);
        }
        mark!(self, host, Truth, "its guardian works");
        self.set_guardian_timer(host);
        if self.hosts[host].guardian.logic.killing() {
            self.plan_kill(host);
        } else {
            self.guard(host);
        }
        if !self.hosts[host].guardian.logic.killing() {
            self.covered_again(host);
        }
    }

    /// Somebody ends this host's guests again, or there are none; what was written lands still.
    pub(super) fn covered_again(&mut self, host: usize) {
        let drained = self.world.now() + ns(self.plan.timing.drain);
        let g = &mut self.hosts[host].guardian;
        g.uncovered = g.uncovered.min(drained);
    }

    /// The daemon fails. If the guardian did so less than a lease ago, and the time to end guests,
    /// nobody else ends them.
    pub(super) fn daemon_fails(&mut self, host: usize) {
        let t = &self.plan.timing;
        let least = ns(t.lease) + ns(t.pause_margin) + ns(t.kill);
        let now = self.world.now();
        let g = &mut self.hosts[host].guardian;
        if let Some((_, began, _)) = g.fails
            && now < began + least + least / 20
        {
            g.uncovered = u64::MAX;
        }
    }

    /// The watchdog's feeder looks whether it may feed.
    pub(super) fn feed_look(&mut self, host: usize) {
        let (now, clock) = (self.world.now(), Time(self.world.reading(host)));
        let h = &mut self.hosts[host];
        let sight = h.sight(now, clock);
        let may = h.guardian.feed.may(&sight) == Feeding::Feed;
        let boot = h.boot;
        let stuck = h.guardian.logic.killing() && !mutants::host("fed-past-lease-end");
        if may && !stuck && h.guardian.works() {
            let gap = self.guest_rng.range(0, MS);
            self.world.after(gap, Event::Feed { host, boot });
        } else {
            let again = ns(self.plan.timing.watchdog) / 3;
            self.world.after(again, Event::FeedLook { host, boot });
        }
    }

    pub(super) fn feed(&mut self, host: usize) {
        let (now, clock) = (self.world.now(), Time(self.world.reading(host)));
        let t = &self.plan.timing;
        let (w, g) = (ns(t.watchdog), ns(t.watchdog_granularity));
        let fires = w + self.guest_rng.range(0, g);
        let fires = match self.hosts[host].watchdog_mode {
            WatchdogMode::Late => 3 * fires,
            _ => fires,
        };
        if !self.hosts[host].guardian.works() {
            return self.feed_look(host);
        }
        let h = &mut self.hosts[host];
        h.guardian.fed += 1;
        // The clock is read again after the feed: one that slipped past the end is the last.
        let sight = h.sight(now, clock);
        h.guardian.feed.fed(&sight);
        let (boot, fed) = (h.boot, h.guardian.fed);
        self.world.after(fires, Event::Watchdog { host, boot, fed });
        self.world.after(w / 3, Event::FeedLook { host, boot });
    }

    pub(super) fn watchdog_fires(&mut self, host: usize, boot: u32, fed: u64) {
        let h = &self.hosts[host];
        let deaf = matches!(h.watchdog_mode, WatchdogMode::Stuck | WatchdogMode::Absent);
        if !h.on || h.boot != boot || h.guardian.fed != fed || deaf {
            return;
        }
        mark!(self, host, Fence, "the WATCHDOG resets it");
        let back = self.guest_rng.range(300 * MS, 4000 * MS);
        self.power_off(host, Some(back));
    }
}
