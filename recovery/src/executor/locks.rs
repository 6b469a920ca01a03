//! Locks of the guests of this host: read before a start, written before a guest goes on.
//!
//! Both are orders like any other, with a deadline of their own; what cannot be read or written is
//! an alert and holds up nothing.

use super::sight::{Deed, Phase, Surroundings};
use super::{Executor, ORDER_PATIENCE};
use crate::command::Closure;
use crate::contract::{GuestAction, Start};
use crate::guest::{GuestId, Wanted};
use crate::images::Harmless;
use crate::lock::{self, Found, Lock, LockPlan, LockReading, LockState};
use crate::machine::GuestRecord;
use crate::mutants::planted;
use quorate_membership::{Time, Token};

/// The order to write the locks of a guest; `None` if it has none.
fn writing(s: &Surroundings<'_>, guest: GuestId, r: &GuestRecord) -> Option<GuestAction> {
    let images = lock::images(&r.spec);
    if images.is_empty() {
        return None;
    }
    let plan = LockPlan {
        lock: Lock {
            cluster: s.cluster.id,
            guest,
            life: r.life()?,
            raised: 0,
        },
        name: r.spec.name.clone(),
        images,
    };
    Some(GuestAction::WriteLocks(Box::new(plan)))
}

impl Executor {
    /// Begins the start of a guest: what its images say comes first.
    pub(super) fn begin(&mut self, s: &Surroundings<'_>, guest: GuestId, r: &GuestRecord) {
        let images = lock::images(&r.spec);
        if images.is_empty() || planted("lock-not-read") {
            return self.create(s, guest, r);
        }
        self.enter(s.now, guest, r.epoch, Phase::Reading);
        self.order(s.now, guest, GuestAction::ReadLocks(images), s.lease_end);
    }

    fn create(&mut self, s: &Surroundings<'_>, guest: GuestId, r: &GuestRecord) {
        self.enter(s.now, guest, r.epoch, Phase::Creating);
        let create = GuestAction::Create(Box::new(Start {
            spec: r.spec.clone(),
            harmless: Harmless {
                left: r.images.left.clone(),
                scratch: r.images.scratch.clone(),
            },
        }));
        self.order(s.now, guest, create, s.lease_end);
    }

    /// Whether a start was called off for a lock a moment ago; the hold is on its way to the log.
    pub(super) fn barred(&mut self, s: &Surroundings<'_>, guest: GuestId) -> bool {
        self.barred
            .retain(|_, at| s.now.since(*at) < ORDER_PATIENCE);
        self.barred.contains_key(&guest)
    }

    /// The hold stands in the log.
    pub(super) fn unbar(&mut self, guest: GuestId) {
        self.barred.remove(&guest);
    }

    /// What stands beside the images of a guest that is about to start. Gives whether anything
    /// follows.
    pub(crate) fn locks_read(
        &mut self,
        s: &Surroundings<'_>,
        order: u64,
        readings: &[LockReading],
    ) -> bool {
        let reads = |phase, given: Option<(u64, _)>| {
            phase == Phase::Reading && given.is_some_and(|(number, _)| number == order)
        };
        let found = self.processes.iter().find(|(_, p)| reads(p.phase, p.order));
        let Some((guest, epoch)) = found.map(|(g, p)| (*g, p.epoch)) else {
            return false;
        };
        let mut unreadable = false;
        for reading in readings {
            if let Found::Unreadable(why) = &reading.found {
                unreadable = true;
                let text = format!(
                    "the lock of {} cannot be read, the guest is started all the same: {why}",
                    reading.image
                );
                self.deeds.push(Deed::Alert(guest, text));
            }
        }
        if unreadable && planted("unreadable-lock-bars-start") {
            self.put_aside(guest);
            self.barred.insert(guest, s.now);
            return true;
        }
        match lock::judge(s.guests, s.cluster.id, guest, readings) {
            Some(reason) => {
                self.put_aside(guest);
                self.barred.insert(guest, s.now);
                self.deeds.push(Deed::Hold(guest, epoch, reason));
            }
            None => self.go_on(s, guest, epoch),
        }
        true
    }

    /// Reading told nothing: the start goes on.
    pub(super) fn locks_unread(&mut self, s: &Surroundings<'_>, guest: GuestId, why: &str) {
        let text = format!("its locks cannot be read, it is started all the same: {why}");
        self.deeds.push(Deed::Alert(guest, text));
        if let Some(epoch) = self.processes.get(&guest).map(|p| p.epoch) {
            self.go_on(s, guest, epoch);
        }
    }

    /// No lock stands in the way: the guest is created, if it is still to start here.
    fn go_on(&mut self, s: &Surroundings<'_>, guest: GuestId, epoch: Token) {
        self.put_aside(guest);
        if self.store_failed && !planted("created-after-the-store-failed") {
            // Whether the promise behind this start became durable is not known: it is given back.
            let why = Closure::Refused("the store of this host failed".into());
            return self.close(guest, epoch, why);
        }
        let given = s
            .mine(guest)
            .filter(|r| r.epoch == epoch && r.wanted == Wanted::Running && r.held().is_none());
        let refused = epoch <= self.promise(guest).closed;
        let roomy = s.lease_left() > s.cluster.timing.pause_margin;
        if let Some(r) = given.filter(|_| roomy && !refused && !s.leaving && !self.killing) {
            self.create(s, guest, r);
        }
    }

    /// Nothing of the guest was begun: as if it had not been looked at.
    fn put_aside(&mut self, guest: GuestId) {
        if let Some(process) = self.processes.remove(&guest) {
            self.kept.insert(guest, process.watch.into_notes());
            self.astray = true;
        }
    }

    /// Has the locks of a guest written that was created and has not run. Gives whether that was
    /// ordered: once for each process, and only if there are any.
    pub(super) fn lock(&mut self, s: &Surroundings<'_>, guest: GuestId) -> bool {
        let Some(process) = self.processes.get_mut(&guest).filter(|p| !p.locked) else {
            return false;
        };
        process.locked = true;
        let epoch = process.epoch;
        let Some(r) = s.mine(guest).filter(|r| r.epoch == epoch) else {
            return false;
        };
        process.locked_as = r.images.followed;
        let Some(order) = writing(s, guest, r) else {
            return false;
        };
        process.phase = Phase::Locking;
        let until = s.lease_end.map(|end| end - s.cluster.timing.pause_margin);
        self.order(s.now, guest, order, until);
        true
    }

    /// Has the locks of a guest that runs written beside its images as they are now, once its
    /// record has followed it to others. What it left keeps its lock as it was.
    pub(super) fn relock(&mut self, s: &Surroundings<'_>, guest: GuestId, until: Option<Time>) {
        let Some(process) = self.processes.get_mut(&guest) else {
            return;
        };
        let epoch = process.epoch;
        let Some(r) = s.mine(guest).filter(|r| r.epoch == epoch) else {
            return;
        };
        if process.locked_as >= r.images.followed {
            return;
        }
        process.locked_as = r.images.followed;
        if let Some(order) = writing(s, guest, r)
            && let Some(order) = self.aside(guest, order, until)
            && let Some(process) = self.processes.get_mut(&guest)
        {
            process.relock = Some((order, s.now));
        }
    }

    /// The answer to that. Its keeper goes on trying, if there is one.
    pub(super) fn relocked(&mut self, guest: GuestId, result: &Result<(), String>) {
        if let Err(why) = result {
            let text = format!("the locks of its new images are not written, it runs on: {why}");
            self.deeds.push(Deed::Alert(guest, text));
        }
    }

    /// Its locks were written, or could not be: it goes on either way.
    pub(super) fn locks_written(&mut self, guest: GuestId, result: Result<(), String>) {
        let Some(process) = self.processes.get_mut(&guest) else {
            return;
        };
        process.phase = Phase::Held;
        let deed = match result {
            Ok(()) => Deed::Locked(guest, process.epoch),
            Err(why) => {
                let text = format!("its locks are not written, it runs all the same: {why}");
                Deed::Alert(guest, text)
            }
        };
        self.deeds.push(deed);
    }

    /// How the locks of a guest that runs stand now.
    pub(crate) fn lock_state(
        &mut self,
        s: &Surroundings<'_>,
        guest: GuestId,
        epoch: Token,
        state: &LockState,
    ) {
        let Some(process) = self.processes.get_mut(&guest).filter(|p| p.epoch == epoch) else {
            return;
        };
        let before = std::mem::replace(&mut process.lock_failing, state.failing.clone());
        let text = match (before, &state.failing) {
            (None, Some(why)) => Some(format!("its locks cannot be raised, it runs on: {why}")),
            (Some(_), None) => Some("its locks are raised again".to_owned()),
            _ => None,
        };
        if let Some(text) = text {
            self.deeds.push(Deed::Alert(guest, text));
        }
        let met = state.met.iter().map(|seen| LockReading {
            image: seen.image.clone(),
            found: Found::Lock(seen.lock),
        });
        let met: Vec<LockReading> = met.collect();
        if let Some(reason) = lock::judge(s.guests, s.cluster.id, guest, &met) {
            self.deeds.push(Deed::Hold(guest, epoch, reason));
        }
    }

    /// Guests of this host whose locks cannot be raised: how many, and one of them with the reason.
    pub(crate) fn locks_failing(&self) -> Option<(usize, GuestId, String)> {
        let mut failing = self
            .processes
            .iter()
            .filter_map(|(g, p)| Some((*g, p.lock_failing.as_ref()?)));
        let (guest, why) = failing.next()?;
        Some((failing.count() + 1, guest, why.to_string()))
    }
}
