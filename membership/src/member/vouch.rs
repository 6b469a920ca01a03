//! What this voter's store may be believed, and what it believes of others' (reading 18).

mod beside;
mod catching_up;
mod lost;
mod told;

use super::duties::kind;
use super::superseded::unheeded;
use super::{Member, Output};
use crate::app::Application;
use crate::consensus::{Replica, Round};
use crate::frame::Stream;
use crate::id::{Incarnation, NodeId, Slot};
use crate::mutants::planted;
use crate::store::{Image, Write};
use crate::time::Time;
use crate::vouch::{Claim, Freshness, PeerRecord, Standing, Statement, Unvouched};
use catching_up::Fetched;
use std::collections::{BTreeMap, BTreeSet};
use told::Told;

/// A voter that nobody may vouch for waits for so many election time-outs before it votes all the
/// same: sessions are open by then, or nobody is there.
const PATIENCE: u32 = 4;

/// How this voter stands, and what it knows of the others' stores.
#[derive(Clone, Debug)]
pub(super) struct Vouching<C> {
    pub(super) standing: Standing,
    /// What the store held when the voter first stood alone with it, and whose memory of it was
    /// compared with that.
    alone: Unvouched,
    /// The store holds that.
    alone_kept: bool,
    /// Why it is known to have been newer.
    newer: Option<String>,
    /// Contents of the mark of this boot, if the store lacked some of them at the start.
    marked: Option<Claim>,
    /// Standing before it was left behind by the log of this voter, which has cut it; it seeks
    /// until it has taken over that one's state.
    cut: Option<(Standing, NodeId)>,
    /// Votes only when vouched for.
    waits: bool,
    began: Time,
    next: Time,
    /// The newest answer of each voter that vouches for this incarnation.
    answers: BTreeMap<NodeId, Statement>,
    /// Voters whose answer is older than what others told of them since; they are asked anew.
    outdated: BTreeSet<NodeId>,
    /// Claims of voters that others tell of.
    told: Told,
    fetched: Option<Fetched<C>>,
    /// Leases are acknowledged only from so many applied entries of that round on: they may hold a promise
    /// to stop.
    pub(super) ready_at: (Option<Round>, u64),
    pub(super) peers: BTreeMap<NodeId, PeerRecord>,
    /// Peers whose record is to be written.
    changed: BTreeSet<NodeId>,
    /// Peers whose store was found set back, until it holds again what it had claimed.
    behind: BTreeSet<NodeId>,
}

impl<C: Clone> Vouching<C> {
    pub(super) fn new(now: Time, image: &Image<C>, freshness: &Freshness) -> Vouching<C> {
        let own = image.claim();
        let marked = freshness.mark.filter(|mark| mark.newer_than(&own));
        let (standing, newer) = match &freshness.mark {
            Some(_) if marked.is_some() => {
                let why = "the mark of this boot names entries or promises that the store lacks";
                (Standing::Seeking, Some(why.to_owned()))
            }
            Some(_) if image.unvouched.is_some() => (Standing::Unvouched, None),
            Some(_) => (Standing::Vouched, None),
            None if planted("unmarked-votes-at-once") => (Standing::Vouched, None),
            None => (Standing::Seeking, None),
        };
        Vouching {
            standing,
            alone: image.unvouched.clone().unwrap_or(Unvouched {
                held: own,
                compared: BTreeSet::new(),
            }),
            alone_kept: image.unvouched.is_some(),
            newer,
            marked,
            cut: None,
            waits: freshness.waits,
            began: now,
            next: now,
            answers: BTreeMap::new(),
            outdated: BTreeSet::new(),
            told: Told::default(),
            fetched: None,
            ready_at: (None, 0),
            peers: image.peers.clone(),
            changed: BTreeSet::new(),
            behind: BTreeSet::new(),
        }
    }

    /// Notes that what this voter lacks is cut from another's log: it takes over a state, in whatever
    /// standing it has.
    pub(super) fn left_behind(&mut self, standing: Standing, by: NodeId) {
        (self.cut, self.standing) = (Some((standing, by)), Standing::Seeking);
        self.asks_anew();
    }

    /// Asks every voter anew: this one said nothing while it was out of the log.
    pub(super) fn asks_anew(&mut self) {
        self.answers.clear();
        self.outdated.clear();
        self.fetched = None;
        self.next = Time::ZERO;
    }

    /// Doubt in the store: it may lack what it once held.
    fn doubted(&self) -> bool {
        let standing = self.cut.map_or(self.standing, |(before, _)| before);
        standing != Standing::Vouched
    }
}

impl<A: Application> Member<A> {
    /// Whether this voter's store can be relied on; a node that does not vote has nothing to vouch for.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self.replica {
            Some(_) => self.vouching.standing,
            None => Standing::Vouched,
        }
    }

    /// Why this voter is not simply vouched for, in words.
    #[must_use]
    pub fn standing_remark(&self) -> Option<String> {
        let v = &self.vouching;
        match (self.standing(), &v.newer) {
            (Standing::Vouched, _) => None,
            (Standing::Unvouched, _) => Some(
                "this node votes unvouched: after a boot too few other voters could say whether its \
                 store is the newest; if it was set back, decided changes may be lost"
                    .into(),
            ),
            (Standing::Seeking, _) if v.cut.is_some() => Some(
                "this node does not vote for the moment: other voters have cut the log that it lacks, \
                 and it takes over the state of one of them"
                    .into(),
            ),
            (Standing::Seeking, Some(why)) => Some(format!(
                "this node does not vote: its store was set back ({why}); it catches up as soon as \
                 enough other voters are reached"
            )),
            (Standing::Seeking, None) => Some(
                "this node does not vote yet: it waits for other voters to vouch for its store".into(),
            ),
        }
    }

    /// Whether this voter may acknowledge leases: it has applied every promise to stop that its
    /// store may have lost.
    pub(super) fn may_grant(&self) -> bool {
        let v = &self.vouching;
        (v.standing != Standing::Seeking || v.cut.is_some())
            && self.state.cluster.applied >= v.ready_at.1
    }

    fn statement(&self, peer: NodeId, vouches: Option<u64>) -> Option<Stream<A::Command>> {
        let replica = self.replica.as_ref()?;
        // What was promised since it stood alone would come back as memory of a newer store.
        let claim = if self.uncompared(peer) && !planted("alone-states-what-it-holds-now") {
            self.vouching.alone.held
        } else {
            replica.claim()
        };
        let beat = self.ears.get(peer);
        let beat = beat.map(|h| (h.incarnation, h.beat.sequence));
        Some(Stream::Statement(Box::new(Statement {
            standing: self.vouching.standing,
            claim,
            heard: self.peer(peer).claim,
            heard_of: self.heard_of(),
            beat: beat.unwrap_or_default(),
            // An answer asks nothing: two that both ask would answer each other for ever (N3).
            asks: self.vouching.standing != Standing::Vouched
                && (vouches.is_none() || planted("answers-ask")),
            vouches,
        })))
    }

    fn peer(&self, peer: NodeId) -> PeerRecord {
        self.vouching.peers.get(&peer).copied().unwrap_or_default()
    }

    /// States to the voter at the other end of a session how the stores stand.
    pub(super) fn state_to(&mut self, peer: NodeId, vouches: Option<u64>) {
        if self.state.cluster.slot(peer).is_some()
            && let Some(message) = self.statement(peer, vouches)
        {
            self.output.push(Output::Stream { peer, message });
        }
    }

    /// A voter claimed to hold this: remembered durably before anything rests on it.
    pub(super) fn claimed(&mut self, peer: NodeId, claim: &Claim) {
        let record = self.vouching.peers.entry(peer).or_default();
        if record.claim.raise(claim) {
            self.vouching.changed.insert(peer);
        }
    }

    /// Nothing of a lower incarnation of the voter `peer` counts from now on, here or at others.
    pub(super) fn life_vouched(&mut self, peer: NodeId, life: u64) {
        let record = self.vouching.peers.entry(peer).or_default();
        if life > record.life {
            (record.life, record.random) = (life, 0);
            self.vouching.changed.insert(peer);
        }
        if let (Some(slot), Some(replica)) = (self.state.cluster.slot(peer), &mut self.replica) {
            replica.vouched(slot, life);
        }
    }

    /// Puts what was learnt of others among the writes; to be called before messages are taken.
    pub(super) fn write_peers(&mut self) {
        for node in std::mem::take(&mut self.vouching.changed) {
            let record = self.peer(node);
            self.output
                .push(Output::Write(Write::Peer { node, record }));
        }
    }

    /// Another voter stated how the stores stand, ours and its own.
    pub(super) fn stated(&mut self, now: Time, peer: NodeId, life: Incarnation, s: &Statement) {
        let voter = self.state.cluster.slot(peer).is_some();
        if voter && s.asks && self.left_log() {
            return self.tell_left(peer);
        }
        if !voter || self.replica.is_none() {
            return self.count("statement outside the voters");
        }
        let (of, beat) = s.beat;
        if of == self.incarnation && beat > self.beat_sequence && !planted("reverted-life-goes-on")
        {
            // This very life has sent beats that it does not remember.
            return self.begin_anew("this machine was reverted together with its memory");
        }
        let own = self
            .replica
            .as_ref()
            .map(Replica::claim)
            .unwrap_or_default();
        // What it heard before this voter stood alone is compared with what the store held then.
        let first = self.uncompared(peer);
        let base = if first { self.vouching.alone.held } else { own };
        if s.heard.newer_than(&base) && self.vouching.newer.is_none() {
            let why = format!("{} has heard more of it than it holds", self.name(peer));
            self.stop_voting(now, why);
        }
        if first {
            self.compared(peer);
        }
        let known = self.peer(peer).claim;
        if known.newer_than(&s.claim) {
            let lease = self.cluster().timing.lease;
            if self.vouching.behind.insert(peer)
                && self.cool(now, kind::SET_BACK, peer.0.into(), lease)
            {
                let text = format!(
                    "the store of {} was set back: it lacks what that node said it held; its vote \
                     does not count until it has caught up",
                    self.name(peer)
                );
                self.output.push(Output::Alert { node: peer, text });
            }
        } else {
            self.vouching.behind.remove(&peer);
            self.claimed(peer, &s.claim);
        }
        self.told_by(now, peer, &s.heard_of);
        let vouched = self.vouched_life(peer);
        if s.asks && life.counter < vouched && !unheeded() {
            // It would wait for ever: nobody that vouched for a later one vouches for it.
            self.tell_superseded(now, peer, vouched);
        } else if s.asks && life.counter >= vouched && !self.beside(now, peer, life) {
            self.vouch_for(now, peer, life);
        }
        if s.vouches == Some(self.incarnation.counter) && !self.outrun(now, peer, &s.claim) {
            let mut answer = s.clone();
            answer.heard_of.clear();
            self.vouching.answers.insert(peer, answer);
            self.vouching.outdated.remove(&peer);
            self.judge_standing(now);
        }
    }

    /// Vouches for a life of `peer`, unless it has vouched for another of that number: of any two
    /// groups that are enough to vouch one voter is in both, so only one of the two votes.
    fn vouch_for(&mut self, now: Time, peer: NodeId, life: Incarnation) {
        let known = self.peer(peer);
        let twin = known.life == life.counter && known.random != 0 && known.random != life.random;
        if twin && !planted("vouches-for-a-twin") {
            return self.tell_superseded(now, peer, known.life);
        }
        self.life_vouched(peer, life.counter);
        let record = self.vouching.peers.entry(peer).or_default();
        if record.random != life.random {
            record.random = life.random;
            self.vouching.changed.insert(peer);
        }
        self.state_to(peer, Some(life.counter));
    }

    /// Whether `peer` is a voter that has not said yet what it heard of this one, which is not vouched
    /// for: until then nothing is said to it that would change what it has heard.
    pub(super) fn uncompared(&self, peer: NodeId) -> bool {
        let v = &self.vouching;
        v.doubted() && self.state.cluster.slot(peer).is_some() && !v.alone.compared.contains(&peer)
    }

    fn compared(&mut self, peer: NodeId) {
        self.vouching.alone.compared.insert(peer);
        let votes = self.vouching.standing == Standing::Unvouched;
        // From here on that voter hears what is held now, so the next start must not compare it again
        // with what was held then.
        if self.vouching.alone_kept && (votes || !planted("compared-in-memory-only")) {
            let alone = self.vouching.alone.clone();
            self.output
                .push(Output::Write(Write::Unvouched(Some(alone))));
        }
        if votes
            && let (Some(slot), Some(replica)) = (self.state.cluster.slot(peer), &mut self.replica)
        {
            replica.session_up(slot);
        }
    }

    /// The store turned out to lack something: no vote until it has caught up.
    fn stop_voting(&mut self, now: Time, why: String) {
        if let Some(replica) = &mut self.replica {
            replica.hold();
        }
        let text = format!(
            "the store of this node was set back ({why}): it does not vote until it has caught up \
             with enough other voters"
        );
        self.output.push(Output::Alert {
            node: self.me,
            text,
        });
        self.vouching.newer = Some(why);
        self.vouching.standing = Standing::Seeking;
        self.vouching.cut = None;
        self.vouching.next = now;
    }

    fn begin_anew(&mut self, why: &str) {
        if let Some(replica) = &mut self.replica {
            replica.hold();
        }
        self.vouching.standing = Standing::Seeking;
        self.vouching.cut = None;
        self.vouching.newer = Some(why.to_owned());
        let above = match unheeded() {
            true => 0,
            false => self.above(),
        };
        let why = why.to_owned();
        self.output.push(Output::Anew { why, above });
    }

    /// What is due of vouching.
    pub(super) fn vouch(&mut self, now: Time) {
        self.shorten_wait();
        if self.replica.is_none() || self.vouching.standing == Standing::Vouched {
            return;
        }
        if now >= self.vouching.next {
            self.vouching.next = now + self.cluster().timing.election;
            for peer in self.other_voters() {
                if self.sessions.contains_key(&peer) {
                    self.state_to(peer, None);
                }
            }
        }
        self.judge_standing(now);
    }

    fn judge_standing(&mut self, now: Time) {
        let others = self.cluster().voters.len() - 1;
        let need = others + 1 - self.cluster().quorum() + 1;
        let patience = self.cluster().timing.election * PATIENCE;
        let v = &self.vouching;
        let vouchers = v.answers.iter().filter(|(n, a)| v.may_vouch(**n, a));
        let need = if planted("one-voter-vouches") {
            1
        } else {
            need
        };
        let vouched = vouchers.count() >= need;
        let all = v.answers.len() == others && v.outdated.is_empty();
        let doubtful = v.standing != Standing::Vouched && v.cut.is_none();
        if all && !vouched && doubtful && self.lost_together(now) {
            return;
        }
        let v = &self.vouching;
        let enough = vouched || all;
        match v.standing {
            Standing::Vouched => {}
            // It has forgotten nothing, so any one voter that has what it lacks will do.
            Standing::Seeking if let Some((before, by)) = v.cut => {
                if enough || !planted("cut-waits-to-be-vouched-for") {
                    self.take_over_from(now, before, by);
                }
            }
            Standing::Seeking if enough => self.catch_up(now, Standing::Vouched),
            Standing::Seeking if v.newer.is_none() || planted("newer-heard-votes-unvouched") => {
                if !v.waits && now.since(v.began) >= patience {
                    self.catch_up(now, Standing::Unvouched);
                }
            }
            Standing::Seeking => {}
            // Every other voter has been asked, and nobody ever heard more of this one.
            Standing::Unvouched if all => self.stand(now, Standing::Vouched),
            Standing::Unvouched if enough => {
                if planted("vouched-for-leads-no-more") {
                    self.seek();
                }
                self.catch_up(now, Standing::Vouched);
            }
            Standing::Unvouched => {}
        }
    }

    fn stand(&mut self, now: Time, standing: Standing) {
        let forgot_nothing = self.vouching.cut.is_some();
        if let Some(grantor) = &mut self.grantor
            && !forgot_nothing
        {
            grantor.vouched(now);
        }
        (self.vouching.standing, self.vouching.cut) = (standing, None);
        let held = match standing {
            Standing::Unvouched => Some(self.vouching.alone.clone()),
            _ => None,
        };
        if standing == Standing::Vouched {
            (self.vouching.newer, self.vouching.marked) = (None, None);
        } else if self.cool(now, kind::UNVOUCHED, 0, self.cluster().timing.lease) {
            let text = "this node votes unvouched: too few other voters could say whether its store is \
                        the newest";
            self.output.push(Output::Alert {
                node: self.me,
                text: text.to_owned(),
            });
        }
        self.vouching.alone_kept = held.is_some();
        self.output.push(Output::Write(Write::Unvouched(held)));
        for peer in self.other_voters() {
            if self.sessions.contains_key(&peer) {
                self.state_to(peer, None);
            }
        }
    }

    /// The voters that this one vouched for, each with the counter of its newest such incarnation.
    pub(super) fn lives_vouched(&self) -> Vec<(Slot, u64)> {
        let vouched = self.vouching.peers.iter().filter(|(_, r)| r.life > 0);
        let cluster = &self.state.cluster;
        vouched
            .filter_map(|(node, r)| Some((cluster.slot(*node)?, r.life)))
            .collect()
    }

    fn name(&self, node: NodeId) -> String {
        self.state.cluster.name(node)
    }

    /// Counter of the newest incarnation of `peer` that was vouched for; 0 for none.
    pub(super) fn vouched_life(&self, peer: NodeId) -> u64 {
        self.peer(peer).life
    }

    /// A message names incarnations that were vouched for.
    pub(super) fn lives_named(&mut self, now: Time, lives: &[(Slot, u64)]) {
        for (slot, life) in lives {
            let Some(node) = self.state.cluster.voter(*slot) else {
                continue;
            };
            if node != self.me {
                self.life_vouched(node, *life);
            } else if *life > self.incarnation.counter {
                if self.vouching.newer.is_none() {
                    self.stop_voting(now, "a later incarnation of this node votes".to_owned());
                }
                self.outvoted_by(now, *life);
            }
        }
    }
}
