//! What a start takes from the machine and checks before anything is touched.

use super::DaemonError;
use super::api::Chronicle;
use crate::api::EventLine;
use crate::config::{Config, machine_memory, memory_room};
use crate::guardian::ResetNote;
use crate::guardian::records::RunDir;
use crate::hypervisor::Limits;
use crate::net::{Links, SessionError};
use crate::store::NodeIdentity;
use quorate_membership::entry::{Capacity, Profile};
use quorate_membership::{BootId, StoreId, Timing, Token};
use quorate_recovery::contract::{Event, EventKind};

/// Refuses what another program holds already: the API's socket, the links' ports, the sessions'
/// port. Before the store is opened, because opening it begins an incarnation.
///
/// # Errors
/// What is taken.
pub(super) fn nothing_taken(config: &Config) -> Result<(), DaemonError> {
    super::api::free(&config.socket).map_err(|e| DaemonError(e.to_string()))?;
    // Not if it is not there: opening says so better.
    if super::store_path(config).exists() {
        drop(Links::open(&super::links(config))?);
        let address = config.listen;
        std::net::TcpListener::bind(address)
            .map_err(|source| SessionError::Listen { address, source })?;
    }
    Ok(())
}

/// Says why this host was reset, if its guardian did that in an earlier boot: once.
pub(super) fn tell_reset(config: &Config, chronicle: &Chronicle) -> Result<(), DaemonError> {
    let boot = crate::clock::boot_id(&config.boot_id_file);
    let boot = boot.map_err(|e| DaemonError(e.to_string()))?;
    let file = super::reset_note(config);
    let Some(note) = ResetNote::read(&file, boot) else {
        return Ok(());
    };
    let text = format!(
        "the guardian reset this host at {} s of Unix time: {}",
        note.unix, note.why
    );
    tracing::warn!("{text}");
    chronicle.add(EventLine::now(&Event {
        token: Token::NONE,
        kind: EventKind::Alert,
        host: Some(config.name.clone()),
        guest: None,
        text,
    }));
    if let Err(e) = ResetNote::clear(&file) {
        tracing::warn!("{}: {e}", file.display());
    }
    Ok(())
}

/// Tells the guardian by which times it works.
pub(super) fn tell_limits(timing: &Timing, boot: BootId, run: &RunDir) -> Result<(), DaemonError> {
    let ms = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let limits = crate::guardian::Limits {
        boot,
        daemon: i32::try_from(std::process::id()).unwrap_or(0),
        kill_ms: ms(timing.kill),
        watchdog_ms: ms(timing.watchdog),
        drain_ms: ms(timing.drain),
    };
    limits
        .write(run)
        .map_err(|e| DaemonError(format!("what the guardian works by: {e}")))
}

/// The store must be that of the node in the file.
pub(super) fn same_node(config: &Config, identity: &NodeIdentity) -> Result<(), DaemonError> {
    if identity.node == config.node && identity.name == config.name {
        return Ok(());
    }
    Err(DaemonError(format!(
        "{}: node {} named {:?}, but the store in {} is that of {} named {:?}",
        config.path.display(),
        config.node.0,
        config.name,
        config.state_dir.display(),
        identity.node,
        identity.name
    )))
}

/// What this node says it is.
pub(super) fn profile(
    config: &Config,
    store: StoreId,
    boot: BootId,
) -> Result<Profile, DaemonError> {
    let capacity = if config.witness {
        Capacity::default()
    } else {
        Capacity {
            vcpus: match config.capacity.vcpus {
                Some(n) => n,
                None => std::thread::available_parallelism()
                    .map(|n| u32::try_from(n.get()).unwrap_or(u32::MAX))
                    .map_err(DaemonError::at(
                        "capacity.vcpus is not set, and counting them",
                    ))?,
            },
            memory_mib: match config.capacity.memory_mib {
                Some(n) => n,
                None => machine_memory().map(memory_room).map_err(DaemonError::at(
                    "capacity.memory_mib is not set, and /proc/meminfo",
                ))?,
            },
        }
    };
    Ok(Profile {
        name: config.name.clone(),
        store,
        boot,
        witness: config.witness,
        capacity,
        machine: super::machine::machine(config),
    })
}

/// Limits of hypervisor calls that fit the cluster's timing: an end must be done within K.
pub(super) fn limits(timing: &Timing, usual: Limits) -> Limits {
    Limits {
        end: timing.kill,
        poll: timing.heartbeat.min(usual.poll),
        ..usual
    }
}
