//! The caller's end of a keeper.

use super::keeper::{Answer, Job};
use crate::agents::{AgentEnding, AgentExit, OUTPUT_MAX};
use crate::clock::Clock;
use quorate_membership::Time;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How much longer than its limit a keeper may take to say so.
const GRACE: Duration = Duration::from_secs(2);
/// No answer of a keeper is longer: two outputs, each byte escaped.
const ANSWER_MAX: u64 = 2 * 6 * OUTPUT_MAX as u64 + 4096;
/// Between two looks at the clock.
const LOOK: Duration = Duration::from_millis(100);

/// The way to call an action off. Its keeper ends the agent and everything that it started.
#[derive(Debug, Default)]
pub(super) struct Cancel {
    state: Mutex<(bool, Option<UnixStream>)>,
}

impl Cancel {
    /// Calls it off, now and for ever.
    pub(super) fn cancel(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = true;
        if let Some(line) = &state.1 {
            let _ = line.shutdown(Shutdown::Write);
        }
    }

    pub(super) fn cancelled(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn attach(&self, line: &UnixStream) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 = line.try_clone().ok();
        !state.0 && state.1.is_some()
    }
}

/// Has a keeper carry out a job and waits for its end, which is at `until` or shortly after.
/// `program` is the quorate program; `marks` are those of the resource.
pub(super) fn call(
    program: &Path,
    marks: &[(String, String)],
    job: &Job,
    until: Time,
    cancel: &Cancel,
) -> Answer {
    let fail = |exit: AgentExit| match job {
        Job::Stop { .. } => Answer::Stopped(Err(super::agent::words("stop", &exit))),
        _ => Answer::Ran(exit),
    };
    let begun = begin(program, marks, job, cancel);
    let mut line = match begun {
        Ok(line) => line,
        Err(why) => return fail(AgentExit::not_started(why)),
    };
    let give_up = until + GRACE;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        match line.read(&mut part) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&part[..n]),
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::WouldBlock
                        | std::io::ErrorKind::TimedOut
                        | std::io::ErrorKind::Interrupted
                ) => {}
            Err(_) => break,
        }
        if answer.len() as u64 > ANSWER_MAX {
            break;
        }
        if Clock.now() >= give_up {
            // What cannot be ended may go on; whoever acts next waits for its lock.
            return fail(AgentExit::silent(AgentEnding::Timeout));
        }
    }
    // A keeper that went without a word: nobody knows what its agent did.
    serde_json::from_slice(&answer)
        .unwrap_or_else(|_| fail(AgentExit::silent(AgentEnding::Signal(9))))
}

fn begin(
    program: &Path,
    marks: &[(String, String)],
    job: &Job,
    cancel: &Cancel,
) -> Result<UnixStream, String> {
    let words = |e: std::io::Error| format!("no keeper: {e}");
    let (mut mine, theirs) = UnixStream::pair().map_err(words)?;
    if !cancel.attach(&mine) {
        return Err("called off".into());
    }
    let mut command = Command::new(program);
    command
        .arg("ocf-run")
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/");
    // A `stop` carries none: at lease end it is what should go on.
    if !matches!(job, Job::Stop { .. }) {
        command.envs(marks.iter().cloned());
    }
    let mut child = command
        .spawn()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    drop(command);
    let reaper = std::thread::Builder::new().name("keeper".into());
    reaper.spawn(move || child.wait()).map_err(words)?;
    let mut bytes = serde_json::to_vec(job).map_err(|e| e.to_string())?;
    bytes.push(b'\n');
    mine.set_read_timeout(Some(LOOK)).map_err(words)?;
    mine.set_write_timeout(Some(GRACE)).map_err(words)?;
    mine.write_all(&bytes).map_err(words)?;
    Ok(mine)
}
