//! The guardian process: ends every guest when the lease is over, whatever becomes of the daemon.

use super::arguments::{Arguments, parse};
use super::cgroups;
use super::logic::{Logic, Sight, Step};
use super::processes::{Process, Scan, Wanted, leader};
use super::records::{self, Entry, GuardianState, GuestRecord, RunDir};
use super::reset::Kernel;
use super::resources::Resources;
use super::schedule::{realtime, sleep_until};
use crate::clock::{self, Clock};
use quorate_membership::{BootId, Time};
use rustix::fs::{FlockOperation, flock};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{geteuid, setsid};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between two rounds of an ending.
const REPEAT: Duration = Duration::from_millis(20);
/// Between two sweeps for unregistered processes while the lease is over.
const SWEEP: Duration = Duration::from_secs(5);
/// How long a new guardian waits for one that is just going.
const LOCK_WAIT: Duration = Duration::from_millis(300);
/// One scan of `/proc` is no snapshot: this many must find nothing before nothing is believed.
const EMPTY_ROUNDS: u8 = 2;
/// Exit status of a guardian that found another in office.
const REFUSED: u8 = 75;

/// `quorate guardian --run-dir DIR [--lease-check MS] [--boot-id-file FILE]`: starts a guardian
/// that belongs to nobody and returns at once; with `--detached` this process itself is it.
#[must_use]
pub fn guardian_main(args: &[OsString]) -> ExitCode {
    let arguments = match parse(args) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("quorate guardian: {why}");
            return ExitCode::from(2);
        }
    };
    let done = if arguments.detached {
        Guard::take_office(&arguments).map(|mut guard| guard.serve())
    } else {
        // The child is left to process 1, which waits for it when its time comes.
        std::env::current_exe().and_then(|exe| {
            let mut command = Command::new(exe);
            command.arg("guardian").args(args).arg("--detached");
            command.env_clear().current_dir("/");
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command
                .stderr(Stdio::null())
                .spawn()
                .map(|_| ExitCode::SUCCESS)
        })
    };
    done.unwrap_or_else(|e| {
        eprintln!("quorate guardian: {e}");
        ExitCode::from(if e.kind() == io::ErrorKind::WouldBlock {
            REFUSED
        } else {
            1
        })
    })
}

/// A registration as the guardian remembers it, also after its file is gone.
struct Known {
    /// `None` if the file cannot be read: then only the marks lead to the processes.
    record: Option<GuestRecord>,
    /// Tells a file from a later one of the same name.
    inode: u64,
    /// Rounds of this ending that found nothing.
    empty: u8,
}

struct Guard {
    run: RunDir,
    boot: BootId,
    lock: File,
    logic: Logic,
    known: BTreeMap<PathBuf, Known>,
    resources: Resources,
    state: GuardianState,
    written: Option<GuardianState>,
    swept: Time,
    strays: bool,
    leave: Arc<AtomicBool>,
}

/// What a look at the run directory showed.
struct Look {
    lease_end: Option<Time>,
    intents: Vec<PathBuf>,
    /// The registry could not be read.
    blind: bool,
    /// The directory is gone, or another lies in its place.
    displaced: bool,
}

impl Guard {
    fn take_office(arguments: &Arguments) -> io::Result<Guard> {
        let boot = clock::boot_id(&arguments.boot_id_file)?;
        let run = RunDir::open(&arguments.run_dir)?;
        // Fails only for one that leads a session already.
        let _ = setsid();
        let leave = Arc::new(AtomicBool::new(false));
        for signal in [
            signal_hook::consts::SIGTERM,
            signal_hook::consts::SIGINT,
            signal_hook::consts::SIGHUP,
        ] {
            signal_hook::flag::register(signal, Arc::clone(&leave))?;
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(run.guardian_lock())?;
        let give_up = Clock.now() + LOCK_WAIT;
        while let Err(e) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if e != rustix::io::Errno::WOULDBLOCK {
                return Err(e.into());
            }
            if Clock.now() >= give_up {
                let path = run.path().display();
                return Err(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    format!("{path}: another guardian is in office"),
                ));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Without the privilege a lock on future memory would turn its limit into failed allocations.
        let flags = if geteuid().is_root() {
            MlockAllFlags::CURRENT | MlockAllFlags::FUTURE
        } else {
            MlockAllFlags::CURRENT
        };
        let me = Process::me()?;
        // By this name it is found whatever became of its file, and of the disk that lies on.
        let program = Path::new("/proc/self/exe");
        let resources = Resources::new(run.clone(), boot, program, Box::new(Kernel));
        Ok(Guard {
            resources,
            logic: Logic::new(arguments.check, REPEAT),
            state: GuardianState {
                pid: me.pid,
                start: me.start,
                boot,
                locked_in_memory: mlockall(flags).is_ok(),
                realtime: realtime(),
                endings: 0,
                alarm: None,
            },
            run,
            boot,
            lock,
            known: BTreeMap::new(),
            written: None,
            swept: Time::ZERO,
            strays: false,
            leave,
        })
    }

    fn serve(&mut self) -> ExitCode {
        loop {
            let mut look = self.look();
            if !look.displaced {
                self.publish();
            }
            let mut now = Clock.now();
            if !look.displaced && look.lease_end.is_some_and(|end| now >= end) {
                // This process may have been held up since it read the record.
                look.lease_end = self.run.lease_end(self.boot).ok();
                now = Clock.now();
            }
            let over = look.lease_end.is_none_or(|end| now >= end);
            if over && !self.logic.ending() && now >= self.swept + SWEEP {
                self.swept = now;
                self.strays = self.wanted(&look, |wanted| {
                    let scan = Scan::take(Some(wanted.dir))?;
                    Ok(!wanted.among(&scan).is_empty())
                });
            }
            let began = self.logic.ending();
            let resources = self.resources.left(look.displaced);
            let guests = self.strays
                || look.blind
                || resources
                || self.known.values().any(|k| k.empty < EMPTY_ROUNDS);
            let step = self.logic.step(Sight {
                now,
                lease_end: look.lease_end,
                guests,
                pending: !look.intents.is_empty(),
            });
            match step {
                Step::End(again) => {
                    if !began {
                        self.state.endings += 1;
                        self.known.values_mut().for_each(|k| k.empty = 0);
                        self.resources.begin(now, look.lease_end.unwrap_or(now));
                    }
                    self.end(&look);
                    sleep_until(again);
                }
                Step::Sleep(until) => {
                    // Nobody can stop it while there is something to guard.
                    let idle = !guests && look.intents.is_empty();
                    let told = self.leave.load(Ordering::Relaxed);
                    if idle && (told || look.displaced) {
                        return ExitCode::SUCCESS;
                    }
                    sleep_until(until);
                }
            }
        }
    }

    /// Reads lease and registry; nothing of it is taken from memory but guests whose files vanished.
    fn look(&mut self) -> Look {
        let displaced = match (fs::metadata(self.run.guardian_lock()), self.lock.metadata()) {
            (Ok(there), Ok(mine)) => (there.dev(), there.ino()) != (mine.dev(), mine.ino()),
            (Err(e), _) => e.kind() == io::ErrorKind::NotFound,
            (_, Err(_)) => false,
        };
        let mut look = Look {
            lease_end: None,
            intents: Vec::new(),
            blind: false,
            displaced,
        };
        if displaced {
            return look;
        }
        match self.run.entries() {
            Ok(entries) => {
                self.refresh(&entries);
                let intents = entries.into_iter();
                look.intents = intents
                    .filter(|(_, entry)| matches!(entry, Entry::Intent(..)))
                    .map(|(path, _)| path)
                    .collect();
            }
            Err(e) => {
                look.blind = true;
                self.alarm(format!("the registry cannot be read: {e}"));
            }
        }
        // Last, so that a lease that was extended meanwhile is not missed.
        match self.run.lease_end(self.boot) {
            Ok(end) => look.lease_end = Some(end),
            // What a missing lease leads to is seen anyway; a worse alarm must not be hidden by it.
            Err(why) if !self.known.is_empty() && self.state.alarm.is_none() => self.alarm(why),
            Err(_) => {}
        }
        look
    }

    fn refresh(&mut self, entries: &[(PathBuf, Entry)]) {
        let mut there = BTreeMap::new();
        for (path, entry) in entries {
            let Entry::Guest(guest, epoch) = *entry else {
                continue;
            };
            let Ok(inode) = fs::metadata(path).map(|m| m.ino()) else {
                continue;
            };
            there.insert(path, ());
            if self
                .known
                .get(path)
                .is_some_and(|k| k.inode == inode && k.record.is_some())
            {
                continue;
            }
            let record = match records::read::<GuestRecord>(path) {
                Ok(None) => continue,
                Ok(Some(r)) if (r.guest, r.epoch) == (guest, epoch) => Some(r),
                Ok(Some(_)) => {
                    self.alarm(format!("{}: names another guest inside", path.display()));
                    None
                }
                Err(why) => {
                    self.alarm(why);
                    None
                }
            };
            // Processes of another boot went with it, and their ids mean others now.
            let foreign = record.is_some_and(|r| r.boot != self.boot);
            let same = self.known.get(path).filter(|k| k.inode == inode);
            let empty = same.map_or(if foreign { EMPTY_ROUNDS } else { 0 }, |k| k.empty);
            let known = Known {
                record: record.filter(|_| !foreign),
                inode,
                empty,
            };
            self.known.insert(path.clone(), known);
        }
        // A file may vanish without its processes: then they are remembered.
        let dir = self.run.path().to_path_buf();
        self.known.retain(|path, known| {
            there.contains_key(path) || known.record.is_some_and(|r| left(&dir, r))
        });
    }

    /// One round: calls off the starts, then ends what is registered or marked.
    fn end(&mut self, look: &Look) {
        for intent in &look.intents {
            if let Err(e) = records::remove(intent) {
                self.alarm(format!("a start cannot be called off: {e}"));
            }
        }
        // A start either lost its intent or is registered by now.
        if !look.displaced
            && let Ok(entries) = self.run.entries()
        {
            self.refresh(&entries);
        }
        // By their groups at once; then whatever left them, or has none.
        let grouped = if look.displaced {
            Ok(0)
        } else {
            cgroups::end(&self.run, self.boot, &|_| true)
        };
        let mut nothing = false;
        let failed = self.wanted(look, |wanted| {
            nothing = wanted.end()? == 0;
            Ok(false)
        });
        match grouped {
            Ok(n) => nothing &= n == 0,
            // One that may not be ended as a whole is ended process by process.
            Err(e) => self.alarm(format!("a control group cannot be ended: {e}")),
        }
        // After the processes, which end at once; nothing here waits for an agent.
        match self.resources.end(look.displaced) {
            Ok(left) => nothing &= left == 0,
            Err(why) => {
                nothing = false;
                self.alarm(why);
            }
        }
        if failed {
            nothing = false;
        }
        for known in self.known.values_mut() {
            known.empty = if nothing {
                (known.empty + 1).min(EMPTY_ROUNDS)
            } else {
                0
            };
        }
        self.strays = !nothing;
        self.swept = Clock.now();
    }

    /// Does something with all guests of this directory; `true` if it fails, too.
    fn wanted(&mut self, look: &Look, act: impl FnOnce(&Wanted<'_>) -> io::Result<bool>) -> bool {
        let records: Vec<GuestRecord> = self.known.values().filter_map(|k| k.record).collect();
        // In another's directory the marks belong to the guests of that one.
        let mine = !look.displaced || !self.run.path().exists();
        let wanted = Wanted {
            dir: self.run.path(),
            records: &records,
            marked: &|_| mine,
        };
        act(&wanted).unwrap_or_else(|e| {
            self.alarm(format!("guests cannot be ended: {e}"));
            true
        })
    }

    fn alarm(&mut self, why: String) {
        self.state.alarm = Some(why);
    }

    /// Writes who it is, if that changed. A full disk must not keep it from its duty.
    fn publish(&mut self) {
        if self.written.as_ref() != Some(&self.state)
            && records::write(&self.run.guardian_state(), &self.state).is_ok()
        {
            self.written = Some(self.state.clone());
        }
    }
}

/// Whether a guest whose registration vanished has processes left. In doubt it has.
fn left(dir: &Path, record: GuestRecord) -> bool {
    if leader(&record).is_some() {
        return true;
    }
    let wanted = Wanted {
        dir,
        records: &[record],
        marked: &|marks| marks == Some((record.guest, record.epoch)),
    };
    Scan::take(Some(dir)).map_or(true, |scan| !wanted.among(&scan).is_empty())
}
