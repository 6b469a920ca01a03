//! What goes on inside guests, and what monitors see of it.

use super::action::Ill;
use super::host::Proc;
use super::picture::mark;
use super::{Event, Local, Sim, SimNode, nodes};
use crate::check::s9::{self, Mood, Sight};
use crate::world::{MS, SECOND};
use quorate_membership::Time;
use quorate_recovery::contract::{Event as Said, EventKind, Fact, GuestOrder};
use quorate_recovery::guest::{GuestId, GuestSpec, Policy, Probe, Wanted};
use quorate_recovery::observation::{Agent, Cause, GuestEvent, Held, Observation, Sample};

/// The operating system in a guest's process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mind {
    pub(super) mood: Mood,
    /// True time of its last change of mood.
    pub(super) since: u64,
    /// It has an agent; and that was stopped.
    agent: bool,
    agent_stopped: bool,
    /// Held by a person, or because its disk takes nothing.
    pub(super) hold: Option<Held>,
    /// Its disk has no room until.
    full_until: u64,
    /// Since when it has been held because it does not reach its storage.
    storage_lost: Option<u64>,
    /// Its file systems are frozen until.
    frozen_until: u64,
    /// Until when it boots; not before it first ran.
    boots_until: Option<u64>,
    computes_until: u64,
    /// Counters, up to `counted`: nanoseconds and thousandths.
    cpu: u64,
    wait: u64,
    disk: u64,
    packets: u64,
    counted: u64,
    /// True time of the last look, the life of the daemon that made it, and since when it runs.
    looked: u64,
    life: u32,
    pub(super) runs_since: u64,
    sight: Sight,
}

impl Mind {
    pub(super) fn new(now: u64, agent: bool) -> Mind {
        Mind {
            mood: Mood::Works,
            since: now,
            agent,
            agent_stopped: false,
            hold: None,
            full_until: 0,
            storage_lost: None,
            frozen_until: 0,
            boots_until: None,
            computes_until: 0,
            cpu: 0,
            wait: 0,
            disk: 0,
            packets: 0,
            counted: now,
            looked: 0,
            life: 0,
            runs_since: now,
            sight: Sight::default(),
        }
    }

    fn feels(&mut self, now: u64, mood: Mood) {
        (self.mood, self.since) = (mood, now);
    }

    /// Whether the agent inside would answer.
    fn answers(&self, now: u64) -> bool {
        let booted = self.boots_until.is_some_and(|t| t <= now);
        self.agent && !self.agent_stopped && booted && !self.mood.dead()
    }

    /// Counts up to now.
    fn count(&mut self, now: u64, runs: bool, starved: bool) {
        let length = now - self.counted;
        self.counted = now;
        if !runs {
            return;
        }
        let boots = self.boots_until.is_none_or(|t| t > now) && !self.mood.dead();
        // CPU and waiting in thousandths of one, requests and packets a second.
        let (cpu, disk, packets) = match self.mood {
            _ if boots => (900, 50, 0),
            _ if self.frozen_until > now && !self.mood.dead() => (20, 0, 0),
            Mood::Works | Mood::Sick => (50, 4, 1),
            Mood::Computes | Mood::Spins => (1000, 0, 0),
            Mood::Panicked | Mood::Halted => (0, 0, 0),
        };
        let (cpu, wait, disk, packets) = match starved {
            // It has work to do and hardly ever gets a CPU.
            true => (cpu.min(30), 960, 0, 0),
            false => (cpu, 5, disk, packets),
        };
        self.cpu += cpu * (length / 1000);
        self.wait += wait * (length / 1000);
        self.disk += disk * (length / 1_000_000);
        self.packets += packets * (length / 1_000_000);
    }
}

impl<N: SimNode> Sim<N> {
    /// The description clients give of a guest: policies differ.
    pub(super) fn spec(&self, guest: usize, disk: bool) -> GuestSpec {
        use quorate_recovery::guest::Definition;
        let probe = Probe {
            argv: vec!["check".into()],
            every_ms: 3000,
            limit_ms: 1000,
            failures: 3,
        };
        GuestSpec {
            name: format!("g{}", guest + 1),
            definition: if disk {
                super::images::described(guest)
            } else {
                Definition::Command {
                    argv: vec!["sleep".into(), "infinity".into()],
                    env: Default::default(),
                    images: if self.plan.images {
                        vec![super::locks::path(guest)]
                    } else {
                        Vec::new()
                    },
                }
            },
            needs: self.plan.needs(guest),
            priority: self.plan.priorities[guest],
            policy: Self::policy(guest),
            probe: (guest % 3 == 2).then_some(probe),
        }
    }

    fn policy(guest: usize) -> Policy {
        Policy {
            resets_here: guest as u32 % 2,
            hang_ms: [20_000, 10_000, 5_000][guest % 3],
            ..Policy::default()
        }
    }

    /// Number of a guest in the plan, by its name: a run may have thousands, so none is searched for.
    pub(super) fn index_of(&self, guest: GuestId) -> Option<usize> {
        let name = &self.audit.guests.get(&guest)?.name;
        name.strip_prefix('g')?
            .parse::<usize>()
            .ok()?
            .checked_sub(1)
    }

    pub(super) fn mind(&self, guest: GuestId) -> Mind {
        let agents = &self.plan.agents;
        let index = self.index_of(guest);
        let agent = index.is_none_or(|g| agents.get(g).copied().unwrap_or(true));
        Mind::new(self.world.now(), agent)
    }

    /// Counts what a process did until now; called before anything about it changes.
    pub(super) fn count(&mut self, host: usize, at: usize) {
        let now = self.world.now();
        let h = &mut self.hosts[host];
        let until = h.starved_until.min(now);
        let p = &mut h.procs[at];
        if until > p.mind.counted {
            p.mind.count(until, p.writing, true);
        }
        p.mind.count(now, p.writing, false);
    }

    /// It begins to run, or no longer does.
    pub(super) fn ran(&mut self, host: usize, at: usize) {
        let now = self.world.now();
        let boots = now + self.look_rng.range(500 * MS, 5 * SECOND);
        let mind = &mut self.hosts[host].procs[at].mind;
        mind.runs_since = now;
        mind.boots_until.get_or_insert(boots);
    }

    /// What the hypervisor does when a guest is reset.
    pub(super) fn reset(&mut self, host: usize, at: usize) {
        self.count(host, at);
        let now = self.world.now();
        let boots = now + self.look_rng.range(500 * MS, 5 * SECOND);
        let p = &mut self.hosts[host].procs[at];
        p.mind.feels(now, Mood::Works);
        p.mind.boots_until = Some(boots);
        p.mind.agent_stopped = false;
        p.mind.sight.blurred();
        let p = *p;
        mark!(self, host, Kill, "resets {}", p.guest);
        self.see(host, &p, GuestEvent::Rebooted);
    }

    /// Somebody lets a guest go on, whoever held it; one whose disk takes nothing stops again.
    pub(super) fn let_go(&mut self, host: usize, at: usize) {
        let known = self.hosts[host].procs[at].mind.hold == Some(Held::IoError);
        self.hosts[host].procs[at].mind.hold = None;
        if !self.held_by_disk(host, at, known) {
            self.hosts[host].procs[at].mind.storage_lost = None;
        }
    }

    /// Holds a guest whose disk takes nothing, and lets the hypervisor say so; whether it is one.
    /// `known`: the hypervisor has said why before.
    fn held_by_disk(&mut self, host: usize, at: usize, known: bool) -> bool {
        let now = self.world.now();
        let gone = self.hosts[host].storage_gone_until > now;
        let p = &mut self.hosts[host].procs[at];
        let reason = match p.mind.full_until > now {
            _ if gone => "eio",
            true => "enospc",
            false => return false,
        };
        p.mind.hold = Some(Held::IoError);
        if gone {
            p.mind.storage_lost.get_or_insert(now);
        }
        let p = *p;
        if !known {
            let (device, reason) = ("vda".to_owned(), reason.to_owned());
            self.see(host, &p, GuestEvent::IoError { device, reason });
        }
        self.see(host, &p, GuestEvent::Held(Held::IoError));
        true
    }

    /// A guest writes, and its disk may take nothing any more.
    pub(super) fn meets_its_disk(&mut self, host: usize, at: usize) {
        self.count(host, at);
        let p = self.hosts[host].procs[at];
        if p.writing && !p.mind.mood.dead() && self.held_by_disk(host, at, false) {
            mark!(self, host, Truth, "TRUTH {}: I/O error", p.guest);
            self.set_writing(host, at);
        }
    }

    /// Tells the daemon, if it listens and the hypervisor speaks.
    fn see(&mut self, host: usize, p: &Proc, event: GuestEvent) {
        if self.hosts[host].silent_until > self.world.now() {
            return;
        }
        let delay = self.look_rng.range(MS, 50 * MS);
        let fact = Fact::Observed {
            guest: p.guest,
            epoch: p.epoch,
            seen: Observation::Event(event),
        };
        self.world.tell(host, delay, Local::fact(fact));
    }

    /// Something befalls a guest, wherever it is.
    pub(super) fn befalls(&mut self, guest: usize, ill: &Ill) {
        let Some(id) = self.guest_ids[guest] else {
            return;
        };
        for host in 0..self.plan.hosts {
            let procs = &self.hosts[host].procs;
            if let Some(at) = procs.iter().position(|p| p.guest == id) {
                self.befalls_here(host, at, guest, ill);
            }
        }
    }

    fn befalls_here(&mut self, host: usize, at: usize, guest: usize, ill: &Ill) {
        self.count(host, at);
        let now = self.world.now();
        let p = &mut self.hosts[host].procs[at];
        // Nothing befalls what is dead, held, or has not run.
        let lives = p.writing && !p.mind.mood.dead();
        match ill {
            Ill::ShutsDown if lives => return self.gone(host, at, "shut down", Cause::ShutDown),
            _ if !lives => return,
            Ill::ShutsDown => {}
            Ill::Taken => return self.taken(host, at),
            Ill::Snapshot { .. } | Ill::Merges | Ill::Copies(_) | Ill::BackedUp(_) => {
                return self.changes_images(host, at, guest, ill);
            }
            Ill::Panics => p.mind.feels(now, Mood::Panicked),
            Ill::Hangs { spins: true } => p.mind.feels(now, Mood::Spins),
            Ill::Hangs { spins: false } => p.mind.feels(now, Mood::Halted),
            Ill::Sickens => p.mind.feels(now, Mood::Sick),
            Ill::AgentStops => p.mind.agent_stopped = true,
            Ill::Computes(length) => {
                p.mind.feels(now, Mood::Computes);
                p.mind.computes_until = now + length;
            }
            Ill::Freezes(length) => p.mind.frozen_until = now + length,
            Ill::Suspended(length) => {
                p.mind.hold = Some(Held::Told);
                self.world.after(*length, Event::LetGo { guest });
            }
            Ill::DiskFull(length) => {
                p.mind.full_until = now + length;
                return self.meets_its_disk(host, at);
            }
        }
        let p = *p;
        mark!(self, host, Truth, "TRUTH {}: {ill:?}", p.guest);
        match ill {
            Ill::Panics => self.see(host, &p, GuestEvent::Panicked),
            Ill::Suspended(_) => self.see(host, &p, GuestEvent::Held(Held::Told)),
            _ => {}
        }
        self.set_writing(host, at);
    }

    /// A person lets a guest go on.
    pub(super) fn released(&mut self, guest: usize) {
        let Some(id) = self.guest_ids[guest] else {
            return;
        };
        for host in 0..self.plan.hosts {
            for at in 0..self.hosts[host].procs.len() {
                let p = &mut self.hosts[host].procs[at];
                if p.guest == id && p.mind.hold == Some(Held::Told) {
                    // A hypervisor knows one kind of pause: whoever ends it ends all of it.
                    p.paused = false;
                    let p = *p;
                    self.see(host, &p, GuestEvent::Continued);
                    self.let_go(host, at);
                    self.set_writing(host, at);
                }
            }
        }
    }

    /// Every two seconds the daemon's driver looks at how guests stand.
    pub(super) fn look(&mut self, host: usize) {
        let wait = self.look_rng.range(1950 * MS, 2050 * MS);
        self.world.after(wait, Event::Look { host });
        let now = self.world.now();
        let h = &self.hosts[host];
        if !h.on || h.frozen_until > now {
            return;
        }
        for at in 0..self.hosts[host].procs.len() {
            self.count(host, at);
            let mind = &mut self.hosts[host].procs[at].mind;
            if mind.mood == Mood::Computes && mind.computes_until <= now {
                mind.feels(now, Mood::Works);
            }
        }
        if !self.world.is_running(host) || self.hosts[host].silent_until > now {
            return;
        }
        for at in 0..self.hosts[host].procs.len() {
            self.look_at(host, at);
        }
    }

    fn look_at(&mut self, host: usize, at: usize) {
        let now = self.world.now();
        let h = &self.hosts[host];
        let starved = h.starved_until > now;
        let p = h.procs[at];
        let answers =
            p.writing && p.mind.answers(now) && !(starved && self.look_rng.chance(600_000));
        let agent = match (p.mind.agent, answers) {
            (false, _) => Agent::None,
            (true, true) if p.mind.frozen_until > now => Agent::Frozen,
            (true, true) => Agent::Answered,
            (true, false) => Agent::Silent,
        };
        let held = p.mind.hold.or(p.paused.then_some(Held::Told));
        let seen = Observation::Sample(Sample {
            at: Time(self.world.reading(host)),
            held,
            vcpus: 1,
            cpu_ns: p.mind.cpu,
            wait_ns: Some(p.mind.wait),
            disk_requests: Some(p.mind.disk / 1000),
            packets_sent: Some(p.mind.packets / 1000),
            agent,
            job: None,
        });
        // An agent that does not answer is waited for.
        let delay = if agent == Agent::Silent {
            self.look_rng.range(300 * MS, 1500 * MS)
        } else {
            self.look_rng.range(MS, 100 * MS)
        };
        let (guest, epoch) = (p.guest, p.epoch);
        let fact = Fact::Observed { guest, epoch, seen };
        self.world.tell(host, delay, Local::fact(fact));
        if p.mind.mood == Mood::Panicked {
            // The driver looks for what it may have missed.
            self.see(host, &p, GuestEvent::Panicked);
        }
        self.attend(host, at, starved, agent == Agent::Answered);
    }

    /// A dead guest that was seen well must be remedied; sending signals that end nothing is enough.
    fn attend(&mut self, host: usize, at: usize, starved: bool, answers: bool) {
        let now = self.world.now();
        let life = self.world.life(host);
        let room = self.plan.timing.pause_margin + self.plan.timing.heartbeat;
        let clock = Time(self.world.reading(host));
        let h = &self.hosts[host];
        let p = h.procs[at];
        let leased = h.guardian.end.is_some_and(|end| end.since(clock) > room);
        let record = self.audit.hosts.get(&nodes::id(host));
        let admitted = record.is_some_and(|r| {
            r.incarnation == h.image.incarnation && r.revoke.is_none() && !r.proved && !r.away
        });
        let ours = self.audit.guests.get(&p.guest).is_some_and(|g| {
            g.wanted == Wanted::Running
                && !g.closed
                && g.epoch == p.epoch
                && g.holder == Some((nodes::id(host), h.image.incarnation))
        });
        let undisturbed = leased
            && admitted
            && ours
            && p.writing
            && !p.killed
            && !starved
            && p.mind.frozen_until <= now
            && p.mind.life == life
            && now - p.mind.looked < 2200 * MS
            && h.disturbed <= p.mind.looked
            && p.mind.runs_since <= p.mind.looked;
        let hang = self
            .index_of(p.guest)
            .map_or(20_000, |g| Self::policy(g).hang_ms);
        let most = if p.mind.mood == Mood::Panicked {
            8
        } else {
            (hang / 2000) as u32 + 10
        };
        let mind = &mut self.hosts[host].procs[at].mind;
        (mind.looked, mind.life) = (now, life);
        // A new life of the daemon has learned nothing of the guest yet, and does not remember.
        if mind.mood == Mood::Computes || p.mind.life != life {
            mind.sight.blurred();
        }
        let seen = mind.sight.look(
            now,
            host,
            p.guest,
            (p.mind.mood, p.mind.since),
            (undisturbed, answers, most),
        );
        self.hold(seen);
    }

    /// What a node says of health may be a remedy.
    pub(super) fn said(&mut self, host: usize, e: &Said) {
        let remedy = e.text.starts_with("is reset: ") || e.text.starts_with("is ended");
        if e.kind == EventKind::Health
            && remedy
            && let Some(guest) = e.guest.as_ref().and_then(|g| self.audit.guest_named(g))
        {
            self.remedies(host, guest, &e.text);
        }
    }

    /// A host does something about a guest that it takes for ill.
    pub(super) fn remedies(&mut self, host: usize, guest: GuestId, said: &str) {
        let now = self.world.now();
        let procs = &mut self.hosts[host].procs;
        let Some(p) = procs.iter_mut().find(|p| p.guest == guest) else {
            return;
        };
        p.mind.sight.remedied();
        let mood = (p.mind.mood, p.mind.since);
        let lost = p.mind.storage_lost.map(|since| now - since);
        let right = s9::remedied(now, host, guest, mood, lost, said);
        self.remedies += 1;
        self.hold(right);
    }

    /// The driver runs a guest's probe through its agent.
    pub(super) fn probe(&mut self, host: usize, life: u32, order: &GuestOrder) {
        let now = self.world.now();
        let found = self.hosts[host].proc(order);
        let can = found.map(|at| self.hosts[host].procs[at].mind);
        let Some(mind) = can.filter(|m| m.answers(now) && m.hold.is_none()) else {
            let why = "the agent does not answer".to_owned();
            return self.done(host, life, order.order, Err(why));
        };
        let seen = Observation::Probe(match mind.mood {
            Mood::Sick => Err("exit status 1".into()),
            _ => Ok(()),
        });
        let (guest, epoch) = (order.guest, order.epoch);
        let fact = Fact::Observed { guest, epoch, seen };
        self.world.tell(host, 0, Local::fact(fact));
        self.done(host, life, order.order, Ok(()));
    }
}
