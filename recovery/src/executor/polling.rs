//! What polls of the hypervisors show, and what they cannot show.

use super::Executor;
use super::sight::Surroundings;
use crate::contract::GuestSeen;
use crate::guest::GuestId;
use crate::kinds::{GuestKind, GuestKinds};
use crate::mutants::planted;
use crate::observation::Cause;

/// Which kinds of guests cannot be seen here, and why.
#[derive(Clone, Debug)]
pub(super) struct Blindness {
    kinds: GuestKinds,
    why: String,
}

/// The kind of a guest, as far as the applied log knows it.
fn kind(s: &Surroundings<'_>, guest: GuestId) -> Option<GuestKind> {
    let record = s.guests.guests.get(&guest);
    record.map(|r| r.spec.definition.kind())
}

impl Executor {
    /// A complete poll of every hypervisor. What it does not show has ended; what nobody here knows
    /// is taken over, so that it is judged by the log like everything else. Gives whether it showed
    /// anything new.
    pub(crate) fn polled(&mut self, s: &Surroundings<'_>, seen: &[GuestSeen]) -> bool {
        let new = self.blind.take().is_some();
        self.looked(s, seen) || new
    }

    /// The hypervisors of some kinds do not answer: nothing follows about guests of these (S9).
    /// `seen` is a complete poll of the others, if there is one.
    pub(crate) fn blinded(
        &mut self,
        s: &Surroundings<'_>,
        kinds: GuestKinds,
        seen: Option<&[GuestSeen]>,
        why: String,
    ) -> bool {
        if planted("blind-is-stopped") {
            return self.polled(s, seen.unwrap_or_default());
        }
        let kinds = if planted("one-kind-blinds-all") {
            GuestKinds::ALL
        } else {
            kinds
        };
        let before = self.blinded_kinds();
        self.blind = Some(Blindness { kinds, why });
        for (guest, process) in &mut self.processes {
            if kind(s, *guest).is_none_or(|kind| kinds.has(kind)) {
                process.watch.blinded(s.now);
            }
        }
        let new = seen.is_some_and(|seen| self.looked(s, seen));
        new || before != kinds
    }

    /// What a poll shows of the kinds that can be seen.
    fn looked(&mut self, s: &Surroundings<'_>, seen: &[GuestSeen]) -> bool {
        let blind = self.blinded_kinds();
        let unseen = |guest| match kind(s, guest) {
            Some(kind) => blind.has(kind),
            None => !blind.is_empty(),
        };
        let mut missing = Vec::new();
        for (guest, p) in self.processes.iter_mut().filter(|(g, _)| !unseen(**g)) {
            let shown = seen.iter().any(|x| x.guest == *guest && x.epoch == p.epoch);
            // An order that was refused is under way no more.
            let ordered = p.order.is_some_and(|(number, _)| number != 0);
            p.missed = if shown || ordered { 0 } else { p.missed + 1 };
            if p.missed >= 2 {
                missing.push((*guest, p.epoch));
            }
        }
        let mut new = !missing.is_empty();
        for (guest, epoch) in missing {
            self.guest_gone(s, guest, epoch, "vanished", Cause::Died);
        }
        for x in seen {
            if !unseen(x.guest) && !self.processes.contains_key(&x.guest) {
                self.adopt(s.now, x);
                new = true;
            }
        }
        new
    }

    /// The kinds of guests that cannot be seen here.
    pub(super) fn blinded_kinds(&self) -> GuestKinds {
        self.blind.as_ref().map_or(GuestKinds::NONE, |b| b.kinds)
    }

    /// Why guests of `kind` cannot be seen, if they cannot.
    pub(super) fn blind_to(&self, kind: GuestKind) -> Option<&str> {
        let blind = self.blind.as_ref().filter(|b| b.kinds.has(kind));
        blind.map(|b| b.why.as_str())
    }

    /// Why some kind of guests cannot be seen, if one cannot.
    pub(crate) fn blind(&self) -> Option<&str> {
        self.blind.as_ref().map(|b| b.why.as_str())
    }
}
