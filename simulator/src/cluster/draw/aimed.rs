//! Mixes aimed at one corner each, where the blind swarm comes by too seldom.
//!
//! They are drawn from a stream of their own, so the swarm's plans stay what they were. Most judge
//! safety only and end early: twice as many seeds in the same time.

mod again;
mod guarded;
mod kept;
mod sizes;
mod stories;

use super::{devices, tight};
use crate::cluster::Plan;
use crate::cluster::action::{Action, DeviceMode, Who};
use crate::world::{MS, Rng, SECOND, Stream};
use guarded::{guardian, stuck, unarmed};
use kept::{clone, images, locks, set_back, states, storage, stores};
use quorate_membership::Timing;
use std::time::Duration;
use stories::{
    asks, bad_hosts, behind, comes_back, creations, deaf, fence, forgets, leave, logs, office,
    voters_fail,
};

/// Name and aim of every mix.
pub const MIXES: &[(&str, &str)] = &[
    (
        "tight",
        "the least waits, extreme clocks, short ways: the terms of S3 one by one",
    ),
    (
        "restart",
        "daemons that are back within their lease and cut off right after: rules C1, C2, age",
    ),
    (
        "voters",
        "voters stop, restart and write slowly around a verdict: rules C3, C4, C6",
    ),
    (
        "office",
        "coordinators half cut off, stopped, told to leave: terms and their renewals",
    ),
    (
        "fence",
        "slow and hasty devices, coordinators lost in the middle of a fence, early returns",
    ),
    (
        "logs",
        "decisions that take long, while guests die and hosts go: old copies, old readings",
    ),
    (
        "creations",
        "creations that hang past the lease, hypervisors that are silent",
    ),
    (
        "return",
        "hosts that are heard again just when their lease is proved over",
    ),
    (
        "forgets",
        "a voter that answers a revoke, restarts and hears the host again while others do not",
    ),
    (
        "unarmed",
        "a daemon that can promise nothing takes over guests and is lost; judges that they run at last",
    ),
    (
        "guardian",
        "guardians that fail, and later the daemons or the links of their hosts",
    ),
    (
        "leave",
        "a coordinator is cut off, and the next one leaves at once",
    ),
    (
        "deaf",
        "a host that hears nobody when a guest is given to it; judges that it runs at last",
    ),
    (
        "stores",
        "stores that fail and daemons that restart, halves apart: what a voter must not forget",
    ),
    (
        "levels",
        "two fence levels, of which the first often fails: one attempt after another",
    ),
    (
        "hosts",
        "hosts whose hypervisor hangs, whose creations fail or that flap, for long, while others are lost",
    ),
    (
        "storage",
        "hosts that lose the shared storage, and then more; judges that guests run at last",
    ),
    (
        "images",
        "snapshots, merges and copies past the cluster while guests run, hosts lost around them",
    ),
    (
        "stuck",
        "writes that the storage holds, looks that hang, guests that hide, and cables cut with them",
    ),
    (
        "setbacks",
        "stores set back to a copy within a boot and over one, machines reverted with their memory",
    ),
    (
        "clones",
        "machines started with a copy of another's disk, the original beside them, cut off or without power",
    ),
    (
        "asks",
        "clients that ask, one by one or hundreds at once, while voters stop, restart or are cut off",
    ),
    (
        "locks",
        "others write the locks of images, or nobody can; operators hold and release; judges that guests run at last",
    ),
    (
        "states",
        "voters whose state is altered, one or too many, while coordinators and hosts are lost",
    ),
    (
        "behind",
        "voters that are away while the log they lack is cut, and what they find when they are back",
    ),
    (
        "sizes",
        "up to 500 guests a host, on networks that drop what is large, with logs that are short; slow",
    ),
    (
        "again",
        "trouble that is over, a rest, and one host more that is lost; judges that guests run at last",
    ),
];

/// When trouble begins, and when a run that judges safety only ends.
const BEGIN: u64 = 8 * SECOND;
const END: u64 = 48 * SECOND;

/// The plan of `seed` in `mix`, if there is such a mix.
#[must_use]
pub fn aimed(mix: &str, seed: u64) -> Option<Plan> {
    let number = MIXES.iter().position(|(name, _)| *name == mix)?;
    // Each mix draws its own way from a seed.
    let mut rng = Rng::new(seed ^ (number as u64) << 56, Stream::Aimed);
    let rng = &mut rng;
    let voters = if rng.chance(800_000) { 3 } else { 5 };
    let hosts = rng.range(voters + 1, 6) as usize;
    let mut plan = Plan::new(seed, hosts, voters as usize, rng.range(2, 5) as usize);
    plan.end = END;
    plan.delay = (MS / 20, 2 * MS);
    plan.devices.fill(None);
    if rng.chance(500_000) {
        plan.timing = tight();
    }
    clocks(rng, &mut plan);
    match mix {
        "tight" => {
            plan.timing = tight();
            clocks(rng, &mut plan);
            every(rng, &mut plan, 9 * SECOND, cut_off);
        }
        "restart" => every(rng, &mut plan, 6 * SECOND, restart),
        "voters" => every(rng, &mut plan, 12 * SECOND, voters_fail),
        "office" => every(rng, &mut plan, 5 * SECOND, office),
        "fence" => {
            let modes = [
                DeviceMode::Works,
                DeviceMode::Late,
                DeviceMode::Hasty,
                DeviceMode::Hasty,
            ];
            for device in &mut plan.devices {
                *device = Some(modes[rng.index(modes.len())]);
            }
            every(rng, &mut plan, 12 * SECOND, fence);
        }
        "logs" => {
            if rng.chance(500_000) {
                devices(rng, &mut plan);
            }
            // So that a coordinator stays one while its decisions take long.
            if rng.chance(500_000) {
                plan.timing.coordinator_lease = Duration::from_secs(3);
            }
            every(rng, &mut plan, 3 * SECOND, logs);
        }
        "creations" => {
            plan.create_hangs = 500_000;
            every(rng, &mut plan, 5 * SECOND, creations);
        }
        "return" => {
            plan.end += 20 * SECOND;
            every(rng, &mut plan, 20 * SECOND, comes_back);
        }
        "forgets" => {
            plan = Plan::new(seed, 4, 3, 2);
            plan.devices.fill(None);
            plan.end = END;
            every(rng, &mut plan, 16 * SECOND, forgets);
        }
        "leave" => {
            plan = Plan::new(seed, 5, 5, 2);
            plan.devices.fill(None);
            plan.end = END;
            // Elections shorter than what is left of the coordinator's lease.
            plan.timing.round_trip = Duration::from_millis(20);
            plan.timing.election = Duration::from_millis(100);
            plan.timing.coordinator_lease = Duration::from_millis(1500);
            every(rng, &mut plan, 9 * SECOND, leave);
        }
        "levels" => {
            let first = [
                DeviceMode::Gone,
                DeviceMode::Shares,
                DeviceMode::Fails,
                DeviceMode::Late,
                DeviceMode::Works,
                DeviceMode::Empty,
                DeviceMode::Busy,
            ];
            let second = [
                DeviceMode::Works,
                DeviceMode::Late,
                DeviceMode::Hasty,
                DeviceMode::Pair,
                DeviceMode::Returns,
            ];
            for host in 0..plan.hosts {
                plan.devices[host] = Some(first[rng.index(first.len())]);
                plan.outlets[host] = Some(second[rng.index(second.len())]);
            }
            every(rng, &mut plan, 14 * SECOND, fence);
        }
        "storage" => storage(rng, &mut plan),
        "images" => images(rng, &mut plan),
        "stuck" => stuck(rng, &mut plan),
        "hosts" => bad_hosts(rng, &mut plan),
        "asks" => {
            plan.timing = Timing::fast();
            every(rng, &mut plan, 7 * SECOND, asks);
        }
        "locks" => locks(rng, &mut plan),
        "deaf" => deaf(rng, &mut plan),
        "unarmed" => unarmed(rng, &mut plan),
        "clones" => {
            plan = Plan::new(seed, 7, 3, 4);
            plan.devices.fill(None);
            plan.waits = true;
            plan.end = END + 20 * SECOND;
            for host in 0..plan.hosts {
                plan.bare[host] = rng.chance(500_000);
            }
            let at = BEGIN + rng.range(0, 8 * SECOND);
            clone(rng, &mut plan, at);
        }
        "setbacks" => {
            // After a boot nobody may be there who knows better: then it must wait to be safe.
            plan.waits = true;
            if rng.chance(500_000) {
                // A voter set back twice may bear the number of an earlier life: refused for good.
                every(rng, &mut plan, 12 * SECOND, set_back);
            } else {
                let at = BEGIN + rng.range(0, 10 * SECOND);
                set_back(rng, &mut plan, at);
                plan.timeline.push((30 * SECOND, Action::Calm));
                plan.healed = Some(30 * SECOND);
                plan.end = 70 * SECOND;
            }
        }
        "guardian" => guardian(rng, &mut plan),
        "sizes" => plan = sizes::sizes(rng, seed),
        "states" => states(rng, &mut plan),
        "again" => again::again(rng, &mut plan),
        "behind" => {
            plan.log_limit = [600, 2000, 6000][rng.index(3)];
            every(rng, &mut plan, 9 * SECOND, behind);
            plan.timeline.push((END, Action::Calm));
            plan.healed = Some(END);
            plan.end = END + 40 * SECOND;
        }
        _ => every(rng, &mut plan, 5 * SECOND, stores),
    }
    plan.timeline.sort_by_key(|(at, _)| *at);
    plan.timeline.retain(|(at, _)| *at < plan.end);
    Some(plan)
}

/// Every clock at one end of what is allowed, the hosts' against the voters' in half the plans.
fn clocks(rng: &mut Rng, plan: &mut Plan) {
    let ppb = i64::from(plan.timing.clock_rate_ppm) * 1000;
    let against = rng.chance(500_000);
    for host in 0..plan.hosts {
        plan.rates[host] = match (against, host < plan.voters) {
            (true, true) => ppb,
            (true, false) => -ppb,
            _ if rng.chance(500_000) => ppb,
            _ => -ppb,
        };
        plan.watchdogs[host] = rng.chance(500_000);
    }
}

/// One thing about every `period`, until the run ends.
fn every(rng: &mut Rng, plan: &mut Plan, period: u64, one: fn(&mut Rng, &mut Plan, u64)) {
    let mut at = BEGIN + rng.range(0, SECOND);
    while at + 2 * SECOND < plan.end {
        one(rng, plan, at);
        at += rng.range(period / 2, period * 3 / 2);
    }
}

fn host(rng: &mut Rng, plan: &Plan) -> Who {
    Who::Host(rng.index(plan.hosts))
}

fn voter(rng: &mut Rng, plan: &Plan) -> Who {
    Who::Host(rng.index(plan.voters))
}

/// A host loses its links, or all but those to one voter, and has them back later.
fn cut_off(rng: &mut Rng, plan: &mut Plan, at: u64) {
    let who = host(rng, plan);
    let cut = match rng.range(0, 3) {
        0 => Action::Deaf(who.clone()),
        1 => Action::OnlyTo(who.clone(), voter(rng, plan)),
        _ => Action::Isolate(who.clone()),
    };
    plan.timeline.push((at, cut));
    if let Who::Host(h) = who
        && plan.watchdogs[h]
        && rng.chance(400_000)
    {
        // Nobody but the watchdog ends its guests: the kill sticks, the daemon is away.
        plan.timeline.push((at, Action::StuckKill(who.clone())));
        let restart = Some(12 * SECOND);
        let who = who.clone();
        plan.timeline.push((at, Action::Crash { who, restart }));
    }
    let length = rng.range(6 * SECOND, 14 * SECOND);
    plan.timeline.push((at + length, Action::Reconnect(who)));
}

/// A daemon is back at once, and is cut off before or after.
fn restart(rng: &mut Rng, plan: &mut Plan, at: u64) {
    let who = host(rng, plan);
    if rng.chance(400_000) {
        return between(rng, plan, at, who);
    }
    let back = rng.range(10 * MS, 600 * MS);
    let crash = Action::Crash {
        who: who.clone(),
        restart: Some(back),
    };
    plan.timeline.push((at, crash.clone()));
    if rng.chance(300_000) {
        // Long ways: what an earlier life said comes late.
        let delay = Action::Delay {
            jitter: 5 * MS,
            long: 50_000,
            long_max: 3 * SECOND,
        };
        plan.timeline.push((BEGIN, delay));
    }
    // Often in the moment between its admission and what follows from that.
    let cut = if rng.chance(500_000) {
        at + back + rng.range(0, 150 * MS)
    } else {
        at + rng.range(0, 1500 * MS)
    };
    let (first, second) = if rng.chance(600_000) {
        (Action::Isolate(who.clone()), Action::Reconnect(who))
    } else {
        // The acknowledgements that it lives by come from some voters only.
        let from = voter(rng, plan);
        let mend = Action::Heal;
        (
            Action::Cut {
                from,
                to: who,
                net: None,
            },
            mend,
        )
    };
    plan.timeline.push((cut, first));
    if rng.chance(300_000) {
        plan.timeline.push((cut + rng.range(MS, SECOND), crash));
    }
    let length = rng.range(2 * SECOND, 18 * SECOND);
    plan.timeline.push((cut + length, second));
}

/// A host is cut off until just after the verdict; its daemon is a new life by then, under the lease
/// of the last one (C1).
fn between(rng: &mut Rng, plan: &mut Plan, at: u64, who: Who) {
    let silence = plan.timing.silence().as_nanos() as u64;
    let crash = Action::Crash {
        who: who.clone(),
        restart: Some(rng.range(20 * MS, 200 * MS)),
    };
    let ends = at + silence - rng.range(200 * MS, SECOND);
    let back = at + silence + rng.range(0, 500 * MS);
    plan.timeline.extend([
        (at, Action::Isolate(who.clone())),
        (ends, crash),
        (back, Action::Reconnect(who)),
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mix_draws_safe_plans_that_stay_what_they_are() {
        assert!(aimed("nothing", 1).is_none());
        for (mix, _) in MIXES {
            for seed in 0..40 {
                let p = aimed(mix, seed).expect("a mix");
                let again = aimed(mix, seed).expect("a mix");
                assert_eq!(format!("{p:?}"), format!("{again:?}"));
                p.timing.check().expect("safe timing");
                assert!(!p.timeline.is_empty(), "{mix} {seed} does nothing");
                assert!(p.timeline.windows(2).all(|w| w[0].0 <= w[1].0));
            }
        }
    }
}
