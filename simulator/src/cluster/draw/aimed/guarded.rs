//! Stories of those who end a lost host's guests, and of guests that do not end.

use super::{BEGIN, devices, host};
use crate::cluster::Plan;
use crate::cluster::action::{Action, GuardianMode, Who};
use crate::cluster::draw::guardians::fails;
use crate::world::{MS, Rng, SECOND};

/// A host is without a guardian from the start of a life of its daemon on, and is lost. Nothing but a
/// device or the word of its next life proves that life ended (V4).
pub(super) fn unarmed(rng: &mut Rng, plan: &mut Plan) {
    let who = host(rng, plan);
    let back = rng.range(100 * MS, 600 * MS);
    let crash = Action::Crash {
        who: who.clone(),
        restart: Some(back),
    };
    let gone = Action::Guardian {
        who: who.clone(),
        mode: GuardianMode::Still,
        length: 120 * SECOND,
    };
    let cut = BEGIN + back + rng.range(20 * MS, 3 * SECOND);
    let proved = plan.timing.takeover().as_nanos() as u64;
    let healed = cut + proved + rng.range(SECOND, 6 * SECOND);
    let lost = if rng.chance(500_000) {
        Action::Isolate(who)
    } else {
        Action::Crash { who, restart: None }
    };
    plan.timeline.extend([
        (BEGIN - MS, gone),
        (BEGIN, crash),
        (cut, lost),
        (healed, Action::Calm),
    ]);
    plan.healed = Some(healed);
    plan.end = healed + 45 * SECOND;
}

/// A guardian fails; a lease and more later its host fails in another way. Some voters write slowly
/// or start anew meanwhile, so that what the host says is entered late or by another coordinator.
pub(super) fn guardian(rng: &mut Rng, plan: &mut Plan) {
    let t = &plan.timing;
    let alone = (t.lease + t.pause_margin + t.kill).as_nanos() as u64 * 21 / 20;
    let mut at = BEGIN;
    let mut last = at;
    for _ in 0..rng.range(1, 2) {
        let who = host(rng, plan);
        let length = fails(rng, plan, at, who.clone());
        let slow = rng.chance(400_000);
        for v in 0..plan.voters {
            let who = Who::Host(v);
            if slow {
                let begin = (at + rng.range(0, SECOND)).saturating_sub(SECOND / 2);
                let length = alone + rng.range(0, 4 * SECOND);
                plan.timeline
                    .push((begin, Action::DiskStalls { who, length }));
            } else if rng.chance(250_000) {
                let restart = Some(rng.range(50 * MS, SECOND));
                let crash = Action::Crash { who, restart };
                plan.timeline
                    .push((at + rng.range(SECOND, alone + 4 * SECOND), crash));
            }
        }
        let then = at + alone + rng.range(10 * MS, 3 * SECOND);
        let lost = match rng.range(0, 4) {
            0 => Action::Isolate(who),
            1 => Action::Stop {
                who,
                length: 60 * SECOND,
            },
            2 => Action::Deaf(who),
            _ => Action::Crash { who, restart: None },
        };
        plan.timeline.push((then, lost));
        if slow && rng.chance(700_000) {
            // Whoever heard what it said forgets it.
            for v in 0..plan.voters {
                let restart = Some(rng.range(50 * MS, SECOND));
                let crash = Action::Crash {
                    who: Who::Host(v),
                    restart,
                };
                plan.timeline.push((then + rng.range(MS, SECOND), crash));
            }
        }
        last = last.max(then).max(at + length.min(20 * SECOND));
        at = then + rng.range(SECOND, 10 * SECOND);
    }
    let proved = plan.timing.takeover().as_nanos() as u64;
    let healed = last + proved + rng.range(SECOND, 10 * SECOND);
    plan.timeline.push((healed, Action::Calm));
    plan.healed = Some(healed);
    plan.end = healed + 45 * SECOND;
}

/// Hosts whose guests no signal ends, or that cannot see whether one did, are cut off.
pub(super) fn stuck(rng: &mut Rng, plan: &mut Plan) {
    if rng.chance(300_000) {
        devices(rng, plan);
    }
    let mut at = BEGIN;
    for _ in 0..rng.range(1, 4) {
        let who = host(rng, plan);
        let length = rng.range(6 * SECOND, 30 * SECOND);
        if rng.chance(500_000) {
            let held = Action::WritesHeld {
                who: who.clone(),
                length,
            };
            plan.timeline.push((at, held));
        }
        if rng.chance(300_000) {
            let hangs = Action::ScanHangs {
                who: who.clone(),
                length,
            };
            plan.timeline.push((at, hangs));
        }
        if rng.chance(300_000) {
            plan.timeline.push((at, Action::StuckKill(who.clone())));
        }
        if rng.chance(400_000) {
            let guest = rng.index(plan.guests);
            plan.timeline.push((at, Action::Hides(guest)));
            if rng.chance(500_000) {
                let crash = at + rng.range(0, SECOND);
                plan.timeline.push((
                    crash,
                    Action::PowerOff {
                        who: who.clone(),
                        back: Some(length),
                    },
                ));
            }
        }
        if rng.chance(700_000) {
            let then = at + rng.range(0, 2 * SECOND);
            plan.timeline.push((then, Action::Isolate(who.clone())));
            if rng.chance(300_000) {
                let (who, restart) = (who.clone(), Some(12 * SECOND));
                plan.timeline.push((then, Action::Crash { who, restart }));
            }
            let back = then + rng.range(6 * SECOND, 25 * SECOND);
            plan.timeline.push((back, Action::Reconnect(who)));
        }
        at += rng.range(3 * SECOND, 20 * SECOND);
    }
    let healed = at + rng.range(SECOND, 20 * SECOND);
    plan.timeline.push((healed, Action::Calm));
    plan.healed = Some(healed);
    plan.end = healed + 45 * SECOND;
}
