//! `quorate daemon`: one host's node with everything around it.

mod alarms;
mod api;
mod driver;
mod guests;
mod host;
mod join;
#[cfg(feature = "libvirt")]
mod looks;
mod machine;
mod network;
mod start;

pub(crate) use alarms::Alarms;
pub(crate) use api::{Chronicle, Question};
pub(crate) use driver::{Driver, Durable, Ended, Seen};
pub(crate) use join::{Greeting, NUMBERS, Records, random_name};
pub use join::{JoinError, Role, join};
pub(crate) use network::links;

use crate::agents::Agents;
use crate::api::EventLine;
use crate::clock;
use crate::config::Config;
use crate::guardian::records::RunDir;
use crate::guardian::{Guardian, Lease};
use crate::hypervisor::Driver as _;
use crate::hypervisor::{LeaseEnd, Limits, Runner};
use crate::net::{ClusterKey, Links, Opener, Sealer, SessionConfig, Sessions, dials};
use crate::store::mark::Marker;
use crate::store::{Committer, NodeIdentity, Store};
use quorate_membership::Token;
use quorate_membership::entry::{ArmedClass, Away};
use quorate_membership::member::SNAPSHOT_EVERY;
use quorate_membership::vouch::Freshness;
use quorate_recovery::contract::{Event, EventKind, Request};
use quorate_recovery::{Node, Setup};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Facts from guardian, hypervisor and agents that may wait for the loop.
const FACTS: usize = 1024;
/// Questions that may wait for the loop.
const QUESTIONS: usize = 64;

/// What keeps a daemon from starting or from going on, in words for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DaemonError(pub String);

impl DaemonError {
    fn at(place: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> DaemonError {
        move |e| DaemonError(format!("{place}: {e}"))
    }
}

macro_rules! from_errors {
    ($($error:ty),*) => {$(
        impl From<$error> for DaemonError {
            fn from(e: $error) -> DaemonError {
                DaemonError(e.to_string())
            }
        }
    )*};
}
from_errors!(
    crate::net::KeyError,
    crate::net::LinkError,
    crate::net::SessionError,
    crate::store::StoreError
);

/// Where the store of a configuration is.
#[must_use]
pub fn store_path(config: &Config) -> PathBuf {
    config.state_dir.join("store.redb")
}

/// Where the guardian leaves the reason of a reset.
fn reset_note(config: &Config) -> PathBuf {
    config.state_dir.join("reset")
}

/// The machine id a store is bound to.
///
/// # Errors
/// It cannot be read.
pub fn machine(config: &Config) -> Result<String, DaemonError> {
    let id = clock::machine_id(&config.machine_id_file).map_err(|e| DaemonError(e.to_string()))?;
    Ok(format!("{id:032x}"))
}

/// Exit code of a daemon that took its host out of service: whoever supervises it must not start
/// it again by itself.
pub const LEFT: u8 = 3;

/// Runs the daemon until it is told to stop. Exit code 0 after a stop of the daemon alone, 1 if it
/// cannot go on, 2 for bad input, which changed nothing, and 3 after `quorate host leave`.
#[must_use]
pub fn main(config: &Config) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("quorate: no runtime: {e}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(run(config));
    // Calls into a hypervisor may hang; they are left behind.
    runtime.shutdown_background();
    match done {
        Ok(code) => code,
        Err(e) => {
            eprintln!("quorate: {e}");
            ExitCode::from(2)
        }
    }
}

/// Fails only for what was wrong from the start.
async fn run(config: &Config) -> Result<ExitCode, DaemonError> {
    let exe = std::env::current_exe().map_err(DaemonError::at("own program"))?;
    let key = ClusterKey::load(&config.key_file)?;
    let chronicle = Chronicle::new();
    start::tell_reset(config, &chronicle)?;
    let (ask, mut questions) = mpsc::channel(QUESTIONS);
    let (tell_leave, mut leave) = mpsc::channel(4);
    let mut socket = None;
    watch_signals(tell_leave)?;
    start::nothing_taken(config)?;
    loop {
        let mut life = match Life::begin(config, &exe, &key, &chronicle).await {
            Ok(life) => life,
            Err(e) if socket.is_none() => return Err(e),
            Err(e) => {
                // It ran before: a new process may do better, and the guests live by its lease.
                eprintln!("quorate: {e}");
                return Ok(ExitCode::FAILURE);
            }
        };
        if socket.is_none() {
            let served = api::serve(&config.socket, &chronicle, &ask);
            socket = Some(served.map_err(|e| DaemonError(e.to_string()))?);
            tracing::info!(
                "node {} is up as incarnation {}",
                config.name,
                life.driver.incarnation
            );
        }
        let ended = life.driver.run(&mut questions, &mut leave).await;
        let life_left = life.driver.left;
        life.end();
        match ended {
            Ended::Restart(why) => {
                tracing::warn!("{why}: a new incarnation begins");
                // One that fails at once must not spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ended::Exit(why) => {
                tracing::info!("{why}");
                chronicle.add(EventLine::now(&Event {
                    token: Token::NONE,
                    kind: EventKind::Changed,
                    host: Some(config.name.clone()),
                    guest: None,
                    text: why,
                }));
                // For whoever follows: the tasks that tell them end with this one.
                tokio::time::sleep(Duration::from_millis(50)).await;
                return Ok(if life_left {
                    ExitCode::from(LEFT)
                } else {
                    ExitCode::SUCCESS
                });
            }
        }
    }
}

/// One incarnation of the node.
struct Life {
    driver: Driver,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Life {
    async fn begin(
        config: &Config,
        exe: &Path,
        key: &ClusterKey,
        chronicle: &Chronicle,
    ) -> Result<Life, DaemonError> {
        let right = |identity: &NodeIdentity, _| start::same_node(config, identity);
        let store = Store::open_if(&store_path(config), &machine(config)?, right)?;
        let store = join::finish(config, key, store).await?;
        let loaded = store.load()?;
        let (Some(founding), Some(image)) = (loaded.founding, loaded.member) else {
            return Err(DaemonError("the store belongs to no cluster".into()));
        };
        let incarnation = loaded.incarnation;
        let links = Links::open(&links(config))?;
        let session_config = SessionConfig {
            listen: config.listen,
            keepalive: founding.timing.election,
        };
        let (sessions, session_events) =
            Sessions::start(&session_config, key, config.node, incarnation)?;
        let votes = |n| founding.slot(n).is_some();
        let mut peers = network::sessions(config);
        peers.retain(|peer, _| dials(config.node, votes(config.node), *peer, votes(*peer)));
        sessions.set_peers(peers);

        let (tell, facts) = mpsc::channel(FACTS);
        let mut tasks = Vec::new();
        let run_dir = RunDir::create(&config.run_dir).map_err(|e| DaemonError(e.to_string()))?;
        let boot = clock::boot_id(&config.boot_id_file).map_err(|e| DaemonError(e.to_string()))?;
        let mut store = store;
        let held = image.claim();
        let (marker, mark) = Marker::open(&config.run_dir, boot, loaded.identity.store, held);
        store.marked_by(marker.clone());
        let mut armed = None;
        let mut present = Vec::new();
        let mut orders = None;
        let mut looks = None;
        let mut asks = Vec::new();
        if !config.witness {
            let check = (founding.timing.pause_margin / 10)
                .clamp(Duration::from_millis(20), Duration::from_millis(500));
            let guardian = Guardian::new(
                exe.to_owned(),
                run_dir.clone(),
                config.boot_id_file.clone(),
                Duration::from_millis(check.as_millis() as u64),
            )
            .map_err(|e| DaemonError(e.to_string()))?
            .noting(reset_note(config));
            start::tell_limits(&founding.timing, boot, &run_dir)?;
            let ensure = guardian.clone();
            let found = tokio::task::spawn_blocking(move || ensure.ensure()).await;
            match found {
                Ok(Ok(_)) => armed = Some(ArmedClass::Guardian),
                Ok(Err(e)) => tracing::error!("no guardian: {e}"),
                Err(e) => tracing::error!("no guardian: {e}"),
            }
            tasks.push(tokio::spawn(guardian.watch(tell.clone())));
            let guests = guests::take_over(&guests::Place {
                config,
                exe,
                run: &run_dir,
                boot,
                kill: founding.timing.kill,
                cluster: founding.cluster,
                facts: tell.clone(),
            })?;
            tasks.extend(guests.tasks);
            looks = Some(guests.looks);
            asks = guests.asks;
            let kinds = Arc::new(guests.kinds);
            let look = Arc::clone(&kinds);
            // A hypervisor that is away keeps no daemon from starting, but whatever runs here
            // must be known before this node says that nothing does.
            let found = tokio::task::spawn_blocking(move || look.present()).await;
            present = found
                .map_err(|e| DaemonError(e.to_string()))?
                .map_err(DaemonError)?;
            let (order, order_queue) = mpsc::unbounded_channel();
            orders = Some(order);
            let limits = Limits {
                create: kinds.create_limit(),
                ..start::limits(&founding.timing, Limits::default())
            };
            let lease = Lease::new(run_dir.clone(), boot, incarnation);
            let lease = LeaseEnd::new(move || lease.end().ok());
            tasks.push(tokio::spawn(Runner::run(
                kinds,
                limits,
                Some(lease),
                order_queue,
                tell.clone(),
            )));
        }
        let health = host::Settings {
            state_dir: config.state_dir.clone(),
            run_dir: config.run_dir.clone(),
            asks,
        };
        tasks.push(tokio::spawn(host::watch(health, tell.clone())));
        let lease = Lease::new(run_dir, boot, incarnation);
        let setup = Setup {
            image,
            promises: loaded.promises,
            profile: start::profile(config, loaded.identity.store, boot)?,
            inherited_lease: lease.end().ok(),
            armed,
            present,
            fencing: config.fence.clone(),
            freshness: Freshness {
                mark,
                waits: config.unvouched_waits,
            },
            snapshot_every: SNAPSHOT_EVERY,
            links: config.links.iter().map(|l| l.name.clone()).collect(),
        };
        let node = Node::new(crate::clock::Clock.now(), setup)
            .map_err(|e| DaemonError(format!("{}: {e}", store_path(config).display())))?;
        let (committer, reports) = Committer::channel(store).map_err(DaemonError::at("store"))?;
        let driver = Driver {
            node,
            founding,
            me: config.node,
            incarnation,
            links,
            // A handshake of this incarnation may have gone before.
            sealer: Sealer::new(key, config.node, incarnation).after(join::NUMBERS),
            opener: Opener::new(key, config.node, incarnation),
            sessions,
            session_events,
            durable: Durable::Disk(committer, reports),
            marker: Some(marker),
            orders,
            facts,
            tell: tell.clone(),
            agents: Agents {
                program: exe.to_owned(),
                dirs: config.agent_dirs.clone(),
            },
            lease: Some(lease),
            chronicle: chronicle.clone(),
            watcher: Box::new(|_, _| {}),
            libvirt: config.libvirt.clone(),
            resources: (!config.witness).then(|| config.ocf.dirs.clone()),
            looks,
            alarms: Alarms::default(),
            left: false,
        };
        Ok(Life { driver, tasks })
    }

    /// Lets go of everything the next life opens again.
    fn end(self) {
        for task in self.tasks {
            task.abort();
        }
        if let Durable::Disk(committer, _) = self.driver.durable {
            let _ = committer.finish();
        }
    }
}

/// SIGTERM and SIGINT stop the daemon alone: its guests run on until the lease ends, for a daemon
/// that is back before then.
fn watch_signals(leave: mpsc::Sender<Request>) -> Result<(), DaemonError> {
    let mut term = signal(SignalKind::terminate()).map_err(DaemonError::at("SIGTERM"))?;
    let mut int = signal(SignalKind::interrupt()).map_err(DaemonError::at("SIGINT"))?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if leave.send(Request::Leave(Away::Stop)).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}
