//! The coordinator's lease: who may give orders, and until when.

use crate::cluster::Term;
use crate::id::{Incarnation, NodeId, Token};
use crate::mutants::planted;
use crate::states::next_compared;
use crate::time::Time;
use crate::timing::Timing;
use std::collections::BTreeMap;
use std::time::Duration;

/// This node's own term, if the log names this very incarnation of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Office {
    held: Option<Held>,
    /// This life orders nothing and seeks no term any more.
    retired: bool,
    /// When it first gave a term up.
    resigned_at: Option<Time>,
    /// The last holder resigned, and nobody here has seen to a successor.
    vacant: bool,
    /// A term of ours that ended here when this node left the log, for its renewals are not remembered; and
    /// whether our own wait for earlier coordinators was over.
    void: Option<(Token, bool)>,
}

#[derive(Clone, Debug)]
struct Held {
    term: Token,
    from: Time,
    until: Option<Time>,
    sent: BTreeMap<u64, Time>,
    next: u64,
    last_sent: Option<Time>,
}

impl Office {
    /// The current term changed. Ours runs only if it names our incarnation (V9); it may be acted
    /// on after G_c, which outwaits every renewal an earlier coordinator could still hold.
    pub(crate) fn term(
        &mut self,
        now: Time,
        me: NodeId,
        incarnation: Incarnation,
        term: Option<Term>,
        timing: &Timing,
    ) {
        if planted("renew-under-old-term") && term.is_some_and(|t| t.node != me) {
            return;
        }
        self.vacant = term.is_none();
        let own = term.filter(|t| (t.node, t.incarnation) == (me, incarnation));
        let own = own.filter(|t| self.void.is_none_or(|(void, _)| void != t.token));
        if let (Some(held), Some(own)) = (&self.held, &own)
            && held.term == own.token
        {
            // Known before. Were its renewals numbered from the beginning again, an earlier one
            // that is decided late would count from when a later one was sent.
            return;
        }
        self.held = own.map(|t| Held {
            term: t.token,
            from: if t.waived || planted("takeover-not-waited") {
                now
            } else {
                now + timing.coordinator_takeover()
            },
            until: None,
            sent: BTreeMap::new(),
            next: 1,
            last_sent: None,
        });
    }

    /// This node has left the log: what it held under its term is over, and only a new one counts.
    pub(crate) fn left_log(&mut self, now: Time) {
        if let Some(held) = self.held.take() {
            self.void = Some((held.term, now >= held.from));
        }
        self.vacant = false;
    }

    /// The resignation that is owed for `term`, if it is ours and ended here when this node left the log.
    pub(crate) fn owed(&self, term: Option<Term>) -> Option<(Token, bool)> {
        self.void
            .filter(|(void, _)| term.is_some_and(|t| t.token == *void))
    }

    /// Whether we hold no term and would take one.
    pub(crate) fn sought(&self) -> bool {
        self.held.is_none() && !self.retired
    }

    /// Whether we gave up every term of this life.
    pub(crate) fn retired(&self) -> bool {
        self.retired
    }

    /// Whether a holder has resigned since the last call, and nobody followed it.
    pub(crate) fn take_vacancy(&mut self) -> bool {
        std::mem::take(&mut self.vacant)
    }

    /// Whether a renewal is due: the first at once, then four per lease. `compare`: it is to be one at
    /// which states are compared.
    pub(crate) fn renewal(
        &mut self,
        now: Time,
        timing: &Timing,
        compare: bool,
    ) -> Option<(Token, u64)> {
        let held = self.held.as_mut().filter(|_| !self.retired)?;
        let period = timing.coordinator_lease / 4;
        if held.last_sent.is_some_and(|at| now.since(at) < period) {
            return None;
        }
        held.last_sent = Some(now);
        let number = if compare {
            next_compared(held.next)
        } else {
            held.next
        };
        held.next = number + 1;
        held.sent.insert(number, now);
        while held.sent.len() > 64 {
            held.sent.pop_first();
        }
        Some((held.term, number))
    }

    /// A Renew of ours was decided under our current term: we hold until its *send* + L_c. Gives
    /// whether we had lapsed and hold again.
    pub(crate) fn renewed(&mut self, now: Time, term: Token, number: u64, timing: &Timing) -> bool {
        if let Some(held) = self.held.as_mut().filter(|h| h.term == term)
            && let Some(sent) = held.sent.get(&number)
        {
            let from = if planted("renewal-from-decision") {
                now
            } else {
                *sent
            };
            let until = from + timing.coordinator_lease;
            let lapsed = held.until.is_some_and(|u| u <= now) && until > now;
            held.until = Some(held.until.map_or(until, |u| u.max(until)));
            return lapsed;
        }
        false
    }

    /// For the rest of this life we order nothing and take no term. Gives the term we still hold,
    /// and whether our own wait for earlier coordinators was over.
    pub(crate) fn resign(&mut self, now: Time) -> Option<(Token, bool)> {
        self.retired = true;
        let held = self.held.as_ref()?;
        self.resigned_at.get_or_insert(now);
        Some((held.term, now >= held.from))
    }

    /// How long ago we first gave a term up, if we ever held one then.
    pub(crate) fn resigned_ago(&self, now: Time) -> Option<Duration> {
        Some(now.since(self.resigned_at?))
    }

    /// Until when orders may be given, if they may be given now.
    pub(crate) fn acting(&self, now: Time) -> Option<Time> {
        let held = self.held.as_ref()?;
        held.until
            .filter(|until| !self.retired && now >= held.from && now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Epoch;

    const ME: NodeId = NodeId(1);
    const LIFE: Incarnation = Incarnation {
        counter: 3,
        random: 9,
    };

    fn term(index: u64) -> Term {
        Term {
            node: ME,
            incarnation: LIFE,
            token: Token::new(Epoch(1), index),
            waived: true,
        }
    }

    #[test]
    fn a_term_that_is_heard_of_twice_keeps_the_numbers_of_its_renewals() {
        let timing = Timing::fast();
        let now = Time::from_millis(1_000);
        let mut office = Office::default();
        office.term(now, ME, LIFE, Some(term(5)), &timing);
        let (held, first) = office.renewal(now, &timing, false).expect("due");
        // Entries were skipped, and the state behind them names the same term.
        let later = now + timing.coordinator_lease;
        office.term(later, ME, LIFE, Some(term(5)), &timing);
        let (_, second) = office.renewal(later, &timing, false).expect("due");
        assert!(second > first);
        assert!(!office.renewed(later, held, first, &timing));
        assert!(
            office.acting(later).is_none(),
            "the first counts from its own sending"
        );
    }

    #[test]
    fn who_left_the_log_holds_no_earlier_term_and_may_take_a_new_one() {
        let timing = Timing::fast();
        let now = Time::from_millis(1_000);
        let mut office = Office::default();
        office.term(now, ME, LIFE, Some(term(5)), &timing);
        office.left_log(now);
        office.term(now, ME, LIFE, Some(term(5)), &timing);
        assert_eq!(office.owed(Some(term(5))), Some((term(5).token, true)));
        assert!(office.owed(Some(term(6))).is_none());
        assert!(office.sought() && office.renewal(now, &timing, false).is_none());
        office.term(now, ME, LIFE, Some(term(6)), &timing);
        assert!(office.renewal(now, &timing, false).is_some());
    }

    #[test]
    fn who_resigned_orders_nothing_under_this_term_or_a_later_one() {
        let timing = Timing::fast();
        let now = Time::from_millis(1_000);
        let mut office = Office::default();
        office.term(now, ME, LIFE, Some(term(5)), &timing);
        let (held, number) = office.renewal(now, &timing, false).expect("due");
        assert!(!office.renewed(now, held, number, &timing));
        assert!(office.acting(now).is_some());
        let late = now + timing.coordinator_lease * 2;
        let (held, number) = office.renewal(late, &timing, false).expect("due");
        assert!(office.acting(late).is_none());
        assert!(office.renewed(late, held, number, &timing), "it resumes");
        assert!(office.acting(late).is_some());

        assert_eq!(office.resign(now), Some((held, true)));
        assert!(office.acting(now).is_none() && !office.sought());
        assert!(
            office
                .renewal(now + timing.coordinator_lease, &timing, false)
                .is_none()
        );
        // A proposal of ours that was still on its way.
        office.term(now, ME, LIFE, Some(term(6)), &timing);
        assert!(office.acting(now).is_none() && office.renewal(now, &timing, false).is_none());
        assert_eq!(office.resign(now), Some((term(6).token, true)));
        office.term(now, ME, LIFE, None, &timing);
        assert_eq!(office.resign(now), None);
        assert!(office.take_vacancy() && !office.take_vacancy());
    }
}
