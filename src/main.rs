//! The quorate command.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    // What the daemon starts itself again as; hidden from people.
    match args.first().and_then(|a| a.to_str()) {
        Some("guardian") => return quorate::guardian::guardian_main(&args[1..]),
        Some("guest-launch") => return quorate::hypervisor::guest_launch_main(&args[1..]),
        Some("agent-run") => return quorate::agents::agent_run_main(&args[1..]),
        _ => {}
    }
    ExitCode::SUCCESS
}
