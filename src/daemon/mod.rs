//! `quorate daemon`: one host's node with everything around it.

mod alarms;
mod api;
mod asking;
mod devices;
mod driver;
mod foreign;
pub(crate) mod founded;
mod guests;
mod host;
mod join;
#[cfg(feature = "libvirt")]
mod looks;
mod machine;
mod network;
mod process;
mod start;
mod waits;

pub(crate) use alarms::Alarms;
pub(crate) use api::Chronicle;
pub(crate) use asking::Ask;
pub use devices::trial_of_devices;
pub(crate) use driver::{Driver, Durable, Ended, Seen};
pub(crate) use foreign::Foreign;
pub(crate) use join::{Greeting, Home, NUMBERS, Records, Words, random_name};
pub use join::{JoinError, Role, join};
pub(crate) use network::links;
pub use start::trial;

use crate::agents::Agents;
use crate::api::EventLine;
use crate::clock;
use crate::config::Config;
use crate::guardian::records::RunDir;
use crate::guardian::{Guardian, Lease, PulseWatch};
use crate::hypervisor::{Driver as _, LeaseEnd, Limits, Runner};
use crate::locks::{Locks, Placing};
use crate::log;
use crate::net::{
    ClusterKey, KeyError, LinkError, Links, Opener, Sealer, SessionConfig, SessionError, Sessions,
    dials,
};
use crate::store::mark::Marker;
use crate::store::{Committer, StoreError};
use quorate_membership::Token;
use quorate_membership::member::{LOG_LIMIT, SNAPSHOT_EVERY};
use quorate_membership::vouch::Freshness;
use quorate_recovery::contract::{Event, EventKind};
use quorate_recovery::{Node, Setup};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::Level;

/// Facts from guardian, hypervisor and agents that may wait for the loop.
const FACTS: usize = 1024;
/// Questions that may wait for the loop.
const QUESTIONS: usize = 64;
/// First and longest pause between two tries to begin.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));
/// Time a disk has to finish what it was given when the node ends.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// What keeps a daemon from starting or from going on, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// What was written is wrong, or the store is not this node's: no time heals it.
    #[error("{0}")]
    Input(String),
    /// Something of this machine or of the cluster is not there, or not free: it may come.
    #[error("{0}")]
    World(String),
}

impl DaemonError {
    pub(crate) fn input(why: impl Into<String>) -> DaemonError {
        DaemonError::Input(why.into())
    }

    pub(crate) fn world(why: impl Into<String>) -> DaemonError {
        DaemonError::World(why.into())
    }

    fn at(place: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> DaemonError {
        move |e| DaemonError::world(format!("{place}: {e}"))
    }
}

impl From<KeyError> for DaemonError {
    fn from(e: KeyError) -> DaemonError {
        let world = matches!(
            e,
            KeyError::Missing { .. } | KeyError::Io { .. } | KeyError::Random
        );
        DaemonError::of(world, &e)
    }
}

impl From<LinkError> for DaemonError {
    fn from(e: LinkError) -> DaemonError {
        DaemonError::of(matches!(e, LinkError::System { .. }), &e)
    }
}

impl From<SessionError> for DaemonError {
    fn from(e: SessionError) -> DaemonError {
        DaemonError::of(matches!(e, SessionError::Listen { .. }), &e)
    }
}

impl From<StoreError> for DaemonError {
    fn from(e: StoreError) -> DaemonError {
        // A store that is not there may be on a disk that is not mounted yet.
        let world = matches!(
            e,
            StoreError::Missing { .. } | StoreError::Locked { .. } | StoreError::Io { .. }
        );
        DaemonError::of(world, &e)
    }
}

impl DaemonError {
    fn of(world: bool, e: &dyn std::error::Error) -> DaemonError {
        match world {
            true => DaemonError::world(e.to_string()),
            false => DaemonError::input(e.to_string()),
        }
    }
}

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
    let id = clock::machine_id(&config.machine_id_file)
        .map_err(|e| DaemonError::of(e.kind() != io::ErrorKind::InvalidData, &e))?;
    Ok(format!("{id:032x}"))
}

/// Exit code of a daemon that took its host out of service: whoever supervises it must not start
/// it again by itself.
pub const LEFT: u8 = 3;

/// Runs the daemon until it is told to stop. What is not there yet when it starts is waited for: an
/// address, a key, a store on a disk that is not mounted. Exit code 0 after a stop of the daemon
/// alone, 1 if it cannot go on, 2 for bad input, which changed nothing and no time heals, and 3
/// after `quorate host leave`.
#[must_use]
pub fn main(config: &Config) -> ExitCode {
    process::prepare();
    let runtime = match process::runtime() {
        Ok(runtime) => runtime,
        Err(e) => {
            log::say(Level::ERROR, format_args!("quorate: no runtime: {e}"));
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(run(config));
    // Calls into a hypervisor may hang; they are left behind.
    runtime.shutdown_background();
    match done {
        Ok(code) => code,
        Err(e) => {
            log::say(Level::ERROR, format_args!("quorate: {e}"));
            match e {
                DaemonError::Input(_) => ExitCode::from(2),
                DaemonError::World(_) => ExitCode::FAILURE,
            }
        }
    }
}

/// Fails for what was wrong from the start, and for what keeps a next life from beginning.
async fn run(config: &Config) -> Result<ExitCode, DaemonError> {
    let exe = std::env::current_exe().map_err(DaemonError::at("own program"))?;
    let chronicle = Chronicle::new();
    start::tell_reset(config, &chronicle)?;
    let (ask, mut questions) = mpsc::channel(QUESTIONS);
    let (tell_leave, mut leave) = mpsc::channel(4);
    process::watch_signals(tell_leave)?;
    // Two daemons of one node are one too many, however long one waits.
    api::free(&config.socket).map_err(|e| DaemonError::world(e.to_string()))?;
    let mut socket = None;
    let mut above = 0;
    loop {
        let begun = tokio::select! {
            begun = begin(config, &exe, &chronicle, socket.is_none(), above) => begun,
            Some(_) = leave.recv() => {
                tracing::info!("stopped before it was up");
                return Ok(ExitCode::SUCCESS);
            }
        };
        // A later life that cannot begin ends the process: a new one may do better, and the guests
        // live by its lease.
        let mut life = begun.map_err(|e| match socket {
            None => e,
            Some(_) => DaemonError::world(e.to_string()),
        })?;
        if socket.is_none() {
            let served = api::serve(&config.socket, &chronicle, &ask);
            socket = Some(served.map_err(|e| DaemonError::world(e.to_string()))?);
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
            Ended::Restart(why, seen) => {
                tracing::warn!("{why}: a new incarnation begins");
                above = seen;
                // One that fails at once must not spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ended::Exit(how, why) => {
                tracing::info!("{why}");
                let last = EventLine::now(&Event {
                    token: Token::NONE,
                    kind: EventKind::Changed,
                    host: Some(config.name.clone()),
                    guest: None,
                    text: why,
                });
                chronicle.add(last.ending(how));
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

/// Begins a life, with a counter above `above`. The first one of a process waits for what is not there yet, says so once and
/// whenever that changes.
async fn begin(
    config: &Config,
    exe: &Path,
    chronicle: &Chronicle,
    first: bool,
    above: u64,
) -> Result<Life, DaemonError> {
    let mut said = None;
    let mut pause = PAUSE.0;
    loop {
        match Life::begin(config, exe, chronicle, above).await {
            Err(DaemonError::World(why)) if first => {
                if said.as_ref() != Some(&why) {
                    tracing::warn!("not up yet, and waiting: {why}");
                    said = Some(why);
                }
            }
            other => return other,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// One incarnation of the node.
struct Life {
    driver: Driver,
    tasks: Tasks,
}

/// Tasks that end with what they serve.
#[derive(Default)]
struct Tasks(Vec<tokio::task::JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl Life {
    async fn begin(
        config: &Config,
        exe: &Path,
        chronicle: &Chronicle,
        above: u64,
    ) -> Result<Life, DaemonError> {
        // First what may be missing: opening the store begins an incarnation.
        let key = &ClusterKey::load(&config.key_file)?;
        let run_dir = RunDir::create(&config.run_dir);
        let run_dir = run_dir.map_err(|e| DaemonError::world(e.to_string()))?;
        let boot = clock::boot_id(&config.boot_id_file);
        let boot = boot.map_err(|e| DaemonError::world(e.to_string()))?;
        let store = start::open_store(config, above).await?;
        let store = join::finish(config, key, store).await?;
        let loaded = store.load()?;
        let (Some(founding), Some(image)) = (loaded.founding, loaded.member) else {
            return Err(DaemonError::world("the store belongs to no cluster"));
        };
        founded::raise(&config.state_dir, founding.epoch).unwrap_or_else(|e| tracing::warn!("{e}"));
        let incarnation = loaded.incarnation;
        let links = Links::open_late(&links(config))?;
        let session_config = SessionConfig {
            listen: config.listen.clone(),
            keepalive: founding.timing.election,
        };
        let (sessions, session_events) =
            Sessions::start_late(&session_config, key, config.node, incarnation)?;
        let votes = |n| founding.slot(n).is_some();
        let mut peers = network::sessions(config);
        peers.retain(|peer, _| dials(config.node, votes(config.node), *peer, votes(*peer)));
        sessions.set_peers(peers);

        let (tell, facts) = mpsc::channel(FACTS);
        let mut tasks = Tasks::default();
        let mut store = store;
        let held = image.claim();
        let (marker, mark) = Marker::open(&config.run_dir, boot, loaded.identity.store, held);
        store.marked_by(marker.clone());
        let mut pulse = None;
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
            .map_err(|e| DaemonError::world(e.to_string()))?
            .noting(reset_note(config))
            .by_unit(config.guardian_unit);
            start::tell_limits(&founding.timing, boot, &run_dir)?;
            pulse = Some(PulseWatch::new(&run_dir, boot));
            tasks.0.push(tokio::spawn(guardian.watch(tell.clone())));
            let guests = guests::take_over(&guests::Place {
                config,
                exe,
                run: &run_dir,
                boot,
                kill: founding.timing.kill,
                cluster: founding.cluster,
                facts: tell.clone(),
            })?;
            tasks.0.extend(guests.tasks);
            looks = Some(guests.looks);
            asks = guests.asks;
            asks.push(host::guardian(&run_dir));
            let kinds = Arc::new(guests.kinds);
            let look = Arc::clone(&kinds);
            // A hypervisor that is away keeps no daemon from starting, but whatever runs here
            // must be known before this node says that nothing does.
            let found = tokio::task::spawn_blocking(move || look.present()).await;
            present = found
                .map_err(|e| DaemonError::world(e.to_string()))?
                .map_err(DaemonError::world)?;
            let (order, order_queue) = mpsc::unbounded_channel();
            orders = Some(order);
            let limits = Limits {
                create: kinds.create_limit(),
                ..start::limits(&founding.timing, Limits::default())
            };
            let lease = Lease::new(run_dir.clone(), boot, incarnation);
            let lease = LeaseEnd::new(move || lease.end().ok());
            let locks = Locks {
                program: exe.to_owned(),
                run: run_dir.clone(),
                boot,
                placing: Placing {
                    dir: config.storage.lock_dir.clone(),
                },
                host: config.name.clone(),
            };
            tasks.0.push(tokio::spawn(Runner::run_with(
                kinds,
                limits,
                (Some(lease), Some(Arc::new(locks))),
                order_queue,
                tell.clone(),
            )));
        }
        let health = host::Settings {
            state_dir: config.state_dir.clone(),
            run_dir: config.run_dir.clone(),
            asks,
        };
        tasks
            .0
            .push(tokio::spawn(host::watch(health, tell.clone())));
        let lease = Lease::new(run_dir, boot, incarnation);
        let setup = Setup {
            image,
            promises: loaded.promises,
            profile: start::profile(config, loaded.identity.store, boot)?,
            inherited_lease: lease.end().ok(),
            guarded: !config.witness,
            present,
            fencing: config.fence.clone(),
            freshness: Freshness {
                mark,
                waits: config.unvouched_waits,
            },
            snapshot_every: SNAPSHOT_EVERY,
            log_limit: LOG_LIMIT,
            links: config.links.iter().map(|l| l.name.clone()).collect(),
        };
        let node = Node::new(crate::clock::Clock.now(), setup)
            .map_err(|e| DaemonError::world(format!("{}: {e}", store_path(config).display())))?;
        let (committer, reports) = Committer::channel(store).map_err(DaemonError::at("store"))?;
        let driver = Driver {
            node,
            founding,
            me: config.node,
            incarnation,
            links,
            foreign: Foreign::default(),
            connected: BTreeSet::new(),
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
            unwritten: false,
            pulse,
            chronicle: chronicle.clone(),
            watcher: Box::new(|_, _| {}),
            untaken: None,
            libvirt: config.libvirt.clone(),
            resources: (!config.witness).then(|| config.ocf.dirs.clone()),
            looks,
            alarms: Alarms::default(),
            left: false,
        };
        Ok(Life { driver, tasks })
    }

    /// Lets go of everything the next life opens again. A disk that does not answer holds up
    /// neither a stop nor the next life, which then finds the store in use.
    fn end(self) {
        drop(self.tasks);
        if let Durable::Disk(committer, _) = self.driver.durable
            && !committer.finish(STORE_PATIENCE)
        {
            tracing::warn!("the store is left behind: its disk does not finish what it was given");
        }
    }
}
