//! Drives the nodes of any protocol through a world.

use super::ctx::{Ctx, Output};
use super::{Moment, NodeName, Protocol, Told};
use crate::check::At;
use crate::harness::Counts;
use crate::record::{Names, Sort};
use crate::world::{Clock, Happening, Layout, MS, Rng, RunHash, SECOND, Stream, Types, World};
use std::collections::BTreeMap;
use std::fmt::{self, Debug, Write};

/// What every clock shows at least: it can be set back without falling below zero.
pub(super) const CLOCK_START: u64 = 1_000_000 * SECOND;

/// The types of a protocol that lives in the world alone.
#[derive(Debug)]
pub struct Alone<P>(std::marker::PhantomData<P>);

impl<P: Protocol> Types for Alone<P> {
    type Datagram = P::Message;
    type Message = P::Message;
    type Write = P::Write;
    /// The number of a write that is durable.
    type Local = u64;
    /// Whatever who holds the runner planned.
    type Event = u32;

    fn datagram_text(message: &P::Message) -> String {
        format!("{message:?}")
    }
    fn message_text(message: &P::Message) -> String {
        format!("{message:?}")
    }
    fn local_text(write: &u64) -> String {
        format!("has write {write} on its disk")
    }
}

/// What came next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A node took a step.
    Node(usize),
    /// An event that was planned with [`World::after`] is due.
    Event(u32),
}

/// Something a promise is to hear of.
#[derive(Clone, Debug)]
pub enum News<F> {
    /// A node told a fact.
    Told(Told<F>),
    /// The process of this node has begun, with what its disk kept.
    Started(usize),
    /// The process of this node has ended: what its disk had not kept is forgotten.
    Crashed(usize),
}

/// The nodes of a protocol in a world. Faults are made by whoever holds it, between steps.
pub struct Runner<P: Protocol> {
    /// The world; cut its links, stop its processes.
    pub world: World<Alone<P>>,
    nodes: Vec<Seat<P>>,
    bug: Option<&'static str>,
    out: Vec<Output<P>>,
    news: Vec<News<P::Fact>>,
    /// How much was exercised.
    pub counts: Counts,
    pub(super) lines: Option<Vec<String>>,
    hash: RunHash,
    /// What the last step was, as bits of [`Moment`].
    step: u8,
}

/// Where one node runs.
struct Seat<P: Protocol> {
    state: Option<P>,
    begun: bool,
    /// When its process began last.
    since: u64,
    disk: Vec<P::Write>,
    /// Readings at which timers are over, by their number.
    timers: BTreeMap<u64, u64>,
    written: u64,
    rng: Rng,
}

/// Takes what is formatted into a hash, piece by piece.
struct Hashed<'a>(&'a mut RunHash);

impl Write for Hashed<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.text(text);
        Ok(())
    }
}

/// Adds a line to the trace, formatting it only if it is kept.
macro_rules! trace {
    ($runner:expr, $($arg:tt)*) => {
        if $runner.lines.is_some() {
            let text = format!($($arg)*);
            $runner.line(&text);
        }
    };
}
pub(super) use trace;

impl<P: Protocol> Runner<P> {
    /// A world of so many nodes with no process running yet, all clocks alike, and this bug planted.
    #[must_use]
    pub fn new(seed: u64, nodes: usize, bug: Option<&'static str>) -> Runner<P> {
        let layout = Layout {
            nodes,
            networks: 1,
            session_networks: usize::from(P::SESSIONS),
            session_loss: SECOND / 2,
            session_open: 50 * MS,
        };
        let mut world = World::new(seed, layout);
        let seat = |node: u64| Seat {
            state: None,
            begun: false,
            since: 0,
            disk: Vec::new(),
            timers: BTreeMap::new(),
            written: 0,
            // One node's draws move no other's.
            rng: Rng::new(seed ^ (node + 1) << 40, Stream::Node),
        };
        for node in 0..nodes {
            let clock = Clock {
                offset: CLOCK_START,
                rate_ppb: 0,
            };
            world.set_clock(node, clock);
        }
        Runner {
            world,
            nodes: (0..nodes as u64).map(seat).collect(),
            bug,
            out: Vec::new(),
            news: Vec::new(),
            counts: Counts::default(),
            lines: None,
            hash: RunHash::default(),
            step: 0,
        }
    }

    /// Whether the last step of a node was of this kind.
    #[must_use]
    pub fn stepped(&self, moment: Moment) -> bool {
        self.step & 1 << moment as u8 != 0
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// A node whose process is up.
    #[must_use]
    pub fn node(&self, node: usize) -> Option<&P> {
        self.nodes[node].state.as_ref()
    }

    /// What a node's disk has, oldest first.
    #[must_use]
    pub fn disk(&self, node: usize) -> &[P::Write] {
        &self.nodes[node].disk
    }

    /// The hash of everything that happened.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// What nodes told, and which processes began and ended, since this was asked last; oldest first.
    pub fn take_news(&mut self) -> Vec<News<P::Fact>> {
        std::mem::take(&mut self.news)
    }

    /// Since when the process of a node runs, in true nanoseconds; `None` while it is down.
    #[must_use]
    pub fn up_since(&self, node: usize) -> Option<u64> {
        let seat = &self.nodes[node];
        seat.state.as_ref().map(|_| seat.since)
    }

    /// Keeps one line per event from now on.
    pub fn trace(&mut self) {
        self.lines = Some(Vec::new());
        let names = Names::numbered("n", self.nodes.len(), 1);
        self.world.record(names);
    }

    /// The lines kept.
    pub fn take_trace(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default()
    }

    /// Adds a line to the trace, if there is one.
    pub(super) fn line(&mut self, text: &str) {
        let now = At(self.world.now()).to_string();
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{now:>11} {text}"));
        }
    }

    /// Whether everything passes from one node to another.
    #[must_use]
    pub fn passes(&self, from: usize, to: usize) -> bool {
        let link = self.world.link(0, from, to);
        from == to || !link.cut && !link.clogged && link.blocked == 0
    }

    /// Starts a node, or starts it anew.
    pub fn start(&mut self, node: usize) {
        self.crash(node);
        self.world.start(node);
        let seat = &mut self.nodes[node];
        let again = std::mem::replace(&mut seat.begun, true);
        seat.since = self.world.now();
        self.news.push(News::Started(node));
        let disk = std::mem::take(&mut seat.disk);
        trace!(
            self,
            "{} {} with {} writes on its disk",
            NodeName(node),
            if again { "starts again" } else { "starts" },
            disk.len()
        );
        self.hash.add(node as u64);
        self.hash.add(disk.len() as u64);
        let mut ctx = self.ctx(node);
        let state = if again {
            P::restart(&mut ctx, &disk)
        } else {
            P::start(&mut ctx)
        };
        let seat = &mut self.nodes[node];
        seat.state = Some(state);
        seat.disk = disk;
        self.carry_out(node);
    }

    /// Ends a node's process; its disk keeps what was durable and perhaps some more.
    pub fn crash(&mut self, node: usize) {
        let kept = self.world.crash(node);
        let seat = &mut self.nodes[node];
        seat.disk.extend(kept);
        seat.timers.clear();
        if seat.state.take().is_some() {
            self.news.push(News::Crashed(node));
        }
    }

    /// Sets a node's clock; its timers follow.
    pub fn set_clock(&mut self, node: usize, clock: Clock) {
        self.world.set_clock(node, clock);
        self.arm(node);
    }

    /// Moves on to what happens next up to true time `until`; `None` if nothing does.
    pub fn next(&mut self, until: u64) -> Option<Next> {
        while let Some(h) = self.world.next(until) {
            self.step = 0;
            self.hash.add(self.world.now());
            match h {
                Happening::Datagram {
                    to, from, message, ..
                }
                | Happening::Message { to, from, message } => {
                    trace!(
                        self,
                        "{} hears {}: {message:?}",
                        NodeName(to),
                        NodeName(from)
                    );
                    self.take_in("m", to, from as u64, &message);
                    self.counts.add("messages", 1);
                    self.give(to, |p, ctx| p.message(ctx, from, message));
                    return Some(Next::Node(to));
                }
                Happening::SessionUp { node, peer } => {
                    trace!(
                        self,
                        "{} has a session to {}",
                        NodeName(node),
                        NodeName(peer)
                    );
                    self.take_in("u", node, peer as u64, &());
                    self.give(node, |p, ctx| p.connected(ctx, peer));
                    return Some(Next::Node(node));
                }
                Happening::SessionDown { node, peer } => {
                    trace!(
                        self,
                        "{} lost its session to {}",
                        NodeName(node),
                        NodeName(peer)
                    );
                    self.take_in("d", node, peer as u64, &());
                    self.give(node, |p, ctx| p.disconnected(ctx, peer));
                    return Some(Next::Node(node));
                }
                Happening::Timer { node } => {
                    self.timers(node);
                    return Some(Next::Node(node));
                }
                Happening::Local { node, fact } => {
                    trace!(self, "{} has write {fact} on its disk", NodeName(node));
                    self.take_in("s", node, fact, &());
                    self.step |= 1 << Moment::Stored as u8;
                    self.give(node, |p, ctx| p.stored(ctx, fact));
                    return Some(Next::Node(node));
                }
                Happening::Stored { node, batch, write } => {
                    self.nodes[node].disk.push(write);
                    self.world.tell(node, 0, batch);
                }
                Happening::Event(event) => return Some(Next::Event(event)),
            }
        }
        None
    }

    fn take_in(&mut self, kind: &str, node: usize, from: u64, what: &impl Debug) {
        self.hash.text(kind);
        self.hash.add(node as u64);
        self.hash.add(from);
        let _ = write!(Hashed(&mut self.hash), "{what:?}");
    }

    /// Every timer that is over, the earliest first.
    fn timers(&mut self, node: usize) {
        let now = self.world.reading(node);
        loop {
            let timers = &mut self.nodes[node].timers;
            let due = timers.iter().filter(|(_, at)| **at <= now);
            let Some((timer, _)) = due.min_by_key(|(timer, at)| (**at, **timer)) else {
                break;
            };
            let timer = *timer;
            timers.remove(&timer);
            trace!(self, "{} timer {timer} is over", NodeName(node));
            self.take_in("t", node, timer, &());
            self.give(node, |p, ctx| p.timer(ctx, timer));
        }
        self.arm(node);
    }

    fn ctx(&mut self, node: usize) -> Ctx<'_, P> {
        let nodes = self.nodes.len();
        let seat = &mut self.nodes[node];
        Ctx {
            id: node,
            nodes,
            now: self.world.reading(node),
            bug: self.bug,
            written: &mut seat.written,
            rng: &mut seat.rng,
            out: &mut self.out,
        }
    }

    fn give(&mut self, node: usize, call: impl FnOnce(&mut P, &mut Ctx<'_, P>)) {
        let Some(mut state) = self.nodes[node].state.take() else {
            return;
        };
        call(&mut state, &mut self.ctx(node));
        self.nodes[node].state = Some(state);
        self.carry_out(node);
    }

    fn carry_out(&mut self, node: usize) {
        let (name, now) = (NodeName(node), self.world.now());
        let mut rearm = false;
        let mut out = std::mem::take(&mut self.out);
        self.hash.add(out.len() as u64);
        for output in out.drain(..) {
            match output {
                Output::Send { to, message } => {
                    trace!(self, "{name} sends {}: {message:?}", NodeName(to));
                    let class = P::class(&message) as u8;
                    self.world.datagram(0, node, to, class, 0, message);
                }
                Output::Stream { to, message } => {
                    trace!(self, "{name} streams {}: {message:?}", NodeName(to));
                    self.world.stream(node, to, 0, message);
                }
                Output::Timer { timer, at } => {
                    rearm = true;
                    let timers = &mut self.nodes[node].timers;
                    match at {
                        Some(at) => timers.insert(timer, at),
                        None => timers.remove(&timer),
                    };
                }
                Output::Persist { number, write } => {
                    trace!(self, "{name} writes {number}: {write:?}");
                    self.step |= 1 << Moment::Writes as u8;
                    self.world.persist(node, 0, number, write);
                }
                Output::Tell(fact) => {
                    trace!(self, "{name} tells: {fact:?}");
                    self.step |= 1 << Moment::Tells as u8;
                    if self.world.is_recording() {
                        let text = format!("tells {fact:?}");
                        self.world.mark(node as u32, Sort::Truth, &text);
                    }
                    let _ = write!(Hashed(&mut self.hash), "{fact:?}");
                    let at = now;
                    self.news.push(News::Told(Told { node, at, fact }));
                }
                Output::Reached(what) => self.counts.add(format!("reached: {what}"), 1),
            }
        }
        self.out = out;
        if rearm {
            self.arm(node);
        }
    }

    fn arm(&mut self, node: usize) {
        let next = self.nodes[node].timers.values().min();
        self.world.wait(node, next.copied().unwrap_or(u64::MAX));
    }
}
