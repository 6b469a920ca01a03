//! One seed, one plan: the shape of a cluster and forty seconds of trouble.
//!
//! Swarm style: each seed first draws which kinds of faults are on at all and how often they come,
//! so that rare combinations are not drowned by all kinds at once.

pub mod aimed;
mod guardians;
mod ills;
mod twists;

use crate::cluster::Plan;
use crate::cluster::action::{Action, Ask, Class, DeviceMode, Who};
use crate::world::{MS, Rng, SECOND, Stream};
use quorate_membership::entry::Away;
use quorate_membership::member::LOG_LIMIT;
use quorate_membership::{ProofPolicy, Timing};
use std::time::Duration;

/// When trouble begins, when it ends, and when every guest must run.
const BEGIN: u64 = 8 * SECOND;
const HEAL: u64 = 48 * SECOND;
const END: u64 = 93 * SECOND;
/// The times of the default profile are so many times those of the fast one.
const STRETCH: u64 = 8;

/// Kinds of faults, each on or off per seed.
const KINDS: usize = 18;

/// The fast profile with room to spare only where the contract needs it, and extreme clocks: the
/// rules about time break here first.
fn tight() -> Timing {
    Timing {
        slack: Duration::from_millis(50),
        kill: Duration::from_millis(600),
        drain: Duration::from_millis(500),
        watchdog: Duration::from_millis(800),
        watchdog_granularity: Duration::from_millis(200),
        clock_rate_ppm: 20_000,
        ..Timing::fast()
    }
}

/// The plan of `seed`.
#[must_use]
pub fn plan(seed: u64) -> Plan {
    let rng = &mut Rng::new(seed, Stream::Faults);
    let mut voters = if rng.chance(700_000) { 3 } else { 5 };
    // By the seed alone, so that other seeds keep their plans.
    let (wide, slow) = (seed % 8 == 6, seed % 8 == 2);
    if wide {
        voters = [2, 4, 6, 7][(seed / 8) as usize % 4];
    }
    let hosts = rng.range(voters.max(4), 8) as usize;
    let guests = rng.range(2, 6) as usize;
    let mut plan = Plan::new(seed, hosts, voters as usize, guests);
    let mut strict = rng.chance(300_000);
    if slow {
        strict = false;
        plan.timing = Timing::default();
    } else if strict {
        plan.timing = tight();
    }
    let ppb = i64::from(plan.timing.clock_rate_ppm) * 1000;
    let extreme = rng.range(0, 2);
    for host in 0..hosts {
        plan.rates[host] = match extreme {
            0 => 0,
            1 if rng.chance(500_000) => ppb,
            1 => -ppb,
            _ => rng.range(0, 2 * ppb as u64) as i64 - ppb,
        };
        plan.watchdogs[host] = rng.chance(500_000);
    }
    if voters == 3 && rng.chance(150_000) {
        plan.witnesses = 1;
    }
    plan.networks = if rng.chance(200_000) { 2 } else { 1 };
    plan.delay = match rng.range(0, 2) {
        0 => (MS / 20, MS),
        1 => (MS / 10, 3 * MS),
        _ => (MS / 2, 10 * MS),
    };
    devices(rng, &mut plan);
    if !strict && rng.chance(400_000) {
        plan.stall = 3000;
    }
    plan.create_hangs = if rng.chance(500_000) { 120_000 } else { 0 };
    plan.create_fails = if rng.chance(300_000) { 50_000 } else { 0 };
    // By the seed alone, so that other seeds keep their plans.
    plan.images = seed % 4 == 3;
    // A log of few bytes leaves behind who is away for some seconds.
    plan.log_limit = [LOG_LIMIT, 16_000, 4000, 1000][(seed / 4) as usize % 4];
    // Half of the long logs have programs that take messages late.
    if seed % 32 < 2 {
        plan.taken_late = [300 * MS, 5 * SECOND][(seed / 32) as usize % 2];
    }
    trouble(rng, &mut plan);
    ills::add(&mut plan, BEGIN, HEAL);
    twists::add(&mut plan, BEGIN, HEAL);
    guardians::add(&mut plan, BEGIN, HEAL);
    plan.multicast = Rng::new(seed, Stream::Carrier).chance(250_000);
    // What follows the end of trouble by its own delay would not be healed by anything.
    let harmless = |a: &Action| matches!(a, Action::Ask(..));
    plan.timeline
        .retain(|(at, action)| *at < HEAL || harmless(action));
    plan.timeline.push((HEAL, Action::Calm));
    if rng.chance(300_000) && voters > 2 {
        lasting(rng, &mut plan);
    }
    plan.timeline.sort_by_key(|(at, _)| *at);
    plan.healed = Some(HEAL);
    plan.end = END;
    if slow {
        stretch(&mut plan);
    }
    plan
}

/// Moves all steps apart, as the times of the default profile are: what lasts stays as short as it was.
fn stretch(plan: &mut Plan) {
    for (at, _) in &mut plan.timeline {
        *at *= STRETCH;
    }
    plan.healed = plan.healed.map(|at| at * STRETCH);
    plan.end *= STRETCH;
}

fn devices(rng: &mut Rng, plan: &mut Plan) {
    match rng.range(0, 3) {
        0 => plan.devices.fill(None),
        1 => {}
        2 => {
            // Devices that lie are only survived where their word alone proves nothing.
            plan.proof = ProofPolicy::DeviceAndLease;
            for d in &mut plan.devices {
                if rng.chance(400_000) {
                    *d = Some(DeviceMode::Lies);
                }
            }
        }
        _ => {
            let modes = [
                DeviceMode::Works,
                DeviceMode::Fails,
                DeviceMode::Late,
                DeviceMode::Gone,
            ];
            for d in &mut plan.devices {
                *d = Some(modes[rng.index(modes.len())]);
            }
        }
    }
}

fn trouble(rng: &mut Rng, plan: &mut Plan) {
    let mut on = [false; KINDS];
    for kind in &mut on {
        *kind = rng.chance(600_000);
    }
    let kinds: Vec<usize> = (0..KINDS).filter(|k| on[*k]).collect();
    if kinds.is_empty() {
        return;
    }
    let longest = [800 * MS, 2500 * MS, 6000 * MS][rng.index(3)];
    let mut at = BEGIN;
    loop {
        at += rng.range(100 * MS, longest);
        if at >= HEAL {
            return;
        }
        let kind = kinds[rng.index(kinds.len())];
        one(rng, plan, kind, at);
        // Roughly every third step mends something, or nothing would ever work.
        if rng.chance(330_000) {
            let mend = match rng.range(0, 2) {
                0 => Action::Reconnect(some(rng, plan)),
                _ => Action::Heal,
            };
            plan.timeline.push((at + rng.range(0, 3 * SECOND), mend));
        }
    }
}

fn some(rng: &mut Rng, plan: &Plan) -> Who {
    if rng.chance(150_000) {
        return Who::Coordinator;
    }
    Who::Host(rng.index(plan.hosts))
}

fn one(rng: &mut Rng, plan: &mut Plan, kind: usize, at: u64) {
    let (who, other) = (some(rng, plan), some(rng, plan));
    let mut push = |delay: u64, action| plan.timeline.push((at + delay, action));
    let short = |rng: &mut Rng| rng.range(50 * MS, SECOND);
    let long = |rng: &mut Rng| rng.range(SECOND, 9 * SECOND);
    let either = |rng: &mut Rng| {
        if rng.chance(600_000) {
            short(rng)
        } else {
            long(rng)
        }
    };
    match kind {
        0 => push(
            0,
            Action::Cut {
                from: who,
                to: other,
                net: None,
            },
        ),
        1 => push(0, Action::Isolate(who)),
        2 => push(0, Action::Deaf(who)),
        3 => push(0, Action::Mute(who)),
        4 => {
            let mut groups = vec![Vec::new(), Vec::new()];
            for host in 0..plan.hosts {
                groups[rng.index(2)].push(Who::Host(host));
            }
            plan.timeline.push((at, Action::Partition(groups)));
        }
        5 | 6 => {
            let restart = Some(either(rng));
            push(0, Action::Crash { who, restart });
        }
        7 => {
            let back = Some(rng.range(200 * MS, 8 * SECOND));
            push(0, Action::PowerOff { who, back });
        }
        8 | 9 => {
            let length = rng.range(50 * MS, 9 * SECOND);
            push(0, Action::Stop { who, length });
        }
        10 => {
            // Only a hardware watchdog covers a frozen host (S1).
            let covered: Vec<usize> = (0..plan.hosts).filter(|h| plan.watchdogs[*h]).collect();
            if covered.is_empty() {
                return;
            }
            let who = Who::Host(covered[rng.index(covered.len())]);
            let length = rng.range(50 * MS, 9 * SECOND);
            plan.timeline.push((at, Action::Freeze { who, length }));
        }
        11 => {
            let (loss, duplicate) = if rng.chance(500_000) {
                (20_000, 20_000)
            } else {
                (400_000, 300_000)
            };
            push(0, Action::Noise { loss, duplicate });
        }
        12 => {
            let jitter = rng.range(MS, 80 * MS);
            let delay = Action::Delay {
                jitter,
                long: 10_000,
                long_max: 6 * SECOND,
            };
            push(0, delay);
        }
        13 => push(0, Action::GuestCrash(rng.index(plan.guests))),
        14 => {
            // Cut off, then a crash and a quick restart: the lease goes on, the memory does not.
            let restart = Some(rng.range(20 * MS, 300 * MS));
            let delay = rng.range(0, 4 * SECOND);
            let first = rng.chance(500_000);
            let host = Who::Host(rng.index(plan.hosts));
            let crash = Action::Crash {
                who: host.clone(),
                restart,
            };
            let cut = Action::Isolate(host);
            let (a, b) = if first { (crash, cut) } else { (cut, crash) };
            plan.timeline.push((at, a));
            plan.timeline.push((at + delay, b));
        }
        15 => {
            // Voters stop, and a host is cut off meanwhile.
            let length = rng.range(SECOND, 6 * SECOND);
            for _ in 0..2 {
                let who = Who::Host(rng.index(plan.voters));
                let length = length + rng.range(0, 300 * MS);
                plan.timeline.push((at, Action::Stop { who, length }));
            }
            let cut = rng.range(0, length);
            let who = Who::Host(rng.index(plan.hosts));
            plan.timeline.push((at + cut, Action::Isolate(who)));
        }
        16 => match rng.range(0, 5) {
            0 => push(
                0,
                Action::Silent {
                    who,
                    length: rng.range(SECOND, 6 * SECOND),
                },
            ),
            1 => push(
                0,
                Action::SlowDisk {
                    who,
                    delay: (MS, rng.range(10 * MS, 800 * MS)),
                },
            ),
            2 => push(0, Action::StoreFails(who)),
            3 => {
                let from = who;
                push(
                    0,
                    Action::FenceNetwork {
                        from: from.clone(),
                        cut: true,
                    },
                );
                push(long(rng), Action::FenceNetwork { from, cut: false });
            }
            4 => match rng.range(0, 3) {
                0 => push(0, Action::StuckKill(who)),
                1 => {
                    let length = long(rng);
                    push(0, Action::WritesHeld { who, length });
                }
                _ => {
                    let length = long(rng);
                    push(0, Action::ScanHangs { who, length });
                }
            },
            _ => {
                let classes = [
                    Class::Beat,
                    Class::Ack,
                    Class::Observation,
                    Class::Election,
                    Class::Session,
                ];
                let class = classes[rng.index(classes.len())];
                push(
                    0,
                    Action::Block {
                        from: who,
                        to: other,
                        class,
                    },
                );
            }
        },
        _ => {
            let guest = rng.index(plan.guests);
            let ask = match rng.range(0, 8) {
                0 => Ask::Fence(other),
                1 | 2 => {
                    let start = Action::Ask(Who::Host(rng.index(plan.hosts)), Ask::Start(guest));
                    plan.timeline.push((HEAL + 2 * SECOND, start));
                    Ask::Stop(guest)
                }
                3 => Ask::Leave(Away::Stop),
                4 => Ask::Leave(Away::Shutdown),
                5 => Ask::Leave(Away::Reboot),
                _ => Ask::Start(guest),
            };
            plan.timeline.push((at, Action::Ask(who, ask)));
        }
    }
}

/// A fault that stays: a deaf host, a host linked to one voter, a host that lost a minority of them.
fn lasting(rng: &mut Rng, plan: &mut Plan) {
    let host = rng.index(plan.hosts);
    let at = HEAL + 1;
    let voter = (0..plan.voters).find(|v| *v != host).unwrap_or(0);
    match rng.range(0, 2) {
        0 => plan.timeline.push((at, Action::Deaf(Who::Host(host)))),
        1 => {
            let only = Action::OnlyTo(Who::Host(host), Who::Host(voter));
            plan.timeline.push((at, only));
        }
        _ => {
            let lost = (0..plan.voters)
                .filter(|v| *v != host)
                .take(plan.voters / 2);
            for v in lost.collect::<Vec<_>>() {
                for (from, to) in [(host, v), (v, host)] {
                    let (from, to) = (Who::Host(from), Who::Host(to));
                    let cut = Action::Cut {
                        from,
                        to,
                        net: None,
                    };
                    plan.timeline.push((at, cut));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_pinned_to_their_seed_and_satisfy_the_contract() {
        tight().check().expect("the tight profile is a safe one");
        let mut shapes = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let p = plan(seed);
            assert_eq!(format!("{p:?}"), format!("{:?}", plan(seed)));
            p.timing.check().expect("safe timing");
            assert!(p.timeline.windows(2).all(|w| w[0].0 <= w[1].0));
            assert!(p.hosts >= p.voters && p.hosts <= 8);
            shapes.insert((p.voters, p.hosts));
        }
        assert!(shapes.len() > 6, "{shapes:?}");
    }

    #[test]
    fn nothing_drawn_takes_an_assumption_of_the_contract_away() {
        let mut triggers = 0;
        for seed in 0..300 {
            let p = plan(seed);
            let bad = |a: &Action| {
                let modes = matches!(a, Action::Device { .. } | Action::Watchdog { .. });
                modes || matches!(a, Action::LateWrites { .. } | Action::Rots(_))
            };
            assert!(!p.timeline.iter().any(|(_, a)| bad(a)), "seed {seed}");
            triggers += p.triggers.len();
            for t in &p.triggers {
                assert!(
                    t.before + t.delay < HEAL && !bad(&t.action),
                    "seed {seed}: {t:?}"
                );
                assert!(t.after <= t.before, "seed {seed}: {t:?}");
            }
        }
        assert!(triggers > 100, "{triggers}");
    }

    #[test]
    fn no_device_lies_where_its_word_alone_is_proof() {
        for seed in 0..300 {
            let p = plan(seed);
            let lies = p.devices.contains(&Some(DeviceMode::Lies));
            assert!(!lies || p.proof == ProofPolicy::DeviceAndLease);
        }
    }
}
