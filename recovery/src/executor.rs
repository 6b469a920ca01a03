//! The host's part (LRMd): obeys what the log gives to this host, under lease, and promises.
//!
//! `Placed` in the log this host follows *is* the order (V10); nothing else starts a guest. Every
//! promise is durable before its first effect, and the host's word *closed* is said only when the
//! process is gone and the refusal of its epoch is on disk (C8).

use crate::command::Closure;
use crate::contract::{GuestAction, GuestOrder, GuestSeen};
use crate::guest::{GuestId, OnShutdown};
use crate::hold::Words;
use crate::lrmd::{HostWatch, Watch};
use crate::mutants::planted;
use crate::observation::Cause;
use quorate_membership::{Time, Token};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

mod care;
mod locks;
mod memory;
mod polling;
mod reconcile;
mod sight;
mod word;

pub(crate) use care::Elsewhere;
use polling::Blindness;
pub(crate) use sight::{Deed, Surroundings};
use sight::{Phase, Process};

/// A durable promise about one guest, written before its first effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestPromise {
    /// No order of a lower epoch is obeyed.
    pub promised: Token,
    /// No order of this epoch or a lower one is obeyed: the guest was ended, or never existed.
    pub closed: Token,
}

/// A durable change of the executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorWrite {
    /// The guest.
    pub guest: GuestId,
    /// What is promised about it from now on; `None` forgets a removed guest.
    pub promise: Option<GuestPromise>,
}

/// A refused or unanswered order is not repeated before this.
const ORDER_PATIENCE: Duration = Duration::from_secs(5);
/// Ending is repeated sooner: the guest may hold up its restart elsewhere.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// The host's part.
#[derive(Clone, Debug)]
pub(crate) struct Executor {
    promises: BTreeMap<GuestId, GuestPromise>,
    /// Closures said in beats once the batch that holds them is durable (`None`: not yet batched).
    closures: BTreeMap<GuestId, (Token, Closure, Option<u64>)>,
    processes: BTreeMap<GuestId, Process>,
    failures: BTreeMap<GuestId, Vec<Time>>,
    /// When a guest first ran under its newest epoch here.
    ran: BTreeMap<GuestId, (Token, Time)>,
    resets: BTreeMap<GuestId, Vec<Time>>,
    /// What is kept for people of guests whose process has ended.
    kept: BTreeMap<GuestId, VecDeque<(Time, String)>>,
    host: HostWatch,
    next_order: u64,
    durable: u64,
    killing: bool,
    /// A record or a process has changed since all guests of this host were seen to be here.
    astray: bool,
    emptied: Option<Option<u64>>,
    blind: Option<Blindness>,
    /// What runs here was once what the log gives to this incarnation.
    settled: bool,
    /// A guest lost its disk here or could not be created, and none has started since.
    unfit: bool,
    /// The store failed: nothing more can be promised durably, so nothing new is started.
    store_failed: bool,
    deeds: Vec<Deed>,
    /// When starts were called off for a lock.
    barred: BTreeMap<GuestId, Time>,
}

/// What is said of a guest that nobody here created and the log does not give to this host.
const STRAY: &str = "ended: it was found here under an epoch that the log does not give to this host; if \
                     it was restored or migrated by hand, move it with the cluster, or remove it first";

impl Executor {
    /// Starts from what was promised and what runs. Whatever runs under a refused epoch is ended
    /// before this node presents itself (V8).
    pub(crate) fn new(
        now: Time,
        promises: BTreeMap<GuestId, GuestPromise>,
        present: &[GuestSeen],
    ) -> Executor {
        let mut executor = Executor {
            promises,
            closures: BTreeMap::new(),
            processes: BTreeMap::new(),
            failures: BTreeMap::new(),
            ran: BTreeMap::new(),
            resets: BTreeMap::new(),
            kept: BTreeMap::new(),
            host: HostWatch::default(),
            next_order: 1,
            durable: 0,
            killing: false,
            astray: true,
            emptied: None,
            blind: None,
            settled: false,
            unfit: false,
            store_failed: false,
            deeds: Vec::new(),
            barred: BTreeMap::new(),
        };
        for seen in present {
            executor.adopt(now, seen);
        }
        executor
    }

    fn adopt(&mut self, now: Time, seen: &GuestSeen) {
        let phase = if seen.paused {
            Phase::Held
        } else {
            self.ran.insert(seen.guest, (seen.epoch, now));
            Phase::Running
        };
        self.enter(now, seen.guest, seen.epoch, phase);
        if let Some(process) = self.processes.get_mut(&seen.guest) {
            process.found = true;
        }
    }

    fn enter(&mut self, now: Time, guest: GuestId, epoch: Token, phase: Phase) {
        let watch = Watch::new(now, self.kept.remove(&guest).unwrap_or_default());
        self.processes
            .insert(guest, Process::new(now, epoch, phase, watch));
    }

    fn promise(&self, guest: GuestId) -> GuestPromise {
        self.promises.get(&guest).copied().unwrap_or_default()
    }

    fn write(&mut self, guest: GuestId, promise: GuestPromise) {
        self.promises.insert(guest, promise);
        self.deeds.push(Deed::Write(ExecutorWrite {
            guest,
            promise: Some(promise),
        }));
    }

    /// Refuses `epoch` and every lower one for ever, and says so once that is durable.
    ///
    /// With a failed store it is said for this life alone: the entry names the incarnation, and is
    /// void once a later one has taken the guest over.
    fn close(&mut self, guest: GuestId, epoch: Token, why: Closure) {
        let why = word::shortened(why);
        let mut promise = self.promise(guest);
        promise.promised = promise.promised.max(epoch);
        if self.store_failed {
            promise.closed = promise.closed.max(epoch);
            self.promises.insert(guest, promise);
            self.closures.insert(guest, (epoch, why, Some(0)));
        } else if promise.closed < epoch && planted("word-without-promise") {
            self.closures.insert(guest, (epoch, why, Some(0)));
        } else if promise.closed < epoch {
            promise.closed = epoch;
            self.write(guest, promise);
            self.closures.insert(guest, (epoch, why, None));
        } else if self.closures.get(&guest).is_none_or(|(e, ..)| *e < epoch) {
            // Refused since before this start: durable already.
            self.closures.insert(guest, (promise.closed, why, Some(0)));
        }
    }

    fn order(&mut self, now: Time, guest: GuestId, action: GuestAction, until: Option<Time>) {
        if let Some(order) = self.aside(guest, action, until)
            && let Some(process) = self.processes.get_mut(&guest)
        {
            process.order = Some((order, now));
        }
    }

    /// Gives an order whose answer changes no phase; gives its number.
    fn aside(&mut self, guest: GuestId, action: GuestAction, until: Option<Time>) -> Option<u64> {
        let epoch = self.processes.get(&guest)?.epoch;
        let number = self.next_order;
        self.next_order += 1;
        // A store that was set back has forgotten the promise behind what it finds running here.
        let promise = self.promise(guest);
        let forgotten = action == GuestAction::Continue
            && promise.promised < epoch
            && !planted("continued-without-promise");
        if forgotten {
            let promised = epoch;
            self.write(
                guest,
                GuestPromise {
                    promised,
                    ..promise
                },
            );
        }
        let starts = matches!(action, GuestAction::Create(_)) && !planted("start-before-promise");
        let rests = starts || forgotten;
        let order = GuestOrder {
            order: number,
            guest,
            epoch,
            action,
            not_after: until,
        };
        self.deeds.push(Deed::Order { order, rests });
        Some(number)
    }

    fn end(&mut self, now: Time, guest: GuestId, closing: Option<Closure>) {
        let Some(process) = self.processes.get_mut(&guest) else {
            return;
        };
        if process.phase != Phase::Ending {
            process.phase = Phase::Ending;
            process.order = None;
        }
        // A promise to refuse the epoch is never taken back by a milder reason.
        process.closing = process.closing.take().or(closing);
        if let Some(why) = process.closing.clone()
            && planted("word-before-end")
        {
            let epoch = process.epoch;
            self.close(guest, epoch, why);
        }
        let Some(process) = self.processes.get_mut(&guest) else {
            return;
        };
        if process
            .order
            .is_none_or(|(_, at)| now.since(at) >= END_PATIENCE)
        {
            self.order(now, guest, GuestAction::End, None);
        }
    }

    /// Nothing of this guest runs any more.
    fn gone(&mut self, guest: GuestId, how: &str) {
        let Some(process) = self.processes.remove(&guest) else {
            return;
        };
        self.astray = true;
        self.deeds
            .push(Deed::Ended(guest, process.epoch, how.to_owned()));
        self.kept.insert(guest, process.watch.into_notes());
        if let Some(why) = process.closing {
            self.close(guest, process.epoch, why);
        }
        if self.processes.is_empty() {
            self.killing = false;
        }
    }

    /// Notes a failure. If that uses up the budget for restarts on this host, gives for how many
    /// milliseconds the guest had run under this epoch before the first failure that counts.
    fn failed(&mut self, s: &Surroundings<'_>, guest: GuestId, epoch: Token) -> Option<u64> {
        let Some(policy) = s.guests.guests.get(&guest).map(|r| r.spec.policy) else {
            return Some(0);
        };
        let window = Duration::from_millis(policy.window_ms);
        let failures = self.failures.entry(guest).or_default();
        failures.retain(|at| s.now.since(*at) < window);
        failures.push(s.now);
        if failures.len() <= policy.restarts_here as usize {
            return None;
        }
        let first = failures.first().copied().unwrap_or(s.now);
        failures.clear();
        let ran = self.ran.get(&guest).filter(|(of, _)| *of == epoch);
        let ran = ran.map_or(Duration::ZERO, |(_, since)| first.since(*since));
        Some(u64::try_from(ran.as_millis()).unwrap_or(u64::MAX))
    }

    /// A guest process ended by itself.
    pub(crate) fn guest_gone(
        &mut self,
        s: &Surroundings<'_>,
        guest: GuestId,
        epoch: Token,
        how: &str,
        cause: Cause,
    ) {
        let Some(process) = self.processes.get(&guest).filter(|p| p.epoch == epoch) else {
            return;
        };
        let taken = cause == Cause::Taken && !planted("taken-is-dead");
        let ending = process.phase == Phase::Ending;
        let lease_over = s.lease_left().is_zero();
        if taken && let Some(process) = self.processes.get_mut(&guest) {
            // It may run where no lease is: that outweighs whatever it was being ended for.
            process.closing = Some(Closure::Taken(Words::new(how)));
        }
        self.gone(guest, how);
        if ending || taken {
            return;
        }
        if lease_over {
            // The guardian was faster than this loop.
            return self.close(guest, epoch, Closure::LeaseEnded);
        }
        let leaves = s
            .guests
            .guests
            .get(&guest)
            .is_some_and(|r| r.spec.policy.on_shutdown == OnShutdown::Leave);
        if cause == Cause::ShutDown && leaves {
            return self.close(guest, epoch, Closure::ShutDown);
        }
        if let Some(ran_ms) = self.failed(s, guest, epoch) {
            let how = how.to_owned();
            self.close(guest, epoch, Closure::Failed { how, ran_ms });
        }
    }

    /// The answer to an order; gives whether anything follows from it.
    pub(crate) fn done(
        &mut self,
        s: &Surroundings<'_>,
        order: u64,
        result: Result<(), String>,
    ) -> bool {
        if let Some(follows) = self.aside_done(s, order, &result) {
            return follows;
        }
        let Some((guest, phase, epoch)) = self
            .processes
            .iter()
            .find(|(_, p)| p.order.is_some_and(|(o, _)| o == order))
            .map(|(g, p)| (*g, p.phase, p.epoch))
        else {
            return false;
        };
        let Some(process) = self.processes.get_mut(&guest) else {
            return false;
        };
        process.order = None;
        match (phase, result) {
            (Phase::Creating | Phase::Pausing, Ok(())) => process.phase = Phase::Held,
            (Phase::Continuing, Ok(())) => {
                process.runs(s.now);
                self.unfit = false;
                if self.ran.get(&guest).is_none_or(|(of, _)| *of != epoch) {
                    self.ran.insert(guest, (epoch, s.now));
                }
                self.deeds.push(Deed::Started(guest, epoch));
            }
            (Phase::Reading, result) => {
                let why = result.err().unwrap_or_default();
                self.locks_unread(s, guest, &why);
            }
            (Phase::Locking, result) => self.locks_written(guest, result),
            (Phase::Ending, Ok(())) => {
                let given = s.mine(guest).is_some_and(|r| r.epoch == epoch);
                let stray = process.found && s.admitted() && !given;
                self.gone(guest, if stray { STRAY } else { "ended when told to" });
            }
            (Phase::Creating, Err(why)) => {
                // What a failed creation left behind is ended before anything else is tried.
                self.deeds
                    .push(Deed::Alert(guest, format!("could not be created: {why}")));
                self.unfit |= !self.processes.values().any(|p| p.phase == Phase::Running);
                let used_up = self.failed(s, guest, epoch);
                self.end(s.now, guest, used_up.map(|_| Closure::Refused(why)));
            }
            (Phase::Continuing, Err(why)) => {
                process.phase = Phase::Held;
                process.order = Some((0, s.now));
                self.deeds
                    .push(Deed::Alert(guest, format!("could not be continued: {why}")));
            }
            // Pausing is best effort; the end at lease end does not depend on it.
            (Phase::Pausing, Err(_)) => process.runs(s.now),
            (Phase::Ending, Err(why)) => {
                process.order = Some((0, s.now));
                self.deeds
                    .push(Deed::Alert(guest, format!("does not end: {why}")));
            }
            (Phase::Held | Phase::Running, _) => {}
        }
        true
    }

    /// Whether this node may present itself: nothing runs under an epoch it refuses (V8).
    pub(crate) fn presentable(&self) -> bool {
        self.processes
            .iter()
            .all(|(g, p)| p.epoch > self.promise(*g).closed)
    }

    /// Whether everything that runs here is what the log gives to this incarnation (reading 2), or
    /// was once: what was inherited is settled then. One that appears later and does not end is
    /// ended alone; the others here are not to pay for it with their lease.
    pub(crate) fn settled(&mut self, s: &Surroundings<'_>) -> bool {
        if self.settled {
            return true;
        }
        let settled = self
            .processes
            .iter()
            .all(|(g, p)| s.mine(*g).is_some_and(|r| r.epoch == p.epoch));
        self.settled = settled && s.admitted();
        settled
    }

    /// Whether the word *emptied* is true and durable (reading 3).
    pub(crate) fn emptied(&self) -> bool {
        let said = matches!(self.emptied, Some(Some(batch)) if batch <= self.durable)
            && self.processes.is_empty();
        (said || planted("emptied-unseen")) && !planted("emptied-never-said")
    }

    /// Whether nothing runs here.
    pub(crate) fn idle(&self) -> bool {
        self.processes.is_empty()
    }

    /// Guests that run here, with their epochs.
    pub(crate) fn running(&self) -> impl Iterator<Item = (GuestId, Token)> {
        self.processes
            .iter()
            .filter(|(_, p)| p.phase == Phase::Running)
            .map(|(g, p)| (*g, p.epoch))
    }

    /// What the log says of guests or hosts may have changed.
    pub(crate) fn records_changed(&mut self) {
        self.astray = true;
    }

    /// Something about a guest here that people should know.
    pub(crate) fn tells(&mut self, guest: GuestId, text: String) {
        self.deeds.push(Deed::Alert(guest, text));
    }

    pub(crate) fn has_deeds(&self) -> bool {
        !self.deeds.is_empty()
    }

    pub(crate) fn take_deeds(&mut self) -> Vec<Deed> {
        std::mem::take(&mut self.deeds)
    }
}
