//! What a node does about each entry as it is applied.

use super::Node;
use crate::command::Command;
use crate::contract::Effect;
use crate::machine::Guests;
use quorate_membership::entry::Entry;
use quorate_membership::member::{Applied, Untaken};
use quorate_membership::{Outcome, State, Time, Token};

impl Node {
    /// Changes what this node made of the log, as a broken memory would: for fault injection alone.
    #[doc(hidden)]
    pub fn alter_state(&mut self, change: impl FnOnce(&mut State<Guests>)) {
        self.member.alter_state(change);
    }

    /// Says what the program that listens to messages has not taken of them up to now: a start tells
    /// them again.
    pub fn set_untaken(&mut self, untaken: Untaken) {
        self.member.set_untaken(untaken);
    }

    /// A state was taken over: of what it contains only messages are missed.
    pub(super) fn skipped(&mut self, after: Token, upto: Token, out: &mut Vec<Effect>) {
        // What came behind the state is told.
        let upto = upto.min(self.member.app().published);
        if after < upto {
            out.push(Effect::Skipped { after, upto });
        }
    }

    /// What follows from one entry of the log.
    pub(super) fn applied(
        &mut self,
        now: Time,
        applied: Applied<Command>,
        resting: &mut Vec<Effect>,
        out: &mut Vec<Effect>,
    ) {
        let Applied {
            token,
            entry,
            outcome,
            replayed,
        } = &applied;
        self.requests.applied(entry, *token, outcome);
        if let (Entry::Admit { incarnation, .. }, Outcome::Void(why)) = (&entry.body, outcome)
            && *incarnation == self.member.incarnation()
            && entry.id.node == self.member.me()
        {
            self.unadmitted = Some(why.clone());
        }
        if *outcome != Outcome::Applied {
            return;
        }
        match &entry.body {
            Entry::Attempt { host, .. } if !replayed => {
                let attempt = self
                    .member
                    .cluster()
                    .hosts
                    .get(host)
                    .and_then(|h| h.attempts.get(token));
                if let Some(attempt) = attempt.cloned()
                    && let Some(launch) =
                        self.planner
                            .attempt_logged(now, &self.member, entry.id, *host, &attempt)
                {
                    resting.push(Effect::Fence(launch));
                }
            }
            Entry::App(Command::Publish(bytes)) => {
                out.push(Effect::Published {
                    token: *token,
                    bytes: bytes.clone(),
                    replayed: *replayed,
                });
            }
            _ => {}
        }
        if !replayed {
            self.planner.note(now, *token, &entry.body);
        }
        if !replayed && let Some(event) = self.describe(*token, &entry.body) {
            out.push(Effect::Event(event));
        }
        self.remember((!replayed).then_some(now), *token, &entry.body);
    }
}
