//! What Raft promises, judged by what its nodes tell.

use super::message::{Entry, Fact};
use super::node::Node;
use quorate_simulator::protocol::{Broken, Promise, Told, Truth, Verdict};
use quorate_simulator::world::SECOND;
use std::collections::BTreeMap;

/// Time after the healing in which something new must have been decided.
const PROGRESS: u64 = 5 * SECOND;

/// One leader a term, one entry a place, reads that miss nothing, and progress where a node reaches
/// a quorum.
#[derive(Default)]
pub(crate) struct Raft {
    leaders: BTreeMap<u64, Told<Fact>>,
    entries: BTreeMap<usize, (Entry, Told<Fact>)>,
    /// The longest log that a client knows to be decided, and who told it.
    acknowledged: Option<(usize, Told<Fact>)>,
    /// What was acknowledged when a read was asked for.
    asked: BTreeMap<u64, Option<(usize, Told<Fact>)>>,
    /// Something was applied long enough after the healing.
    progress: bool,
}

impl Promise<Node> for Raft {
    fn told(&mut self, told: &Told<Fact>, truth: &Truth<'_, Node>) -> Verdict {
        match &told.fact {
            Fact::Leads { term } => {
                if let Some(other) = self.leaders.get(term)
                    && other.node != told.node
                {
                    let what = format!("two nodes lead term {term}");
                    return Err(Broken::new("one leader a term", what).facts(other, told));
                }
                self.leaders.insert(*term, told.clone());
            }
            Fact::Applied { length, entry } => {
                self.progress |= truth.settled_for().is_some_and(|t| t >= PROGRESS);
                let known = self.entries.entry(*length);
                let known = known.or_insert_with(|| (*entry, told.clone()));
                if known.0 != *entry {
                    let what = format!("two entries are decided at place {length}");
                    return Err(Broken::new("one entry a place", what).facts(&known.1, told));
                }
            }
            Fact::Acknowledged { length } => {
                if self.acknowledged.as_ref().is_none_or(|a| a.0 < *length) {
                    self.acknowledged = Some((*length, told.clone()));
                }
            }
            Fact::Asks { read } => {
                self.asked.insert(*read, self.acknowledged.clone());
            }
            Fact::Read { read, length } => {
                if let Some(Some((least, by))) = self.asked.remove(read)
                    && *length < least
                {
                    let what = format!("a read misses entries {} to {least}", length + 1);
                    return Err(Broken::new("reads are fresh", what).facts(by, told));
                }
            }
        }
        Ok(())
    }

    /// Raft promises progress where a majority of its nodes reach each other both ways.
    fn owed(&self, truth: &Truth<'_, Node>) -> bool {
        let up: Vec<usize> = truth.up().map(|(node, _)| node).collect();
        let linked = |a: usize| {
            up.iter()
                .filter(|b| a == **b || truth.linked(a, **b))
                .count()
        };
        up.iter().filter(|node| linked(**node) == up.len()).count() > truth.nodes() / 2
    }

    fn due(&mut self, truth: &Truth<'_, Node>) -> Verdict {
        if self.progress || truth.settled_for().is_none_or(|t| t < PROGRESS + SECOND) {
            return Ok(());
        }
        let what = "nothing was decided after the trouble";
        let facts = [
            "a majority reach everybody both ways",
            "no node applied anything",
        ];
        Err(Broken::new("progress", what).facts(facts[0], facts[1]))
    }
}
