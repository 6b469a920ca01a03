//! Any user's state machine in the false world.

use super::{Happening, Layout, Types, World};

/// What happens to a node.
#[derive(Clone, Debug)]
pub enum Input<P: Protocol> {
    /// A datagram.
    Datagram(usize, P::Datagram),
    /// A session to this node is open.
    SessionUp(usize),
    /// The session to this node is gone.
    SessionDown(usize),
    /// A message on the session.
    Message(usize, P::Message),
    /// The deadline of the last wait has come.
    Timer,
    /// Every batch up to this one is durable.
    Durable(u64),
}

/// What a node does.
#[derive(Clone, Debug)]
pub enum Output<P: Protocol> {
    /// Send a datagram.
    Datagram(usize, P::Datagram),
    /// Send on the session.
    Message(usize, P::Message),
    /// Make a batch durable.
    Persist(u64, P::Write),
    /// Wake me at this reading of my clock.
    Wait(u64),
}

/// A deterministic state machine under test.
pub trait Protocol: Sized {
    /// An unreliable message.
    type Datagram: Clone;
    /// A message on a session.
    type Message: Clone;
    /// One atomic batch.
    type Write: Clone;

    /// Starts node `id` of `nodes` with what its disk kept, oldest first. Its first input is a
    /// [`Input::Timer`] at once.
    fn start(id: usize, nodes: usize, now: u64, durable: &[Self::Write]) -> Self;

    /// Takes one input at reading `now` of its own clock.
    fn step(&mut self, now: u64, input: Input<Self>, out: &mut Vec<Output<Self>>);
}

/// The types of a protocol that lives in the world alone. Events are closures' numbers.
#[derive(Debug)]
pub struct Alone<P>(std::marker::PhantomData<P>);

impl<P: Protocol> Types for Alone<P> {
    type Datagram = P::Datagram;
    type Message = P::Message;
    type Write = P::Write;
    type Local = u64;
    type Event = ();
}

/// Drives any [`Protocol`] through a [`World`]. Faults are made by whoever holds it, between runs.
pub struct Runner<P: Protocol> {
    /// The world; cut its links, stop its processes.
    pub world: World<Alone<P>>,
    nodes: Vec<Option<P>>,
    disks: Vec<Vec<P::Write>>,
    out: Vec<Output<P>>,
}

impl<P: Protocol> Runner<P> {
    /// A world of this layout with no process running yet.
    #[must_use]
    pub fn new(seed: u64, layout: Layout) -> Runner<P> {
        Runner {
            world: World::new(seed, layout),
            nodes: (0..layout.nodes).map(|_| None).collect(),
            disks: vec![Vec::new(); layout.nodes],
            out: Vec::new(),
        }
    }

    /// Starts a node, or starts it anew.
    pub fn start(&mut self, node: usize) {
        self.crash(node);
        self.world.start(node);
        let now = self.world.reading(node);
        let nodes = self.nodes.len();
        self.nodes[node] = Some(P::start(node, nodes, now, &self.disks[node]));
        self.world.wait(node, now);
    }

    /// Ends a node's process; its disk keeps what was durable and perhaps some more.
    pub fn crash(&mut self, node: usize) {
        let kept = self.world.crash(node);
        self.disks[node].extend(kept);
        self.nodes[node] = None;
    }

    /// A running node, for a checker.
    #[must_use]
    pub fn node(&self, node: usize) -> Option<&P> {
        self.nodes[node].as_ref()
    }

    /// Runs until `until` (true time), calling `check` after every step of a node.
    pub fn run(&mut self, until: u64, mut check: impl FnMut(&Runner<P>, usize)) {
        while let Some(h) = self.world.next(until) {
            let (node, input) = match h {
                Happening::Datagram {
                    to, from, message, ..
                } => (to, Input::Datagram(from, message)),
                Happening::SessionUp { node, peer } => (node, Input::SessionUp(peer)),
                Happening::SessionDown { node, peer } => (node, Input::SessionDown(peer)),
                Happening::Message { to, from, message } => (to, Input::Message(from, message)),
                Happening::Timer { node } => (node, Input::Timer),
                Happening::Local { node, fact } => (node, Input::Durable(fact)),
                Happening::Stored { node, batch, write } => {
                    self.disks[node].push(write);
                    self.world.tell(node, 0, batch);
                    continue;
                }
                Happening::Event(()) => continue,
            };
            let Some(p) = &mut self.nodes[node] else {
                continue;
            };
            let mut out = std::mem::take(&mut self.out);
            p.step(self.world.reading(node), input, &mut out);
            for o in out.drain(..) {
                match o {
                    Output::Datagram(to, m) => self.world.datagram(0, node, to, 0, 0, m),
                    Output::Message(to, m) => {
                        self.world.stream(node, to, 0, m);
                    }
                    Output::Persist(batch, w) => self.world.persist(node, 0, batch, w),
                    Output::Wait(until) => self.world.wait(node, until),
                }
            }
            self.out = out;
            check(self, node);
        }
    }
}
