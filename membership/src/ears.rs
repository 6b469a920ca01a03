//! Who was heard, and when: the private opinion of one node about the others.

use crate::frame::Beat;
use crate::id::{Incarnation, NodeId};
use crate::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// The newest beat heard of a node.
#[derive(Clone, Debug)]
pub struct Heard<S> {
    /// When it came in.
    pub at: Time,
    /// The incarnation that sent it.
    pub incarnation: Incarnation,
    /// The beat.
    pub beat: Beat<S>,
}

/// What one node has heard since it last was able to hear.
#[derive(Clone, Debug)]
pub(crate) struct Ears<S> {
    /// Start, or end of the last pause: nobody is called silent for time we did not listen.
    since: Time,
    heard: BTreeMap<NodeId, Heard<S>>,
}

impl<S> Ears<S> {
    pub(crate) fn new(now: Time) -> Ears<S> {
        Ears {
            since: now,
            heard: BTreeMap::new(),
        }
    }

    /// We were paused until now, so no silence before this moment counts.
    pub(crate) fn reopened(&mut self, now: Time) {
        self.since = now;
    }

    /// Records a beat; one that is not newer than the newest heard refreshes nothing.
    pub(crate) fn hear(&mut self, now: Time, node: NodeId, by: Incarnation, beat: Beat<S>) {
        if let Some(h) = self.heard.get(&node)
            && (by.counter, beat.sequence) <= (h.incarnation.counter, h.beat.sequence)
        {
            return;
        }
        self.heard.insert(
            node,
            Heard {
                at: now,
                incarnation: by,
                beat,
            },
        );
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&Heard<S>> {
        self.heard.get(&node)
    }

    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.heard.keys().copied().collect()
    }

    /// For how long nothing was heard of `node` while we listened.
    pub(crate) fn silent(&self, now: Time, node: NodeId) -> Duration {
        now.since(self.silent_since(node))
    }

    /// Since when nothing was heard of `node` while we listened.
    pub(crate) fn silent_since(&self, node: NodeId) -> Time {
        let last = self.heard.get(&node).map_or(Time::ZERO, |h| h.at);
        last.max(self.since)
    }

    /// Whether we have not listened for `window` yet.
    pub(crate) fn blind(&self, now: Time, window: Duration) -> bool {
        now.since(self.since) < window
    }
}
