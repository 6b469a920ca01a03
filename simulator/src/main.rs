//! The quorate-sim command: the harness for our own cluster.

use quorate_simulator::cluster::Cluster;
use quorate_simulator::harness::cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(&Cluster)
}
