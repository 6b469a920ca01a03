//! Hosts with up to 500 guests each, on networks that drop what is large.

use super::{BEGIN, END, clocks, every, host, voter};
use crate::cluster::Plan;
use crate::cluster::action::{Action, Ask, Who};
use crate::world::{MS, Rng, SECOND};

/// Guests of each host, with how many of ten plans have so many.
const GUESTS: [(u64, usize); 4] = [(4, 50), (3, 150), (2, 300), (1, 500)];
/// Largest messages that pass some links: an IPv6 link's least, and what an IPv4 router must pass.
const LARGEST: [u32; 3] = [1184, 1400, 4000];

/// Plan in which everything is oversize while hosts are lost, cut off or start anew; liveness counts.
pub(super) fn sizes(rng: &mut Rng, seed: u64) -> Plan {
    let mut left = rng.range(1, 10);
    let per_host = GUESTS.iter().find(|(share, _)| {
        let here = left <= *share;
        left = left.saturating_sub(*share);
        here
    });
    let hosts = rng.range(3, 5) as usize;
    let guests = hosts * per_host.map_or(50, |(_, guests)| *guests);
    let mut plan = Plan::new(seed, hosts, 3, guests);
    plan.end = END;
    plan.delay = (MS / 20, 2 * MS);
    if rng.chance(600_000) {
        plan.devices.fill(None);
    }
    // A log that is short beside the state leaves behind who is away for some seconds.
    plan.log_limit = [2000, 20_000, 200_000][rng.index(3)];
    plan.images = rng.chance(300_000);
    clocks(rng, &mut plan);
    if rng.chance(700_000) {
        dropped(rng, &mut plan);
    }
    every(rng, &mut plan, 10 * SECOND, trouble);
    plan.timeline.push((END, Action::Calm));
    plan.healed = Some(END);
    plan.end = END + 60 * SECOND;
    plan
}

/// Large messages vanish: between all hosts, as where cards have jumbo frames and the switch has not,
/// or on the way to and from one.
fn dropped(rng: &mut Rng, plan: &mut Plan) {
    let at = rng.range(SECOND, 2 * BEGIN);
    let largest = LARGEST[rng.index(LARGEST.len())];
    let one = rng.chance(500_000).then(|| rng.index(plan.hosts));
    for from in 0..plan.hosts {
        for to in 0..plan.hosts {
            if from != to && one.is_none_or(|one| one == from || one == to) {
                let (from, to) = (Who::Host(from), Who::Host(to));
                plan.timeline.push((at, Action::Hole { from, to, largest }));
            }
        }
    }
}

fn trouble(rng: &mut Rng, plan: &mut Plan, at: u64) {
    let who = if rng.chance(500_000) {
        voter(rng, plan)
    } else {
        host(rng, plan)
    };
    let length = rng.range(SECOND, 15 * SECOND);
    let action = match rng.range(0, 8) {
        0 | 1 => Action::PowerOff {
            who,
            back: Some(length),
        },
        2 => Action::Crash {
            who,
            restart: Some(rng.range(50 * MS, 6 * SECOND)),
        },
        3 => {
            let back = Action::Reconnect(who.clone());
            plan.timeline.push((at + length, back));
            Action::Isolate(who)
        }
        4 => Action::Stop { who, length },
        5 => Action::Silent { who, length },
        6 => Action::StorageGone { who, length },
        7 => Action::AllPowerOff {
            back: rng.range(SECOND, 4 * SECOND),
        },
        _ => {
            let publish = Action::Ask(host(rng, plan), Ask::PublishMany(1500));
            plan.timeline.push((at, publish));
            let delay = (MS, rng.range(20 * MS, 400 * MS));
            Action::SlowDisk { who, delay }
        }
    };
    plan.timeline.push((at, action));
}
