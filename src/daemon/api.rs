//! The unix socket: every client on a task of its own, every question answered by the loop.

use crate::api::{ApiAnswer, ApiRequest, EventLine, LINE};
use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, mpsc, oneshot};

/// Events remembered for who asks later.
const REMEMBERED: usize = 2000;

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
    let (chronicle, questions) = (chronicle.clone(), questions.clone());
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (chronicle, questions) = (chronicle.clone(), questions.clone());
            tokio::spawn(async move {
                // A client that hangs up is no concern of ours.
                let _ = client(stream, &chronicle, &questions).await;
            });
        }
    });
    Ok(Socket {
        path: path.to_owned(),
        task,
    })
}

async fn client(
    stream: UnixStream,
    chronicle: &Chronicle,
    questions: &mpsc::Sender<Question>,
) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = Vec::new();
    let mut read = BufReader::new(read.take(LINE as u64));
    read.read_until(b'\n', &mut line).await?;
    let request: ApiRequest = match serde_json::from_slice(&line) {
        Ok(request) => request,
        Err(e) => return say(&mut write, &ApiAnswer::Error(format!("request: {e}"))).await,
    };
    if let ApiRequest::Events { follow } = request {
        let (past, mut live) = chronicle.listen();
        for event in past {
            say(&mut write, &event).await?;
        }
        while follow {
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
        return Ok(());
    }
    let (answer, answered) = oneshot::channel();
    let gone = || ApiAnswer::Error("the daemon is going down".into());
    let answer = match questions.send(Question { request, answer }).await {
        Ok(()) => answered.await.unwrap_or_else(|_| gone()),
        Err(_) => gone(),
    };
    say(&mut write, &answer).await
}

async fn say(
    write: &mut (impl AsyncWriteExt + Unpin),
    what: &impl serde::Serialize,
) -> io::Result<()> {
    let mut text = serde_json::to_vec(what)?;
    text.push(b'\n');
    write.write_all(&text).await
}
