//! A voter that seeks takes over the newest log of those that answer it, with the state before it
//! where that is cut.

use super::super::cutting::over_a_slow_line;
use super::super::follow::state_bytes;
use super::super::{Member, Output};
use crate::app::Application;
use crate::codec;
use crate::consensus::{NewerLog, Replica, Round};
use crate::entry::LogEntry;
use crate::frame::Stream;
use crate::id::{Epoch, NodeId};
use crate::mutants::planted;
use crate::time::Time;
use crate::vouch::{Claim, LogEnd, Standing};
use std::time::Duration;

/// Entries of the accepted log sent at once; no entry is longer than 128 KiB.
const FETCH_BATCH: usize = 64;
/// No further entry goes with so many bytes of them, so that a part passes a slow line in time.
const FETCH_BYTES: usize = 64 << 10;

/// The newest accepted log among the answers, on its way here.
#[derive(Clone, Debug)]
pub(super) struct Fetched<C> {
    from: NodeId,
    asked: Time,
    /// How long the answer may take.
    patience: Duration,
    first: u64,
    claim: Option<Claim>,
    /// The state before `first`, where the log before it is cut.
    state: Option<Vec<u8>>,
    entries: Vec<LogEntry<C>>,
}

impl<C> Fetched<C> {
    /// Claim of its sender, the log, and the state before that.
    fn log(self) -> Option<(Claim, NewerLog<C>, Option<Vec<u8>>)> {
        let claim = self.claim?;
        let log = NewerLog {
            round: claim.accepted?,
            from: self.first,
            rebase: self.state.is_some(),
            entries: self.entries,
        };
        Some((claim, log, self.state))
    }
}

impl<A: Application> Member<A> {
    /// Takes the highest promise and the newest log of those that answered, then votes.
    pub(super) fn catch_up(&mut self, now: Time, to: Standing) {
        let Some(replica) = &self.replica else { return };
        let (own, decided) = (replica.claim(), replica.decided());
        let answers = &self.vouching.answers;
        let best = answers.values().map(|a| a.claim.log()).max();
        // Where all have answered and nobody ever heard more of this voter, nothing that was counted
        // from it is forgotten: it may vote without what others hold beyond that, as anyone may who
        // lags; whoever holds it may be out of reach. Leases wait all the same: what it applied as a
        // follower is in no log of its own.
        let all = answers.len() == self.cluster().voters.len() - 1;
        let whole = all && self.vouching.newer.is_none() && !planted("whole-store-still-fetches");
        let lacks = !whole && best.is_some_and(|best| best > own.log());
        let done = |f: &Fetched<_>| {
            f.claim.is_some_and(|c| {
                Some(c.log()) >= best && f.first + f.entries.len() as u64 == c.index
            })
        };
        if lacks && !self.vouching.fetched.as_ref().is_some_and(done) {
            self.seek();
            return self.fetch(now, decided, best);
        }
        let mut promise = own.promise;
        for a in self.vouching.answers.values() {
            promise = promise.max(a.claim.promise).max(a.heard.promise);
        }
        let fetched = self.vouching.fetched.take().filter(|_| lacks);
        let mut log = None;
        if let Some((claim, newer, state)) = fetched.and_then(Fetched::log) {
            promise = promise.max(claim.promise);
            if !self.take_state_before(now, newer.from, state) {
                return;
            }
            log = Some(newer);
        }
        if !self.adopt(promise, log) {
            return;
        }
        let own = self
            .replica
            .as_ref()
            .map_or_else(LogEnd::default, |r| r.claim().log());
        // The newest log alone: a longer tail of an earlier round may never be decided.
        let best = best.unwrap_or_default();
        let (_, round, index) = own.max(best);
        self.vouching.ready_at = match planted("own-longer-tail-waited-for") {
            true => (round, own.2.max(best.2)),
            false => (round, index),
        };
        self.stand(now, to);
    }

    /// Shortens the wait before leases are granted, which lasts until as much is applied as the newest log
    /// held when this voter caught up. Where a later round began with less, the rest was never decided: what that round began with holds every promise to stop.
    pub(super) fn shorten_wait(&mut self) {
        let (round, index) = self.vouching.ready_at;
        if self.state.cluster.applied >= index || planted("dropped-tail-waited-for") {
            return;
        }
        let own = self.replica.as_ref().map(Replica::claim);
        if let Some(own) = own.filter(|own| own.accepted > round) {
            self.vouching.ready_at = (own.accepted, index.min(own.index));
        }
    }

    /// Takes over state and log of the voter `by`, which has cut what this one lacks, then votes as
    /// before. If that voter is gone, it votes as it is: whoever has cut the log will say so.
    pub(super) fn take_over_from(&mut self, now: Time, before: Standing, by: NodeId) {
        let Some(replica) = &self.replica else { return };
        let done = |f: &Fetched<_>| {
            let whole = |c: Claim| f.first + f.entries.len() as u64 == c.index;
            f.from == by && f.state.is_some() && f.claim.is_some_and(whole)
        };
        if !self.vouching.fetched.as_ref().is_some_and(done) {
            let asked = self.vouching.fetched.as_ref();
            let late = asked.is_none_or(|f| !self.may_answer(now, f));
            if late {
                let promise = replica.claim().promise;
                if self.adopt(promise, None) {
                    self.stand(now, before);
                }
            }
            return;
        }
        let fetched = self.vouching.fetched.take().and_then(Fetched::log);
        let Some((claim, newer, state)) = fetched else {
            return;
        };
        let promise = replica.claim().promise.max(claim.promise);
        let Some(log) = replica.after_cut(newer) else {
            return self.count("log older than the own one and cut behind it");
        };
        if self.take_state_before(now, log.from, state) && self.adopt(promise, Some(log)) {
            self.stand(now, before);
        }
    }

    /// Votes no more, for the others hold a log that this voter may have forgotten.
    pub(super) fn seek(&mut self) {
        if let Some(replica) = &mut self.replica {
            replica.hold();
        }
        self.vouching.standing = Standing::Seeking;
    }

    /// Whether a voter was asked for its state and may still answer.
    pub(in crate::member) fn state_under_way(&self, now: Time) -> bool {
        let asked = self.vouching.fetched.as_ref();
        self.vouching.cut.is_some() && asked.is_some_and(|f| self.may_answer(now, f))
    }

    /// Whether who was asked may still answer: in time, by an open session, and heard. One that hangs
    /// keeps its session open, and must not keep this voter from voting for as long as a state takes.
    fn may_answer(&self, now: Time, f: &Fetched<A::Command>) -> bool {
        let t = &self.cluster().timing;
        let waited = now.since(f.asked);
        let gone = waited >= self.answer_time() && self.ears.silent(now, f.from) >= t.silence();
        waited < f.patience && !gone && self.sessions.contains_key(&f.from)
    }

    /// Takes over the state before entry `from`; gives whether it could be.
    fn take_state_before(&mut self, now: Time, from: u64, state: Option<Vec<u8>>) -> bool {
        let Some(bytes) = state else { return true };
        let Some(state) = self.state_of(from, &bytes) else {
            self.count("state of no use");
            return false;
        };
        if from > self.state.cluster.applied {
            self.take_state(now, from, state, bytes);
            return true;
        }
        // What was applied by following is beyond it.
        let Ok(bytes) = codec::encode(codec::Kind::State, &self.state) else {
            self.count("state too long to hand over");
            return false;
        };
        let (applied, state) = (self.state.cluster.applied, self.state.clone());
        self.take_state(now, applied, state, bytes);
        true
    }

    /// Takes part in the log again, with these; gives whether it does.
    pub(in crate::member) fn adopt(
        &mut self,
        promise: Option<Round>,
        log: Option<NewerLog<A::Command>>,
    ) -> bool {
        let Some(replica) = &mut self.replica else {
            return false;
        };
        // One that voted unvouched and learns nothing goes on: made anew, it would lead no more.
        let learns = log.is_some() || promise != replica.claim().promise;
        if !learns && !replica.held() {
            return true;
        }
        if let Err(why) = replica.adopt(promise, log) {
            // Not ours to repair: it goes on without a vote.
            self.vouching.newer = Some(why);
            self.seek();
            return false;
        }
        for peer in self.sessions.keys() {
            if let Some(slot) = self.state.cluster.slot(*peer) {
                replica.session_up(slot);
            }
        }
        true
    }

    /// Asks for the newest accepted log among the answers, or for the rest of it.
    fn fetch(&mut self, now: Time, decided: u64, best: Option<(Epoch, Option<Round>, u64)>) {
        // Its own last state is about as long as the one that may come.
        let patience = self.cluster().timing.election * 2 + over_a_slow_line(self.snapshot.bytes);
        if let Some(f) = &self.vouching.fetched {
            if self.may_answer(now, f) {
                return;
            }
            if planted("known-log-forgotten") {
                self.vouching.answers.remove(&f.from);
                self.vouching.fetched = None;
                return;
            }
        }
        let answers = self.vouching.answers.iter();
        let mut holders = answers.filter(|(_, a)| Some(a.claim.log()) >= best);
        let open = |n: &NodeId| self.sessions.contains_key(n);
        let Some(peer) = holders.find(|(n, _)| open(n)).map(|(n, _)| *n) else {
            return;
        };
        self.fetch_from(now, peer, decided, patience);
    }

    /// Asks a voter for its accepted log from `decided` on, or for its state and what follows.
    pub(in crate::member) fn fetch_from(
        &mut self,
        now: Time,
        peer: NodeId,
        decided: u64,
        patience: Duration,
    ) {
        self.vouching.fetched = Some(Fetched {
            from: peer,
            asked: now,
            patience,
            first: decided,
            claim: None,
            state: None,
            entries: Vec::new(),
        });
        let message = Stream::Fetch { from: decided };
        self.output.push(Output::Stream { peer, message });
    }

    /// The voter that was asked has no state to give: it is asked again a little later, or another.
    pub(in crate::member) fn no_state(&mut self, peer: NodeId) {
        let patience = self.answer_time();
        match &mut self.vouching.fetched {
            Some(f) if f.from == peer => f.patience = f.patience.min(patience),
            _ => self.count("refusal that nobody asked for"),
        }
    }

    /// Tells `peer` that this node has left the log: who asks it what a voter is asked shall not wait for it.
    pub(super) fn tell_left(&mut self, peer: NodeId) {
        let message = Stream::LeftLog;
        self.output.push(Output::Stream { peer, message });
    }

    /// Drops the answer of a voter that says it has left the log: the log that it claimed is waited for
    /// no longer.
    pub(in crate::member) fn left_by(&mut self, peer: NodeId) {
        if planted("answer-without-log-stands") {
            return;
        }
        self.vouching.answers.remove(&peer);
        self.vouching.outdated.remove(&peer);
        if self
            .vouching
            .fetched
            .as_ref()
            .is_some_and(|f| f.from == peer)
        {
            self.vouching.fetched = None;
        }
    }

    /// Another voter catches up with the accepted log of this one.
    pub(in crate::member) fn fetch_asked(&mut self, peer: NodeId, from: u64) {
        if self.state.cluster.slot(peer).is_none() {
            return self.count("fetch of no use");
        }
        if self.left_log() {
            return self.tell_left(peer);
        }
        if self.replica.is_none() {
            return self.count("fetch of no use");
        }
        let message = self.log_from(from).unwrap_or_else(|why| {
            self.count(why);
            Stream::NoState
        });
        self.output.push(Output::Stream { peer, message });
    }

    /// The accepted log from entry `from` on, with the state before it where that is cut.
    fn log_from(&self, mut from: u64) -> Result<Stream<A::Command>, &'static str> {
        let replica = self.replica.as_ref().ok_or("fetch of no use")?;
        let mut state = None;
        let applied = self.state.cluster.applied;
        if from < replica.first() {
            if !self.may_hand_over(self.last_step) && !planted("untrusted-state-handed-over") {
                return Err("state that no quorum is known to have made");
            }
            if applied > replica.decided() {
                // Applied beyond the own log, by following: it cannot be continued from here now.
                return Err("fetch of what is cut");
            }
            from = applied;
            state = Some(state_bytes(&self.state)?);
        }
        // A state may fill the message; what follows is asked for by the next.
        let batch = if state.is_some() { 1 } else { FETCH_BATCH };
        let mut bytes = 0;
        let mut entries = replica.read_accepted(from, batch);
        let fit = entries.iter().take_while(|entry| {
            let before = bytes;
            bytes += codec::size(codec::Kind::Stream, entry).unwrap_or(FETCH_BYTES);
            before < FETCH_BYTES
        });
        entries.truncate(fit.count());
        Ok(Stream::Fetched {
            claim: Box::new(replica.claim()),
            from,
            state,
            entries,
        })
    }

    /// A part of another voter's accepted log came.
    pub(in crate::member) fn fetched(
        &mut self,
        now: Time,
        peer: NodeId,
        claim: Claim,
        from: u64,
        state: Option<Vec<u8>>,
        entries: Vec<LogEntry<A::Command>>,
    ) {
        let Some(f) = self.vouching.fetched.as_mut().filter(|f| f.from == peer) else {
            return self.count("part of a log that nobody asked for");
        };
        if self.vouching.standing != Standing::Seeking {
            return self.count("part of a log that nobody asked for");
        }
        if state.is_some() && from > f.first + f.entries.len() as u64 {
            // The sender has cut what came before: its state stands for it.
            (f.first, f.claim, f.state) = (from, None, state);
            f.entries.clear();
        }
        let next = f.first + f.entries.len() as u64;
        if from != next || (entries.is_empty() && from < claim.index) {
            return self.count("part of a log that nobody asked for");
        }
        if f.claim.is_some_and(|c| c.accepted != claim.accepted) {
            // Another round's log: what came so far may not be part of it.
            self.vouching.fetched = None;
            return;
        }
        f.asked = now;
        f.claim = Some(claim);
        f.entries.extend(entries);
        let next = f.first + f.entries.len() as u64;
        if next < claim.index {
            let message = Stream::Fetch { from: next };
            return self.output.push(Output::Stream { peer, message });
        }
        if next > claim.index {
            self.vouching.fetched = None;
            return self.count("log beyond its own claim");
        }
        self.judge_standing(now);
    }
}
