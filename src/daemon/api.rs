//! The unix socket: every client on a task of its own, every question answered by the loop.

use crate::api::{ApiAnswer, ApiRequest, EventLine, LINE};
use quorate_recovery::contract::Reply;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Events remembered for who asks later.
const REMEMBERED: usize = 2000;
/// Most clients that may be connected without having asked anything; one more sends the oldest away.
const SILENT: usize = 128;
/// Most clients that may be answered or followed at one time.
const SERVED: usize = 256;
/// Part of the descriptors of the process that either kind may hold: leases and guests need theirs.
const SHARE: u64 = 8;
/// Time a client has to send its question, and to take a line of the answer.
const ASKING: Duration = Duration::from_secs(10);
const TAKING: Duration = Duration::from_secs(30);
/// Pause after the system refused to hand over a client.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A question on its way to the loop.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) request: ApiRequest,
    pub(crate) answer: oneshot::Sender<ApiAnswer>,
}

/// What happened, for everybody who listens.
#[derive(Clone, Debug)]
pub(crate) struct Chronicle {
    past: Arc<Mutex<VecDeque<EventLine>>>,
    live: broadcast::Sender<EventLine>,
}

impl Chronicle {
    pub(crate) fn new() -> Chronicle {
        Chronicle {
            past: Arc::default(),
            live: broadcast::channel(REMEMBERED).0,
        }
    }

    pub(crate) fn add(&self, line: EventLine) {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if past.len() == REMEMBERED {
            past.pop_front();
        }
        past.push_back(line.clone());
        // Under the lock, so that nobody misses one between past and live.
        let _ = self.live.send(line);
    }

    fn listen(&self) -> (Vec<EventLine>, broadcast::Receiver<EventLine>) {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        (past.iter().cloned().collect(), self.live.subscribe())
    }
}

/// The listening socket; its file goes with it.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Refuses a path where another daemon listens, or where something else than a socket is.
///
/// # Errors
/// What is there.
pub(super) fn free(path: &Path) -> io::Result<()> {
    let Ok(there) = path.symlink_metadata() else {
        return Ok(());
    };
    let taken = |why: &str| {
        io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("socket {}: {why}", path.display()),
        )
    };
    if !there.file_type().is_socket() {
        return Err(taken(
            "something that is no socket is there, and is left as it is",
        ));
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(taken("another daemon listens there"));
    }
    Ok(())
}

/// Listens at `path`.
///
/// # Errors
/// Another daemon listens there, or the system's reason.
pub(crate) fn serve(
    path: &Path,
    chronicle: &Chronicle,
    questions: &mpsc::Sender<Question>,
) -> io::Result<Socket> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    free(path)?;
    if path.symlink_metadata().is_ok() {
        // Left behind by a daemon that ended without cleaning up.
        std::fs::remove_file(path).map_err(named)?;
    }
    let listener = UnixListener::bind(path).map_err(named)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(named)?;
    let task = tokio::spawn(accept(listener, chronicle.clone(), questions.clone()));
    Ok(Socket {
        path: path.to_owned(),
        task,
    })
}

/// Takes clients for as long as the daemon lives. The system's refusals (no descriptor left, no
/// memory) pass; meanwhile clients wait in the socket's queue.
async fn accept(listener: UnixListener, chronicle: Chronicle, questions: mpsc::Sender<Question>) {
    let crowd = Crowd::default();
    let mut refused = None;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                let why = e.to_string();
                if refused.as_ref() != Some(&why) {
                    tracing::warn!("the API's socket takes no clients for now: {why}");
                }
                refused = Some(why);
                // Those that say nothing go first; they may hold what is lacking.
                crowd.close_oldest();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if refused.take().is_some() {
            tracing::info!("the API's socket takes clients again");
        }
        let place = crowd.enter();
        let number = place.number;
        let (chronicle, questions) = (chronicle.clone(), questions.clone());
        let task = tokio::spawn(async move {
            // A client that hangs up is no concern of ours.
            let _ = client(stream, place, &chronicle, &questions).await;
        });
        crowd.may_end(number, task.abort_handle());
    }
}

/// The clients that are connected, so that no number of them keeps the next one out.
#[derive(Clone, Default)]
struct Crowd(Arc<Mutex<Clients>>);

#[derive(Default)]
struct Clients {
    next: u64,
    /// Those that have not asked yet, in order of their coming; each can be sent away.
    silent: BTreeMap<u64, Option<AbortHandle>>,
    /// Those that have asked and are answered.
    served: usize,
}

/// The place of one client, given back when it is dropped.
struct Place {
    crowd: Crowd,
    number: u64,
    asked: bool,
}

impl Crowd {
    fn lock(&self) -> std::sync::MutexGuard<'_, Clients> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more; the oldest of those that have not asked makes room for it.
    fn enter(&self) -> Place {
        let full = self.lock().silent.len() >= share(SILENT);
        if full {
            self.close_oldest();
        }
        let mut clients = self.lock();
        clients.next += 1;
        let number = clients.next;
        clients.silent.insert(number, None);
        Place {
            crowd: self.clone(),
            number,
            asked: false,
        }
    }

    fn may_end(&self, number: u64, handle: AbortHandle) {
        if let Some(slot) = self.lock().silent.get_mut(&number) {
            *slot = Some(handle);
        }
    }

    fn close_oldest(&self) {
        let oldest = self.lock().silent.pop_first();
        if let Some((_, Some(handle))) = oldest {
            handle.abort();
        }
    }
}

/// As many as `most`, or fewer where the process may hold few descriptors.
fn share(most: usize) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let part = limit.map_or(u64::MAX, |all| all / SHARE);
    usize::try_from(part).unwrap_or(most).clamp(4, most)
}

impl Place {
    /// Says that the client has asked; false if too many are being answered.
    fn serve(&mut self) -> bool {
        let mut clients = self.crowd.lock();
        clients.silent.remove(&self.number);
        let room = clients.served < share(SERVED);
        if room {
            clients.served += 1;
            self.asked = true;
        }
        room
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.crowd.lock();
        clients.silent.remove(&self.number);
        clients.served -= usize::from(self.asked);
    }
}

async fn client(
    stream: UnixStream,
    mut place: Place,
    chronicle: &Chronicle,
    questions: &mpsc::Sender<Question>,
) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = Vec::new();
    let mut read = BufReader::new(read.take(LINE as u64));
    timeout(ASKING, read.read_until(b'\n', &mut line)).await??;
    if !place.serve() {
        let why = "too many clients are being answered; try again".to_owned();
        return say(&mut write, &ApiAnswer::Error(why)).await;
    }
    let request: ApiRequest = match serde_json::from_slice(&line) {
        Ok(request) => request,
        Err(e) => return say(&mut write, &ApiAnswer::Error(format!("request: {e}"))).await,
    };
    if let ApiRequest::Events { follow } = request {
        let (past, mut live) = chronicle.listen();
        for event in past {
            say(&mut write, &event).await?;
        }
        if !follow {
            return Ok(());
        }
        loop {
            tokio::select! {
                event = live.recv() => match event {
                    Ok(event) => say(&mut write, &event).await?,
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
                // Nothing more is expected from the client: this is its hanging up.
                _ = read.read_u8() => return Ok(()),
            }
        }
    }
    let (answer, answered) = oneshot::channel();
    let change = matches!(request, ApiRequest::Ask(_));
    let gone = "the daemon is going down";
    let answer = match questions.send(Question { request, answer }).await {
        Ok(()) => answered.await.unwrap_or_else(|_| match change {
            // It may have been proposed before.
            true => ApiAnswer::Unknown(format!("{gone}: {}", Reply::Unknown)),
            false => ApiAnswer::Error(gone.into()),
        }),
        Err(_) => ApiAnswer::Error(gone.into()),
    };
    say(&mut write, &answer).await
}

async fn say(
    write: &mut (impl AsyncWriteExt + Unpin),
    what: &impl serde::Serialize,
) -> io::Result<()> {
    let mut text = serde_json::to_vec(what)?;
    text.push(b'\n');
    timeout(TAKING, write.write_all(&text)).await?
}
