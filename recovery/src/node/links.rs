//! What each link brings: a link, or one direction of it, that is silent evicts nobody while another
//! way is left, but it must not go unnoticed until that is gone too.

use quorate_membership::{LinkId, NodeId, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// When something last came of each node by each link of this one.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    names: Vec<String>,
    began: Time,
    heard: BTreeMap<(u8, NodeId), Time>,
    /// Nodes of which nothing comes by a link any more, as it was last said.
    silent: BTreeMap<u8, BTreeSet<NodeId>>,
    looked: Time,
}

/// A link of which there is something to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) link: String,
    /// The nodes of which nothing comes by it; none if all is well again.
    pub(super) silent: BTreeSet<NodeId>,
}

impl Links {
    pub(super) fn new(now: Time, names: Vec<String>) -> Links {
        Links {
            names,
            began: now,
            heard: BTreeMap::new(),
            silent: BTreeMap::new(),
            looked: now,
        }
    }

    pub(super) fn heard(&mut self, now: Time, link: LinkId, from: NodeId) {
        self.heard.insert((link.0, from), now);
    }

    /// How long nothing came of `node` by the link.
    fn quiet(&self, now: Time, link: u8, node: NodeId) -> Duration {
        let last = self.heard.get(&(link, node)).copied();
        now.since(last.unwrap_or(self.began).max(self.began))
    }

    /// The nodes of `others` of which nothing came by each link for `window`, for people.
    pub(super) fn silent(
        &self,
        now: Time,
        others: &[NodeId],
        window: Duration,
    ) -> Vec<(&str, Vec<NodeId>)> {
        let links = self.names.iter().enumerate();
        links
            .map(|(link, name)| {
                let quiet = |node: &&NodeId| self.quiet(now, link as u8, **node) >= window;
                (
                    name.as_str(),
                    others.iter().filter(quiet).copied().collect(),
                )
            })
            .filter(|(_, silent): &(&str, Vec<NodeId>)| !silent.is_empty())
            .collect()
    }

    /// What changed since the last look, if it is time for one. `others` are the nodes that are
    /// known to be at work: heard by any link, or by a session.
    pub(super) fn changes(
        &mut self,
        now: Time,
        period: Duration,
        window: Duration,
        others: impl FnOnce() -> Vec<NodeId>,
    ) -> Vec<Change> {
        let since = now.since(self.looked);
        if since < period {
            return Vec::new();
        }
        self.looked = now;
        if since > period * 3 {
            // We were paused: what we did not listen to is nobody's silence.
            self.began = now;
            return Vec::new();
        }
        let others = others();
        let mut changes = Vec::new();
        for (link, name) in self.names.iter().enumerate() {
            let link = link as u8;
            let quiet = |node: &&NodeId| self.quiet(now, link, **node) >= window;
            let silent: BTreeSet<NodeId> = others.iter().filter(quiet).copied().collect();
            let before = self.silent.get(&link).cloned().unwrap_or_default();
            let well = silent.is_empty() && !before.is_empty();
            if well || !silent.is_subset(&before) {
                changes.push(Change {
                    link: name.clone(),
                    silent: silent.clone(),
                });
            }
            self.silent.insert(link, silent);
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_told_once_when_it_falls_silent_and_once_when_it_is_well() {
        let at = |s: u64| Time::from_millis(s * 1000);
        let second = Duration::from_secs(1);
        let mut links = Links::new(at(0), vec!["red".into(), "blue".into()]);
        let mut told = Vec::new();
        for s in 1..40 {
            links.heard(at(s), LinkId(0), NodeId(2));
            if !(10..20).contains(&s) {
                links.heard(at(s), LinkId(1), NodeId(2));
            }
            for change in links.changes(at(s), second, second * 4, || vec![NodeId(2)]) {
                told.push((s, change.link, change.silent.len()));
            }
        }
        assert_eq!(told, [(13, "blue".into(), 1), (20, "blue".into(), 0)]);
        // A pause is no silence of the links.
        let late = links.changes(at(100), second, second * 4, || vec![NodeId(2)]);
        assert!(late.is_empty(), "{late:?}");
        let soon = links.changes(at(101), second, second * 4, || vec![NodeId(2)]);
        assert!(soon.is_empty(), "{soon:?}");
    }
}
