//! What the daemon asks of the system for its own process.

use super::{Ask, DaemonError};
use quorate_membership::entry::Away;
use quorate_recovery::contract::Request;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use std::io;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Descriptors the daemon wants to be able to hold: sessions, clients, and files of its guests.
const DESCRIPTORS: u64 = 8192;
/// Threads for blocking calls that are there from the start, so that a host whose process ids are
/// used up still looks at itself and ends its guests.
const STANDING: usize = 4;
const HELD: Duration = Duration::from_millis(50);

/// Raises the limit of descriptors as far as the system lets it, and keeps the memory of this
/// process, which holds the cluster key, out of core dumps.
pub(super) fn prepare() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|now| now < DESCRIPTORS) {
        let most = limit.maximum.unwrap_or(DESCRIPTORS);
        let raised = Rlimit {
            current: Some(most.min(DESCRIPTORS)),
            maximum: limit.maximum,
        };
        if let Err(e) = rustix::process::setrlimit(Resource::Nofile, raised) {
            tracing::warn!("the limit of open files stays at {:?}: {e}", limit.current);
        }
    }
    // In a user namespace it would hide this process from its own guardian.
    if only_namespace()
        && let Err(e) = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
    {
        tracing::warn!("a core dump of this process would hold the cluster key: {e}");
    }
}

/// Whether this process is of the system's first user namespace: every user of it is itself.
fn only_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
        let numbers: Vec<&str> = map.split_ascii_whitespace().collect();
        numbers == ["0", "0", "4294967295"]
    })
}

/// The runtime of the loop, whose threads for blocking calls stay once they are there.
///
/// # Errors
/// The system gives no threads or descriptors.
pub(super) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(Duration::from_secs(u64::from(u32::MAX)))
        .build()?;
    // Refused in words here, where the runtime would break down.
    std::thread::Builder::new().spawn(|| ())?;
    for _ in 0..STANDING {
        // Long enough to hold its thread until each has one.
        drop(runtime.spawn_blocking(|| std::thread::sleep(HELD)));
    }
    Ok(runtime)
}

/// SIGTERM and SIGINT stop the daemon alone: its guests run on until the lease ends, for a daemon
/// that is back before then.
pub(super) fn watch_signals(leave: mpsc::Sender<Ask>) -> Result<(), DaemonError> {
    let mut term = signal(SignalKind::terminate()).map_err(DaemonError::at("SIGTERM"))?;
    let mut int = signal(SignalKind::interrupt()).map_err(DaemonError::at("SIGINT"))?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            let request = Request::Leave(Away::Stop);
            let reply = None;
            if leave.send(Ask { request, reply }).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}
