//! What stands against a host as the place of a guest: it is hung, it flaps, it could not run
//! others.
//!
//! All of it is this node's own memory of what it saw in the log and in beats. It only orders the
//! hosts that have room, so losing it with the role costs a try, and nothing else.

use super::Planner;
use crate::command::{Closure, Command, GuestStatus, GuestWord};
use crate::guest::{GuestId, Wanted};
use crate::machine::{GuestRecord, Guests};
use crate::mutants::planted;
use quorate_membership::entry::{Entry, Ground, Proof};
use quorate_membership::{Heard, Host, Member, NodeId, Time, Timing, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A host whose lease ended, or that was judged lost, is the last choice for so long after.
const STEADY: Duration = Duration::from_secs(300);
/// A host that could not run a guest is the last choice for so long, unless one starts there.
const REFUSED: Duration = Duration::from_secs(300);
/// A guest that has belonged to a host for so long without running there: creations are slow there.
const SLOW: Duration = Duration::from_secs(10);
/// After a cold start the hosts that are there first take their share only, until more than half are
/// there or so long after the first of them was admitted; or T_d, if that is longer.
const COLD: Duration = Duration::from_secs(30);

/// Between two looks at which guests are said to run.
const LOOK: Duration = Duration::from_secs(1);

/// What was seen of hosts, and when.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// When a host was last seen to lose its lease or to be judged lost.
    unsteady: BTreeMap<NodeId, Time>,
    /// When a host was last seen to fail to run a guest, and the entry that says so.
    refused: BTreeMap<NodeId, (Token, Time)>,
    /// Since when the present epoch of a guest is open, and it is not said to run.
    waits: BTreeMap<GuestId, (Token, Time)>,
    /// When it was last looked which guests are said to run.
    looked: Time,
    /// When the present incarnation of a host was seen admitted.
    admitted: BTreeMap<NodeId, (Token, Time)>,
    /// The admission of each host that this node's store held when its daemon started.
    stored: BTreeMap<NodeId, Token>,
    /// The cluster was seen at work since this daemon started: hosts that are lost from then on are lost,
    /// and no more on their way back from a cold start.
    warm: bool,
}

/// Hosts by what stands against each; absent if nothing does.
pub(super) type Against = BTreeMap<NodeId, u32>;

impl Standing {
    /// An entry was applied that says something of a host.
    pub(super) fn note(&mut self, now: Time, at: Token, entry: &Entry<Command>) {
        match entry {
            Entry::Revoke { hosts } => {
                let judged = hosts.iter().filter(|(.., why)| *why != Ground::Ordered);
                self.unsteady.extend(judged.map(|(host, ..)| (*host, now)));
            }
            Entry::Proof {
                host,
                proof: Proof::LeaseExpired,
                ..
            }
            | Entry::App(Command::Closed {
                host,
                why: Closure::LeaseEnded,
                ..
            }) => {
                self.unsteady.insert(*host, now);
            }
            Entry::App(Command::Closed {
                host,
                why: Closure::Refused(_),
                ..
            }) => {
                self.refused.insert(*host, (at, now));
            }
            _ => {}
        }
    }

    /// Looks the applied state through.
    pub(super) fn observe(&mut self, now: Time, member: &Member<Guests>) {
        let (guests, hosts) = (&member.app().guests, &member.cluster().hosts);
        let running = if now.since(self.looked) >= LOOK {
            self.looked = now;
            running(member)
        } else {
            BTreeSet::new()
        };
        self.waits
            .retain(|g, _| guests.get(g).is_some_and(GuestRecord::open));
        for (id, r) in guests.iter().filter(|(_, r)| r.open()) {
            let runs = running.contains(&(*id, r.epoch)) && !planted("slow-since-its-placement");
            if runs || self.waits.get(id).is_none_or(|(at, _)| *at != r.epoch) {
                self.waits.insert(*id, (r.epoch, now));
            }
        }
        for (node, h) in hosts {
            if self
                .admitted
                .get(node)
                .is_none_or(|(at, _)| *at != h.admitted)
            {
                self.admitted.insert(*node, (h.admitted, now));
            }
        }
        self.warm |= self.at_work(now, member) && !planted("cold-start-over-and-over");
    }

    /// Says whether a host is here that did not start anew, or every host is here.
    fn at_work(&self, now: Time, member: &Member<Guests>) -> bool {
        let c = member.cluster();
        let here = |(host, h): (&NodeId, &Host)| {
            let heard = member.heard(now, *host);
            let speaks = match (*host == member.me(), heard) {
                (true, _) => member.incarnation() == h.incarnation || planted("cold-start-unseen"),
                (false, Some((heard, _))) => heard.incarnation == h.incarnation,
                (false, None) => false,
            };
            h.usable() && speaks
        };
        let mut known = c.hosts.iter().filter(|(_, h)| may_be_given(h));
        let all = c.voters.iter().all(|(v, _)| c.hosts.contains_key(v)) && known.all(here);
        let mut hosts = c.hosts.iter();
        all || hosts.any(|(n, h)| self.stored.get(n) == Some(&h.admitted) && here((n, h)))
    }

    /// For how long a guest has belonged to its host and was not said to run.
    fn waits_for(&self, now: Time, guest: GuestId) -> Duration {
        let since = self.waits.get(&guest);
        since.map_or(Duration::ZERO, |(_, at)| now.since(*at))
    }

    /// What stands against each host now.
    pub(super) fn against(&mut self, now: Time, member: &Member<Guests>) -> Against {
        self.unsteady.retain(|_, at| now.since(*at) < STEADY);
        self.refused.retain(|host, (at, seen)| {
            let newer =
                |word: &GuestWord| matches!(word, GuestWord::Running(_, epoch) if epoch > at);
            let started = member.told(*host).1.into_iter().any(newer);
            now.since(*seen) < REFUSED && !started
        });
        let mut against = Against::new();
        if planted("failed-hosts-first") {
            return against;
        }
        for host in self.unsteady.keys() {
            *against.entry(*host).or_default() += 2_000;
        }
        for host in self.refused.keys() {
            *against.entry(*host).or_default() += 4_000;
        }
        for (host, _) in member.cluster().hosts.iter().filter(|(_, h)| h.usable()) {
            let status = member.heard(now, *host).map(|(h, _)| &h.beat.status);
            if status.is_some_and(|s| s.unfit) {
                *against.entry(*host).or_default() += 8_000;
            }
        }
        for host in self.slow(now, member, SLOW) {
            *against.entry(host).or_default() += 1_000;
        }
        against
    }

    /// The hosts of guests that have not run for so long although they are to.
    pub(super) fn slow(
        &self,
        now: Time,
        member: &Member<Guests>,
        patience: Duration,
    ) -> BTreeSet<NodeId> {
        let heard = |host: NodeId| member.heard(now, host).map(|(h, _)| &h.beat.status);
        let running = running(member);
        let guests = member.app().guests.iter();
        guests
            .filter(|(_, r)| r.open() && r.wanted == Wanted::Running)
            // A host that does not start a held guest is not slow.
            .filter(|(_, r)| r.held().is_none() || planted("held-guest-is-slow"))
            .filter(|(id, r)| !running.contains(&(**id, r.epoch)))
            .filter(|(id, _)| self.waits_for(now, **id) >= patience)
            .filter_map(|(_, r)| r.host.filter(|host| heard(*host).is_some()))
            .collect()
    }

    /// How many guests each host may have while others are still coming back after a cold start;
    /// `None` once nobody is waited for.
    pub(super) fn share(&self, now: Time, member: &Member<Guests>) -> Option<usize> {
        if self.warm {
            return None;
        }
        let c = member.cluster();
        let unknown = c.voters.iter().filter(|(v, _)| !c.hosts.contains_key(v));
        let known = c.hosts.values().filter(|h| may_be_given(h)).count() + unknown.count();
        let here: Vec<NodeId> = c
            .hosts
            .iter()
            .filter(|(_, h)| h.usable())
            .map(|(n, _)| *n)
            .collect();
        // Most of the cluster is missing, or a few are a moment late.
        let patience = if here.len() * 2 <= known {
            COLD.max(c.timing.silence())
        } else {
            c.timing.heartbeat * 2 + c.timing.jitter
        };
        let cold = here.iter().all(|host| {
            let admitted = self.admitted.get(host);
            admitted.is_some_and(|(_, at)| now.since(*at) < patience)
        });
        if here.len() >= known || !cold {
            return None;
        }
        let guests = member.app().guests.values();
        let wanted = guests.filter(|r| r.wanted == Wanted::Running).count();
        Some(wanted.div_ceil(known.max(1)).max(1))
    }
}

/// Says whether a host is one for guests, and not taken out of service.
fn may_be_given(h: &Host) -> bool {
    !h.profile.witness && h.away.is_none()
}

/// What the hosts say runs there.
fn running(member: &Member<Guests>) -> BTreeSet<(GuestId, Token)> {
    let hosts = member.cluster().hosts.keys();
    hosts
        .flat_map(|host| member.told(*host).1)
        .filter_map(|word| match word {
            GuestWord::Running(guest, epoch) => Some((*guest, *epoch)),
            GuestWord::Closed(..) => None,
        })
        .collect()
}

impl Planner {
    /// The planner of a daemon that starts with what its store holds.
    pub(crate) fn new(member: &Member<Guests>) -> Planner {
        let hosts = member.cluster().hosts.iter();
        let mut planner = Planner::default();
        planner.standing.stored = hosts.map(|(node, h)| (*node, h.admitted)).collect();
        planner
    }

    /// An entry was applied that says something of a host.
    pub(crate) fn note(&mut self, now: Time, at: Token, entry: &Entry<Command>) {
        self.standing.note(now, at, entry);
    }
}

/// Whether a host that was heard says that it can take guests of some kind now.
pub(super) fn ready(heard: &Heard<GuestStatus>, silent: Duration, t: &Timing) -> bool {
    silent < t.heartbeat * 2 + t.jitter
        && !heard.beat.lease_left.is_zero()
        && heard.beat.word.armed.is_some()
        && !heard.beat.full
}
