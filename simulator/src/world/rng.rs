//! Random numbers whose sequence is pinned here for ever.
//!
//! A seed must name the same schedule in every release, so no library generator is used:
//! xoshiro256** seeded through SplitMix64 (both public domain, Blackman and Vigna). Every purpose
//! draws from a stream of its own, so that one more draw in one place moves nothing elsewhere.

/// What a stream of random numbers is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Shape of the run: how many nodes, which faults are on.
    Shape = 1,
    /// Delays, losses and duplicates.
    Network = 2,
    /// Write delays and what a crash keeps.
    Disk = 3,
    /// Offsets and rates.
    Clock = 4,
    /// The fault schedule.
    Faults = 5,
    /// Fence devices.
    Fence = 6,
    /// Guests and hypervisors.
    Guests = 7,
    /// Starts, stalls and late timers of processes.
    Process = 8,
    /// What clients ask.
    Clients = 9,
    /// What goes on inside guests.
    Minds = 10,
    /// What befalls guests.
    Ills = 11,
    /// Random graphs and orders of shapes.
    Shapes = 12,
    /// The schedule of shapes, links and triggers.
    Twists = 13,
    /// What carries the datagrams.
    Carrier = 14,
    /// The schedule of what becomes of guardians.
    Guardians = 15,
    /// What one node of a protocol draws for itself.
    Node = 20,
    /// Mixes aimed at one rule.
    Aimed = 21,
    /// Which faults are left out together.
    Shrink = 22,
    /// Starts, stalls and boots of a host's daemon.
    Host = 23,
}

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub struct Rng {
    s: [u64; 4],
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Rng {
    /// The stream of `seed` for `purpose`.
    #[must_use]
    pub fn new(seed: u64, purpose: Stream) -> Rng {
        let mut state = seed;
        let mixed = split_mix(&mut state) ^ (purpose as u64).wrapping_mul(0xD134_2543_DE82_EF95);
        let mut state = mixed;
        Rng {
            s: std::array::from_fn(|_| split_mix(&mut state)),
        }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.s;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number from `low` to `high`, both included; `low` if the range is empty.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        if high <= low {
            return low;
        }
        let span = high - low + 1;
        if span == 0 {
            return self.bits();
        }
        // The high word of a product: no division, and a bias far below what a run can show.
        low + ((u128::from(self.bits()) * u128::from(span)) >> 64) as u64
    }

    /// An index below `n`; 0 if `n` is 0.
    pub fn index(&mut self, n: usize) -> usize {
        self.range(0, (n as u64).saturating_sub(1)) as usize
    }

    /// True in `per_million` of a million draws. Draws nothing for 0.
    pub fn chance(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.range(0, 999_999) < u64::from(per_million)
    }
}

/// Random numbers of many sources of one purpose: links, disks, processes. Each draw has a stream of
/// its own, named by seed, purpose, source and the number of that draw at its source. So a fault left
/// out of a plan changes the draws of what it touched and no others; with one stream for all, every
/// later delay of the run would be another one.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Mixed from seed and purpose.
    base: u64,
    /// Draws made so far, by source.
    drawn: Vec<u64>,
}

impl Sources {
    /// The streams of `seed` for `purpose`, of so many sources numbered from 0.
    #[must_use]
    pub fn new(seed: u64, purpose: Stream, sources: usize) -> Sources {
        Sources {
            base: Rng::new(seed, purpose).bits(),
            drawn: vec![0; sources],
        }
    }

    /// The stream of the next draw of this source.
    pub fn next(&mut self, source: usize) -> Rng {
        let number = self.drawn[source];
        self.drawn[source] += 1;
        let mut state = self.base ^ (source as u64 + 1).wrapping_mul(0xA24B_AED4_963E_E407);
        let mut state = split_mix(&mut state) ^ number.wrapping_mul(0x9FB2_1C65_1E98_DF25);
        Rng {
            s: std::array::from_fn(|_| split_mix(&mut state)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_of_one_source_moves_no_draw_of_another() {
        let all = |skip: bool| {
            let mut sources = Sources::new(5, Stream::Network, 2);
            if !skip {
                let _ = sources.next(0).bits();
                let _ = (sources.next(0).bits(), sources.next(0).bits());
            }
            // However much one draw takes, the next one of its source is the same.
            let mut first = sources.next(1);
            if skip {
                let _ = first.bits();
            }
            sources.next(1).bits()
        };
        assert_eq!(all(true), all(false));
        let mut sources = Sources::new(5, Stream::Network, 2);
        let seen: std::collections::BTreeSet<u64> = (0..1000)
            .flat_map(|_| [sources.next(0).bits(), sources.next(1).bits()])
            .collect();
        assert_eq!(seen.len(), 2000);
    }

    #[test]
    fn the_algorithm_is_pinned() {
        let mut a = Rng::new(1, Stream::Network);
        let first: Vec<u64> = (0..3).map(|_| a.bits()).collect();
        let mut b = Rng::new(1, Stream::Network);
        assert_eq!(first, (0..3).map(|_| b.bits()).collect::<Vec<_>>());
        let mut reference = Rng { s: [1, 2, 3, 4] };
        // First outputs of the reference implementation for the state 1, 2, 3, 4.
        assert_eq!(
            [reference.bits(), reference.bits(), reference.bits()],
            [11_520, 0, 1_509_978_240]
        );
    }

    #[test]
    fn streams_of_one_seed_differ_and_ranges_hold() {
        let (mut a, mut b) = (Rng::new(7, Stream::Disk), Rng::new(7, Stream::Clock));
        assert_ne!(a.bits(), b.bits());
        let mut seen = [0u32; 5];
        for _ in 0..10_000 {
            seen[a.range(10, 14) as usize - 10] += 1;
        }
        assert!(seen.iter().all(|n| *n > 1800), "{seen:?}");
        assert_eq!(a.range(9, 3), 9);
        assert!(!a.chance(0) && a.chance(1_000_000));
    }
}
