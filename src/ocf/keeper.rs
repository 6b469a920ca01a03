//! The keeper of one action on a resource: `quorate ocf-run`, and `quorate ocf-stop` for the
//! guardian.
//!
//! Between a caller and an agent stands a keeper, joined to the caller by one socket. It bounds
//! the agent in time and output, and is the reaper of all that the agent starts: if the action is
//! given up, nothing of it goes on. What a `start` that came to its end left running is the
//! resource, and stays.

use super::agent::{self, MARK_OCF, Seen};
use super::registry::{self, Held, Registration};
use crate::agents::{AgentEnding, AgentExit, OUTPUT_MAX, end_descendants, handle_of, take_job};
use crate::clock::Clock;
use crate::guardian::processes::{Kind, Scan, Wanted};
use crate::guardian::records::{self, GuestRecord, MARK_EPOCH, MARK_GUEST, RunDir};
use crate::guardian::{cgroups, end_round};
use quorate_membership::Time;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{getpid, set_child_subreaper, setsid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How long output is waited for after the agent has ended; what it started may hold the pipe.
const FLUSH: Duration = Duration::from_millis(100);
/// Between two looks at lease and caller.
const LOOK: Duration = Duration::from_millis(50);
/// How long what a resource left running may take to end, once its `stop` has ended.
const REST: Duration = Duration::from_secs(2);

/// What a keeper is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Job {
    /// One action, as it is: `meta-data`, `validate-all`, `monitor`.
    Run {
        /// Whose agent, with which parameters.
        of: Box<Registration>,
        /// The action.
        action: String,
        /// When it is ended.
        until: Time,
        /// For a regular monitor: how often it is run.
        every: Duration,
        /// The registration that must be held meanwhile; none for what touches no resource.
        hold: Option<PathBuf>,
    },
    /// `start`, for as long as the lease lasts.
    Start {
        /// The run directory.
        run: PathBuf,
        /// The registration.
        registration: PathBuf,
        /// Compared with the clock immediately before the agent is started.
        not_after: Time,
        /// When it is ended.
        until: Time,
    },
    /// `stop`, then `monitor`, which must say that it does not run.
    Stop {
        /// The run directory.
        run: PathBuf,
        /// The registration.
        registration: PathBuf,
        /// When it is ended.
        until: Time,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The end of a `start`, or of an action as it is.
    Ran(AgentExit),
    /// Whether it was seen stopped; otherwise why not.
    Stopped(Result<(), String>),
}

/// `quorate ocf-run`: keeps one action for the caller at the other end of standard input.
#[must_use]
pub fn ocf_run_main(args: &[OsString]) -> ExitCode {
    if !args.is_empty() {
        eprintln!("quorate ocf-run: takes no arguments");
        return ExitCode::from(2);
    }
    match keep() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("quorate ocf-run: {e}");
            ExitCode::FAILURE
        }
    }
}

/// `quorate ocf-stop RUN_DIR REGISTRATION`: stops one resource for the guardian. Exit status 0:
/// it was seen stopped, or is registered no more.
#[must_use]
pub fn ocf_stop_main(args: &[OsString]) -> ExitCode {
    let [run, registration] = args else {
        eprintln!("quorate ocf-stop: a run directory and a registration are needed");
        return ExitCode::from(2);
    };
    // The guardian runs before ordinary processes; an agent that spins must not.
    let _ = crate::guardian::ordinary();
    let _ = setsid();
    let _ = set_child_subreaper(Some(getpid()));
    let registration = Path::new(registration);
    let done = RunDir::open(Path::new(run))
        .map_err(|e| e.to_string())
        .and_then(|run| {
            let keeper = Keeper { line: None };
            keeper.stop(&run, registration, Time::NEVER)
        });
    let _ = end_descendants();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = std::fs::write(registry::why(registration), &why);
            eprintln!("quorate ocf-stop: {why}");
            ExitCode::FAILURE
        }
    }
}

fn keep() -> io::Result<()> {
    let (job, line): (Job, _) = take_job()?;
    let keeper = Keeper {
        line: Some(line.try_clone()?),
    };
    let answer = match &job {
        Job::Run {
            of,
            action,
            until,
            every,
            hold,
        } => Answer::Ran(keeper.run(of, action, *until, *every, hold.as_deref())),
        Job::Start {
            run,
            registration,
            not_after,
            until,
        } => Answer::Ran(keeper.start(&RunDir::open(run)?, registration, *not_after, *until)),
        Job::Stop {
            run,
            registration,
            until,
        } => Answer::Stopped(keeper.stop(&RunDir::open(run)?, registration, *until)),
    };
    (&line).write_all(&serde_json::to_vec(&answer)?)
}

struct Keeper {
    /// The caller; without one the action is given up by the clock only.
    line: Option<UnixStream>,
}

impl Keeper {
    fn forsaken(&self) -> bool {
        let Some(line) = &self.line else {
            return false;
        };
        let mut fds = [PollFd::new(line, PollFlags::RDHUP)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|n| n > 0)
    }

    fn hold(&self, registration: &Path, until: Time) -> Result<Held, String> {
        registry::hold(registration, until, &|| self.forsaken())?
            .ok_or_else(|| "it is registered no more".into())
    }

    fn run(
        &self,
        of: &Registration,
        action: &str,
        until: Time,
        every: Duration,
        hold: Option<&Path>,
    ) -> AgentExit {
        let held = hold.map(|path| self.hold(path, until)).transpose();
        let _held = match held {
            Ok(held) => held,
            Err(why) => return AgentExit::not_started(why),
        };
        let env = agent::environment(of, action, until.since(Clock.now()), every);
        self.act(of, action, &env, until, &|| None)
    }

    fn start(&self, run: &RunDir, path: &Path, not_after: Time, until: Time) -> AgentExit {
        let held = match self.hold(path, not_after.min(until)) {
            Ok(held) => held,
            Err(why) => return AgentExit::not_started(why),
        };
        let of = match records::read::<Registration>(path) {
            Ok(Some(of)) => of,
            Ok(None) => return AgentExit::not_started("it is registered no more"),
            Err(why) => return AgentExit::not_started(why),
        };
        // The record of the lease is read anew at each look: it is extended while this goes on.
        let over = || match run.lease_end(of.boot) {
            Ok(end) if Clock.now() < end => None,
            Ok(_) => Some("the lease is over".to_owned()),
            Err(why) => Some(why),
        };
        if let Some(why) = over() {
            return AgentExit::not_started(why);
        }
        let was_active = registry::is_active(path);
        if let Err(e) = registry::activate(&held, path) {
            return AgentExit::not_started(e);
        }
        // What it leaves running is in there too. Without one that is found by its marks.
        let _ = cgroups::enter(run, &group(&of));
        let limit = Duration::from_millis(of.start_ms);
        let env = marked(
            run,
            &of,
            agent::environment(&of, "start", limit, Duration::ZERO),
        );
        let exit = if Clock.now() > not_after {
            AgentExit::not_started("too late")
        } else {
            self.act(&of, "start", &env, until, &over)
        };
        if matches!(exit.ending, AgentEnding::NotStarted(_)) && !was_active {
            let _ = registry::passivate(&held, path);
        }
        exit
    }

    fn stop(&self, run: &RunDir, path: &Path, until: Time) -> Result<(), String> {
        let held = registry::hold(path, until, &|| self.forsaken())?;
        let Some(held) = held else {
            return Ok(());
        };
        let of: Registration = records::read(path)?.ok_or("it is registered no more")?;
        if !registry::is_active(path) {
            return Ok(());
        }
        let limit = Duration::from_millis(of.stop_ms);
        let env = agent::environment(&of, "stop", limit, Duration::ZERO);
        let until = until.min(Clock.now() + limit);
        let exit = self.act(&of, "stop", &env, until, &|| None);
        agent::done("stop", &exit)?;
        // What it has started and not ended itself.
        end_left(run, &of, Clock.now() + REST)?;
        // It is not believed, but looked at.
        let limit = Duration::from_millis(of.monitor_ms);
        let env = agent::environment(&of, "monitor", limit, Duration::ZERO);
        let exit = self.act(&of, "monitor", &env, Clock.now() + limit, &|| None);
        match agent::seen(&exit) {
            Seen::Stopped => {}
            Seen::Running => return Err("stop: exit 0, and monitor says that it runs".into()),
            Seen::Failed(why) | Seen::Unknown(why) => {
                return Err(format!("stop: exit 0, and then {why}"));
            }
        }
        registry::passivate(&held, path).map_err(|e| e.to_string())
    }

    /// Runs one action. When it is given up, nothing of it is left.
    fn act(
        &self,
        of: &Registration,
        action: &str,
        env: &BTreeMap<String, String>,
        until: Time,
        over: &dyn Fn() -> Option<String>,
    ) -> AgentExit {
        if self.forsaken() {
            return AgentExit::not_started("nobody waits for it any more");
        }
        let mut command = Command::new(&of.program);
        command
            .arg(action)
            .env_clear()
            .envs(env)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(e) => {
                return AgentExit::not_started(format!("{}: {e}", of.program.display()));
            }
        };
        let outputs = [
            child.stdout.take().map(Output::collect),
            child.stderr.take().map(Output::collect),
        ];
        let ending = self.wait(&mut child, until, over);
        if ending == AgentEnding::Timeout {
            // Nothing may act on the resource after its end is known. A start that the kernel does
            // not let go may yet succeed, so nobody else acts before it is gone; any other action
            // may not keep a stop waiting.
            let patience = Clock.now() + REST;
            while end_descendants().unwrap_or(1) > 0 {
                if action != "start" && Clock.now() >= patience {
                    break;
                }
                thread::sleep(Duration::from_millis(5));
            }
            let _ = child.try_wait();
        }
        let flush = Clock.now() + FLUSH;
        let mut texts = outputs
            .into_iter()
            .map(|o| o.map_or_else(String::new, |o| o.text(flush)));
        AgentExit {
            ending,
            stdout: texts.next().unwrap_or_default(),
            stderr: texts.next().unwrap_or_default(),
        }
    }

    fn wait(
        &self,
        child: &mut Child,
        until: Time,
        over: &dyn Fn() -> Option<String>,
    ) -> AgentEnding {
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
            if left.is_zero() || over().is_some() || self.forsaken() {
                return AgentEnding::Timeout;
            }
            let step = left.min(LOOK).max(Duration::from_millis(1));
            let step = Timespec {
                tv_sec: 0,
                tv_nsec: i64::from(step.subsec_nanos()),
            };
            let mut fds = [PollFd::new(&handle, PollFlags::IN)];
            let _ = poll(&mut fds, Some(&step));
        }
    }
}

/// The environment of an action that may leave something running, by which that is found.
fn marked(
    run: &RunDir,
    of: &Registration,
    mut env: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    env.extend(marks(run, of));
    env
}

/// The marks of a resource.
pub(super) fn marks(run: &RunDir, of: &Registration) -> [(String, String); 3] {
    [
        (MARK_OCF.into(), run.path().display().to_string()),
        (MARK_GUEST.into(), format!("{:016x}", of.guest.0)),
        (MARK_EPOCH.into(), format!("{:016x}", of.epoch.0)),
    ]
}

/// The beginning of what an agent prints.
struct Output {
    kept: Arc<Mutex<Vec<u8>>>,
    reader: thread::JoinHandle<()>,
}

impl Output {
    fn collect(mut from: impl Read + Send + 'static) -> Output {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&kept);
        let reader = thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(n) = from.read(&mut part) {
                if n == 0 {
                    break;
                }
                let mut kept = theirs.lock().unwrap_or_else(PoisonError::into_inner);
                let room = OUTPUT_MAX - kept.len();
                kept.extend_from_slice(&part[..n.min(room)]);
            }
        });
        Output { kept, reader }
    }

    /// What has come until `until`, or all of it if that is sooner.
    fn text(self, until: Time) -> String {
        while !self.reader.is_finished() && Clock.now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::from_utf8_lossy(&kept).into_owned();
        // Replaced bytes take more room than they had.
        let mut cut = text.len().min(OUTPUT_MAX);
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        text.truncate(cut);
        text
    }
}

/// The life of a resource as control groups know it.
pub(super) fn group(of: &Registration) -> GuestRecord {
    GuestRecord {
        guest: of.guest,
        epoch: of.epoch,
        boot: of.boot,
        draw: of.draw,
        pgid: 0,
        start: 0,
    }
}

/// Ends every process that a resource has left running, and looks that none is left.
fn end_left(run: &RunDir, of: &Registration, until: Time) -> Result<(), String> {
    loop {
        let left = cgroups::end_with(run, of.boot, &|life| life == of.life(), || {
            let wanted = Wanted {
                dir: run.path(),
                records: &[],
                marked: &|life| life == Some(of.life()),
            };
            let mut look = || Scan::take(Some(run.path()));
            let [found] = end_round(&mut look, [(&wanted, Kind::Agents)])?;
            found
        });
        match left {
            Ok(0) => return Ok(()),
            Ok(left) if Clock.now() >= until => {
                return Err(format!("{left} processes of it are still there"));
            }
            Err(e) if Clock.now() >= until => return Err(e.to_string()),
            _ => thread::sleep(Duration::from_millis(5)),
        }
    }
}
