//! Kinds of guests: each is run by a driver of its own, and each driver may fail alone.

use crate::guest::Definition;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What runs a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GuestKind {
    /// The embedded hypervisor: process trees.
    Command,
    /// libvirt: virtual machines.
    Domain,
    /// OCF resource agents.
    Ocf,
}

impl GuestKind {
    const ALL: [GuestKind; 3] = [GuestKind::Command, GuestKind::Domain, GuestKind::Ocf];

    fn bit(self) -> u8 {
        match self {
            GuestKind::Command => 1,
            GuestKind::Domain => 2,
            GuestKind::Ocf => 4,
        }
    }
}

impl fmt::Display for GuestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GuestKind::Command => "commands",
            GuestKind::Domain => "libvirt",
            GuestKind::Ocf => "resource agents",
        })
    }
}

impl Definition {
    /// Which kind of driver runs it.
    #[must_use]
    pub fn kind(&self) -> GuestKind {
        match self {
            Definition::Command { .. } => GuestKind::Command,
            Definition::Domain { .. } => GuestKind::Domain,
            Definition::Ocf { .. } => GuestKind::Ocf,
        }
    }
}

/// A set of kinds of guests. One byte on the wire, one bit for each kind; bits that stand for none
/// of them are kept and mean nothing here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestKinds(u8);

impl GuestKinds {
    /// No kind.
    pub const NONE: GuestKinds = GuestKinds(0);
    /// Every kind.
    pub const ALL: GuestKinds = GuestKinds(7);

    /// Whether `kind` is one of them.
    #[must_use]
    pub fn has(self, kind: GuestKind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// Whether it holds no kind.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// The same set and `kind`.
    #[must_use]
    pub fn with(self, kind: GuestKind) -> GuestKinds {
        GuestKinds(self.0 | kind.bit())
    }

    /// The kinds in it.
    pub fn iter(self) -> impl Iterator<Item = GuestKind> {
        let all = GuestKind::ALL.into_iter();
        all.filter(move |kind| self.has(*kind))
    }
}

impl FromIterator<GuestKind> for GuestKinds {
    fn from_iter<I: IntoIterator<Item = GuestKind>>(kinds: I) -> GuestKinds {
        kinds.into_iter().fold(GuestKinds::NONE, GuestKinds::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let set: GuestKinds = [GuestKind::Ocf, GuestKind::Command].into_iter().collect();
        assert!(set.has(GuestKind::Command) && !set.has(GuestKind::Domain));
        assert_eq!(
            set.iter().collect::<Vec<_>>(),
            [GuestKind::Command, GuestKind::Ocf]
        );
        assert_eq!(set.with(GuestKind::Domain), GuestKinds::ALL);
        assert!(GuestKinds::NONE.is_empty() && GuestKinds(8).is_empty());
    }
}
