//! Who ends this host's guests when the daemon does not.
//!
//! The guardian is a small process of its own that outlives the daemon. The daemon tells it only
//! one thing, the lease end, through a file; everything else the guardian sees for itself.

mod arguments;
pub mod cgroups;
mod drill;
mod ending;
mod feeder;
mod hierarchy;
mod insist;
mod known;
mod limits;
pub mod processes;
mod pulse;
pub mod records;
mod reset;
mod resources;
mod round;
mod run;
mod scan;
mod schedule;
mod search;
pub mod slots;
mod watchdog;

pub use drill::{DrillError, drill, drill_reach};
pub(crate) use ending::end_round;
pub(crate) use hierarchy::sweep;
pub use limits::Limits;
pub(crate) use pulse::Watch as PulseWatch;
pub use reset::{Reach, ResetNote};
pub use run::guardian_main;
pub(crate) use scan::ready as scan_ready;
pub(crate) use schedule::ordinary;
pub use watchdog::WatchdogSeen;

use crate::clock::{self, Clock};
use processes::Process;
use quorate_membership::{BootId, Incarnation, Time};
use quorate_recovery::contract::Fact;
use records::{GUARDIAN_VERSION, GuardianState, LeaseRecord, RunDir};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use slots::Slots;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long a new guardian may take until it is in office.
const OFFICE: Duration = Duration::from_secs(5);
/// Between two looks whether the guardian was stopped, which its handle does not tell.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 250_000_000,
};
/// Between two tries to start one.
const RETRY: Duration = Duration::from_millis(500);

/// How this host's guardian is started and found.
#[derive(Clone, Debug)]
pub struct Guardian {
    program: PathBuf,
    run: RunDir,
    boot_id_file: PathBuf,
    boot: BootId,
    check: Duration,
    note: Option<PathBuf>,
    by_unit: bool,
}

/// How a guardian went out of office.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It ended.
    Ended,
    /// Somebody stopped it (SIGSTOP).
    Stopped,
}

impl Guardian {
    /// A guardian over `run`. `program` is the quorate program itself; `check` is how often the
    /// lease is looked at while it lasts, in whole milliseconds, 1 to 1000.
    ///
    /// # Errors
    /// The boot id cannot be read.
    pub fn new(
        program: PathBuf,
        run: RunDir,
        boot_id_file: PathBuf,
        check: Duration,
    ) -> io::Result<Guardian> {
        Ok(Guardian {
            program,
            boot: clock::boot_id(&boot_id_file)?,
            run,
            boot_id_file,
            check,
            note: None,
            by_unit: false,
        })
    }

    /// The same guardian, which leaves the reason of a reset in `file`, on a disk.
    #[must_use]
    pub fn noting(self, file: PathBuf) -> Guardian {
        Guardian {
            note: Some(file),
            ..self
        }
    }

    /// A unit of its own starts it, and starts it again: this daemon starts none.
    #[must_use]
    pub fn by_unit(mut self, by_unit: bool) -> Guardian {
        self.by_unit = by_unit;
        self
    }

    /// The guardian in office, or a new one. Blocks until it is in office, at most 5 s.
    ///
    /// # Errors
    /// None could be started.
    pub fn ensure(&self) -> io::Result<GuardianHandle> {
        if let Some(handle) = self.find() {
            // One that somebody stopped is in the way of a new one: it has to go on itself.
            if handle.look().is_some_and(|p| p.stopped()) {
                processes::signal(&handle.process(), Signal::CONT)?;
            }
        } else if !self.by_unit {
            self.start()?;
        }
        let give_up = Clock.now() + OFFICE;
        loop {
            if let Some(handle) = self.find().filter(GuardianHandle::is_alive) {
                return Ok(handle);
            }
            if Clock.now() >= give_up {
                let dir = self.run.path().display();
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{dir}: no guardian took office within {OFFICE:?}"),
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn start(&self) -> io::Result<()> {
        let note = self.note.iter();
        let mut child = Command::new(&self.program)
            .arg("guardian")
            .args(note.flat_map(|file| [std::ffi::OsStr::new("--note"), file.as_os_str()]))
            .arg("--run-dir")
            .arg(self.run.path())
            .arg("--lease-check")
            .arg(self.check.as_millis().to_string())
            .arg("--boot-id-file")
            .arg(&self.boot_id_file)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.program.display())))?;
        let status = child.wait()?;
        if status.success() {
            Ok(())
        } else {
            let program = self.program.display();
            Err(io::Error::other(format!("{program} guardian: {status}")))
        }
    }

    /// The guardian that wrote the state file, if it is still there.
    fn find(&self) -> Option<GuardianHandle> {
        let state = records::read::<GuardianState>(&self.run.guardian_state()).ok()??;
        if state.boot != self.boot {
            return None;
        }
        let handle = pidfd_open(Pid::from_raw(state.pid)?, PidfdFlags::empty()).ok()?;
        let handle = GuardianHandle { handle, state };
        // Looked at after it is held: the id cannot change hands any more.
        handle.look().is_some().then_some(handle)
    }

    /// Keeps a guardian in office for as long as `facts` has a receiver: one that ends is replaced
    /// at once, one that is stopped is told to go on. Whether it is at work, its counter tells.
    pub async fn watch(self, facts: mpsc::Sender<Fact>) {
        let mut lacking = false;
        let this_by_unit = self.by_unit;
        while !facts.is_closed() {
            let this = self.clone();
            let found = tokio::task::spawn_blocking(move || this.ensure()).await;
            let found = found.unwrap_or_else(|e| Err(io::Error::other(e)));
            match found {
                Ok(handle) => {
                    lacking = false;
                    handle.hand_over(this_by_unit);
                    tokio::select! {
                        ended = handle.ended() => match ended {
                            Ok(Gone::Ended) => tracing::warn!("the guardian ended"),
                            Ok(Gone::Stopped) => {
                                tracing::warn!("the guardian was stopped (SIGSTOP); it is told to go on");
                            }
                            Err(e) => {
                                tracing::error!("the guardian cannot be watched: {e}");
                                tokio::time::sleep(RETRY).await;
                            }
                        },
                        () = facts.closed() => return,
                    }
                }
                Err(e) => {
                    // Said once: the log and `status` say for as long as it lasts what follows.
                    if !std::mem::replace(&mut lacking, true) {
                        tracing::error!("no guardian: {e}");
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// A guardian in office.
#[derive(Debug)]
pub struct GuardianHandle {
    handle: OwnedFd,
    state: GuardianState,
}

impl GuardianHandle {
    /// What it said of itself when it was found.
    #[must_use]
    pub fn state(&self) -> &GuardianState {
        &self.state
    }

    /// Whether it is there and at work: one that was stopped guards nothing.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(&self.handle, PollFlags::IN)];
        let ended = poll(&mut fds, Some(&Timespec::default())) != Ok(0);
        !ended && self.look().is_some_and(|p| !p.stopped())
    }

    /// Asks one of another version to go, so that one of this version can take office, and one
    /// that a daemon started, where a unit does. It goes once no guest needs it. Until then one of
    /// another version ends guests by its own rules, and is not trusted.
    fn hand_over(&self, by_unit: bool) {
        if self.state.version != GUARDIAN_VERSION {
            tracing::warn!(
                "the guardian in office is of version {}, not {GUARDIAN_VERSION}: it is asked to \
                 hand over when no guest needs it",
                self.state.version
            );
        } else if by_unit && !self.state.unit {
            tracing::info!("the guardian in office is not that of the unit: it is asked to go");
        } else {
            return;
        }
        if let Err(e) = processes::signal(&self.process(), Signal::TERM) {
            tracing::error!("it cannot be asked: {e}");
        }
    }

    fn look(&self) -> Option<Process> {
        Process::look(self.state.pid).filter(|p| p.start == self.state.start && !p.gone())
    }

    fn process(&self) -> Process {
        Process {
            pid: self.state.pid,
            parent: 0,
            group: 0,
            session: 0,
            state: b'?',
            threads: 0,
            start: self.state.start,
        }
    }

    /// Comes back when it is not alive any more, and says why.
    ///
    /// # Errors
    /// Nobody can wait for it here: ask [`GuardianHandle::is_alive`] now and then.
    pub async fn ended(&self) -> io::Result<Gone> {
        let (tell, told) = oneshot::channel::<()>();
        let handle = GuardianHandle {
            handle: self.handle.try_clone()?,
            state: self.state.clone(),
        };
        std::thread::Builder::new()
            .name("guardian-watch".into())
            .spawn(move || {
                // Gone with this thread, which is what is waited for.
                let tell = tell;
                while !tell.is_closed() && handle.is_alive() {
                    let mut fds = [PollFd::new(&handle.handle, PollFlags::IN)];
                    let _ = poll(&mut fds, Some(&LOOK));
                }
            })?;
        let _ = told.await;
        let there = self.look().is_some();
        Ok(if there { Gone::Stopped } else { Gone::Ended })
    }
}

/// The daemon's end of the lease file.
#[derive(Debug)]
pub struct Lease {
    run: RunDir,
    boot: BootId,
    incarnation: Incarnation,
    slots: Slots<LeaseRecord>,
}

impl Lease {
    /// The lease of this incarnation. Writes nothing: what stands is inherited, and no more.
    #[must_use]
    pub fn new(run: RunDir, boot: BootId, incarnation: Incarnation) -> Lease {
        Lease {
            slots: Slots::new(run.lease()),
            run,
            boot,
            incarnation,
        }
    }

    /// The lease end that stands, whoever wrote it.
    ///
    /// # Errors
    /// Why there is none.
    pub fn end(&self) -> Result<Time, String> {
        self.run.lease_end(self.boot)
    }

    /// Lets the guests run until `end`, or until the end that stands if that is later.
    ///
    /// # Errors
    /// The record cannot be written: what stood before stands on.
    pub fn extend(&mut self, end: Time) -> io::Result<()> {
        let record = LeaseRecord {
            boot: self.boot,
            incarnation: self.incarnation,
            end: self.end().map_or(end, |stands| stands.max(end)),
        };
        let state = records::read::<GuardianState>(&self.run.guardian_state());
        if state.is_ok_and(|s| s.is_some_and(|s| s.version == 0)) {
            records::write(&self.run.lease_before_slots(), &record)?;
        }
        self.slots.write(&record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_of_the_daemon_never_shortens_a_lease() {
        let dir = tempfile::tempdir().expect("a directory");
        let run = RunDir::create(dir.path()).expect("made");
        let life = |counter| Incarnation { counter, random: 9 };
        let mut first = Lease::new(run.clone(), BootId(1), life(1));
        assert!(first.end().is_err(), "no record, no lease");
        first.extend(Time(500)).expect("written");
        let mut second = Lease::new(run.clone(), BootId(1), life(2));
        assert_eq!(second.end(), Ok(Time(500)), "inherited");
        second.extend(Time(300)).expect("written");
        assert_eq!(second.end(), Ok(Time(500)));
        second.extend(Time(700)).expect("written");
        assert_eq!(second.end(), Ok(Time(700)));
        let mut after_boot = Lease::new(run, BootId(2), life(3));
        assert!(after_boot.end().is_err(), "another boot inherits nothing");
        after_boot.extend(Time(10)).expect("written");
        assert_eq!(after_boot.end(), Ok(Time(10)));
    }
}
