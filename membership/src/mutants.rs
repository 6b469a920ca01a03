//! Planted bugs: rules that a simulator may switch off by name to prove that it would notice.
//!
//! Without the feature `mutants` every question here is answered "no" at compile time, and the
//! root package refuses to be built with the feature at all.

/// A planted bug of this crate and the promise it breaks.
pub const BUGS: &[(&str, &str)] = &[
    (
        "lease-from-receipt",
        "S1: the holder counts its lease from the acknowledgement, not the send",
    ),
    (
        "restarted-voter-says-never",
        "S1: a restarted voter answers as if it had never acknowledged",
    ),
    (
        "stop-promise-forgotten",
        "S1: a restarted voter forgets that it promised to stop",
    ),
];

#[cfg(feature = "mutants")]
mod planted_bugs {
    use std::cell::Cell;
    thread_local! {
        static PLANTED: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// Plants one bug for this thread, or none.
    pub fn plant(name: Option<&'static str>) {
        PLANTED.with(|p| p.set(name));
    }

    /// Whether the bug `name` is planted in this thread.
    #[must_use]
    pub fn planted(name: &str) -> bool {
        PLANTED.with(|p| p.get() == Some(name))
    }
}
#[cfg(feature = "mutants")]
pub use planted_bugs::{plant, planted};

/// Whether the bug `name` is planted: never, in this build.
#[cfg(not(feature = "mutants"))]
#[must_use]
pub const fn planted(_name: &str) -> bool {
    false
}
