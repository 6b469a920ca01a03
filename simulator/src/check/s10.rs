//! S10. The accident: two nodes apply different entries in one place, or an entry that a client
//! was told about is gone after a power cut; from there on every other promise is void.
//!
//! The first node whose disk says "decided up to n" fixes the truth; every other one is compared.

use super::audit::{Audit, Finding};
use super::{HostName, Violation};
use quorate_membership::Token;
use quorate_membership::store::Image;
use quorate_recovery::command::Command;
use std::collections::BTreeMap;

/// How far each node's log was compared with the truth.
#[derive(Debug)]
pub struct S10 {
    compared: Vec<u64>,
    /// Who fixed each entry, for the report.
    first: Vec<u8>,
    /// What the first node that was looked at after so many entries had made of them.
    states: BTreeMap<u64, (u8, u64)>,
}

impl S10 {
    /// For so many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> S10 {
        S10 {
            compared: vec![0; nodes],
            first: Vec::new(),
            states: BTreeMap::new(),
        }
    }

    /// A node's log was cut back to `length` entries, or the node lost unsynced writes.
    pub fn cut(&mut self, node: usize, length: u64) {
        self.compared[node] = self.compared[node].min(length);
    }

    /// A node's durable state changed. New truths go into `found`.
    ///
    /// # Errors
    /// Its decided entries differ from another node's.
    pub fn check(
        &mut self,
        now: u64,
        node: usize,
        image: &Image<Command>,
        audit: &mut Audit,
        found: &mut Vec<(Token, Finding)>,
    ) -> Result<(), Violation> {
        let end = image.decided.min(image.trimmed + image.log.len() as u64);
        let from = self.compared[node].max(image.trimmed);
        for index in from..end {
            let entry = &image.log[(index - image.trimmed) as usize];
            match audit.log.get(index as usize) {
                Some(truth) if truth == entry => {}
                Some(truth) => {
                    let first = HostName(usize::from(self.first[index as usize]));
                    return Err(Violation::new(
                        "S10",
                        now,
                        format!("two decided entries in place {}", index + 1),
                        [
                            format!("{first} decided {truth:?}"),
                            format!("{} decided {entry:?}", HostName(node)),
                        ],
                    ));
                }
                None if index == audit.log.len() as u64 => {
                    found.push(audit.take(image.founding.epoch, entry.clone()));
                    self.first.push(node as u8);
                }
                // A node that got a snapshot knows less than the truth will: others fill the gap.
                None => break,
            }
            self.compared[node] = index + 1;
        }
        Ok(())
    }

    /// A node has applied so many entries, in a log, by a feed or by a state handed to it, and
    /// `state` stands for what it made of them.
    ///
    /// # Errors
    /// Another node made something else of the same entries.
    pub fn state(
        &mut self,
        now: u64,
        node: usize,
        (applied, state): (u64, u64),
    ) -> Result<(), Violation> {
        let (first, known) = *self.states.entry(applied).or_insert((node as u8, state));
        if known == state {
            return Ok(());
        }
        Err(Violation::new(
            "S10",
            now,
            format!("two states after the same {applied} entries"),
            [
                format!("{} made {known:016x} of them", HostName(first.into())),
                format!("{} made {state:016x}", HostName(node)),
            ],
        ))
    }

    /// An entry was decided; the first voters have seen clusters with epochs up to `floor`.
    ///
    /// # Errors
    /// Its token is not above all of theirs.
    pub fn above(now: u64, token: Token, floor: u32) -> Result<(), Violation> {
        if token.epoch().0 > floor {
            return Ok(());
        }
        Err(Violation::new(
            "S10",
            now,
            "a token was given out before this cluster was founded".into(),
            [
                format!("entry {token} was decided"),
                format!("a first voter belonged to a cluster with epochs up to {floor}"),
            ],
        ))
    }

    /// A client was told that its request is done: guest `name` was added.
    ///
    /// # Errors
    /// At the end of the run no decided entry says so.
    pub fn added(now: u64, name: &str, audit: &Audit) -> Result<(), Violation> {
        if audit.guest_named(name).is_some() {
            return Ok(());
        }
        Err(Violation::new(
            "S10",
            now,
            format!("an acknowledged change is lost: guest {name}"),
            [
                format!("a client was told that guest {name} was added"),
                format!("none of the {} decided entries adds it", audit.log.len()),
            ],
        ))
    }

    /// A client was told that its message is published.
    ///
    /// # Errors
    /// At the end of the run no decided entry holds it.
    pub fn published(now: u64, client: u64, audit: &Audit) -> Result<(), Violation> {
        if audit.published.contains(&client) {
            return Ok(());
        }
        Err(Violation::new(
            "S10",
            now,
            format!("an acknowledged change is lost: the message of client {client}"),
            [
                format!("client {client} was told that its message is published"),
                format!("none of the {} decided entries holds it", audit.log.len()),
            ],
        ))
    }

    /// A client was told that its message is not published, and will not be.
    ///
    /// # Errors
    /// At the end of the run a decided entry holds it.
    pub fn denied(now: u64, client: u64, audit: &Audit) -> Result<(), Violation> {
        if !audit.published.contains(&client) {
            return Ok(());
        }
        Err(Violation::new(
            "S10",
            now,
            format!("a change that was called not made happened: the message of client {client}"),
            [
                format!("client {client} was told that nothing was changed"),
                "a decided entry holds its message".to_owned(),
            ],
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests_support::{entry, image};
    use quorate_membership::ProofPolicy;
    use quorate_membership::entry::Entry;

    #[test]
    fn logs_that_differ_below_the_decided_mark_are_found() {
        let mut audit = Audit::new(ProofPolicy::Device);
        let mut s = S10::new(2);
        let mut found = Vec::new();
        let (mut a, mut b) = (image(1), image(2));
        a.log = vec![entry(1, 1, Entry::Noop), entry(1, 2, Entry::Noop)];
        a.decided = 2;
        s.check(0, 0, &a, &mut audit, &mut found).expect("first");
        assert_eq!((found.len(), audit.log.len()), (2, 2));
        b.log = vec![entry(1, 1, Entry::Noop), entry(2, 9, Entry::Noop)];
        b.decided = 1;
        s.check(0, 1, &b, &mut audit, &mut found)
            .expect("one agrees");
        b.decided = 2;
        let e = s.check(0, 1, &b, &mut audit, &mut found);
        assert_eq!(e.expect_err("differs").property, "S10");
        b.log[1] = a.log[1].clone();
        s.check(0, 1, &b, &mut audit, &mut found)
            .expect("agrees now");
    }

    #[test]
    fn tokens_of_earlier_clusters_are_found() {
        let token = |epoch| Token::new(quorate_membership::Epoch(epoch), 7);
        S10::above(0, token(1), 0).expect("the first cluster");
        S10::above(0, token(4), 3).expect("above");
        let e = S10::above(0, token(3), 3).expect_err("not above");
        assert_eq!(e.property, "S10");
    }

    #[test]
    fn nodes_that_make_different_states_of_the_same_entries_are_found() {
        let mut s = S10::new(2);
        s.state(0, 0, (7, 1)).expect("first");
        s.state(1, 1, (7, 1)).expect("the same");
        s.state(2, 1, (8, 2)).expect("further on");
        let broken = s.state(3, 0, (8, 3)).expect_err("differs");
        assert!(broken.to_string().contains("S10"), "{broken}");
    }
}
