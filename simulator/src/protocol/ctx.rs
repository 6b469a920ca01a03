//! What a node of a protocol can ask of its world.

use super::{NodeName, Protocol};
use crate::world::Rng;

/// Shortest time a timer waits, in nanoseconds: a protocol cannot stop the world's time.
const TIMER_MIN: u64 = 1000;

/// What a node does.
#[derive(Clone, Debug)]
pub(super) enum Output<P: Protocol> {
    Send { to: usize, message: P::Message },
    Stream { to: usize, message: P::Message },
    Timer { timer: u64, at: Option<u64> },
    Persist { number: u64, write: P::Write },
    Tell(P::Fact),
    Reached(&'static str),
}

/// The world as one node sees it during one call.
pub struct Ctx<'a, P: Protocol> {
    pub(super) id: usize,
    pub(super) nodes: usize,
    pub(super) now: u64,
    pub(super) bug: Option<&'static str>,
    /// The last number given to a write.
    pub(super) written: &'a mut u64,
    pub(super) rng: &'a mut Rng,
    pub(super) out: &'a mut Vec<Output<P>>,
}

impl<P: Protocol> Ctx<'_, P> {
    /// This node, from 0.
    #[must_use]
    pub fn id(&self) -> usize {
        self.id
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// Every other node. Borrows nothing, so messages can be sent meanwhile.
    pub fn others(&self) -> impl Iterator<Item = usize> + use<P> {
        let me = self.id;
        (0..self.nodes).filter(move |node| *node != me)
    }

    /// What this node's own clock shows, in nanoseconds. It began anywhere and runs a little too
    /// fast or too slow: only differences of readings of one node mean anything.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Sends a message that may be lost, late, doubled or overtaken.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn send(&mut self, to: usize, message: P::Message) {
        self.must_be(to);
        self.out.push(Output::Send { to, message });
    }

    /// Sends a message to every other node.
    pub fn broadcast(&mut self, message: P::Message) {
        for to in self.others() {
            let message = message.clone();
            self.out.push(Output::Send { to, message });
        }
    }

    /// Sends on the session to another node: in order, without loss while the session lasts. What
    /// is sent without a session is lost.
    ///
    /// # Panics
    /// If there is no such node, or [`Protocol::SESSIONS`] is off.
    pub fn stream(&mut self, to: usize, message: P::Message) {
        self.must_be(to);
        assert!(P::SESSIONS, "Ctx::stream needs Protocol::SESSIONS = true");
        self.out.push(Output::Stream { to, message });
    }

    /// Calls [`Protocol::timer`] with this number `after` so many nanoseconds of this node's clock;
    /// instead of when it was set to before.
    pub fn set_timer(&mut self, timer: u64, after: u64) {
        let at = self.now.saturating_add(after.max(TIMER_MIN));
        let at = Some(at);
        self.out.push(Output::Timer { timer, at });
    }

    /// Takes a timer back.
    pub fn cancel_timer(&mut self, timer: u64) {
        self.out.push(Output::Timer { timer, at: None });
    }

    /// Gives a write to the disk and returns its number, which [`Protocol::stored`] names once it
    /// is durable. Until then a crash may lose it.
    pub fn persist(&mut self, write: P::Write) -> u64 {
        *self.written += 1;
        let number = *self.written;
        self.out.push(Output::Persist { number, write });
        number
    }

    /// Tells the [`Promise`](super::Promise) something. No node learns of it.
    pub fn tell(&mut self, fact: P::Fact) {
        self.out.push(Output::Tell(fact));
    }

    /// Says that something rare came up, for the counts at the end of a hunt: a hunt that never
    /// went there proved nothing about it.
    pub fn reached(&mut self, what: &'static str) {
        self.out.push(Output::Reached(what));
    }

    /// A number from `low` to `high`, both included, from a stream of this node's own.
    pub fn random(&mut self, low: u64, high: u64) -> u64 {
        self.rng.range(low, high)
    }

    /// Whether this bug of [`Protocol::BUGS`] is planted.
    ///
    /// # Panics
    /// If there is no bug of that name.
    #[must_use]
    pub fn planted(&self, bug: &'static str) -> bool {
        let known = P::BUGS.iter().any(|(name, _)| *name == bug);
        assert!(known, "no bug {bug:?} in Protocol::BUGS");
        self.bug == Some(bug)
    }

    fn must_be(&self, node: usize) {
        let (from, to) = (NodeName(self.id), NodeName(node));
        assert!(
            node < self.nodes,
            "{from} sends to {to}, but there are {} nodes",
            self.nodes
        );
    }
}
