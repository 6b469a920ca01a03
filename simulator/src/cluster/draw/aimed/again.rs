//! Trouble that is over, a rest, and one loss more: what the trouble left behind shows only then.

use super::stories::voters_fail;
use super::{BEGIN, cut_off, every, host, kept, restart, voter};
use crate::cluster::Plan;
use crate::cluster::action::{Action, Fate, Who};
use crate::world::{Rng, SECOND};

/// When the trouble is over, and what may be left of it settles.
const WHOLE: u64 = 30 * SECOND;

/// Plan in which everything is whole again for a while before one more host goes for good. A cluster that
/// came to rest survives that: liveness counts from then on.
pub(super) fn again(rng: &mut Rng, plan: &mut Plan) {
    plan.waits = rng.chance(500_000);
    plan.end = WHOLE - 4 * SECOND;
    match rng.range(0, 6) {
        0 => every(rng, plan, 6 * SECOND, cut_off),
        1 => every(rng, plan, 6 * SECOND, restart),
        2 => every(rng, plan, 8 * SECOND, voters_fail),
        3 => every(rng, plan, 8 * SECOND, kept::stores),
        4 => states_and_stores(rng, plan),
        _ => {
            let at = BEGIN + rng.range(0, 6 * SECOND);
            kept::set_back(rng, plan, at);
        }
    }
    plan.timeline.retain(|(at, _)| *at < WHOLE);
    plan.timeline.push((WHOLE, Action::Calm));
    let lost = WHOLE + rng.range(24 * SECOND, 40 * SECOND);
    let who = match rng.range(0, 3) {
        0 => Who::Coordinator,
        1 => voter(rng, plan),
        _ => host(rng, plan),
    };
    let loss = match rng.range(0, 3) {
        0 => Action::Isolate(who),
        _ => Action::PowerOff { who, back: None },
    };
    plan.timeline.push((lost, loss));
    plan.healed = Some(lost);
    plan.end = lost + 50 * SECOND;
}

/// The state of one voter is altered, and often it has no session to another for a while; or the store
/// of another one is set back. Not before states were compared: of three voters one with a wrong state and
/// one without any leave nobody who could tell which state is right.
fn states_and_stores(rng: &mut Rng, plan: &mut Plan) {
    let first = rng.index(plan.voters);
    let odd = Who::Host(first);
    let other = Who::Host((first + 1) % plan.voters);
    let store = |who: &Who, fate| Action::Store {
        who: who.clone(),
        fate,
    };
    let at = BEGIN + rng.range(2 * SECOND, 6 * SECOND);
    plan.timeline.push((at, store(&odd, Fate::Altered)));
    if rng.chance(500_000) {
        let when = at + rng.range(0, 2 * SECOND);
        let back = Some(rng.range(SECOND / 2, 3 * SECOND));
        let who = odd.clone();
        plan.timeline.push((when, Action::PowerOff { who, back }));
        let block = |from: &Who, to: &Who| Action::Cut {
            from: from.clone(),
            to: to.clone(),
            net: None,
        };
        plan.timeline.push((when, block(&odd, &other)));
        plan.timeline.push((when, block(&other, &odd)));
    } else {
        let copied = at - rng.range(0, 6 * SECOND);
        plan.timeline.push((copied, store(&other, Fate::Copied)));
        let when = at + rng.range(8 * SECOND, 12 * SECOND);
        plan.timeline.push((when, store(&other, Fate::SetBack)));
    }
}
