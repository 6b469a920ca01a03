//! S17. The accident: a voter whose state differs from the others' (a broken memory, a disk that
//! rotted, a fault of an earlier version) is made coordinator and gives guests away that run; or the
//! voters differ so much that nobody knows what is right, and the cluster goes on all the same.

use super::{HostName, Violation};
use quorate_membership::Token;
use quorate_membership::entry::ProposalId;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of voters whose state was altered.
#[derive(Debug, Default)]
pub struct S17 {
    /// Some voter's state was altered in this run.
    watches: bool,
    /// Since when too few voters for a quorum have the true state.
    divided: Option<u64>,
    /// When each placement, attempt and proof was first written down, since it watches.
    proposed: BTreeMap<ProposalId, u64>,
    /// Those whose proposer had another state then than the log makes.
    wrong: BTreeSet<ProposalId>,
}

/// A placement, an attempt or a proof in the log.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Its place.
    pub token: Token,
    /// Its name as a proposal.
    pub id: ProposalId,
    /// What it is.
    pub what: &'static str,
    /// The proposing life had a state that is not what the log makes.
    pub altered: bool,
}

impl S17 {
    /// Whether any state was altered, so that there is something to judge.
    #[must_use]
    pub fn watches(&self) -> bool {
        self.watches
    }

    /// Of the voters, so many have the true state; a quorum is `quorum`.
    pub fn counted(&mut self, now: u64, (good, quorum): (usize, usize)) {
        self.watches = true;
        if good >= quorum {
            self.divided = None;
        } else {
            self.divided.get_or_insert(now);
        }
    }

    /// A placement, an attempt or a proof of this name is written down for the first time, or again.
    /// `wrong` says whether its proposer has another state than the log makes.
    pub fn proposed(&mut self, now: u64, id: ProposalId, wrong: impl FnOnce() -> bool) {
        if self.proposed.contains_key(&id) {
            return;
        }
        self.proposed.insert(id, now);
        if wrong() {
            self.wrong.insert(id);
        }
    }

    /// Whether a proposal of this name was made by a state that is not what the log makes.
    #[must_use]
    pub fn wrong(&self, id: &ProposalId) -> bool {
        self.wrong.contains(id)
    }

    /// An order was decided. `patience` is how long the voters may take to notice that they differ.
    ///
    /// # Errors
    /// Its proposer has another state than a quorum, or none agrees, and that is known for long.
    pub fn ordered(&self, now: u64, order: &Order, patience: u64) -> Result<(), Violation> {
        let by = HostName((order.id.node.0 as usize).wrapping_sub(1));
        let entry = format!("entry {}: {by} proposed {}", order.token, order.what);
        if order.altered {
            return Err(Violation::new(
                "S17",
                now,
                "a voter whose state differs from the others' gives orders".into(),
                [
                    entry,
                    format!("the state of {by} was not what the log makes"),
                ],
            ));
        }
        let Some(since) = self.divided else {
            return Ok(());
        };
        let when = self.proposed.get(&order.id).copied().unwrap_or(0);
        if when < since + patience {
            return Ok(());
        }
        Err(Violation::new(
            "S17",
            now,
            "guests are placed or proved free though no quorum of voters has one state".into(),
            [
                format!("{entry} at {}", super::At(when)),
                format!(
                    "since {} too few voters have the state that the log makes",
                    super::At(since)
                ),
            ],
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_membership::{Epoch, NodeId};

    fn order(sequence: u64, altered: bool) -> Order {
        Order {
            token: Token::new(Epoch(1), 9),
            id: ProposalId {
                node: NodeId(2),
                incarnation: Default::default(),
                sequence,
            },
            what: "Placed",
            altered,
        }
    }

    #[test]
    fn orders_of_an_altered_voter_and_of_a_divided_cluster_are_found() {
        let mut s = S17::default();
        assert!(!s.watches());
        s.ordered(5, &order(1, false), 10).expect("nothing altered");
        s.counted(10, (2, 2));
        let broken = s.ordered(11, &order(2, true), 10).expect_err("altered");
        assert_eq!(broken.property, "S17");
        s.counted(20, (1, 2));
        s.proposed(25, order(3, false).id, || false);
        s.proposed(35, order(4, false).id, || false);
        s.ordered(40, &order(3, false), 10).expect("soon enough");
        s.ordered(40, &order(5, false), 10).expect("from before");
        s.ordered(40, &order(4, false), 10).expect_err("too late");
        s.counted(50, (2, 2));
        s.ordered(60, &order(4, false), 10).expect("they agree");
    }
}
