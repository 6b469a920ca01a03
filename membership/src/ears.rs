//! Who was heard, and when: the private opinion of one node about the others.

use crate::frame::Beat;
use crate::id::{Incarnation, NodeId};
use crate::mutants::planted;
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

/// What one node has heard, and for how long it has listened since.
///
/// Silence is measured in *listened* time: a pause of this node, and the time it then takes to read
/// what came meanwhile, is nobody's silence, and takes nothing away from a silence before it. So a
/// node that pauses now and then still notices who is gone.
#[derive(Clone, Debug)]
pub(crate) struct Ears<S> {
    /// Start of this node, later by all time in which it did not listen.
    since: Time,
    /// What came meanwhile is read by then: end of the last pause, and a grace.
    listens_from: Time,
    heard: BTreeMap<NodeId, (Heard<S>, Time)>,
    /// The life heard before the newest one, and when it was heard last.
    before: BTreeMap<NodeId, (Incarnation, Time)>,
}

impl<S> Ears<S> {
    pub(crate) fn new(now: Time) -> Ears<S> {
        Ears {
            since: now,
            listens_from: now,
            heard: BTreeMap::new(),
            before: BTreeMap::new(),
        }
    }

    /// This node was paused from `from` to `now`, and takes up to `grace` to read what came meanwhile.
    pub(crate) fn paused(&mut self, from: Time, now: Time, grace: Duration) {
        let from = from.max(self.listens_from);
        let end = now + grace.min(now.since(from));
        let lost = end.since(from);
        self.listens_from = self.listens_from.max(end);
        self.since = self.since + lost;
        for (_, since) in self.heard.values_mut() {
            *since = *since + lost;
        }
        for (_, since) in self.before.values_mut() {
            *since = *since + lost;
        }
    }

    /// Every window begins anew at `now`: the rule before listened time, planted as a bug.
    pub(crate) fn restart_windows(&mut self, now: Time) {
        self.since = now;
        for (_, since) in self.heard.values_mut() {
            *since = now;
        }
    }

    /// Records a beat, and keeps the `admitted` life of the node in mind beside its newest one; a beat
    /// that is not newer than the newest heard refreshes nothing.
    pub(crate) fn hear(
        &mut self,
        now: Time,
        node: NodeId,
        by: Incarnation,
        beat: Beat<S>,
        admitted: Option<Incarnation>,
    ) {
        if let Some((h, since)) = self.heard.get(&node) {
            if (by.counter, beat.sequence) <= (h.incarnation.counter, h.beat.sequence) {
                if by == h.incarnation {
                    return;
                }
                let before = self.before.entry(node).or_insert((by, now));
                if before.0 == by || Some(by) == admitted {
                    *before = (by, now);
                }
                return;
            }
            let kept = self.before.get(&node).map(|(life, _)| *life);
            let free = kept.is_none() || kept != admitted || Some(h.incarnation) == admitted;
            if h.incarnation != by && free {
                self.before.insert(node, (h.incarnation, *since));
            }
        }
        let heard = Heard {
            at: now,
            incarnation: by,
            beat,
        };
        self.heard.insert(node, (heard, now));
    }

    /// The newest life of `node` is no more: another is heard as if it had never been.
    pub(crate) fn forget_newest(&mut self, node: NodeId) {
        self.heard.remove(&node);
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&Heard<S>> {
        self.heard.get(&node).map(|(h, _)| h)
    }

    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.heard.keys().copied().collect()
    }

    /// Since when nothing was heard of that life of `node` while we listened. Frames of a later life are
    /// no sign of this one.
    pub(crate) fn life_silent_since(&self, node: NodeId, life: Incarnation) -> Time {
        let newest = self.heard.get(&node).filter(|(h, _)| h.incarnation == life);
        let before = self.before.get(&node).filter(|(l, _)| *l == life);
        let last = newest
            .map(|(_, since)| *since)
            .or(before.map(|(_, at)| *at));
        if planted("copy-speaks-for-the-original") {
            return self.silent_since(node);
        }
        last.unwrap_or(Time::ZERO).max(self.since)
    }

    /// Whether that life of `node` was ever heard.
    pub(crate) fn heard_life(&self, node: NodeId, life: Incarnation) -> bool {
        let newest = self.heard.get(&node).map(|(h, _)| h.incarnation);
        let before = self.before.get(&node).map(|(life, _)| *life);
        newest == Some(life) || before == Some(life)
    }

    /// For how long nothing was heard of `node` while we listened.
    pub(crate) fn silent(&self, now: Time, node: NodeId) -> Duration {
        now.since(self.silent_since(node))
    }

    /// Since when nothing was heard of `node`, later by all time in which we did not listen.
    pub(crate) fn silent_since(&self, node: NodeId) -> Time {
        let last = self
            .heard
            .get(&node)
            .map_or(Time::ZERO, |(_, since)| *since);
        last.max(self.since)
    }

    /// Whether we are still reading what came during a pause, or have not listened for more than
    /// `window` since our start.
    pub(crate) fn blind(&self, now: Time, window: Duration) -> bool {
        now < self.listens_from || now.since(self.since) <= window
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Token;

    const NODE: NodeId = NodeId(2);

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn hear(ears: &mut Ears<()>, now: u64, sequence: u64) {
        let beat = Beat {
            sequence,
            hello: None,
            lease_left: Duration::ZERO,
            renewed_ago: Duration::ZERO,
            timing: Token::NONE,
            word: Default::default(),
            full: false,
            unheard: 0,
            hears: 0,
            applied: 0,
            status: (),
        };
        ears.hear(at(now), NODE, Incarnation::default(), beat, None);
    }

    #[test]
    fn a_pause_is_nobodys_silence_and_takes_none_away() {
        let mut ears = Ears::new(at(0));
        hear(&mut ears, 1000, 1);
        assert_eq!(ears.silent(at(3000), NODE), ms(2000));
        // Stopped for 4 s; half a second more to read what came.
        ears.paused(at(3000), at(7000), ms(500));
        assert!(ears.blind(at(7400), ms(100)) && !ears.blind(at(7500), ms(100)));
        assert_eq!(ears.silent(at(7500), NODE), ms(2000));
        assert_eq!(ears.silent(at(8500), NODE), ms(3000));
        hear(&mut ears, 8600, 2);
        assert_eq!(ears.silent(at(8700), NODE), ms(100));
    }

    #[test]
    fn pauses_up_to_half_of_the_time_let_silence_grow() {
        let mut ears = Ears::new(at(0));
        hear(&mut ears, 0, 1);
        for turn in 1..=10 {
            // 0.3 s in each second, and never more grace than the pause was long.
            ears.paused(at(turn * 1000 - 300), at(turn * 1000), ms(700));
        }
        assert_eq!(ears.silent(at(10_300), NODE), ms(4300));
    }

    #[test]
    fn a_start_is_blind_until_it_listened() {
        let mut ears = Ears::<()>::new(at(1000));
        assert!(ears.blind(at(1700), ms(700)) && !ears.blind(at(1701), ms(700)));
        ears.paused(at(1200), at(1500), ms(700));
        assert!(ears.blind(at(2300), ms(700)), "paused meanwhile");
        assert!(!ears.blind(at(2301), ms(700)));
    }
}
