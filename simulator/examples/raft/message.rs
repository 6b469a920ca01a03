//! What nodes send each other, write to their disks, and tell.

/// A command with the term of the leader that took it.
pub(crate) type Entry = (u64, u64);

#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// A candidate asks for a vote, with the term of its last entry and the length of its log.
    Ask {
        term: u64,
        last: (u64, usize),
    },
    Vote {
        term: u64,
        granted: bool,
    },
    Append {
        term: u64,
        /// Length of the log before these entries, and the term of its last entry.
        after: (usize, u64),
        entries: Vec<Entry>,
        committed: usize,
        /// Names the round of beats, for reads.
        round: u64,
    },
    Appended {
        term: u64,
        /// Length up to which the sender's log is the leader's, durably; or where to try next.
        result: Result<usize, usize>,
        round: u64,
    },
}

/// One durable change.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Term(u64, Option<usize>),
    /// The log from this length on is these entries.
    Log(usize, Vec<Entry>),
}

/// What a node tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    Leads {
        term: u64,
    },
    Applied {
        length: usize,
        entry: Entry,
    },
    /// A client was told that its command is decided.
    Acknowledged {
        length: usize,
    },
    /// A client asked to read, and later was told that so many entries are decided.
    Asks {
        read: u64,
    },
    Read {
        read: u64,
        length: usize,
    },
}
