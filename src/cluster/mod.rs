//! The library: membership of a cluster for programs that have no guests to protect.
//!
//! A [`Cluster`] is one member. It watches the agreed view, may hold the coordinator role under a
//! lease, and publishes messages that every member receives in one order, each with a token: hand the
//! token to whatever must refuse the late word of a former coordinator.
//!
//! What a member promises depends on where it keeps its votes, and its type says which:
//!
//! | | [`Cluster<OnDisk>`](OnDisk), by [`Cluster::join`] | [`Cluster<InMemory>`](InMemory), by [`Cluster::in_memory`] |
//! |---|---|---|
//! | its process ends and starts again | it comes back under its number | its vote is gone for ever; it comes back under another number, without a vote |
//! | a quorum of voters ends, together or one by one | nothing acknowledged is lost | the cluster is over, and all messages with it |
//! | tokens | rise for ever | rise while the cluster lives; the next one begins above only what [`Options::above`] names |
//!
//! `docs/library.md` has a service's whole way through a restart, a gap and an unknown outcome.

mod error;
mod inbox;
mod life;
mod options;
mod thread;

pub use error::ClusterError;
pub use inbox::{Gap, Inbox, Item, KEPT, KEPT_BYTES, Message};
pub use options::Options;
pub use tokio::sync::{broadcast, watch};

use crate::clock::Clock;
use crate::daemon::Ask;
use inbox::Feed;
use life::Place;
use quorate_membership::cluster::View;
use quorate_membership::entry::Away;
use quorate_membership::{ClusterId, Epoch, Member, NodeId, Time, Token};
use quorate_recovery::contract::{Event, NotProposed, Reply, Request};
use quorate_recovery::{Guests, PUBLISHED};
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Events that a slow subscriber may fall behind before it loses the oldest.
const BEHIND: usize = 1024;
/// Requests that may wait for the member's loop.
const ASKS: usize = 64;
/// Proposals of one member that may be under way; a further one waits.
const UNDER_WAY: usize = 1024;

/// A member that keeps its votes, and what it has accepted, in a directory. It may be stopped, killed
/// or lose power, and comes back under its number.
#[derive(Clone, Copy, Debug)]
pub struct OnDisk;

/// A member that keeps everything in memory. It **cannot promise** what needs a memory beyond its
/// process:
///
/// - Each end of a voter, however polite, takes its vote away for ever, and voters cannot be changed
///   yet: after the second end in a cluster of three nothing is decided any more.
/// - What was acknowledged is lost when a quorum of voters has ended.
/// - The tokens of a cluster that is founded after that begin again, unless [`Options::above`] names
///   the highest that anything may remember.
#[derive(Clone, Copy, Debug)]
pub struct InMemory;

/// One member of a cluster. [`Cluster::leave`] says goodbye; dropping it ends it without a word, so
/// that the others see a member that failed.
///
/// # A service that survives its restarts
/// ```no_run
/// use quorate::{Cluster, ClusterError, Item, Options, Token};
///
/// async fn serve(options: Options, mut seen: Token) -> Result<(), ClusterError> {
///     let cluster = Cluster::join(options, "/var/lib/my-service").await?;
///     let mut inbox = cluster.subscribe_after(seen)?;
///     let own = cluster.propose(b"hello".to_vec()).await?;
///     while seen < own {
///         match inbox.recv().await? {
///             Item::Message(message) => apply(message.token, &message.bytes),
///             Item::Gap(gap) => {
///                 // It may be newer than the gap: go on behind what is in it.
///                 seen = fetch_a_state_from_elsewhere(gap.upto);
///                 inbox = cluster.subscribe_after(seen)?;
///                 continue;
///             }
///         }
///         seen = inbox.at(); // to be kept with the state
///     }
///     cluster.leave().await;
///     Ok(())
/// }
/// # fn apply(_: Token, _: &[u8]) {}
/// # fn fetch_a_state_from_elsewhere(upto: Token) -> Token { upto }
/// ```
///
/// # What the type says
/// `Cluster` alone is `Cluster<OnDisk>`: a function that asks for one takes no member that forgets.
/// ```compile_fail
/// use quorate::{Cluster, InMemory};
///
/// fn keeps_orders(_: &Cluster) {}
///
/// fn start(member: Cluster<InMemory>) {
///     keeps_orders(&member);
/// }
/// ```
/// One that works with both is generic:
/// ```
/// use quorate::{Cluster, Token};
///
/// fn term<P>(member: &Cluster<P>) -> Option<Token> {
///     member.coordinates()
/// }
/// ```
pub struct Cluster<P = OnDisk> {
    id: ClusterId,
    node: NodeId,
    outlets: Arc<Outlets>,
    ask: mpsc::Sender<Ask>,
    room: Semaphore,
    kept: PhantomData<fn() -> P>,
}

impl<P> fmt::Debug for Cluster<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("id", &self.id)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// Outlets that the member's own thread writes to.
#[derive(Debug)]
struct Outlets {
    views: watch::Sender<View>,
    acting: watch::Sender<Option<(Token, Time)>>,
    events: broadcast::Sender<Event>,
    feed: Arc<Feed>,
    ended: watch::Sender<Option<String>>,
    joining: Mutex<Joining>,
}

/// Caller that waits for the member to belong to a cluster.
#[derive(Debug)]
struct Joining {
    waits: Option<oneshot::Sender<Result<ClusterId, ClusterError>>>,
    until: Time,
    cluster: ClusterId,
}

impl Outlets {
    /// A life of the member begins in this cluster, which will tell every message after `base`.
    fn begin(&self, cluster: ClusterId, base: Token) {
        self.joining().cluster = cluster;
        self.feed.begin(base);
    }

    fn joining(&self) -> std::sync::MutexGuard<'_, Joining> {
        self.joining.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whoever waits what came of the joining; later words are nobody's.
    fn joined(&self, what: Result<(), ClusterError>) {
        let mut joining = self.joining();
        let cluster = joining.cluster;
        if let Some(waits) = joining.waits.take() {
            let _ = waits.send(what.map(|()| cluster));
        }
    }

    /// Looks whether the member belongs to the cluster now, never will, or did not in time.
    fn judge_joining(&self, member: &Member<Guests>) {
        let until = match &*self.joining() {
            Joining { waits: None, .. } => return,
            joining => joining.until,
        };
        if member.admitted() {
            self.joined(Ok(()));
        } else if let Some(why) = member.refused_for_good() {
            self.joined(Err(ClusterError::Refused(why)));
        } else if Clock.now() >= until {
            let now = Clock.now();
            let why = match member.quorate(now) {
                true => "no coordinator admitted this member in time",
                false => "no quorum of voters is heard",
            };
            self.joined(Err(ClusterError::Alone(why.into())));
        }
    }

    /// The member has ended, for this reason.
    fn end(&self, why: &str) {
        self.joined(Err(ClusterError::Ended(why.to_owned())));
        self.acting.send_replace(None);
        self.feed.end(why);
        self.ended.send_replace(Some(why.to_owned()));
    }
}

impl Cluster<OnDisk> {
    /// Starts a member that keeps its votes in `state_dir`, and waits until it belongs to the cluster;
    /// the first time, all first voters must be started for that. A directory is one member's own,
    /// for ever; it is made if it is not there. Nothing is left running if the future is dropped.
    ///
    /// # Errors
    /// Bad options, an address or a directory in use, a store that is another member's or is damaged,
    /// a cluster that refuses this member, or one that is not there within [`Options::patience`].
    pub async fn join(
        options: Options,
        state_dir: impl Into<PathBuf>,
    ) -> Result<Cluster<OnDisk>, ClusterError> {
        Cluster::start(options, Place::Disk(state_dir.into())).await
    }
}

impl Cluster<InMemory> {
    /// Starts a member that keeps everything in memory; see [`InMemory`] for what it cannot promise.
    /// Otherwise as [`Cluster::join`].
    ///
    /// # Errors
    /// As [`Cluster::join`]. A number whose earlier member has ended is refused.
    pub async fn in_memory(options: Options) -> Result<Cluster<InMemory>, ClusterError> {
        Cluster::start(options, Place::Memory).await
    }
}

impl<P> Cluster<P> {
    async fn start(options: Options, place: Place) -> Result<Cluster<P>, ClusterError> {
        options.check()?;
        let (waits, joined) = oneshot::channel();
        let outlets = Arc::new(Outlets {
            views: watch::Sender::new(View {
                number: 0,
                epoch: Epoch::default(),
                members: Vec::new(),
                coordinator: None,
            }),
            acting: watch::Sender::new(None),
            events: broadcast::Sender::new(BEHIND),
            feed: Arc::new(Feed::new()),
            ended: watch::Sender::new(None),
            joining: Mutex::new(Joining {
                waits: Some(waits),
                until: Clock.now() + options.patience,
                cluster: ClusterId::default(),
            }),
        });
        let (ask, asks) = mpsc::channel(ASKS);
        let node = NodeId(options.node);
        let told = Arc::clone(&outlets);
        std::thread::Builder::new()
            .name(format!("quorate-{}", options.name))
            .spawn(move || thread::run(&options, &place, &told, asks))
            .map_err(ClusterError::system("a thread for the member"))?;
        let lost = |_| ClusterError::Ended("nobody told what came of its joining".into());
        let id = joined.await.map_err(lost)??;
        Ok(Cluster {
            id,
            node,
            outlets,
            ask,
            room: Semaphore::new(UNDER_WAY),
            kept: PhantomData,
        })
    }

    /// The cluster's own random name. Tokens of clusters of different names say nothing about each
    /// other, unless the later one was founded above the earlier one's.
    #[must_use]
    pub fn id(&self) -> ClusterId {
        self.id
    }

    /// Number of this member.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The agreed view and every one after it. A receiver that looks seldom sees the newest only. A
    /// member shown as lost is one that was not heard for long: it may still run.
    #[must_use]
    pub fn views(&self) -> watch::Receiver<View> {
        self.outlets.views.subscribe()
    }

    /// The term this member holds, if it is coordinator right now: at most one member is, at any
    /// instant, and only until the lease behind it ends. Its token fences off former coordinators.
    #[must_use]
    pub fn coordinates(&self) -> Option<Token> {
        let acting = *self.outlets.acting.borrow();
        acting
            .filter(|(_, until)| Clock.now() < *until)
            .map(|(term, _)| term)
    }

    /// Events from now on, in words. One that falls 1,024 behind loses the oldest, and is told
    /// how many.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.outlets.events.subscribe()
    }

    /// Every message from now on, once each, in the same order at every member. One that is not
    /// received is named in a [`Gap`].
    #[must_use]
    pub fn subscribe(&self) -> Inbox {
        self.outlets.feed.subscribe(None)
    }

    /// Every message with a token above `after`, as [`Cluster::subscribe`]: those that are still here
    /// ([`KEPT`], [`KEPT_BYTES`]), and a [`Gap`] before them if some are not. `after` is a token of
    /// this cluster, as [`Inbox::at`] gave it; [`Token::NONE`] asks for everything.
    ///
    /// # Errors
    /// [`ClusterError::Options`] if `after` is of a later founding than this cluster.
    pub fn subscribe_after(&self, after: Token) -> Result<Inbox, ClusterError> {
        let epoch = self.outlets.views.borrow().epoch;
        if after.epoch() > epoch {
            let why = format!(
                "found {after}; this cluster's tokens begin with {}",
                epoch.0
            );
            return Err(ClusterError::options("after", why));
        }
        Ok(self.outlets.feed.subscribe(Some(after)))
    }

    /// Publishes a message to all members, waits until it is decided and gives its token. One that is
    /// decided is received by every member that receives at all. If the future is dropped, the
    /// outcome is unknown.
    ///
    /// # Errors
    /// [`ClusterError::Unknown`] if it may or may not be delivered, now or later. All others mean that
    /// it is not, and will not be: too long, no quorum, too many under way, or the member has ended.
    pub async fn propose(&self, bytes: Vec<u8>) -> Result<Token, ClusterError> {
        if bytes.len() > PUBLISHED {
            return Err(ClusterError::TooLong {
                found: bytes.len(),
                allowed: PUBLISHED,
            });
        }
        let _room = self.room.acquire().await;
        let (reply, replied) = oneshot::channel();
        let ask = Ask {
            request: Request::Publish { bytes },
            reply: Some(reply),
        };
        if self.ask.send(ask).await.is_err() {
            return Err(ClusterError::Ended(self.ended().await));
        }
        match replied.await {
            Ok(Reply::Done { token, .. }) => Ok(token),
            Ok(Reply::Refused(why)) => Err(ClusterError::Refused(why)),
            Ok(Reply::NotProposed(NotProposed::NoQuorum)) => Err(ClusterError::NoQuorum),
            Ok(Reply::NotProposed(NotProposed::Crowded | NotProposed::Behind)) => {
                Err(ClusterError::Busy)
            }
            Ok(Reply::Unknown) | Err(_) => Err(ClusterError::Unknown),
        }
    }

    /// Leaves the cluster and waits until the member has ended: the others see a member that went, not
    /// one that failed. One that keeps its store comes back by [`Cluster::join`].
    pub async fn leave(&self) {
        let request = Request::Leave(Away::Shutdown);
        let reply = None;
        // One that has ended already needs no word.
        let _ = self.ask.send(Ask { request, reply }).await;
        self.ended().await;
    }

    /// Waits until the member has ended, and says why: it left, its cluster moved on without it, or it
    /// broke down.
    pub async fn ended(&self) -> String {
        let mut ended = self.outlets.ended.subscribe();
        let why = ended.wait_for(Option::is_some).await;
        why.ok().and_then(|why| why.clone()).unwrap_or_default()
    }
}
