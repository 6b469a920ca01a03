//! Keeps guests running when hosts die.

pub mod net;
pub mod store;
