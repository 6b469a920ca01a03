//! The log beyond the voters: sessions, followers, and the voter a follower follows.

use super::{Member, Output};
use crate::app::Application;
use crate::apply::State;
use crate::codec;
use crate::consensus::{Refused, Replica};
use crate::entry::LogEntry;
use crate::frame::{Datagram, Frame, Stream};
use crate::id::{Incarnation, NodeId, Token};
use crate::mutants::planted;
use crate::states::RULES;
use crate::store::{StopRecord, Write};
use crate::time::Time;
use crate::vouch::Standing;

/// Entries sent to a follower at once; no entry is longer than 128 KiB, so a feed stays far below
/// the limit of a session message.
const FEED_BATCH: usize = 64;
/// A state of more bytes does not go to a follower: one session message holds no more.
pub(super) const MESSAGE: usize = 15 << 20;

impl<A: Application> Member<A> {
    /// A new session to `peer` is open; whatever an older one still had queued is gone.
    pub fn session_up(&mut self, now: Time, peer: NodeId, life: Incarnation) {
        self.sessions.remove(&peer);
        self.feeds.remove(&peer);
        if self.refused(now, peer, life) {
            self.count("session of a set-back or doubled peer");
            self.tell_superseded(now, peer, self.admitted_life(peer).counter);
        } else {
            self.sessions.insert(peer, life);
            self.parted.remove(&peer);
            // Before anything else: who was set back learns of it before it can answer.
            self.state_to(peer, None);
            let alone = self.uncompared(peer);
            if let (Some(slot), Some(replica)) =
                (self.state.cluster.slot(peer), self.replica.as_mut())
            {
                replica.speaks(slot, life.counter);
                if !alone {
                    replica.session_up(slot);
                }
            }
        }
        if self.following.is_some_and(|(v, _)| v == peer) {
            self.following = None;
        }
        self.choose_voter(now);
        self.settle(now);
    }

    /// The session to `peer` is gone.
    pub fn session_down(&mut self, now: Time, peer: NodeId) {
        self.sessions.remove(&peer);
        self.feeds.remove(&peer);
        if self.following.is_some_and(|(v, _)| v == peer) {
            self.following = None;
        }
        self.choose_voter(now);
    }

    /// Whether datagrams to `peer` go by the session to it as well (reading 26): nothing of it came by
    /// a link for 2·h, or one of us two says that nothing renewed its lease for so long.
    fn needs_session(&self, peer: NodeId) -> bool {
        let now = self.last_step;
        let patience = self.state.cluster.timing.heartbeat * 2;
        let last = self.by_link.get(&peer).copied().unwrap_or(self.began);
        let unrenewed = |ago| ago >= patience;
        self.sessions.contains_key(&peer)
            && (now.since(last) >= patience
                || unrenewed(self.lease.renewed_ago(now))
                || self
                    .ears
                    .get(peer)
                    .is_some_and(|h| unrenewed(h.beat.renewed_ago)))
    }

    /// Sends a datagram by the sessions to those of its addressees that need it.
    pub(super) fn also_by_session(&mut self, frame: &Frame<A::Status>) {
        if matches!(
            frame.body,
            Datagram::Relayed { .. } | Datagram::RelayedBulletin { .. }
        ) {
            // Whoever needs it has a session of its own.
            return;
        }
        let addressed = |peer: &NodeId| frame.to.is_empty() || frame.to.contains(peer);
        let peers = self.sessions.keys().copied().filter(addressed);
        let peers: Vec<NodeId> = peers.filter(|peer| self.needs_session(*peer)).collect();
        if peers.is_empty() {
            return;
        }
        let Ok(bytes) = codec::encode(codec::Kind::Frame, frame) else {
            return;
        };
        for peer in peers {
            let message = Stream::Datagram(bytes.clone());
            self.output.push(Output::AlsoBySession { peer, message });
        }
    }

    /// A datagram came by the session from `peer`, which keeps order and repeats nothing.
    fn by_session(&mut self, now: Time, peer: NodeId, bytes: &[u8]) {
        let Ok(frame) = codec::decode::<Frame<A::Status>>(codec::Kind::Frame, bytes) else {
            return self.count("datagram by session does not decode");
        };
        let header = frame.header;
        if header.from != peer || header.cluster != self.cluster().id {
            return self.count("datagram by session of another node");
        }
        if self.refused(now, header.from, header.incarnation) {
            return self.count("set back or cloned");
        }
        let again = match &frame.body {
            // It came by a link as well, and was acknowledged.
            // So did a newer one, which makes it say nothing.
            Datagram::Beat(beat) => self.ears.get(peer).is_some_and(|h| {
                h.incarnation == header.incarnation && h.beat.sequence >= beat.sequence
            }),
            // To be passed on: it came by a link, or the host has a session of its own.
            Datagram::Ack(ack) => ack.host != self.me,
            _ => false,
        };
        if !again {
            self.said(now, header, frame.body);
        }
    }

    /// Whether `peer` is no voter to elect or be elected by: beats may pass, but no session has
    /// stood for two election time-outs, so no entry of the log could. A leader that nothing but
    /// datagrams reach would keep its place for ever and decide nothing (L2).
    pub(super) fn without_log(&mut self, now: Time, peer: NodeId) -> bool {
        if self.sessions.contains_key(&peer) {
            return false;
        }
        let since = *self.parted.entry(peer).or_insert(now);
        now.since(since) >= self.state.cluster.timing.election * 2
    }

    /// A message came on the session from `peer`.
    pub fn stream(&mut self, now: Time, peer: NodeId, message: Stream<A::Command>) {
        let life = self.sessions.get(&peer).copied();
        let Some(life) = life.filter(|life| !self.refused(now, peer, *life)) else {
            self.tell_superseded(now, peer, self.admitted_life(peer).counter);
            return self.count("message of a set-back or doubled peer");
        };
        match message {
            Stream::Superseded { life } => self.superseded_by(now, life),
            Stream::Statement(statement) => self.stated(now, peer, life, &statement),
            Stream::Cut { first, bytes } => self.cut_told(now, peer, first, bytes),
            Stream::NoState => self.no_state(peer),
            Stream::LeftLog => self.left_by(peer),
            Stream::Fetch { from } => self.fetch_asked(peer, from),
            Stream::Fetched {
                claim,
                from,
                state,
                entries,
            } => self.fetched(now, peer, *claim, from, state, entries),
            Stream::Log {
                epoch,
                lives,
                message,
            } => {
                self.lives_named(now, &lives);
                let slot = self.cluster().slot(peer);
                let (Some(slot), Some(replica)) = (slot, &mut self.replica) else {
                    return self.count("log message outside the voters");
                };
                if epoch != self.state.cluster.epoch {
                    return self.count("log message of another epoch");
                }
                let (claim, leads) = (message.claim(epoch), message.leads());
                match replica.receive_log(slot, *message) {
                    Ok(()) => {}
                    Err(Refused::Cut) => {
                        self.tell_cut(now, peer);
                        return self.count("log message of a voter that was left behind");
                    }
                    Err(_) => return self.count("log message refused"),
                }
                if let Some(claim) = claim {
                    self.claimed(peer, &claim);
                } else if leads
                    && let Some((leader, claim)) = replica.leader_claim()
                    && leader == slot
                {
                    self.claimed(peer, &claim);
                }
            }
            Stream::Propose(entries) => {
                if self.replica.is_none() {
                    return self.count("proposal to no voter");
                }
                self.proposed(peer, entries);
            }
            Stream::Follow { from } => {
                if self.replica.is_some() {
                    self.feeds.insert(peer, from);
                }
            }
            Stream::Whole => self.hand_over_whole(peer),
            Stream::Feed {
                epoch,
                from,
                entries,
            } => {
                if self.state_in_doubt() {
                    return self.count("feed before the state");
                }
                if epoch != self.cluster().epoch {
                    return self.count("feed of no use");
                }
                if self.following.is_none_or(|(v, _)| v != peer) {
                    return self.count("feed from another voter");
                }
                self.following = Some((peer, now));
                let kept = if self.feeds.is_empty() {
                    Vec::new()
                } else {
                    entries.clone()
                };
                for (at, entry) in (from..).zip(entries) {
                    if at == self.state.cluster.applied && self.rules_known() {
                        self.apply(now, entry, false);
                    }
                }
                self.pass_on(from, &kept);
            }
            Stream::Datagram(bytes) => self.by_session(now, peer, &bytes),
            Stream::State {
                epoch,
                applied,
                bytes,
            } => {
                if epoch != self.cluster().epoch || self.replica.is_some() {
                    return self.count("state of no use");
                }
                self.state_received(now, peer, applied, bytes);
            }
        }
        self.settle(now);
    }

    /// Takes up proposals. While we follow another voter our own forward would be lost, so what
    /// comes from its proposer goes to that voter as well; what was passed on once is not again,
    /// or two that follow each other would pass it to and fro for ever.
    fn proposed(&mut self, from: NodeId, entries: Vec<LogEntry<A::Command>>) {
        let voter = self.cluster().slot(from).is_some();
        let (own, relayed): (Vec<_>, Vec<_>) = entries.into_iter().partition(|e| e.id.node == from);
        if let Some((peer, _)) = self.following
            && peer != from
            && !own.is_empty()
            && !planted("follower-keeps-it-to-itself")
        {
            let message = Stream::Propose(own.clone());
            self.output.push(Output::Stream { peer, message });
        }
        let relayed = relayed.into_iter().filter(|_| voter);
        if let Some(replica) = &mut self.replica {
            for entry in own.into_iter().chain(relayed) {
                replica.append(entry);
            }
        }
    }

    /// What a feed brings is in no log of ours: whoever follows us gets it as it comes. Each entry
    /// is applied once, so it goes round no circle of voters.
    fn pass_on(&mut self, from: u64, entries: &[LogEntry<A::Command>]) {
        if planted("follower-keeps-it-to-itself") {
            return;
        }
        let (epoch, applied) = (self.state.cluster.epoch, self.state.cluster.applied);
        for (peer, next) in &mut self.feeds {
            let fresh = (from..applied).zip(entries).filter(|(at, _)| *at >= *next);
            let entries: Vec<_> = fresh.map(|(_, entry)| entry.clone()).collect();
            if *next < from || entries.is_empty() {
                continue;
            }
            let message = Stream::Feed {
                epoch,
                from: *next,
                entries,
            };
            *next = applied;
            self.output.push(Output::Stream {
                peer: *peer,
                message,
            });
        }
    }

    /// Keeps one voter to follow, and takes the next when it falls silent.
    ///
    /// A follower always follows one. A voter does while its own log stands still and others are
    /// ahead: it may reach a quorum's members but not their leader, and what concerns its guests
    /// must come to it all the same (V10).
    pub(super) fn choose_voter(&mut self, now: Time) {
        let behind = (self.left_behind(now) || self.vouching.standing == Standing::Seeking)
            && !planted("left-behind-voter-waits");
        // What comes by a state that is on its way need not come twice over the same line.
        if self.replica.is_some() && (!behind || self.state_under_way(now)) {
            self.following = None;
            return;
        }
        let patience = self.cluster().timing.election * 4;
        let last = match self.following {
            Some((_, heard)) if now.since(heard) < patience => return,
            Some((voter, _)) => Some(voter),
            None => None,
        };
        let mut voters = self.followable(self.other_voters());
        let turn = (self.me.0 as usize + self.beat_sequence as usize) % voters.len().max(1);
        voters.rotate_left(turn);
        // Whoever just fell silent is tried again only if there is nobody else.
        voters.sort_by_key(|v| Some(*v) == last);
        let open = voters.into_iter().find(|v| self.sessions.contains_key(v));
        self.following = open.map(|v| (v, now));
        if let Some((peer, _)) = self.following {
            let message = self.asks_to_follow();
            self.output.push(Output::Stream { peer, message });
        }
    }

    /// Whether this voter's own log has long stood still behind what others have applied.
    fn left_behind(&mut self, now: Time) -> bool {
        let decided = self.replica.as_ref().map_or(0, Replica::decided);
        if self.progress.0 != decided {
            self.progress = (decided, now);
        }
        let t = &self.cluster().timing;
        let (fresh, patience) = (t.heartbeat * 2, t.election * 4);
        if now.since(self.progress.1) < patience {
            return false;
        }
        // What a feed brought is beyond our own log; it is followed until that catches up.
        self.cluster().applied > decided
            || self.other_voters().into_iter().any(|v| {
                self.ears.silent(now, v) < fresh
                    && self.ears.get(v).is_some_and(|h| h.beat.applied > decided)
            })
    }

    pub(super) fn feed_followers(&mut self) {
        let trusted = self.state_trusted();
        let Some(replica) = &self.replica else { return };
        let applied = self.state.cluster.applied;
        let epoch = self.state.cluster.epoch;
        let mut behind = Vec::new();
        for (peer, next) in &mut self.feeds {
            // Beyond our own log there are no entries to read: a voter has to find them elsewhere,
            // since no state is taken by one.
            let voter = self.state.cluster.slot(*peer).is_some();
            let beyond = (replica.decided()..applied).contains(next)
                && !voter
                && !planted("follower-keeps-it-to-itself");
            if voter && *next < replica.first() && !planted("cut-told-by-leaders-only") {
                // A voter with a log takes no state that is fed to it; one without, whose store failed, does.
                behind.push(*peer);
            }
            if *next < replica.first() || beyond {
                let message = if trusted {
                    whole_state(&self.state)
                } else {
                    Err("state that no quorum is known to have made")
                };
                match message {
                    Ok(message) => {
                        let peer = *peer;
                        self.output.push(Output::Stream { peer, message });
                    }
                    Err(why) => {
                        *self.dropped.entry(why).or_default() += 1;
                        continue;
                    }
                }
                *next = applied;
            }
            while *next < applied {
                let left = usize::try_from(applied - *next).unwrap_or(usize::MAX);
                let entries = replica.read_decided(*next, FEED_BATCH.min(left));
                if entries.is_empty() {
                    break;
                }
                let from = *next;
                *next += entries.len() as u64;
                let message = Stream::Feed {
                    epoch,
                    from,
                    entries,
                };
                self.output.push(Output::Stream {
                    peer: *peer,
                    message,
                });
            }
        }
        for peer in behind {
            self.tell_cut(self.last_step, peer);
        }
    }

    /// Gives a voter whose state is wrong the one of this voter, and every entry from there on.
    fn hand_over_whole(&mut self, peer: NodeId) {
        if self.replica.is_none() || !self.state_trusted() {
            return self.count("state that no quorum is known to have made");
        }
        match whole_state(&self.state) {
            Ok(message) => {
                self.output.push(Output::Stream { peer, message });
                self.feeds.insert(peer, self.state.cluster.applied);
            }
            Err(why) => self.count(why),
        }
    }

    fn state_received(&mut self, now: Time, peer: NodeId, applied: u64, bytes: Vec<u8>) {
        let doubt = self.state_in_doubt();
        let asked = self.following.is_some_and(|(v, _)| v == peer);
        let (own, useful) = (self.cluster().applied, asked || !doubt);
        if !useful || applied < own || (applied == own && !doubt) {
            return self.count("state of no use");
        }
        let Some(state) = self.state_of(applied, &bytes) else {
            return self.count("state of no use");
        };
        self.take_state(now, applied, state, bytes);
        self.state_is_whole();
    }

    /// The state in `bytes`, if it is one of this cluster after so many entries.
    pub(super) fn state_of(&self, applied: u64, bytes: &[u8]) -> Option<State<A>> {
        let state: State<A> = codec::decode(codec::Kind::State, bytes).ok()?;
        let fits = state.cluster.id == self.cluster().id
            && state.cluster.applied == applied
            && state.cluster.rules <= RULES;
        fits.then_some(state)
    }

    /// Goes on from a state that others applied; it is written as a snapshot.
    pub(super) fn take_state(&mut self, now: Time, applied: u64, state: State<A>, bytes: Vec<u8>) {
        let (after, upto) = (self.cluster().at(), state.cluster.at());
        if after < upto {
            self.output.push(Output::Skipped { after, upto });
        }
        self.state = state;
        self.snapshot.taken_over(applied, bytes.len());
        self.output
            .push(Output::Write(Write::Snapshot { applied, bytes }));
        self.leapt(now);
    }

    /// Entries were skipped: what applying them one by one would have called for is done now.
    fn leapt(&mut self, now: Time) {
        let c = &self.state.cluster;
        self.office
            .term(now, self.me, self.incarnation, c.term, &c.timing);
        self.reports.term_at = now;
        for host in c.hosts.keys() {
            self.reports.admitted_at.insert(*host, now);
            self.reports.resolved_at.insert(*host, now);
        }
        self.reports.sweep(c);
        let standing: Vec<(NodeId, Incarnation, Token)> = c
            .hosts
            .iter()
            .filter_map(|(host, h)| Some((*host, h.incarnation, h.open_revoke()?)))
            .collect();
        for (host, incarnation, revoke) in standing {
            self.promise_to_stop(StopRecord {
                host,
                incarnation,
                revoke,
            });
        }
        let applied = Token::new(self.state.cluster.epoch, self.state.cluster.applied);
        self.sweep_stops(applied);
    }
}

/// The message that hands a state over.
fn whole_state<A: Application>(state: &State<A>) -> Result<Stream<A::Command>, &'static str> {
    Ok(Stream::State {
        epoch: state.cluster.epoch,
        applied: state.cluster.applied,
        bytes: state_bytes(state)?,
    })
}

/// A state as one session message can hand it over.
pub(super) fn state_bytes<A: Application>(state: &State<A>) -> Result<Vec<u8>, &'static str> {
    let bytes = codec::encode(codec::Kind::State, state);
    let bytes = bytes.ok().filter(|b| b.len() < MESSAGE);
    bytes.ok_or("state too long to hand over")
}
