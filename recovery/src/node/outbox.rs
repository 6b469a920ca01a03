//! Effects on their way out, in the order they may leave.

use crate::contract::Effect;
use crate::mutants::planted;
use std::collections::VecDeque;

/// Holds back what rests on writes that are not durable yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) batch: u64,
    pub(super) durable: u64,
    pub(super) held: VecDeque<(u64, Effect)>,
    datagrams: u64,
    /// The store failed: what rests on a write never leaves.
    pub(super) failed: bool,
}

impl Outbox {
    /// Takes what rests on every batch so far; it leaves at once if they are durable.
    pub(super) fn rest(&mut self, resting: &mut Vec<Effect>, out: &mut Vec<Effect>) {
        for effect in resting.drain(..) {
            if self.held.is_empty() && self.batch <= self.durable {
                self.leave(effect, out);
            } else {
                self.held.push_back((self.batch, effect));
            }
        }
        self.release(out);
    }

    pub(super) fn release(&mut self, out: &mut Vec<Effect>) {
        while let Some((batch, _)) = self.held.front()
            && (*batch <= self.durable || planted("sent-before-durable"))
        {
            if let Some((_, effect)) = self.held.pop_front() {
                self.leave(effect, out);
            }
        }
    }

    /// Every datagram is numbered as it leaves: numbers rise in the order of sending.
    pub(super) fn leave(&mut self, mut effect: Effect, out: &mut Vec<Effect>) {
        if let Effect::Datagram { frame } = &mut effect {
            self.datagrams += 1;
            frame.header.number = self.datagrams;
        }
        out.push(effect);
    }
}
