//! One step towards a plainer plan: what shrinking tries when no fault can be left out.
//!
//! Nothing here takes an assumption of the contract away that the plan keeps: a watchdog stays
//! where a freeze needs it, and no device begins to lie.

use super::Plan;
use super::action::{Action, Ask, DeviceMode, Ill, Way, Who};
use super::triggers::Trigger;
use crate::check::Violation;
use crate::world::{MS, SECOND};
use quorate_membership::ProofPolicy;

/// Numbers of what is done and may be left out, triggers after what has a time. Healing stays, or
/// every failure of liveness could be cut down to nothing.
fn droppable(plan: &Plan) -> Vec<usize> {
    let timed = plan.timeline.iter().map(|(_, action)| action);
    let all = timed.chain(plan.triggers.iter().map(|t| &t.action));
    let loose = all.enumerate().filter(|(_, a)| **a != Action::Calm);
    loose.map(|(i, _)| i).collect()
}

/// How many faults a plan has.
pub(super) fn faults(plan: &Plan) -> usize {
    droppable(plan).len()
}

/// The plan with only the faults of these numbers.
pub(super) fn keep(plan: &Plan, faults: &[usize]) -> Plan {
    let loose = droppable(plan);
    let kept: Vec<usize> = faults
        .iter()
        .filter_map(|f| loose.get(*f).copied())
        .collect();
    let stays = |i: usize| !loose.contains(&i) || kept.contains(&i);
    let timed = plan.timeline.len();
    Plan {
        timeline: chosen(&plan.timeline, stays),
        triggers: chosen(&plan.triggers, |i| stays(timed + i)),
        ..plan.clone()
    }
}

fn chosen<T: Clone>(all: &[T], stays: impl Fn(usize) -> bool) -> Vec<T> {
    let numbered = all.iter().enumerate();
    numbered
        .filter(|(i, _)| stays(*i))
        .map(|(_, x)| x.clone())
        .collect()
}

/// Everything that is done.
fn actions(plan: &Plan) -> impl Iterator<Item = &Action> {
    let timed = plan.timeline.iter().map(|(_, a)| a);
    timed.chain(plan.triggers.iter().map(|t| &t.action))
}

fn needs_watchdog(action: &Action) -> bool {
    matches!(action, Action::Freeze { .. } | Action::Watchdog { .. })
}

/// So many hosts and guests are needed for those that are named.
fn named(plan: &Plan) -> (usize, usize) {
    let waited_for = plan.triggers.iter().filter_map(|t| t.host);
    let host = actions(plan).flat_map(hosts).chain(waited_for).max();
    let guest = actions(plan).filter_map(last_guest).max();
    (host.map_or(0, |h| h + 1), guest.map_or(0, |g| g + 1))
}

/// What befalls `donor`, in the world of `world`.
pub(super) fn graft(world: &Plan, donor: &Plan) -> Option<Plan> {
    let (hosts, guests) = named(donor);
    let there = hosts <= world.hosts && guests <= world.guests;
    let watched = world.watchdogs.iter().all(|w| *w) || !actions(donor).any(needs_watchdog);
    let networks = donor.networks <= world.networks;
    (there && watched && networks).then(|| Plan {
        timeline: donor.timeline.clone(),
        triggers: donor.triggers.clone(),
        healed: donor.healed,
        end: donor.end,
        expect: donor.expect.clone(),
        ..world.clone()
    })
}

/// Without what comes after a failure. One of liveness is a failure of everything up to the end.
pub(super) fn until(plan: &Plan, failure: &Violation) -> Plan {
    let mut cut = plan.clone();
    if failure.property.starts_with('S') || failure.property == "panic" {
        cut.healed = None;
        cut.end = (failure.at / SECOND + 2) * SECOND;
        cut.timeline.retain(|(at, _)| *at <= failure.at);
        cut.expect.retain(|e| e.at <= failure.at);
    }
    cut
}

/// Plans one step plainer, the most drastic first.
pub(super) fn simpler(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    let mut push = |change: &dyn Fn(&mut Plan)| {
        let mut p = plan.clone();
        change(&mut p);
        if p != *plan {
            all.push(p);
        }
    };
    push(&|p| (p.stall, p.create_hangs, p.create_fails) = (0, 0, 0));
    push(&|p| p.stall = 0);
    push(&|p| (p.create_hangs, p.create_fails) = (0, 0));
    push(&|p| p.delay = (MS / 10, 2 * MS));
    push(&|p| p.rates.fill(0));
    push(&|p| p.agents.fill(true));
    push(&|p| p.witnesses = 0);
    if plan.proof == ProofPolicy::Device {
        push(&|p| p.outlets.fill(None));
        push(&|p| p.devices.fill(None));
        let plain = |d: &Option<DeviceMode>| matches!(d, None | Some(DeviceMode::Works));
        if !plan.devices.iter().all(plain) {
            push(&|p| p.devices.fill(Some(DeviceMode::Works)));
        }
    }
    if !actions(plan).any(needs_watchdog) {
        push(&|p| p.watchdogs.fill(false));
    }
    if !actions(plan).any(|a| matches!(a, Action::Cut { net: Some(_), .. })) {
        push(&|p| p.networks = 1);
    }
    // Numbers are used as names, so only the last of a kind can go, and only if nobody names it.
    let (named, guests) = named(plan);
    if plan.guests > guests.max(1) && plan.expect.is_empty() {
        push(&|p| fewer_guests(p, guests.max(1)));
        push(&|p| fewer_guests(p, p.guests - 1));
    }
    let least = plan.voters.max(named);
    if plan.hosts > least && plan.expect.is_empty() {
        push(&|p| fewer_hosts(p, least));
        push(&|p| fewer_hosts(p, p.hosts - 1));
    }
    if plan.voters > 3 && plan.expect.is_empty() {
        push(&|p| p.voters = 3);
    }
    for i in 0..plan.timeline.len() {
        for weaker in weaker(&plan.timeline[i].1) {
            push(&|p| p.timeline[i].1 = weaker.clone());
        }
        let at = plan.timeline[i].0;
        // What heals keeps its time: liveness counts from there.
        if plan.timeline[i].1 != Action::Calm
            && let Some(rounder) = rounder(at)
        {
            push(&|p| {
                p.timeline[i].0 = rounder;
                p.timeline.sort_by_key(|(at, _)| *at);
            });
        }
    }
    for i in 0..plan.triggers.len() {
        for weaker in weaker(&plan.triggers[i].action) {
            push(&|p| p.triggers[i].action = weaker.clone());
        }
        push(&|p| {
            p.triggers[i] = Trigger {
                times: 1,
                ..p.triggers[i].clone()
            }
        });
        if let Some(rounder) = rounder(plan.triggers[i].delay) {
            push(&|p| p.triggers[i].delay = rounder);
        }
    }
    all
}

fn fewer_guests(plan: &mut Plan, guests: usize) {
    plan.guests = guests;
    plan.agents.truncate(guests);
    plan.wants.truncate(guests);
    plan.priorities.truncate(guests);
}

fn fewer_hosts(plan: &mut Plan, hosts: usize) {
    plan.hosts = hosts;
    plan.room.truncate(hosts);
    plan.rates.truncate(hosts);
    plan.watchdogs.truncate(hosts);
    plan.devices.truncate(hosts);
    plan.outlets.truncate(hosts);
    for (_, action) in &mut plan.timeline {
        if let Action::Partition(groups) = action {
            for group in groups.iter_mut() {
                group.retain(|who| !matches!(who, Who::Host(h) if *h >= hosts));
            }
        }
    }
}

/// The highest guest that an action names.
fn last_guest(action: &Action) -> Option<usize> {
    let of_who = parties(action).into_iter().filter_map(|who| match who {
        Who::HostOf(guest) => Some(*guest),
        _ => None,
    });
    let own = match action {
        Action::GuestCrash(guest)
        | Action::Hides(guest)
        | Action::Guest(guest, _)
        | Action::Ask(_, Ask::Stop(guest) | Ask::Start(guest)) => Some(*guest),
        _ => None,
    };
    of_who.chain(own).max()
}

/// The hosts an action names by number. A partition names none: who is in no group is left alone.
fn hosts(action: &Action) -> Vec<usize> {
    if let Action::Partition(_) = action {
        return Vec::new();
    }
    let number = |who: &Who| match who {
        Who::Host(host) => Some(*host),
        _ => None,
    };
    parties(action).into_iter().filter_map(number).collect()
}

/// Everybody an action is about.
fn parties(action: &Action) -> Vec<&Who> {
    match action {
        Action::Cut { from, to, .. }
        | Action::Mend { from, to }
        | Action::Block { from, to, .. }
        | Action::Hole { from, to, .. }
        | Action::Clones {
            who: from,
            onto: to,
        } => vec![from, to],
        Action::OnlyTo(who, keep) => vec![who, keep],
        Action::Partition(groups) => groups.iter().flatten().collect(),
        Action::Swizzle { hosts, .. } => hosts.iter().collect(),
        Action::Flap { who, peer, .. } => std::iter::once(who).chain(peer).collect(),
        Action::Ask(who, Ask::Fence(other) | Ask::ConfirmOff(other)) => vec![who, other],
        Action::Isolate(who)
        | Action::Deaf(who)
        | Action::Mute(who)
        | Action::Reconnect(who)
        | Action::FenceNetwork { from: who, .. }
        | Action::Clog { who, .. }
        | Action::Shape { first: who, .. }
        | Action::Crash { who, .. }
        | Action::Stop { who, .. }
        | Action::Freeze { who, .. }
        | Action::PowerOff { who, .. }
        | Action::PowerOn(who)
        | Action::Starve { who, .. }
        | Action::Device { who, .. }
        | Action::Silent { who, .. }
        | Action::OtherSilent { who, .. }
        | Action::SlowCreate { who, .. }
        | Action::StuckKill(who)
        | Action::SlowDisk { who, .. }
        | Action::StoreFails(who)
        | Action::StoreMends(who)
        | Action::DiskStalls { who, .. }
        | Action::Rots(who)
        | Action::Store { who, .. }
        | Action::Watchdog { who, .. }
        | Action::Guardian { who, .. }
        | Action::EventsLost { who, .. }
        | Action::StorageGone { who, .. }
        | Action::WritesHeld { who, .. }
        | Action::ScanHangs { who, .. }
        | Action::HypervisorCrash { who, .. }
        | Action::LateWrites { who, .. }
        | Action::Ask(who, _) => vec![who],
        Action::Heal
        | Action::Noise { .. }
        | Action::Delay { .. }
        | Action::Reorder(_)
        | Action::Rate(_)
        | Action::AllPowerOff { .. }
        | Action::GuestCrash(_)
        | Action::Hides(_)
        | Action::Guest(..)
        | Action::Lock(..)
        | Action::Calm => Vec::new(),
    }
}

/// How long an action lasts, if that is one number.
fn length(action: &mut Action) -> Option<&mut u64> {
    match action {
        Action::Stop { length, .. }
        | Action::Freeze { length, .. }
        | Action::Starve { length, .. }
        | Action::Silent { length, .. }
        | Action::OtherSilent { length, .. }
        | Action::SlowCreate {
            longest: length, ..
        }
        | Action::DiskStalls { length, .. }
        | Action::Guardian { length, .. }
        | Action::EventsLost { length, .. }
        | Action::StorageGone { length, .. }
        | Action::WritesHeld { length, .. }
        | Action::ScanHangs { length, .. }
        | Action::HypervisorCrash { length, .. }
        | Action::PowerOff {
            back: Some(length), ..
        }
        | Action::Crash {
            restart: Some(length),
            ..
        }
        | Action::AllPowerOff { back: length }
        | Action::Guest(
            _,
            Ill::Computes(length)
            | Ill::Freezes(length)
            | Ill::Suspended(length)
            | Ill::DiskFull(length)
            | Ill::Copies(length)
            | Ill::BackedUp(length),
        ) => Some(length),
        _ => None,
    }
}

/// Weaker forms of an action, and forms with a rounder or shorter length.
fn weaker(action: &Action) -> Vec<Action> {
    let mut all = match action.clone() {
        Action::Partition(groups) => {
            let small = groups.iter().min_by_key(|g| g.len()).cloned();
            small
                .unwrap_or_default()
                .into_iter()
                .map(Action::Isolate)
                .collect()
        }
        Action::Isolate(who) => vec![Action::Deaf(who.clone()), Action::Mute(who)],
        Action::Shape {
            shape,
            first,
            way,
            fence,
        } => {
            let with = |way, fence| Action::Shape {
                shape,
                first: first.clone(),
                way,
                fence,
            };
            match (way, fence) {
                (_, true) => vec![with(way, false)],
                (Way::Both, false) => vec![with(Way::Down, false), with(Way::Up, false)],
                _ => Vec::new(),
            }
        }
        Action::Noise { loss, duplicate } if loss > 0 && duplicate > 0 => vec![
            Action::Noise { loss, duplicate: 0 },
            Action::Noise { loss: 0, duplicate },
        ],
        Action::Delay {
            jitter,
            long,
            long_max,
        } if long > 0 => vec![
            Action::Delay {
                jitter,
                long: 0,
                long_max: 0,
            },
            Action::Delay {
                jitter: 0,
                long,
                long_max,
            },
        ],
        Action::Flap {
            who,
            peer,
            period,
            times,
        } if times > 1 => {
            vec![Action::Flap {
                who,
                peer,
                period,
                times: times / 2,
            }]
        }
        _ => Vec::new(),
    };
    let mut timed = action.clone();
    if let Some(now) = length(&mut timed).map(|l| *l) {
        let half = (now > SECOND / 5).then_some(now / 2);
        for other in rounder(now).into_iter().chain(half) {
            let mut changed = action.clone();
            if let Some(l) = length(&mut changed) {
                *l = other;
                all.push(changed);
            }
        }
    }
    all
}

/// An earlier and rounder time than this one, if there is one.
fn rounder(at: u64) -> Option<u64> {
    let step = [SECOND, SECOND / 10, 10 * MS]
        .into_iter()
        .find(|s| at >= *s)?;
    Some(at / step * step).filter(|round| *round != at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::draw;

    #[test]
    fn healing_stays_and_the_rest_can_be_left_out() {
        let plan = draw::plan(3);
        let all = faults(&plan);
        assert!(all > 3, "{all}");
        let none = keep(&plan, &[]);
        assert_eq!(faults(&none), 0);
        assert!(none.timeline.iter().any(|(_, a)| *a == Action::Calm));
        let two = keep(&plan, &[0, all - 1]);
        assert_eq!(faults(&two), 2);
        let everything: Vec<usize> = (0..all).collect();
        assert_eq!(keep(&plan, &everything), plan);
    }

    #[test]
    fn every_step_is_a_step_and_they_come_to_an_end() {
        for seed in 1..6 {
            let mut plan = draw::plan(seed);
            let mut steps = 0;
            while let Some(next) = simpler(&plan).into_iter().next() {
                assert!(faults(&next) <= faults(&plan));
                assert_ne!(next, plan);
                plan = next;
                steps += 1;
                assert!(steps < 5000, "seed {seed} goes in a circle: {plan:?}");
            }
        }
    }
    #[test]
    fn faults_are_grafted_only_where_what_they_name_is_there() {
        let mut donor = keep(&draw::plan(3), &[]);
        donor.timeline.push((SECOND, Action::PowerOn(Who::Host(4))));
        donor.timeline.push((SECOND, Action::GuestCrash(1)));
        let world = |hosts, guests| Plan {
            hosts,
            guests,
            ..draw::plan(5)
        };
        let grafted = graft(&world(5, 2), &donor).expect("all of it is there");
        assert_eq!(grafted.timeline, donor.timeline);
        assert_eq!((grafted.seed, grafted.hosts), (5, 5));
        assert_eq!(graft(&world(4, 2), &donor), None);
        assert_eq!(graft(&world(5, 1), &donor), None);
        // Without watchdogs a host that stands still for good is no part of the contract.
        donor.timeline.push((
            SECOND,
            Action::Freeze {
                who: Who::Host(0),
                length: SECOND,
            },
        ));
        let bare = Plan {
            watchdogs: vec![false; 5],
            ..world(5, 2)
        };
        assert_eq!(graft(&bare, &donor), None);
    }
}
