//! Hypervisor, guardian and watchdog of every host, and the truth about who can write.

use super::host::{Creation, Proc};
use super::picture::mark;
use super::plan::Expected;
use super::triggers::When;
use super::{Event, Local, Sim, SimNode, nodes};
use crate::mutants;
use crate::world::{MS, SECOND};
use quorate_membership::{Time, Token};
use quorate_recovery::contract::{Fact, GuestAction, GuestOrder};
use quorate_recovery::guest::GuestId;
use quorate_recovery::kinds::{GuestKind, GuestKinds};
use quorate_recovery::observation::Cause;
use std::time::Duration;

pub(super) fn ns(d: Duration) -> u64 {
    d.as_nanos() as u64
}

impl<N: SimNode> Sim<N> {
    /// The daemon's driver takes a guest order in hand.
    pub(super) fn order(&mut self, host: usize, order: GuestOrder) {
        let now = self.world.now();
        let h = &self.hosts[host];
        let (boot, life) = (h.boot, self.world.life(host));
        let silent = h.silent_until.saturating_sub(now);
        let delay = silent + self.guest_rng.range(MS / 20, 3 * MS);
        if order.action == GuestAction::End {
            let ends = (life, order.order, order.epoch);
            self.hosts[host].ends.insert(order.guest, ends);
        }
        // Orders of one guest are taken up in the order they came, whatever held up the first.
        let acts = &mut self.hosts[host].act_at;
        let at = acts
            .get(&order.guest)
            .map_or(now + delay, |last| (now + delay).max(*last));
        acts.insert(order.guest, at);
        let order = Box::new(order);
        self.world.after(
            at - now,
            Event::Act {
                host,
                boot,
                life,
                order,
            },
        );
    }

    /// The moment of acting: the deadline is compared now.
    pub(super) fn carry_out(&mut self, host: usize, life: u32, order: &GuestOrder) {
        if self.world.life(host) != life {
            return;
        }
        let now = self.world.now();
        if !self.world.is_running(host) {
            // The driver is a thread of the stopped daemon.
            self.world
                .tell(host, 0, Local::Order(Box::new(order.clone())));
            return;
        }
        let boot = self.hosts[host].boot;
        let busy = self.hosts[host].busy.get(&order.guest).copied();
        let until = busy.unwrap_or(0).max(self.hosts[host].silent_until);
        if until > now {
            // The driver does one thing at a time with a guest.
            let last = self.hosts[host].act_at.entry(order.guest).or_default();
            *last = until.max(*last);
            let order = Box::new(order.clone());
            self.world.after(
                until - now,
                Event::Act {
                    host,
                    boot,
                    life,
                    order,
                },
            );
            return;
        }
        let clock = Time(self.world.reading(host));
        // A creation is bound by the lease as it stands now.
        let lease = self.hosts[host].guardian.end;
        let creates = matches!(order.action, GuestAction::Create(_));
        let renewed = |end: Time| lease.map_or(end, |now| if creates { end.max(now) } else { end });
        let late = order.not_after.is_some_and(|t| clock > renewed(t));
        if late && !mutants::host("late-order-obeyed") {
            let late = format!("too late: it is {clock}");
            self.done(host, life, order.order, Err(late));
            return;
        }
        if creates && self.called_off(host, life, order) {
            let why = "given up by the caller".to_owned();
            self.done(host, life, order.order, Err(why));
            return;
        }
        let promise = self.hosts[host].promises.get(&order.guest).copied();
        let at = self.hosts[host].proc(order);
        if at.is_some() || matches!(order.action, GuestAction::Create(_)) {
            // What finds no process does nothing, however late it comes.
            let obeyed = self.s5.order(now, host, life, order, promise);
            self.hold(obeyed);
        }
        match (&order.action, at) {
            (GuestAction::Create(_), _) => self.create(host, life, order),
            (GuestAction::Pause, Some(at)) if self.hosts[host].procs[at].held => {
                let late = "it was not held in time: it waits for its disk".into();
                self.done(host, life, order.order, Err(late));
            }
            (GuestAction::Continue | GuestAction::Pause, Some(at)) => {
                self.hosts[host].procs[at].paused = order.action == GuestAction::Pause;
                if order.action == GuestAction::Continue {
                    self.let_go(host, at);
                }
                self.set_writing(host, at);
                self.done(host, life, order.order, Ok(()));
            }
            (GuestAction::Reset, Some(at)) => {
                self.reset(host, at);
                self.done(host, life, order.order, Ok(()));
            }
            (GuestAction::ReadLocks(images), _) => self.read_locks(host, order, images),
            (GuestAction::WriteLocks(plan), at) => {
                self.write_locks(host, life, order.order, plan, at.is_some());
            }
            (GuestAction::Capture { .. }, _) => {
                self.done(host, life, order.order, Err("nothing to show".into()));
            }
            (GuestAction::Probe(_), _) => self.probe(host, life, order),
            (GuestAction::Continue | GuestAction::Pause | GuestAction::Reset, None) => {
                self.done(host, life, order.order, Err("no such process".into()));
            }
            (GuestAction::End, _) => {
                let h = &mut self.hosts[host];
                let fits = |p: &Proc| p.guest == order.guest && p.epoch <= order.epoch;
                if !h.procs.iter().any(fits) {
                    self.done(host, life, order.order, Ok(()));
                    return;
                }
                let length = self
                    .guest_rng
                    .range(MS, ns(self.plan.timing.kill) * 97 / 100);
                h.busy.insert(order.guest, now + length + 1);
                self.world.after(
                    length,
                    Event::Ended {
                        host,
                        boot,
                        life,
                        order: order.order,
                        guest: order.guest,
                        epoch: order.epoch,
                    },
                );
            }
        }
    }

    /// Whether the driver was told to end the guest after it was told to create it.
    fn called_off(&self, host: usize, life: u32, order: &GuestOrder) -> bool {
        let end = self.hosts[host].ends.get(&order.guest);
        let later = |(of, number, epoch): &(u32, u64, Token)| {
            *of == life && *number > order.order && *epoch >= order.epoch
        };
        end.is_some_and(later) && !mutants::host("creation-outlives-its-end")
    }

    fn create(&mut self, host: usize, life: u32, order: &GuestOrder) {
        let GuestAction::Create(start) = &order.action else {
            return;
        };
        let top = match self.images_fit(host, order.guest, start) {
            Ok(top) => top,
            Err(why) if mutants::host("headers-not-read") => {
                let _ = why;
                self.named_top(start)
            }
            Err(why) => {
                self.images_misfit(host, order.guest, order.epoch, &why);
                self.done(host, life, order.order, Err(why));
                return;
            }
        };
        let h = &mut self.hosts[host];
        if h.procs.iter().any(|p| p.guest == order.guest) {
            self.done(host, life, order.order, Err("it exists already".into()));
            return;
        }
        self.locks.s15.starts(self.world.now(), host, order.guest);
        let h = &mut self.hosts[host];
        let mut length = self.guest_rng.range(10 * MS, 300 * MS);
        if h.slow_create > 0 {
            length = self.guest_rng.range(length, h.slow_create);
        } else if self.guest_rng.chance(self.plan.create_hangs) {
            length = self.guest_rng.range(length, 15 * SECOND);
        }
        let fails = self.guest_rng.chance(self.plan.create_fails);
        h.creation_number += 1;
        let number = h.creation_number;
        h.creations.push(Creation {
            guest: order.guest,
            epoch: order.epoch,
            number,
            top,
            begun: self.world.now(),
        });
        h.busy.insert(order.guest, self.world.now() + length + 1);
        let (boot, order) = (h.boot, order.order);
        self.world.after(
            length,
            Event::Created {
                host,
                boot,
                life,
                order,
                number,
                fails,
            },
        );
    }

    pub(super) fn created(&mut self, host: usize, life: u32, order: u64, number: u64, fails: bool) {
        let h = &mut self.hosts[host];
        let Some(at) = h.creations.iter().position(|c| c.number == number) else {
            return;
        };
        let c = h.creations.swap_remove(at);
        let gone = h.storage_gone_until > self.world.now();
        let failed = fails || gone || number <= h.aborted;
        let since = self.world.now() - c.begun;
        self.note_creation(host, c.guest, (since, failed));
        if failed {
            self.done(host, life, order, Err("the hypervisor refused".into()));
        } else {
            let mind = self.mind(c.guest);
            self.hosts[host].procs.push(Proc {
                guest: c.guest,
                epoch: c.epoch,
                paused: !mutants::host("created-running"),
                writing: false,
                held: false,
                killed: false,
                hidden: false,
                mind,
                top: c.top,
                job: false,
                scratch: None,
            });
            self.set_writing(host, self.hosts[host].procs.len() - 1);
            match self.starts.iter_mut().find(|(g, _)| *g == c.guest) {
                Some((_, n)) => *n += 1,
                None => self.starts.push((c.guest, 1)),
            }
            mark!(self, host, Note, "created {} held", c.guest);
            self.draw_guest(host, self.hosts[host].procs.len() - 1);
            self.done(host, life, order, Ok(()));
        }
        if self.hosts[host].guardian.logic.killing() {
            self.plan_kill(host);
        } else {
            self.guard(host);
        }
    }

    pub(super) fn ended(
        &mut self,
        host: usize,
        life: u32,
        order: u64,
        guest: GuestId,
        epoch: Token,
    ) {
        let h = &self.hosts[host];
        let found = h.procs.iter();
        let mut fits = found.enumerate();
        if let Some((at, _)) = fits.find(|(_, p)| p.guest == guest && p.epoch <= epoch)
            && !self.remove(host, at)
        {
            let left = "1 processes are still there".to_owned();
            return self.done(host, life, order, Err(left));
        }
        self.done(host, life, order, Ok(()));
    }

    pub(super) fn done(&mut self, host: usize, life: u32, order: u64, result: Result<(), String>) {
        if self.world.life(host) == life {
            let delay = self.guest_rng.range(MS / 10, 2 * MS);
            let fact = Fact::GuestDone { order, result };
            self.world.tell(host, delay, Local::fact(fact));
        }
    }

    /// A guest's process ends by itself.
    pub(super) fn guest_crashes(&mut self, guest: usize) {
        let Some(id) = self.guest_ids[guest] else {
            return;
        };
        for host in 0..self.plan.hosts {
            let procs = &self.hosts[host].procs;
            if let Some(at) = procs.iter().position(|p| p.guest == id) {
                self.gone(host, at, "exit status 1", Cause::Died);
            }
        }
    }

    /// A guest goes on at a host of no cluster, where nobody can end it.
    pub(super) fn taken(&mut self, host: usize, at: usize) {
        let guest = self.hosts[host].procs[at].guest;
        self.gone(host, at, "migrated away", Cause::Taken);
        let now = self.world.now();
        // What moves takes its last writes along.
        self.s1.ends(now, host, guest, now);
        let alone = self.s1.begins(now, self.plan.hosts, guest);
        self.hold(alone);
    }

    /// Removes a process that nobody told to end, and tells the daemon.
    pub(super) fn gone(&mut self, host: usize, at: usize, how: &str, cause: Cause) {
        let p = self.hosts[host].procs[at];
        if !self.remove(host, at) {
            return;
        }
        let fact = Fact::GuestGone {
            guest: p.guest,
            epoch: p.epoch,
            how: how.into(),
            cause,
        };
        let delay = self.guest_rng.range(MS, 50 * MS);
        if self.hosts[host].untold_until <= self.world.now() {
            self.world.tell(host, delay, Local::fact(fact));
        }
    }

    /// `false` if it cannot go: the storage holds a write of it, or no signal ends it.
    pub(super) fn remove(&mut self, host: usize, at: usize) -> bool {
        let stuck = self.hosts[host].stuck_kill;
        let p = &mut self.hosts[host].procs[at];
        p.killed = true;
        if p.held || stuck {
            return false;
        }
        p.paused = true;
        let guest = p.guest;
        self.l1.guest(self.world.now(), guest);
        self.set_writing(host, at);
        self.draw_gone(host, at);
        self.hosts[host].procs.remove(at);
        if self.hosts[host].procs.is_empty() {
            self.covered_again(host);
        }
        true
    }

    /// Looks again whether the process can write, after anything it depends on changed.
    pub(super) fn set_writing(&mut self, host: usize, at: usize) {
        let now = self.world.now();
        let h = &self.hosts[host];
        let can = h.on && h.frozen_until <= now;
        let p = &h.procs[at];
        let writing = can && !p.paused && p.mind.hold.is_none() || h.on && p.held;
        if p.writing == writing {
            return;
        }
        self.count(host, at);
        self.ran(host, at);
        let held = self.hosts[host].writes_held_until > now;
        let p = &mut self.hosts[host].procs[at];
        p.writing = writing;
        p.held |= writing && held;
        let (p, name) = (*p, self.name(host));
        self.hash
            .add(p.guest.0 << 8 | (host as u64) << 1 | u64::from(writing));
        if !writing {
            self.l1.guest(now, p.guest);
            let late = self.hosts[host].late_writes;
            let drain = self
                .guest_rng
                .range(0, ns(self.plan.timing.drain))
                .max(late);
            self.s1.ends(now, host, p.guest, now + drain);
            mark!(self, host, Truth, "TRUTH {} stops on {name}", p.guest);
            self.draw_guest(host, at);
            self.draw_drain(host, at, now + drain);
            self.notice(When::GuestStops, Some(host), Some(p.guest));
            return;
        }
        mark!(self, host, Truth, "TRUTH {} can write on {name}", p.guest);
        self.draw_guest(host, at);
        self.notice(When::GuestStarts, Some(host), Some(p.guest));
        let uncovered = self.hosts.iter().any(|h| h.guardian.uncovered > now);
        let alone = self.s1.begins(now, host, p.guest);
        self.hold(alone.or_else(|v| if uncovered { Ok(()) } else { Err(v) }));
        if self.hosts[host].guardian.uncovered <= now {
            let allowed = self.s14.runs(now, host, p.guest, p.epoch);
            self.hold(allowed);
        }
        let fresh = self.s16.begins(now, host, p.guest, p.top);
        self.hold(fresh);
        for i in 0..self.standing.len() {
            let e = &self.plan.expect[self.standing[i]];
            if let Expected::NotRuns { guest, on } = e.what
                && self.guest_ids[guest] == Some(p.guest)
                && on.is_none_or(|on| on == host)
            {
                let line = e.line;
                let text = format!("guest g{} can write on h{}", guest + 1, host + 1);
                self.unexpected(line, text);
            }
        }
    }

    /// Looks at every process of a host again.
    pub(super) fn set_all_writing(&mut self, host: usize) {
        (0..self.hosts[host].procs.len()).for_each(|at| self.set_writing(host, at));
    }

    /// Once a second the daemon's driver polls the hypervisor; S3 is looked at as well.
    pub(super) fn poll(&mut self, host: usize) {
        let wait = self.guest_rng.range(950 * MS, 1050 * MS);
        self.world.after(wait, Event::Poll { host });
        let now = self.world.now();
        let passed = self.locks.s15.judge(now, &self.audit);
        self.hold(passed);
        let h = &self.hosts[host];
        if !h.on || h.frozen_until > now {
            return;
        }
        // One that is back begins to end them only now.
        let guarded = h.guardian.works() && now >= h.guardian.back + 2 * ns(self.plan.timing.kill);
        if guarded && h.procs.iter().any(|p| p.writing) {
            let t = &self.plan.timing;
            let hardware = t.watchdog * 2 + t.watchdog_granularity;
            let to_end = if h.watchdog {
                t.kill.max(hardware)
            } else {
                t.kill
            };
            let clock = Time(self.world.reading(host));
            let in_time = self.s3.runs(now, host, clock, to_end);
            self.hold(in_time);
        }
        if !self.world.is_running(host) {
            return;
        }
        let fact = self.shown(host);
        let delay = self.guest_rng.range(0, 20 * MS);
        self.world.tell(host, delay, Local::fact(fact));
    }

    /// What the poll of a host's hypervisors shows.
    fn shown(&self, host: usize) -> Fact {
        let (now, h) = (self.world.now(), &self.hosts[host]);
        if h.silent_until > now {
            return Fact::HypervisorBlind {
                kinds: GuestKinds::ALL,
                seen: None,
                why: "no answer".into(),
            };
        }
        let procs = h.procs.iter();
        let seen = procs
            .filter(|p| !(p.hidden && mutants::host("populated-fails-open")))
            .map(nodes::seen)
            .collect();
        if h.other_silent_until <= now {
            return Fact::Guests { seen };
        }
        Fact::HypervisorBlind {
            kinds: GuestKinds::NONE.with(GuestKind::Ocf),
            seen: Some(seen),
            why: "no answer".into(),
        }
    }

    /// What the nodes made of the log is compared, all at one moment: most have applied the same,
    /// and only one of those that agree is reckoned up.
    pub(super) fn compare(&mut self) {
        let now = self.world.now();
        let mut reckoned: Vec<usize> = Vec::new();
        self.count_states();
        for host in 0..self.plan.hosts {
            let Some(node) = &self.nodes[host] else {
                continue;
            };
            let known = |other: &usize| {
                let other = self.nodes[*other].as_ref();
                other.is_some_and(|o| node.agrees(o))
            };
            if !self.world.is_running(host) || reckoned.iter().any(known) || self.differs(host) {
                continue;
            }
            let agreed = self.s10.state(now, host, (node.applied(), node.state()));
            reckoned.push(host);
            self.hold(agreed);
        }
    }
}
