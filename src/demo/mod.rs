//! `quorate demo`: four hosts and a witness on this machine, without root and without a hypervisor.

mod guest;
#[allow(dead_code)]
mod judge;
pub mod rack;
#[allow(dead_code)]
mod record;
#[allow(dead_code)]
mod site;
#[allow(dead_code)]
mod switch;

pub use guest::guest;
