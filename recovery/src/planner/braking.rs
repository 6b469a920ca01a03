//! How many hosts may be cut in a while.

use super::Planner;
use crate::machine::Guests;
use crate::mutants::planted;
use quorate_fencing::brake;
use quorate_membership::{Host, Member, NodeId, Time};
use std::time::Duration;

impl Planner {
    pub(super) fn brake(
        &self,
        now: Time,
        member: &Member<Guests>,
        host: NodeId,
    ) -> Result<(), quorate_fencing::Braked> {
        let hosts = &member.cluster().hosts;
        let mut attempts: Vec<(u32, Duration)> = hosts
            .iter()
            .filter_map(|(n, h)| Some((n.0, h.last_attempt?)))
            .map(|(n, token)| {
                (
                    n,
                    self.logged
                        .get(&token)
                        .map_or(Duration::ZERO, |at| now.since(*at)),
                )
            })
            .collect();
        // Those on their way to the log will be launched as well when they get there.
        let term = member.cluster().term.map(|t| t.token);
        let coming = self
            .proposed
            .values()
            .filter(|p| Some(p.term) == term && now < p.not_after && !planted("brake-by-log-alone"))
            .map(|p| (p.host.0, Duration::ZERO));
        attempts.extend(coming);
        // Hosts that can run guests and are there, the ones that are being lost among them: what was
        // lost long ago, or was never more than a vote, makes no cluster larger.
        let counted = |(node, h): &(&NodeId, &Host)| {
            let cut = |(n, age): &(u32, Duration)| *n == node.0 && *age <= brake::WINDOW;
            let there = h.away.is_none() && (h.proved.is_none() || attempts.iter().any(cut));
            !h.profile.witness && there
        };
        let n = u32::try_from(hosts.iter().filter(counted).count()).unwrap_or(u32::MAX);
        brake::allows(n, 1, brake::WINDOW, &attempts, host.0)
    }
}
