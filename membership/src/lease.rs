//! The holder's side of a host lease.
//!
//! A lease counts from the moment the holder *sent* the beat that a quorum of voters of one epoch
//! has acknowledged (Gray and Cheriton 1989, with the holder's own clock only).

use crate::frame::Ack;
use crate::id::{Epoch, Slot};
use crate::mutants::planted;
use crate::time::Time;
use crate::timing::Timing;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a host knows about its own lease.
#[derive(Clone, Debug)]
pub(crate) struct HostLease {
    /// Send stamps of beats that may still be acknowledged.
    sent: BTreeMap<u64, Time>,
    /// Of each beat the voters that acknowledged it, with the counters of their incarnations.
    acks: BTreeMap<(u64, Epoch), BTreeMap<Slot, u64>>,
    /// Of each voter the newest incarnation that another vouched for; an earlier one counts no more.
    vouched: BTreeMap<Slot, u64>,
    heard_from: BTreeMap<Slot, Time>,
    end: Option<Time>,
    renewed: Time,
}

impl HostLease {
    /// A lease as the guardian's record has it: a start inherits that and no more (C2).
    pub(crate) fn inherit(now: Time, end: Option<Time>) -> HostLease {
        HostLease {
            sent: BTreeMap::new(),
            acks: BTreeMap::new(),
            vouched: BTreeMap::new(),
            heard_from: BTreeMap::new(),
            end,
            renewed: now,
        }
    }

    pub(crate) fn end(&self) -> Option<Time> {
        self.end
    }

    pub(crate) fn left(&self, now: Time) -> Duration {
        self.end.map_or(Duration::ZERO, |end| end.since(now))
    }

    pub(crate) fn renewed_ago(&self, now: Time) -> Duration {
        now.since(self.renewed)
    }

    /// A beat is about to be sent; `now` was read before the send call.
    pub(crate) fn sending(&mut self, now: Time, sequence: u64, timing: &Timing) {
        self.sent.insert(sequence, now);
        let oldest = now - timing.lease * 2;
        self.sent.retain(|_, at| *at >= oldest);
        let first = self.sent.keys().next().copied().unwrap_or(sequence);
        self.acks.retain(|(s, _), _| *s >= first);
    }

    /// An acknowledgement of this incarnation came in. The lease counts from no later than `bound`;
    /// `None`: nothing renews it. Gives the new end if it moved.
    pub(crate) fn acknowledged(
        &mut self,
        now: Time,
        ack: &Ack,
        (quorum, bound): (usize, Option<Time>),
        timing: &Timing,
    ) -> Option<Time> {
        let sent = *self.sent.get(&ack.sequence)?;
        self.heard_from.insert(ack.slot, now);
        let beat = if planted("votes-of-many-beats") {
            u64::MAX
        } else {
            ack.sequence
        };
        for (slot, life) in &ack.lives {
            let known = self.vouched.entry(*slot).or_default();
            *known = (*known).max(*life);
        }
        let acks = self.acks.entry((beat, ack.epoch)).or_default();
        let life = acks.entry(ack.slot).or_default();
        *life = (*life).max(ack.life);
        let counts = acks.iter().filter(|(slot, life)| {
            let vouched = self.vouched.get(slot).copied().unwrap_or(0);
            **life >= vouched || planted("earlier-life-acknowledges")
        });
        if counts.count() < quorum {
            return None;
        }
        let from = sent.min(bound?);
        self.renewed = self.renewed.max(from);
        let from = if planted("lease-from-receipt") {
            now
        } else {
            from
        };
        let end = timing.lease_end(from);
        if self.end.is_some_and(|old| old >= end) {
            return None;
        }
        self.end = Some(end);
        Some(end)
    }

    /// One bit per slot from which nothing came for `window`: those need a relay.
    pub(crate) fn unheard(&self, now: Time, slots: usize, window: Duration) -> u8 {
        (1..=slots.min(8) as u8)
            .filter(|s| {
                self.heard_from
                    .get(&Slot(*s))
                    .is_none_or(|at| now.since(*at) > window)
            })
            .fold(0, |bits, s| bits | 1 << (s - 1))
    }
}
