//! Stories of what hosts keep: their stores, their guests' images and the locks beside them.

use super::{BEGIN, devices, host, voter};
use crate::cluster::Plan;
use crate::cluster::action::{Action, Ask, Fate, Ill, LockTurn, Who};
use crate::world::{MS, Rng, SECOND};

/// Stores fail, daemons restart, and the voters are apart in between.
pub(super) fn stores(rng: &mut Rng, plan: &mut Plan, at: u64) {
    let who = voter(rng, plan);
    plan.timeline.push((at, Action::StoreFails(who.clone())));
    let restart = Some(rng.range(50 * MS, SECOND));
    let crash = Action::Crash {
        who: who.clone(),
        restart,
    };
    let when = at + rng.range(50 * MS, SECOND);
    plan.timeline.push((when, crash));
    let other = voter(rng, plan);
    let cut = at.saturating_sub(rng.range(0, 2 * SECOND)).max(BEGIN);
    plan.timeline.push((cut, Action::Isolate(other.clone())));
    let back = when + rng.range(0, 2 * SECOND);
    plan.timeline.push((back, Action::Reconnect(other)));
    if rng.chance(500_000) {
        // The one that knows better goes as the other comes back.
        let third = voter(rng, plan);
        plan.timeline.push((back, Action::Isolate(third.clone())));
        let later = back + rng.range(SECOND, 4 * SECOND);
        plan.timeline.push((later, Action::Reconnect(third)));
    }
}

/// A voter is copied, decides more with another one while a third is away, and is set back as that
/// one returns and, often, the one that knows better goes.
pub(super) fn set_back(rng: &mut Rng, plan: &mut Plan, at: u64) {
    let who = voter(rng, plan);
    let (away, other) = (voter(rng, plan), voter(rng, plan));
    let copied = Fate::Copied;
    let fate = [
        Fate::SetBack,
        Fate::SetBack,
        Fate::SetBackOverBoot,
        Fate::Reverted,
    ][rng.index(4)];
    let push = |plan: &mut Plan, at: u64, action| plan.timeline.push((at, action));
    let store = |fate| Action::Store {
        who: who.clone(),
        fate,
    };
    push(plan, at, store(copied));
    if fate == Fate::Reverted {
        // Its memory says that it is right: only who is there can tell.
        let when = at + rng.range(SECOND, 6 * SECOND);
        return push(plan, when, store(fate));
    }
    let cut = at + rng.range(0, 2 * SECOND);
    push(plan, cut, Action::Isolate(away.clone()));
    if rng.chance(500_000) {
        // No voter: one that starts once more is set back to a number that was used.
        let host = Who::Host(rng.range(plan.voters as u64, plan.hosts as u64 - 1) as usize);
        let back = Some(rng.range(2 * SECOND, 9 * SECOND));
        push(plan, cut + MS, Action::PowerOff { who: host, back });
    }
    let when = cut + rng.range(SECOND, 6 * SECOND);
    push(plan, when, store(fate));
    if rng.chance(700_000) {
        push(plan, when, Action::Isolate(other.clone()));
    }
    push(plan, when + MS, Action::Reconnect(away));
    let later = when + rng.range(2 * SECOND, 6 * SECOND);
    push(plan, later, Action::Reconnect(other));
}

/// A host's disk, as it is or as it once was, is started on another machine.
pub(super) fn clone(rng: &mut Rng, plan: &mut Plan, at: u64) {
    let host = rng.index(plan.hosts - 2);
    let (who, onto) = (Who::Host(host), Who::Host(plan.hosts - 1));
    if rng.chance(400_000) {
        let copied = Action::Store {
            who: who.clone(),
            fate: Fate::Copied,
        };
        plan.timeline.push((at, copied));
    }
    let when = at + rng.range(MS, 6 * SECOND);
    let before = when.saturating_sub(rng.range(0, 5 * SECOND)).max(at + 1);
    match rng.range(0, 3) {
        0 => {}
        1 => plan.timeline.push((before, Action::Isolate(who.clone()))),
        2 => plan.timeline.push((before, Action::Mute(who.clone()))),
        _ => plan.timeline.push((
            before,
            Action::PowerOff {
                who: who.clone(),
                back: None,
            },
        )),
    }
    let cloned = Action::Clones {
        who: who.clone(),
        onto: onto.clone(),
    };
    plan.timeline.push((when, cloned));
    if rng.chance(500_000) {
        let later = when + rng.range(SECOND, 20 * SECOND);
        plan.timeline.push((later, Action::Reconnect(who.clone())));
    }
    if rng.chance(300_000) {
        let restart = Some(rng.range(100 * MS, SECOND));
        let who = if rng.chance(500_000) { who } else { onto };
        let crash = Action::Crash { who, restart };
        plan.timeline
            .push((when + rng.range(SECOND, 15 * SECOND), crash));
    }
}

/// Hosts lose the shared storage for a while; some lose more meanwhile.
pub(super) fn storage(rng: &mut Rng, plan: &mut Plan) {
    if rng.chance(500_000) {
        devices(rng, plan);
    }
    let mut at = BEGIN;
    for _ in 0..rng.range(1, 3) {
        let who = host(rng, plan);
        let length = rng.range(SECOND, 12 * SECOND);
        let gone = Action::StorageGone {
            who: who.clone(),
            length,
        };
        plan.timeline.push((at, gone));
        let then = at + rng.range(0, length);
        let restart = Some(rng.range(100 * MS, 2 * SECOND));
        match rng.range(0, 4) {
            0 => plan.timeline.push((then, Action::Crash { who, restart })),
            1 => plan.timeline.push((then, Action::Isolate(who))),
            2 => {
                let length = rng.range(SECOND, 6 * SECOND);
                plan.timeline.push((then, Action::Silent { who, length }));
            }
            _ => {}
        }
        at += rng.range(SECOND, 15 * SECOND);
    }
    let healed = at + rng.range(SECOND, 12 * SECOND);
    plan.timeline.retain(|(at, _)| *at < healed);
    plan.timeline.push((healed, Action::Calm));
    plan.healed = Some(healed);
    plan.end = healed + 45 * SECOND;
}

/// Somebody changes images of guests that run; their hosts are lost, cut off, or lose the guest.
pub(super) fn images(rng: &mut Rng, plan: &mut Plan) {
    let (mut at, mut apart) = (BEGIN, false);
    for _ in 0..rng.range(2, 4) {
        let guest = rng.index(plan.guests);
        // A window is named in the README for what no header tells: a copy, and an image that its
        // host alone has, are seen before anything else happens, and by a host that can tell.
        let (ill, seen) = match rng.range(0, 11) {
            4 | 10 if apart => (Ill::Snapshot { local: false }, 0),
            0..=3 => (Ill::Snapshot { local: false }, 0),
            4 => (Ill::Snapshot { local: true }, 12 * SECOND),
            5..=7 => (Ill::Merges, 0),
            8..=9 => (Ill::BackedUp(rng.range(2 * SECOND, 30 * SECOND)), 0),
            _ => {
                let length = rng.range(12 * SECOND, 14 * SECOND);
                let shut = rng.range(length + 12 * SECOND, length + 14 * SECOND);
                let early = rng.range(11 * SECOND, length);
                let seen = if rng.chance(500_000) { shut } else { early };
                (Ill::Copies(length), seen)
            }
        };
        plan.timeline.push((at, Action::Guest(guest, ill)));
        let then = at + seen + rng.range(0, 3 * SECOND);
        let who = Who::HostOf(guest);
        let back = Some(rng.range(8 * SECOND, 20 * SECOND));
        match rng.range(0, 6) {
            0..=2 => plan.timeline.push((then, Action::PowerOff { who, back })),
            3 => {
                plan.timeline.push((then, Action::Isolate(who)));
                apart = true;
            }
            4 => plan.timeline.push((then, Action::GuestCrash(guest))),
            _ => {}
        }
        at = then + rng.range(SECOND, 12 * SECOND);
    }
    let healed = at + rng.range(SECOND, 12 * SECOND);
    plan.timeline.sort_by_key(|(at, _)| *at);
    plan.timeline.push((healed, Action::Calm));
    plan.healed = Some(healed);
    plan.end = healed + 45 * SECOND;
}

/// Locks turn foreign or unreadable, guests must start anew, and operators hold and release.
pub(super) fn locks(rng: &mut Rng, plan: &mut Plan) {
    plan.images = true;
    if rng.chance(300_000) {
        devices(rng, plan);
    }
    let mut at = BEGIN;
    for _ in 0..rng.range(3, 8) {
        let guest = rng.index(plan.guests);
        let turns = [
            LockTurn::Foreign,
            LockTurn::Fork,
            LockTurn::Clone,
            LockTurn::Raised,
            LockTurn::Unreadable,
            LockTurn::Unreadable,
            LockTurn::Readable,
        ];
        let turn = turns[rng.index(turns.len())];
        plan.timeline.push((at, Action::Lock(guest, turn)));
        let then = at + rng.range(0, 3 * SECOND);
        let who = host(rng, plan);
        let action = match rng.range(0, 5) {
            0 => Action::Isolate(Who::HostOf(guest)),
            1 => Action::Crash {
                who: Who::HostOf(guest),
                restart: Some(rng.range(100 * MS, 2 * SECOND)),
            },
            2 => Action::PowerOff {
                who: Who::HostOf(guest),
                back: Some(rng.range(SECOND, 8 * SECOND)),
            },
            3 => Action::Ask(who.clone(), Ask::Hold(guest)),
            _ => Action::GuestCrash(guest),
        };
        plan.timeline.push((then, action));
        if rng.chance(600_000) {
            let later = then + rng.range(SECOND, 14 * SECOND);
            let release = Action::Ask(who, Ask::Release(guest));
            plan.timeline.push((later, release));
        }
        if rng.chance(300_000) {
            plan.timeline
                .push((then + rng.range(0, 5 * SECOND), Action::Heal));
        }
        at += rng.range(SECOND, 8 * SECOND);
    }
    let healed = at + rng.range(SECOND, 8 * SECOND);
    plan.timeline.push((healed, Action::Calm));
    plan.healed = Some(healed);
    plan.end = healed + 45 * SECOND;
}

/// Voters start from a state that was altered: so few that the others are a quorum and guests run at
/// last, or so many that none is. Coordinators go, so that others follow them, and hosts with guests.
pub(super) fn states(rng: &mut Rng, plan: &mut Plan) {
    if rng.chance(500_000) {
        devices(rng, plan);
    }
    if rng.chance(300_000) {
        plan.founded = rng.range(1, 60_000) as u32;
    }
    let spare = plan.voters - (plan.voters / 2 + 1);
    let few = rng.chance(500_000);
    let first = rng.index(plan.voters);
    let mut at = BEGIN + rng.range(0, 3 * SECOND);
    for _ in 0..rng.range(2, 5) {
        let altered = if few { spare } else { plan.voters };
        let who = Who::Host((first + rng.index(altered)) % plan.voters);
        let fate = Fate::Altered;
        plan.timeline.push((at, Action::Store { who, fate }));
        let then = at + rng.range(SECOND / 2, 4 * SECOND);
        let who = Who::Coordinator;
        let back = rng.range(SECOND, 6 * SECOND);
        let restart = Some(back);
        match rng.range(0, 4) {
            0 => plan.timeline.push((then, Action::Crash { who, restart })),
            1 => {
                let back = Some(back);
                plan.timeline.push((then, Action::PowerOff { who, back }));
            }
            2 => {
                plan.timeline.push((then, Action::Isolate(who)));
                plan.timeline.push((then + back, Action::Heal));
            }
            _ => {}
        }
        let lost = then + rng.range(0, 6 * SECOND);
        let guest = rng.index(plan.guests);
        if rng.chance(500_000) {
            let who = Who::HostOf(guest);
            let back = Some(rng.range(8 * SECOND, 20 * SECOND));
            plan.timeline.push((lost, Action::PowerOff { who, back }));
        } else {
            plan.timeline.push((lost, Action::GuestCrash(guest)));
        }
        at = lost + rng.range(SECOND, 8 * SECOND);
    }
    plan.end = at + 20 * SECOND;
    if few {
        // Who left the log votes again once it has a right state, and after its next start too.
        let healed = at + rng.range(SECOND, 6 * SECOND);
        plan.timeline.sort_by_key(|(at, _)| *at);
        plan.timeline.push((healed, Action::Calm));
        let restarted = if rng.chance(500_000) { plan.voters } else { 0 };
        for voter in 0..restarted {
            let who = Who::Host(voter);
            let restart = Some(SECOND / 4);
            let at = healed + SECOND * (12 + 4 * voter as u64);
            plan.timeline.push((at, Action::Crash { who, restart }));
        }
        plan.healed = Some(healed);
        plan.end = healed + 80 * SECOND;
    }
}
