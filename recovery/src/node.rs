//! One node: membership, the host's executor and the coordinator's planner behind one step.

use crate::command::Command;
use crate::contract::{Departure, Effect, EventKind, Fact, GuestAction, GuestSeen, NodeWrite};
use crate::executor::{Executor, GuestPromise, Surroundings};
use crate::guest::GuestId;
use crate::machine::Guests;
use crate::mutants::planted;
use crate::planner::Planner;
use crate::requests::Requests;
use crate::trials::Trials;
use quorate_fencing::Level;
use quorate_membership::entry::{Away, Profile};
use quorate_membership::store::Image;
use quorate_membership::vouch::Freshness;
use quorate_membership::{Member, MemberSetup, NodeId, Output, Time, Token};
use std::collections::BTreeMap;

mod applied;
mod coordinate;
mod devices;
mod drifting;
mod events;
mod going;
mod holding;
mod host;
mod links;
mod outbox;
mod status;
mod why;
mod worth;

use outbox::Outbox;
pub use status::{GuestRow, HostRow, Status};
pub use why::{Why, WhyStep};
use worth::{Looks, news, passing};

/// What a node starts from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What the store held of the membership.
    pub image: Image<Command>,
    /// What the store held of the executor's promises.
    pub promises: BTreeMap<GuestId, GuestPromise>,
    /// What this node is.
    pub profile: Profile,
    /// The lease end by the guardian's record, if that is of this boot.
    pub inherited_lease: Option<Time>,
    /// Guests may run here: the lease waits for [`Fact::Guardian`].
    pub guarded: bool,
    /// Every guest process of this machine.
    pub present: Vec<GuestSeen>,
    /// How this host is to be fenced.
    pub fencing: Vec<Level>,
    /// What is known of the store beyond it.
    pub freshness: Freshness,
    /// Entries applied between two state snapshots.
    pub snapshot_every: u64,
    /// Bytes of the log beyond which a voter that is away is left behind.
    pub log_limit: u64,
    /// Names of this node's links, by their numbers.
    pub links: Vec<String>,
}

/// One node. See [`crate::contract`] for what it takes and gives.
#[derive(Debug)]
pub struct Node {
    member: Member<Guests>,
    executor: Executor,
    planner: Planner,
    requests: Requests,
    fencing: Vec<Level>,
    leaving: Option<(Away, Time)>,
    outbox: Outbox,
    /// Why a new incarnation must begin, and above which.
    restart: Option<(String, u64)>,
    restarted: bool,
    exit: Option<(Departure, String)>,
    exited: bool,
    /// Why the last wish of this incarnation to be admitted was void.
    unadmitted: Option<String>,
    suspects: Vec<NodeId>,
    lease_known_over: bool,
    /// The lease end that stands in the record of which the last write failed, and why.
    unwritten: Option<(Option<Time>, String)>,
    stories: why::Stories,
    holding: holding::Holding,
    drifting: drifting::Drifting,
    trials: Trials,
    looks: Looks,
    links: links::Links,
    /// Room for what membership puts out, used again in every step.
    outputs: Vec<Output<Guests>>,
    /// The same for effects that rest on writes.
    resting: Vec<Effect>,
}

/// The guest an effect would create.
fn created(effect: &Effect) -> Option<GuestId> {
    match effect {
        Effect::Guest(o) if matches!(o.action, GuestAction::Create(_)) => Some(o.guest),
        _ => None,
    }
}

macro_rules! surroundings {
    ($node:expr, $now:expr) => {
        Surroundings {
            now: $now,
            me: $node.member.me(),
            incarnation: $node.member.incarnation(),
            cluster: $node.member.cluster(),
            record: $node.member.cluster().hosts.get(&$node.member.me()),
            guests: $node.member.app(),
            lease_end: $crate::node::written($node.member.lease_end(), &$node.unwritten),
            unarmed: $node.member.word().number > 0 && $node.member.word().armed.is_none(),
            copied: $node.member.copied($now),
            doubtful: $node.member.state_in_doubt(),
            leaving: $node.leaving.is_some_and(|(why, _)| why != Away::Stop),
        }
    };
}
use surroundings;

/// The lease end by which guests run: never later than the one that the guardian can read.
fn written(end: Option<Time>, unwritten: &Option<(Option<Time>, String)>) -> Option<Time> {
    match unwritten {
        Some((stands, _)) => end.map(|end| end.min(stands.unwrap_or(Time::ZERO))),
        None => end,
    }
}

impl Node {
    /// A node from what its store held and what its machine shows.
    ///
    /// # Errors
    /// The store's content does not fit together.
    pub fn new(now: Time, setup: Setup) -> Result<Node, String> {
        let member = Member::new(
            now,
            MemberSetup {
                image: setup.image,
                profile: setup.profile,
                inherited_lease: setup.inherited_lease,
                guarded: setup.guarded,
                freshness: setup.freshness,
                snapshot_every: setup.snapshot_every,
                log_limit: setup.log_limit,
            },
        )?;
        Ok(Node {
            planner: Planner::new(&member),
            member,
            executor: Executor::new(now, setup.promises, &setup.present),
            requests: Requests::default(),
            fencing: setup.fencing,
            leaving: None,
            outbox: Outbox::default(),
            restart: None,
            restarted: false,
            exit: None,
            exited: false,
            unadmitted: None,
            suspects: Vec::new(),
            lease_known_over: true,
            unwritten: None,
            stories: why::Stories::default(),
            holding: holding::Holding::default(),
            drifting: drifting::Drifting::default(),
            trials: Trials::default(),
            looks: Looks::default(),
            links: links::Links::new(now, setup.links),
            outputs: Vec::new(),
            resting: Vec::new(),
        })
    }

    /// The membership part, for reading.
    #[must_use]
    pub fn member(&self) -> &Member<Guests> {
        &self.member
    }

    /// Guests that run here with their epochs, as far as this node knows.
    #[must_use]
    pub fn running(&self) -> Vec<(GuestId, Token)> {
        self.executor.running().collect()
    }

    /// Takes one fact, with the time read after it was in hand, and gives everything to do, in
    /// order, `Wait` last.
    pub fn step(&mut self, now: Time, fact: Fact, out: &mut Vec<Effect>) {
        let begin = out.len();
        self.member.wake(now);
        // Leases are judged before any fact is looked at: what is over needs no permission.
        let due = self.looks.are_due(now);
        if due {
            self.executor.reconcile(&surroundings!(self, now));
        }
        let due = due || self.looks.are_late(now);
        let timed = matches!(fact, Fact::Timeout | Fact::Guardian(_));
        let awaited = timed || now >= self.member.deadline();
        let (mut host, mut lead) = (due || !passing(&fact), awaited || !passing(&fact));
        host |= self.take(now, fact, out);
        // What the lease, or what was just seen, calls for waits for no tick.
        host |= self.executor.has_deeds() || self.leaving.is_some();
        self.member.tick(now);
        let mut looked = false;
        // Applying may call for orders, orders for proposals, proposals for entries: a few rounds
        // settle it, and what is left is taken up by the next tick.
        let mut outputs = std::mem::take(&mut self.outputs);
        for _ in 0..4 {
            self.member.take_output(&mut outputs);
            let news = news(&outputs);
            if news.records {
                self.executor.records_changed();
            }
            host |= news.any;
            // A lease that goes on is nothing to anybody but its holder.
            lead |= news.any || (news.renewed && self.member.acting(now).is_some());
            if outputs.is_empty() && !host && !lead {
                break;
            }
            self.round(now, &mut outputs, (host, lead), out);
            looked |= host;
            // What a part changed it has looked at; only something new calls for another look.
            (host, lead) = (false, false);
        }
        self.outputs = outputs;
        self.judge_links(now, out);
        self.flush(out);
        for effect in &out[begin..] {
            if let Effect::Event(event) | Effect::Copies { event, .. } = effect {
                self.remember_seen(now, event);
            }
        }
        if looked {
            let s = surroundings!(self, now);
            let end = s.lease_end.filter(|end| *end > now).unwrap_or(Time::NEVER);
            let patience = s.cluster.timing.election;
            let due = self.executor.deadline(&s).min(end);
            self.looks.looked(now, due, patience);
        }
        let until = self
            .member
            .deadline()
            .min(self.looks.deadline())
            .min(self.planner.deadline(now, &self.member))
            .min(self.requests.deadline());
        out.push(Effect::Wait { until });
    }

    /// Takes the fact in; gives whether the host's part must look at what it brought.
    fn take(&mut self, now: Time, fact: Fact, out: &mut Vec<Effect>) -> bool {
        match fact {
            Fact::Frame { link, frame } => {
                if frame.header.cluster == self.member.cluster().id {
                    self.links.heard(now, link, frame.header.from);
                }
                self.member.frame(now, frame);
            }
            Fact::SessionUp { peer, incarnation } => self.member.session_up(now, peer, incarnation),
            Fact::SessionDown { peer } => self.member.session_down(now, peer),
            Fact::Stream { peer, message } => self.member.stream(now, peer, message),
            Fact::Timeout => {}
            Fact::Persisted { batch } => {
                self.outbox.durable = self.outbox.durable.max(batch);
                let sayable = self.executor.persisted(batch);
                self.member.persisted(now, batch);
                self.outbox.release(out);
                return sayable;
            }
            Fact::StoreFailed { why } => {
                out.push(Effect::Event(self.event(
                    Token::NONE,
                    EventKind::Alert,
                    Some(self.member.me()),
                    None,
                    format!("the store failed, this node votes no more: {why}"),
                )));
                self.member.store_failed(why);
                self.outbox.failed = true;
                let unsent: Vec<GuestId> = self
                    .outbox
                    .held
                    .drain(..)
                    .filter_map(|(_, e)| created(&e))
                    .collect();
                self.executor.store_failed(&unsent);
            }
            Fact::Guests { seen } => {
                return self.executor.polled(&surroundings!(self, now), &seen);
            }
            Fact::HypervisorBlind { kinds, seen, why } => {
                let s = surroundings!(self, now);
                return self.executor.blinded(&s, kinds, seen.as_deref(), why);
            }
            Fact::GuestGone {
                guest,
                epoch,
                how,
                cause,
            } => {
                self.executor
                    .guest_gone(&surroundings!(self, now), guest, epoch, &how, cause);
            }
            Fact::Observed { guest, epoch, seen } => {
                let s = surroundings!(self, now);
                let failed = self.executor.observed(&s, guest, epoch, &seen);
                self.looks.sooner(self.executor.deadline_of(&s, guest));
                return failed;
            }
            Fact::Hold {
                guest,
                epoch,
                reason,
            } => self.holding.seen(guest, epoch, reason),
            Fact::HoldPassed { guest, epoch, kind } => self.holding.passed(guest, epoch, kind),
            Fact::Machine {
                guest,
                epoch,
                layout,
                stamps,
                scratch,
            } => {
                self.machine_seen(guest, epoch, &layout, &stamps);
                self.scratch_seen(guest, epoch, scratch);
            }
            Fact::ImagesRead { guest, followed } => self.drifting.read(guest, followed),
            Fact::LocksRead { order, readings } => {
                let s = surroundings!(self, now);
                return self.executor.locks_read(&s, order, &readings);
            }
            Fact::LockState {
                guest,
                epoch,
                state,
            } => {
                let s = surroundings!(self, now);
                self.executor.lock_state(&s, guest, epoch, &state);
            }
            Fact::HostObserved(health) => self.executor.host_observed(&health),
            Fact::GuestDone { order, result } => {
                return self.executor.done(&surroundings!(self, now), order, result);
            }
            Fact::FenceDone {
                attempt,
                end,
                detail,
            } => {
                let host = self
                    .member
                    .cluster()
                    .hosts
                    .iter()
                    .find(|(_, h)| h.attempts.contains_key(&attempt))
                    .map(|(n, _)| *n);
                if let Some(host) = host {
                    self.planner.attempt_done(host, attempt, end);
                    let text = format!("attempt {attempt} on it ended {end:?}: {detail}");
                    out.push(Effect::Event(self.event(
                        Token::NONE,
                        EventKind::Fence,
                        Some(host),
                        None,
                        text,
                    )));
                }
            }
            Fact::DeviceRead {
                trial,
                word,
                remark,
            } => self.trials.done(now, trial, word, remark),
            Fact::Guardian(pulse) => self.member.guardian(now, pulse),
            Fact::LeaseUnwritten { stands, why } => {
                if self.unwritten.is_none() {
                    let me = self.member.me();
                    let text = format!(
                        "the lease record cannot be written, and the guardian goes by it: guests \
                         are held before it ends: {why}"
                    );
                    let event = self.event(Token::NONE, EventKind::Alert, Some(me), None, text);
                    out.push(Effect::Event(event));
                }
                self.unwritten = Some((stands, why));
                return true;
            }
            Fact::LeaseWritten => {
                self.unwritten = None;
                return true;
            }
            Fact::Request { client, request } => {
                if let crate::contract::Request::Leave(why) = &request {
                    // Stopping the daemon never overtakes an orderly leave: its guests would be
                    // left running by a host that the log says has none.
                    let orderly = self.leaving.is_some_and(|(why, _)| why != Away::Stop);
                    if !orderly {
                        self.leaving = Some((*why, now));
                    }
                }
                self.requests.take(now, &mut self.member, client, request);
            }
        }
        false
    }

    /// One round of consequences; `looks` says whether the host's part and the coordinator's look
    /// at them.
    fn round(
        &mut self,
        now: Time,
        outputs: &mut Vec<Output<Guests>>,
        looks: (bool, bool),
        out: &mut Vec<Effect>,
    ) {
        let mut writes = Vec::new();
        let mut resting = std::mem::take(&mut self.resting);
        for output in outputs.drain(..) {
            match output {
                Output::Write(w) => writes.push(NodeWrite::Member(w)),
                Output::Datagram { frame, rests } => {
                    let effect = Effect::Datagram { frame };
                    if rests {
                        resting.push(effect);
                    } else {
                        self.outbox.leave(effect, out);
                    }
                }
                Output::Stream { peer, message } => resting.push(Effect::Stream { peer, message }),
                Output::AlsoBySession { peer, message } => {
                    out.push(Effect::Stream { peer, message });
                }
                Output::Lease(end) => {
                    // Late answers move the end of a lease that is over without renewing it.
                    self.lease_known_over &= end <= now;
                    out.push(Effect::Lease { end });
                }
                Output::Applied(applied) => self.applied(now, applied, &mut resting, out),
                Output::Skipped { .. } if planted("skipped-untold") => {}
                Output::Skipped { after, upto } => self.skipped(after, upto, out),
                Output::Anew { why, above } => {
                    out.push(Effect::Unmark);
                    if !self.restarted {
                        self.restarted = true;
                        self.restart = Some((why, above));
                    }
                }
                Output::Copies { node, text } => {
                    let kind = EventKind::Alert;
                    let event = self.event(Token::NONE, kind, Some(node), None, text);
                    out.push(Effect::Copies { node, event });
                }
                Output::Alert { node, text } => {
                    out.push(Effect::Event(self.event(
                        Token::NONE,
                        EventKind::Alert,
                        Some(node),
                        None,
                        text,
                    )));
                }
            }
        }
        if looks.0 {
            self.host_part(now, out, &mut writes, &mut resting);
        }
        if looks.1 {
            self.coordinator_part(now, out);
        }
        if self.outbox.failed {
            // Nothing is written any more, and the executor promises nothing new: what is left to
            // send rests on no write.
            resting.drain(..).for_each(|e| self.outbox.leave(e, out));
            self.resting = resting;
            return;
        }
        if !writes.is_empty() {
            self.outbox.batch += 1;
            let batch = self.outbox.batch;
            self.member.batched(now, batch);
            self.executor.batched(batch);
            out.push(Effect::Persist { batch, writes });
        }
        self.outbox.rest(&mut resting, out);
        self.resting = resting;
    }

    fn flush(&mut self, out: &mut Vec<Effect>) {
        // After everything else of this step: its writes and its ends are on their way before the
        // driver takes the node down.
        if let Some((why, above)) = self.restart.take() {
            out.push(Effect::Restart { why, above });
        }
        if let Some((how, why)) = self.exit.clone().filter(|_| !self.exited) {
            self.exited = true;
            out.push(Effect::Exit { how, why });
        }
    }
}
