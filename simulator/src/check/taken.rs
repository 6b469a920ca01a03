//! S10, of messages that a program has not taken: a start tells them again. The accident: a snapshot
//! contains messages that nobody has done anything with, and when all nodes fail at once they are in no
//! state and in no log.

use super::{HostName, Violation};
use quorate_membership::Token;
use quorate_membership::member::Untaken;
use std::collections::VecDeque;

/// Programs above the nodes, each of which takes a message some time after it was told.
#[derive(Debug)]
pub struct Taken {
    /// How long after, in nanoseconds; no program listens if it is zero.
    late: u64,
    programs: Vec<Program>,
}

#[derive(Clone, Debug, Default)]
struct Program {
    /// When messages were told that it has not taken.
    queue: VecDeque<(u64, Token)>,
    /// Everything up to here is taken, or was named as skipped.
    taken: Token,
}

impl Taken {
    /// For so many nodes.
    #[must_use]
    pub fn new(nodes: usize, late: u64) -> Taken {
        Taken {
            late,
            programs: vec![Program::default(); nodes],
        }
    }

    /// A node told a message, which its program has perhaps taken before.
    pub fn published(&mut self, now: u64, node: usize, token: Token) {
        let program = &mut self.programs[node];
        if self.late > 0 && token > program.taken {
            program.queue.push_back((now, token));
        }
    }

    /// A node skipped messages up to this one: its program has them from elsewhere at once.
    pub fn skipped(&mut self, node: usize, upto: Token) {
        let program = &mut self.programs[node];
        program.queue.clear();
        program.taken = program.taken.max(upto);
    }

    /// What the program of a node has not taken now; `None` if none listens.
    pub fn untaken(&mut self, now: u64, node: usize) -> Option<Untaken> {
        let program = &mut self.programs[node];
        while let Some((told, token)) = program.queue.front().copied()
            && told + self.late <= now
        {
            program.taken = token;
            program.queue.pop_front();
        }
        let first = program.queue.front();
        let untaken = first.map_or(Untaken::Nothing, |(_, token)| Untaken::From(*token));
        (self.late > 0).then_some(untaken)
    }

    /// A node starts, and tells what comes after `base` again; its program starts with it.
    ///
    /// # Errors
    /// Some message up to `base` was told and not taken.
    pub fn begins(&mut self, now: u64, node: usize, base: Token) -> Result<(), Violation> {
        let program = &mut self.programs[node];
        let queue = std::mem::take(&mut program.queue);
        match queue.front() {
            Some((_, first)) if *first <= base => Err(Violation::new(
                "S10",
                now,
                format!("{} tells untaken messages never again", HostName(node)),
                [
                    format!("its program had taken everything up to {}", program.taken),
                    format!("{first} was told and not taken; now it begins behind {base}"),
                ],
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_is_told_again() {
        let mut taken = Taken::new(1, 10);
        taken.published(0, 0, Token(3));
        taken.published(5, 0, Token(4));
        assert_eq!(taken.untaken(9, 0), Some(Untaken::From(Token(3))));
        assert_eq!(taken.untaken(10, 0), Some(Untaken::From(Token(4))));
        taken.begins(12, 0, Token(3)).expect("4 is told again");
        taken.published(12, 0, Token(4));
        taken.begins(13, 0, Token(4)).expect_err("it is not");
        taken.published(20, 0, Token(5));
        taken.skipped(0, Token(9));
        assert_eq!(taken.untaken(20, 0), Some(Untaken::Nothing));
        taken.begins(21, 0, Token(9)).expect("taken from elsewhere");
        assert_eq!(Taken::new(1, 0).untaken(1, 0), None);
    }
}
