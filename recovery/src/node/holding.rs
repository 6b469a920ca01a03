//! Holds that this host sees reason for, until the log has them or they are void.

use super::Node;
use crate::command::Command;
use crate::guest::GuestId;
use crate::hold::{HoldKind, HoldReason, Released, ReleasedBy};
use crate::lock::REPORTED;
use crate::machine::Guests;
use crate::planner::kind;
use quorate_membership::entry::Entry;
use quorate_membership::{Time, Token};
use std::collections::BTreeMap;

/// What this host has to say about holds: at most one of each guest and kind.
#[derive(Debug, Default)]
pub(super) struct Holding {
    /// `None`: the reason has passed.
    said: BTreeMap<(GuestId, HoldKind), (Token, Option<HoldReason>)>,
    /// Guests whose locks this host has written, under which epoch.
    locked: BTreeMap<GuestId, Token>,
}

impl Holding {
    /// A reason was seen.
    pub(super) fn seen(&mut self, guest: GuestId, epoch: Token, reason: HoldReason) {
        let key = (guest, reason.kind());
        self.said.insert(key, (epoch, Some(reason)));
    }

    /// The reason of that kind has passed; only of kinds that pass.
    pub(super) fn passed(&mut self, guest: GuestId, epoch: Token, kind: HoldKind) {
        if kind.passes() {
            self.said.insert((guest, kind), (epoch, None));
        }
    }

    /// The reason of a kind that passes stands as it was seen now, or does not.
    pub(super) fn settle_as(
        &mut self,
        guest: GuestId,
        epoch: Token,
        kind: HoldKind,
        reason: Option<HoldReason>,
    ) {
        match reason {
            Some(reason) => self.seen(guest, epoch, reason),
            None => self.passed(guest, epoch, kind),
        }
    }

    /// Nothing is to be said of that kind of hold.
    pub(super) fn unsaid(&mut self, guest: GuestId, kind: HoldKind) {
        self.said.remove(&(guest, kind));
    }

    /// The locks of a guest are written. Should this node forget it, the log expects the locks of
    /// earlier lives, too, for longer.
    pub(super) fn locked(&mut self, guest: GuestId, epoch: Token) {
        self.locked.insert(guest, epoch);
    }

    /// Forgets what the log has, or what is void by now.
    fn settle(&mut self, guests: &Guests) {
        self.said.retain(|(guest, kind), (epoch, reason)| {
            let Some(r) = guests.guests.get(guest) else {
                return false;
            };
            let standing = r.hold(*kind).map(|h| &h.reason);
            // An epoch above the record's is in an entry that is not applied here yet.
            *epoch >= r.epoch && standing != reason.as_ref()
        });
    }
}

impl Node {
    /// Proposes what this host has to say about locks, until it stands in the log.
    pub(super) fn say_locks(&mut self, now: Time) {
        if self.holding.locked.is_empty() {
            return;
        }
        let guests = &self.member.app().guests;
        self.holding.locked.retain(|guest, epoch| {
            guests
                .get(guest)
                .is_some_and(|r| *epoch >= r.epoch && *epoch > r.locked)
        });
        let current = |(guest, epoch): (&GuestId, &Token)| {
            let r = guests.get(guest).filter(|r| r.epoch == *epoch)?;
            (r.host == Some(self.member.me())).then_some((*guest, *epoch))
        };
        let locked = self.holding.locked.iter().filter_map(current);
        let guests: Vec<(GuestId, Token)> = locked.take(REPORTED).collect();
        let retry = self.member.cluster().timing.election * 2;
        if !guests.is_empty() && self.member.cool(now, kind::LOCKED, 0, retry) {
            let host = self.member.me();
            let locked = Command::Locked { host, guests };
            self.member.propose(now, Entry::App(locked));
        }
    }

    /// Proposes what this host has to say about holds, until it stands in the log.
    pub(super) fn say_holds(&mut self, now: Time) {
        if self.holding.said.is_empty() {
            return;
        }
        self.holding.settle(self.member.app());
        let retry = self.member.cluster().timing.election * 2;
        for ((guest, of), (epoch, reason)) in &self.holding.said {
            let Some(r) = self.member.app().guests.get(guest) else {
                continue;
            };
            if r.epoch != *epoch {
                continue;
            }
            let (cooled, command) = match reason {
                Some(reason) => (
                    kind::HOLD,
                    Command::Hold {
                        guest: *guest,
                        epoch: *epoch,
                        reason: reason.clone(),
                    },
                ),
                None => {
                    let Some(hold) = r.hold(*of) else {
                        continue;
                    };
                    let released = Released {
                        guest: *guest,
                        epoch: hold.epoch,
                        hold: hold.at,
                    };
                    let by = ReleasedBy::Host(self.member.me());
                    (
                        kind::RELEASE,
                        Command::Release {
                            holds: vec![released],
                            by,
                        },
                    )
                }
            };
            // Kinds are few: one number for a guest's hold of each.
            let number = guest.0 << 3 | *of as u64;
            if self.member.cool(now, cooled, number, retry) {
                self.member.propose(now, Entry::App(command));
            }
        }
    }
}
