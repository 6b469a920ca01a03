//! Replay windows of a node: its datagrams are taken once each, of its newest life and the one before.

use crate::id::Incarnation;
use crate::replay::ReplayWindow;
use crate::time::Time;

/// A newer life of a node that is heard, and the older one, if that was heard after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubles {
    pub(super) newer: Incarnation,
    pub(super) older: Option<(Incarnation, Time)>,
}

/// Numbers of a node's datagrams that were heard: of its newest life, and of the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Windows {
    pub(super) newer: ReplayWindow,
    pub(super) older: ReplayWindow,
    /// Time at which the newest life was heard last.
    pub(super) heard: Time,
}

impl Windows {
    /// Says whether this number of that life is heard for the first time; `admitted` is not forgotten for
    /// a newer one.
    pub(super) fn fresh(
        &mut self,
        now: Time,
        (life, number): (Incarnation, u64),
        admitted: Incarnation,
    ) -> bool {
        if life == self.older.incarnation() {
            return self.older.fresh(life, number);
        }
        let newest = self.newer.incarnation();
        if life.counter > newest.counter && self.older.incarnation() != admitted {
            self.older = self.newer;
        }
        let fresh = self.newer.fresh(life, number);
        if fresh {
            self.heard = now;
        }
        fresh
    }
}
