//! Raft, and the four classic mistakes in it: `README.md` beside this file tells the story.

mod message;
mod node;
mod promise;

use promise::Raft;
use quorate_simulator::harness::{Subject, cli};
use quorate_simulator::protocol::Test;
use std::process::ExitCode;

/// The test at its default settings; no mistake is planted unless `--bug` names one.
pub(crate) fn test() -> impl Subject {
    Test::<node::Node, Raft>::new()
}

fn main() -> ExitCode {
    cli::main(&test())
}
