//! What the simulator needs of a node: the two calls of the contract, and one look inside.

use quorate_fencing::Level;
use quorate_membership::Time;
use quorate_membership::entry::{ArmedClass, Profile};
use quorate_membership::store::Image;
use quorate_recovery::command::Command;
use quorate_recovery::contract::{Effect, Fact, GuestSeen};
use quorate_recovery::executor::GuestPromise;
use quorate_recovery::guest::GuestId;
use std::collections::BTreeMap;

/// What a daemon finds at its start.
#[derive(Clone, Debug)]
pub struct SimSetup {
    /// What its store holds; the incarnation is this life's.
    pub image: Image<Command>,
    /// What it promised about guests.
    pub promises: BTreeMap<GuestId, GuestPromise>,
    /// What it says of itself.
    pub profile: Profile,
    /// The guardian's record of the lease end, if it is of this boot.
    pub inherited_lease: Option<Time>,
    /// Who ends this host's guests at lease end.
    pub armed: Option<ArmedClass>,
    /// Guest processes found.
    pub present: Vec<GuestSeen>,
    /// How this host is to be fenced.
    pub fencing: Vec<Level>,
}

/// The object under test.
pub trait SimNode: Sized {
    /// A node at its start; it does nothing before its first fact.
    fn new(now: Time, setup: SimSetup) -> Self;

    /// Takes one fact; effects end with `Wait`.
    fn step(&mut self, now: Time, fact: Fact, out: &mut Vec<Effect>);

    /// Until when it may give orders as coordinator, if it may now.
    fn acting(&self, now: Time) -> Option<Time>;
}
