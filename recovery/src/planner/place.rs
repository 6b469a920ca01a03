//! Which free guest goes to which host, and when.

use super::standing::ready;
use super::{DISAGREE, Planner, kind, secs};
use crate::command::Command;
use crate::guest::{GuestId, Wanted};
use crate::machine::{Blame, GuestRecord, Guests};
use crate::mutants::planted;
use crate::placement;
use quorate_membership::entry::Entry;
use quorate_membership::{Member, NodeId, Time, Timing};
use std::collections::BTreeMap;
use std::time::Duration;

/// A guest whose failures repeat is tried again after at most this long.
const RETRY_MAX: Duration = Duration::from_secs(300);
/// One that no host could run is tried again after at most this long: that is no failure of its
/// own, and what the hosts miss may be back at any time.
const REFUSED_MAX: Duration = Duration::from_secs(30);

/// Why a guest waits although there is room for it.
const UNREAD: &str = "no usable host with room has read its images, which changed while it ran";

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
                (!r.open() || r.never_locked())
                    && r.wanted == Wanted::Running
                    && !self.placing.contains_key(id)
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
                ready(heard, silent, &t) && self.follows(heard.beat.applied, now, &t)
            })
        });
        let against = self.standing.against(now, member);
        let share = self.standing.share(now, member);
        let mut given = given(member.app());
        for (host, _) in self.placing.values() {
            *given.entry(*host).or_default() += 1;
        }
        for (guest, (host, _)) in &self.placing {
            if let (Some(r), Some(left)) = (member.app().guests.get(guest), room.get_mut(host)) {
                placement::take(left, r.spec.needs.capacity());
            }
        }
        free.sort_by_key(|(priority, id)| (std::cmp::Reverse(*priority), *id));
        for (_, guest) in free {
            let r = member.app().guests[&guest].clone();
            let row = self.row(now, &r);
            let full = |host: NodeId| {
                share.is_some_and(|most| given.get(&host).is_some_and(|n| *n >= most))
            };
            let weigh = |host: NodeId| {
                let tried = row.iter().position(|tried| *tried == host);
                let tried = tried.map_or(0, |at| 1 + u32::try_from(at).unwrap_or(u32::MAX));
                against.get(&host).copied().unwrap_or(0) + tried + u32::from(full(host)) * 100_000
            };
            let mut seeing = room.clone();
            seeing.retain(|host, _| !blind_to(now, member, *host, &r));
            let mut readers = seeing.clone();
            readers.retain(|host, _| r.images.read_by(*host));
            let needs = r.spec.needs.capacity();
            let host = placement::choose(&readers, needs, weigh);
            let again = host.is_none_or(|host| row.contains(&host));
            if let Some(wait) = self.holdback(now, member, guest, again) {
                self.waiting.insert(guest, wait);
                continue;
            }
            let Some(host) = host else {
                let why = match placement::choose(&seeing, needs, weigh) {
                    Some(_) => UNREAD.to_owned(),
                    None => no_room(now, member, &r),
                };
                self.waiting.insert(guest, why);
                continue;
            };
            if full(host) {
                let why = "other hosts are waited for: most of the cluster is not back yet";
                self.waiting.insert(guest, why.into());
                continue;
            }
            if !member.cool(now, kind::PLACED, guest.0, t.election) {
                continue;
            }
            if let Some(left) = room.get_mut(&host) {
                placement::take(left, r.spec.needs.capacity());
            }
            self.placing.insert(guest, (host, now));
            *given.entry(host).or_default() += 1;
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

    /// Says of every free guest that it waits for the voters to say what they made of the log.
    pub(super) fn wait_for_states(&mut self, member: &Member<Guests>) {
        for (id, r) in &member.app().guests {
            if !r.open() && r.wanted == Wanted::Running {
                self.waiting.insert(*id, DISAGREE.to_owned());
            }
        }
    }

    /// The hosts that failed a guest in its present row of failures. A row is over when the window of
    /// its policy has passed since the last failure.
    fn row<'a>(&self, now: Time, r: &'a GuestRecord) -> &'a [NodeId] {
        let window = Duration::from_millis(r.spec.policy.window_ms);
        let seen = self.failed.get(&r.failed_at);
        match seen {
            Some(at) if now.since(*at) >= window => &[],
            _ if planted("failed-hosts-first") => &[],
            _ => &r.tried,
        }
    }

    /// Why a free guest must wait still: writes under way (V1), or its own repeated failures. `again`:
    /// no host is left that has not failed it in this row.
    fn holdback(
        &self,
        now: Time,
        member: &Member<Guests>,
        guest: GuestId,
        again: bool,
    ) -> Option<String> {
        let r = &member.app().guests[&guest];
        if let Some(hold) = r.held().filter(|_| !planted("held-guest-placed")) {
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
        let (times, most) = match closed.blame {
            Blame::Nobody if planted("failures-never-forgotten") => (r.failures, RETRY_MAX),
            // What failed before says nothing about a host that was lost.
            Blame::Nobody => return None,
            Blame::Guest => (r.failures, RETRY_MAX),
            // A host that has not been tried yet is tried at once.
            Blame::Host if !again => return None,
            Blame::Host => (r.refused, REFUSED_MAX),
        };
        // One that failed on one host is tried on another at once.
        if times > 1 {
            let first = Duration::from_millis(r.spec.policy.retry_ms);
            let delay = first.saturating_mul(1 << (times - 2).min(20)).min(most);
            if since < delay {
                let left = secs(delay - since);
                return Some(format!(
                    "{} ({times} times); tried again in {left}",
                    closed.why
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

/// How many guests belong to each host.
fn given(guests: &Guests) -> BTreeMap<NodeId, usize> {
    let mut given = BTreeMap::new();
    for host in guests
        .guests
        .values()
        .filter(|r| r.open())
        .filter_map(|r| r.host)
    {
        *given.entry(host).or_default() += 1;
    }
    given
}

/// Whether a host says that the hypervisor of such guests does not answer there.
fn blind_to(now: Time, member: &Member<Guests>, host: NodeId, r: &GuestRecord) -> bool {
    let kind = r.spec.definition.kind();
    let heard = member.heard(now, host);
    heard.is_some_and(|(h, _)| h.beat.status.blind.has(kind)) && !planted("placed-on-blind-host")
}

/// Why a guest finds no place, for people.
fn no_room(now: Time, member: &Member<Guests>, r: &GuestRecord) -> String {
    let c = member.cluster();
    let usable = c.hosts.iter().filter(|(_, h)| h.usable());
    let blind: Vec<String> = usable
        .filter(|(n, _)| blind_to(now, member, **n, r))
        .map(|(n, _)| c.name(*n))
        .collect();
    let mut why = "no usable host has room for it".to_owned();
    if !blind.is_empty() {
        why = format!(
            "{why} ({} of {} does not answer)",
            r.spec.definition.kind(),
            blind.join(", ")
        );
    }
    why
}

/// Two beats, their delay, and a change of the leader.
fn patience(t: &Timing) -> Duration {
    t.heartbeat * 2 + t.jitter + t.election * 4
}
