//! Planted bugs: rules that a simulator may switch off by name to prove that it would notice.
//!
//! Without the feature `mutants` every question here is answered "no" at compile time, and the
//! root package refuses to be built with the feature at all.

/// A planted bug of this crate and the promise it breaks.
pub const BUGS: &[(&str, &str)] = &[
    (
        "silence-is-death",
        "S9: the silence of the agent inside a guest, alone, counts as a hang",
    ),
    (
        "blindness-is-silence",
        "S9: what was not looked at counts as if it had been looked at and was dead",
    ),
    (
        "starved-is-hung",
        "S9: a guest that gets no CPU of its host is judged like one that does nothing",
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
