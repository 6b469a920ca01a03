//! Which host takes a guest, and whether the loss of any one host can be survived.

use crate::guest::{GuestId, Wanted};
use crate::machine::Guests;
use quorate_membership::entry::Capacity;
use quorate_membership::{Cluster, HostState, NodeId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Room left per host that may take guests.
pub type Room = BTreeMap<NodeId, Capacity>;

/// What each usable host has left, by the guests that belong there.
#[must_use]
pub fn room(cluster: &Cluster, guests: &Guests) -> Room {
    let mut room: Room = cluster
        .hosts
        .iter()
        .filter(|(_, h)| h.usable())
        .map(|(n, h)| (*n, h.profile.capacity))
        .collect();
    for r in guests.guests.values().filter(|r| r.open()) {
        if let Some(left) = r.host.and_then(|h| room.get_mut(&h)) {
            take(left, r.spec.needs.capacity());
        }
    }
    room
}

/// Takes `needs` out of `left`; stops at zero.
pub fn take(left: &mut Capacity, needs: Capacity) {
    left.vcpus = left.vcpus.saturating_sub(needs.vcpus);
    left.memory_mib = left.memory_mib.saturating_sub(needs.memory_mib);
}

fn fits(left: Capacity, needs: Capacity) -> bool {
    left.vcpus >= needs.vcpus && left.memory_mib >= needs.memory_mib
}

/// The host that stands least against, by `against`; of those the one with most room left, of
/// equals the lowest number. What stands against a host only puts it behind the others.
#[must_use]
pub fn choose(room: &Room, needs: Capacity, against: impl Fn(NodeId) -> u32) -> Option<NodeId> {
    room.iter()
        .filter(|(_, left)| fits(**left, needs))
        .max_by_key(|(node, left)| {
            (
                Reverse(against(**node)),
                left.memory_mib,
                left.vcpus,
                Reverse(**node),
            )
        })
        .map(|(node, _)| *node)
}

/// Whether every guest wanted running would still find room if any one host were lost.
///
/// Guests are packed largest first onto the host with most room (worst fit decreasing): a set it
/// accepts does fit; a set it refuses might fit if packed more cleverly. Only members count: a host
/// that is lost, fenced or away has room for nobody. A cluster with a single host promises nothing.
///
/// # Errors
/// The host whose loss could not be survived, and the guest that finds no room.
pub fn survivable(cluster: &Cluster, guests: &Guests) -> Result<(), String> {
    let whole: Room = cluster
        .hosts
        .iter()
        .filter(|(_, h)| !h.profile.witness)
        .filter(|(_, h)| h.state() == HostState::Member)
        .map(|(n, h)| (*n, h.profile.capacity))
        .collect();
    let mut wanted: Vec<(Capacity, GuestId)> = guests
        .guests
        .iter()
        .filter(|(_, r)| r.wanted == Wanted::Running)
        .map(|(id, r)| (r.spec.needs.capacity(), *id))
        .collect();
    wanted.sort_by_key(|(c, id)| (Reverse((c.memory_mib, c.vcpus)), *id));
    let lost: Vec<Option<NodeId>> = match whole.len() {
        0 => return Ok(()),
        1 => vec![None],
        _ => worst_to_lose(&whole).into_iter().map(Some).collect(),
    };
    for lost in lost {
        let left = whole.iter().filter(|(n, _)| Some(**n) != lost);
        let mut room: BTreeSet<_> = left
            .map(|(n, c)| (c.memory_mib, c.vcpus, Reverse(*n)))
            .collect();
        for (needs, id) in &wanted {
            // The same order as in `choose`, where nothing stands against anybody.
            let fitting = |(memory, vcpus, _): &&(u64, u32, Reverse<NodeId>)| {
                *memory >= needs.memory_mib && *vcpus >= needs.vcpus
            };
            let Some(host) = room.iter().rev().find(fitting).copied() else {
                let name = &guests.guests[id].spec.name;
                return Err(match lost {
                    Some(lost) => format!(
                        "if {} were lost, guest {name:?} would find no room on the other hosts",
                        cluster.name(lost)
                    ),
                    None => format!("guest {name:?} finds no room"),
                });
            };
            room.remove(&host);
            room.insert((host.0 - needs.memory_mib, host.1 - needs.vcpus, host.2));
        }
    }
    Ok(())
}

/// The hosts whose loss is the worst: no other has at least as much of everything. Where the loss of
/// such a one is survived, that of a smaller host is too: what would have run there has room on the
/// larger one, which is still there.
fn worst_to_lose(whole: &Room) -> Vec<NodeId> {
    let mut largest_first: Vec<_> = whole.iter().collect();
    largest_first.sort_by_key(|(n, c)| (Reverse((c.memory_mib, c.vcpus)), **n));
    let mut most_vcpus = None;
    let worst = largest_first.into_iter().filter(|(_, c)| {
        let worst = most_vcpus.is_none_or(|most| c.vcpus > most);
        most_vcpus = most_vcpus.max(Some(c.vcpus));
        worst
    });
    worst.map(|(n, _)| *n).collect()
}
