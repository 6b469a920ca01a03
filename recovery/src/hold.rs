//! Holds: a guest that is not placed, and not started where that is in doubt, until a person (or
//! whoever saw the reason pass) says so.
//!
//! A hold is a veto and never ends a guest. It names the epoch that was seen and is void under
//! another. A guest has at most one hold of each kind, so a record is bounded; the words of each
//! are bounded too.

use crate::guest::GuestId;
use crate::lock::{LOCKS, SeenLock};
use crate::machine::{GuestRecord, Guests};
use quorate_membership::{NodeId, Token};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest words of a hold, in bytes.
const WORDS: usize = 512;
/// The most holds that one entry releases.
pub const RELEASED: usize = 1024;

/// Words for people: one line of at most 512 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Words(String);

impl Words {
    /// `text` on one line, cut at 512 bytes.
    #[must_use]
    pub fn new(text: &str) -> Words {
        let mut line: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        if line.len() > WORDS {
            let end = (0..=WORDS).rev().find(|at| line.is_char_boundary(*at));
            line.truncate(end.unwrap_or(0));
        }
        Words(line)
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if *self == Words::new(&self.0) {
            Ok(())
        } else {
            Err(format!("words of a hold: one line of {WORDS} bytes"))
        }
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a guest is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldReason {
    /// Another cluster wrote the lock beside an image.
    ForeignLock(Vec<SeenLock>),
    /// The lock beside an image is of this cluster, and its log knows no such life of the guest.
    UnknownLock(Vec<SeenLock>),
    /// What runs is not what the description says: a start would be of something else.
    Drift(Words),
    /// A block job runs, or its top image is one that the record does not name.
    NewTop(Words),
    /// An image is backed by the one that would be started, or is older than what it rests on.
    Backing(Words),
    /// Somebody took it in hand, past this cluster.
    ByHand(Words),
    /// An operator asked for it.
    Operator {
        /// Who.
        by: Words,
        /// Why.
        why: Words,
    },
}

/// Kinds of holds, as `release --all-of` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldKind {
    /// A lock of another cluster.
    ForeignLock,
    /// A lock of a life that the log does not know.
    UnknownLock,
    /// Description and machine differ.
    Drift,
    /// A block job or an unknown top image.
    NewTop,
    /// Images that do not rest on each other as they should.
    Backing,
    /// Taken by hand.
    ByHand,
    /// Asked for by an operator.
    Operator,
}

impl HoldKind {
    /// Every kind.
    pub const ALL: [HoldKind; 7] = [
        HoldKind::ForeignLock,
        HoldKind::UnknownLock,
        HoldKind::Drift,
        HoldKind::NewTop,
        HoldKind::Backing,
        HoldKind::ByHand,
        HoldKind::Operator,
    ];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            HoldKind::ForeignLock => "foreign-lock",
            HoldKind::UnknownLock => "unknown-lock",
            HoldKind::Drift => "drift",
            HoldKind::NewTop => "new-top",
            HoldKind::Backing => "backing",
            HoldKind::ByHand => "by-hand",
            HoldKind::Operator => "operator",
        }
    }

    /// Whether the host that saw the reason may also see it pass. All others wait for a person.
    #[must_use]
    pub fn passes(self) -> bool {
        matches!(self, HoldKind::NewTop | HoldKind::Drift)
    }
}

impl fmt::Display for HoldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl HoldReason {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> HoldKind {
        match self {
            HoldReason::ForeignLock(_) => HoldKind::ForeignLock,
            HoldReason::UnknownLock(_) => HoldKind::UnknownLock,
            HoldReason::Drift(_) => HoldKind::Drift,
            HoldReason::NewTop(_) => HoldKind::NewTop,
            HoldReason::Backing(_) => HoldKind::Backing,
            HoldReason::ByHand(_) => HoldKind::ByHand,
            HoldReason::Operator { .. } => HoldKind::Operator,
        }
    }

    /// Refuses what is not bounded.
    ///
    /// # Errors
    /// What is allowed.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self {
            HoldReason::ForeignLock(seen) | HoldReason::UnknownLock(seen) => {
                if seen.is_empty() || seen.len() > LOCKS {
                    return Err(format!(
                        "a hold names 1 to {LOCKS} locks, not {}",
                        seen.len()
                    ));
                }
                seen.iter().try_for_each(|s| s.image.check())
            }
            HoldReason::Drift(words)
            | HoldReason::NewTop(words)
            | HoldReason::Backing(words)
            | HoldReason::ByHand(words) => words.check(),
            HoldReason::Operator { by, why } => by.check().and_then(|()| why.check()),
        }
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = |f: &mut fmt::Formatter<'_>, seen: &[SeenLock]| {
            let Some(one) = seen.first() else {
                return Ok(());
            };
            match seen.len() {
                1 => write!(f, "{one}"),
                n => write!(f, "{one}, and {} more", n - 1),
            }
        };
        match self {
            HoldReason::ForeignLock(seen) => {
                f.write_str("another cluster uses its image: ")?;
                first(f, seen)
            }
            HoldReason::UnknownLock(seen) => {
                f.write_str("its image was used in a life this log does not know: ")?;
                first(f, seen)
            }
            HoldReason::Drift(words) => write!(f, "it is not what its description says: {words}"),
            HoldReason::NewTop(words) => write!(f, "its image changes: {words}"),
            HoldReason::Backing(words) => write!(f, "its images do not fit together: {words}"),
            HoldReason::ByHand(words) => write!(f, "taken in hand past this cluster: {words}"),
            HoldReason::Operator { by, why } => write!(f, "{by} asked for it: {why}"),
        }
    }
}

/// A hold of a guest, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The entry that made it; what a release names.
    pub at: Token,
    /// The guest's epoch it was seen under.
    pub epoch: Token,
    /// Why.
    pub reason: HoldReason,
}

/// One hold that is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// The guest.
    pub guest: GuestId,
    /// The epoch the hold names.
    pub epoch: Token,
    /// The entry that made the hold: a newer one stays.
    pub hold: Token,
}

/// Who releases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReleasedBy {
    /// A person, who answers for it.
    Person(Words),
    /// A host that saw the reason pass; only kinds that pass.
    Host(NodeId),
}

impl GuestRecord {
    /// Holds it, in place of an earlier hold of that kind.
    pub(crate) fn hold_for(&mut self, at: Token, reason: HoldReason) {
        self.holds.retain(|h| h.reason.kind() != reason.kind());
        let epoch = self.epoch;
        self.holds.push(Hold { at, epoch, reason });
    }

    /// The hold that keeps it from being placed, and its host from starting it again.
    #[must_use]
    pub fn held(&self) -> Option<&Hold> {
        self.holds.first()
    }

    /// The hold of that kind.
    #[must_use]
    pub fn hold(&self, kind: HoldKind) -> Option<&Hold> {
        self.holds.iter().find(|h| h.reason.kind() == kind)
    }
}

impl Guests {
    /// Holds `guest`. Void under another epoch, and if it is held for that very reason.
    pub(crate) fn hold(
        &mut self,
        at: Token,
        guest: GuestId,
        epoch: Token,
        reason: &HoldReason,
    ) -> Result<(), String> {
        reason.check()?;
        let r = self.record(guest)?;
        if r.epoch != epoch {
            return Err("the hold was seen under another epoch of the guest".into());
        }
        if r.holds.iter().any(|h| h.reason == *reason) {
            return Err("it is held for that reason already".into());
        }
        r.hold_for(at, reason.clone());
        Ok(())
    }

    /// Takes back the holds that are named. Void if none of them stands.
    pub(crate) fn release(&mut self, released: &[Released], by: &ReleasedBy) -> Result<(), String> {
        if released.len() > RELEASED {
            return Err(format!("one entry releases at most {RELEASED} holds"));
        }
        if let ReleasedBy::Person(words) = by {
            words.check()?;
        }
        let allowed = |h: &Hold| matches!(by, ReleasedBy::Person(_)) || h.reason.kind().passes();
        let (mut any, mut covered) = (false, Vec::new());
        for one in released {
            let Some(r) = self.guests.get_mut(&one.guest) else {
                continue;
            };
            let named = |h: &Hold| h.at == one.hold && h.epoch == one.epoch && allowed(h);
            for hold in r.holds.iter().filter(|h| named(h)) {
                any = true;
                if let HoldReason::ForeignLock(seen) | HoldReason::UnknownLock(seen) = &hold.reason
                {
                    seen.clone_into(&mut covered);
                }
            }
            r.cover(&std::mem::take(&mut covered));
            r.holds.retain(|h| !named(h));
        }
        if any {
            Ok(())
        } else {
            Err("none of these holds stands (any more)".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_one_bounded_line() {
        assert_eq!(Words::new("a\nb").as_str(), "a b");
        let long = Words::new(&"ä".repeat(400));
        assert_eq!(long.as_str().len(), 512);
        assert!(Words("x\ny".into()).check().is_err());
        assert!(Words("x".repeat(513)).check().is_err());
        assert!(Words::new("fine").check().is_ok());
    }
}
