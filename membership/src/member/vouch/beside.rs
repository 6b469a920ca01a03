//! Lives of one voter that are heard beside each other: a copy and its original.

use super::super::Member;
use crate::app::Application;
use crate::id::{Incarnation, NodeId};
use crate::time::Time;

impl<A: Application> Member<A> {
    /// Says whether the admitted life of `peer` was heard just now, and this is another: no voter is
    /// vouched for beside its original.
    pub(super) fn beside(&self, now: Time, peer: NodeId, life: Incarnation) -> bool {
        let t = &self.cluster().timing;
        let admitted = self.cluster().hosts.get(&peer).map(|h| h.incarnation);
        let other = admitted.filter(|admitted| *admitted != life);
        other.is_some_and(|admitted| {
            let since = self.ears.life_silent_since(peer, admitted);
            self.ears.heard_life(peer, admitted) && now.since(since) < t.heartbeat * 2
        })
    }

    /// Says whether an older life of `peer` is heard beside this newer one.
    pub(in crate::member) fn doubled(&self, peer: NodeId, life: Incarnation) -> bool {
        let recent = self.cluster().timing.heartbeat * 2;
        self.doubles.get(&peer).is_some_and(|d| {
            d.newer == life
                && d.older
                    .is_some_and(|(_, at)| self.last_step.since(at) < recent)
        })
    }
}
