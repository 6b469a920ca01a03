//! What the guardian decides, apart from how it sees and acts.

use quorate_membership::Time;
use std::time::Duration;

/// What the guardian sees at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The clock, read after the rest was seen.
    pub now: Time,
    /// The lease end; `None` when no readable record of this boot says one.
    pub lease_end: Option<Time>,
    /// Whether a guest may be running: a registration that is not known to be empty, or a process
    /// that carries the marks.
    pub guests: bool,
    /// Whether a start is under way.
    pub pending: bool,
}

/// What it does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing until this moment.
    Sleep(Time),
    /// Call off every start and end every guest, then look again at this moment.
    End(Time),
}

/// The guardian's memory between two looks.
#[derive(Clone, Copy, Debug)]
pub struct Logic {
    check: Duration,
    repeat: Duration,
    ending: bool,
}

impl Logic {
    /// Looks every `check`, and repeats an ending every `repeat`.
    #[must_use]
    pub fn new(check: Duration, repeat: Duration) -> Logic {
        Logic {
            check,
            repeat,
            ending: false,
        }
    }

    /// Whether an ending has begun that has not found everything gone yet.
    #[must_use]
    pub fn ending(&self) -> bool {
        self.ending
    }

    /// The next step. An ending that has begun goes on until nothing is left, even if the lease
    /// returns meanwhile: a guest of which some processes were ended is not one to leave running.
    pub fn step(&mut self, sight: Sight) -> Step {
        let over = sight.lease_end.is_none_or(|end| sight.now >= end);
        let left = sight.guests || sight.pending;
        self.ending = left && (over || self.ending);
        if self.ending {
            return Step::End(sight.now + self.repeat);
        }
        let next = sight.now + self.check;
        match sight.lease_end {
            Some(end) if !over => Step::Sleep(next.min(end)),
            _ => Step::Sleep(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Time = Time::from_millis;

    fn logic() -> Logic {
        Logic::new(Duration::from_millis(100), Duration::from_millis(20))
    }

    fn sight(now: u64, end: Option<u64>, guests: bool, pending: bool) -> Sight {
        Sight {
            now: T(now),
            lease_end: end.map(T),
            guests,
            pending,
        }
    }

    #[test]
    fn it_wakes_at_the_lease_end_and_ends_then() {
        let mut logic = logic();
        let step = logic.step(sight(1000, Some(1040), true, false));
        assert_eq!(step, Step::Sleep(T(1040)));
        let step = logic.step(sight(1040, Some(1040), true, false));
        assert_eq!(step, Step::End(T(1060)));
    }

    #[test]
    fn no_record_means_over() {
        assert_eq!(logic().step(sight(5, None, true, false)), Step::End(T(25)));
        assert_eq!(logic().step(sight(5, None, false, true)), Step::End(T(25)));
        let idle = logic().step(sight(5, None, false, false));
        assert_eq!(idle, Step::Sleep(T(105)));
    }

    #[test]
    fn a_lease_that_returns_does_not_stop_an_ending() {
        let mut logic = logic();
        logic.step(sight(1000, Some(1000), true, false));
        let again = logic.step(sight(1020, Some(9000), true, false));
        assert_eq!(again, Step::End(T(1040)));
        let pending = logic.step(sight(1040, Some(9000), false, true));
        assert_eq!(pending, Step::End(T(1060)));
        let gone = logic.step(sight(1060, Some(9000), false, false));
        assert_eq!(gone, Step::Sleep(T(1160)));
        let new = logic.step(sight(1160, Some(9000), true, false));
        assert_eq!(
            new,
            Step::Sleep(T(1260)),
            "a guest started under the new lease"
        );
    }
}
