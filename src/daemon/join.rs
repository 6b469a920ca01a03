//! `quorate cluster init` and `quorate join`: making a store, and finding the cluster's first
//! record on the network.

use super::foreign::Foreign;
use super::{DaemonError, founded, links, machine, store_path};
use crate::clock::Clock;
use crate::config::Config;
use crate::net::{ClusterKey, Links, Opener, Refused, Sealer};
use crate::store::{Store, StoreError};
use quorate_membership::frame::{Datagram, Frame, Header};
use quorate_membership::handshake::{Handshake, Plan, Step};
use quorate_membership::{ClusterId, Epoch, Founding, Incarnation, NodeId, StoreId, Time};
use std::collections::BTreeMap;
use std::path::Path;
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

/// Datagram numbers up to this one belong to the handshake of an incarnation: no number may be
/// sealed twice, and the node's own sealer begins above.
pub(crate) const NUMBERS: u64 = 1 << 32;

/// Time between two looks at the network cards.
const LOOK: Duration = Duration::from_secs(1);
/// How often waiting is spoken of.
const PROGRESS: Duration = Duration::from_secs(5);

/// Makes the store of this node and waits until it holds the cluster's first record. A store left
/// by an earlier try that never came to a cluster is used again. `above`: clusters with epochs up to this
/// one gave out tokens that somebody may remember.
///
/// # Errors
/// Bad input, a store that belongs to a cluster already, a cluster that cannot be founded, or no
/// first record within `patience`.
pub async fn join(
    config: &Config,
    role: Role,
    above: Epoch,
    patience: Duration,
    tell: &dyn Fn(&str),
) -> Result<ClusterId, JoinError> {
    let key = ClusterKey::load(&config.key_file)?;
    let founding = match (role, &config.founding) {
        (Role::Founder, None) => {
            let path = config.path.display();
            return Err(DaemonError::input(format!(
                "{path}: there is no [cluster] to found"
            )));
        }
        (Role::Founder, Some(f)) if !f.voters.contains(&config.node) => {
            return Err(DaemonError::input(format!(
                "{}: cluster.voters does not name this node ({}): a founder votes",
                config.path.display(),
                config.node.0
            )));
        }
        (_, founding) => founding.clone(),
    };
    // Everything that can be refused is refused before the store is made.
    let floor = founded::floor(&config.state_dir)?.max(above);
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
            Err(DaemonError::input(format!(
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
    let founder = Greeting::of(config, &store, floor, plan)?;
    let mut home = Home {
        store: &mut store,
        state_dir: &config.state_dir,
    };
    founder
        .shake(&key, &mut links, &mut home, Some(patience), tell)
        .await
}

/// For a daemon whose store has no first record yet: waits for it as long as it takes.
pub(super) async fn finish(
    config: &Config,
    key: &ClusterKey,
    mut store: Store,
) -> Result<Store, DaemonError> {
    if store.load()?.founding.is_none() {
        let mut links = Links::open_late(&links(config))?;
        let tell = |text: &str| tracing::info!("{text}");
        let floor = founded::floor(&config.state_dir)?;
        let greeting = Greeting::of(config, &store, floor, None)?;
        let mut home = Home {
            store: &mut store,
            state_dir: &config.state_dir,
        };
        greeting
            .shake(key, &mut links, &mut home, None, &tell)
            .await?;
    }
    Ok(store)
}

/// Where pledge and first record are kept.
pub(crate) trait Records {
    /// Keeps the pledge, durably.
    fn pledge(&mut self, cluster: ClusterId) -> Result<(), DaemonError>;
    /// Keeps the first record, durably.
    fn found(&mut self, founding: &Founding) -> Result<(), DaemonError>;
}

/// The store of a node, and what lies beside it.
pub(crate) struct Home<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) state_dir: &'a Path,
}

impl Records for Home<'_> {
    fn pledge(&mut self, cluster: ClusterId) -> Result<(), DaemonError> {
        Ok(self.store.set_pledge(cluster)?)
    }

    fn found(&mut self, founding: &Founding) -> Result<(), DaemonError> {
        // First: a store may be taken away at any time.
        founded::raise(self.state_dir, founding.epoch)?;
        Ok(self.store.set_founding(founding)?)
    }
}

/// One node on its way into a cluster, on real links.
pub(crate) struct Greeting {
    pub(crate) me: NodeId,
    pub(crate) store: StoreId,
    pub(crate) incarnation: Incarnation,
    pub(crate) pledged: Option<ClusterId>,
    /// The highest epoch of any cluster that this node knows of.
    pub(crate) floor: Epoch,
    pub(crate) plan: Option<Plan>,
    pub(crate) names: BTreeMap<NodeId, String>,
    pub(crate) words: Words,
}

/// Advice about waiting, in the words of whoever waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    /// Advice for those that are waited for.
    pub(crate) there: &'static str,
    /// Advice when the patience is over.
    pub(crate) then: &'static str,
}

/// For people at a terminal.
const COMMAND: Words = Words {
    there: "run `quorate join` there",
    then: ". The store is kept, run the same command again",
};

impl Greeting {
    fn of(
        config: &Config,
        store: &Store,
        floor: Epoch,
        plan: Option<Plan>,
    ) -> Result<Greeting, DaemonError> {
        let loaded = store.load()?;
        Ok(Greeting {
            me: config.node,
            store: loaded.identity.store,
            incarnation: loaded.incarnation,
            pledged: loaded.pledge,
            floor,
            plan,
            names: config
                .peers
                .iter()
                .map(|p| (p.node, p.name.clone()))
                .collect(),
            words: COMMAND,
        })
    }

    /// Says and hears until the first record is kept and told, or `patience` is over.
    pub(crate) async fn shake(
        self,
        key: &ClusterKey,
        links: &mut Links,
        records: &mut dyn Records,
        patience: Option<Duration>,
        tell: &dyn Fn(&str),
    ) -> Result<ClusterId, DaemonError> {
        let mut sealer = Sealer::new(key, self.me, self.incarnation);
        let mut opener = Opener::new(key, self.me, self.incarnation);
        let began = Clock.now();
        let me = (self.me, self.store);
        let mut shake = Handshake::new(began, me, self.pledged, self.floor, self.plan.clone());
        let mut spoken = began;
        let mut cluster = None;
        let mut looked = began;
        let mut foreign = Foreign::default();
        loop {
            if Clock.now().since(looked) >= LOOK {
                looked = Clock.now();
                for change in links.look() {
                    match change.closed {
                        Some(why) => tell(&format!("link {} is closed: {why}", change.link)),
                        None => tell(&format!("link {} is open", change.link)),
                    }
                }
            }
            let mut steps = shake.tick(Clock.now());
            if steps.is_empty() {
                tokio::select! {
                    biased;
                    (_, bytes, from) = links.recv() => match opener.open(&bytes) {
                        Ok(frame) => {
                            if let Datagram::Join(join) = &frame.body
                                && frame.header.from != self.me
                            {
                                steps = shake.heard(Clock.now(), frame.header.from, join);
                            }
                        }
                        Err(Refused::ForeignKey) => {
                            foreign.heard(from);
                        }
                        Err(_) => {}
                    },
                    () = until(shake.deadline().min(looked + LOOK)) => {}
                }
            }
            for step in steps {
                match step {
                    Step::Pledge(to) => records.pledge(to)?,
                    Step::Found(founding) => {
                        records.found(&founding)?;
                        cluster = Some(founding.cluster);
                        tell(&format!(
                            "cluster {}: its first record is kept",
                            founding.cluster
                        ));
                    }
                    Step::Send(join) => {
                        let header = Header {
                            cluster: cluster.unwrap_or_default(),
                            epoch: Epoch::default(),
                            from: self.me,
                            incarnation: self.incarnation,
                            number: sealer.next_number(),
                        };
                        let (to, body) = (Vec::new(), Datagram::Join(join));
                        let frame = Frame { header, to, body };
                        let sealed = sealer
                            .seal(&frame)
                            .map_err(|e| DaemonError::world(e.to_string()))?;
                        links.send(&frame.to, &sealed);
                    }
                    Step::Done => return cluster.ok_or(DaemonError::world("no cluster")),
                    Step::Refuse(why) => return Err(DaemonError::input(why)),
                }
            }
            let now = Clock.now();
            if patience.is_some_and(|p| now.since(began) >= p) {
                // A founder whose record is kept has founded the cluster: whoever missed it
                // hears of it from any daemon.
                let waiting = self.waiting(&shake, &foreign, links);
                return cluster.ok_or_else(|| {
                    DaemonError::world(format!(
                        "no cluster within the time given: {waiting}{}",
                        self.words.then
                    ))
                });
            }
            if now.since(spoken) >= PROGRESS {
                spoken = now;
                tell(&self.waiting(&shake, &foreign, links));
            }
        }
    }

    /// What is waited for, and what seems to be in the way.
    fn waiting(&self, shake: &Handshake, foreign: &Foreign, links: &Links) -> String {
        let mut text = if self.plan.is_none() {
            "waiting for a founder, or for a member of the cluster".to_owned()
        } else {
            let name = |n: &NodeId| self.names.get(n).cloned().unwrap_or_else(|| n.to_string());
            let names: Vec<String> = shake.missing().iter().map(name).collect();
            format!("waiting for {}: {}", names.join(", "), self.words.there)
        };
        for (link, why) in links.not_open() {
            text.push_str(&format!("; link {link} is closed: {why}"));
        }
        for words in foreign.words() {
            text.push_str(&format!("; {words}"));
        }
        text
    }
}

async fn until(at: Time) {
    tokio::time::sleep(at.since(Clock.now())).await;
}

/// A random 128-bit name.
pub(crate) fn random_name() -> Result<u128, DaemonError> {
    use ring::rand::SecureRandom;
    let mut bytes = [0; 16];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| DaemonError::world("the system gives no random numbers"))?;
    Ok(u128::from_le_bytes(bytes))
}
