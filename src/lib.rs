//! Keeps guests running when hosts die.

pub mod agents;
pub mod clock;
pub mod config;
pub mod demo;
pub mod guardian;
pub mod hypervisor;
pub mod net;
pub mod store;
