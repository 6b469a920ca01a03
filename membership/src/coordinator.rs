//! The coordinator's lease: who may give orders, and until when.

use crate::cluster::Term;
use crate::id::{Incarnation, NodeId, Token};
use crate::mutants::planted;
use crate::time::Time;
use crate::timing::Timing;
use std::collections::BTreeMap;

/// This node's own term, if the log names this very incarnation of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Office {
    held: Option<Held>,
}

#[derive(Clone, Debug)]
struct Held {
    term: Token,
    from: Time,
    until: Option<Time>,
    sent: BTreeMap<u64, Time>,
    next: u64,
    last_sent: Option<Time>,
    resigned: bool,
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
        self.held = term
            .filter(|t| (t.node, t.incarnation) == (me, incarnation))
            .map(|t| Held {
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
                resigned: false,
            });
    }

    /// Our term's token, if we hold one.
    pub(crate) fn token(&self) -> Option<Token> {
        self.held.as_ref().filter(|h| !h.resigned).map(|h| h.term)
    }

    /// Whether a renewal is due: the first at once, then four per lease.
    pub(crate) fn renewal(&mut self, now: Time, timing: &Timing) -> Option<(Token, u64)> {
        let held = self.held.as_mut().filter(|h| !h.resigned)?;
        let period = timing.coordinator_lease / 4;
        if held.last_sent.is_some_and(|at| now.since(at) < period) {
            return None;
        }
        held.last_sent = Some(now);
        let number = held.next;
        held.next += 1;
        held.sent.insert(number, now);
        while held.sent.len() > 64 {
            held.sent.pop_first();
        }
        Some((held.term, number))
    }

    /// A Renew of ours was decided under our current term: we hold until its *send* + L_c.
    pub(crate) fn renewed(&mut self, now: Time, term: Token, number: u64, timing: &Timing) {
        if let Some(held) = self.held.as_mut().filter(|h| h.term == term)
            && let Some(sent) = held.sent.get(&number)
        {
            let from = if planted("renewal-from-decision") {
                now
            } else {
                *sent
            };
            let until = from + timing.coordinator_lease;
            held.until = Some(held.until.map_or(until, |u| u.max(until)));
        }
    }

    /// We give the term up: from now on we order nothing under it. Gives the term, and whether our
    /// own wait for earlier coordinators was over.
    pub(crate) fn resign(&mut self, now: Time) -> Option<(Token, bool)> {
        let held = self.held.as_mut().filter(|h| !h.resigned)?;
        held.resigned = true;
        Some((held.term, now >= held.from))
    }

    /// Until when orders may be given, if they may be given now.
    pub(crate) fn acting(&self, now: Time) -> Option<Time> {
        let held = self
            .held
            .as_ref()
            .filter(|h| !h.resigned && now >= h.from)?;
        held.until.filter(|until| now < *until)
    }
}
