//! Our cluster in the false world: hosts, hypervisors, guardians, watchdogs and fence devices
//! around the node under test, and the truth about who can write.

pub mod action;
mod copies;
mod devices;
pub mod draw;
mod events;
mod faults;
mod fingerprint;
mod flaws;
mod founding;
mod guarding;
mod guests;
mod host;
mod images;
mod learn;
mod locks;
mod minds;
mod modes;
pub mod node;
mod nodes;
mod outlets;
mod picture;
mod plainer;
pub mod plan;
mod probe;
pub mod report;
pub mod shapes;
mod states;
mod steady;
mod storage;
mod subject;
pub mod triggers;
mod types;
mod waiting;
mod words;

#[cfg(test)]
mod tests;

pub use node::SimNode;
pub use plan::{Expect, Expected, Plan};
pub use subject::Cluster;

use self::action::Wish;
use crate::check::audit::{Audit, Finding};
use crate::check::l1::Clocks;
use crate::check::l2::Stretch;
use crate::check::s1::S1;
use crate::check::s2::S2;
use crate::check::s3_s5::{S3, S5};
use crate::check::s4::S4;
use crate::check::s6::S6;
use crate::check::s7::S7;
use crate::check::s10::S10;
use crate::check::s14::S14;
use crate::check::s16::S16;
use crate::check::s17::S17;
use crate::check::taken::Taken;
use crate::check::told::Told;
use crate::check::traffic::Traffic;
use crate::check::{HostName, Violation};
use crate::harness::{Counts, Outcome};
use crate::world::{Clock, Happening, Layout, MS, Rng, RunHash, SECOND, Sources, Stream, World};
pub(crate) use events::{Event, Local};
use host::Host;
use quorate_membership::Token;
use quorate_recovery::contract::{Effect, Fact};
use quorate_recovery::guest::GuestId;
use std::rc::Rc;
pub(crate) use types::Quorate;

/// So often the states of all nodes are compared, and at the end. What differs stays different.
const COMPARE_EVERY: u64 = 10 * SECOND;

/// One run of one plan.
pub struct Sim<N> {
    pub(crate) world: World<Quorate>,
    plan: Plan,
    hosts: Vec<Host>,
    nodes: Vec<Option<N>>,
    out: Vec<Effect>,
    hash: RunHash,
    violation: Option<Violation>,

    fence_rng: Rng,
    guest_rng: Rng,
    look_rng: Rng,
    processes: Sources,
    client_rng: Rng,

    audit: Audit,
    s1: S1,
    s2: S2,
    s3: S3,
    s4: S4,
    s5: S5,
    s6: S6,
    s7: S7,
    s10: S10,
    told: Told,
    taken: Taken,
    s14: S14,
    traffic: Traffic,
    s16: S16,
    s17: S17,
    /// The images of every guest.
    disks: Vec<images::Disk>,
    l1: Clocks,
    locks: locks::Locks,
    stretch: Option<Stretch>,
    /// Counts the stretches L2 was looked at.
    stretches: u32,

    fences: Vec<devices::Fence>,
    /// True time until which somebody is logged in at the switched strip of the site.
    strip_until: u64,
    found: Vec<(Token, Finding)>,
    /// Cuts whose attempt the auditor has not yet seen.
    cuts: Vec<(u64, usize, Token)>,
    guest_ids: Vec<Option<GuestId>>,
    starts: Vec<(GuestId, u32)>,
    requests: u64,
    /// Requests under way: client number, guest added by it.
    /// What clients asked for and wait for.
    asked: Vec<(u64, Wish)>,
    /// Guests and messages that clients were told are there, and when they were told.
    acknowledged: Vec<(u64, u64, Wish)>,
    /// Clients that were told that their message is not published and never will be.
    denied: Vec<u64>,
    /// Scenario expectations that hold from some time on.
    standing: Vec<usize>,
    kills: u32,
    remedies: u32,
    /// What was done, and what the log came to.
    exposure: Counts,
    /// How often everything was made whole again.
    calms: u32,
    watch: triggers::Watch,
}

impl<N: SimNode> Sim<N> {
    /// A run about to begin.
    #[must_use]
    pub fn new(plan: Plan, traced: bool) -> Sim<N> {
        let n = plan.hosts;
        let layout = Layout {
            nodes: n,
            // The last network leads to the fence devices.
            networks: plan.networks + 1,
            session_networks: plan.networks,
            session_loss: SECOND,
            session_open: 100 * MS,
        };
        let mut world = World::new(plan.seed, layout);
        if traced {
            world.record(picture::names(n, plan.networks));
        }
        world.timer_late = MS / 2;
        let mut clock_rng = Rng::new(plan.seed, Stream::Clock);
        for host in 0..n {
            let clock = Clock {
                offset: clock_rng.range(SECOND, 1_000_000 * SECOND),
                rate_ppb: plan.rates[host],
            };
            world.set_clock(host, clock);
            for to in 0..n {
                for net in 0..plan.networks {
                    world.change_link(net, host, to, |l| (l.base, l.jitter) = plan.delay);
                }
            }
        }
        let quorum = plan.voters / 2 + 1;
        let slots = (0..n)
            .map(|h| (h < plan.voters).then_some(quorate_membership::Slot(h as u8 + 1)))
            .collect();
        let lease = plan.timing.lease;
        let mut sim = Sim {
            world,
            hosts: nodes::hosts(&plan),
            nodes: (0..n).map(|_| None).collect(),
            out: Vec::with_capacity(32),
            hash: RunHash::default(),
            violation: None,
            fence_rng: Rng::new(plan.seed, Stream::Fence),
            guest_rng: Rng::new(plan.seed, Stream::Guests),
            look_rng: Rng::new(plan.seed, Stream::Minds),
            processes: Sources::new(plan.seed, Stream::Host, plan.hosts),
            client_rng: Rng::new(plan.seed, Stream::Clients),
            audit: Audit::new(plan.proof),
            // One more: a host of no cluster.
            s1: S1::new(n + 1),
            s2: S2::default(),
            s3: S3::new(slots, lease, quorum),
            s4: S4::new(n, plan.voters),
            s5: S5::new(n),
            s6: S6::new(n),
            s7: S7::default(),
            s10: S10::new(n),
            told: Told::new(n),
            taken: Taken::new(n, plan.taken_late),
            s14: S14::new(n),
            traffic: Traffic::new(plan.voters),
            s16: S16::default(),
            s17: S17::default(),
            disks: vec![images::Disk::default(); plan.guests],
            l1: Clocks::new(n),
            locks: locks::Locks::new(plan.guests),
            stretch: None,
            stretches: 0,
            fences: Vec::new(),
            strip_until: 0,
            found: Vec::new(),
            cuts: Vec::new(),
            guest_ids: vec![None; plan.guests],
            starts: Vec::new(),
            requests: 0,
            asked: Vec::new(),
            acknowledged: Vec::new(),
            denied: Vec::new(),
            standing: Vec::new(),
            kills: 0,
            remedies: 0,
            exposure: Counts::default(),
            calms: 0,
            watch: triggers::Watch::new(plan.triggers.len()),
            plan,
        };
        sim.begin();
        sim
    }

    fn begin(&mut self) {
        self.note_links();
        for host in 0..self.plan.hosts {
            let boot = self.hosts[host].boot;
            let delay = self.processes.next(host).range(MS, 300 * MS);
            self.world.after(delay, Event::DaemonStart { host, boot });
            let poll = self.processes.next(host).range(0, SECOND);
            self.world.after(poll, Event::Poll { host });
            let look = self.look_rng.range(0, 2 * SECOND);
            self.world.after(look, Event::Look { host });
            if self.hosts[host].watchdog {
                self.world.after(MS, Event::FeedLook { host, boot });
            }
        }
        for i in 0..self.plan.timeline.len() {
            self.world.after(self.plan.timeline[i].0, Event::Action(i));
        }
        for i in 0..self.plan.expect.len() {
            self.world.after(self.plan.expect[i].at, Event::Expect(i));
        }
        self.begin_surveys();
        self.world.after(500 * MS, Event::Clients);
        self.world.after(COMPARE_EVERY, Event::Compare);
        self.world.after(SECOND, Event::Waiting);
        if let Some(healed) = self.plan.healed {
            // Daemons that are down come back, sessions open, a stalled log moves on.
            let settle = healed + self.settle_time();
            self.world
                .after(settle, Event::Liveness { step: 0, number: 0 });
        }
    }

    /// Runs to the end or to the first broken promise.
    pub fn run(mut self) -> Outcome {
        let end = self.plan.end;
        while self.violation.is_none() {
            let Some(h) = self.world.next(end) else {
                break;
            };
            self.happen(h);
        }
        if self.violation.is_none() {
            self.end();
        }
        self.outcome()
    }

    fn happen(&mut self, h: Happening<Quorate>) {
        match h {
            Happening::Datagram {
                to, net, message, ..
            } => {
                // Every link brings it: what is a repeat, the node tells.
                let frame = Rc::unwrap_or_clone(message);
                let link = quorate_membership::LinkId(net as u8);
                self.step(to, Fact::Frame { link, frame });
            }
            Happening::SessionUp { node, peer } => {
                self.joined(node, peer);
                let incarnation = self.hosts[peer].image.incarnation;
                let peer = self.node_of(peer);
                self.step(node, Fact::SessionUp { peer, incarnation });
            }
            Happening::SessionDown { node, peer } => {
                let machine = peer;
                let peer = self.node_of(machine);
                if self.partner(node, peer) == machine {
                    self.step(node, Fact::SessionDown { peer });
                }
            }
            Happening::Message { to, from, message } => {
                let peer = self.node_of(from);
                if self.partner(to, peer) != from {
                    return;
                }
                let message = *message;
                self.step(to, Fact::Stream { peer, message });
            }
            Happening::Timer { node } => self.timer(node),
            Happening::Local { node, fact } => match fact {
                Local::Fact(fact) => self.step(node, *fact),
                Local::Order(order) => self.order(node, *order),
                Local::Launch(launch) => self.launch(node, &launch),
                Local::Try(launch) => self.try_device(node, &launch),
                Local::FenceWake(at) => self.fence_poll(at),
                Local::AgentEnded { fence, device, end } => self.agent_ended(fence, device, &end),
                Local::Lease(end) => self.lease(node, end),
            },
            Happening::Stored { node, batch, write } => self.stored(node, batch, write),
            Happening::Event(event) => self.event(event),
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Action(i) => {
                let action = self.plan.timeline[i].1.clone();
                self.perform(i, &action);
            }
            Event::Expect(i) => self.judge(i),
            Event::DaemonStart { host, boot } => {
                let h = &self.hosts[host];
                if h.on && h.boot == boot && !self.world.is_up(host) {
                    self.start_daemon(host);
                }
            }
            Event::PowerOn { host, boot } => {
                if self.hosts[host].boot == boot {
                    self.power_on(host);
                }
            }
            Event::Thaw { host, until } => self.thaw(host, until),
            Event::Poll { host } => self.poll(host),
            Event::Look { host } => self.look(host),
            Event::Survey { host, once } => self.survey(host, once),
            Event::Copied { host, guest, epoch } => self.copied(host, guest, epoch),
            Event::BackedUp { host, guest, epoch } => self.backed_up(host, guest, epoch),
            Event::Compare => {
                self.compare();
                self.world.after(COMPARE_EVERY, Event::Compare);
            }
            Event::LetGo { guest } => self.released(guest),
            Event::Waiting => self.look_for_waiting(),
            Event::Clients => self.clients(),
            Event::Liveness { step, number } => self.liveness(step, number),
            Event::FenceAct { attempt, host } => self.fence_act(attempt, host),
            Event::Outlet {
                host,
                boot,
                feed,
                attempt,
                on,
            } => self.outlet(host, boot, (feed, on), attempt),
            Event::FenceActWrong { attempt, host } => self.fence_act_wrong(attempt, host),
            Event::FenceActLate {
                attempt,
                host,
                boot,
            } => {
                if self.hosts[host].on && self.hosts[host].boot == boot {
                    self.fence_act(attempt, host);
                }
            }
            Event::Watchdog { host, boot, fed } => self.watchdog_fires(host, boot, fed),
            Event::Later { calms, action } => {
                if calms == self.calms {
                    self.act(&action);
                }
            }
            Event::Trigger { number, that } => self.trigger(number, that),
            other => self.machine_event(other),
        }
    }

    /// Events of the software of one machine: they wait while it is frozen.
    fn machine_event(&mut self, event: Event) {
        let (host, boot) = match &event {
            Event::Guardian { host, boot, .. }
            | Event::GuardianBack { host, boot, .. }
            | Event::Killed { host, boot }
            | Event::Left { host, boot }
            | Event::Reset { host, boot }
            | Event::GoesOn { host, boot }
            | Event::FeedLook { host, boot }
            | Event::Feed { host, boot }
            | Event::Created { host, boot, .. }
            | Event::Act { host, boot, .. }
            | Event::Ended { host, boot, .. } => (*host, *boot),
            _ => return,
        };
        let h = &self.hosts[host];
        if !h.on || h.boot != boot {
            return;
        }
        let now = self.world.now();
        if h.frozen_until > now {
            let wait = h.frozen_until - now;
            self.world.after(wait, event);
            return;
        }
        match event {
            Event::Guardian { host, at, .. } => self.guardian_timer(host, at),
            Event::GuardianBack { host, until, .. } => self.guardian_back(host, until),
            Event::Killed { host, .. } => self.killed(host),
            Event::Left { host, .. } => self.left(host),
            Event::Reset { host, .. } => self.reset_host(host),
            Event::GoesOn { host, .. } => self.goes_on(host),
            Event::FeedLook { host, .. } => self.feed_look(host),
            Event::Feed { host, .. } => self.feed(host),
            Event::Created {
                host,
                life,
                order,
                number,
                fails,
                ..
            } => self.created(host, life, order, number, fails),
            Event::Act {
                host, life, order, ..
            } => self.carry_out(host, life, &order),
            Event::Ended {
                host,
                life,
                order,
                guest,
                epoch,
                ..
            } => self.ended(host, life, order, guest, epoch),
            _ => {}
        }
    }

    /// Records the first broken promise; later ones are consequences.
    fn hold(&mut self, result: Result<(), Violation>) {
        if let Err(v) = result
            && self.violation.is_none()
        {
            self.world.broken(v.property, &v.what, &v.facts);
            self.violation = Some(v);
        }
    }

    fn name(&self, host: usize) -> HostName {
        HostName(host)
    }
}
