//! The host's part of a step: what the executor wants done, in the order it is safe to do it.

use super::{Node, created, surroundings};
use crate::contract::{Effect, EventKind, GuestAction, NodeWrite};
use crate::executor::{Deed, Elsewhere, Surroundings};
use quorate_membership::entry::Away;
use quorate_membership::{NodeId, Time, Token};

impl Node {
    /// A guest whose disk fails here is tried elsewhere only if another host can take guests and does
    /// not lack the storage itself.
    fn look_elsewhere(&mut self, now: Time) {
        if !self.executor.lacks_storage() {
            return;
        }
        let t = &self.member.cluster().timing;
        let fine = |node: &NodeId| match self.member.heard(now, *node) {
            Some((h, silent)) if silent < t.heartbeat * 2 + t.jitter => {
                let s = &h.beat.status;
                match (!s.blind.is_empty() || s.unfit, s.running == 0) {
                    (true, _) => Elsewhere::None,
                    (false, true) => Elsewhere::Unknown,
                    (false, false) => Elsewhere::Known,
                }
            }
            _ => Elsewhere::None,
        };
        let me = self.member.me();
        let hosts = self.member.cluster().hosts.iter();
        let others = hosts.filter(|(node, h)| **node != me && h.usable());
        let found = others.map(|(node, _)| fine(node)).max();
        self.executor
            .looked_elsewhere(found.unwrap_or(Elsewhere::None));
    }

    /// Brings what runs here in line with the log and the lease, and says what that calls for.
    pub(super) fn host_part(
        &mut self,
        now: Time,
        out: &mut Vec<Effect>,
        writes: &mut Vec<NodeWrite>,
        resting: &mut Vec<Effect>,
    ) {
        self.look_elsewhere(now);
        let s = surroundings!(self, now);
        self.executor.reconcile(&s);
        let (closed, running) = self.executor.bulletin(&s);
        let presentable = self.executor.presentable();
        let settled = presentable && self.executor.settled(&s);
        let over = s.lease_end.is_some_and(|end| now >= end);
        for deed in self.executor.take_deeds() {
            match deed {
                Deed::Write(w) => writes.push(NodeWrite::Executor(w)),
                Deed::Order { order, rests } => {
                    // An end must not be overtaken by the creation it calls off, which may still be
                    // held back for its promise.
                    if order.action == GuestAction::End {
                        self.outbox
                            .held
                            .retain(|(_, e)| created(e) != Some(order.guest));
                        resting.retain(|e| created(e) != Some(order.guest));
                    }
                    if rests {
                        resting.push(Effect::Guest(order));
                    } else {
                        out.push(Effect::Guest(order));
                    }
                }
                Deed::Started(guest, epoch) => {
                    let (me, text) = (self.member.me(), format!("runs under epoch {epoch}"));
                    let e = self.event(epoch, EventKind::Started, Some(me), Some(guest), text);
                    out.push(Effect::Event(e));
                }
                Deed::Ended(guest, epoch, how) => {
                    let me = self.member.me();
                    let e = self.event(epoch, EventKind::Ended, Some(me), Some(guest), how);
                    out.push(Effect::Event(e));
                }
                Deed::Health(guest, text) => {
                    let me = self.member.me();
                    let e = self.event(Token::NONE, EventKind::Health, Some(me), Some(guest), text);
                    out.push(Effect::Event(e));
                }
                Deed::Host(text) => {
                    let me = self.member.me();
                    let e = self.event(Token::NONE, EventKind::Alert, Some(me), None, text);
                    out.push(Effect::Event(e));
                }
                Deed::Hold(guest, epoch, reason) => self.holding.seen(guest, epoch, reason),
                Deed::Locked(guest, epoch) => self.holding.locked(guest, epoch),
                Deed::Alert(guest, text) => {
                    let me = self.member.me();
                    let e = self.event(Token::NONE, EventKind::Alert, Some(me), Some(guest), text);
                    out.push(Effect::Event(e));
                }
            }
        }
        if over && !self.lease_known_over {
            self.lease_known_over = true;
            let text = "the lease of this host is over: its guests are ended".to_owned();
            let e = self.event(
                Token::NONE,
                EventKind::Lease,
                Some(self.member.me()),
                None,
                text,
            );
            out.push(Effect::Event(e));
        }
        let any = !closed.is_empty();
        if self.member.set_bulletin(closed, running) && any {
            self.member.hurry_beat(now);
        }
        self.member.set_status(self.executor.status());
        self.member.set_emptied(self.executor.emptied());
        self.member.set_countable(settled);
        self.member.set_presentable(presentable);
        self.begin_anew();
        self.leave(now);
    }
}
