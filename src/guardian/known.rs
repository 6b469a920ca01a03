//! What the guardian remembers of guests, whatever becomes of their files.

use super::processes;
use super::records::GuestRecord;
use std::os::fd::OwnedFd;

/// One scan of `/proc` is no snapshot: this many must find nothing before nothing is believed.
pub(super) const EMPTY_ROUNDS: u8 = 2;

/// The first process of a guest.
pub(super) enum Leader {
    /// Held, so that it can be ended and be seen to end.
    Held(OwnedFd),
    /// Nothing said whether it is there.
    Unknown,
    Gone,
}

impl Leader {
    pub(super) fn of(record: Option<&GuestRecord>) -> Leader {
        match record.map(processes::held) {
            Some(Ok(Some(handle))) => Leader::Held(handle),
            Some(Err(_)) => Leader::Unknown,
            Some(Ok(None)) | None => Leader::Gone,
        }
    }

    pub(super) fn gone(&self) -> bool {
        match self {
            Leader::Held(handle) => processes::over(handle),
            Leader::Unknown => false,
            Leader::Gone => true,
        }
    }
}

/// A registration as the guardian remembers it, also after its file is gone.
pub(super) struct Known {
    /// `None` if the file cannot be read: then only the marks lead to the processes.
    pub(super) record: Option<GuestRecord>,
    pub(super) leader: Leader,
    /// Tells a file from a later one of the same name.
    pub(super) inode: u64,
    /// Rounds of this ending that found nothing.
    pub(super) empty: u8,
    /// Its file is gone; forgotten when nothing of it is found by an answer from this number on.
    pub(super) vanished: Option<u64>,
}

impl Known {
    pub(super) fn ended(&self) -> bool {
        self.empty >= EMPTY_ROUNDS
    }
}

/// What the last complete round found beside the registered guests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Strays {
    No,
    /// A look did not come to its end.
    Unknown,
    Yes,
}
