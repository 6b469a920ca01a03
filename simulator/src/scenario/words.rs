//! Words for what has one of a few values, for reading and for writing.

use super::Bad;
use crate::cluster::action::{Class, DeviceMode, GuardianMode, LockTurn, Shape, WatchdogMode, Way};
use crate::cluster::triggers::When;
use quorate_membership::entry::Away;

/// The words of one kind.
pub(super) type Words<T> = &'static [(&'static str, T)];

pub(super) const DEVICES: Words<DeviceMode> = &[
    ("works", DeviceMode::Works),
    ("fails", DeviceMode::Fails),
    ("late", DeviceMode::Late),
    ("lies", DeviceMode::Lies),
    ("hasty", DeviceMode::Hasty),
    ("gone", DeviceMode::Gone),
    ("shares", DeviceMode::Shares),
    ("picky", DeviceMode::Picky),
    ("soft", DeviceMode::Soft),
    ("empty", DeviceMode::Empty),
    ("busy", DeviceMode::Busy),
    ("pair", DeviceMode::Pair),
    ("returns", DeviceMode::Returns),
    ("tardy", DeviceMode::Tardy),
    ("wrong", DeviceMode::Wrong),
];

pub(super) const WATCHDOGS: Words<WatchdogMode> = &[
    ("works", WatchdogMode::Works),
    ("late", WatchdogMode::Late),
    ("stuck", WatchdogMode::Stuck),
    ("absent", WatchdogMode::Absent),
];

pub(super) const GUARDIANS: Words<GuardianMode> = &[
    ("gone", GuardianMode::Gone),
    ("still", GuardianMode::Still),
    ("restless", GuardianMode::Restless),
];

pub(super) const CLASSES: Words<Class> = &[
    ("beat", Class::Beat),
    ("ack", Class::Ack),
    ("observation", Class::Observation),
    ("election", Class::Election),
    ("join", Class::Join),
    ("session", Class::Session),
];

pub(super) const LEAVES: Words<Away> = &[
    ("stop", Away::Stop),
    ("reboot", Away::Reboot),
    ("shutdown", Away::Shutdown),
];

pub(super) const LOCKS: Words<LockTurn> = &[
    ("foreign", LockTurn::Foreign),
    ("fork", LockTurn::Fork),
    ("clone", LockTurn::Clone),
    ("raised", LockTurn::Raised),
    ("unreadable", LockTurn::Unreadable),
    ("readable", LockTurn::Readable),
];

pub(super) const WAYS: Words<Way> = &[("both", Way::Both), ("down", Way::Down), ("up", Way::Up)];

/// Shapes by their verbs, the numbers in them left open.
pub(super) const SHAPES: Words<Shape> = &[
    ("halves", Shape::Halves(0)),
    ("bridge", Shape::Bridge),
    ("ring", Shape::Ring),
    ("chain", Shape::Chain),
    ("star", Shape::Star),
    ("random-links", Shape::Random { pass: 0, graph: 0 }),
];

pub(super) const WHENS: Words<When> = &[
    ("coordinator-changes", When::CoordinatorChanges),
    ("term-begins", When::TermBegins),
    ("verdict", When::Verdict),
    ("proof", When::Proof),
    ("placed", When::Placed),
    ("fence-attempt", When::FenceAttempt),
    ("fence-cuts", When::FenceCuts),
    ("power-lost", When::PowerLost),
    ("daemon-starts", When::DaemonStarts),
    ("guest-starts", When::GuestStarts),
    ("guest-stops", When::GuestStops),
    ("lease-expires", When::LeaseExpires),
];

/// What a word at `at` stands for.
pub(super) fn value<T: Copy>(words: Words<T>, kind: &str, word: &str, at: usize) -> Result<T, Bad> {
    let found = words.iter().find(|(name, _)| *name == word);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let allowed: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let what = format!("{kind} {word:?}; allowed: {}", allowed.join(", "));
        (at, what)
    })
}

/// The word for a value.
pub(super) fn word<T: PartialEq>(words: Words<T>, value: &T) -> &'static str {
    let found = words.iter().find(|(_, v)| v == value);
    found.map_or("", |(name, _)| name)
}
