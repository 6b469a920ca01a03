//! Where two runs part.

use super::{Entry, Record};

/// The first entry in which two runs differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parting {
    /// Its number; one of the runs may have ended before it.
    pub entry: usize,
}

/// Compares two runs entry by entry; none if they are the same.
#[must_use]
pub fn compare(a: &Record, b: &Record) -> Option<Parting> {
    // Numbers of words depend on when a word came up first, so words are compared.
    let same = |(x, y): (&Entry, &Entry)| {
        let plain = |e: &Entry| (e.at, e.kind, e.peer, e.value, e.cause, e.because);
        plain(x) == plain(y) && a.lane(x.lane) == b.lane(y.lane) && a.text(x.text) == b.text(y.text)
    };
    let entry = a
        .entries
        .iter()
        .zip(&b.entries)
        .take_while(|p| same(*p))
        .count();
    let over = entry == a.entries.len() && entry == b.entries.len();
    (!over).then_some(Parting { entry })
}
