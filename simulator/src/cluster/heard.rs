//! The driver's part of hearing a datagram once: numbers of one sender's incarnation, by link.

use quorate_membership::Incarnation;

/// The last 128 numbers heard of one sender.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    incarnation: u64,
    highest: u64,
    seen: u128,
}

impl Heard {
    /// Whether this number is heard for the first time, and may be heard at all.
    pub(super) fn fresh(&mut self, incarnation: Incarnation, number: u64) -> bool {
        if incarnation.counter != self.incarnation {
            if incarnation.counter < self.incarnation {
                return false;
            }
            *self = Heard {
                incarnation: incarnation.counter,
                highest: number,
                seen: 1,
            };
            return true;
        }
        if number > self.highest {
            let ahead = number - self.highest;
            self.seen = if ahead < 128 { self.seen << ahead } else { 0 } | 1;
            self.highest = number;
            return true;
        }
        let behind = self.highest - number;
        if behind >= 128 || self.seen >> behind & 1 == 1 {
            return false;
        }
        self.seen |= 1 << behind;
        true
    }
}
