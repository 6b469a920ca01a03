//! How the parts of a host behave from now on, and what becomes of what it keeps.

/// How a fence device behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceMode {
    /// Cuts the power, then says so.
    Works,
    /// Refuses.
    Fails,
    /// Cuts the power late; its answer never comes.
    Late,
    /// Says that the host is off and does nothing.
    Lies,
    /// Says done at once and cuts the power within its limit; its status is true.
    Hasty,
    /// Does not answer (its own power or network is gone).
    Gone,
    /// Works as long as its host has power, and is gone with it.
    Shares,
    /// Works, but calls it an error to switch off what is off.
    Picky,
    /// Says done at once, and the host is off only after a while: it was asked to shut down.
    Soft,
    /// It is named by mistake: a plug with nothing behind it, which reads off.
    Empty,
    /// Works, and lets most of those who come wait for others: it refuses their login.
    Busy,
    /// Two outlets of one switched strip, which lets one session in at a time. The host is off when
    /// both are.
    Pair,
    /// The same, and an outlet that was switched off alone is on again after a moment.
    Returns,
    /// Never answers an off, and acts on it long after its limit.
    Tardy,
    /// Cuts the next host, to which its cable leads, and reads its state.
    Wrong,
}

/// What befalls a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is copied while its daemon runs, as by a snapshot of the volume.
    Copied,
    /// It is set back to the copy, and the daemon starts from it within the same boot.
    SetBack,
    /// It is set back to the copy, and the machine boots from it.
    SetBackOverBoot,
    /// The whole machine is reverted to the copy, its memory too: the same life goes on.
    Reverted,
    /// What its voter made of the log is altered, and the daemon starts from that.
    Altered,
    /// A number of what its voter made of the log is altered in memory, and the daemon goes on.
    AlteredInMemory,
}

/// What a hardware watchdog does from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchdogMode {
    /// Resets its host in time.
    Works,
    /// Resets it three times as late as it says. Breaks an assumption of S1.
    Late,
    /// Never resets it. Breaks an assumption of S1.
    Stuck,
    /// Is gone, and the daemon is told so.
    Absent,
}

/// What becomes of a guardian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardianMode {
    /// It is killed, and no other can be started meanwhile.
    Gone,
    /// It stands still: stopped, frozen, or stuck in the kernel.
    Still,
    /// Its program is broken: each one ends soon after its start and ends no guest.
    Restless,
}

/// What becomes of the lock beside a guest's image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockTurn {
    /// Another cluster writes it.
    Foreign,
    /// The same log went another way elsewhere, and gave the guest an epoch there.
    Fork,
    /// A copy of this cluster writes it, under the guest's present epoch.
    Clone,
    /// Whoever wrote it so raises it once more.
    Raised,
    /// Nobody can read or write it any more.
    Unreadable,
    /// It can be read and written again.
    Readable,
}
