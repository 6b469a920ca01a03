//! What happens in each mix, one story at a time.

use super::{BEGIN, devices, host, voter};
use crate::cluster::Plan;
use crate::cluster::action::{Action, Ask, Class, Who};
use crate::cluster::triggers::{Trigger, When};
use crate::world::{MS, Rng, SECOND};
use quorate_membership::entry::Away;

/// A host is cut off from some voters and then all, while voters stop, restart or write slowly.
pub(super) fn voters_fail(rng: &mut Rng, plan: &mut Plan, at: u64) {
    let who = host(rng, plan);
    let lost = voter(rng, plan);
    for (from, to) in [(lost.clone(), who.clone()), (who.clone(), lost)] {
        plan.timeline.push((
            at,
            Action::Cut {
                from,
                to,
                net: None,
            },
        ));
    }
    let gone = at + rng.range(0, 6 * SECOND);
    plan.timeline.push((gone, Action::Isolate(who.clone())));
    for _ in 0..rng.range(1, 4) {
        let when = at + rng.range(0, gone - at + 5 * SECOND);
        let who = voter(rng, plan);
        let action = match rng.range(0, 3) {
            0 => Action::SlowDisk {
                who,
                delay: (MS, rng.range(50 * MS, 800 * MS)),
            },
            1 => Action::Stop {
                who,
                length: rng.range(SECOND, 8 * SECOND),
            },
            _ => Action::Crash {
                who,
                restart: Some(rng.range(20 * MS, 500 * MS)),
            },
        };
        plan.timeline.push((when, action));
    }
    // Heard again by some, now that it is lost.
    let back = gone + rng.range(4 * SECOND, 12 * SECOND);
    plan.timeline.push((back, Action::Reconnect(who)));
}

/// Clients ask for changes right before and while voters stop, restart or hear nobody, some of them
/// for longer than a client is kept waiting.
pub(super) fn asks(rng: &mut Rng, plan: &mut Plan, at: u64) {
    for _ in 0..rng.range(1, 3) {
        let when = at + rng.range(0, 300 * MS);
        let who = voter(rng, plan);
        let action = match rng.range(0, 4) {
            0 => Action::Crash {
                who,
                restart: Some(rng.range(20 * MS, 3 * SECOND)),
            },
            1 => Action::Isolate(who),
            _ => Action::Stop {
                who,
                length: rng.range(500 * MS, 14 * SECOND),
            },
        };
        plan.timeline.push((when, action));
    }
    for _ in 0..rng.range(1, 4) {
        let who = host(rng, plan);
        let many = if rng.chance(200_000) { 400 } else { 1 };
        let when = at + rng.range(0, 500 * MS);
        for n in 0..many {
            let ask = Action::Ask(who.clone(), Ask::Publish);
            plan.timeline.push((when + n * MS / 2, ask));
        }
    }
    let back = at + rng.range(SECOND, 6 * SECOND);
    for v in 0..plan.voters {
        plan.timeline.push((back, Action::Reconnect(Who::Host(v))));
    }
}

/// The coordinator is stopped, half cut off, or those who could follow it leave.
pub(super) fn office(rng: &mut Rng, plan: &mut Plan, at: u64) {
    let who = Who::Coordinator;
    let other = Who::OtherVoter;
    let length = rng.range(SECOND, 5 * SECOND);
    let slow = rng.range(10 * MS, 150 * MS);
    for v in 0..plan.voters {
        let delay = (MS, slow);
        let who = Who::Host(v);
        plan.timeline.push((at, Action::SlowDisk { who, delay }));
    }
    let at = at + SECOND / 2;
    match rng.range(0, 3) {
        0 | 1 => {
            // Its successor cannot tell it so.
            let cut = Action::Cut {
                from: voter(rng, plan),
                to: who.clone(),
                net: None,
            };
            plan.timeline.push((at, cut));
            let stop = Action::Stop { who, length };
            plan.timeline.push((at + rng.range(0, 20 * MS), stop));
        }
        2 => {
            for to in 0..plan.voters {
                let block = Action::Block {
                    from: who.clone(),
                    to: Who::Host(to),
                    class: Class::Election,
                };
                plan.timeline.push((at, block));
            }
            for step in 0..8 {
                let leave = Action::Ask(voter(rng, plan), Ask::Leave(Away::Stop));
                plan.timeline.push((at + step * 300 * MS, leave));
            }
        }
        _ => {
            let cut = Action::Cut {
                from: other,
                to: who.clone(),
                net: None,
            };
            plan.timeline.push((at, cut));
            let restart = Some(rng.range(50 * MS, SECOND));
            let crash = Action::Crash { who, restart };
            plan.timeline.push((at + SECOND, crash));
        }
    }
    plan.timeline.push((at + length + SECOND, Action::Heal));
}

/// A host is lost; its coordinator stops or goes with the fence under way; it is back early.
pub(super) fn fence(rng: &mut Rng, plan: &mut Plan, at: u64) {
    let who = host(rng, plan);
    if rng.chance(500_000) {
        let back = Some(rng.range(3 * SECOND, 6 * SECOND));
        let off = Action::PowerOff {
            who: who.clone(),
            back,
        };
        plan.timeline.push((at, off));
    } else {
        plan.timeline.push((at, Action::Isolate(who.clone())));
        let back = at + rng.range(3 * SECOND, 9 * SECOND);
        plan.timeline.push((back, Action::Reconnect(who)));
    }
    let silence = plan.timing.silence().as_nanos() as u64;
    // With slow disks there is time between an attempt, its launch and what follows.
    let most = rng.range(2 * MS, 120 * MS);
    for v in 0..plan.voters {
        let delay = (MS, most);
        let who = Who::Host(v);
        plan.timeline.push((at, Action::SlowDisk { who, delay }));
    }
    let middle = at + silence + rng.range(0, 1500 * MS);
    let who = Who::Coordinator;
    let length = rng.range(3 * SECOND, 9 * SECOND);
    match rng.range(0, 3) {
        0 => plan.timeline.push((middle, Action::Stop { who, length })),
        1 => {
            plan.timeline.push((middle, Action::Isolate(who)));
            plan.timeline.push((middle + length, Action::Heal));
        }
        2 => {
            let restart = Some(rng.range(50 * MS, SECOND));
            plan.timeline.push((middle, Action::Crash { who, restart }));
        }
        _ => plan.timeline.push((middle, Action::Stop { who, length })),
    }
}

/// Writes of every voter take long; guests die, clients change their mind, hosts go.
pub(super) fn logs(rng: &mut Rng, plan: &mut Plan, at: u64) {
    let most = rng.range(20 * MS, 900 * MS);
    for v in 0..plan.voters {
        let delay = (MS, most);
        let who = Who::Host(v);
        plan.timeline.push((at, Action::SlowDisk { who, delay }));
    }
    let guest = rng.index(plan.guests);
    let who = host(rng, plan);
    let action = match rng.range(0, 6) {
        0 | 1 => {
            for n in 0..6 {
                let crash = Action::GuestCrash(guest);
                plan.timeline.push((at + n * 500 * MS, crash));
            }
            // Its host has given it up; its daemon ends before the log knows.
            let ends = Action::Crash {
                who: Who::HostOf(guest),
                restart: Some(rng.range(20 * MS, 500 * MS)),
            };
            let when = at + rng.range(0, 4 * SECOND);
            plan.timeline.push((when, ends));
            Action::GuestCrash(guest)
        }
        2 | 3 => {
            let start = Action::Ask(host(rng, plan), Ask::Start(guest));
            let when = at + rng.range(100 * MS, 2 * SECOND);
            plan.timeline.push((when, start));
            Action::Ask(who, Ask::Stop(guest))
        }
        4 => Action::Crash {
            who,
            restart: Some(rng.range(50 * MS, SECOND)),
        },
        _ => {
            let back = at + rng.range(2 * SECOND, 8 * SECOND);
            plan.timeline.push((back, Action::Reconnect(who.clone())));
            Action::Isolate(who)
        }
    };
    plan.timeline.push((at, action));
}

/// A voter is away while the log grows beyond its limit; another is lost about when it is back.
pub(super) fn behind(rng: &mut Rng, plan: &mut Plan, at: u64) {
    let who = voter(rng, plan);
    let back = at + rng.range(SECOND, 7 * SECOND);
    let action = match rng.range(0, 3) {
        0 => Action::Crash {
            who: who.clone(),
            restart: Some(back - at),
        },
        1 => Action::PowerOff {
            who: who.clone(),
            back: Some(back - at),
        },
        _ => {
            plan.timeline.push((back, Action::Reconnect(who.clone())));
            Action::Isolate(who)
        }
    };
    plan.timeline.push((at, action));
    for _ in 0..rng.range(2, 12) {
        let ask = Ask::PublishMany(rng.range(10, 1500) as u32);
        let when = at + rng.range(0, back + SECOND - at);
        let publish = Action::Ask(host(rng, plan), ask);
        plan.timeline.push((when, publish));
    }
    let other = voter(rng, plan);
    let when = back.saturating_sub(SECOND) + rng.range(0, 2 * SECOND);
    match rng.range(0, 4) {
        0 => {
            let delay = (MS, rng.range(20 * MS, 900 * MS));
            let slow = Action::SlowDisk { who: other, delay };
            plan.timeline.push((at, slow));
        }
        1 => {
            let restart = Some(rng.range(20 * MS, 4 * SECOND));
            plan.timeline.push((
                when,
                Action::Crash {
                    who: other,
                    restart,
                },
            ));
        }
        2 => {
            plan.timeline.push((when, Action::Isolate(other.clone())));
            let again = when + rng.range(SECOND, 5 * SECOND);
            plan.timeline.push((again, Action::Reconnect(other)));
        }
        _ => {}
    }
}

/// Guests are started where the lease ends before the creation does.
pub(super) fn creations(rng: &mut Rng, plan: &mut Plan, at: u64) {
    let guest = rng.index(plan.guests);
    let who = host(rng, plan);
    let longest = rng.range(SECOND, 15 * SECOND);
    let slow = Action::SlowCreate {
        who: who.clone(),
        longest,
    };
    plan.timeline.push((BEGIN, slow));
    for n in 0..4 {
        let crash = Action::GuestCrash(guest);
        plan.timeline.push((at + n * 200 * MS, crash));
    }
    if rng.chance(400_000) {
        let length = rng.range(SECOND, 8 * SECOND);
        let silent = Action::Silent {
            who: Who::HostOf(guest),
            length,
        };
        plan.timeline.push((at + rng.range(0, SECOND), silent));
    }
    let cut = at + rng.range(0, 2 * SECOND);
    plan.timeline.push((cut, Action::Isolate(who.clone())));
    let back = cut + rng.range(3 * SECOND, 15 * SECOND);
    plan.timeline.push((back, Action::Reconnect(who)));
}

/// A host is away for about as long as its lease takes to be proved over, and decisions take long.
pub(super) fn comes_back(rng: &mut Rng, plan: &mut Plan, at: u64) {
    let who = host(rng, plan);
    for v in 0..plan.voters {
        let delay = (10 * MS, rng.range(20 * MS, 130 * MS));
        let who = Who::Host(v);
        plan.timeline.push((at, Action::SlowDisk { who, delay }));
    }
    plan.timeline.push((at, Action::Isolate(who.clone())));
    let proved = plan.timing.takeover().as_nanos() as u64;
    let back = at + proved - SECOND + rng.range(0, 1500 * MS);
    plan.timeline.push((back, Action::Reconnect(who)));
}

pub(super) fn cut(plan: &mut Plan, at: u64, a: &Who, b: &Who) {
    for (from, to) in [(a.clone(), b.clone()), (b.clone(), a.clone())] {
        let net = None;
        plan.timeline.push((at, Action::Cut { from, to, net }));
    }
}

pub(super) fn mend(plan: &mut Plan, at: u64, a: &Who, b: &Who) {
    for (from, to) in [(a.clone(), b.clone()), (b.clone(), a.clone())] {
        plan.timeline.push((at, Action::Mend { from, to }));
    }
}

/// Voter c hears the host alone and nobody else; b answers its revoke, restarts, and hears the host
/// and not the coordinator until shortly before the proof (C4).
pub(super) fn forgets(rng: &mut Rng, plan: &mut Plan, at: u64) {
    // Of equal rounds the highest slot leads, and leads again with what it remembers.
    let first = rng.index(2);
    let (a, b, c) = (Who::Host(2), Who::Host(first), Who::Host(1 - first));
    let who = Who::Host(plan.voters + rng.index(plan.hosts - plan.voters));
    let most = rng.range(50 * MS, 110 * MS);
    let delay = (most / 2, most);
    let slow = |delay| Action::SlowDisk {
        who: b.clone(),
        delay,
    };
    cut(plan, at, &c, &a);
    cut(plan, at, &c, &b);
    cut(plan, at, &who, &a);
    cut(plan, at, &who, &b);
    plan.timeline.push((at + 2 * SECOND, slow(delay)));
    let silence = plan.timing.silence().as_nanos() as u64;
    let crash = at + silence + rng.range(20 * MS, 600 * MS);
    let who_b = b.clone();
    let restart = Some(rng.range(10 * MS, 200 * MS));
    plan.timeline.push((
        crash,
        Action::Crash {
            who: who_b,
            restart,
        },
    ));
    cut(plan, crash, &a, &b);
    mend(plan, crash, &who, &b);
    plan.timeline.push((crash, slow((MS / 10, 2 * MS))));
    let proved = plan.timing.takeover().as_nanos() as u64;
    let again = at + proved - rng.range(500 * MS, 2 * SECOND);
    mend(plan, again, &a, &b);
    plan.timeline.push((again + 4 * SECOND, Action::Heal));
}

/// The coordinator is cut off; one of the others is told to stop just when it may have followed it.
pub(super) fn leave(rng: &mut Rng, plan: &mut Plan, at: u64) {
    plan.timeline.push((at, Action::Isolate(Who::Coordinator)));
    let gone = at + rng.range(350 * MS, 800 * MS);
    // Of equal rounds the highest slot leads.
    let next = Who::Host(plan.voters - 1 - rng.index(2));
    let stop = Action::Ask(next, Ask::Leave(Away::Stop));
    plan.timeline.push((gone, stop));
    plan.timeline.push((at + 4 * SECOND, Action::Heal));
}

/// A host is cut off for as long as its lease; another loses its ears for good when the guests of the
/// first are placed anew.
pub(super) fn deaf(rng: &mut Rng, plan: &mut Plan) {
    let lost = plan.voters + rng.index(plan.hosts - plan.voters);
    let proved = plan.timing.takeover().as_nanos() as u64;
    plan.timeline
        .push((BEGIN, Action::Isolate(Who::Host(lost))));
    let healed = BEGIN + proved + rng.range(0, SECOND);
    plan.timeline.push((healed, Action::Calm));
    let ears = healed + rng.range(MS, 2 * SECOND);
    let who = (lost + 1 + rng.index(plan.hosts - 1)) % plan.hosts;
    plan.timeline.push((ears, Action::Deaf(Who::Host(who))));
    plan.healed = Some(healed);
    plan.end = healed + 45 * SECOND;
}

/// Some hosts, fewer than half, are no place for guests for a long time: their hypervisors hang at any
/// step, their storage is gone, their creations take long, or their links come and go. Meanwhile others
/// are lost, one after the other.
pub(super) fn bad_hosts(rng: &mut Rng, plan: &mut Plan) {
    if rng.chance(500_000) {
        devices(rng, plan);
    }
    plan.end = 170 * SECOND;
    let bad = rng.range(1, (plan.hosts as u64 - 1) / 2) as usize;
    let first = rng.index(plan.hosts);
    let bad: Vec<usize> = (0..bad).map(|n| (first + n) % plan.hosts).collect();
    let at = BEGIN + rng.range(0, 4 * SECOND);
    for host in &bad {
        let who = Who::Host(*host);
        if rng.chance(500_000) {
            // Empty, so it has most room.
            let back = Some(rng.range(SECOND, 4 * SECOND));
            let who = who.clone();
            plan.timeline.push((at, Action::PowerOff { who, back }));
        }
        let then = at + rng.range(4 * SECOND, 14 * SECOND);
        let length = rng.range(20 * SECOND, 120 * SECOND);
        let ill = match rng.range(0, 3) {
            0 | 1 => Action::Silent { who, length },
            2 => Action::StorageGone { who, length },
            _ => Action::Flap {
                who,
                peer: None,
                period: rng.range(5 * SECOND, 8 * SECOND),
                times: 12,
            },
        };
        if rng.chance(200_000) {
            let who = Who::Host(rng.index(plan.hosts));
            let other = Action::OtherSilent { who, length };
            plan.timeline.push((then, other));
        }
        let hangs = matches!(ill, Action::Silent { .. });
        if hangs && rng.chance(400_000) {
            // Just as it is given a guest.
            plan.triggers.push(Trigger {
                when: When::Placed,
                host: Some(*host),
                guest: None,
                after: then,
                before: 150 * SECOND,
                nth: 1,
                times: 1,
                delay: rng.range(0, 300 * MS),
                action: ill,
            });
        } else {
            plan.timeline.push((then, ill));
        }
    }
    let good: Vec<usize> = (0..plan.hosts).filter(|h| !bad.contains(h)).collect();
    let mut lost = at + rng.range(12 * SECOND, 20 * SECOND);
    while lost < 120 * SECOND {
        let who = Who::Host(good[rng.index(good.len())]);
        let away = rng.range(2 * SECOND, 25 * SECOND);
        if rng.chance(500_000) {
            let back = Some(away);
            plan.timeline.push((lost, Action::PowerOff { who, back }));
        } else {
            plan.timeline.push((lost, Action::Isolate(who.clone())));
            plan.timeline.push((lost + away, Action::Reconnect(who)));
        }
        lost += rng.range(35 * SECOND, 50 * SECOND);
    }
}
