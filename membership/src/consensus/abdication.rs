//! A leader that datagrams reach and log messages do not.
//!
//! Elections go by datagrams, so it would keep its place although nothing is decided: its sessions
//! open, choke on what does not pass, break and open again. After some election rounds without a
//! decision it answers no heartbeat of an election. The others miss it and elect one of themselves,
//! who may do better; where they cannot, it leads on as before.

/// Rounds that a leader whom a quorum follows may go without a decision.
const PATIENCE: u32 = 10;
/// Rounds for which it is silent then; a leader that is gone is replaced in three.
const SILENCE: u32 = 5;

/// How long this leader has decided nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Abdication {
    decided: u64,
    rounds: u32,
    silent: u32,
}

impl Abdication {
    /// An election round has ended, and this voter leads, followed by a quorum, or does not.
    pub(super) fn round_over(&mut self, leads: bool, undecided: bool, decided: u64) {
        self.silent = if leads {
            self.silent.saturating_sub(1)
        } else {
            0
        };
        let stands = leads && undecided && decided == self.decided;
        self.decided = decided;
        self.rounds = if stands { self.rounds + 1 } else { 0 };
        if self.rounds >= PATIENCE {
            self.rounds = 0;
            self.silent = SILENCE;
        }
    }

    /// This voter wants to lead no more.
    pub(super) fn at_once(&mut self) {
        self.silent = SILENCE;
    }

    /// Whether others are to miss this leader.
    pub(super) fn silent(&self) -> bool {
        self.silent > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_leader_that_decides_nothing_falls_silent_and_not_for_ever() {
        let mut a = Abdication::default();
        for n in 0..100 {
            a.round_over(true, true, n);
            assert!(!a.silent(), "it decides");
        }
        for _ in 0..100 {
            a.round_over(true, false, 99);
            a.round_over(false, true, 99);
            assert!(!a.silent(), "nothing is asked of it, or it does not lead");
        }
        let falls = (1..).find(|_| {
            a.round_over(true, true, 99);
            a.silent()
        });
        assert_eq!(falls, Some(PATIENCE));
        a.round_over(false, true, 99);
        assert!(!a.silent(), "another leads");
        let silent = (0..PATIENCE + SILENCE)
            .filter(|_| {
                a.round_over(true, true, 99);
                a.silent()
            })
            .count();
        assert_eq!(silent as u32, SILENCE);
    }
}
