//! Replies to clients.

use quorate_membership::Token;
use std::fmt;

/// Outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Decided, and it holds.
    Done {
        /// Token of the entry; [`Token::NONE`] if nothing needed deciding.
        token: Token,
        /// In words.
        text: String,
    },
    /// Refused, for this reason; nothing was changed.
    Refused(String),
    /// Never proposed, for this reason; nothing was changed, and nothing will be.
    NotProposed(NotProposed),
    /// Proposed, and what became of it was not seen: it may have happened already, may
    /// still happen, or never.
    Unknown,
}

/// Reason for which a request was never proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotProposed {
    /// No quorum of voters was reached for as long as the client has patience.
    NoQuorum,
    /// Too many requests wait at this node.
    Crowded,
    /// Earlier changes of this node waited for their decision for as long as the client has patience.
    Behind,
}

impl fmt::Display for NotProposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotProposed::NoQuorum => "no quorum of voters is reached from here",
            NotProposed::Crowded => "too many requests wait at this node",
            NotProposed::Behind => "too many earlier changes of this node wait for their decision",
        })
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Done { text, .. } | Reply::Refused(text) => f.write_str(text),
            Reply::NotProposed(why) => write!(f, "nothing was changed: {why}"),
            Reply::Unknown => f.write_str(
                "the outcome is unknown: the change was proposed, but no decision on it was seen \
                 in time; it may have happened, or may still happen. Look before you ask again or \
                 act by hand",
            ),
        }
    }
}
