//! Planted bugs: chosen by name, carried by the pure crates, found by the checkers.

mod ways;

use crate::harness::Way;
use ways::WAYS;

/// Name and meaning of every bug that can be planted.
#[must_use]
pub fn bugs() -> Vec<(&'static str, &'static str)> {
    let of_membership = quorate_membership::mutants::BUGS.iter();
    of_membership
        .chain(quorate_fencing::mutants::BUGS)
        .chain(quorate_recovery::mutants::BUGS)
        .chain(HOST_BUGS)
        .copied()
        .collect()
}

/// Bugs of the host around the node: the simulator's own driver carries them.
const HOST_BUGS: &[(&str, &str)] = &[
    (
        "restart-grants-fresh-lease",
        "S3: a restarted daemon takes a whole lease instead of what the guardian's record leaves",
    ),
    (
        "time-before-fact",
        "S14: the driver reads the clock before it waits for the fact, not after",
    ),
    (
        "late-order-obeyed",
        "S8 S3: the driver compares no deadline before it acts",
    ),
    (
        "creation-outlives-its-end",
        "S5: a creation that waits in the driver is made after an end was ordered behind it",
    ),
    (
        "created-running",
        "S14 S3: the hypervisor starts a guest's code without waiting to be told to continue",
    ),
    (
        "headers-not-read",
        "S16: the driver reads no header of images beside the one it starts",
    ),
    (
        "guardian-waits-for-a-scan",
        "S1 S3: the guardian ends nothing while a look through the processes hangs",
    ),
    (
        "populated-fails-open",
        "S1 S9: a guest whose processes cannot be listed counts as gone",
    ),
    (
        "mark-not-kept",
        "S10: no mark outside the store tells within a boot that the store was set back",
    ),
    (
        "sessions-in-large-packets",
        "L1: a session sends packets that links on the way may drop for their size",
    ),
    (
        "store-made-anew",
        "S10: a voter whose store was lost votes from an empty one",
    ),
];

/// How to look for a bug: those that the swarm comes by too seldom have a way of their own.
#[must_use]
pub fn ways(bug: &str) -> Vec<Way> {
    let known = WAYS.iter().find(|(name, _)| *name == bug);
    known.map_or(vec![Way::Swarm], |(_, ways)| ways.to_vec())
}

/// Whether this build can carry planted bugs.
pub const POSSIBLE: bool = cfg!(feature = "mutants");

/// Plants one bug in this thread, or none. Without the feature `mutants` this does nothing.
pub fn plant(name: Option<&'static str>) {
    #[cfg(feature = "mutants")]
    {
        quorate_membership::mutants::plant(name); // Recovery and the driver here ask there too.
        quorate_fencing::mutants::plant(name);
    }
    let _ = name;
}

/// Whether this bug of the driver is planted in this thread.
#[must_use]
pub(crate) fn host(name: &str) -> bool {
    quorate_membership::mutants::planted(name)
}
