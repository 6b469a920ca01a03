//! Hosts that keep their lease, get no log any more, and were given a guest just before.

use super::{Planner, kind};
use crate::machine::{GuestRecord, Guests};
use crate::mutants::planted;
use quorate_membership::entry::{Entry, Ground};
use quorate_membership::{Incarnation, Member, NodeId, Time};

impl Planner {
    /// `Placed` in the log is the order, and it may still come: nobody else may start the guest
    /// before it is proved that this host cannot. A host whose log stands still for T_d, and that
    /// was given nothing else, is therefore lost like one that hears nobody. The verdict ends no
    /// guest, since none can run there. A host that runs others is left alone: to end those for
    /// the one that waits would be worse.
    pub(super) fn judge_stranded(&mut self, now: Time, member: &mut Member<Guests>) {
        if planted("stranded-guest-waits") {
            return;
        }
        let t = member.cluster().timing.clone();
        // Who has the newest placement lacks none.
        let given = member.app().guests.values().map(|r| r.epoch.index());
        let newest = given.max().unwrap_or(0);
        let lacks = |host| {
            let heard = member.heard(now, host);
            heard.is_some_and(|(h, _)| h.beat.applied < newest) && stranded(now, member, host)
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
    }
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
