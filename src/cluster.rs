//! The library: membership of a cluster for programs that have no guests to protect.
//!
//! A [`Cluster`] is one member. It watches the agreed view, may hold the coordinator role under a
//! lease, and publishes messages that every member receives in one order, each with a token that
//! rises for ever: hand the token to whatever must refuse the late word of a former coordinator.

use crate::agents::Agents;
use crate::clock::Clock;
use crate::daemon::{
    Alarms, Chronicle, DaemonError, Driver, Durable, Ended, Foreign, Greeting, NUMBERS, Question,
    Records, Seen, random_name,
};
use crate::net::{ClusterKey, LinkConfig, Links, Opener, Sealer, SessionConfig, Sessions, dials};
use quorate_membership::cluster::View;
use quorate_membership::entry::{Away, Capacity, Profile};
use quorate_membership::handshake::Plan;
use quorate_membership::member::SNAPSHOT_EVERY;
use quorate_membership::store::Image;
use quorate_membership::vouch::Freshness;
use quorate_membership::{
    BootId, ClusterId, Epoch, Founding, Incarnation, NodeId, ProofPolicy, StoreId, Time, Timing,
    Token,
};
use quorate_recovery::contract::{Event, Request};
use quorate_recovery::{Node, Setup};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Messages and events a slow subscriber may fall behind before it loses the oldest.
const BEHIND: usize = 1024;

/// How a member takes part.
#[derive(Clone, Debug)]
pub struct Options {
    /// This member's number, its own in the cluster and never used again: the member keeps its
    /// votes in memory, so after it has ended it comes back under another number.
    pub node: u32,
    /// Its name for people.
    pub name: String,
    /// The key all members share.
    pub key: ClusterKey,
    /// The first voters, the same at every member; the lowest of them founds the cluster.
    pub voters: Vec<u32>,
    /// The networks between the members.
    pub links: Vec<LinkConfig>,
    /// Where this member accepts sessions.
    pub listen: SocketAddr,
    /// Where the voters accept sessions.
    pub sessions: BTreeMap<u32, SocketAddr>,
    /// The timing, the same at every member.
    pub timing: Timing,
    /// The highest token of an earlier cluster that anything guarded by tokens may remember;
    /// [`Token::NONE`] if there was none. A cluster that is founded anew begins above what any of its
    /// first voters names here.
    pub above: Token,
}

/// A message as every member receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its place in the one order of all messages; rises for ever.
    pub token: Token,
    /// What was published.
    pub bytes: Arc<[u8]>,
}

/// Why a member could not start, or a change was not made.
pub type ClusterError = DaemonError;

/// One member of a cluster. Dropping it ends it without a word; [`Cluster::leave`] says goodbye.
pub struct Cluster {
    views: watch::Receiver<View>,
    acting: watch::Receiver<Option<(Token, Time)>>,
    events: broadcast::Sender<Event>,
    messages: broadcast::Sender<Message>,
    ask: mpsc::Sender<Question>,
    leave: mpsc::Sender<Request>,
    ended: watch::Receiver<bool>,
}

/// What the member's own thread writes to.
struct Outlets {
    views: watch::Sender<View>,
    acting: watch::Sender<Option<(Token, Time)>>,
    events: broadcast::Sender<Event>,
    messages: broadcast::Sender<Message>,
}

impl Cluster {
    /// Starts a member on a thread of its own and waits until it belongs to the cluster: all first
    /// voters must be started for that.
    ///
    /// # Errors
    /// Bad options, an address in use, or the cluster refuses this member.
    pub async fn join(options: Options) -> Result<Cluster, ClusterError> {
        options
            .timing
            .check()
            .map_err(|e| DaemonError::world(format!("timing: {e}")))?;
        if options.voters.len() < 2 || options.voters.len() > 7 {
            let n = options.voters.len();
            return Err(DaemonError::world(format!(
                "voters: {n} given; 2 to 7 are allowed"
            )));
        }
        let empty = View {
            number: 0,
            epoch: Epoch::default(),
            members: Vec::new(),
            coordinator: None,
        };
        let (views, watch_views) = watch::channel(empty);
        let (acting, watch_acting) = watch::channel(None);
        let (events, _) = broadcast::channel(BEHIND);
        let (messages, _) = broadcast::channel(BEHIND);
        let (ask, questions) = mpsc::channel(64);
        let (leave, leaves) = mpsc::channel(1);
        let (end, ended) = watch::channel(false);
        let (started, start) = oneshot::channel();
        let outlets = Outlets {
            views,
            acting,
            events: events.clone(),
            messages: messages.clone(),
        };
        std::thread::Builder::new()
            .name(format!("quorate-{}", options.name))
            .spawn(move || run(options, outlets, questions, leaves, started, &end))
            .map_err(|e| DaemonError::world(format!("no thread: {e}")))?;
        let gone = || DaemonError::world("the member ended while it started");
        start.await.map_err(|_| gone())??;
        let (views, acting) = (watch_views, watch_acting);
        Ok(Cluster {
            views,
            acting,
            events,
            messages,
            ask,
            leave,
            ended,
        })
    }

    /// The agreed view and every one after it. A receiver that looks seldom sees the newest only.
    #[must_use]
    pub fn views(&self) -> watch::Receiver<View> {
        self.views.clone()
    }

    /// The term this member holds, if it is coordinator right now: at most one member is, at any
    /// instant, and only until the lease behind it ends. Its token fences off former coordinators.
    #[must_use]
    pub fn coordinates(&self) -> Option<Token> {
        let acting = *self.acting.borrow();
        acting
            .filter(|(_, until)| Clock.now() < *until)
            .map(|(term, _)| term)
    }

    /// What happens from now on, in words.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Every message decided from now on, once each, in the same order at every member.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Message> {
        self.messages.subscribe()
    }

    /// Publishes a message to all members and waits until it is decided.
    ///
    /// # Errors
    /// It is longer than 64 KiB, or no quorum decided it in time: then it may or may not still
    /// be delivered.
    pub async fn propose(&self, bytes: Vec<u8>) -> Result<(), ClusterError> {
        use crate::api::{ApiAnswer, ApiRequest};
        let (answer, answered) = oneshot::channel();
        let request = ApiRequest::Ask(Request::Publish { bytes });
        let gone = || DaemonError::world("the member has ended");
        let question = Question { request, answer };
        self.ask.send(question).await.map_err(|_| gone())?;
        match answered.await.map_err(|_| gone())? {
            ApiAnswer::Ok(_) => Ok(()),
            ApiAnswer::Error(why) | ApiAnswer::Unknown(why) => Err(DaemonError::world(why)),
        }
    }

    /// Leaves the cluster: the others see a member that went, not one that failed.
    pub async fn leave(mut self) {
        if self
            .leave
            .send(Request::Leave(Away::Shutdown))
            .await
            .is_ok()
        {
            let _ = self.ended.wait_for(|ended| *ended).await;
        }
    }
}

fn run(
    options: Options,
    outlets: Outlets,
    mut questions: mpsc::Receiver<Question>,
    mut leaves: mpsc::Receiver<Request>,
    started: oneshot::Sender<Result<(), ClusterError>>,
    end: &watch::Sender<bool>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = runtime
        .map_err(|e| DaemonError::world(format!("no runtime: {e}")))
        .map(|runtime| {
            runtime.block_on(async {
                match begin(&options, outlets).await {
                    Ok(mut driver) => {
                        let _ = started.send(Ok(()));
                        match driver.run(&mut questions, &mut leaves).await {
                            Ended::Exit(_, why) => tracing::info!("{why}"),
                            // A member without a disk has no next life.
                            Ended::Restart(why, _) => {
                                tracing::warn!("{why}: this member has ended")
                            }
                        }
                    }
                    Err(e) => drop(started.send(Err(e))),
                }
            });
        });
    if let Err(e) = done {
        tracing::error!("{e}");
    }
    let _ = end.send(true);
}

async fn begin(options: &Options, outlets: Outlets) -> Result<Driver, ClusterError> {
    let me = NodeId(options.node);
    let incarnation = Incarnation {
        counter: 1,
        random: random_name()? as u64,
    };
    let store = StoreId(random_name()?);
    let mut links = Links::open(&options.links)?;
    let founding = found(options, me, store, incarnation, &mut links).await?;
    let config = SessionConfig {
        listen: options.listen.into(),
        keepalive: options.timing.election,
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
    let profile = Profile {
        name: options.name.clone(),
        store,
        boot: BootId(random_name()?),
        witness: true,
        capacity: Capacity::default(),
        machine: Default::default(),
    };
    let setup = Setup {
        image: Image::new(me, store, incarnation, founding.clone()),
        promises: BTreeMap::new(),
        profile,
        inherited_lease: None,
        guarded: false,
        present: Vec::new(),
        fencing: Vec::new(),
        freshness: Freshness::default(),
        snapshot_every: SNAPSHOT_EVERY,
        links: links.counters().into_iter().map(|l| l.name).collect(),
    };
    let node = Node::new(Clock.now(), setup).map_err(DaemonError::world)?;
    let (tell, facts) = mpsc::channel(64);
    let watcher = move |node: &Node, seen: Seen<'_>| match seen {
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
        }
        Seen::Event(event) => drop(outlets.events.send(event.clone())),
        Seen::Published(token, bytes) => {
            drop(outlets.messages.send(Message {
                token,
                bytes: bytes.into(),
            }));
        }
    };
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
        durable: Durable::Memory,
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
        watcher: Box::new(watcher),
        libvirt: None,
        resources: None,
        looks: None,
        alarms: Alarms::default(),
        left: false,
    })
}

/// The first record, kept in memory.
#[derive(Default)]
struct Kept(Option<Founding>);

impl Records for Kept {
    fn pledge(&mut self, _cluster: ClusterId) -> Result<(), DaemonError> {
        Ok(())
    }

    fn found(&mut self, founding: &Founding) -> Result<(), DaemonError> {
        self.0 = Some(founding.clone());
        Ok(())
    }
}

async fn found(
    options: &Options,
    me: NodeId,
    store: StoreId,
    incarnation: Incarnation,
    links: &mut Links,
) -> Result<Founding, ClusterError> {
    let founder = options.voters.iter().min() == Some(&options.node);
    let plan = if founder {
        Some(Plan {
            cluster: ClusterId(random_name()?),
            voters: options.voters.iter().map(|n| NodeId(*n)).collect(),
            timing: options.timing.clone(),
            proof: ProofPolicy::Device,
        })
    } else {
        None
    };
    let names = BTreeMap::new();
    let greeting = Greeting {
        me,
        store,
        incarnation,
        pledged: None,
        floor: options.above.epoch(),
        plan,
        names,
    };
    let mut kept = Kept::default();
    let patience = Some(Duration::from_secs(60));
    greeting
        .shake(&options.key, links, &mut kept, patience, &|_| {})
        .await?;
    kept.0.ok_or(DaemonError::world("no cluster"))
}
