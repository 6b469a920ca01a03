//! Who is connected, who is dialled, and in which order sessions of one peer follow each other.

use super::handshake::{End, shake};
use super::run::{self, Control, Note, Outbox, Session};
use super::{BACKOFF, Closed, EVENT_BYTES, HANDSHAKES, MISSES, SessionCounters};
use crate::net::endpoint::Endpoint;
use quorate_membership::{Incarnation, NodeId};
use ring::hkdf::Prk;
use socket2::SockRef;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// Time between two looks at an address that is waited for, or at its card.
const LOOK: Duration = Duration::from_secs(1);

/// What all sessions of a node share.
pub(super) struct Shared {
    me: (NodeId, Incarnation),
    root: Prk,
    pub(super) keepalive: Duration,
    /// A session is given up after this long without a byte.
    pub(super) silence: Duration,
    /// Bytes of messages that may still wait for the driver.
    pub(super) room: Arc<Semaphore>,
    state: Mutex<State>,
}

/// Never held across an await.
#[derive(Default)]
struct State {
    /// Gone once all handles are; what runs then still finishes with its own copy.
    notes: Option<mpsc::Sender<Note>>,
    /// The newest session of each peer, from proof to end.
    current: BTreeMap<NodeId, Current>,
    /// Sessions whose `Up` the driver received.
    live: BTreeMap<NodeId, Outbox>,
    dialled: BTreeMap<NodeId, Dialled>,
    counters: SessionCounters,
    /// Why nobody can come in at the moment.
    not_listening: Option<String>,
}

struct Current {
    control: Arc<Control>,
    done: watch::Receiver<()>,
    dialled: bool,
}

struct Dialled {
    address: Endpoint,
    task: AbortHandle,
    failure: Option<String>,
    /// Ends the pause before the next attempt, or one that nothing answers.
    wake: Arc<Notify>,
    /// The life of the peer that last did so.
    woken: Incarnation,
}

impl Shared {
    pub(super) fn new(
        me: (NodeId, Incarnation),
        root: Prk,
        keepalive: Duration,
        notes: mpsc::Sender<Note>,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            me,
            root,
            keepalive,
            silence: keepalive * MISSES,
            room: Arc::new(Semaphore::new(EVENT_BYTES)),
            state: Mutex::new(State {
                notes: Some(notes),
                ..State::default()
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; if it did, the state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counters(&self) -> SessionCounters {
        self.state().counters
    }

    pub(super) fn unreached(&self) -> BTreeMap<NodeId, String> {
        let state = self.state();
        let failed = state.dialled.iter();
        failed
            .filter_map(|(peer, d)| Some((*peer, d.failure.clone()?)))
            .collect()
    }

    pub(super) fn not_listening(&self) -> Option<String> {
        self.state().not_listening.clone()
    }

    pub(super) fn count_unsent(&self) {
        self.state().counters.unsent += 1;
    }

    pub(super) fn outbox(&self, peer: NodeId) -> Option<Outbox> {
        self.state().live.get(&peer).cloned()
    }

    pub(super) fn came_up(&self, peer: NodeId, outbox: Outbox) {
        self.state().live.insert(peer, outbox);
    }

    pub(super) fn went_down(&self, peer: NodeId) {
        self.state().live.remove(&peer);
    }

    /// Closes a session that a message could not be sent on; no later one is sent on it either.
    pub(super) fn give_up(&self, peer: NodeId, outbox: &Outbox, why: Closed) {
        outbox.control.close(why);
        self.state().live.remove(&peer);
    }

    /// A session is over and its `Down` is queued.
    pub(super) fn over(&self, peer: NodeId, control: &Arc<Control>, why: Closed) {
        let mut state = self.state();
        state.counters.count(why);
        let mine = |c: &Current| Arc::ptr_eq(&c.control, control);
        if state.current.get(&peer).is_some_and(mine) {
            state.current.remove(&peer);
        }
    }

    pub(super) fn stop(&self) {
        let mut state = self.state();
        state.notes = None;
        for dialled in state.dialled.values() {
            dialled.task.abort();
        }
        for current in state.current.values() {
            current.control.close(Closed::Unwanted);
        }
        state.live.clear();
    }

    /// Greets the other end and, if it proves itself, starts the session.
    async fn greet(self: &Arc<Self>, mut stream: TcpStream, end: End) -> Result<(), Closed> {
        prepare(&stream, self.silence).map_err(|_| Closed::Broken)?;
        let shaking = shake(&mut stream, &self.root, self.me, end, self.silence);
        let agreed = timeout(self.silence, shaking)
            .await
            .map_err(|_| Closed::Silent)??;
        let peer = agreed.peer;
        let (done, over) = watch::channel(());
        let control = Arc::new(Control::default());
        let mut state = self.state();
        let Some(notes) = state.notes.clone() else {
            return Err(Closed::Unwanted);
        };
        let current = Current {
            control: control.clone(),
            done: over,
            dialled: end != End::Listener,
        };
        let earlier = state.current.insert(peer, current).map(|earlier| {
            earlier.control.close(Closed::Replaced);
            earlier.done
        });
        state.counters.opened += 1;
        drop(state);
        let session = Session {
            stream,
            agreed,
            notes,
            control,
            done,
        };
        tokio::spawn(run::run(self.clone(), session, earlier));
        Ok(())
    }
}

fn prepare(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(silence))
}

/// Listens until it is aborted: as soon as the address is there, and anew when its card is another.
pub(super) async fn listen(shared: Arc<Shared>, at: Endpoint, ready: Option<TcpListener>) {
    let greeting = Arc::new(Semaphore::new(HANDSHAKES));
    let mut ready = ready;
    loop {
        let listener = match ready.take().map_or_else(|| super::listen(&at), Ok) {
            Ok(listener) => listener,
            Err(e) => {
                let why = format!("cannot listen on {at}: {e}");
                let before = shared.state().not_listening.replace(why.clone());
                if before.as_ref() != Some(&why) {
                    tracing::warn!("sessions: {why}; waiting for it");
                }
                sleep(LOOK).await;
                continue;
            }
        };
        if shared.state().not_listening.take().is_some() {
            tracing::info!("sessions: listening on {at}");
        }
        let opened = at.resolve().ok();
        let moved = async {
            loop {
                sleep(LOOK).await;
                // A card that is gone comes back with another index, or not.
                if at.at.card.is_some() && at.resolve().ok() != opened {
                    return;
                }
            }
        };
        tokio::select! {
            () = accept(&shared, &greeting, listener) => {}
            () = moved => {}
        }
    }
}

/// Takes connections for as long as it is waited for.
async fn accept(shared: &Arc<Shared>, greeting: &Arc<Semaphore>, listener: TcpListener) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                tracing::warn!(error = %e, "cannot accept a session");
                shared.state().counters.count(Closed::Broken);
                // Out of descriptors, most likely: let some go.
                sleep(BACKOFF.0).await;
                continue;
            }
        };
        let Ok(permit) = greeting.clone().try_acquire_owned() else {
            shared.state().counters.count(Closed::Busy);
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            if let Err(why) = shared.greet(stream, End::Listener).await {
                tracing::debug!(reason = %why, "refused a connection");
                shared.state().counters.count(why);
            }
            drop(permit);
        });
    }
}

/// Dials those in `peers` and nobody else.
pub(super) fn set(shared: &Arc<Shared>, runtime: &Handle, peers: BTreeMap<NodeId, Endpoint>) {
    let mut state = shared.state();
    let State {
        notes,
        current,
        dialled,
        ..
    } = &mut *state;
    if notes.is_none() {
        return;
    }
    dialled.retain(|peer, old| {
        let keep = peers.get(peer) == Some(&old.address);
        if !keep {
            old.task.abort();
            if let Some(session) = current.get(peer).filter(|c| c.dialled) {
                session.control.close(Closed::Unwanted);
            }
        }
        keep
    });
    for (peer, address) in peers {
        if peer == shared.me.0 {
            continue;
        }
        dialled.entry(peer).or_insert_with(|| {
            let wake = Arc::new(Notify::new());
            let dial = dial(shared.clone(), peer, address.clone(), wake.clone());
            Dialled {
                address,
                task: runtime.spawn(dial).abort_handle(),
                failure: None,
                wake,
                woken: Incarnation::default(),
            }
        });
    }
}

/// A datagram of that life of `peer` came: one that was away is dialled at once, once for each life.
/// A voter that comes back needs its sessions before it can vote, or hear of its own admission.
pub(super) fn heard(shared: &Shared, peer: NodeId, life: Incarnation) {
    let mut state = shared.state();
    if state.current.contains_key(&peer) {
        return;
    }
    if let Some(dialled) = state.dialled.get_mut(&peer)
        && dialled.woken != life
    {
        dialled.woken = life;
        dialled.wake.notify_one();
    }
}

/// Keeps a session with `peer` until it is aborted.
async fn dial(shared: Arc<Shared>, peer: NodeId, address: Endpoint, wake: Arc<Notify>) {
    let mut pause = BACKOFF.0;
    loop {
        let current = shared.state().current.get(&peer).map(|c| c.done.clone());
        if let Some(mut done) = current {
            while done.changed().await.is_ok() {}
            pause = BACKOFF.0;
        } else {
            let answered = tokio::select! {
                // First: a session that stands already wakes nobody, and none is left half open.
                biased;
                () = wake.notified() => {
                    pause = BACKOFF.0;
                    continue;
                }
                answered = call(&shared, peer, &address) => answered,
            };
            let failure = match answered {
                Ok(()) => None,
                Err((why, text)) => {
                    tracing::debug!(peer = peer.0, %address, reason = %text, "not reached");
                    shared.state().counters.count(why);
                    Some(text)
                }
            };
            let connected = failure.is_none();
            if let Some(dialled) = shared.state().dialled.get_mut(&peer) {
                dialled.failure = failure;
            }
            if connected {
                continue;
            }
        }
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(BACKOFF.1),
            () = wake.notified() => pause = BACKOFF.0,
        }
    }
}

async fn call(
    shared: &Arc<Shared>,
    peer: NodeId,
    address: &Endpoint,
) -> Result<(), (Closed, String)> {
    let unreachable = |why: String| (Closed::Unreachable, format!("{address}: {why}"));
    let target = address.resolve().map_err(|e| unreachable(e.to_string()))?;
    let socket = super::socket(target).map_err(|e| unreachable(e.to_string()))?;
    let stream = timeout(shared.silence, socket.connect(target))
        .await
        .map_err(|_| unreachable("no answer".to_owned()))?
        .map_err(|e| unreachable(e.to_string()))?;
    shared
        .greet(stream, End::Dialer { expected: peer })
        .await
        .map_err(|why| (why, format!("{address}: {why}")))
}
