//! Holds of guests, as the auditor reckons them up.

use super::audit::{Audit, Finding};
use quorate_membership::{NodeId, Token};
use quorate_recovery::guest::GuestId;
use quorate_recovery::hold::{HoldReason, Released, ReleasedBy};
use quorate_recovery::lock::SeenLock;

/// The locks that a reason names.
#[must_use]
pub fn locks(reason: &HoldReason) -> Option<&[SeenLock]> {
    match reason {
        HoldReason::ForeignLock(seen) | HoldReason::UnknownLock(seen) => Some(seen),
        _ => None,
    }
}

impl Audit {
    pub(super) fn held(
        &mut self,
        at: Token,
        guest: GuestId,
        epoch: Token,
        reason: &HoldReason,
    ) -> Finding {
        match self.guests.get_mut(&guest) {
            Some(g) if g.epoch == epoch => match g.holds.get(&reason.kind()) {
                Some((_, standing)) if standing == reason => Finding::Void("held for that already"),
                _ => {
                    g.holds.insert(reason.kind(), (at, reason.clone()));
                    Finding::Plain
                }
            },
            _ => Finding::Void("seen under another epoch"),
        }
    }

    /// Whether it is known already is nothing to any promise.
    pub(super) fn locked(&self, host: NodeId, guests: &[(GuestId, Token)]) -> Finding {
        let holds = |(guest, epoch): &(GuestId, Token)| {
            self.guests
                .get(guest)
                .is_some_and(|g| g.epoch == *epoch && g.holder.is_some_and(|(h, _)| h == host))
        };
        if guests.iter().any(holds) {
            Finding::Plain
        } else {
            Finding::Void("no such guest has that epoch there")
        }
    }

    pub(super) fn release(&mut self, holds: &[Released], by: &ReleasedBy) -> Finding {
        let mut any = false;
        for one in holds {
            let Some(g) = self.guests.get_mut(&one.guest) else {
                continue;
            };
            let of_epoch = g.epoch == one.epoch;
            let released = &mut self.released;
            g.holds.retain(|kind, (at, reason)| {
                let may = matches!(by, ReleasedBy::Person(_)) || kind.passes();
                let stays = *at != one.hold || !of_epoch || !may;
                if let (false, Some(seen)) = (stays, locks(reason)) {
                    released.extend(seen.iter().map(|s| s.lock));
                }
                any |= !stays;
                stays
            });
        }
        if any {
            Finding::Plain
        } else {
            Finding::Void("no such hold stands")
        }
    }
}
