//! L2. The accident: a majority is there, connected well enough, and yet nothing is decided and
//! nobody acts, because the links that are missing are the wrong ones.

use super::{At, Violation};

/// Whether some voter has two-way links to q−1 other living voters. `linked(a, b)` says whether
/// messages pass both ways.
pub fn quorum_connected(
    voters: &[usize],
    alive: impl Fn(usize) -> bool,
    linked: impl Fn(usize, usize) -> bool,
) -> Option<usize> {
    let quorum = voters.len() / 2 + 1;
    voters.iter().copied().find(|&v| {
        let near = |&&o: &&usize| o == v || alive(o) && linked(v, o);
        alive(v) && voters.iter().filter(near).count() >= quorum
    })
}

/// One stretch of time in which the condition of L2 holds.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    /// Since when it holds, with every session and process settled.
    pub since: u64,
    /// The voter that is connected to a quorum.
    pub hub: usize,
    /// Fresh entries decided when it began.
    pub decided: u64,
}

impl Stretch {
    /// The time for a fresh entry is over.
    ///
    /// # Errors
    /// None was decided.
    pub fn decided(&self, now: u64, decided: u64) -> Result<(), Violation> {
        if decided > self.decided {
            return Ok(());
        }
        Err(self.broken(now, "no fresh entry was decided since".into()))
    }

    /// The time for a coordinator is over.
    ///
    /// # Errors
    /// Nobody acts.
    pub fn acting(&self, now: u64, acting: Option<usize>) -> Result<(), Violation> {
        if acting.is_some() {
            return Ok(());
        }
        Err(self.broken(now, format!("nobody acts as coordinator at {}", At(now))))
    }

    fn broken(&self, now: u64, second: String) -> Violation {
        let hub = super::HostName(self.hub);
        Violation::new(
            "L2",
            now,
            "a connected majority does nothing".into(),
            [
                format!(
                    "{hub} has two-way links to a quorum since {}",
                    At(self.since)
                ),
                second,
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_counts_even_if_nobody_else_is_linked() {
        let star = |a: usize, b: usize| a == 2 || b == 2;
        let voters = [0, 1, 2, 3, 4];
        assert_eq!(quorum_connected(&voters, |_| true, star), Some(2));
        assert_eq!(quorum_connected(&voters, |v| v != 2, star), None);
        let halves = |a: usize, b: usize| (a < 2) == (b < 2);
        assert_eq!(quorum_connected(&voters, |_| true, halves), Some(2));
        let s = Stretch {
            since: 0,
            hub: 2,
            decided: 7,
        };
        assert!(s.decided(9, 7).is_err() && s.decided(9, 8).is_ok());
        assert!(s.acting(9, None).is_err() && s.acting(9, Some(1)).is_ok());
    }
}
