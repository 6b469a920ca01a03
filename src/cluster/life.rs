//! One life of a member: what it starts from, and the loop around its node.

use super::inbox::{Gap, Item, Message};
use super::{ClusterError, Options, Outlets};
use crate::agents::Agents;
use crate::clock::{self, Clock};
use crate::daemon::{
    Alarms, Chronicle, DaemonError, Driver, Durable, Foreign, Greeting, Home, NUMBERS, Records,
    Seen, Words, founded, random_name,
};
use crate::net::{Links, Opener, Sealer, SessionConfig, Sessions, dials};
use crate::store::{Committer, NodeIdentity, Store, StoreError};
use quorate_membership::entry::{Capacity, Profile};
use quorate_membership::handshake::Plan;
use quorate_membership::member::{LOG_LIMIT, SNAPSHOT_EVERY};
use quorate_membership::store::Image;
use quorate_membership::vouch::Freshness;
use quorate_membership::{
    BootId, ClusterId, Epoch, Founding, Incarnation, NodeId, ProofPolicy, StoreId,
};
use quorate_recovery::command::Command;
use quorate_recovery::contract::EventKind;
use quorate_recovery::machine::published_before;
use quorate_recovery::{Node, Setup};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Facts of its own that may wait for the loop.
const FACTS: usize = 64;

/// Place where a member keeps what it must not forget.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In this directory.
    Disk(PathBuf),
    /// Nowhere: it is a new node at each start.
    Memory,
}

/// Start of a life.
struct Begun {
    store: Option<Store>,
    id: StoreId,
    incarnation: Incarnation,
    boot: BootId,
    pledged: Option<ClusterId>,
    /// The highest epoch of any cluster that it knows of.
    floor: Epoch,
    founding: Option<Founding>,
}

impl Place {
    /// Begins a life with a counter above `above`.
    fn begin(&self, options: &Options, above: u64) -> Result<Begun, ClusterError> {
        let floor = options.above.epoch();
        let Place::Disk(dir) = self else {
            return Ok(Begun {
                store: None,
                id: StoreId(random()?),
                incarnation: Incarnation {
                    counter: 1,
                    random: random()? as u64,
                },
                boot: BootId(random()?),
                pledged: None,
                floor,
                founding: None,
            });
        };
        let boot = Path::new(clock::BOOT_ID_FILE);
        let boot = clock::boot_id(boot).map_err(ClusterError::system("the name of this boot"))?;
        let machine = machine()?;
        std::fs::create_dir_all(dir)
            .map_err(ClusterError::system(format!("make {}", dir.display())))?;
        let kept = founded::floor(dir).map_err(|e| ClusterError::Refused(e.to_string()))?;
        let path = dir.join("store.redb");
        match Store::create(&path, &machine, NodeId(options.node), &options.name) {
            Ok(_) | Err(StoreError::Exists { .. }) => {}
            Err(e) => return Err(e.into()),
        }
        let right = |found: &NodeIdentity, _| right_store(options, dir, found);
        let store = Store::open_above(&path, &machine, above, right)?;
        let loaded = store.load()?;
        if let Some(founding) = &loaded.founding {
            right_cluster(options, founding)?;
        }
        Ok(Begun {
            id: loaded.identity.store,
            incarnation: loaded.incarnation,
            boot,
            pledged: loaded.pledge,
            floor: floor.max(kept),
            founding: loaded.founding,
            store: Some(store),
        })
    }
}

/// The machine that a store belongs to, as far as it has a name: a copy of the store on another one is
/// refused.
fn machine() -> Result<String, ClusterError> {
    match clock::machine_id(Path::new(clock::MACHINE_ID_FILE)) {
        Ok(id) => Ok(format!("{id:032x}")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok("unnamed".into()),
        Err(e) => Err(ClusterError::system("the name of this machine")(e)),
    }
}

fn random() -> Result<u128, ClusterError> {
    random_name().map_err(|e| ClusterError::system("random numbers")(io::Error::other(e)))
}

fn right_store(options: &Options, dir: &Path, found: &NodeIdentity) -> Result<(), ClusterError> {
    let differs = |place, given: String, kept: String| {
        let why = format!(
            "found {given}, but the store in {} is that of {kept}",
            dir.display()
        );
        Err(ClusterError::options(place, why))
    };
    if found.node.0 != options.node {
        return differs("node", options.node.to_string(), found.node.to_string());
    }
    if found.name != options.name {
        let (given, kept) = (&options.name, &found.name);
        return differs("name", format!("{given:?}"), format!("{kept:?}"));
    }
    Ok(())
}

/// Checks options against the founding: what that says stands, whatever a member is given later.
fn right_cluster(options: &Options, founding: &Founding) -> Result<(), ClusterError> {
    let voters: BTreeSet<u32> = options.voters.iter().copied().collect();
    let founded: BTreeSet<u32> = founding.voters.iter().map(|(n, _)| n.0).collect();
    if voters != founded {
        let why = format!("found {voters:?}; the cluster was founded with {founded:?}");
        return Err(ClusterError::options("voters", why));
    }
    if options.timing != founding.timing {
        let why = "the cluster was founded with another one, which stands";
        return Err(ClusterError::options("timing", why));
    }
    Ok(())
}

/// Rules of a handshake: first of all nothing that is not this member's cluster.
struct Keeping<'a> {
    options: &'a Options,
    home: Option<Home<'a>>,
    founding: Option<Founding>,
    /// Error that came up here, before it became words.
    wrong: Option<ClusterError>,
}

impl Keeping<'_> {
    fn checked(&mut self, done: Result<(), ClusterError>) -> Result<(), DaemonError> {
        done.map_err(|e| {
            let words = DaemonError::World(e.to_string());
            self.wrong = Some(e);
            words
        })
    }

    fn keep(
        &mut self,
        what: impl FnOnce(&mut Home<'_>) -> Result<(), DaemonError>,
    ) -> Result<(), DaemonError> {
        self.home.as_mut().map_or(Ok(()), what)
    }
}

impl Records for Keeping<'_> {
    fn pledge(&mut self, cluster: ClusterId) -> Result<(), DaemonError> {
        self.keep(|home| home.pledge(cluster))
    }

    fn found(&mut self, founding: &Founding) -> Result<(), DaemonError> {
        let right = right_cluster(self.options, founding);
        self.checked(right)?;
        self.keep(|home| home.found(founding))?;
        self.founding = Some(founding.clone());
        Ok(())
    }
}

/// Finds the cluster's first record on the network, and keeps it.
async fn find(
    options: &Options,
    place: &Place,
    begun: &mut Begun,
    links: &mut Links,
) -> Result<Founding, ClusterError> {
    let voters = || options.voters.iter().map(|n| NodeId(*n));
    let founder = options.voters.iter().min() == Some(&options.node);
    let plan = match founder {
        true => Some(Plan {
            cluster: match begun.pledged {
                Some(earlier) => earlier,
                None => ClusterId(random()?),
            },
            voters: voters().collect(),
            timing: options.timing.clone(),
            proof: ProofPolicy::Device,
        }),
        false => None,
    };
    let greeting = Greeting {
        me: NodeId(options.node),
        store: begun.id,
        incarnation: begun.incarnation,
        pledged: begun.pledged,
        floor: begun.floor,
        plan,
        names: BTreeMap::new(),
        words: Words {
            there: "they are not heard",
            then: "",
        },
    };
    let home = match (&mut begun.store, place) {
        (Some(store), Place::Disk(state_dir)) => Some(Home { store, state_dir }),
        _ => None,
    };
    let mut keeping = Keeping {
        options,
        home,
        founding: None,
        wrong: None,
    };
    let patience = Some(options.patience);
    let tell = |text: &str| tracing::info!("{text}");
    let shaken = greeting
        .shake(&options.key, links, &mut keeping, patience, &tell)
        .await;
    match (shaken, keeping.wrong, keeping.founding) {
        (_, Some(wrong), _) => Err(wrong),
        (Err(DaemonError::Input(why)), ..) => Err(ClusterError::Refused(why)),
        (Err(DaemonError::World(why)), ..) => Err(ClusterError::Alone(why)),
        (Ok(_), None, Some(founding)) => Ok(founding),
        (Ok(_), None, None) => Err(ClusterError::Alone("no first record came".into())),
    }
}

/// Begins a life of the member, with a counter above `above`; it tells what happens to `outlets`.
pub(super) async fn begin(
    options: &Options,
    place: &Place,
    above: u64,
    outlets: &Arc<Outlets>,
) -> Result<Driver, ClusterError> {
    let me = NodeId(options.node);
    // What others may hold comes before the store, whose opening is a new life.
    let mut links = Links::open(&options.links)?;
    let mut begun = place.begin(options, above)?;
    let founding = match begun.founding.take() {
        Some(founding) => founding,
        None => find(options, place, &mut begun, &mut links).await?,
    };
    let incarnation = begun.incarnation;
    if let Place::Disk(dir) = place {
        founded::raise(dir, founding.epoch).unwrap_or_else(|e| tracing::warn!("{e}"));
    }
    let config = SessionConfig {
        listen: options.listen.into(),
        keepalive: founding.timing.election,
    };
    let (sessions, session_events) = Sessions::start(&config, &options.key, me, incarnation)?;
    let votes = |n| founding.slot(n).is_some();
    let peers = options
        .sessions
        .iter()
        .map(|(n, at)| (NodeId(*n), *at))
        .filter(|(n, _)| dials(me, votes(me), *n, votes(*n)))
        .collect();
    sessions.set_peers(peers);
    let image = match &begun.store {
        Some(store) => store.load()?.member,
        None => None,
    };
    let image = image.unwrap_or_else(|| Image::new(me, begun.id, incarnation, founding.clone()));
    let base = published_before(&image);
    let setup = setup(options, &begun, image, &links);
    let node = Node::new(Clock.now(), setup).map_err(ClusterError::Refused)?;
    let keeps = begun.store.is_some();
    let durable = match begun.store {
        Some(store) => {
            let (committer, reports) =
                Committer::channel(store).map_err(ClusterError::system("a thread of the store"))?;
            Durable::Disk(committer, reports)
        }
        None => Durable::Memory,
    };
    outlets.begin(founding.cluster, base);
    let (tell, facts) = mpsc::channel(FACTS);
    let outlets = Arc::clone(outlets);
    let feed = Arc::clone(&outlets.feed);
    Ok(Driver {
        node,
        founding,
        me,
        incarnation,
        links,
        foreign: Foreign::default(),
        connected: BTreeSet::new(),
        sealer: Sealer::new(&options.key, me, incarnation).after(NUMBERS),
        opener: Opener::new(&options.key, me, incarnation),
        sessions,
        session_events,
        durable,
        marker: None,
        orders: None,
        facts,
        tell,
        agents: Agents {
            program: "quorate".into(),
            dirs: Vec::new(),
        },
        lease: None,
        unwritten: false,
        pulse: None,
        chronicle: Chronicle::new(),
        watcher: Box::new(move |node, seen| watch(&outlets, node, seen)),
        // Who keeps nothing has nothing to tell again.
        untaken: keeps.then(|| Box::new(move || feed.untaken()) as _),
        libvirt: None,
        resources: None,
        looks: None,
        alarms: Alarms::default(),
        left: false,
    })
}

/// Set-up of the node: it runs no guests, so nothing has to end them.
fn setup(options: &Options, begun: &Begun, image: Image<Command>, links: &Links) -> Setup {
    Setup {
        image,
        promises: BTreeMap::new(),
        profile: Profile {
            name: options.name.clone(),
            store: begun.id,
            boot: begun.boot,
            witness: true,
            capacity: Capacity::default(),
            machine: Default::default(),
        },
        inherited_lease: None,
        guarded: false,
        present: Vec::new(),
        fencing: Vec::new(),
        // A store that was set back takes its mark with it, wherever a library could put one.
        freshness: Freshness::default(),
        snapshot_every: SNAPSHOT_EVERY,
        log_limit: LOG_LIMIT,
        links: links.counters().into_iter().map(|l| l.name).collect(),
    }
}

/// Tells what the node does to those who hold the member.
fn watch(outlets: &Outlets, node: &Node, seen: Seen<'_>) {
    match seen {
        Seen::Step => {
            let member = node.member();
            outlets.views.send_if_modified(|view| {
                let newer = view.number != member.cluster().view;
                if newer {
                    *view = member.view();
                }
                newer
            });
            let term = member.cluster().term.map(|t| t.token);
            let acting = term.zip(member.acting(Clock.now()));
            outlets
                .acting
                .send_if_modified(|now| std::mem::replace(now, acting) != acting);
            outlets.judge_joining(member);
        }
        // Messages have a way of their own; here they would push alerts out.
        Seen::Event(event) if event.kind == EventKind::Published => {}
        Seen::Event(event) => drop(outlets.events.send(event.clone())),
        Seen::Published(token, bytes) => {
            let bytes = bytes.into();
            outlets.feed.add(Item::Message(Message { token, bytes }));
        }
        Seen::Skipped { after, upto } => outlets.feed.add(Item::Gap(Gap { after, upto })),
    }
}
