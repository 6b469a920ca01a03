//! Cutting a log that some voter still lacks, and what such a voter goes on from.

use super::{Command, NewerLog, Replica};
use crate::id::Slot;
use crate::mutants::planted;
use omnipaxos::messages::Message;
use omnipaxos::messages::sequence_paxos::{Compaction, PaxosMessage, PaxosMsg};

impl<C: Command> Replica<C> {
    /// Drops the first `to` entries here and at the voters in `slots`, whatever others lack; such a one
    /// takes over a state when it comes back. `to` must be decided, and its effect durable in a state
    /// here. False if it is not, or if we do not lead.
    pub fn cut(&mut self, to: u64, slots: &[Slot]) -> bool {
        let durable = to <= self.kept || planted("cut-beyond-own-state");
        if !self.leads() || to > self.decided() || !durable {
            return false;
        }
        // The library's own call wants to have heard every voter; it takes this from anybody.
        let me = u64::from(self.config.slot.0);
        let trim = |pid: u64| {
            Message::SequencePaxos(PaxosMessage {
                from: me,
                to: pid,
                msg: PaxosMsg::Compaction(Compaction::Trim(to as usize)),
            })
        };
        self.stirred = true;
        self.paxos.handle_incoming(trim(me));
        self.collect();
        let others = slots.iter().map(|slot| u64::from(slot.0));
        self.outgoing
            .extend(others.filter(|pid| *pid != me).map(trim));
        true
    }

    /// A state of ours that contains so many entries is durable.
    pub fn state_kept(&mut self, entries: u64) {
        self.kept = self.kept.max(entries);
    }

    /// Encoded bytes of the accepted entries from index `from` on; of all that are here if it lies
    /// below [`Replica::first`].
    #[must_use]
    pub fn bytes_from(&self, from: u64) -> u64 {
        self.mirror.lock().bytes_from(from)
    }

    /// Log that a voter that was left behind takes over: the one that was fetched, or behind its state
    /// the own one if that is newer. None if the own one is newer and does not reach so far, which no
    /// honest log of another brings about.
    #[must_use]
    pub fn after_cut(&self, fetched: NewerLog<C>) -> Option<NewerLog<C>> {
        let claim = self.claim();
        let index = fetched.from + fetched.entries.len() as u64;
        let newer = |own: &_| (*own, claim.index) > (fetched.round, index);
        let Some(round) = claim.accepted.filter(newer) else {
            return Some(fetched);
        };
        // What is decided at a voter whose newest round is not later than ours is in our log.
        (claim.index >= fetched.from).then(|| NewerLog {
            round,
            entries: self.read_accepted(fetched.from, usize::MAX),
            ..fetched
        })
    }
}
