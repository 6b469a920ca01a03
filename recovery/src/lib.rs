//! Which guests, where, when.
//!
//! The `Application` that protects guests, and the node object that joins it with membership and
//! fencing. No I/O, no clock: facts go in, effects come out (see [`contract`]).

mod bounds;
mod bytes;
pub mod command;
pub mod contract;
pub mod devices;
pub mod domain;
mod domains;
mod event;
pub mod executor;
pub mod guest;
pub mod hold;
pub mod images;
pub mod kinds;
pub mod lock;
mod lrmd;
pub mod machine;
pub mod mutants;
pub mod node;
pub mod observation;
pub mod placement;
mod planner;
mod policy;
mod reply;
mod requests;
pub mod trials;

pub use contract::{Effect, Fact};
pub use machine::Guests;
pub use node::{Node, Setup};
pub use requests::{PUBLISHED, patience};

/// Whether this build can carry planted bugs. The root package asserts that it cannot.
pub const PLANTED_BUGS: bool =
    cfg!(feature = "mutants") || quorate_membership::PLANTED_BUGS || quorate_fencing::PLANTED_BUGS;
