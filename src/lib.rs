//! Keeps guests running when hosts die.

pub mod config;
pub mod demo;
