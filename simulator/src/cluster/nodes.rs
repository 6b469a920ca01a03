//! The daemons: their starts and ends, their facts and effects.

use super::action::{Class, WatchdogMode};
use super::fingerprint::fact_kind;
use super::host::{Guardian, Host};
use super::picture::{OrderLine, mark};
use super::triggers::When;
use super::{Event, Local, Plan, Sim, SimNode, devices, founding};
use crate::check::Violation;
use crate::world::{MS, Rng, Stream};
use quorate_membership::entry::{Capacity, Machine, Profile};
use quorate_membership::frame::{Datagram, Stream as OnSession};
use quorate_membership::member::LOG_LIMIT;
use quorate_membership::store::Image;
use quorate_membership::vouch::Freshness;
use quorate_membership::{BootId, ClusterId, Incarnation, NodeId, StoreId, Time};
use quorate_recovery::Setup;
use quorate_recovery::contract::{Effect, Fact, GuestAction, GuestSeen, NodeFrame};
use quorate_recovery::machine::published_before;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The node of a host.
pub(super) fn id(host: usize) -> NodeId {
    NodeId(host as u32 + 1)
}

/// Every machine of a plan, its disk new.
pub(super) fn hosts(plan: &Plan) -> Vec<Host> {
    let mut rng = Rng::new(plan.seed, Stream::Shape);
    let mut wide = || u128::from(rng.bits()) << 64 | u128::from(rng.bits());
    let cluster = ClusterId(wide());
    let stores: Vec<StoreId> = (0..plan.hosts).map(|_| StoreId(wide())).collect();
    let founding = founding::found(plan, cluster, &stores);
    let guests = plan.guests as u64;
    (0..plan.hosts)
        .map(|h| {
            let witness = h < plan.voters && h >= plan.voters - plan.witnesses;
            Host {
                read: (0, Time::ZERO, Time::ZERO),
                acts: (Time::ZERO, 0),
                order_at: 0,
                act_at: BTreeMap::new(),
                ends: BTreeMap::new(),
                on: true,
                boot: 1,
                frozen_until: 0,
                starved_until: 0,
                disturbed: 0,
                watchdog: plan.watchdogs[h],
                stuck_kill: false,
                watchdog_mode: WatchdogMode::Works,
                untold_until: 0,
                late_writes: 0,
                store_failed: false,
                shut_down_at: 0,
                rotten: false,
                mark: None,
                marking: false,
                same_life: false,
                copy: None,
                altered: Default::default(),
                partners: BTreeMap::new(),
                guardian: Guardian::default(),
                procs: Vec::new(),
                creations: Vec::new(),
                creation_number: 0,
                aborted: 0,
                busy: BTreeMap::new(),
                silent_until: 0,
                other_silent_until: 0,
                slow_create: 0,
                storage_gone_until: 0,
                writes_held_until: 0,
                scan_hangs_until: 0,
                kill: plan.timing.kill,
                device: plan.devices[h],
                outlet: plan.outlets[h],
                feeds: [true; 2],
                image: Image::new(id(h), stores[h], Incarnation::default(), founding.clone()),
                promises: BTreeMap::new(),
                profile: Profile {
                    name: format!("h{}", h + 1),
                    store: stores[h],
                    boot: BootId(wide()),
                    witness,
                    machine: Machine {
                        uuid: wide(),
                        cards: h as u64 + 1,
                        bare: plan.bare[h],
                    },
                    capacity: Capacity {
                        vcpus: if witness { 0 } else { guests.max(64) as u32 },
                        memory_mib: if witness { 0 } else { plan.room[h] },
                    },
                },
                cuts: 0,
                outages: 0,
            }
        })
        .collect()
}

impl<N: SimNode> Sim<N> {
    pub(super) fn start_daemon(&mut self, host: usize) {
        if self.hosts[host].rotten {
            mark!(self, host, Note, "daemon finds its store unreadable");
            return;
        }
        let h = &mut self.hosts[host];
        if !std::mem::take(&mut h.same_life) {
            h.image.incarnation = Incarnation {
                counter: h.image.incarnation.counter + 1,
                random: self.processes.next(host).bits(),
            };
        }
        h.partners.clear();
        let mark = h.mark.filter(|_| !crate::mutants::host("mark-not-kept"));
        h.marking = mark.is_some_and(|m| !m.newer_than(&h.image.claim()));
        let fencing = devices::levels(host, h);
        self.flaws_of_start(host);
        let h = &self.hosts[host];
        let inherited_lease = h.guardian.end;
        let setup = Setup {
            freshness: Freshness {
                mark,
                waits: self.plan.waits,
            },
            snapshot_every: self.plan.snapshot_every,
            log_limit: self.plan.log_limit,
            links: (1..=self.plan.networks)
                .map(|n| format!("net{n}"))
                .collect(),
            image: h.image.clone(),
            promises: h.promises.clone(),
            profile: h.profile.clone(),
            inherited_lease,
            guarded: !h.profile.witness,
            present: h.procs.iter().map(seen).collect(),
            fencing,
        };
        self.world.start(host);
        self.s4.begins(self.world.now(), host);
        self.told.begins(host);
        let base = published_before(&setup.image);
        // Beyond a short limit of the log nothing is kept for anybody.
        if self.plan.log_limit == LOG_LIMIT {
            let taken = self.taken.begins(self.world.now(), host, base);
            self.hold(taken);
        }
        self.l1.host(self.world.now(), host);
        mark!(
            self,
            host,
            Note,
            "daemon starts, incarnation {}",
            setup.image.incarnation
        );
        self.notice(When::DaemonStarts, Some(host), None);
        self.world.disk_mut(host).failed = false;
        self.hosts[host].store_failed = false;
        let now = Time(self.world.reading(host));
        match N::new(now, setup) {
            Ok(node) => {
                self.nodes[host] = Some(node);
                self.note_state(host);
                self.timer(host);
            }
            Err(why) => {
                let at = self.world.now();
                let name = self.name(host);
                self.hold(Err(Violation::new(
                    "S10",
                    at,
                    format!("{name} cannot start from its own store"),
                    ["its store holds what it wrote, in order".into(), why],
                )));
            }
        }
    }

    /// Ends a daemon at once; guests and guardian go on.
    pub(super) fn crash(&mut self, host: usize) {
        if self.nodes[host].take().is_none() {
            return;
        }
        let now = self.world.now();
        self.s4.disturbed(host, u64::MAX);
        self.daemon_fails(host);
        self.l1.host(now, host);
        self.liveness_again(host);
        let acted = self.s6.acts(now, host, None);
        self.hold(acted);
        self.draw_acting(host, None);
        let kept = self.world.crash(host);
        // Its driver ends with it, and with that every order on its way.
        self.hosts[host].act_at.clear();
        // What was not kept may have been read as decided by nobody: compare again from disk.
        for writes in kept {
            self.write(host, writes);
        }
        self.learn(host);
    }

    /// Gives one fact to a node and carries its effects out.
    pub(super) fn step(&mut self, host: usize, fact: Fact) {
        let now = self.clock_for(host, &fact);
        let Some(node) = &mut self.nodes[host] else {
            return;
        };
        let true_now = self.world.now();
        if let Some(untaken) = self.taken.untaken(true_now, host) {
            node.set_untaken(untaken);
        }
        self.hash.add(true_now);
        self.hash.add((host as u64) << 8 | fact_kind(&fact));
        let mut out = std::mem::take(&mut self.out);
        node.step(now, fact, &mut out);
        let until = node.acting(now);
        let until = until.map(|until| {
            let acts = &mut self.hosts[host].acts;
            if acts.0 != until {
                *acts = (until, self.world.clock(host).true_time(until.0));
            }
            acts.1
        });
        let acted = self.s6.acts(true_now, host, until);
        self.hold(acted);
        self.draw_acting(host, until);
        let mut gap = 0;
        if out.len() > 1 && self.plan.stall > 0 {
            let mut rng = self.processes.next(host);
            if rng.chance(self.plan.stall) {
                // The daemon stalls between deciding and doing.
                gap = rng.range(0, 1500 * MS);
                self.world.stop(host, gap);
                self.disturb(host, gap);
                self.l1.host(true_now + gap, host);
            }
        }
        for effect in out.drain(..) {
            self.effect(host, now, gap, effect);
        }
        self.out = out;
    }

    fn effect(&mut self, host: usize, now: Time, gap: u64, effect: Effect) {
        self.hash_effect(&effect);
        match effect {
            Effect::Persist { batch, writes } => {
                let failed = self.hosts[host].store_failed;
                if failed {
                    // A store that failed takes nothing any more, whatever became of its disk.
                } else if self.world.disk(host).failed {
                    self.hosts[host].store_failed = true;
                    let why = "input/output error".to_owned();
                    self.world
                        .tell(host, MS, Local::fact(Fact::StoreFailed { why }));
                } else {
                    self.note_writes(&writes);
                    self.note_orders(&writes);
                    self.world.persist(host, gap, batch, writes);
                }
            }
            Effect::Datagram { frame } => self.datagram(host, now, gap, frame),
            Effect::Stream { peer, message } => {
                let to = self.partner(host, peer);
                if let OnSession::Propose(entries) = &message
                    && self.world.is_recording()
                {
                    self.note_proposals(entries.iter());
                }
                let bounded = self.traffic.streams(self.world.now(), host, to);
                self.hold(bounded);
                self.world.stream(host, to, gap, Box::new(message));
            }
            Effect::Guest(order) => {
                mark!(self, host, Order, "orders {}", OrderLine(&order));
                if matches!(order.action, GuestAction::Create(_)) {
                    let at = self.world.now();
                    let (guest, epoch) = (order.guest, order.epoch);
                    let named = self.node_of(host).0 as usize - 1;
                    let grounded = self.s2.starts(at, named, guest, epoch, &self.audit);
                    self.hold(grounded);
                }
                let now = self.world.now();
                let at = (now + gap).max(self.hosts[host].order_at);
                self.hosts[host].order_at = at;
                self.world
                    .tell(host, at - now, Local::Order(Box::new(order)));
            }
            Effect::Fence(launch) => {
                mark!(
                    self,
                    host,
                    Fence,
                    "launches a fence of {} for attempt {}",
                    launch.name,
                    launch.attempt
                );
                let delay = gap + self.fence_rng.range(0, 5 * MS);
                self.world
                    .tell(host, delay, Local::Launch(Box::new(launch)));
            }
            Effect::Try(launch) => {
                self.world.tell(host, gap, Local::Try(launch));
            }
            Effect::Lease { end } if gap == 0 => self.lease(host, end),
            Effect::Lease { end } => self.world.tell(host, gap, Local::Lease(end)),
            Effect::Event(e) | Effect::Copies { event: e, .. } => {
                mark!(self, host, Note, "says {:?}: {}", e.kind, e.text);
                self.said(host, &e);
            }
            Effect::Published { token, .. } => {
                self.taken.published(self.world.now(), host, token);
                let told = self.told.published(self.world.now(), host, token);
                self.hold(told);
            }
            Effect::Skipped { after, upto } => {
                mark!(
                    self,
                    host,
                    Note,
                    "skips what comes after {after}, up to {upto}"
                );
                self.taken.skipped(host, upto);
                let told = self.told.skipped(self.world.now(), host, (after, upto));
                self.hold(told);
            }
            Effect::Reply { client, reply } => self.replied(client, &reply),
            Effect::Unmark => {
                (self.hosts[host].mark, self.hosts[host].marking) = (None, false);
            }
            Effect::Restart { why, above } => {
                mark!(self, host, Note, "restarts: {why}");
                let life = &mut self.hosts[host].image.incarnation.counter;
                *life = above.max(*life);
                let boot = self.hosts[host].boot;
                self.crash(host);
                let delay = self.processes.next(host).range(50 * MS, 300 * MS);
                self.world.after(delay, Event::DaemonStart { host, boot });
            }
            Effect::Exit { why, .. } => {
                mark!(self, host, Note, "exits: {why}");
                let boot = self.hosts[host].boot;
                self.crash(host);
                // Whoever took it out of service brings it back.
                let delay = self.processes.next(host).range(300 * MS, 8000 * MS);
                self.world.after(delay, Event::DaemonStart { host, boot });
            }
            Effect::Wait { until } => {
                if self.nodes[host].is_some() {
                    self.world.wait(host, until.0);
                }
            }
        }
    }

    fn datagram(&mut self, host: usize, now: Time, gap: u64, frame: NodeFrame) {
        let class = match &frame.body {
            Datagram::Beat(beat) => {
                let incarnation = frame.header.incarnation.counter;
                self.s3.beat(host, incarnation, beat.sequence, now);
                self.note_lease(host);
                Class::Beat
            }
            Datagram::Relayed { .. } | Datagram::Bulletin(_) | Datagram::RelayedBulletin { .. } => {
                Class::Beat
            }
            Datagram::Ack(ack) => {
                let lives = |m: &usize| self.hosts[*m].image.incarnation == ack.incarnation;
                let of = self.machines_of(ack.host).into_iter().find(lives);
                let of = of.unwrap_or((ack.host.0 as usize).wrapping_sub(1));
                self.s3.acknowledged(of, ack);
                self.note_lease(of);
                Class::Ack
            }
            Datagram::Observation(_) => Class::Observation,
            Datagram::Election { .. } => Class::Election,
            Datagram::Join(_) => Class::Join,
        } as u8;
        let counted = self.traffic.sends(self.world.now(), &frame);
        self.hold(counted);
        let everybody = frame.to.is_empty() || self.plan.multicast;
        let addressed = frame.to.clone();
        let frame = Rc::new(frame);
        let send = |sim: &mut Self, to: usize| {
            if to == host || to >= sim.plan.hosts {
                return;
            }
            for net in 0..sim.plan.networks {
                sim.world
                    .datagram(net, host, to, class, gap, Rc::clone(&frame));
            }
        };
        if everybody {
            (0..self.plan.hosts).for_each(|to| send(self, to));
        } else {
            let machines: Vec<usize> = addressed
                .iter()
                .flat_map(|n| self.machines_of(*n))
                .collect();
            for to in machines {
                send(self, to);
            }
        }
    }
}

pub(super) fn seen(p: &super::host::Proc) -> GuestSeen {
    GuestSeen {
        guest: p.guest,
        epoch: p.epoch,
        paused: p.paused,
    }
}

pub(super) fn datagram_kind(frame: &NodeFrame) -> u64 {
    match frame.body {
        Datagram::Beat(_) => 0,
        Datagram::Relayed { .. } => 1,
        Datagram::Ack(_) => 2,
        Datagram::Observation(_) => 3,
        Datagram::Election { .. } => 4,
        Datagram::Join(_) => 5,
        Datagram::Bulletin(_) => 6,
        Datagram::RelayedBulletin { .. } => 7,
    }
}
