//! Shapes, links that are neither whole nor cut, stores and hypervisors that come back, and steps
//! that wait for something; drawn apart from all other trouble, whose plans stay what they were.

use crate::cluster::Plan;
use crate::cluster::action::{Action, DeviceMode, Shape, Way, Who};
use crate::cluster::triggers::{Trigger, When};
use crate::world::{MS, Rng, SECOND, Stream};

/// Kinds of twists, each on or off per seed.
const KINDS: usize = 12;

/// Adds twists between `begin` and `end`.
pub(super) fn add(plan: &mut Plan, begin: u64, end: u64) {
    let rng = &mut Rng::new(plan.seed, Stream::Twists);
    if rng.chance(350_000) {
        return;
    }
    let kinds: Vec<usize> = (0..KINDS).filter(|_| rng.chance(400_000)).collect();
    if kinds.is_empty() {
        return;
    }
    if rng.chance(300_000) {
        devices(rng, plan);
    }
    let longest = [2 * SECOND, 5 * SECOND, 12 * SECOND][rng.index(3)];
    let mut at = begin;
    loop {
        at += rng.range(200 * MS, longest);
        if at >= end {
            return;
        }
        match kinds[rng.index(kinds.len())] {
            kind @ (10 | 11) => {
                let trigger = trigger(rng, plan, kind == 10, at, end);
                plan.triggers.push(trigger);
            }
            kind => one(rng, plan, kind, at),
        }
    }
}

/// Devices with habits, in place of those that work.
fn devices(rng: &mut Rng, plan: &mut Plan) {
    let habits = [DeviceMode::Shares, DeviceMode::Picky, DeviceMode::Soft];
    for device in &mut plan.devices {
        if *device == Some(DeviceMode::Works) && rng.chance(500_000) {
            *device = Some(habits[rng.index(habits.len())]);
        }
    }
}

fn host(rng: &mut Rng, plan: &Plan) -> Who {
    match rng.range(0, 9) {
        0 => Who::Coordinator,
        1 => Who::HostOf(rng.index(plan.guests)),
        _ => Who::Host(rng.index(plan.hosts)),
    }
}

fn one(rng: &mut Rng, plan: &mut Plan, kind: usize, at: u64) {
    let (who, other) = (host(rng, plan), host(rng, plan));
    let length = rng.range(100 * MS, 8 * SECOND);
    let mut push = |delay: u64, action| plan.timeline.push((at + delay, action));
    match kind {
        0 | 1 => {
            let shape = shape(rng, plan.hosts);
            let way = [Way::Both, Way::Both, Way::Down, Way::Up][rng.index(4)];
            let fence = rng.chance(200_000);
            let first = who;
            push(
                0,
                Action::Shape {
                    shape,
                    first,
                    way,
                    fence,
                },
            );
            push(length, Action::Heal);
        }
        2 => {
            // Near the election timeout: half of it to twice as long.
            let election = plan.timing.election.as_nanos() as u64;
            let period = rng.range(election / 2, 2 * election);
            let peer = rng.chance(500_000).then_some(other);
            let times = (length / period).max(1) as u32;
            push(
                0,
                Action::Flap {
                    who,
                    peer,
                    period,
                    times,
                },
            );
        }
        3 => {
            let some = (0..plan.hosts).filter(|_| rng.chance(600_000));
            let hosts: Vec<Who> = some.map(Who::Host).collect();
            let every = rng.range(50 * MS, SECOND);
            let order = rng.range(0, 1 << 20);
            push(
                0,
                Action::Swizzle {
                    hosts,
                    every,
                    order,
                },
            );
        }
        4 => {
            let on = true;
            push(
                0,
                Action::Clog {
                    who: who.clone(),
                    on,
                },
            );
            push(length, Action::Clog { who, on: false });
        }
        5 => {
            // Beats of a small cluster pass, batches of the log do not; or hardly anything does.
            let largest = [150, 300, 600][rng.index(3)];
            push(
                0,
                Action::Hole {
                    from: who,
                    to: other,
                    largest,
                },
            );
        }
        6 if rng.chance(500_000) => push(0, Action::Reorder(rng.range(1000, 300_000) as u32)),
        6 => {
            push(0, Action::Rate(rng.range(200, 2000) as u32));
            push(length, Action::Rate(0));
        }
        7 if rng.chance(600_000) => push(0, Action::DiskStalls { who, length }),
        7 => {
            push(0, Action::StoreFails(who.clone()));
            push(length, Action::StoreMends(who));
        }
        8 => push(0, Action::HypervisorCrash { who, length }),
        _ => push(0, Action::EventsLost { who, length }),
    }
}

fn shape(rng: &mut Rng, hosts: usize) -> Shape {
    match rng.range(0, 6) {
        0 => Shape::Halves(0),
        1 => Shape::Halves(rng.range(1, hosts as u64 - 1) as usize),
        2 => Shape::Bridge,
        3 => Shape::Ring,
        4 => Shape::Chain,
        5 => Shape::Star,
        _ => Shape::Random {
            pass: rng.range(300_000, 900_000) as u32,
            graph: rng.range(0, 1 << 30),
        },
    }
}

/// A step that hits the cluster in the middle of something.
fn trigger(rng: &mut Rng, plan: &Plan, near: bool, after: u64, end: u64) -> Trigger {
    let whens = [
        When::CoordinatorChanges,
        When::TermBegins,
        When::Verdict,
        When::Proof,
        When::Placed,
        When::FenceAttempt,
        When::FenceCuts,
        When::PowerLost,
        When::DaemonStarts,
        When::GuestStarts,
        When::GuestStops,
        When::LeaseExpires,
    ];
    let delay = match rng.range(0, 2) {
        0 => 0,
        1 => rng.range(0, 100 * MS),
        _ => rng.range(0, 3 * SECOND),
    };
    let who = match rng.range(0, 4) {
        0 => Who::Coordinator,
        1 => host(rng, plan),
        _ => Who::That,
    };
    let length = rng.range(100 * MS, 6 * SECOND);
    let action = match rng.range(0, 7) {
        0 | 1 => Action::Crash {
            who,
            restart: Some(length / 4),
        },
        2 => Action::Isolate(who),
        3 => Action::Reconnect(who),
        4 => Action::Stop { who, length },
        5 => Action::PowerOff {
            who,
            back: Some(length),
        },
        6 => Action::Deaf(who),
        _ => Action::Heal,
    };
    Trigger {
        when: whens[rng.index(whens.len())],
        host: None,
        guest: None,
        after,
        // What it does is over before everything is made whole.
        before: end.saturating_sub(delay + 1).max(after),
        nth: rng.range(1, 3) as u32,
        times: if near { 1 } else { rng.range(1, 3) as u32 },
        delay: delay.min(end.saturating_sub(after + 2)),
        action,
    }
}
