//! Stores that are copied, set back to the copy, and stores that are on two machines.

use super::action::Fate;
use super::picture::mark;
use super::{Event, Sim, SimNode};
use crate::world::{MS, SECOND};
use quorate_membership::store::Image;
use quorate_membership::vouch::Claim;
use quorate_membership::{NodeId, Slot};
use quorate_recovery::command::Command;
use quorate_recovery::executor::GuestPromise;
use quorate_recovery::guest::GuestId;
use std::collections::BTreeMap;

/// A machine's disk and, for one that is reverted whole, its run directory, as they once were.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    image: Image<Command>,
    promises: BTreeMap<GuestId, GuestPromise>,
    mark: Option<Claim>,
    marking: bool,
}

impl<N: SimNode> Sim<N> {
    /// The node whose store is on that machine.
    pub(super) fn node_of(&self, machine: usize) -> NodeId {
        self.hosts[machine].image.node
    }

    /// Every machine with the store of that node.
    pub(super) fn machines_of(&self, node: NodeId) -> Vec<usize> {
        let all = 0..self.plan.hosts;
        all.filter(|m| self.node_of(*m) == node).collect()
    }

    /// The machine at the other end of `host`'s session with that node.
    pub(super) fn partner(&self, host: usize, node: NodeId) -> usize {
        let known = self.hosts[host].partners.get(&node).copied();
        known.unwrap_or((node.0 as usize).wrapping_sub(1))
    }

    /// A session between two machines is up: another machine of that node has had its own before,
    /// and a node keeps one session with each other node.
    pub(super) fn joined(&mut self, host: usize, machine: usize) {
        let node = self.node_of(machine);
        let before = self.hosts[host].partners.insert(node, machine);
        if let Some(before) = before.filter(|b| *b != machine) {
            self.world.end_session(host, before);
        }
    }

    pub(super) fn befalls_store(&mut self, host: usize, fate: Fate) {
        if fate == Fate::Altered {
            return self.alter(host);
        }
        if fate == Fate::AlteredInMemory {
            return self.alter_in_memory(host);
        }
        let h = &self.hosts[host];
        if fate == Fate::Copied {
            let copy = Copy {
                image: h.image.clone(),
                promises: h.promises.clone(),
                mark: h.mark,
                marking: h.marking,
            };
            self.hosts[host].copy = Some(copy);
            mark!(self, host, Truth, "its store is copied");
            return;
        }
        let Some(copy) = h.copy.clone() else { return };
        if copy.image.node != h.image.node || !h.on {
            return;
        }
        // A memory that is reverted is that of the same life; what ran on the machine is not modelled.
        let lives = (copy.image.incarnation, h.image.incarnation);
        if fate == Fate::Reverted && (lives.0 != lives.1 || !self.world.is_up(host)) {
            return;
        }
        mark!(self, host, Truth, "is set back: {fate:?}");
        match fate {
            Fate::SetBackOverBoot => self.power_off(host, Some(SECOND / 2)),
            _ => self.crash(host),
        }
        let length = copy.image.trimmed + copy.image.log.len() as u64;
        self.s10.cut(host, length.min(copy.image.decided));
        let boot = self.hosts[host].boot;
        let h = &mut self.hosts[host];
        h.image = copy.image;
        h.promises = copy.promises;
        match fate {
            Fate::Reverted => {
                (h.mark, h.marking) = (copy.mark, copy.marking);
                h.same_life = true;
                self.world.after(MS, Event::DaemonStart { host, boot });
            }
            Fate::SetBack => {
                let delay = SECOND / 2;
                self.world.after(delay, Event::DaemonStart { host, boot });
            }
            Fate::SetBackOverBoot | Fate::Copied | Fate::Altered | Fate::AlteredInMemory => {}
        }
    }

    /// Another machine is started with a copy of this one's disk: the copy made before, or its disk
    /// as it is. What that machine was is gone for good.
    pub(super) fn cloned(&mut self, host: usize, onto: usize) {
        if host == onto {
            return;
        }
        let h = &self.hosts[host];
        let now = Copy {
            image: h.image.clone(),
            promises: h.promises.clone(),
            mark: None,
            marking: false,
        };
        let copy = h.copy.clone().unwrap_or(now);
        let profile = h.profile.clone();
        self.power_off(onto, None);
        mark!(self, onto, Truth, "gets the disk of {}", self.name(host));
        let length = copy.image.trimmed + copy.image.log.len() as u64;
        self.s10.cut(onto, length.min(copy.image.decided));
        for other in 0..self.plan.hosts {
            self.hosts[other].partners.retain(|_, m| *m != onto);
        }
        let h = &mut self.hosts[onto];
        h.image = copy.image;
        h.promises = copy.promises;
        h.copy = None;
        h.profile.name = profile.name;
        h.profile.store = profile.store;
        h.profile.witness = profile.witness;
        h.profile.capacity = profile.capacity;
        let named = self.node_of(onto).0;
        let slot = (named as usize <= self.plan.voters).then_some(Slot(named as u8));
        self.s3.votes(onto, slot);
        self.power_on(onto);
    }
}
