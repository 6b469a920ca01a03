//! One voter's replica of the log.

mod cutting;

use super::abdication::Abdication;
use super::guard::{Guard, Refused, Standing};
use super::storage::{Mirror, Shared};
use super::straggler::Stragglers;
use super::{Command, ElectionMessage, LogMessage, Round};
use crate::entry::LogEntry;
use crate::id::{Epoch, Slot};
use crate::store::{Image, Write};
use crate::vouch::Claim;
use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::messages::Message;
use omnipaxos::messages::ballot_leader_election::HeartbeatMsg;
use omnipaxos::messages::sequence_paxos::PaxosMsg;
use omnipaxos::{ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig};
use std::collections::BTreeMap;
use std::fmt;

/// Ticks after which an unanswered prepare, promise or request for either is repeated.
const RESEND_TICKS: u64 = 20;
/// Proposals that may wait inside the library for a leader; their proposers repeat them anyway.
const WAITING: usize = 1024;

/// Rounds a leader raises itself at once to reach a straggler; they are rarely more than one.
const RAISE: u32 = 64;

/// What a replica is told when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// The set of voters; one OmniPaxos configuration. Not 0.
    pub epoch: Epoch,
    /// Our place among them.
    pub slot: Slot,
    /// How many they are, in slots 1 to this; 2 or more.
    pub slots: u8,
    /// Ticks an election round lasts; a round trip must fit into them. Not 0.
    pub election_ticks: u32,
}

/// A message for another voter.
#[derive(Clone, Debug)]
pub enum Outgoing<C: Command> {
    /// Travels on a session: in order, and none without the one before it.
    Log(LogMessage<C>),
    /// Travels as a datagram.
    Election(ElectionMessage),
}

/// One voter's replica of the log: OmniPaxos with strict input and durable output.
///
/// It does no I/O. After any calls, take the writes, make them durable as one atomic batch, and
/// only then take and send the messages. A panic inside means that the node must end.
pub struct Replica<C: Command> {
    config: ReplicaConfig,
    paxos: OmniPaxos<LogEntry<C>, Shared<C>>,
    mirror: Shared<C>,
    guard: Guard,
    stragglers: Stragglers,
    abdication: Abdication,
    outgoing: Vec<Message<LogEntry<C>>>,
    /// The library was given something since the last [`Replica::take_messages`].
    stirred: bool,
    /// At most this many proposals wait inside the library for a leader.
    waiting: usize,
    /// It takes no part: nothing is received, counted or sent.
    held: bool,
    /// Entries that a durable state of ours contains.
    kept: u64,
    lives: Lives,
}

/// Another voter's log, newer than ours, to be taken in its place.
#[derive(Clone, Debug)]
pub struct NewerLog<C> {
    /// The round of its newest entries.
    pub round: Round,
    /// Index of the first of `entries`; not below what is decided here.
    pub from: u64,
    /// What was decided before `from` is known as a state, so our own entries there are dropped.
    pub rebase: bool,
    /// What it holds from there on.
    pub entries: Vec<LogEntry<C>>,
}

/// From which incarnations of the others the round we lead has counted.
#[derive(Debug, Default)]
struct Lives {
    /// The incarnation behind what now comes from a voter.
    present: BTreeMap<Slot, u64>,
    /// The newest one that was vouched for; nothing of a lower one counts.
    vouched: BTreeMap<Slot, u64>,
    /// The lowest counted in `round`.
    counted: BTreeMap<Slot, u64>,
    round: Ballot,
}

impl<C: Command> Replica<C> {
    /// The replica as it was when `image` became durable; an image just made begins an empty log.
    ///
    /// # Errors
    /// The configuration is impossible, or the image contradicts itself or belongs to another
    /// epoch: the store is damaged, and voting from it could undo decisions.
    pub fn new(config: ReplicaConfig, image: &Image<C>) -> Result<Replica<C>, String> {
        if config.slot.0 < 1 || config.slot.0 > config.slots {
            return Err(format!(
                "slot {} is not one of the {} slots of epoch {}",
                config.slot.0, config.slots, config.epoch.0
            ));
        }
        let guard = Guard::new(
            config.epoch,
            config.slot,
            config.slots,
            config.election_ticks,
        );
        check_image(&guard, image)?;
        let mirror = Shared::new(Mirror::new(image));
        let paxos = build(config, mirror.clone())?;
        Ok(Replica {
            config,
            paxos,
            mirror,
            guard,
            stragglers: Stragglers::default(),
            abdication: Abdication::default(),
            outgoing: Vec::new(),
            stirred: true,
            waiting: 0,
            held: false,
            kept: image.snapshot.as_ref().map_or(0, |(applied, _)| *applied),
            lives: Lives::default(),
        })
    }

    /// Takes no part from now on, until [`Replica::adopt`].
    pub fn hold(&mut self) {
        self.held = true;
        self.stirred = true;
    }

    /// Whether it takes no part.
    #[must_use]
    pub fn held(&self) -> bool {
        self.held
    }

    /// What this replica holds, counting what was not taken by the store yet.
    #[must_use]
    pub fn claim(&self) -> Claim {
        let mirror = self.mirror.lock();
        Claim {
            epoch: self.config.epoch,
            promise: Round::some(mirror.promised()),
            accepted: Round::some(mirror.accepted_round()),
            index: mirror.length(),
        }
    }

    /// What the leader that we follow holds: all that it sent us.
    #[must_use]
    pub fn leader_claim(&self) -> Option<(Slot, Claim)> {
        let claim = self.claim();
        let leader = Slot(claim.promise?.0.pid as u8);
        let follows = claim.promise == claim.accepted && leader != self.config.slot;
        follows.then_some((leader, claim))
    }

    /// Accepted entries from index `from` on, up to `max`, whether they are decided or not.
    #[must_use]
    pub fn read_accepted(&self, from: u64, max: usize) -> Vec<LogEntry<C>> {
        let mirror = self.mirror.lock();
        let to = mirror.length().min(from.saturating_add(max as u64));
        mirror.entries(from, to).to_vec()
    }

    /// Takes part (again), with what the others' stores say was promised and accepted: the highest
    /// promise, and where another's log is newer, its round and its entries from an index on that is
    /// not below what is decided here.
    ///
    /// # Errors
    /// The entries do not continue our log, or the library refuses; nothing has changed then.
    pub fn adopt(
        &mut self,
        promise: Option<Round>,
        log: Option<NewerLog<C>>,
    ) -> Result<(), String> {
        let mut mirror = self.mirror.lock();
        if let Some(NewerLog { from, rebase, .. }) = &log
            && (*from < mirror.decided_here() || (*from > mirror.length() && !rebase))
        {
            return Err(format!("entries from index {from} do not continue the log"));
        }
        let round = log.as_ref().map(|log| log.round);
        let highest = promise.max(round).map_or_else(Ballot::default, |r| r.0);
        if highest > mirror.promised() {
            mirror.promise(highest);
        }
        if let Some(log) = log {
            if log.rebase {
                mirror.rebase(log.from);
            }
            mirror.append_from(log.from, log.entries);
            mirror.accept_round(log.round.0);
        }
        drop(mirror);
        self.paxos = build(self.config, self.mirror.clone())?;
        self.guard = Guard::new(
            self.config.epoch,
            self.config.slot,
            self.config.slots,
            self.config.election_ticks,
        );
        self.stragglers = Stragglers::default();
        self.abdication = Abdication::default();
        self.outgoing.clear();
        self.waiting = 0;
        self.lives.counted.clear();
        self.held = false;
        self.stirred = true;
        Ok(())
    }

    /// What comes from the voter in `slot` from now on is of this incarnation's counter.
    pub fn speaks(&mut self, slot: Slot, life: u64) {
        self.lives.present.insert(slot, life);
    }

    /// That incarnation of the voter in `slot` was vouched for: what was counted from an earlier one
    /// counts no more, so the round it was counted in ends.
    pub fn vouched(&mut self, slot: Slot, life: u64) {
        let known = self.lives.vouched.entry(slot).or_default();
        *known = life.max(*known);
        let promise = self.paxos.get_promise();
        let stale = self.lives.counted.get(&slot).is_some_and(|c| *c < *known)
            && self.lives.round == promise
            && promise.pid == u64::from(self.config.slot.0);
        if stale {
            self.lives.counted.clear();
            self.lead();
        }
    }
}

/// The library over what `mirror` holds.
fn build<C: Command>(
    config: ReplicaConfig,
    mirror: Shared<C>,
) -> Result<OmniPaxos<LogEntry<C>, Shared<C>>, String> {
    OmniPaxosConfig {
        cluster_config: ClusterConfig {
            configuration_id: config.epoch.0,
            nodes: (1..=u64::from(config.slots)).collect(),
            flexible_quorum: None,
        },
        server_config: ServerConfig {
            pid: u64::from(config.slot.0),
            election_tick_timeout: u64::from(config.election_ticks),
            resend_message_tick_timeout: RESEND_TICKS,
            // Only the room made in advance.
            buffer_size: 64,
            batch_size: 1,
            ..ServerConfig::default()
        },
    }
    .build(mirror)
    .map_err(|e| format!("consensus of epoch {}: {e}", config.epoch.0))
}

impl<C: Command> Replica<C> {
    /// Proposes `entry`: puts it into the log as leader, else passes it to the leader. False if it
    /// was refused (nobody to pass it to, and enough proposals wait). True never means decided,
    /// nor that it ever will be: repeat it until it is applied.
    pub fn append(&mut self, entry: LogEntry<C>) -> bool {
        self.stirred = true;
        !self.held && self.admit(1) && self.paxos.append(entry).is_ok()
    }

    /// Takes a message that came on the session with the voter in `from`.
    ///
    /// # Errors
    /// Why it was refused; nothing has changed then.
    pub fn receive_log(&mut self, from: Slot, message: LogMessage<C>) -> Result<(), Refused> {
        if self.held {
            return Err(Refused::Held);
        }
        let life = self.lives.present.get(&from).copied().unwrap_or(0);
        let vouched = self.lives.vouched.get(&from).copied().unwrap_or(0);
        if life < vouched {
            return Err(Refused::EarlierLife);
        }
        let counts = message.counts();
        let message = message.0;
        self.guard.log_message(self.standing(), from, &message)?;
        if counts {
            let round = self.paxos.get_promise();
            if self.lives.round != round {
                self.lives.round = round;
                self.lives.counted.clear();
            }
            let counted = self.lives.counted.entry(from).or_insert(life);
            *counted = life.min(*counted);
        }
        match &message.msg {
            PaxosMsg::ProposalForward(entries) if !self.admit(entries.len()) => {
                return Err(Refused::Full);
            }
            // The library lengthens messages that wait to be taken. An answer to a promise must
            // not overtake what is then added to a message in front of it.
            PaxosMsg::Promise(_) => self.collect(),
            _ => {}
        }
        self.stirred = true;
        self.paxos.handle_incoming(Message::SequencePaxos(message));
        Ok(())
    }

    /// Takes a datagram of leader election from the voter in `from`.
    ///
    /// # Errors
    /// Why it was refused; nothing has changed then.
    pub fn receive_election(
        &mut self,
        from: Slot,
        message: ElectionMessage,
    ) -> Result<(), Refused> {
        if self.held {
            return Err(Refused::Held);
        }
        let message = message.0;
        self.guard
            .election_message(self.standing(), from, &message)?;
        if let HeartbeatMsg::Reply(reply) = &message.msg {
            self.stragglers.reply(self.paxos.get_promise(), reply);
        }
        self.stirred = true;
        self.paxos.handle_incoming(Message::BLE(message));
        Ok(())
    }

    /// One tick has passed: an `election_ticks`-th part of an election round.
    pub fn tick(&mut self) {
        if self.held {
            return;
        }
        self.stirred = true;
        if self.guard.tick() {
            let leads = self.leads() && self.stragglers.followed(self.config.slots);
            let (undecided, decided) = (self.undecided(), self.decided());
            self.abdication.round_over(leads, undecided, decided);
            let straggler = self.stragglers.round_over(self.leads(), self.config.slots);
            if let Some(round) = straggler {
                self.raise_above(round);
            }
        }
        self.paxos.tick();
    }

    /// Goes through the prepare phase in a round above all we know of, without an election.
    pub fn lead(&mut self) {
        if self.held {
            return;
        }
        self.stirred = true;
        self.paxos.try_become_leader();
    }

    /// Has the others elect another leader, if we lead and they can.
    pub fn abdicate(&mut self) {
        if self.leads() {
            self.abdication.at_once();
        }
    }

    /// A new session with `peer` stands; whatever the last one still carried is lost. To be called
    /// at both ends, before anything of the new session is received.
    pub fn session_up(&mut self, peer: Slot) {
        if !self.held && peer.0 >= 1 && peer.0 <= self.config.slots {
            self.stirred = true;
            self.paxos.reconnected(u64::from(peer.0));
        }
    }

    /// Whether anything may have changed since [`Replica::take_messages`]: if not, there is nothing
    /// to write, to send or to apply.
    #[must_use]
    pub fn stirred(&self) -> bool {
        self.stirred
    }

    /// What the store must be told since the last call, oldest first: one atomic batch, durable
    /// before any message taken afterwards leaves.
    pub fn take_writes(&mut self) -> Vec<Write<C>> {
        self.mirror.lock().take_writes()
    }

    /// The messages to send, in order. Call it when the writes taken are durable.
    ///
    /// # Panics
    /// If writes were not taken: messages that rest on them would leave too early.
    pub fn take_messages(&mut self) -> Vec<(Slot, Outgoing<C>)> {
        assert!(
            !self.mirror.lock().has_writes(),
            "messages taken before the writes they rest on"
        );
        self.collect();
        if self.held {
            self.outgoing.clear();
        }
        let silent = self.abdication.silent();
        self.stirred = false;
        self.outgoing
            .drain(..)
            .filter(|m| !(silent && answers_election(m)))
            .map(|message| {
                // The library addresses peers only, and their slots come from a u8.
                let to = Slot(message.get_receiver() as u8);
                let message = match message {
                    Message::SequencePaxos(m) => Outgoing::Log(LogMessage(m)),
                    Message::BLE(m) => Outgoing::Election(ElectionMessage(m)),
                };
                (to, message)
            })
            .collect()
    }

    /// How many entries are decided, trimmed ones included.
    #[must_use]
    pub fn decided(&self) -> u64 {
        self.paxos.get_decided_idx() as u64
    }

    /// Up to `max` decided entries from index `from` (counted from 0) on. Empty if none is
    /// decided there, or if `from` lies below [`Replica::first`]: then only a state will help.
    #[must_use]
    pub fn read_decided(&self, from: u64, max: usize) -> Vec<LogEntry<C>> {
        let to = self.decided().min(from.saturating_add(max as u64));
        self.mirror.lock().entries(from, to).to_vec()
    }

    /// The first index that is not trimmed.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.mirror.lock().first()
    }

    /// Whether entries are accepted here that are not known to be decided.
    #[must_use]
    pub fn undecided(&self) -> bool {
        self.paxos.get_accepted_idx() > self.paxos.get_decided_idx()
    }

    /// Whether we lead as far as we know: evidence of nothing, since another may lead already.
    #[must_use]
    pub fn leads(&self) -> bool {
        !self.held && self.paxos.get_current_leader() == Some((u64::from(self.config.slot.0), true))
    }

    /// The voter whose round we promised last; a guess where proposals are best sent.
    #[must_use]
    pub fn leader_hint(&self) -> Option<Slot> {
        let (pid, _) = self.paxos.get_current_leader()?;
        Some(Slot(pid as u8))
    }

    /// Whether `count` proposals may be given to the library now.
    fn admit(&mut self, count: usize) -> bool {
        let waits = match self.paxos.get_current_leader() {
            None => true,
            Some((_, true)) => {
                // Whoever reaches this phase has passed on what waited.
                self.waiting = 0;
                false
            }
            Some((pid, false)) => pid == u64::from(self.config.slot.0),
        };
        if waits {
            if self.waiting.saturating_add(count) > WAITING {
                return false;
            }
            self.waiting += count;
        }
        true
    }

    /// Goes through the prepare phase again, in a round above `round` if it is near.
    fn raise_above(&mut self, round: Ballot) {
        for _ in 0..RAISE {
            if self.paxos.get_promise() > round {
                return;
            }
            self.lead();
        }
    }

    fn collect(&mut self) {
        self.paxos.take_outgoing_messages(&mut self.outgoing);
    }

    fn standing(&self) -> Standing {
        let mirror = self.mirror.lock();
        Standing {
            promise: self.paxos.get_promise(),
            accepted_round: mirror.accepted_round(),
            leads: self.leads(),
            settled: matches!(self.paxos.get_current_leader(), Some((_, true))),
            accepted: self.paxos.get_accepted_idx() as u64,
            decided: self.paxos.get_decided_idx() as u64,
            first: mirror.first(),
            kept: self.kept,
        }
    }
}

impl<C: Command> fmt::Debug for Replica<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica")
            .field("config", &self.config)
            .field("standing", &self.standing())
            .finish_non_exhaustive()
    }
}

fn answers_election<C: Command>(message: &Message<LogEntry<C>>) -> bool {
    matches!(message, Message::BLE(m) if matches!(m.msg, HeartbeatMsg::Reply(_)))
}

/// Whether the image can be one of this replica's.
fn check_image<C: Command>(guard: &Guard, image: &Image<C>) -> Result<(), String> {
    let promise = image.promise.map_or_else(Ballot::default, |r| r.0);
    let accepted = image.accepted_round.map_or_else(Ballot::default, |r| r.0);
    for (name, ballot) in [("promise", promise), ("accepted round", accepted)] {
        if ballot != Ballot::default() && !guard.ballot_of_epoch(ballot) {
            return Err(format!(
                "the store's {name} {ballot:?} is none of this epoch"
            ));
        }
    }
    if accepted > promise {
        return Err(format!(
            "the store's accepted round {accepted:?} is above its promise {promise:?}"
        ));
    }
    let length = image.trimmed + image.log.len() as u64;
    if image.decided > length {
        return Err(format!(
            "the store's log ends at index {length} but {} entries are decided",
            image.decided
        ));
    }
    if length > 0 && accepted == Ballot::default() {
        return Err(format!(
            "the store's log of {length} entries has no accepted round"
        ));
    }
    Ok(())
}
