//! The keeper of one agent. Its standard input is the socket to the daemon.

use super::{AgentEnding, AgentExit, Job, OUTPUT_MAX};
use crate::clock::Clock;
use crate::guardian::processes::{Process, Scan, signal};
use quorate_membership::Time;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, getppid, pidfd_open, set_child_subreaper,
    set_parent_process_death_signal, setsid,
};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Exit code of what was to become an agent and could not.
const NOT_STARTED: i32 = 127;
/// What such a process says first; no agent ran then.
const REFUSED: &str = "quorate agent-exec: ";
/// A request larger than this is none.
const JOB_MAX: u64 = 1 << 20;
/// How long output is waited for after the last process that could write it has ended.
const FLUSH: Duration = Duration::from_secs(1);

/// `quorate agent-run`: keeps one agent for the daemon at the other end of standard input.
#[must_use]
pub fn agent_run_main(args: &[OsString]) -> ExitCode {
    if !args.is_empty() {
        eprintln!("quorate agent-run: takes no arguments");
        return ExitCode::from(2);
    }
    match keep() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("quorate agent-run: {e}");
            ExitCode::FAILURE
        }
    }
}

/// `quorate agent-exec KEEPER PROGRAM`: becomes an agent that is killed when its keeper is gone.
#[must_use]
pub fn agent_exec_main(args: &[OsString]) -> ExitCode {
    let [keeper, program] = args else {
        eprintln!("quorate agent-exec: the keeper's process id and a program are needed");
        return ExitCode::from(2);
    };
    let ready = set_parent_process_death_signal(Some(Signal::KILL));
    let parent = getppid().map(|p| p.as_raw_nonzero().get().to_string());
    if let Err(e) = ready {
        eprintln!("{REFUSED}{e}");
    } else if parent.as_deref() != keeper.to_str() {
        eprintln!("{REFUSED}the keeper is gone already");
    } else {
        let e = Command::new(program).exec();
        eprintln!("{REFUSED}{}: {e}", program.display());
    }
    ExitCode::from(NOT_STARTED as u8)
}

/// Makes this process the keeper of what it will start, and takes its job from the line to the
/// daemon, which is standard input.
pub(crate) fn take_job<J: DeserializeOwned>() -> io::Result<(J, UnixStream)> {
    // Out of the daemon's group, so that a signal to that does not come between the two.
    let _ = setsid();
    set_child_subreaper(Some(getpid()))?;
    let line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut text = Vec::new();
    BufReader::new(&line)
        .take(JOB_MAX)
        .read_until(b'\n', &mut text)?;
    Ok((serde_json::from_slice(&text)?, line))
}

fn keep() -> io::Result<()> {
    let (job, line): (Job, _) = take_job()?;
    let exit = run(&job, &line);
    // Whatever is left of it must not act after its result is known.
    while end_descendants()? > 0 {
        thread::sleep(Duration::from_millis(5));
    }
    let exit = exit.finish();
    (&line).write_all(&serde_json::to_vec(&exit)?)
}

/// An agent that has come to its end, whose output may still be on the way.
struct Ended {
    ending: AgentEnding,
    outputs: Vec<mpsc::Receiver<String>>,
}

impl Ended {
    fn finish(self) -> AgentExit {
        let mut outputs = self
            .outputs
            .iter()
            .map(|o| o.recv_timeout(FLUSH).unwrap_or_default());
        let mut exit = AgentExit {
            stdout: outputs.next().unwrap_or_default(),
            stderr: outputs.next().unwrap_or_default(),
            ending: self.ending,
        };
        if let (AgentEnding::Code(NOT_STARTED), Some(why)) =
            (&exit.ending, exit.stderr.strip_prefix(REFUSED))
        {
            exit.ending = AgentEnding::NotStarted(why.trim_end().to_owned());
            exit.stderr.clear();
        }
        exit
    }
}

fn run(job: &Job, line: &UnixStream) -> Ended {
    let not_started = |why: String| Ended {
        ending: AgentEnding::NotStarted(why),
        outputs: Vec::new(),
    };
    // By way of this program: nothing but the agent itself can ask to end with its keeper.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("agent-exec")
        .arg(std::process::id().to_string())
        .arg(&job.agent)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if Clock.now() > job.not_after {
        return not_started("too late".into());
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => return not_started(format!("{}: {e}", job.agent.display())),
    };
    if let Some(mut stdin) = child.stdin.take() {
        let text = job.stdin.clone();
        // An agent need not read what it is told.
        thread::spawn(move || stdin.write_all(text.as_bytes()));
    }
    let outputs = [
        child.stdout.take().map(collect),
        child.stderr.take().map(collect),
    ];
    Ended {
        ending: wait(&mut child, line, job.until),
        outputs: outputs.into_iter().flatten().collect(),
    }
}

/// Reads to the end and keeps the beginning.
fn collect(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        let mut part = [0; 4096];
        while let Ok(n) = from.read(&mut part) {
            if n == 0 {
                break;
            }
            let room = OUTPUT_MAX - kept.len();
            kept.extend_from_slice(&part[..n.min(room)]);
        }
        let mut text = String::from_utf8_lossy(&kept).into_owned();
        // Replaced bytes take more room than they had.
        let mut cut = text.len().min(OUTPUT_MAX);
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        text.truncate(cut);
        let _ = sender.send(text);
    });
    receiver
}

/// Waits for the agent, its limit, or the end of the daemon, whichever is first.
fn wait(child: &mut Child, line: &UnixStream, until: Time) -> AgentEnding {
    let Some(handle) = handle_of(child) else {
        return AgentEnding::Timeout;
    };
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                return status.code().map_or_else(
                    || AgentEnding::Signal(status.signal().unwrap_or(9)),
                    AgentEnding::Code,
                );
            }
            Ok(None) => {}
            Err(_) => return AgentEnding::Timeout,
        }
        let left = until.since(Clock.now());
        if left.is_zero() {
            return AgentEnding::Timeout;
        }
        // In steps, because this clock counts suspended time and the wait does not.
        let step = left.min(Duration::from_millis(500));
        let step = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(step.subsec_nanos()).max(1_000_000),
        };
        let mut fds = [
            PollFd::new(&handle, PollFlags::IN),
            PollFd::new(line, PollFlags::RDHUP),
        ];
        if poll(&mut fds, Some(&step)).is_ok() && !fds[1].revents().is_empty() {
            return AgentEnding::Timeout;
        }
    }
}

pub(crate) fn handle_of(child: &Child) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(child.id()).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Ends every process below this one; says how many there were. Orphans come to the keeper, so
/// none is elsewhere. They are frozen first, lest one starts another unseen.
pub(crate) fn end_descendants() -> io::Result<usize> {
    let mut frozen = BTreeSet::new();
    let mut found;
    loop {
        found = descendants()?;
        let new: Vec<&Process> = found.iter().filter(|p| !frozen.contains(&p.pid)).collect();
        if new.is_empty() {
            break;
        }
        for process in &new {
            signal(process, Signal::STOP)?;
        }
        let pids: Vec<i32> = new.iter().map(|p| p.pid).collect();
        frozen.extend(pids);
    }
    for process in &found {
        signal(process, Signal::KILL)?;
    }
    Ok(found.len())
}

fn descendants() -> io::Result<Vec<Process>> {
    let scan = Scan::take(None)?;
    let me = getpid().as_raw_nonzero().get();
    let mut found = BTreeSet::from([me]);
    loop {
        let before = found.len();
        let children = scan.all.values().filter(|p| found.contains(&p.parent));
        let children: Vec<i32> = children.map(|p| p.pid).collect();
        found.extend(children);
        if found.len() == before {
            break;
        }
    }
    let below = found.iter().filter(|pid| **pid != me);
    let below = below.filter_map(|pid| scan.get(*pid));
    Ok(below.filter(|p| !p.gone()).copied().collect())
}
