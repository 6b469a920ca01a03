//! Keeps guests running when hosts die.

pub mod config;
