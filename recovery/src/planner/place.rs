//! Which free guest goes to which host, and when.

use super::{Planner, kind, secs};
use crate::command::Command;
use crate::guest::{GuestId, Wanted};
use crate::machine::Guests;
use crate::mutants::planted;
use crate::placement;
use quorate_membership::entry::Entry;
use quorate_membership::{Member, Time, Timing};
use std::time::Duration;

/// A guest whose failures repeat is tried again after at most this long.
const RETRY_MAX: Duration = Duration::from_secs(300);

impl Planner {
    /// Gives every free guest that should run to a host with room, highest priority first.
    pub(super) fn place(&mut self, now: Time, member: &mut Member<Guests>) {
        let t = member.cluster().timing.clone();
        self.placing
            .retain(|_, (_, at)| now.since(*at) < t.election * 2);
        let mut free: Vec<(i32, GuestId)> = member
            .app()
            .guests
            .iter()
            .filter(|(id, r)| {
                !r.open() && r.wanted == Wanted::Running && !self.placing.contains_key(id)
            })
            .map(|(id, r)| (r.spec.priority, *id))
            .collect();
        if free.is_empty() {
            return;
        }
        let mut room = placement::room(member.cluster(), member.app());
        // `room` holds usable hosts only; of those, the ones that say they can take guests now.
        room.retain(|host, _| {
            member.heard(now, *host).is_some_and(|(heard, silent)| {
                silent < t.heartbeat * 2 + t.jitter
                    && !heard.beat.lease_left.is_zero()
                    && heard.beat.armed.is_some()
                    && self.follows(heard.beat.applied, now, &t)
            })
        });
        for (guest, (host, _)) in &self.placing {
            if let (Some(r), Some(left)) = (member.app().guests.get(guest), room.get_mut(host)) {
                placement::take(left, r.spec.needs.capacity());
            }
        }
        free.sort_by_key(|(priority, id)| (std::cmp::Reverse(*priority), *id));
        for (_, guest) in free {
            let r = member.app().guests[&guest].clone();
            if let Some(wait) = self.holdback(now, member, guest) {
                self.waiting.insert(guest, wait);
                continue;
            }
            let avoid = r.host.filter(|_| r.failures > 0);
            let Some(host) = placement::choose(&room, r.spec.needs.capacity(), avoid) else {
                self.waiting
                    .insert(guest, "no usable host has room for it".into());
                continue;
            };
            if !member.cool(now, kind::PLACED, guest.0, t.election) {
                continue;
            }
            if let Some(left) = room.get_mut(&host) {
                placement::take(left, r.spec.needs.capacity());
            }
            self.placing.insert(guest, (host, now));
            self.waiting
                .insert(guest, format!("going to {}", member.cluster().name(host)));
            let incarnation = member.cluster().hosts[&host].incarnation;
            let placed = Command::Placed {
                guest,
                previous: r.epoch,
                host,
                incarnation,
            };
            member.propose(now, Entry::App(placed));
        }
    }

    /// Why a free guest must wait still: writes under way (V1), or its own repeated failures.
    fn holdback(&self, now: Time, member: &Member<Guests>, guest: GuestId) -> Option<String> {
        let r = &member.app().guests[&guest];
        if let Some(hold) = r.held() {
            return Some(format!("held: {}", hold.reason));
        }
        let closed = r.closed.as_ref()?;
        let since = self
            .freed
            .get(&guest)
            .map_or(Duration::ZERO, |(_, at)| now.since(*at));
        let drain = member.cluster().timing.drain_wait();
        if !closed.drained && since < drain && !planted("drain-not-waited") {
            return Some(format!(
                "writes may be under way for {}",
                secs(drain - since)
            ));
        }
        // One that failed on one host is tried on another at once.
        if r.failures > 1 {
            let first = Duration::from_millis(r.spec.policy.retry_ms);
            let delay = first
                .saturating_mul(1 << (r.failures - 2).min(20))
                .min(RETRY_MAX);
            if since < delay {
                let left = secs(delay - since);
                return Some(format!(
                    "{} ({} times); tried again in {left}",
                    closed.why, r.failures
                ));
            }
        }
        None
    }

    /// Notes how much of the log was applied here, as far back as [`Planner::follows`] looks.
    pub(super) fn remember(&mut self, now: Time, applied: u64, t: &Timing) {
        if self.history.back().is_none_or(|(_, a)| *a < applied) {
            self.history.push_back((now, applied));
        }
        let patience = patience(t);
        while self
            .history
            .get(1)
            .is_some_and(|(at, _)| *at + patience <= now)
        {
            self.history.pop_front();
        }
    }

    /// Whether a host that has applied so many entries gets the log: it has what this node had a
    /// while ago, whoever was coordinator then. A host may keep its lease over relays and one-way
    /// links and hear no log; what is placed there is not started, since `Placed` in the log is the
    /// order.
    fn follows(&self, applied: u64, now: Time, t: &Timing) -> bool {
        match self.history.front() {
            Some((at, had)) if *at + patience(t) <= now => applied >= *had,
            _ => true,
        }
    }
}

/// Two beats, their delay, and a change of the leader.
fn patience(t: &Timing) -> Duration {
    t.heartbeat * 2 + t.jitter + t.election * 4
}
