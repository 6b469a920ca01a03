//! The life of one session, from proof to end.

use super::handshake::Agreed;
use super::peers::Shared;
use super::record::{OpenHalf, Record, SealHalf};
use super::{Closed, QUEUE, QUEUE_BYTES};
use quorate_membership::codec::{self, Kind};
use quorate_membership::{Incarnation, NodeId};
use quorate_recovery::contract::NodeStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, watch};
use tokio::time::Instant;

/// Messages are sealed together into writes of about this many bytes.
const WRITE: usize = 64 << 10;

/// What a session tells the driver.
pub(super) enum Note {
    Up {
        peer: NodeId,
        incarnation: Incarnation,
        outbox: Outbox,
    },
    Down {
        peer: NodeId,
    },
    Message {
        peer: NodeId,
        message: Box<NodeStream>,
        /// Given back when the driver takes the message.
        _room: OwnedSemaphorePermit,
    },
}

/// The queue towards one peer.
#[derive(Clone)]
pub(super) struct Outbox {
    queue: mpsc::Sender<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
    pub(super) control: Arc<Control>,
}

impl Outbox {
    /// Queues a message; false if there is no room.
    pub(super) fn push(&self, message: Vec<u8>) -> bool {
        let length = message.len();
        let before = self.bytes.fetch_add(length, Ordering::Relaxed);
        if before > 0 && before + length > QUEUE_BYTES {
            return false;
        }
        self.queue.try_send(message).is_ok()
    }
}

/// The way to end a session from outside; the first reason stands.
#[derive(Default)]
pub(super) struct Control {
    why: Mutex<Option<Closed>>,
    closed: Notify,
}

impl Control {
    pub(super) fn close(&self, why: Closed) {
        let mut first = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(why);
        drop(first);
        self.closed.notify_one();
    }

    fn why(&self) -> Option<Closed> {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session that is to run: everything but its place in the order of its peer's sessions.
pub(super) struct Session {
    pub(super) stream: TcpStream,
    pub(super) agreed: Agreed,
    /// The way to the driver.
    pub(super) notes: mpsc::Sender<Note>,
    pub(super) control: Arc<Control>,
    /// Dropped when the session is over and its `Down` is queued.
    pub(super) done: watch::Sender<()>,
}

/// Runs a session once `earlier`, the one it replaces, is over.
pub(super) async fn run(
    shared: Arc<Shared>,
    session: Session,
    earlier: Option<watch::Receiver<()>>,
) {
    let Session {
        stream,
        agreed,
        notes,
        control,
        done,
    } = session;
    let peer = agreed.peer;
    if let Some(mut earlier) = earlier {
        // The other end waits meanwhile; this end of its `Down` may wait for the driver.
        while earlier.changed().await.is_ok() {}
    }
    let (queue, outgoing) = mpsc::channel(QUEUE);
    let bytes = Arc::new(AtomicUsize::new(0));
    let up = Note::Up {
        peer,
        incarnation: agreed.incarnation,
        outbox: Outbox {
            queue,
            bytes: bytes.clone(),
            control: control.clone(),
        },
    };
    let why = if let Some(why) = control.why() {
        why
    } else if notes.send(up).await.is_err() {
        Closed::Unwanted
    } else {
        let peer_out = (outgoing, &*bytes);
        let why = talk(&shared, stream, agreed, &notes, &control, peer_out).await;
        let why = control.why().unwrap_or(why);
        // Nobody listens any more if this fails.
        let _ = notes.send(Note::Down { peer }).await;
        why
    };
    tracing::debug!(peer = peer.0, reason = %why, "session closed");
    shared.over(peer, &control, why);
    drop(done);
}

async fn talk(
    shared: &Shared,
    mut stream: TcpStream,
    agreed: Agreed,
    notes: &mpsc::Sender<Note>,
    control: &Control,
    (outgoing, queued): (mpsc::Receiver<Vec<u8>>, &AtomicUsize),
) -> Closed {
    let Agreed {
        peer, seal, open, ..
    } = agreed;
    let (reading, writing) = stream.split();
    tokio::select! {
        why = listen(shared, peer, notes, reading, open) => why,
        why = speak(shared, writing, seal, outgoing, queued) => why,
        () = control.closed.notified() => Closed::Unwanted,
    }
}

async fn listen(
    shared: &Shared,
    peer: NodeId,
    notes: &mpsc::Sender<Note>,
    from: ReadHalf<'_>,
    mut open: OpenHalf,
) -> Closed {
    let mut from = BufReader::with_capacity(WRITE, from);
    loop {
        let body = match open.read(&mut from, shared.silence).await {
            Ok(Record::Alive) => continue,
            Ok(Record::Message(body)) => body,
            Err(why) => return why,
        };
        // Waiting here makes the peer wait; it is no silence of the peer.
        let need = body.len() as u32;
        let Ok(room) = shared.room.clone().acquire_many_owned(need).await else {
            return Closed::Unwanted;
        };
        let Ok(message) = codec::decode::<NodeStream>(Kind::Stream, &body) else {
            return Closed::Decode;
        };
        let note = Note::Message {
            peer,
            message: Box::new(message),
            _room: room,
        };
        if notes.send(note).await.is_err() {
            return Closed::Unwanted;
        }
    }
}

async fn speak(
    shared: &Shared,
    mut to: impl AsyncWrite + Unpin,
    mut seal: SealHalf,
    mut outgoing: mpsc::Receiver<Vec<u8>>,
    queued: &AtomicUsize,
) -> Closed {
    let mut out = Vec::new();
    loop {
        let quiet = Instant::now() + shared.keepalive;
        let first = tokio::select! {
            biased;
            message = outgoing.recv() => match message {
                Some(message) => Record::Message(message),
                None => return Closed::Unwanted,
            },
            () = tokio::time::sleep_until(quiet) => Record::Alive,
        };
        let mut next = Some(first);
        out.clear();
        while let Some(record) = next.take() {
            if let Err(why) = seal.seal(&record, &mut out) {
                return why;
            }
            if let Record::Message(message) = record {
                queued.fetch_sub(message.len(), Ordering::Relaxed);
            }
            if out.len() < WRITE {
                next = outgoing.try_recv().ok().map(Record::Message);
            }
        }
        if to.write_all(&out).await.is_err() {
            return Closed::Broken;
        }
        out.shrink_to(WRITE * 2);
    }
}
