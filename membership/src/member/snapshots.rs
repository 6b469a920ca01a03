//! The whole state on its way to the disk, every so many entries.

use super::{Member, Output};
use crate::app::Application;
use crate::codec;
use crate::store::Write;

/// Entries contained in the state that was written last, that is on its way (with its batch, once that
/// is known), and that is durable.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Snapshots {
    pub(super) taken: u64,
    pub(super) pending: Option<(u64, Option<u64>)>,
    pub(super) durable: u64,
}

impl<A: Application> Member<A> {
    /// Every so often the whole state becomes durable, so that the log can be cut.
    pub(super) fn take_snapshot(&mut self) {
        let applied = self.state.cluster.applied;
        if self.snapshot.pending.is_some() || applied < self.snapshot.taken + self.snapshot_every {
            return;
        }
        self.snapshot.taken = applied;
        match codec::encode(codec::Kind::State, &self.state) {
            Ok(bytes) => {
                self.output
                    .push(Output::Write(Write::Snapshot { applied, bytes }));
                self.snapshot.pending = Some((applied, None));
            }
            // The log is kept instead; it is tried again after as many entries.
            Err(e) => self.output.push(Output::Alert {
                node: self.me,
                text: format!("the state cannot be kept, so the log is not cut: {e}"),
            }),
        }
    }
}
