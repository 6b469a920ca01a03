//! The mark of this boot: what the store last held durably, outside the store.
//!
//! It lies in the run directory, which a boot empties or whose records a boot id voids. A store that is
//! set back to a copy within a boot lacks what its mark names. It is written after the store's sync and
//! before anything that rests on it leaves, so it never names less than this node has said. It is
//! overwritten in place: a run directory that has become full costs no voter.

use crate::guardian::records::{self, Record};
use crate::guardian::slots::{self, Slots};
use quorate_membership::store::Write;
use quorate_membership::vouch::Claim;
use quorate_membership::{BootId, StoreId};
use quorate_recovery::command::Command;
use quorate_recovery::contract::NodeWrite;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Name of the mark's file in the run directory.
pub const FILE: &str = "store.mark";

/// What a store held. Lies in `store.mark`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarkRecord {
    /// The boot it belongs to.
    pub boot: BootId,
    /// Whose store.
    pub store: StoreId,
    /// What that held durably.
    pub claim: Claim,
}

impl Record for MarkRecord {
    const KIND: &'static str = "store-mark";
}

/// The mark of one store in one boot. Clones share it.
#[derive(Clone, Debug)]
pub struct Marker {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    record: MarkRecord,
    slots: Slots<MarkRecord>,
    /// Somebody vouches for the store, or it votes all the same: marks are made.
    active: bool,
}

impl Marker {
    /// The marker of the store that now holds `held`, and the mark that stands. One of another boot
    /// or store, or one that does not check out, is none.
    #[must_use]
    pub fn open(
        run_dir: &Path,
        boot: BootId,
        store: StoreId,
        held: Claim,
    ) -> (Marker, Option<Claim>) {
        let path = run_dir.join(FILE);
        let found = slots::read::<MarkRecord>(&path).unwrap_or_else(|why| {
            tracing::warn!("the mark of the store says nothing: {why}");
            None
        });
        let found = found.filter(|r| (r.boot, r.store) == (boot, store));
        let mark = found.map(|r| r.claim);
        let record = MarkRecord {
            boot,
            store,
            claim: held,
        };
        let active = mark.is_some_and(|mark| !mark.newer_than(&held));
        let state = Arc::new(Mutex::new(State {
            record,
            slots: Slots::new(path.clone()),
            active,
        }));
        (Marker { path, state }, mark)
    }

    /// Notes writes that have just become durable.
    ///
    /// # Errors
    /// The mark could not be written and now names less than the store holds.
    pub(super) fn note<'a>(&self, writes: impl Iterator<Item = &'a NodeWrite>) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = (state.record.claim, state.active);
        for write in writes {
            if let NodeWrite::Member(write) = write {
                state.active |= matches!(write, Write::Unvouched(_));
                follow(&mut state.record.claim, write);
            }
        }
        if state.active && (state.record.claim, state.active) != before {
            let record = state.record;
            state.slots.write(&record)?;
        }
        Ok(())
    }

    /// Drops the mark: the store is vouched for by nobody until the next one is made.
    ///
    /// # Errors
    /// It could not be removed.
    pub fn drop_mark(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.active = false;
        records::remove(&self.path).map(|_| ())
    }
}

/// What a store holds after one more write.
fn follow(claim: &mut Claim, write: &Write<Command>) {
    match write {
        Write::Promise(round) => claim.promise = Some(*round),
        Write::AcceptedRound(round) => claim.accepted = Some(*round),
        Write::Append { from, entries } => claim.index = from + entries.len() as u64,
        Write::Rebase(at) => claim.index = *at,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_membership::vouch::Unvouched;

    fn claim(index: u64) -> Claim {
        Claim {
            index,
            ..Claim::default()
        }
    }

    fn grown(to: u64) -> NodeWrite {
        NodeWrite::Member(Write::Append {
            from: to,
            entries: Vec::new(),
        })
    }

    #[test]
    fn nothing_is_marked_until_somebody_vouches_and_then_every_batch() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = |held| Marker::open(dir.path(), BootId(1), StoreId(2), claim(held));
        let (marker, mark) = open(0);
        assert_eq!(mark, None);
        marker.note([grown(3)].iter()).expect("noted");
        assert_eq!(open(3).1, None, "nobody has vouched");
        let vouched = NodeWrite::Member(Write::Unvouched(None::<Unvouched>));
        marker.note([vouched, grown(4)].iter()).expect("noted");
        assert_eq!(open(4).1, Some(claim(4)));
        let (again, _) = open(4);
        again.note([grown(7)].iter()).expect("noted");
        assert_eq!(open(7).1, Some(claim(7)), "a quick restart goes on");
    }

    #[test]
    fn a_store_below_its_mark_leaves_the_mark_as_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = |boot, held| Marker::open(dir.path(), BootId(boot), StoreId(2), claim(held));
        let vouched = || NodeWrite::Member(Write::Unvouched(None));
        open(1, 0)
            .0
            .note([vouched(), grown(9)].iter())
            .expect("noted");
        let (behind, mark) = open(1, 5);
        assert_eq!(mark, Some(claim(9)));
        behind.note([grown(6)].iter()).expect("noted");
        assert_eq!(open(1, 6).1, Some(claim(9)), "still the higher one");
        assert_eq!(open(2, 6).1, None, "another boot knows of no mark");
        behind.drop_mark().expect("removed");
        assert_eq!(open(1, 6).1, None);
    }
}
