//! How to be sure that a host is off.
//!
//! A guest may start elsewhere only when it is certain that its old host can do nothing any more.
//! This crate holds everything about that certainty which needs neither a socket nor a clock:
//!
//! | module | answers |
//! |---|---|
//! | [`class`] | what does the word of a fence agent prove, and does this level prove anything? |
//! | [`mod@check`] | is this configuration one we dare to run? |
//! | [`agent`] | what goes into an agent, what may be read out of it? |
//! | [`run`] | one device, from the first `status` to its outcome |
//! | [`order`] | one level of devices that must all succeed, and which level comes next |
//! | [`boxes`] | which devices are reached through one box, and are asked one after another |
//! | [`brake`] | may another host be cut at all? |
//! | [`guardian`] | on the other side: who ends this host's guests when its lease ends |
//!
//! Times are [`Duration`](std::time::Duration)s since one fixed moment of the caller's monotonic
//! clock (which must count time spent suspended); nothing here reads a clock. Every state machine
//! takes facts (`ended`, a time) and is drained by `poll` until it names a time to wait for.
//!
//! Nothing in this crate knows the cluster's members, its log or its votes: hosts are names or
//! plain numbers. That no fence starts from a minority is decided elsewhere.

pub mod agent;
pub mod boxes;
pub mod brake;
pub mod check;
pub mod class;
pub mod guardian;
pub mod mutants;
pub mod order;
pub mod run;

pub use agent::{AgentCall, AgentEnd, Reading, Said, Verb};
pub use brake::{Braked, allows};
pub use check::{Fault, check};
pub use class::{Device, Level, NoProof, ProofClass};
pub use guardian::{Act, Feed, Feeding, Guardian, Sight};
pub use mutants::PLANTED_BUGS;
pub use order::{LevelAction, LevelRun, Next, Tried, next_level};
pub use run::{Action, DeviceRun, Outcome};
