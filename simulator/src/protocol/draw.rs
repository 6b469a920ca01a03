//! One seed, one plan: the shape of a world and a while of trouble.
//!
//! Swarm style: each seed first draws which kinds of faults are on at all, how often they come and
//! how long they last, so that rare combinations are not drowned by all kinds at once. All times
//! are whole milliseconds, which people can read.

use super::{Fault, Kind, Moment, Plan, Shape, Side, Step};
use crate::world::{Clock, MS, Rng, SECOND, SESSION_CLASS, Stream};
use std::ops::RangeInclusive;

/// What may be drawn for a protocol.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// How many nodes.
    pub(super) nodes: RangeInclusive<usize>,
    /// Which kinds of faults the protocol must bear.
    pub(super) kinds: Vec<Kind>,
    /// The longest time-out of the protocol: lengths of faults are drawn around it.
    pub(super) timeout: u64,
    /// How long trouble goes on.
    pub(super) trouble: u64,
    /// How long the protocol has afterwards.
    pub(super) settle: u64,
    /// Worst clock-rate error it must bear, in parts per million.
    pub(super) clock_ppm: u32,
    /// Whether some links may stay cut for ever, if a node has two-way links to a quorum.
    pub(super) lasting: bool,
    /// Kinds of messages.
    pub(super) classes: u8,
    /// Whether sessions are used.
    pub(super) sessions: bool,
}

/// The longest way of a message: what a scenario may say.
const LONG_MAX: u64 = 60 * SECOND;

/// When trouble begins, in half of the runs; in the others it begins at once, so that the first
/// election or the first start is in the middle of it.
const BEGIN: u64 = SECOND;

/// Of a million runs, so many are short, with one fault to three: races between few steps are met by
/// many short runs sooner than by one long one.
const SHORT: u32 = 250_000;
/// Trouble of a short run, in longest time-outs.
const SHORT_TIMEOUTS: u64 = 4;

/// The plan of `seed`.
pub(super) fn plan(rules: &Rules, seed: u64) -> Plan {
    let rng = &mut Rng::new(seed, Stream::Shape);
    let (least, most) = (*rules.nodes.start() as u64, *rules.nodes.end() as u64);
    let mut plan = Plan::new(seed, rng.range(least, most) as usize);
    plan.delay = [(MS / 10, MS / 2), (MS, 5 * MS), (5 * MS, 40 * MS)][rng.index(3)];
    if rules.kinds.contains(&Kind::Noise) && rng.chance(300_000) {
        (plan.loss, plan.duplicate) = (20_000, 20_000);
    }
    clocks(rules, rng, &mut plan);
    let rng = &mut Rng::new(seed, Stream::Faults);
    let begin = [0, BEGIN][rng.index(2)];
    let short = rng.chance(SHORT);
    let lasts = if short {
        rules.trouble.min(whole(rules.timeout * SHORT_TIMEOUTS))
    } else {
        rules.trouble
    };
    let heal = begin + lasts;
    let most = if short {
        rng.range(1, 3) as usize
    } else {
        usize::MAX
    };
    trouble(rules, rng, &mut plan, (begin, heal), most);
    plan.healed = Some(heal);
    plan.end = heal + rules.settle;
    if rules.lasting && rng.chance(300_000) {
        lasting(rng, &mut plan, heal);
    }
    plan.steps.sort_by_key(|s| s.at);
    plan
}

fn clocks(rules: &Rules, rng: &mut Rng, plan: &mut Plan) {
    let ppb = i64::from(rules.clock_ppm) * 1000;
    let extreme = rng.range(0, 2);
    for clock in &mut plan.clocks {
        let rate_ppb = match extreme {
            0 => 0,
            1 if rng.chance(500_000) => ppb,
            1 => -ppb,
            _ => rng.range(0, 2 * ppb as u64) as i64 / 1000 * 1000 - ppb,
        };
        let offset = rng.range(0, 3) * rng.range(0, 10_000) * MS;
        *clock = Clock { offset, rate_ppb };
    }
}

fn trouble(rules: &Rules, rng: &mut Rng, plan: &mut Plan, (begin, heal): (u64, u64), most: usize) {
    let usable = |k: &&Kind| match k {
        Kind::Ring => plan.nodes >= Shape::Ring.least(),
        Kind::Bridge | Kind::Chain | Kind::Star => plan.nodes >= Shape::Star.least(),
        _ => plan.nodes > 1 || k.alone(),
    };
    let on = rules.kinds.iter().filter(usable).copied();
    // Few kinds in some runs: what one kind does alone is drowned where it is one of many.
    let share = [100_000, 200_000, 400_000][rng.index(3)];
    let on: Vec<Kind> = on.filter(|_| rng.chance(share)).collect();
    if on.is_empty() {
        return;
    }
    let t = rules.timeout.max(10 * MS);
    let gap = [t / 20, t / 2, 2 * t, 6 * t][rng.index(4)];
    let longest = [t / 20, t / 2, 2 * t, 8 * t][rng.index(4)];
    // Lengths of every order from a process that starts again at once, or of the order of time-outs.
    let any_order = rng.chance(500_000);
    let mut at = begin;
    while plan.steps.len() < most {
        at += whole(rng.range(MS, gap));
        if at >= heal {
            return;
        }
        let kind = on[rng.index(on.len())];
        let lasts = if any_order {
            log_uniform(rng, MS, longest)
        } else {
            rng.range(longest.min(t / 10), longest)
        };
        let lasts = Some(whole(lasts));
        let fault = one(rules, rng, plan, kind);
        plan.steps.push(Step { at, lasts, fault });
    }
}

/// A number from `low` to `high` of which every order of magnitude is as likely as any other.
fn log_uniform(rng: &mut Rng, low: u64, high: u64) -> u64 {
    let low = low.max(1);
    let doublings = (high / low).max(1).ilog2().into();
    let floor = low << rng.range(0, doublings);
    rng.range(floor, (floor * 2 - 1).min(high).max(floor))
}

/// Whole milliseconds, one at least.
fn whole(ns: u64) -> u64 {
    (ns / MS).max(1) * MS
}

fn one(rules: &Rules, rng: &mut Rng, plan: &Plan, kind: Kind) -> Fault {
    let n = plan.nodes;
    let node = rng.index(n);
    let (from, to) = (node, (node + 1 + rng.index(n.max(2) - 1)) % n);
    let shape = |rng: &mut Rng, shape| Fault::Shape {
        shape,
        order: shuffled(rng, n),
        one_way: rng.chance(300_000),
    };
    match kind {
        Kind::Cut => Fault::Cut {
            from,
            to,
            both: rng.chance(400_000),
        },
        Kind::Isolate => isolate(node, Side::Both),
        Kind::Deaf => isolate(node, Side::In),
        Kind::Mute => isolate(node, Side::Out),
        Kind::Partition => {
            let order = shuffled(rng, n);
            let (a, b) = order.split_at(rng.range(1, (n as u64).max(2) - 1) as usize);
            Fault::Partition(vec![a.to_vec(), b.to_vec()])
        }
        Kind::Bridge => shape(rng, Shape::Bridge),
        Kind::Ring => shape(rng, Shape::Ring),
        Kind::Chain => shape(rng, Shape::Chain),
        Kind::Star => shape(rng, Shape::Star),
        Kind::Only => {
            let pairs = (0..n).flat_map(|a| (0..n).map(move |b| (a, b)));
            let left = pairs.filter(|(a, b)| a != b && rng.chance(600_000));
            Fault::Only(left.collect())
        }
        Kind::Flap => {
            let period = whole(rng.range(rules.timeout / 2, rules.timeout * 3 / 2)).max(20 * MS);
            Fault::Flap { from, to, period }
        }
        Kind::Swizzle => {
            let mut stop = shuffled(rng, n);
            stop.truncate(rng.range(1, n as u64) as usize);
            let release = shuffled(rng, n).into_iter();
            let release = release.filter(|node| stop.contains(node)).collect();
            Fault::Swizzle { stop, release }
        }
        Kind::Clog => Fault::Clog(node),
        Kind::Block => {
            let sessions = rules.sessions && rng.chance(500_000);
            let class = rng.index(rules.classes.into()) as u8;
            let class = if sessions { SESSION_CLASS } else { class };
            Fault::Block { from, to, class }
        }
        Kind::Noise => {
            let (loss, duplicate) = [(50_000, 50_000), (400_000, 300_000)][rng.index(2)];
            Fault::Noise { loss, duplicate }
        }
        Kind::Delay => Fault::Delay {
            jitter: whole(rng.range(MS, rules.timeout / 4)),
            long: [10_000, 200_000][rng.index(2)],
            long_max: whole(rng.range(rules.timeout / 2, rules.timeout * 3)).min(LONG_MAX),
        },
        Kind::Crash => Fault::Crash(node),
        Kind::CrashAfter => Fault::CrashAfter {
            node,
            moment: Moment::ALL[rng.index(Moment::ALL.len())],
            nth: rng.range(1, 3) as u32,
        },
        Kind::Pause => Fault::Pause(node),
        Kind::SlowDisk => {
            let delay = (MS, whole(rng.range(10 * MS, rules.timeout)).max(10 * MS));
            Fault::SlowDisk { node, delay }
        }
        Kind::ClockJump => {
            let by = whole(rng.range(MS, 10 * rules.timeout)) as i64;
            let by = if rng.chance(500_000) { by } else { -by };
            Fault::ClockJump { node, by }
        }
        Kind::ClockRate => {
            let ppb = i64::from(rules.clock_ppm) * 1000;
            let ppb = if rng.chance(500_000) { ppb } else { -ppb };
            Fault::ClockRate { node, ppb }
        }
        Kind::Heal => Fault::Heal,
    }
}

fn isolate(node: usize, side: Side) -> Fault {
    Fault::Isolate { node, side }
}

fn shuffled(rng: &mut Rng, n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, rng.index(i + 1));
    }
    order
}

/// Cuts that stay when the trouble is over, and leave some node two-way links to a quorum.
fn lasting(rng: &mut Rng, plan: &mut Plan, heal: u64) {
    let n = plan.nodes;
    if n < 3 {
        return;
    }
    let order = shuffled(rng, n);
    let fault = match rng.range(0, 5) {
        0 | 1 => Fault::Cut {
            from: order[0],
            to: order[1],
            both: rng.chance(300_000),
        },
        2 => isolate(order[0], [Side::Both, Side::In, Side::Out][rng.index(3)]),
        3 => Fault::Shape {
            shape: Shape::Star,
            order,
            one_way: false,
        },
        4 => Fault::Shape {
            shape: Shape::Bridge,
            order,
            one_way: false,
        },
        _ => Fault::Shape {
            shape: if n > 3 { Shape::Ring } else { Shape::Chain },
            order,
            one_way: false,
        },
    };
    // Begins with the healing, so that it is what is left.
    let (at, lasts) = (heal, None);
    plan.steps.push(Step { at, lasts, fault });
}
