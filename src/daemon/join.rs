//! `quorate cluster init` and `quorate join`: making a store, and finding the cluster's first
//! record on the network.

use super::{DaemonError, links, machine, store_path};
use crate::clock::Clock;
use crate::config::Config;
use crate::net::{ClusterKey, Links, Opener, Sealer};
use crate::store::{Store, StoreError};
use quorate_membership::frame::{Datagram, Frame, Header};
use quorate_membership::handshake::{Handshake, Plan, Step};
use quorate_membership::{ClusterId, Epoch, Time};
use quorate_recovery::contract::To;
use std::time::Duration;

/// What a node is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It founds the cluster its file describes.
    Founder,
    /// It joins one that is being founded, or exists.
    Joiner,
}

/// Why a node did not come to a cluster.
pub type JoinError = DaemonError;

/// How often waiting is spoken of.
const PROGRESS: Duration = Duration::from_secs(5);

/// Makes the store of this node and waits until it holds the cluster's first record. A store left
/// by an earlier try that never came to a cluster is used again.
///
/// # Errors
/// Bad input, a store that belongs to a cluster already, a cluster that cannot be founded, or no
/// first record within `patience`.
pub async fn join(
    config: &Config,
    role: Role,
    patience: Duration,
    tell: &dyn Fn(&str),
) -> Result<ClusterId, JoinError> {
    let key = ClusterKey::load(&config.key_file)?;
    let founding = match (role, &config.founding) {
        (Role::Founder, None) => {
            let path = config.path.display();
            return Err(DaemonError(format!("{path}: there is no [cluster] to found")));
        }
        (Role::Founder, Some(f)) if !f.voters.contains(&config.node) => {
            return Err(DaemonError(format!(
                "{}: cluster.voters does not name this node ({}): a founder votes",
                config.path.display(),
                config.node.0
            )));
        }
        (_, founding) => founding.clone(),
    };
    // Everything that can be refused is refused before the store is made.
    let mut links = Links::open(&links(config))?;
    let machine = machine(config)?;
    let path = store_path(config);
    std::fs::create_dir_all(&config.state_dir)
        .map_err(DaemonError::at(config.state_dir.display()))?;
    match Store::create(&path, &machine, config.node, &config.name) {
        Ok(_) | Err(StoreError::Exists { .. }) => {}
        Err(e) => return Err(e.into()),
    }
    let mut store = Store::open_if(&path, &machine, |identity, cluster| {
        super::start::same_node(config, identity)?;
        cluster.map_or(Ok(()), |cluster| {
            Err(DaemonError(format!(
                "{}: this node belongs to cluster {cluster} already; start it with `quorate daemon`",
                path.display()
            )))
        })
    })?;
    let loaded = store.load()?;
    let plan = match (role, founding) {
        (Role::Founder, Some(f)) => Some(Plan {
            cluster: match loaded.pledge {
                Some(earlier) => earlier,
                None => ClusterId(random_name()?),
            },
            voters: f.voters,
            timing: f.timing,
            proof: f.proof,
        }),
        _ => None,
    };
    shake_hands(config, &key, &mut store, &mut links, plan, Some(patience), tell).await
}

/// For a daemon whose store has no first record yet: waits for it as long as it takes.
pub(super) async fn finish(
    config: &Config,
    key: &ClusterKey,
    mut store: Store,
) -> Result<Store, DaemonError> {
    if store.load()?.founding.is_none() {
        let mut links = Links::open(&links(config))?;
        let tell = |text: &str| tracing::info!("{text}");
        shake_hands(config, key, &mut store, &mut links, None, None, &tell).await?;
    }
    Ok(store)
}

async fn shake_hands(
    config: &Config,
    key: &ClusterKey,
    store: &mut Store,
    links: &mut Links,
    plan: Option<Plan>,
    patience: Option<Duration>,
    tell: &dyn Fn(&str),
) -> Result<ClusterId, DaemonError> {
    let incarnation = store.incarnation();
    let loaded = store.load()?;
    let founder = plan.is_some();
    let mut shake =
        Handshake::new(Clock.now(), config.node, loaded.identity.store, loaded.pledge, plan);
    let mut sealer = Sealer::new(key, config.node, incarnation);
    let mut opener = Opener::new(key, config.node, incarnation);
    let began = Clock.now();
    let mut spoken = began;
    let mut cluster = None;
    loop {
        let now = Clock.now();
        let mut steps = shake.tick(now);
        if steps.is_empty() {
            tokio::select! {
                biased;
                (_, bytes, _) = links.recv() => {
                    if let Ok(frame) = opener.open(&bytes)
                        && let Datagram::Join(join) = &frame.body
                        && frame.header.from != config.node
                    {
                        steps = shake.heard(Clock.now(), frame.header.from, join);
                    }
                }
                () = until(shake.deadline()) => {}
            }
        }
        for step in steps {
            match step {
                Step::Pledge(to) => store.set_pledge(to)?,
                Step::Found(founding) => {
                    store.set_founding(&founding)?;
                    cluster = Some(founding.cluster);
                    tell(&format!("cluster {}: the first record is stored", founding.cluster));
                }
                Step::Send(join) => {
                    let header = Header {
                        cluster: cluster.unwrap_or_default(),
                        epoch: Epoch::default(),
                        from: config.node,
                        incarnation,
                        number: sealer.next_number(),
                    };
                    let body = Datagram::Join(join);
                    match sealer.seal(&Frame { header, body }) {
                        Ok(bytes) => links.send(&To::Everyone, &bytes),
                        Err(e) => return Err(DaemonError(e.to_string())),
                    }
                }
                Step::Done => return cluster.ok_or(DaemonError("no cluster".into())),
                Step::Refuse(why) => return Err(DaemonError(why)),
            }
        }
        let now = Clock.now();
        if patience.is_some_and(|p| now.since(began) >= p) {
            return late(config, &shake, cluster, founder);
        }
        if now.since(spoken) >= PROGRESS {
            spoken = now;
            tell(&waiting(config, &shake, founder));
        }
    }
}

fn waiting(config: &Config, shake: &Handshake, founder: bool) -> String {
    if !founder {
        return "waiting for a founder, or for a member of the cluster".into();
    }
    let names: Vec<String> = shake
        .missing()
        .iter()
        .map(|n| config.name_of(*n).map_or_else(|| n.to_string(), str::to_owned))
        .collect();
    format!("waiting for {}: run `quorate join` there", names.join(", "))
}

/// Time is up. A founder whose record is written has founded the cluster: whoever missed it hears
/// of it from any daemon.
fn late(
    config: &Config,
    shake: &Handshake,
    cluster: Option<ClusterId>,
    founder: bool,
) -> Result<ClusterId, DaemonError> {
    match cluster {
        Some(cluster) => Ok(cluster),
        None => Err(DaemonError(format!(
            "no cluster within the time given: {}. The store is kept, run the same command again",
            waiting(config, shake, founder)
        ))),
    }
}

async fn until(at: Time) {
    tokio::time::sleep(at.since(Clock.now())).await;
}

fn random_name() -> Result<u128, DaemonError> {
    use ring::rand::SecureRandom;
    let mut bytes = [0; 16];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| DaemonError("the system gives no random numbers".into()))?;
    Ok(u128::from_le_bytes(bytes))
}
