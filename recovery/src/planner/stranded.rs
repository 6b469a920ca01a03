//! Hosts that keep their lease and run nothing of what they were given: they get no log any more,
//! their hypervisor does not answer, or its creations do not end.

use super::{Planner, kind};
use crate::contract::CREATION;
use crate::guest::Wanted;
use crate::machine::{GuestRecord, Guests};
use crate::mutants::planted;
use crate::placement;
use quorate_membership::entry::{Entry, Ground};
use quorate_membership::{Incarnation, Member, NodeId, Time};
use std::collections::BTreeMap;
use std::time::Duration;

impl Planner {
    /// `Placed` in the log is the order, and it may still come: nobody else may start the guest
    /// before it is proved that this host cannot. A host whose log stands still for T_d, and that
    /// was given nothing else, is therefore lost like one that hears nobody. So is one that runs none
    /// of its guests and whose hypervisor has not answered for T_d: a creation it was given may still
    /// be carried out. One that is only slow is given longer, and only if a better host has room; the
    /// guardian there may have to reset it, so one is judged at a time, while no other is lost. The
    /// verdict ends no guest, since none runs there. A host that runs others is left alone: to end
    /// those for the one that waits would be worse.
    pub(super) fn judge_stranded(&mut self, now: Time, member: &mut Member<Guests>) {
        if planted("stranded-guest-waits") {
            return;
        }
        let t = member.cluster().timing.clone();
        if now.since(self.looked) < t.election {
            return;
        }
        self.looked = now;
        // Who has the newest placement lacks none.
        let given = member.app().guests.values().map(|r| r.epoch.index());
        let newest = given.max().unwrap_or(0);
        let against = self.standing.against(now, member);
        let together = planted("slow-hosts-judged-together");
        let patience = match together {
            true => SLOW / 5,
            false => SLOW,
        };
        let mut slow = self.standing.slow(now, member, patience);
        if !slow.is_empty() && !together {
            let mut room = placement::room(member.cluster(), member.app());
            room.retain(|host, _| !against.contains_key(host));
            let fits = |r: &GuestRecord| {
                let needs = r.spec.needs.capacity();
                placement::choose(&room, needs, |_| 0).is_some()
            };
            slow.retain(|host| member.app().on(*host).any(|(_, r)| fits(r)));
        }
        if !together {
            let mut hosts = member.cluster().hosts.values();
            let whole = !hosts.any(|h| h.open_revoke().is_some());
            slow = slow.into_iter().filter(|_| whole).take(1).collect();
        }
        let lacks = |host| {
            let Some((heard, _)) = member.heard(now, host) else {
                return false;
            };
            let blind = heard.beat.status.blind;
            let mut given = member.app().on(host);
            let hung =
                slow.contains(&host) || given.all(|(_, r)| blind.has(r.spec.definition.kind()));
            heard.beat.applied < newest && stranded(now, member, host)
                || hung && idle(now, member, host) && !planted("hung-host-keeps-guests")
        };
        let stranded: Vec<(NodeId, Incarnation)> = member
            .cluster()
            .hosts
            .iter()
            .filter(|(host, h)| h.usable() && lacks(**host))
            .map(|(host, h)| (*host, h.incarnation))
            .collect();
        self.stranded
            .retain(|host, _| stranded.iter().any(|(s, _)| s == host));
        for (host, incarnation) in stranded {
            let since = *self.stranded.entry(host).or_insert(now);
            if now.since(since) >= t.silence()
                && member.cool(now, kind::STRANDED, host.0.into(), t.election)
            {
                let hosts = vec![(host, incarnation, Ground::Deaf)];
                member.propose(now, Entry::Revoke { hosts });
            }
        }
        self.tell_behind(now, member);
    }

    /// Tells of hosts that have lacked for T_d what gives them guests, and are left alone.
    fn tell_behind(&mut self, now: Time, member: &mut Member<Guests>) {
        let t = member.cluster().timing.clone();
        let hosts = member.cluster().hosts.iter();
        let usable = hosts.filter(|(_, h)| h.usable()).map(|(host, _)| *host);
        let applied = |host: NodeId| {
            let (heard, silent) = member.heard(now, host)?;
            let lately = silent < t.heartbeat * 2 + t.jitter;
            lately.then_some((host, heard.beat.applied))
        };
        let applied: BTreeMap<NodeId, u64> = usable.filter_map(applied).collect();
        // One pass over all guests.
        let mut behind: BTreeMap<NodeId, (u64, usize)> = BTreeMap::new();
        for r in member.app().guests.values() {
            let host = r.host.filter(|_| r.open() && r.wanted == Wanted::Running);
            let applied = host.and_then(|host| applied.get_key_value(&host));
            if let Some((host, applied)) = applied.filter(|(_, at)| r.epoch.index() > **at) {
                behind.entry(*host).or_insert((*applied, 0)).1 += 1;
            }
        }
        behind.retain(|host, _| !stranded(now, member, *host));
        // One that gets some of the log is only slow.
        let stands =
            |at: u64, host: &NodeId| behind.get(host).is_some_and(|(applied, _)| *applied == at);
        self.behind.retain(|host, (at, _)| stands(*at, host));
        for (host, (applied, waiting)) in behind {
            let (_, since) = *self.behind.entry(host).or_insert((applied, now));
            if now.since(since) < t.silence()
                || !member.cool(now, kind::BEHIND, host.0.into(), TOLD)
            {
                continue;
            }
            let text = format!(
                "gets no log, though it is heard: guests given to it do not start ({waiting}), and may start \
                 nowhere else; it has others, so it is left alone"
            );
            member.alert(host, text);
        }
    }
}

/// Pause between two alerts of the same host.
const TOLD: Duration = Duration::from_secs(60);

/// A creation that is not answered for so long is given up, if the host has nothing else to do: its host
/// should have said long before that it failed.
const SLOW: Duration = CREATION.saturating_add(Duration::from_secs(60));

/// Says whether `host` is heard, runs nothing, was given a guest that is to run, and none that is held.
pub(super) fn idle(now: Time, member: &Member<Guests>, host: NodeId) -> bool {
    let t = &member.cluster().timing;
    let Some((heard, silent)) = member.heard(now, host) else {
        return false;
    };
    let Some(record) = member.cluster().hosts.get(&host) else {
        return false;
    };
    let status = &heard.beat.status;
    let given = || member.app().on(host).map(|(_, r)| r);
    let to_run = |r: &GuestRecord| r.wanted == Wanted::Running;
    // A held guest may exist, paused, and would be lost with the host; a stopped one would not.
    let held = |r: &GuestRecord| r.held().is_some() && !planted("held-guest-is-slow");
    let busy = |r: &GuestRecord| held(r) || planted("stopped-is-busy") && !to_run(r);
    let waiting = given().any(to_run) && !given().any(busy);
    silent < t.heartbeat * 2 + t.jitter
        && heard.incarnation == record.incarnation
        && status.running == 0
        && waiting
}

/// Whether `host` is heard, was given guests, and has none of the entries that gave them.
pub(super) fn stranded(now: Time, member: &Member<Guests>, host: NodeId) -> bool {
    let t = &member.cluster().timing;
    let Some((heard, silent)) = member.heard(now, host) else {
        return false;
    };
    let Some(record) = member.cluster().hosts.get(&host) else {
        return false;
    };
    let unknown = |(_, r): (_, &GuestRecord)| r.epoch.index() > heard.beat.applied;
    let mut given = member.app().on(host);
    silent < t.heartbeat * 2 + t.jitter
        && heard.incarnation == record.incarnation
        && given.next().is_some_and(unknown)
        && given.all(unknown)
}
