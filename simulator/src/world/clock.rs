//! A node's own clock: it starts anywhere and runs a little too fast or too slow.

/// One clock. Reading = offset + true time · (1 + rate).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Reading at true time zero, in nanoseconds.
    pub offset: u64,
    /// Rate error in parts per billion; positive is fast.
    pub rate_ppb: i64,
}

const SECOND: i64 = 1_000_000_000;

impl Clock {
    /// What the clock shows at true time `t`.
    #[must_use]
    pub fn reading(&self, t: u64) -> u64 {
        let t = t as i64;
        // Split so that nothing overflows for centuries: whole seconds are exact.
        let drift = (t / SECOND) * self.rate_ppb + (t % SECOND * self.rate_ppb).div_euclid(SECOND);
        (self.offset as i64 + t + drift) as u64
    }

    /// The first true time at which the clock shows at least `reading`; 0 if it always did, and
    /// `u64::MAX` for a reading beyond every run.
    #[must_use]
    pub fn true_time(&self, reading: u64) -> u64 {
        if reading <= self.offset {
            return 0;
        }
        let span = reading - self.offset;
        if span > 1 << 61 {
            return u64::MAX;
        }
        // span · SECOND / own, in two steps that fit into 64 bits.
        let own = (SECOND + self.rate_ppb).max(1) as u64;
        let mut t = span / own * SECOND as u64 + span % own * SECOND as u64 / own;
        while self.reading(t) < reading {
            t += 1;
        }
        while t > 0 && self.reading(t - 1) >= reading {
            t -= 1;
        }
        t
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn true_time_is_the_first_moment_of_a_reading(
            offset in 0u64..1 << 50, rate_ppb in -20_000_000i64..20_000_000, t in 0u64..1 << 52
        ) {
            let c = Clock { offset, rate_ppb };
            let r = c.reading(t);
            let first = c.true_time(r);
            prop_assert!(first <= t && c.reading(first) >= r);
            prop_assert!(first == 0 || c.reading(first - 1) < r);
            prop_assert!(c.reading(t + 1) >= r);
        }
    }

    #[test]
    fn rates_add_up() {
        let fast = Clock {
            offset: 5,
            rate_ppb: 1_000_000,
        };
        assert_eq!(fast.reading(1_000_000_000_000), 5 + 1_001_000_000_000);
        assert_eq!(fast.true_time(u64::MAX), u64::MAX);
    }
}
