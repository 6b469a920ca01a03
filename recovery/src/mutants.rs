//! Planted bugs: rules that a simulator may switch off by name to prove that it would notice.
//!
//! Without the feature `mutants` every question here is answered "no" at compile time, and the
//! root package refuses to be built with the feature at all. Which one is planted is known to
//! `membership`, for both.

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

pub use quorate_membership::mutants::planted;
