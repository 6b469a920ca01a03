//! Planted bugs: chosen by name, carried by the pure crates, found by the checkers.

/// Name and meaning of every bug that can be planted.
#[must_use]
pub fn bugs() -> Vec<(&'static str, &'static str)> {
    let of_membership = quorate_membership::mutants::BUGS.iter();
    of_membership
        .chain(quorate_fencing::mutants::BUGS)
        .chain(quorate_recovery::mutants::BUGS)
        .copied()
        .chain([HOST_BUG])
        .collect()
}

/// A bug of the host around the node: the simulator's own driver carries it.
const HOST_BUG: (&str, &str) = (
    "restart-grants-fresh-lease",
    "S3: a restarted daemon takes a whole lease instead of what the guardian's record leaves",
);

/// Whether this build can carry planted bugs.
pub const POSSIBLE: bool = cfg!(feature = "mutants");

/// Plants one bug in this thread, or none. Without the feature `mutants` this does nothing.
pub fn plant(name: Option<&'static str>) {
    #[cfg(feature = "mutants")]
    {
        // Recovery asks there too.
        quorate_membership::mutants::plant(name);
        quorate_fencing::mutants::plant(name);
        FRESH_LEASE.set(name == Some(HOST_BUG.0));
    }
    let _ = name;
}

#[cfg(feature = "mutants")]
thread_local! {
    static FRESH_LEASE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether restarted daemons are given a fresh lease in this thread.
#[must_use]
pub(crate) fn fresh_lease() -> bool {
    #[cfg(feature = "mutants")]
    return FRESH_LEASE.get();
    #[cfg(not(feature = "mutants"))]
    false
}
