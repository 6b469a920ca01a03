//! Bugs planted on purpose, so that the simulator can show that its checkers would find them.
//!
//! Only a build with the feature `mutants` can carry one; the daemon's package refuses to build
//! with it. One bug at a time is planted, per thread, so that hunts may run side by side.

/// Whether this build can carry planted bugs. The root package asserts that it cannot.
pub const PLANTED_BUGS: bool = cfg!(feature = "mutants");

/// The bugs of this crate: name, and what it does.
pub const BUGS: &[(&str, &str)] = &[
    (
        "timeout-as-success",
        "S14 S8: a fence agent that ran out of time while cutting the power counts as: the host is off",
    ),
    (
        "exit-code-proves",
        "S14 S8: a fence agent's success counts as off without a status that says so",
    ),
    (
        "off-at-the-last-moment",
        "S8: an off is begun however little of its time is left",
    ),
    (
        "off-read-is-over",
        "S8: a device that reads off is done with, though an off of it was left without answer",
    ),
    (
        "unanswered-off-is-over",
        "S8: a device that was given up counts as one that will not act any more",
    ),
    (
        "turned-away-is-refused",
        "L1: a device that lets nobody in for a moment is given up after two tries",
    ),
    (
        "outlets-read-once",
        "S8 S1: outlets count as off at once though one was read long before the other",
    ),
    (
        "first-level-only",
        "L1: a level that fails is tried again and again, and the next one never",
    ),
    (
        "brake-off",
        "S7: devices may cut any number of hosts within one window",
    ),
    (
        "lease-end-not-enforced",
        "S3: the guardian leaves the guests of an ended lease to the daemon",
    ),
    (
        "no-reset-of-a-stuck-host",
        "S1 S3: a kill that does not work is repeated for ever, and the host is never reset",
    ),
    (
        "fed-past-lease-end",
        "S11 S3: the watchdog is fed while guests live on without a lease",
    ),
];

#[cfg(feature = "mutants")]
mod chosen {
    use std::cell::Cell;

    thread_local! {
        static BUG: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// Plants this bug in this thread in place of any other; `None` removes it.
    pub fn plant(name: Option<&'static str>) {
        BUG.set(name);
    }

    /// Whether this bug is planted in this thread.
    #[must_use]
    pub fn planted(name: &str) -> bool {
        BUG.get() == Some(name)
    }
}

#[cfg(feature = "mutants")]
pub use chosen::{plant, planted};

/// Whether this bug is planted. This build cannot carry any.
#[cfg(not(feature = "mutants"))]
#[must_use]
pub const fn planted(_name: &str) -> bool {
    false
}
