//! The auditor's reading of room: whether all guests that are wanted would still find memory if any
//! one host were lost. Guests go largest first to the host with the most room left.

use super::audit::Audit;
use quorate_membership::NodeId;
use quorate_recovery::guest::Wanted;
use std::cmp::Reverse;
use std::collections::BTreeMap;

impl Audit {
    /// Says whether they would. A single host promises nothing but its own room; none promises nothing.
    pub(super) fn survives_a_loss(&self) -> bool {
        let members = self.hosts.iter().filter(|(_, h)| {
            h.incarnation.counter > 0 && h.revoke.is_none() && !h.proved && !h.away
        });
        let whole: BTreeMap<NodeId, u64> =
            members.filter_map(|(n, h)| Some((*n, h.room?))).collect();
        let wanted = self
            .guests
            .iter()
            .filter(|(_, g)| g.wanted == Wanted::Running);
        let mut wanted: Vec<_> = wanted.map(|(id, g)| (Reverse(g.wants), *id)).collect();
        wanted.sort_unstable();
        let fit = |lost: Option<NodeId>| {
            let mut left = whole.clone();
            left.retain(|node, _| Some(*node) != lost);
            wanted.iter().all(|(Reverse(wants), _)| {
                let most = left
                    .iter_mut()
                    .max_by_key(|(node, room)| (**room, Reverse(**node)));
                most.is_some_and(|(_, room)| {
                    let fits = *room >= *wants;
                    *room = room.saturating_sub(*wants);
                    fits
                })
            })
        };
        match whole.len() {
            0 => true,
            1 => fit(None),
            _ => whole.keys().all(|node| fit(Some(*node))),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::tests_support::Script;

    #[test]
    fn a_guest_that_a_lost_host_would_leave_without_room_is_none() {
        let mut log = Script::default();
        for node in 1..=2 {
            log.admit(node, 1);
        }
        for guest in 1..=9 {
            log.add_guest(&format!("g{guest}"));
        }
        assert_eq!(log.audit.guests.len(), 8, "one host has room for eight");
        log.admit(3, 1);
        log.add_guest("g10");
        assert_eq!(log.audit.guests.len(), 9, "two hosts would be left");
    }
}
