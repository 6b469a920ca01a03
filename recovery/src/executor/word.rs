//! What the host says of its guests, and when it may be said.

use super::Executor;
use super::sight::Surroundings;
use crate::command::GuestStatus;

impl Executor {
    /// What beats say about guests.
    pub(crate) fn status(&self, s: &Surroundings<'_>) -> GuestStatus {
        let closed = self
            .closures
            .iter()
            .filter(|(_, (_, _, batch))| batch.is_some_and(|b| b <= self.durable))
            .filter(|(g, (epoch, ..))| {
                // Only what the log still holds open here needs saying.
                s.guests
                    .guests
                    .get(g)
                    .is_some_and(|r| r.open() && r.host == Some(s.me) && r.epoch <= *epoch)
            })
            .map(|(g, (epoch, why, _))| (*g, *epoch, why.clone()))
            .collect();
        GuestStatus {
            closed,
            running: self.running().collect(),
            blind: self.blind.is_some(),
            unfit: self.unfit,
        }
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
