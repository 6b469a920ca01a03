//! What a start takes from the machine and checks before anything is touched.

use super::DaemonError;
use super::api::Chronicle;
use crate::api::EventLine;
use crate::config::{Config, machine_memory, memory_room};
use crate::guardian::ResetNote;
use crate::guardian::records::RunDir;
use crate::hypervisor::Limits;
use crate::net::{ClusterKey, LinkError, Links, SessionError};
use crate::store::{NodeIdentity, Store};
use quorate_membership::entry::{Capacity, Profile};
use quorate_membership::{BootId, StoreId, Timing, Token};
use quorate_recovery::contract::{Event, EventKind};
use std::io;

/// Opens the store of this node, on a thread of its own: a disk that does not answer must not keep
/// the daemon from being stopped.
pub(super) async fn open_store(config: &Config, above: u64) -> Result<Store, DaemonError> {
    let config = config.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let machine = super::machine(&config)?;
        let right = |identity: &NodeIdentity, _| same_node(&config, identity);
        Store::open_above(&super::store_path(&config), &machine, above, right)
    });
    opened
        .await
        .map_err(|e| DaemonError::world(e.to_string()))?
}

/// What the daemon would find when it opens what the file names: each fault in words. Nothing is
/// kept open.
#[must_use]
pub fn trial(config: &Config) -> Vec<String> {
    let mut faults = Vec::new();
    if let Err(e) = ClusterKey::load(&config.key_file) {
        faults.push(e.to_string());
    }
    let runs = super::api::free(&config.socket).is_err();
    let mut said = |e: &dyn std::error::Error, in_use: bool| {
        // The daemon that runs holds them.
        if !(runs && in_use) {
            faults.push(e.to_string());
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    if let Ok(runtime) = &runtime {
        let _entered = runtime.enter();
        for link in super::links(config) {
            if let Err(e) = Links::open(&[link]) {
                let in_use = matches!(&e, LinkError::System { source, .. }
                    if source.kind() == io::ErrorKind::AddrInUse);
                said(&e, in_use);
            }
        }
    }
    let listened = config
        .listen
        .resolve()
        .and_then(std::net::TcpListener::bind);
    if let Err(source) = listened {
        let in_use = source.kind() == io::ErrorKind::AddrInUse;
        let address = config.listen.clone();
        said(&SessionError::Listen { address, source }, in_use);
    }
    for peer in &config.peers {
        if let Err(e) = peer.session.resolve() {
            faults.push(format!("peer {}: {}: {e}", peer.name, peer.session));
        }
    }
    faults
}

/// Says why this host was reset, if its guardian did that in an earlier boot: once.
pub(super) fn tell_reset(config: &Config, chronicle: &Chronicle) -> Result<(), DaemonError> {
    let boot = crate::clock::boot_id(&config.boot_id_file);
    let boot = boot.map_err(|e| DaemonError::world(e.to_string()))?;
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
        .map_err(|e| DaemonError::world(format!("what the guardian works by: {e}")))
}

/// The store must be that of the node in the file.
pub(super) fn same_node(config: &Config, identity: &NodeIdentity) -> Result<(), DaemonError> {
    if identity.node == config.node && identity.name == config.name {
        return Ok(());
    }
    Err(DaemonError::input(format!(
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
