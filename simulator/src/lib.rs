//! Deterministic partition-testing harness: one seed, one schedule, one verdict.
//!
//! [`world`] is generic: any message-passing state machine can live in it, and [`protocol`] gives
//! whoever implements one small trait everything the harness can do.

pub mod atlas;
pub mod check;
pub mod cluster;
pub mod harness;
pub mod mutants;
pub mod oracle;
pub mod protocol;
pub mod scenario;
pub mod sweep;
pub mod world;
