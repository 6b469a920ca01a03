//! Deterministic partition-testing harness: one seed, one schedule, one verdict.
//!
//! [`world`] is generic: any message-passing state machine can live in it.

pub mod check;
pub mod cluster;
pub mod harness;
pub mod mutants;
pub mod record;
pub mod scenario;
pub mod view;
pub mod world;
