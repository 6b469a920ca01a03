//! What becomes of guardians; drawn apart from all other trouble, whose plans stay what they were.

use crate::cluster::Plan;
use crate::cluster::action::{Action, GuardianMode, Who};
use crate::world::{MS, Rng, SECOND, Stream};

/// Adds failing guardians between `begin` and `end` to every fourth plan.
pub(super) fn add(plan: &mut Plan, begin: u64, end: u64) {
    let rng = &mut Rng::new(plan.seed, Stream::Guardians);
    if rng.chance(750_000) {
        return;
    }
    let mut at = begin + rng.range(0, 10 * SECOND);
    while at < end {
        let who = Who::Host(rng.index(plan.hosts));
        fails(rng, plan, at, who);
        at += rng.range(SECOND, 20 * SECOND);
    }
}

/// A guardian fails, often for long. Gives how long.
pub(super) fn fails(rng: &mut Rng, plan: &mut Plan, at: u64, who: Who) -> u64 {
    let modes = [
        GuardianMode::Gone,
        GuardianMode::Still,
        GuardianMode::Restless,
    ];
    let mode = modes[rng.index(modes.len())];
    let length = if rng.chance(300_000) {
        rng.range(20 * MS, SECOND)
    } else {
        rng.range(SECOND, 30 * SECOND)
    };
    plan.timeline
        .push((at, Action::Guardian { who, mode, length }));
    length
}
