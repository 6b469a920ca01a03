//! Each datagram of a sender is heard once, whatever the links repeat.

use crate::id::Incarnation;

/// Remembers which numbers of one sender's incarnation were heard.
///
/// A number more than 127 below the highest is refused unheard: it is at least a minute late.
/// (The window of RFC 4303, appendix A2.)
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplayWindow {
    incarnation: Incarnation,
    highest: u64,
    seen: u128,
}

impl ReplayWindow {
    /// Whether this number is heard for the first time. A newer incarnation starts afresh, an
    /// older one is never heard again.
    pub fn fresh(&mut self, incarnation: Incarnation, number: u64) -> bool {
        if incarnation.counter < self.incarnation.counter {
            return false;
        }
        if incarnation.counter > self.incarnation.counter {
            *self = ReplayWindow {
                incarnation,
                highest: number,
                seen: 1,
            };
            return true;
        }
        if incarnation != self.incarnation {
            return false;
        }
        if number > self.highest {
            let ahead = number - self.highest;
            self.seen = if ahead < 128 { self.seen << ahead } else { 0 };
            self.seen |= 1;
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

    /// The newest incarnation heard.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_heard_once_and_only_of_the_newest_incarnation() {
        let inc = |counter| Incarnation { counter, random: 7 };
        let mut w = ReplayWindow::default();
        for n in [1, 3, 2, 200, 199] {
            assert!(w.fresh(inc(1), n), "{n}");
            assert!(!w.fresh(inc(1), n), "{n} again");
        }
        assert!(!w.fresh(inc(1), 4), "far below the window");
        assert!(w.fresh(inc(2), 1));
        assert!(!w.fresh(inc(1), 300), "an older incarnation");
        assert!(
            !w.fresh(
                Incarnation {
                    counter: 2,
                    random: 8
                },
                9
            ),
            "a clone"
        );
    }
}
