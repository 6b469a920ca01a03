//! Every effect of every node goes into the run hash: two runs of one seed must agree in all of them.

use super::nodes::datagram_kind;
use super::{Sim, SimNode};
use quorate_recovery::contract::{Effect, To};

impl<N: SimNode> Sim<N> {
    pub(super) fn hash_effect(&mut self, effect: &Effect) {
        let h = &mut self.hash;
        match effect {
            Effect::Persist { batch, writes } => {
                h.add(1);
                h.add(batch << 8 | writes.len() as u64);
            }
            Effect::Datagram { to, frame } => {
                h.add(2);
                h.add(frame.header.number << 4 | datagram_kind(frame));
                if let To::Nodes(nodes) = to {
                    nodes.iter().for_each(|n| h.add(n.0.into()));
                }
            }
            Effect::Stream { peer, .. } => h.add(3 | u64::from(peer.0) << 8),
            Effect::Guest(o) => {
                h.add(4);
                h.add(o.order);
                h.add(o.guest.0);
                h.add(o.epoch.0);
                h.add(o.not_after.map_or(0, |t| t.0));
            }
            Effect::Fence(l) => {
                h.add(5);
                h.add(l.attempt.0);
                h.add(l.not_after.0);
            }
            Effect::Lease { end } => {
                h.add(6);
                h.add(end.0);
            }
            Effect::Event(e) => {
                h.add(7);
                h.add(e.token.0 << 8 | e.kind as u64);
            }
            Effect::Published { token, .. } => h.add(12 | token.0 << 8),
            Effect::Reply { client, result } => {
                h.add(8);
                h.add(client << 1 | u64::from(result.is_ok()));
            }
            Effect::Restart { .. } => h.add(9),
            Effect::Exit { .. } => h.add(10),
            Effect::Wait { until } => {
                h.add(11);
                h.add(until.0);
            }
        }
    }
}
