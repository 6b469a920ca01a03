//! Who makes the namespaces of a rack, and what that takes.

/// Whose the namespaces are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum User {
    /// Anybody's: a user namespace in which we are root.
    Mapped,
    /// Real root's, for what a user namespace forbids, as libvirt.
    Root,
}

impl User {
    /// What `unshare` is told beside the namespaces of both.
    pub(super) fn unshare(self) -> &'static [&'static str] {
        match self {
            User::Mapped => &["-U", "-r"],
            User::Root => &["-i"],
        }
    }

    /// What `nsenter` is told beside them.
    pub(super) fn enter(self) -> &'static [&'static str] {
        match self {
            User::Mapped => &["-U", "--preserve-credentials"],
            User::Root => &["-i"],
        }
    }
}
