//! Runs external fence agents: one process each, bounded in time and output, gone with the daemon.
//!
//! Between daemon and agent stands a keeper, the quorate program itself (`quorate agent-run`),
//! joined to the daemon by one socket. The request goes down it and the end comes back; when it
//! closes, because the daemon died or nobody waits any more, the keeper ends the agent with
//! everything it started. The keeper is the reaper of its descendants, so none can slip away.

mod keeper;
mod level;
mod metadata;
mod trial;

pub use keeper::{agent_exec_main, agent_run_main};
pub(crate) use keeper::{end_descendants, handle_of, take_job};
pub use level::run_level;
pub use trial::try_device;

use quorate_membership::Time;
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as Pair;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::clock::Clock;

/// Of each output this much is kept, in bytes; the rest is read and dropped.
pub const OUTPUT_MAX: usize = 64 * 1024;
/// How much longer than the agent's limit the keeper may take to say so.
const GRACE: Duration = Duration::from_secs(2);
/// No answer of a keeper is longer: two outputs, each byte escaped.
const ANSWER_MAX: u64 = 2 * 6 * OUTPUT_MAX as u64 + 4096;

/// Where agents are looked for when nothing is configured.
#[must_use]
pub fn default_dirs() -> Vec<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/usr/libexec/quorate"]
        .map(PathBuf::from)
        .into()
}

/// How agents are run.
#[derive(Clone, Debug)]
pub struct Agents {
    /// The quorate program itself.
    pub program: PathBuf,
    /// Directories in which agents are looked for, in order.
    pub dirs: Vec<PathBuf>,
}

/// What became of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentEnding {
    /// It exited with this code.
    Code(i32),
    /// It ended by this signal, or its keeper did.
    Signal(i32),
    /// It was ended at its limit, with everything it started.
    Timeout,
    /// It was not started, for this reason.
    NotStarted(String),
}

/// The end of an agent and the beginning of what it printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentExit {
    /// What became of it.
    pub ending: AgentEnding,
    /// At most [`OUTPUT_MAX`] bytes of its standard output; what is not text is replaced.
    pub stdout: String,
    /// The same of its standard error.
    pub stderr: String,
}

impl AgentExit {
    pub(crate) fn silent(ending: AgentEnding) -> AgentExit {
        AgentExit {
            ending,
            stdout: String::new(),
            stderr: String::new(),
        }
    }

    pub(crate) fn not_started(why: impl ToString) -> AgentExit {
        AgentExit::silent(AgentEnding::NotStarted(why.to_string()))
    }
}

/// What a keeper is asked.
#[derive(Serialize, Deserialize)]
struct Job {
    agent: PathBuf,
    stdin: String,
    /// Compared with the clock immediately before the agent is started.
    not_after: Time,
    /// When it is ended.
    until: Time,
}

impl Agents {
    /// The program of an agent: an absolute path as it is, a name from the directories.
    ///
    /// # Errors
    /// Which places were looked at.
    pub fn find(&self, agent: &str) -> Result<PathBuf, String> {
        let usable = |path: &Path| {
            path.metadata()
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        };
        let path = Path::new(agent);
        if path.is_absolute() {
            return if usable(path) {
                Ok(path.to_path_buf())
            } else {
                Err(format!("agent {agent}: no executable file"))
            };
        }
        if agent.is_empty() || agent.contains('/') || matches!(agent, "." | "..") {
            return Err(format!(
                "agent {agent:?}: a name without slashes or an absolute path is allowed"
            ));
        }
        let found = self.dirs.iter().map(|dir| dir.join(agent));
        let found = found.into_iter().find(|path| usable(path));
        found.ok_or_else(|| {
            let dirs: Vec<String> = self.dirs.iter().map(|d| d.display().to_string()).collect();
            format!("agent {agent}: not found in {}", dirs.join(", "))
        })
    }

    /// Runs an agent: hands it `stdin`, waits for its end, ends it at `until`. It is not started
    /// after `not_after`. If the future is dropped, the agent is ended.
    pub async fn run_agent(
        &self,
        agent: &str,
        stdin: &str,
        not_after: Time,
        until: Time,
    ) -> AgentExit {
        let job = match self.find(agent) {
            Ok(agent) => Job {
                agent,
                stdin: stdin.to_owned(),
                not_after,
                until,
            },
            Err(why) => return AgentExit::not_started(why),
        };
        let begun = self.keeper(&job);
        let Ok(mut line) = begun.await else {
            return AgentExit::not_started("its keeper could not be started");
        };
        let wait = until.since(Clock.now()) + GRACE;
        let mut answer = Vec::new();
        let mut reader = (&mut line).take(ANSWER_MAX);
        let read = tokio::time::timeout(wait, reader.read_to_end(&mut answer)).await;
        match (read, serde_json::from_slice(&answer)) {
            (Ok(Ok(_)), Ok(exit)) => exit,
            // The keeper went without a word: nobody knows what its agent did.
            (Ok(_), _) => AgentExit::silent(AgentEnding::Signal(9)),
            (Err(_), _) => AgentExit::silent(AgentEnding::Timeout),
        }
    }

    /// Starts a keeper and hands it the job. It is waited for by the runtime.
    async fn keeper(&self, job: &Job) -> std::io::Result<UnixStream> {
        let (mine, theirs) = Pair::pair()?;
        mine.set_nonblocking(true)?;
        let mut line = UnixStream::from_std(mine)?;
        let child = Command::new(&self.program)
            .arg("agent-run")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()?;
        drop(child);
        let mut bytes = serde_json::to_vec(job)?;
        bytes.push(b'\n');
        line.write_all(&bytes).await?;
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents(dirs: &[&Path]) -> Agents {
        Agents {
            program: PathBuf::from("/nonexistent"),
            dirs: dirs.iter().map(|d| d.to_path_buf()).collect(),
        }
    }

    #[test]
    fn a_missing_agent_is_reported_with_every_place() {
        let error = agents(&[Path::new("/nowhere/a"), Path::new("/nowhere/b")])
            .find("fence_x")
            .expect_err("missing");
        assert!(error.contains("fence_x") && error.contains("/nowhere/a, /nowhere/b"));
    }

    #[test]
    fn names_do_not_leave_their_directories() {
        for bad in ["../bin/sh", "a/b", "", ".", ".."] {
            assert!(agents(&[Path::new("/bin")]).find(bad).is_err(), "{bad:?}");
        }
        let found = agents(&[Path::new("/nowhere"), Path::new("/bin")]).find("sh");
        assert_eq!(found, Ok(PathBuf::from("/bin/sh")));
    }

    #[test]
    fn what_cannot_be_executed_is_no_agent() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("fence_x"), "#!/bin/sh\n").expect("written");
        assert!(agents(&[dir.path()]).find("fence_x").is_err());
    }
}
