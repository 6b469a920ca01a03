//! What befalls guests, drawn apart from all other trouble: those plans stay what they were.

use crate::cluster::Plan;
use crate::cluster::action::{Action, Ask, Ill, Who};
use crate::world::{Rng, SECOND, Stream};

/// Kinds of ills, each on or off per seed.
const KINDS: usize = 10;

/// Adds what befalls guests between `begin` and `end`, and what mends it.
pub(super) fn add(plan: &mut Plan, begin: u64, end: u64) {
    let rng = &mut Rng::new(plan.seed, Stream::Ills);
    for agent in &mut plan.agents {
        *agent = rng.chance(750_000);
    }
    if rng.chance(400_000) {
        return;
    }
    let kinds: Vec<usize> = (0..KINDS).filter(|_| rng.chance(500_000)).collect();
    if kinds.is_empty() {
        return;
    }
    let longest = [3 * SECOND, 8 * SECOND, 20 * SECOND][rng.index(3)];
    let mut full = vec![false; plan.guests];
    let mut at = begin;
    loop {
        at += rng.range(SECOND / 2, longest);
        if at >= end {
            return;
        }
        let guest = rng.index(plan.guests);
        let length = |rng: &mut Rng, most: u64| rng.range(SECOND, most * SECOND);
        let ill = match kinds[rng.index(kinds.len())] {
            0 => Ill::Panics,
            1 | 2 => Ill::Hangs {
                spins: rng.chance(500_000),
            },
            3 => Ill::Sickens,
            // One guest may lose its agent or compute, but not both: a guest whose agent goes just
            // when it begins to do nothing but compute cannot be told from a dead one.
            4 | 5 if guest.is_multiple_of(2) => Ill::AgentStops,
            4 | 5 => Ill::Computes(length(rng, 40)),
            6 => Ill::Freezes(length(rng, 30)),
            7 => Ill::Suspended(length(rng, 30)),
            8 if !full[guest] => {
                full[guest] = true;
                Ill::DiskFull(length(rng, 12))
            }
            8 => {
                let start = Action::Ask(Who::Host(rng.index(plan.hosts)), Ask::Start(guest));
                plan.timeline.push((end + 2 * SECOND, start));
                Ill::ShutsDown
            }
            _ => {
                let who = Who::Host(rng.index(plan.hosts));
                let length = length(rng, 30);
                // Busy neighbours, or a hypervisor that does not answer.
                let action = if rng.chance(700_000) {
                    Action::Starve { who, length }
                } else {
                    Action::Silent { who, length }
                };
                plan.timeline.push((at, action));
                continue;
            }
        };
        plan.timeline.push((at, Action::Guest(guest, ill)));
    }
}
