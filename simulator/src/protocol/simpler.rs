//! Plans that tell the same story more plainly, for whoever cuts a failure down.

use super::{Fault, Kind, Plan, Side, Step};
use crate::world::{Clock, MS, SECOND};

/// Plans one step plainer than this one, the most drastic first; never fewer nodes than `least`, and
/// never less than `settle` nanoseconds between the healing and the end: with less, a promise of
/// progress breaks for want of time and not by any fault.
pub(super) fn simpler(plan: &Plan, least: usize, settle: u64) -> Vec<Plan> {
    let mut out = Vec::new();
    if plan.nodes > least {
        out.extend((0..plan.nodes).rev().map(|node| without(plan, node)));
    }
    let mut with = |change: &dyn Fn(&mut Plan)| {
        let mut changed = plan.clone();
        change(&mut changed);
        if changed != *plan {
            out.push(changed);
        }
    };
    with(&|p| (p.loss, p.duplicate) = (0, 0));
    with(&|p| p.clocks.fill(Clock::default()));
    with(&|p| p.delay = (p.delay.0.max(MS) / MS * MS, 0));
    with(&|p| p.healed = None);
    with(&|p| {
        let least = p
            .healed
            .map_or(0, |at| at.saturating_add(settle))
            .min(p.end);
        let last = p.steps.last().map_or(0, |s| s.at);
        p.end = shorter(p.end, last).max(least);
    });
    // The healing and the end, both earlier by as much.
    with(&|p| {
        let last = p
            .steps
            .last()
            .map_or(0, |s| s.at.saturating_add(s.lasts.unwrap_or(0)));
        if let Some(healed) = p.healed {
            let earlier = healed.saturating_sub(shorter(healed, last));
            p.healed = Some(healed - earlier);
            p.end -= earlier;
        }
    });
    for (i, step) in plan.steps.iter().enumerate() {
        for fault in weaker(&step.fault, plan.nodes) {
            with(&|p| p.steps[i].fault = fault.clone());
        }
        if let Some(lasts) = step.lasts {
            for less in [lasts / 2 / MS * MS, round(lasts)] {
                with(&|p| p.steps[i].lasts = Some(less.max(MS)));
            }
        }
        // Not before the one before: the order of a story stays.
        let earliest = i.checked_sub(1).map_or(0, |i| plan.steps[i].at);
        let at = round(step.at);
        if at >= earliest {
            with(&|p| p.steps[i].at = at);
        }
    }
    out
}

/// Half of what follows the last step is left away, down to a second.
fn shorter(end: u64, last: u64) -> u64 {
    let rest = end.saturating_sub(last);
    if rest <= SECOND {
        return end;
    }
    (last + rest / 2).next_multiple_of(SECOND).min(end)
}

/// The next rounder time below.
fn round(time: u64) -> u64 {
    let units = [SECOND, 100 * MS, 10 * MS, MS];
    let unit = units
        .into_iter()
        .find(|u| time >= *u && !time.is_multiple_of(*u));
    unit.map_or(time, |u| time / u * u)
}

/// Weaker faults: what they cut is a part of what this one cuts.
fn weaker(fault: &Fault, nodes: usize) -> Vec<Fault> {
    let cut = |from, to, both| Fault::Cut { from, to, both };
    let any_time = |f: &Fault| {
        let lasts = SECOND;
        let times = f.changes(lasts).into_iter().chain([0]);
        let all = times.flat_map(|t| f.cuts(nodes, t, lasts));
        all.collect::<std::collections::BTreeSet<_>>()
    };
    let mut out = Vec::new();
    match fault {
        Fault::Clog(node) => out.push(Fault::Isolate {
            node: *node,
            side: Side::Both,
        }),
        Fault::Noise { loss, duplicate } => {
            out.push(Fault::Noise {
                loss: *loss,
                duplicate: 0,
            });
            out.push(Fault::Noise {
                loss: 0,
                duplicate: *duplicate,
            });
        }
        Fault::Delay { jitter, long, .. } if *long > 0 => out.push(Fault::Delay {
            jitter: *jitter,
            long: 0,
            long_max: 0,
        }),
        Fault::ClockJump { node, by } if by.unsigned_abs() > MS => out.push(Fault::ClockJump {
            node: *node,
            by: by / 2 / MS as i64 * MS as i64,
        }),
        _ => {}
    }
    let all = any_time(fault);
    let rank = |f: &Fault| match f.kind() {
        Kind::Cut => 0,
        Kind::Isolate | Kind::Deaf | Kind::Mute => 1,
        _ => 2,
    };
    let sides = [Side::Both, Side::In, Side::Out];
    let nodes_sides = (0..nodes).flat_map(|node| sides.map(|side| Fault::Isolate { node, side }));
    let pairs = all.iter().flat_map(|(a, b)| {
        let pair = (a < b).then(|| cut(*a, *b, true));
        pair.into_iter().chain([cut(*a, *b, false)])
    });
    let candidates = nodes_sides.chain(pairs);
    out.extend(candidates.filter(|f| {
        let part = any_time(f);
        let less = (part.len(), rank(f)) < (all.len(), rank(fault));
        less && !part.is_empty() && part.is_subset(&all)
    }));
    out
}

/// The plan without one node; what was about it alone is gone.
fn without(plan: &Plan, node: usize) -> Plan {
    let mut left = plan.clone();
    left.nodes -= 1;
    left.clocks.remove(node);
    let steps = plan.steps.iter().filter_map(|step| {
        let fault = rename(&step.fault, node)?;
        Some(Step {
            fault,
            ..step.clone()
        })
    });
    left.steps = steps.collect();
    left
}

/// The fault with a node gone and the later ones counted one lower; `None` if it was about it.
fn rename(fault: &Fault, gone: usize) -> Option<Fault> {
    let one = |n: usize| match n.cmp(&gone) {
        std::cmp::Ordering::Less => Some(n),
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some(n - 1),
    };
    let list = |nodes: &[usize]| nodes.iter().filter_map(|n| one(*n)).collect::<Vec<_>>();
    let mut fault = fault.clone();
    match &mut fault {
        Fault::Cut { from, to, .. }
        | Fault::Flap { from, to, .. }
        | Fault::Block { from, to, .. } => {
            (*from, *to) = (one(*from)?, one(*to)?);
        }
        Fault::Partition(groups) => {
            *groups = groups
                .iter()
                .map(|g| list(g))
                .filter(|g| !g.is_empty())
                .collect();
            if groups.len() < 2 {
                return None;
            }
        }
        Fault::Shape { shape, order, .. } => {
            *order = list(order);
            if order.len() < shape.least() {
                return None;
            }
        }
        Fault::Only(left) => {
            let links = left.iter().filter_map(|(a, b)| Some((one(*a)?, one(*b)?)));
            *left = links.collect();
        }
        Fault::Swizzle { stop, release } => {
            (*stop, *release) = (list(stop), list(release));
            if stop.is_empty() {
                return None;
            }
        }
        Fault::Isolate { node, .. }
        | Fault::Clog(node)
        | Fault::Crash(node)
        | Fault::CrashAfter { node, .. }
        | Fault::Pause(node)
        | Fault::SlowDisk { node, .. }
        | Fault::ClockJump { node, .. }
        | Fault::ClockRate { node, .. } => *node = one(*node)?,
        Fault::Noise { .. } | Fault::Delay { .. } | Fault::Heal => {}
    }
    Some(fault)
}
