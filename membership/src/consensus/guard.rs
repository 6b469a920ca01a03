//! What may reach OmniPaxos. It believes every message; this does not.
//!
//! A message that the library would ignore in its present state may be refused without harm;
//! one that an honest peer sent and the library would act on never is.

use crate::id::{Epoch, Slot};
use crate::mutants::planted;
use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::messages::ballot_leader_election::{BLEMessage, HeartbeatMsg};
use omnipaxos::messages::sequence_paxos::{Compaction, PaxosMessage, PaxosMsg, Prepare, Promise};
use omnipaxos::storage::Entry;
use omnipaxos::util::LogSync;
use std::collections::BTreeSet;

/// How far a round may be ahead of the highest one seen. Rounds rise by one per election.
const ROUND_STEP: u32 = 1_000_000;
/// No round beyond this is believed, so that counting on never overflows.
const ROUND_END: u32 = u32::MAX - ROUND_STEP;
/// How far an index may be ahead of our own log.
const WINDOW: u64 = 10_000_000;

/// Why a message was not given to the consensus. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refused {
    /// The sender named inside is not the authenticated one.
    #[error("the message names another sender than the one it came from")]
    Sender,
    /// The sender is no voter of this epoch, or is ourselves.
    #[error("the sender is no other voter of this epoch")]
    Member,
    /// Meant for another voter.
    #[error("the message is addressed to another voter")]
    Addressee,
    /// A round of another epoch, or one that the sender cannot speak of.
    #[error("the round is not one this sender can speak of")]
    Round,
    /// A round far beyond every round seen.
    #[error("the round is absurdly far ahead")]
    RoundStep,
    /// An index far beyond our log.
    #[error("an index is absurdly far ahead")]
    Window,
    /// Indexes that contradict each other or what we know to be accepted and decided.
    #[error("the indexes contradict each other or our log")]
    Index,
    /// The sender lacks entries that are cut here: only a state helps it.
    #[error("the sender lacks entries that are cut here")]
    Cut,
    /// A place in the leader's sequence that no leader gives.
    #[error("the sequence number is impossible")]
    Sequence,
    /// A request to drop entries that is not the leader's or that no durable state here contains.
    #[error("the trim is not the promised leader's or goes beyond the durable state here")]
    Trim,
    /// A snapshot made by the library; they lose entries.
    #[error("library snapshots are not in use")]
    Snapshot,
    /// The end of an epoch, which this build cannot take part in.
    #[error("stop-signs are not in use")]
    StopSign,
    /// A second reply of one voter in one election round.
    #[error("the heartbeat reply was counted already")]
    RepeatedReply,
    /// A reply to an election round that is over; many mean that ticks are too short.
    #[error("the heartbeat reply is of another election round")]
    LateReply,
    /// The voter does not vote now: its store may have been set back.
    #[error("this voter waits for others to vouch for its store")]
    Held,
    /// The sender's incarnation is below one that was vouched for.
    #[error("the message is of an incarnation that counts no more")]
    EarlierLife,
    /// Proposals while no leader is known and enough of them wait for one.
    #[error("too many proposals wait for a leader")]
    Full,
}

/// What the replica knows of itself when a message arrives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// The promised round.
    pub(super) promise: Ballot,
    /// The round of the newest entries.
    pub(super) accepted_round: Ballot,
    /// We lead and are past the prepare phase.
    pub(super) leads: bool,
    /// We lead or follow past the prepare phase, and will take no log sync.
    pub(super) settled: bool,
    /// Index behind the last accepted entry.
    pub(super) accepted: u64,
    /// Index behind the last decided entry.
    pub(super) decided: u64,
    /// First index not trimmed.
    pub(super) first: u64,
    /// Entries that a durable state of ours contains.
    pub(super) kept: u64,
}

/// Checks messages; remembers only what no replica state tells.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    epoch: Epoch,
    slot: Slot,
    slots: u8,
    /// The highest round number in any message let through, and of our own.
    highest: u32,
    /// The election round under way, as the library counts it.
    election: u32,
    /// Ticks into it.
    ticks: u32,
    /// Ticks it lasts.
    election_ticks: u32,
    /// Voters whose reply to it was counted.
    replied: BTreeSet<Slot>,
}

impl Guard {
    pub(super) fn new(epoch: Epoch, slot: Slot, slots: u8, election_ticks: u32) -> Guard {
        Guard {
            epoch,
            slot,
            slots,
            highest: 0,
            // The library opens its first election round when it is made.
            election: 1,
            ticks: 0,
            election_ticks,
            replied: BTreeSet::new(),
        }
    }

    /// To be told of every tick the library gets. True if it ends an election round.
    pub(super) fn tick(&mut self) -> bool {
        self.ticks += 1;
        if self.ticks < self.election_ticks {
            return false;
        }
        self.ticks = 0;
        self.election = self.election.saturating_add(1);
        self.replied.clear();
        true
    }

    /// Whether `ballot` is one that a voter of this epoch can have made.
    pub(super) fn ballot_of_epoch(&self, ballot: Ballot) -> bool {
        ballot.config_id == self.epoch.0
            && ballot.priority == 0
            && ballot.pid >= 1
            && ballot.pid <= u64::from(self.slots)
    }

    fn round(&self, ballot: Ballot) -> Result<(), Refused> {
        if !self.ballot_of_epoch(ballot) {
            return Err(Refused::Round);
        }
        if ballot.n > self.highest.saturating_add(ROUND_STEP).min(ROUND_END) {
            return Err(Refused::RoundStep);
        }
        Ok(())
    }

    fn round_or_none(&self, ballot: Ballot) -> Result<(), Refused> {
        if ballot == Ballot::default() {
            return Ok(());
        }
        self.round(ballot)
    }

    /// A round led by the voter in `slot`.
    fn round_of(&self, ballot: Ballot, slot: Slot) -> Result<(), Refused> {
        self.round(ballot)?;
        if ballot.pid != u64::from(slot.0) || ballot.n == 0 {
            return Err(Refused::Round);
        }
        Ok(())
    }

    fn address(&self, from: Slot, named_from: u64, named_to: u64) -> Result<(), Refused> {
        if from.0 < 1 || from.0 > self.slots || from == self.slot {
            return Err(Refused::Member);
        }
        if named_from != u64::from(from.0) {
            return Err(Refused::Sender);
        }
        if named_to != u64::from(self.slot.0) {
            return Err(Refused::Addressee);
        }
        Ok(())
    }

    fn seen(&mut self, standing: Standing, ballots: &[Ballot]) {
        let highest = ballots.iter().map(|b| b.n).max().unwrap_or(0);
        self.highest = self.highest.max(highest).max(standing.promise.n);
    }

    /// Judges a message of leader election that came from the voter in `from`.
    pub(super) fn election_message(
        &mut self,
        standing: Standing,
        from: Slot,
        message: &BLEMessage,
    ) -> Result<(), Refused> {
        self.address(from, message.from, message.to)?;
        self.seen(standing, &[]);
        let HeartbeatMsg::Reply(reply) = &message.msg else {
            // A request only asks for our ballot and echoes a number.
            return Ok(());
        };
        self.round(reply.ballot)?;
        self.round(reply.leader)?;
        if reply.ballot.pid != message.from {
            return Err(Refused::Round);
        }
        if reply.round != self.election {
            return Err(Refused::LateReply);
        }
        // The library counts every reply, and two of one voter would make a quorum of one.
        if !self.replied.insert(from) {
            return Err(Refused::RepeatedReply);
        }
        self.seen(standing, &[reply.ballot, reply.leader]);
        Ok(())
    }

    /// Judges a message of log replication that came from the voter in `from`.
    pub(super) fn log_message<T: Entry>(
        &mut self,
        standing: Standing,
        from: Slot,
        message: &PaxosMessage<T>,
    ) -> Result<(), Refused> {
        self.address(from, message.from, message.to)?;
        self.seen(standing, &[]);
        match &message.msg {
            PaxosMsg::PrepareReq(m) => {
                self.round_or_none(m.n)?;
                self.seen(standing, &[m.n]);
            }
            PaxosMsg::Prepare(m) => {
                self.prepare(standing, from, m)?;
                self.seen(standing, &[m.n]);
            }
            PaxosMsg::Promise(m) => {
                self.promise(standing, m)?;
                self.seen(standing, &[m.n]);
            }
            PaxosMsg::AcceptSync(m) => {
                self.round_of(m.n, from)?;
                let end = sync_end(&m.log_sync)?;
                near(standing, end)?;
                // A leader opens each of its sequences with this message.
                if m.seq_num.counter != 1 || m.seq_num.session == 0 {
                    return Err(Refused::Sequence);
                }
                // A suffix that ends below what is decided was cut out of a trimmed log; a start
                // below our decided index would undo decisions, one above our log leave a hole,
                // and an end below our log take back what we acknowledged in this very round.
                // Only an answer to a repeated promise is honest and so, and comes too late: the
                // library may take it for the answer that is still to come.
                let start = m.log_sync.sync_idx as u64;
                if m.decided_idx as u64 > end
                    || (m.n == standing.promise
                        && !standing.settled
                        && (start < standing.decided
                            || start > standing.accepted
                            || (m.n == standing.accepted_round && end < standing.accepted)))
                {
                    return Err(Refused::Index);
                }
                self.seen(standing, &[m.n]);
            }
            PaxosMsg::AcceptDecide(m) => {
                self.round_of(m.n, from)?;
                follows(m.seq_num.session, m.seq_num.counter)?;
                // No tighter: after a gap, which the library must see, both may be far ahead.
                near(standing, m.decided_idx as u64)?;
                self.seen(standing, &[m.n]);
            }
            PaxosMsg::Decide(m) => {
                self.round_of(m.n, from)?;
                follows(m.seq_num.session, m.seq_num.counter)?;
                near(standing, m.decided_idx as u64)?;
                self.seen(standing, &[m.n]);
            }
            PaxosMsg::Accepted(m) => {
                self.round_of(m.n, self.slot)?;
                near(standing, m.accepted_idx as u64)?;
                // Nobody can have accepted in our own round what we have not.
                if m.n == standing.promise && m.accepted_idx as u64 > standing.accepted {
                    return Err(Refused::Index);
                }
                self.seen(standing, &[m.n]);
            }
            PaxosMsg::NotAccepted(m) => {
                self.round(m.n)?;
                self.seen(standing, &[m.n]);
            }
            PaxosMsg::ProposalForward(_) => {}
            PaxosMsg::Compaction(Compaction::Trim(to)) => {
                let most = standing.decided.min(standing.kept);
                let beyond = *to as u64 > most && !planted("cut-beyond-own-state");
                if standing.promise.pid != message.from || beyond {
                    return Err(Refused::Trim);
                }
            }
            PaxosMsg::Compaction(Compaction::Snapshot(_)) => return Err(Refused::Snapshot),
            PaxosMsg::AcceptStopSign(_) | PaxosMsg::ForwardStopSign(_) => {
                return Err(Refused::StopSign);
            }
        }
        Ok(())
    }

    fn prepare(&self, standing: Standing, from: Slot, m: &Prepare) -> Result<(), Refused> {
        self.round_of(m.n, from)?;
        self.round_or_none(m.n_accepted)?;
        let (accepted, decided) = (m.accepted_idx as u64, m.decided_idx as u64);
        near(standing, accepted)?;
        if m.n_accepted > m.n || decided > accepted {
            return Err(Refused::Index);
        }
        // Our answer would have to begin with trimmed entries, and would come out empty.
        if decided < standing.first {
            return Err(Refused::Cut);
        }
        // Whoever accepted in a later round holds everything decided in earlier ones.
        if standing.accepted_round > m.n_accepted && decided > standing.accepted {
            return Err(Refused::Index);
        }
        Ok(())
    }

    fn promise<T: Entry>(&self, standing: Standing, m: &Promise<T>) -> Result<(), Refused> {
        self.round_of(m.n, self.slot)?;
        self.round_or_none(m.n_accepted)?;
        let (accepted, decided) = (m.accepted_idx as u64, m.decided_idx as u64);
        near(standing, accepted)?;
        if m.n_accepted > m.n || decided > accepted {
            return Err(Refused::Index);
        }
        let sync = match &m.log_sync {
            Some(sync) => Some((sync.sync_idx as u64, sync_end(sync)?)),
            None => None,
        };
        if sync.is_some_and(|(_, end)| end != accepted) {
            return Err(Refused::Index);
        }
        if m.n != standing.promise {
            // Of a round of ours that is over: ignored.
            return Ok(());
        }
        if decided < standing.first {
            return Err(Refused::Cut);
        }
        if standing.leads {
            // Our log holds everything decided before our round, and in it nobody has more.
            if decided > standing.accepted || (m.n_accepted == m.n && accepted > standing.accepted)
            {
                return Err(Refused::Index);
            }
            return Ok(());
        }
        // While we prepare, our log stands still, so the sender's answer to it is determined: the
        // entries we lack exactly if its log is newer, beginning where our Prepare told it to.
        let expected = if m.n_accepted > standing.accepted_round {
            Some(standing.decided)
        } else if m.n_accepted == standing.accepted_round && accepted > standing.accepted {
            Some(standing.accepted)
        } else {
            None
        };
        if sync.map(|(start, _)| start) != expected
            || (expected.is_none() && decided > standing.accepted)
        {
            return Err(Refused::Index);
        }
        Ok(())
    }
}

/// The index behind the last entry of a log sync without snapshot and stop-sign.
fn sync_end<T: Entry>(sync: &LogSync<T>) -> Result<u64, Refused> {
    if sync.decided_snapshot.is_some() {
        return Err(Refused::Snapshot);
    }
    if sync.stopsign.is_some() {
        return Err(Refused::StopSign);
    }
    (sync.sync_idx as u64)
        .checked_add(sync.suffix.len() as u64)
        .ok_or(Refused::Window)
}

fn near(standing: Standing, index: u64) -> Result<(), Refused> {
    if index > standing.accepted.saturating_add(WINDOW) {
        return Err(Refused::Window);
    }
    Ok(())
}

/// A message inside a leader's sequence, which another one opened.
fn follows(session: u64, counter: u64) -> Result<(), Refused> {
    if session == 0 || counter < 2 {
        return Err(Refused::Sequence);
    }
    Ok(())
}
