//! Every effect of every node goes into the run hash: two runs of one seed must agree in all of them.

use super::nodes::datagram_kind;
use super::{Sim, SimNode};
use quorate_membership::entry::Entry;
use quorate_recovery::command::Command;
use quorate_recovery::contract::{Effect, Fact, Reply};

impl<N: SimNode> Sim<N> {
    pub(super) fn hash_effect(&mut self, effect: &Effect) {
        let h = &mut self.hash;
        match effect {
            Effect::Persist { batch, writes } => {
                h.add(1);
                h.add(batch << 8 | writes.len() as u64);
            }
            Effect::Datagram { frame } => {
                h.add(2);
                h.add(frame.header.number << 4 | datagram_kind(frame));
                frame.to.iter().for_each(|n| h.add(n.0.into()));
            }
            Effect::Stream { peer, .. } => h.add(3 | u64::from(peer.0) << 8),
            Effect::Guest(o) => {
                h.add(4);
                h.add(o.order);
                h.add(o.guest.0);
                h.add(o.epoch.0);
                h.add(o.not_after.map_or(0, |t| t.0));
            }
            Effect::Fence(l) => {
                h.add(5);
                h.add(l.attempt.0);
                h.add(l.not_after.0);
            }
            Effect::Try(t) => h.add(13 | t.trial << 8),
            Effect::Lease { end } => {
                h.add(6);
                h.add(end.0);
            }
            Effect::Event(e) | Effect::Copies { event: e, .. } => {
                h.add(7);
                h.add(e.token.0 << 8 | e.kind as u64);
            }
            // What is told again, or not told, follows from what was hashed before.
            Effect::Published { replayed: true, .. } | Effect::Skipped { .. } => {}
            Effect::Published { token, .. } => h.add(12 | token.0 << 8),
            Effect::Reply { client, reply } => {
                h.add(8);
                h.add(client << 1 | u64::from(matches!(reply, Reply::Done { .. })));
            }
            Effect::Restart { .. } => h.add(9),
            Effect::Unmark => h.add(12),
            Effect::Exit { .. } => h.add(10),
            Effect::Wait { until } => {
                h.add(11);
                h.add(until.0);
            }
        }
    }
}

/// What the run hash calls a fact.
pub(super) fn fact_kind(fact: &Fact) -> u64 {
    match fact {
        Fact::Frame { frame, .. } => 16 | datagram_kind(frame),
        Fact::SessionUp { .. } => 1,
        Fact::SessionDown { .. } => 2,
        Fact::Stream { .. } => 3,
        Fact::Timeout => 4,
        Fact::Persisted { .. } => 5,
        Fact::StoreFailed { .. } => 6,
        Fact::Guests { .. } => 7,
        Fact::HypervisorBlind { .. } => 8,
        Fact::GuestGone { .. } => 9,
        Fact::GuestDone { .. } => 10,
        Fact::FenceDone { .. } => 11,
        Fact::Guardian(_) => 4,
        Fact::LeaseUnwritten { .. } => 11 | 1 << 5,
        Fact::LeaseWritten => 12 | 1 << 5,
        Fact::Request { .. } => 13,
        Fact::Observed { .. } => 14,
        Fact::HostObserved(_) => 15,
        Fact::Hold { .. } => 32,
        Fact::HoldPassed { .. } => 33,
        Fact::Machine { .. } => 34,
        Fact::ImagesRead { .. } => 35,
        Fact::LocksRead { .. } => 36,
        Fact::LockState { .. } => 37,
        Fact::DeviceRead { .. } => 38,
    }
}

/// What exposure calls an entry.
pub(super) fn entry_name(entry: &Entry<Command>) -> &'static str {
    match entry {
        Entry::Noop => "noop",
        Entry::Away { .. } => "away",
        Entry::Term { .. } => "term",
        Entry::Renew { .. } => "renew",
        Entry::Resign { .. } => "resign",
        Entry::Admit { emptied: true, .. } => "admit, emptied",
        Entry::Admit { .. } => "admit",
        Entry::Armed { .. } => "armed",
        Entry::Unarmed { .. } => "unarmed",
        Entry::Rules { .. } => "rules",
        Entry::Revoke { .. } => "revoke",
        Entry::Restore { .. } => "restore",
        Entry::Proof { .. } => "proof",
        Entry::Attempt { .. } => "attempt",
        Entry::AttemptEnded { .. } => "attempt ended",
        Entry::App(Command::Placed { .. }) => "placed",
        Entry::App(Command::Closed { .. }) => "closed",
        Entry::App(_) => "other of guests",
    }
}
