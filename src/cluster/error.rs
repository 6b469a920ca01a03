//! Errors of a member, each kind by its own name.

use crate::net::{LinkError, SessionError};
use crate::store::StoreError;
use std::io;

/// Reason for which a member could not start, or for which a request came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// An option is wrong. Nothing was opened and nothing was changed.
    #[error("{place}: {why}")]
    Options {
        /// The option.
        place: String,
        /// The value found, and the ones allowed.
        why: String,
    },
    /// A link cannot be opened.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Sessions cannot be accepted.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The store in the state directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system refused something else.
    #[error("{action}: {source}")]
    System {
        /// The call.
        action: String,
        /// Its error.
        source: io::Error,
    },
    /// The cluster does not take this member or this change, and no time changes that.
    #[error("refused: {0}")]
    Refused(String),
    /// This member did not belong to a cluster within its patience: others are not there, or not
    /// reached.
    #[error("no cluster yet: {0}")]
    Alone(String),
    /// No quorum of voters was reached: nothing was changed, and nothing will be.
    #[error("nothing was changed: no quorum of voters is reached from here")]
    NoQuorum,
    /// Too many earlier changes of this member wait: nothing was changed, and nothing will be.
    #[error("nothing was changed: too many earlier changes of this member wait for a decision")]
    Busy,
    /// Proposed, and no decision was seen: it may have happened, or may still happen.
    #[error("the outcome is unknown: it may have happened, or may still happen")]
    Unknown,
    /// The message is longer than may be published at once: nothing was changed.
    #[error("{found} bytes; at most {allowed} can be published at once")]
    TooLong {
        /// Its length.
        found: usize,
        /// The most that is allowed.
        allowed: usize,
    },
    /// The member has ended, for this reason.
    #[error("the member has ended: {0}")]
    Ended(String),
}

impl ClusterError {
    pub(super) fn options(place: impl Into<String>, why: impl Into<String>) -> ClusterError {
        ClusterError::Options {
            place: place.into(),
            why: why.into(),
        }
    }

    pub(super) fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> ClusterError {
        let action = action.into();
        move |source| ClusterError::System { action, source }
    }

    /// Says whether somebody else holds what is needed; it may be a member of this process that is just
    /// ending.
    pub(super) fn in_use(&self) -> bool {
        match self {
            ClusterError::Link(LinkError::System { source, .. })
            | ClusterError::Session(SessionError::Listen { source, .. }) => {
                source.kind() == io::ErrorKind::AddrInUse
            }
            ClusterError::Store(e) => matches!(e, StoreError::Locked { .. }),
            _ => false,
        }
    }
}
