//! Holds of guests, as the auditor reckons them up.

use super::audit::{Audit, Finding};
use quorate_membership::Token;
use quorate_recovery::guest::GuestId;
use quorate_recovery::hold::{HoldReason, Released, ReleasedBy};

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

    pub(super) fn released(&mut self, holds: &[Released], by: &ReleasedBy) -> Finding {
        let mut any = false;
        for one in holds {
            let Some(g) = self.guests.get_mut(&one.guest) else {
                continue;
            };
            let before = g.holds.len();
            let of_epoch = g.epoch == one.epoch;
            g.holds.retain(|kind, (at, _)| {
                let may = matches!(by, ReleasedBy::Person(_)) || kind.passes();
                *at != one.hold || !of_epoch || !may
            });
            any |= g.holds.len() < before;
        }
        if any {
            Finding::Plain
        } else {
            Finding::Void("no such hold stands")
        }
    }
}
