//! What the host says of its guests, and when it may be said.

use super::Executor;
use super::sight::Surroundings;
use crate::command::{Closure, GuestStatus, GuestWord};

impl Executor {
    /// What beats say: of fixed size.
    pub(crate) fn status(&self) -> GuestStatus {
        GuestStatus {
            blind: self.blinded_kinds(),
            unfit: self.unfit,
            running: u32::try_from(self.running().count()).unwrap_or(u32::MAX),
        }
    }

    /// What this host's bulletin says of guests: first what was closed and the log still holds open
    /// here, then what runs.
    pub(crate) fn bulletin(&self, s: &Surroundings<'_>) -> (Vec<GuestWord>, Vec<GuestWord>) {
        let closed = self
            .closures
            .iter()
            .filter(|(_, (_, _, batch))| batch.is_some_and(|b| b <= self.durable))
            .filter(|(g, (epoch, ..))| {
                s.guests
                    .guests
                    .get(g)
                    .is_some_and(|r| r.open() && r.host == Some(s.me) && r.epoch <= *epoch)
            })
            .map(|(g, (epoch, why, _))| GuestWord::Closed(*g, *epoch, why.clone()))
            .collect();
        let running = self.running().map(|(g, e)| GuestWord::Running(g, e));
        (closed, running.collect())
    }

    pub(crate) fn batched(&mut self, batch: u64) {
        for (_, _, at) in self.closures.values_mut() {
            at.get_or_insert(batch);
        }
        if let Some(at) = &mut self.emptied {
            at.get_or_insert(batch);
        }
    }

    /// A batch is durable; gives whether anything that rests on it may be said from now on.
    pub(crate) fn persisted(&mut self, batch: u64) -> bool {
        let before = self.durable;
        self.durable = before.max(batch);
        let sayable = |at: Option<u64>| at.is_some_and(|b| b > before && b <= batch);
        self.closures.values().any(|(_, _, at)| sayable(*at)) || self.emptied.is_some_and(sayable)
    }
}

/// The longest reason of a failure that is told to others, in bytes: it must fit a datagram.
const REASON_BYTES: usize = 240;

/// A closure whose words fit a datagram.
pub(super) fn shortened(mut why: Closure) -> Closure {
    if let Closure::Failed { how, .. } | Closure::Refused(how) | Closure::NotBegun(how) = &mut why
        && how.len() > REASON_BYTES
    {
        let end = (0..=REASON_BYTES)
            .rev()
            .find(|at| how.is_char_boundary(*at));
        how.truncate(end.unwrap_or(0));
        how.push('…');
    }
    why
}
