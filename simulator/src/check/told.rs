//! S10, of messages: a node tells each one once and in order, and those it will never tell it names by
//! their tokens. The accident: a replica that was handed a state goes on as if it had seen everything.

use super::{HostName, Violation};
use quorate_membership::Token;
use std::collections::BTreeSet;

/// Messages that each node told since its start.
#[derive(Debug)]
pub struct Told {
    /// Everything up to here was told, or named as skipped.
    upto: Vec<Option<Token>>,
    /// Between these two a node told nothing.
    silent: Vec<Silence>,
}

#[derive(Clone, Copy, Debug)]
struct Silence {
    node: usize,
    /// The last token before it.
    after: Token,
    /// The first token behind it.
    before: Token,
}

impl Told {
    /// For so many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Told {
        Told {
            upto: vec![None; nodes],
            silent: Vec::new(),
        }
    }

    /// A life of a node begins.
    pub fn begins(&mut self, node: usize) {
        self.upto[node] = None;
    }

    /// A node told the message of this token.
    ///
    /// # Errors
    /// It told one of a token that is not lower before.
    pub fn published(&mut self, now: u64, node: usize, token: Token) -> Result<(), Violation> {
        self.follows(now, node, token)?;
        self.silence(node, token);
        self.upto[node] = Some(token);
        Ok(())
    }

    /// A node said that it skipped what comes after `after`, up to `upto`.
    ///
    /// # Errors
    /// It told some of that before.
    pub fn skipped(
        &mut self,
        now: u64,
        node: usize,
        (after, upto): (Token, Token),
    ) -> Result<(), Violation> {
        self.follows(now, node, upto)?;
        self.silence(node, Token(after.0 + 1));
        self.upto[node] = Some(upto);
        Ok(())
    }

    fn follows(&self, now: u64, node: usize, token: Token) -> Result<(), Violation> {
        match self.upto[node] {
            Some(last) if token <= last => Err(Violation::new(
                "S10",
                now,
                format!("{} tells of a message again, or too late", HostName(node)),
                [
                    format!("it told everything up to {last}"),
                    format!("then it told {token}"),
                ],
            )),
            _ => Ok(()),
        }
    }

    fn silence(&mut self, node: usize, before: Token) {
        if let Some(after) = self.upto[node]
            && after.0 + 1 < before.0
        {
            self.silent.push(Silence {
                node,
                after,
                before,
            });
        }
    }

    /// The run is over; these are the tokens of all messages.
    ///
    /// # Errors
    /// A node passed over one of them without a word.
    pub fn end(&self, now: u64, messages: &BTreeSet<Token>) -> Result<(), Violation> {
        for s in &self.silent {
            let missed = messages.range(Token(s.after.0 + 1)..s.before).next();
            if let Some(missed) = missed {
                return Err(Violation::new(
                    "S10",
                    now,
                    format!("{} passed over a message without a word", HostName(s.node)),
                    [
                        format!("a message was decided under {missed}"),
                        format!(
                            "the node told everything up to {}, and then what begins at {}",
                            s.after, s.before
                        ),
                    ],
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_told_once_or_named_as_skipped() {
        let messages = BTreeSet::from([Token(3), Token(6), Token(9)]);
        let mut told = Told::new(1);
        told.published(0, 0, Token(3)).expect("first");
        told.skipped(0, 0, (Token(5), Token(7))).expect("skipped");
        told.published(0, 0, Token(9)).expect("goes on");
        told.end(0, &messages).expect("all are accounted for");
        told.published(0, 0, Token(9)).expect_err("twice");
        told.begins(0);
        told.published(0, 0, Token(9)).expect("another life");
        told.published(0, 0, Token(12)).expect("goes on");
        told.end(0, &messages).expect("nothing was passed over");
        let more = BTreeSet::from([Token(9), Token(11)]);
        let broken = told.end(0, &more).expect_err("11 is missing");
        assert!(broken.to_string().contains("0.11"), "{broken}");
    }
}
