//! What voters made of the log, compared (reading 19).
//!
//! All nodes apply the same entries by the same rules, so they have the same state, unless a memory
//! is broken, a disk has rotted, the logs were forked, or two versions of the rules are at work. Where
//! a renewal of the coordinator's lease says so, every voter hashes its state and states the hash to
//! the others. Renewals come by the clock, not by the load, so what hashing costs does not grow with
//! the number of entries; one statement is of fixed size, whatever the state holds.

use crate::id::{NodeId, Token};
use crate::mutants::planted;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The newest version of the rules by which this build applies a log.
pub const RULES: u16 = 1;
/// One in so many renewals of a term, the first among them, is a place where states are compared.
pub const EVERY: u64 = 16;
/// Statements of one voter that are kept, the newest.
const KEPT: usize = 8;

/// What a voter says of its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StateWord {
    /// The newest entry after which it hashed its state; zero before the first.
    pub token: Token,
    /// The CRC-32 of its encoded state.
    pub hash: u32,
    /// The version of the rules by which the state was made.
    pub rules: u16,
}

/// Whether states are compared at the renewal of this number.
#[must_use]
pub fn compared_at(number: u64) -> bool {
    number % EVERY == 1
}

/// The first number from this one on at whose renewal states are compared.
#[must_use]
pub fn next_compared(number: u64) -> u64 {
    number + (EVERY + 1 - number % EVERY) % EVERY
}

/// What voters are known to have made of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Agreement {
    /// Too few have said anything.
    #[default]
    Unknown,
    /// A quorum made the same state.
    Agreed {
        /// The entry after which they compared.
        at: Token,
        /// They, in order.
        agree: Vec<NodeId>,
        /// Those that made another state.
        differ: Vec<NodeId>,
    },
    /// Some made different states, and none of these is that of a quorum.
    Divided {
        /// The entry after which they compared.
        at: Token,
        /// The voters by their states.
        groups: Vec<Vec<NodeId>>,
    },
}

/// What voters said of their states.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    words: BTreeMap<NodeId, BTreeMap<Token, StateWord>>,
}

impl Said {
    /// The voter `node`, perhaps this one, says that.
    pub(crate) fn take(&mut self, node: NodeId, word: StateWord) {
        if word.token == Token::NONE {
            return;
        }
        let words = self.words.entry(node).or_default();
        words.insert(word.token, word);
        if words.len() > KEPT {
            words.pop_first();
        }
    }

    /// What `node` said counts no more: it has another state since.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.words.remove(&node);
    }

    /// The newest word of `node`.
    pub(crate) fn newest(&self, node: NodeId) -> StateWord {
        let words = self.words.get(&node);
        let newest = words.and_then(|w| w.last_key_value());
        newest.map(|(_, word)| *word).unwrap_or_default()
    }

    /// What follows from the newest entry after which enough is known of `voters` to say anything.
    pub(crate) fn judge(&self, voters: &[NodeId], quorum: usize) -> Agreement {
        if planted("states-not-compared") {
            return Agreement::Unknown;
        }
        let known = || voters.iter().filter_map(|v| Some((*v, self.words.get(v)?)));
        let tokens: BTreeSet<Token> = known().flat_map(|(_, w)| w.keys().copied()).collect();
        for at in tokens.into_iter().rev() {
            let mut groups: BTreeMap<StateWord, Vec<NodeId>> = BTreeMap::new();
            for (voter, words) in known() {
                if let Some(word) = words.get(&at) {
                    groups.entry(*word).or_default().push(voter);
                }
            }
            let mut groups: Vec<Vec<NodeId>> = groups.into_values().collect();
            if let Some(most) = groups.iter().position(|g| g.len() >= quorum) {
                let agree = groups.swap_remove(most);
                let mut differ: Vec<NodeId> = groups.into_iter().flatten().collect();
                differ.sort();
                return Agreement::Agreed { at, agree, differ };
            }
            if groups.len() > 1 {
                groups.sort();
                return Agreement::Divided { at, groups };
            }
        }
        Agreement::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Epoch;

    fn word(index: u64, hash: u32) -> StateWord {
        StateWord {
            token: Token::new(Epoch(1), index),
            hash,
            rules: RULES,
        }
    }

    fn nodes(of: &[u32]) -> Vec<NodeId> {
        of.iter().map(|n| NodeId(*n)).collect()
    }

    #[test]
    fn the_first_renewal_and_one_in_sixteen_compare() {
        let compared: Vec<u64> = (0..40).filter(|n| compared_at(*n)).collect();
        assert_eq!(compared, [1, 17, 33]);
        for number in 0..100 {
            let next = next_compared(number);
            assert!(compared_at(next) && (number..number + EVERY).contains(&next));
        }
    }

    #[test]
    fn the_newest_entry_that_says_anything_counts() {
        let voters = nodes(&[1, 2, 3]);
        let mut said = Said::default();
        assert_eq!(said.judge(&voters, 2), Agreement::Unknown);
        said.take(NodeId(1), word(10, 7));
        said.take(NodeId(9), word(10, 7));
        assert_eq!(said.judge(&voters, 2), Agreement::Unknown, "9 is no voter");
        said.take(NodeId(2), word(10, 8));
        let (at, groups) = (Token::new(Epoch(1), 10), vec![nodes(&[1]), nodes(&[2])]);
        assert_eq!(said.judge(&voters, 2), Agreement::Divided { at, groups });
        // What one says alone of a later entry changes nothing.
        said.take(NodeId(1), word(20, 7));
        said.take(NodeId(3), word(10, 7));
        let (agree, differ) = (nodes(&[1, 3]), nodes(&[2]));
        let agreed = Agreement::Agreed { at, agree, differ };
        assert_eq!(said.judge(&voters, 2), agreed);
        said.take(NodeId(2), word(20, 7));
        let (at, agree) = (Token::new(Epoch(1), 20), nodes(&[1, 2]));
        let differ = Vec::new();
        let agreed = Agreement::Agreed { at, agree, differ };
        assert_eq!(said.judge(&voters, 2), agreed);
    }

    #[test]
    fn states_by_other_rules_are_other_states_and_few_words_are_kept() {
        let voters = nodes(&[1, 2]);
        let mut said = Said::default();
        said.take(NodeId(1), word(5, 1));
        let rules = RULES + 1;
        let newer = StateWord {
            rules,
            ..word(5, 1)
        };
        said.take(NodeId(2), newer);
        assert!(matches!(said.judge(&voters, 2), Agreement::Divided { .. }));
        (6..100).for_each(|index| said.take(NodeId(1), word(index, 1)));
        assert_eq!(said.words[&NodeId(1)].len(), KEPT);
        assert_eq!(said.newest(NodeId(1)), word(99, 1));
        assert_eq!(said.judge(&voters, 2), Agreement::Unknown);
        said.take(NodeId(3), StateWord::default());
        assert_eq!(said.newest(NodeId(3)), StateWord::default());
    }
}
