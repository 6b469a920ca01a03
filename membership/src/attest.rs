//! The host's own word on who ends its guests at lease end.
//!
//! A word is a claim about the present. It is kept by the guardian's counter, which the owner reads
//! before each beat leaves; while the counter stands still, the lease is renewed only if the log
//! knows that nobody stands behind it. Words are numbered within an incarnation, so that an older
//! one that is entered late is void.

use crate::cluster::Host;
use crate::entry::Armed;
use crate::mutants::planted;
use crate::time::Time;
use crate::timing::Timing;
use serde::{Deserialize, Serialize};

/// What a beat says of who ends the sender's guests at lease end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Rises with every change within one incarnation; 0 before the first word.
    pub number: u64,
    /// Who does; `None`: nobody but the daemon itself.
    pub armed: Option<Armed>,
}

/// A reading of the guardian's counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// What stands behind the lease.
    pub armed: Armed,
    /// Raised by the thread that ends guests, each time it looks.
    pub count: u64,
    /// When it was raised last, by the clock of this node.
    pub at: Time,
    /// When the third last guardian of this boot began: three within a lease guard nothing.
    pub third_start: Option<Time>,
}

/// What this host can say, and what it said.
#[derive(Clone, Debug)]
pub(crate) struct Attest {
    /// Guests may run here. Nobody need stand behind the lease of a node without.
    guarded: bool,
    word: Word,
    pulse: Option<Pulse>,
    /// When this life began.
    began: Time,
    /// The last moment at which a guardian is known to have looked.
    moved: Option<Time>,
}

impl Attest {
    pub(crate) fn new(now: Time, guarded: bool) -> Attest {
        Attest {
            guarded,
            word: Word::default(),
            pulse: None,
            began: now,
            moved: None,
        }
    }

    pub(crate) fn word(&self) -> Word {
        self.word
    }

    /// Takes a reading; `None`: no guardian is to be found that can be trusted.
    pub(crate) fn read(&mut self, now: Time, pulse: Option<Pulse>, timing: &Timing) {
        if let Some(p) = pulse
            && self.pulse.is_none_or(|old| old.count != p.count)
            && !restless(now, &p, timing)
        {
            // The stamp, not this moment: it may have stood still since.
            self.moved = self.moved.max(Some(p.at.min(now)));
        }
        self.pulse = pulse.or(self.pulse.filter(|_| planted("counter-not-read")));
    }

    /// Changes the word if it is not true any more; gives whether it did.
    pub(crate) fn judge(&mut self, now: Time, timing: &Timing) -> bool {
        if !self.guarded {
            return false;
        }
        let last = self.moved.unwrap_or(Time::ZERO);
        let stands = |since: Time| now.since(since) >= timing.pause_margin;
        let moves = self.moved.is_some() && !stands(last) || planted("counter-not-read");
        let armed = match self.pulse {
            Some(p) if moves && !restless(now, &p, timing) => Some(p.armed),
            _ if stands(last.max(self.began)) => None,
            // Too early to say that it is gone.
            _ => return false,
        };
        if self.word.number > 0 && self.word.armed == armed {
            return false;
        }
        self.word = Word {
            number: self.word.number + 1,
            armed,
        };
        true
    }

    /// The moment up to which somebody stands behind the lease, or the log knows that nobody does:
    /// no renewal counts from later. `record` is what the log has of this incarnation.
    pub(crate) fn bound(&self, record: Option<&Host>, timing: &Timing) -> Option<Time> {
        if !self.guarded || planted("counter-not-read") {
            return Some(Time::NEVER);
        }
        let unarmed = self.word.number > 0 && self.word.armed.is_none();
        let entered = record.is_some_and(|r| r.word >= self.word.number);
        if unarmed && (entered || planted("unarmed-still-renews")) {
            return Some(Time::NEVER);
        }
        // Between two looks of a guardian at work lies a tenth of the pause margin.
        self.moved.map(|at| at + timing.pause_margin / 4)
    }
}

/// A guardian that does not stay is none.
fn restless(now: Time, pulse: &Pulse, timing: &Timing) -> bool {
    pulse
        .third_start
        .is_some_and(|at| now.since(at) < timing.lease)
}

#[cfg(test)]
mod tests;
