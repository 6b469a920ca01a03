//! What the simulator needs of a node: the two calls of the contract, and one look inside.

use quorate_membership::Time;
use quorate_recovery::contract::{Effect, Fact};
use quorate_recovery::{Node, Setup};

impl SimNode for Node {
    fn new(now: Time, setup: Setup) -> Result<Node, String> {
        Node::new(now, setup)
    }

    fn step(&mut self, now: Time, fact: Fact, out: &mut Vec<Effect>) {
        Node::step(self, now, fact, out);
    }

    fn acting(&self, now: Time) -> Option<Time> {
        self.member().acting(now)
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

    /// Until when it may give orders as coordinator, if it may now.
    fn acting(&self, now: Time) -> Option<Time>;
}
