//! One member of a cluster: the deterministic object behind every loop.
//!
//! Facts come in by the methods, each with the time read after the fact was in hand; what is to be
//! done collects in [`Output`]s until [`Member::take_output`]. The owner adds its own writes, makes
//! all of them durable in one batch, and holds back what rests on it.

use crate::app::Application;
use crate::apply::{Outcome, State};
use crate::attest::{Attest, Pulse};
use crate::bulletin::{Bulletin, Told};
use crate::codec;
use crate::consensus::{Replica, ReplicaConfig};
use crate::coordinator::Office;
use crate::disk::DiskLag;
use crate::ears::Ears;
use crate::entry::{Entry, LogEntry, Profile, ProposalId};
use crate::frame::{Datagram, Frame, Header, Observation, Stream, Words};
use crate::id::{Incarnation, NodeId, Token};
use crate::lease::HostLease;
use crate::mutants::planted;
use crate::store::StopRecord;
use crate::time::Time;
use crate::verdict::Reports;
use crate::voter::Grantor;
use crate::vouch::Standing;
use std::collections::BTreeMap;
use std::time::Duration;

mod beats;
mod cutting;
mod duties;
mod follow;
mod incoming;
mod outgoing;
mod parts;
mod reading;
mod states;
mod stops;
mod superseded;
mod vouch;
mod windows;

use cutting::Snapshots;

pub use cutting::{LOG_LIMIT, Untaken};
pub use parts::{Applied, MemberSetup, Output};
use superseded::Superseded;
use windows::{Doubles, Windows};

/// Ticks of consensus per election timeout.
const ELECTION_TICKS: u32 = 5;
/// Entries applied between two state snapshots, for whoever has no reason to choose.
pub const SNAPSHOT_EVERY: u64 = 1024;
/// Above so many of them, proposals that were let through so long ago are forgotten.
const COOLED: usize = 4096;
const FORGOTTEN: Duration = Duration::from_secs(60);
/// Entries read from the log at once.
const APPLY_BATCH: usize = 256;

/// What a bulletin of the application says.
type Item<A> = <<A as Application>::Status as Words>::Item;

/// One member of a cluster.
#[derive(Debug)]
pub struct Member<A: Application> {
    me: NodeId,
    incarnation: Incarnation,
    profile: Profile,
    attest: Attest,
    emptied: bool,
    countable: bool,
    presentable: bool,
    status: A::Status,
    bulletin: Bulletin<Item<A>>,
    told: BTreeMap<NodeId, Told<Item<A>>>,
    state: State<A>,
    replica: Option<Replica<A::Command>>,
    grantor: Option<Grantor>,
    voter_failed: Option<String>,
    lease: HostLease,
    ears: Ears<A::Status>,
    reports: Reports,
    office: Office,
    /// When the last datagram of each node came by a link.
    by_link: BTreeMap<NodeId, Time>,
    began: Time,
    windows: BTreeMap<NodeId, Windows>,
    vouching: vouch::Vouching<A::Command>,
    states: states::States<A::Command>,
    /// Two lives of one node that are heard side by side.
    doubles: BTreeMap<NodeId, Doubles>,
    /// When another machine was last heard that speaks as this node.
    copied: Option<Time>,
    superseded: Superseded,
    dropped: BTreeMap<&'static str, u64>,
    feeds: BTreeMap<NodeId, u64>,
    /// Open sessions, each with the incarnation that its handshake named.
    sessions: BTreeMap<NodeId, Incarnation>,
    /// Since when each voter that speaks of elections has had no session with us.
    parted: BTreeMap<NodeId, Time>,
    following: Option<(NodeId, Time)>,
    /// Entries our own log has decided, and when that last changed.
    progress: (u64, Time),
    snapshot: Snapshots,
    taking: cutting::Taking,
    snapshot_every: u64,
    log_limit: u64,
    disk: DiskLag,
    beat_sequence: u64,
    proposal_sequence: u64,
    last_beat: Time,
    next_beat: Time,
    next_tick: Time,
    next_report: Time,
    silent_before: Vec<NodeId>,
    /// None of so many hosts has been silent for long under that timing before that moment.
    hush: ((usize, Token), Time),
    cooled: BTreeMap<(u8, u64), Time>,
    last_append: Time,
    last_step: Time,
    output: Vec<Output<A>>,
}

impl<A: Application> Member<A> {
    /// A member from what its store held. Entries known to be decided are applied at once; their
    /// [`Output::Applied`] say `replayed`.
    ///
    /// # Errors
    /// The image does not fit together: a damaged store.
    pub fn new(now: Time, setup: MemberSetup<A::Command>) -> Result<Member<A>, String> {
        let image = setup.image;
        let state: State<A> = match &image.snapshot {
            Some((applied, bytes)) => {
                let state: State<A> = codec::decode(codec::Kind::State, bytes)
                    .map_err(|e| format!("state snapshot: {e}"))?;
                if state.cluster.applied != *applied {
                    return Err("state snapshot: its index is not the one recorded".into());
                }
                state
            }
            None => State::new(&image.founding),
        };
        if state.cluster.id != image.founding.cluster {
            return Err("state snapshot: of another cluster".into());
        }
        let applied = state.cluster.applied;
        let mut replica = None;
        let mut grantor = None;
        let vouching = vouch::Vouching::new(now, &image, &setup.freshness);
        if let Some(slot) = state.cluster.slot(image.node) {
            if image.trimmed > applied {
                return Err(format!(
                    "log begins at index {}, but the state snapshot ends at {applied}",
                    image.trimmed
                ));
            }
            let config = ReplicaConfig {
                epoch: state.cluster.epoch,
                slot,
                slots: state.cluster.voters.len() as u8,
                election_ticks: ELECTION_TICKS,
            };
            let mut own = Replica::new(config, &image)?;
            if vouching.standing == Standing::Seeking {
                own.hold();
            }
            for (peer, record) in &image.peers {
                if let Some(slot) = state.cluster.slot(*peer) {
                    own.vouched(slot, record.life);
                }
            }
            replica = Some(own);
            grantor = Some(Grantor::new(now, &image.stops));
        }
        let mut member = Member {
            me: image.node,
            incarnation: image.incarnation,
            profile: setup.profile,
            attest: Attest::new(now, setup.guarded),
            emptied: false,
            countable: false,
            presentable: false,
            status: A::Status::default(),
            bulletin: Bulletin::new(),
            told: BTreeMap::new(),
            state,
            replica,
            grantor,
            voter_failed: None,
            lease: HostLease::inherit(now, setup.inherited_lease),
            ears: Ears::new(now),
            reports: Reports::default(),
            office: Office::default(),
            windows: BTreeMap::new(),
            by_link: BTreeMap::new(),
            began: now,
            vouching,
            states: states::States::default(),
            doubles: BTreeMap::new(),
            copied: None,
            superseded: Superseded::default(),
            dropped: BTreeMap::new(),
            feeds: BTreeMap::new(),
            sessions: BTreeMap::new(),
            parted: BTreeMap::new(),
            following: None,
            progress: (applied, now),
            snapshot: Snapshots::of(image.snapshot.as_ref()),
            taking: cutting::Taking::ALL,
            snapshot_every: setup.snapshot_every.max(1),
            log_limit: setup.log_limit.max(1),
            disk: DiskLag::default(),
            beat_sequence: 0,
            proposal_sequence: 0,
            last_beat: Time::ZERO,
            next_beat: now,
            next_tick: now,
            next_report: now,
            silent_before: Vec::new(),
            hush: ((0, Token::NONE), now),
            cooled: BTreeMap::new(),
            last_append: now,
            last_step: now,
            output: Vec::new(),
        };
        member.apply_decided(now, true);
        Ok(member)
    }

    /// The application's part of the coming beats.
    pub fn set_status(&mut self, status: A::Status) {
        self.status = status;
    }

    /// The application's bulletin from now on; what is urgent is said with every beat, the rest in
    /// turn. Gives whether the urgent part changed.
    pub fn set_bulletin(&mut self, urgent: Vec<Item<A>>, rest: Vec<Item<A>>) -> bool {
        self.bulletin.set(urgent, rest)
    }

    /// Whether this node may ask to be admitted: nothing runs here under an epoch it refuses (V8).
    pub fn set_presentable(&mut self, presentable: bool) {
        self.presentable = presentable;
    }

    /// Takes up what was proposed since the last call, without waiting for the next tick.
    pub fn flush(&mut self, now: Time) {
        self.settle(now);
    }

    /// Every guest of earlier incarnations has been ended and its epoch durably refused.
    pub fn set_emptied(&mut self, emptied: bool) {
        self.emptied = emptied;
    }

    /// What this incarnation inherited is settled, so acknowledgements may count (reading 2).
    pub fn set_countable(&mut self, countable: bool) {
        self.countable = countable;
    }

    /// The guardian's counter was read; `None`: there is no guardian that can be trusted. To be
    /// called before every beat leaves, and whenever the reading changed.
    pub fn guardian(&mut self, now: Time, pulse: Option<Pulse>) {
        let timing = &self.state.cluster.timing;
        self.attest.read(now, pulse, timing);
        if self.attest.judge(now, timing) {
            self.hurry_beat(now);
        }
    }

    /// Sends a beat sooner than at the next period: something became urgent. Not at once if one
    /// has just left, or many urgent things would make many beats.
    pub fn hurry_beat(&mut self, now: Time) {
        let soonest = self.last_beat + self.cluster().timing.heartbeat / 16;
        self.next_beat = self.next_beat.min(now.max(soonest));
    }

    /// Proposes a change; gives the name under which it will be seen applied, if ever.
    pub fn propose(&mut self, now: Time, body: Entry<A::Command>) -> ProposalId {
        let id = self.name_proposal();
        self.repropose(now, LogEntry { id, body });
        id
    }

    /// Proposes to this voter's own log only: what a leader says as leader must not be carried to
    /// another one.
    fn propose_as_leader(&mut self, now: Time, body: Entry<A::Command>) {
        let id = self.name_proposal();
        self.last_append = now;
        if let Some(replica) = &mut self.replica {
            replica.append(LogEntry { id, body });
        }
    }

    fn name_proposal(&mut self) -> ProposalId {
        self.proposal_sequence += 1;
        ProposalId {
            node: self.me,
            incarnation: match one_of_a_number() {
                true => Incarnation {
                    random: 0,
                    ..self.incarnation
                },
                false => self.incarnation,
            },
            sequence: self.proposal_sequence,
        }
    }

    /// Number of the last proposal that this node named.
    #[must_use]
    pub fn last_proposal(&self) -> u64 {
        self.proposal_sequence
    }

    /// Proposes again under the same name what was proposed before: applied once at most.
    pub fn repropose(&mut self, now: Time, entry: LogEntry<A::Command>) {
        self.last_append = now;
        if let Some((peer, _)) = self.following {
            // A voter that has to follow does not reach its leader: its own forward would be lost.
            let message = Stream::Propose(vec![entry.clone()]);
            self.output.push(Output::Stream { peer, message });
        }
        if let Some(replica) = &mut self.replica {
            replica.append(entry);
        }
    }

    /// Tells people something about a node.
    pub fn alert(&mut self, node: NodeId, text: String) {
        self.output.push(Output::Alert { node, text });
    }

    /// Whether (`kind`, `key`) was not let through within `period`; keeps proposals from piling up.
    pub fn cool(&mut self, now: Time, kind: u8, key: u64, period: Duration) -> bool {
        let fine = self
            .cooled
            .get(&(kind, key))
            .is_none_or(|at| now.since(*at) >= period);
        if fine {
            self.cooled.insert((kind, key), now);
            if self.cooled.len() > COOLED {
                self.cooled.retain(|_, at| now.since(*at) < FORGOTTEN);
            }
        }
        fine
    }

    /// Everything written so far is part of `batch`, which is on its way to the store.
    pub fn batched(&mut self, now: Time, batch: u64) {
        self.disk.begins(now, batch);
        if let Some(g) = &mut self.grantor {
            g.batched(batch);
        }
        if let Some((_, at @ None)) = &mut self.snapshot.pending {
            *at = Some(batch);
        }
    }

    /// Batches up to `batch` are durable.
    pub fn persisted(&mut self, now: Time, batch: u64) {
        self.disk.done(now, batch);
        if let Some((applied, Some(b))) = self.snapshot.pending
            && b <= batch
        {
            self.snapshot.durable = applied;
            self.snapshot.pending = None;
            if let Some(replica) = &mut self.replica {
                replica.state_kept(applied);
            }
        }
        if let Some(g) = &mut self.grantor
            && g.persisted(batch)
        {
            self.report(now);
        }
    }

    /// The store failed: the voter ends here; the host part goes on beating.
    pub fn store_failed(&mut self, why: String) {
        self.replica = None;
        self.grantor = None;
        self.office = Office::default();
        self.voter_failed = Some(why);
    }

    /// Moves what is to be done, in order, into `into`, whose room is used again.
    pub fn take_output(&mut self, into: &mut Vec<Output<A>>) {
        into.clear();
        std::mem::swap(into, &mut self.output);
    }

    /// When [`Member::tick`] is due at the latest.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.next_beat.min(self.next_tick)
    }

    /// To be called first with every fact. Notices that this node was paused: then that time, and
    /// what it takes to read what came meanwhile, is nobody's silence; missed ticks collapse into one.
    pub fn wake(&mut self, now: Time) {
        let from = self.deadline().max(self.last_step);
        let t = &self.state.cluster.timing;
        if now.since(from) > t.heartbeat / 2 && !planted("pause-is-silence") {
            if planted("pause-restarts-windows") {
                self.ears.restart_windows(now);
            } else {
                self.ears.paused(from, now, t.heartbeat + t.jitter);
            }
            self.reports.paused();
        }
        self.last_step = self.last_step.max(now);
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time) {
        if now >= self.next_beat {
            self.beat(now);
        }
        if now >= self.next_tick {
            let t = self.cluster().timing.election;
            let ticks = self.replica.as_ref().map_or(1, |_| ELECTION_TICKS);
            self.next_tick = now + t / ticks;
            if let Some(replica) = &mut self.replica {
                replica.tick();
            }
            self.vouch(now);
            self.begin_above(now);
            self.lead(now);
            self.coordinate(now);
            self.observe(now);
            self.tell_divided(now);
            self.tell_stalled_disk(now);
            self.choose_voter(now);
        }
        self.settle(now);
    }

    /// The number is given by the owner when the datagram leaves, so that what is held back for
    /// a write does not leave with a number below one that went out before it.
    fn header(&self) -> Header {
        Header {
            cluster: self.cluster().id,
            epoch: self.cluster().epoch,
            from: self.me,
            incarnation: self.incarnation,
            number: 0,
        }
    }

    fn send(&mut self, to: Vec<NodeId>, body: Datagram<A::Status>, rests: bool) {
        let header = self.header();
        let frame = Frame { header, to, body };
        if !planted("leases-by-datagram-only") {
            self.also_by_session(&frame);
        }
        self.output.push(Output::Datagram { frame, rests });
    }

    fn other_voters(&self) -> Vec<NodeId> {
        self.cluster()
            .voters
            .iter()
            .map(|(v, _)| *v)
            .filter(|v| *v != self.me)
            .collect()
    }

    fn count(&mut self, reason: &'static str) {
        *self.dropped.entry(reason).or_default() += 1;
    }

    /// Tells the other voters what this one sees.
    fn report(&mut self, now: Time) {
        let Some(grantor) = &self.grantor else { return };
        let c = &self.state.cluster;
        let Some(slot) = c.slot(self.me) else { return };
        let missed = c.timing.heartbeat + c.timing.jitter;
        let silent: Vec<(NodeId, Duration)> = c
            .hosts
            .iter()
            .filter(|(h, record)| **h != self.me || record.incarnation != self.incarnation)
            .map(|(h, record)| {
                let since = self.ears.life_silent_since(*h, record.incarnation);
                (*h, now.since(since))
            })
            .filter(|(_, d)| *d > missed)
            .collect();
        let whole = Observation {
            slot,
            incarnation: self.incarnation.counter,
            blind: self.ears.blind(now, missed),
            disk: self.disk.lag(now),
            about: (NodeId(0), NodeId(u32::MAX)),
            silent,
            // Never beyond our own log: the leader cuts what every voter says it has.
            durable: self
                .snapshot
                .durable
                .min(self.replica.as_ref().map_or(0, Replica::decided)),
            answers: if self.may_grant() || planted("answers-while-it-seeks") {
                grantor.answers(now, c)
            } else {
                Vec::new()
            },
            state: self.state_word(),
        };
        self.next_report = now + c.timing.heartbeat;
        self.reports.report(now, self.me, whole.clone());
        let to = self.other_voters();
        if !to.is_empty() {
            for part in whole.in_parts() {
                self.send(to.clone(), Datagram::Observation(part), false);
            }
        }
    }

    /// Takes what consensus wants written and sent, and applies what it decided.
    fn settle(&mut self, now: Time) {
        self.write_peers();
        // Most facts do not concern it.
        if self.replica.as_ref().is_some_and(Replica::stirred) {
            self.apply_decided(now, false);
            self.take_consensus();
        }
        self.feed_followers();
        self.take_snapshot(now);
    }

    fn apply_decided(&mut self, now: Time, replayed: bool) {
        loop {
            if !self.rules_known() {
                return;
            }
            let Some(replica) = &self.replica else { return };
            let entries = replica.read_decided(self.state.cluster.applied, APPLY_BATCH);
            if entries.is_empty() {
                return;
            }
            for entry in entries {
                if self.replica.is_some() && self.rules_known() {
                    self.apply(now, entry, replayed);
                }
            }
        }
    }

    fn apply(&mut self, now: Time, entry: LogEntry<A::Command>, replayed: bool) {
        let (token, outcome) = self.state.apply(&entry);
        if outcome == Outcome::Applied {
            self.react(now, token, &entry.body, replayed);
        }
        self.sweep_stops(token);
        self.output.push(Output::Applied(Applied {
            token,
            entry,
            outcome,
            replayed,
        }));
    }

    fn react(&mut self, now: Time, token: Token, entry: &Entry<A::Command>, replayed: bool) {
        let cluster = &self.state.cluster;
        match entry {
            Entry::Term { .. } | Entry::Resign { .. } => {
                self.office.term(
                    now,
                    self.me,
                    self.incarnation,
                    cluster.term,
                    &cluster.timing,
                );
                self.reports.term_at = now;
            }
            Entry::Renew { term, number } => {
                // One that lapsed and goes on counts as a new term for the deaf ground (reading 27).
                let resumed = self.office.renewed(now, *term, *number, &cluster.timing);
                self.reports.term_at = if resumed { now } else { self.reports.term_at };
            }
            Entry::Restore { host, .. } => {
                self.reports.admitted_at.insert(*host, now);
            }
            Entry::AttemptEnded { host, .. } => {
                self.reports.resolved_at.insert(*host, now);
            }
            Entry::Admit { node, .. } => {
                self.reports.admitted_at.insert(*node, now);
                if let Some(g) = &mut self.grantor {
                    g.renamed(*node);
                }
                if *node == self.me {
                    self.next_beat = self.next_beat.min(now);
                }
            }
            Entry::Revoke { hosts } => {
                let forgotten = replayed && planted("stop-promise-forgotten");
                let standing: Vec<StopRecord> = hosts
                    .iter()
                    .filter(|(host, ..)| {
                        let open = cluster.hosts.get(host).and_then(|h| h.open_revoke());
                        open == Some(token) && !forgotten
                    })
                    .map(|(host, incarnation, _)| StopRecord {
                        host: *host,
                        incarnation: *incarnation,
                        revoke: token,
                    })
                    .collect();
                standing.into_iter().for_each(|s| self.promise_to_stop(s));
            }
            _ => {}
        }
        self.reports.sweep(&self.state.cluster);
        if let Entry::Renew { number, .. } = entry {
            self.renewed(now, token, *number, replayed);
        }
    }
}

/// Says whether two lives of one number name their proposals alike, by either of two bugs.
fn one_of_a_number() -> bool {
    planted("lives-of-one-number-are-one-in-the-log") || planted("vouches-for-a-twin")
}
