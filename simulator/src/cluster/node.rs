//! What the simulator needs of a node: the two calls of the contract, and one look inside.

use crate::world::RunHash;
use quorate_membership::member::Untaken;
use quorate_membership::{State, Time, codec};
use quorate_recovery::contract::{Effect, Fact};
use quorate_recovery::{Guests, Node, Setup};

impl SimNode for Node {
    fn new(now: Time, setup: Setup) -> Result<Node, String> {
        Node::new(now, setup)
    }

    fn step(&mut self, now: Time, fact: Fact, out: &mut Vec<Effect>) {
        Node::step(self, now, fact, out);
    }

    fn set_untaken(&mut self, untaken: Untaken) {
        Node::set_untaken(self, untaken);
    }

    fn acting(&self, now: Time) -> Option<Time> {
        self.member().acting(now)
    }

    fn applied(&self) -> u64 {
        self.member().cluster().applied
    }

    fn state(&self) -> u64 {
        let (cluster, app) = (self.member().cluster(), self.member().app());
        let bytes = codec::encode(codec::Kind::State, &(cluster, app)).unwrap_or_default();
        let mut hash = RunHash::default();
        hash.bytes(&bytes);
        hash.finish()
    }

    fn alter(&mut self, by: u64) {
        self.alter_state(|state| state.cluster.view += by);
    }

    fn left_log(&self) -> bool {
        self.member().left_log()
    }

    fn made(&self, state: &State<Guests>) -> bool {
        *self.member().cluster() == state.cluster && *self.member().app() == state.app
    }

    fn agrees(&self, other: &Node) -> bool {
        let (a, b) = (self.member(), other.member());
        self.applied() == other.applied() && a.cluster() == b.cluster() && a.app() == b.app()
    }
}

/// The object under test.
pub trait SimNode: Sized {
    /// A node at its start; it does nothing before its first fact.
    ///
    /// # Errors
    /// What the store holds does not fit together.
    fn new(now: Time, setup: Setup) -> Result<Self, String>;

    /// Takes one fact; effects end with `Wait`.
    fn step(&mut self, now: Time, fact: Fact, out: &mut Vec<Effect>);

    /// What the program above it has not taken of its messages up to now.
    fn set_untaken(&mut self, untaken: Untaken);

    /// Until when it may give orders as coordinator, if it may now.
    fn acting(&self, now: Time) -> Option<Time>;

    /// How many entries it has applied.
    fn applied(&self) -> u64;

    /// A number that stands for the whole state they made.
    fn state(&self) -> u64;

    /// A number of what it made of the log is altered in its memory.
    fn alter(&mut self, by: u64);

    /// Whether its voter has left the log.
    fn left_log(&self) -> bool;

    /// Whether that is the state it made.
    fn made(&self, state: &State<Guests>) -> bool;

    /// Whether both have applied the same number of entries and made the same state of them: found
    /// much faster than by two calls of [`SimNode::state`].
    fn agrees(&self, other: &Self) -> bool;
}
