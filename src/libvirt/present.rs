//! What may run here, told without libvirt.

use super::driver::{Inner, Libvirt};
use crate::guardian::processes::leader;
use crate::hypervisor::lock;
use quorate_membership::Token;
use quorate_recovery::contract::GuestSeen;
use quorate_recovery::guest::GuestId;
use std::collections::{BTreeMap, BTreeSet};

impl Inner {
    /// Every life that has a process, carries the marks, or may still be started: what a daemon
    /// that starts must reckon with, whether libvirt is there or not. What is held shows as
    /// running, until libvirt says more.
    pub(super) fn present(&self) -> Result<Vec<GuestSeen>, String> {
        let mut seen = BTreeMap::new();
        for life in lock(&self.starting).keys() {
            seen.insert(*life, true);
        }
        let known = self.registry.known()?;
        let marked = if self.qemu() {
            self.registry.marked()?
        } else {
            Default::default()
        };
        for one in &known {
            let here = one.record.as_ref().is_some_and(|r| {
                r.boot == self.registry.boot && (!self.qemu() || leader(r).is_some())
            });
            if here || marked.contains(&one.life) {
                seen.entry(one.life).or_insert(false);
            }
        }
        for life in marked {
            // A registered one that is no domain is of the built-in hypervisor.
            if !self.registry.run.guest(life.0, life.1).exists() {
                seen.entry(life).or_insert(false);
            }
        }
        Ok(seen
            .into_iter()
            .map(|((guest, epoch), paused)| GuestSeen {
                guest,
                epoch,
                paused,
            })
            .collect())
    }

    /// UUIDs of the domains whose registered processes are there.
    pub(super) fn own(&self) -> Result<BTreeSet<u128>, String> {
        let known = self.registry.known()?.into_iter();
        let there = known.filter(|k| k.record.as_ref().and_then(leader).is_some());
        Ok(there.map(|k| k.uuid).collect())
    }

    /// Whether a life is a domain by its mark in the run directory.
    pub(super) fn owns(&self, guest: GuestId, epoch: Token) -> Result<bool, String> {
        let known = self.registry.known()?;
        Ok(known.iter().any(|k| k.life == (guest, epoch)))
    }
}

impl Libvirt {
    /// UUIDs of the domains here that are this host's by their registered processes, whatever
    /// their tags say.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn own(&self) -> Result<BTreeSet<u128>, String> {
        self.inner.own()
    }
}
