//! Reads locks in a process of its own: storage that hangs holds up nothing else.

use super::block::Content;
use super::place::Placing;
use super::{LOOK, file};
use crate::clock::Clock;
use quorate_membership::Time;
use quorate_recovery::guest::GuestId;
use quorate_recovery::hold::Words;
use quorate_recovery::lock::{Found, Lock, LockReading, LockedImage};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The hidden subcommand.
const SUBCOMMAND: &str = "lock-read";
/// More than all locks of one guest take.
const LARGEST: u64 = 4 << 20;

/// What is to be read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ask {
    pub(super) guest: GuestId,
    pub(super) images: Vec<LockedImage>,
    pub(super) placing: Placing,
}

/// What was found beside one image, in the order asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Answer {
    Nothing,
    Lock(Lock),
    Unreadable(String),
}

/// `quorate lock-read`: answers an `Ask` on standard input, one line for each image as soon as
/// it is read.
#[must_use]
pub fn lock_read_main() -> ExitCode {
    let mut text = String::new();
    let read = std::io::stdin().take(LARGEST).read_to_string(&mut text);
    let ask: Ask = match read
        .map_err(|e| e.to_string())
        .and_then(|_| serde_json::from_str(&text).map_err(|e| e.to_string()))
    {
        Ok(ask) => ask,
        Err(why) => {
            eprintln!("quorate {SUBCOMMAND}: {why}");
            return ExitCode::from(2);
        }
    };
    let mut out = std::io::stdout().lock();
    for image in &ask.images {
        let found = look(&ask, image);
        let line = serde_json::to_string(&found).unwrap_or_default();
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn look(ask: &Ask, image: &LockedImage) -> Answer {
    let Some(path) = ask.placing.of(ask.guest, image) else {
        return Answer::Nothing;
    };
    let named =
        |why: &dyn std::fmt::Display| Answer::Unreadable(format!("{}: {why}", path.display()));
    match file::read(&path) {
        Ok(Content::Nothing) => Answer::Nothing,
        Ok(Content::Lock(lock, _)) => Answer::Lock(lock),
        Ok(Content::Damaged(why)) => named(&why),
        Err(e) => named(&e),
    }
}

/// Asks a reader and waits until `until`; what it has not said by then is unreadable.
pub(super) fn ask(program: &Path, ask: &Ask, until: Time) -> Result<Vec<LockReading>, String> {
    let text = serde_json::to_string(ask).map_err(|e| e.to_string())?;
    let mut child = Command::new(program)
        .arg(SUBCOMMAND)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (tell, lines) = mpsc::channel();
    // Both ends of the pipes on a thread: a reader that hangs before it reads holds up nobody.
    let talk = move || {
        if let Some(mut stdin) = stdin.take() {
            let _ = stdin.write_all(text.as_bytes());
        }
        let Some(stdout) = stdout else {
            return;
        };
        let lines = std::io::BufRead::lines(std::io::BufReader::new(stdout.take(LARGEST)));
        for line in lines.map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("lock-read".into())
        .spawn(talk)
        .map_err(|e| e.to_string())?;
    let mut readings = Vec::new();
    for image in &ask.images {
        let left = until.since(Clock.now()).max(LOOK);
        let found = match lines.recv_timeout(left).map(|l| serde_json::from_str(&l)) {
            Ok(Ok(Answer::Nothing)) => Found::Nothing,
            Ok(Ok(Answer::Lock(lock))) => Found::Lock(lock),
            Ok(Ok(Answer::Unreadable(why))) => Found::Unreadable(Words::new(&why)),
            Ok(Err(e)) => Found::Unreadable(Words::new(&e.to_string())),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Found::Unreadable(Words::new("the storage does not answer"))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Found::Unreadable(Words::new("the reader ended before it said"))
            }
        };
        readings.push(LockReading {
            image: Words::new(&image.path),
            found,
        });
    }
    // One that hangs is told to end and left behind: it writes nothing.
    let _ = child.kill();
    let reap = std::thread::Builder::new().name("lock".into());
    let _ = reap.spawn(move || {
        while matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    Ok(readings)
}
