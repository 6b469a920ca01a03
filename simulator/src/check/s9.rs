//! S9. The accidents: a healthy guest is reset or ended because a monitor could not see, or took an
//! odd look for death; and the other way round, a dead guest is left alone though it was seen.

use super::{At, HostName, Violation};
use quorate_recovery::guest::GuestId;

/// What really goes on inside a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It does a little of everything.
    Works,
    /// It computes and does nothing else.
    Computes,
    /// Its kernel works, what it is for does not.
    Sick,
    /// Its kernel panicked.
    Panicked,
    /// Its kernel is dead and spins.
    Spins,
    /// Its kernel is dead and halted.
    Halted,
}

impl Mood {
    /// Whether nothing is wrong with it.
    #[must_use]
    pub fn well(self) -> bool {
        matches!(self, Mood::Works | Mood::Computes)
    }

    /// Whether its kernel is dead.
    #[must_use]
    pub fn dead(self) -> bool {
        matches!(self, Mood::Panicked | Mood::Spins | Mood::Halted)
    }
}

/// A guest that reaches its storage for so long no more may be tried elsewhere, in nanoseconds: five
/// minutes, less what clocks may err. One whose disk is full waits for room, for ever.
const STORAGE_LOST: u64 = 280_000_000_000;

/// A host remedies a guest that is in that mood since then, and has lost its storage for so long.
///
/// # Errors
/// Nothing is wrong with it.
pub fn remedied(
    now: u64,
    host: usize,
    guest: GuestId,
    (mood, since): (Mood, u64),
    storage_lost: Option<u64>,
    said: &str,
) -> Result<(), Violation> {
    if !mood.well() || storage_lost.is_some_and(|ns| ns >= STORAGE_LOST) {
        return Ok(());
    }
    Err(Violation::new(
        "S9",
        now,
        format!("{} remedies a healthy guest", HostName(host)),
        [
            format!("it says of {guest}: {said}"),
            format!("the guest {mood:?} since {}", At(since)),
        ],
    ))
}

/// How well a guest has been seen by one life of its host's daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// Looks in a row, undisturbed, that showed it at work and its agent answering.
    well: u32,
    /// Undisturbed looks in a row since its kernel died.
    dead: u32,
    /// It died in full sight.
    known: bool,
}

/// Looks at a working guest after which its death must be noticed: the time it is left alone after it
/// was let go on, and what is learned then.
const KNOWN: u32 = 14;

impl Sight {
    /// One more look. `undisturbed`: since the last one nothing stood between guest, daemon and
    /// lease. `most`: so many looks at a dead one are enough for a remedy.
    ///
    /// # Errors
    /// It is dead, was seen for long enough, and nothing was done about it.
    pub fn look(
        &mut self,
        now: u64,
        host: usize,
        guest: GuestId,
        (mood, since): (Mood, u64),
        (undisturbed, answers, most): (bool, bool, u32),
    ) -> Result<(), Violation> {
        if !undisturbed {
            (self.well, self.dead) = (0, 0);
        }
        if !mood.dead() {
            self.known = false;
            self.dead = 0;
            self.well = if mood == Mood::Works && answers {
                self.well.saturating_add(1)
            } else {
                0
            };
            return Ok(());
        }
        self.known |= mood == Mood::Panicked || self.well >= KNOWN;
        self.well = 0;
        self.dead += 1;
        if !self.known || self.dead <= most {
            return Ok(());
        }
        Err(Violation::new(
            "S9",
            now,
            format!("{} leaves a dead guest alone", HostName(host)),
            [
                format!("{guest} is {mood:?} since {}", At(since)),
                format!("it was looked at {} times since, undisturbed", self.dead),
            ],
        ))
    }

    /// Something was done about it: what follows is seen anew.
    pub fn remedied(&mut self) {
        self.dead = 0;
    }

    /// What it did makes a later death hard to tell; none of it is promised to be noticed.
    pub fn blurred(&mut self) {
        *self = Sight::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ill_is_remedied() {
        let g = GuestId(3);
        let judge = |mood| remedied(9, 1, g, (mood, 5), None, "is reset");
        for mood in [Mood::Sick, Mood::Panicked, Mood::Spins, Mood::Halted] {
            judge(mood).expect("ill");
        }
        for mood in [Mood::Works, Mood::Computes] {
            assert_eq!(judge(mood).expect_err("well").property, "S9");
        }
        let without_storage = |ns| remedied(9, 1, g, (Mood::Works, 5), Some(ns), "is reset");
        without_storage(STORAGE_LOST).expect("it may work elsewhere");
        assert!(without_storage(STORAGE_LOST - 1).is_err(), "too soon");
    }

    #[test]
    fn a_dead_guest_in_full_sight_is_not_left_alone() {
        let g = GuestId(3);
        let look =
            |s: &mut Sight, mood, undisturbed| s.look(9, 1, g, (mood, 5), (undisturbed, true, 4));
        let mut s = Sight::default();
        for _ in 0..KNOWN {
            look(&mut s, Mood::Works, true).expect("well");
        }
        for _ in 0..4 {
            look(&mut s, Mood::Spins, true).expect("in time");
        }
        look(&mut s, Mood::Spins, false).expect("disturbed: counts anew");
        for _ in 0..3 {
            look(&mut s, Mood::Spins, true).expect("in time");
        }
        assert!(look(&mut s, Mood::Spins, true).is_err());
        s.remedied();
        look(&mut s, Mood::Spins, true).expect("something was done");
        let mut s = Sight::default();
        look(&mut s, Mood::Works, true).expect("well");
        for _ in 0..40 {
            look(&mut s, Mood::Halted, true).expect("nobody knew it");
        }
        let mut s = Sight::default();
        for _ in 0..4 {
            look(&mut s, Mood::Panicked, true).expect("in time");
        }
        assert!(
            look(&mut s, Mood::Panicked, true).is_err(),
            "it says so itself"
        );
    }
}
