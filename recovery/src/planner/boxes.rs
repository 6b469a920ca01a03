//! Fences through one box, one after another.

use super::Planner;
use crate::machine::Guests;
use quorate_fencing::Level;
use quorate_fencing::boxes::share_a_box;
use quorate_membership::{Member, NodeId, Time};

impl Planner {
    /// Whether nobody else is being fenced through a box that this level uses: it may let one
    /// session in at a time, and refuse the other.
    pub(super) fn box_free(
        &self,
        now: Time,
        member: &Member<Guests>,
        host: NodeId,
        level: &Level,
    ) -> Result<(), String> {
        let cluster = member.cluster();
        let fencing = &member.app().fencing;
        let of = |other: &NodeId, place: u8| fencing.get(other)?.get(usize::from(place));
        let running = cluster.hosts.iter().flat_map(|(other, record)| {
            let attempts = record.attempts.values();
            attempts.filter_map(move |a| Some((*other, of(other, a.level)?)))
        });
        let term = cluster.term.map(|t| t.token);
        let coming = self
            .proposed
            .values()
            .filter(|p| Some(p.term) == term && now < p.not_after)
            .map(|p| (p.host, &p.level));
        let mut others = running.chain(coming).filter(|(other, _)| *other != host);
        match others.find(|(_, other)| share_a_box(other, level)) {
            Some((other, _)) => Err(format!(
                "{} is being fenced through the same box: after that",
                cluster.name(other)
            )),
            None => Ok(()),
        }
    }
}
