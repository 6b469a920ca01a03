//! The guardian process: ends every guest when the lease is over, whatever becomes of the daemon.
//!
//! What ends guests is ordered by what may hang. First their groups and their held leaders, which
//! needs no look at any other process; then, on a thread of its own, what is found by looking
//! through all of them; and above both a thread that looks at numbers only and resets the host
//! (`insist.rs`) when something is left.

use super::arguments::{Arguments, parse};
use super::drill::{self, Drill};
use super::feeder;
use super::insist::{self, Round, Word};
use super::known::{EMPTY_ROUNDS, Known, Leader, Strays};
use super::limits::Limits;
use super::processes::Process;
use super::pulse::Raise;
use super::records::{self, Entry, GUARDIAN_VERSION, GuardianState, GuestRecord, RunDir};
use super::reset::{Means, Reach};
use super::resources::Resources;
use super::schedule::{apart, realtime, sleep_until};
use super::search::Search;
use crate::clock::{self, Clock};
use quorate_fencing::guardian::{Act, Feed, Feeding, Guardian as Rules, Sight};
use quorate_membership::entry::{Armed, ArmedClass};
use quorate_membership::{BootId, Time};
use rustix::fs::{FlockOperation, flock};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, geteuid, getrlimit, setrlimit, setsid};
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

/// How long a new guardian waits for one that is just going.
const LOCK_WAIT: Duration = Duration::from_millis(300);
/// Exit status of a guardian that found another in office.
const REFUSED: u8 = 75;

/// `quorate guardian --run-dir DIR [--lease-check MS] [--boot-id-file FILE] [--note FILE]
/// [--unit] [--watchdog DEVICE]`: starts a guardian
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
    let done = if arguments.detached || arguments.unit {
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

pub(super) struct Guard {
    pub(super) run: RunDir,
    pub(super) boot: BootId,
    lock: File,
    check: Duration,
    pub(super) rules: Rules,
    feed: Feed,
    /// The last moment at which something was there that could write.
    quiet: Time,
    pub(super) known: BTreeMap<PathBuf, Known>,
    pub(super) resources: Resources,
    pub(super) search: Search,
    /// Answers below this number say nothing about the ending that has begun.
    pub(super) valid: u64,
    pub(super) word: Arc<Word>,
    limits: Option<Limits>,
    pub(super) state: GuardianState,
    written: Option<GuardianState>,
    pub(super) swept: Time,
    pub(super) strays: Strays,
    /// Processes that agents started are left.
    pub(super) agents: bool,
    /// Groups that held something when all were ended last, and when they are ended again.
    pub(super) groups: (usize, Time),
    /// The lease end that is being carried out, and when that began.
    pub(super) ending: Option<(Time, Time)>,
    pulse: Raise,
    leave: Arc<AtomicBool>,
}

/// What a look at the run directory showed.
pub(super) struct Look {
    pub(super) lease_end: Option<Time>,
    pub(super) intents: Vec<PathBuf>,
    /// The registry could not be read.
    pub(super) blind: bool,
    /// The directory is gone, or another lies in its place.
    pub(super) displaced: bool,
}

impl Guard {
    fn take_office(arguments: &Arguments) -> io::Result<Guard> {
        let boot = clock::boot_id(&arguments.boot_id_file)?;
        let run = if arguments.unit {
            RunDir::create(&arguments.run_dir)?
        } else {
            RunDir::open(&arguments.run_dir)?
        };
        apart();
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
        room_for_handles();
        let me = Process::me()?;
        // By this name it is found whatever became of its file, and of the disk that lies on.
        let program = Path::new("/proc/self/exe");
        let locked_in_memory = mlockall(flags).is_ok();
        // Before any thread is started: they inherit it.
        let realtime = realtime();
        let means = Means::open(arguments.unit, boot, arguments.note.clone())?;
        let state = GuardianState {
            pid: me.pid,
            start: me.start,
            boot,
            locked_in_memory,
            realtime,
            endings: 0,
            reach: means.reach().clone(),
            last_end_ms: None,
            alarm: None,
            version: GUARDIAN_VERSION,
            unit: arguments.unit,
        };
        let word = Arc::new(Word::new(Clock.now(), arguments.check));
        insist::start(Arc::clone(&word), means)?;
        if let (Some(device), Reach::Machine { .. }) = (&arguments.watchdog, &state.reach) {
            feeder::start(Arc::clone(&word), device.clone())?;
        }
        Ok(Guard {
            resources: Resources::new(run.clone(), boot, program),
            search: Search::start(&run)?,
            check: arguments.check,
            rules: Rules::new(),
            feed: Feed::new(),
            quiet: Time::ZERO,
            valid: 0,
            word,
            limits: None,
            pulse: Raise::begin(&run, boot, armed(&state.reach)),
            state,
            run,
            boot,
            lock,
            known: BTreeMap::new(),
            written: None,
            swept: Time::ZERO,
            strays: Strays::No,
            agents: false,
            groups: (0, Time::ZERO),
            ending: None,
            leave,
        })
    }

    fn serve(&mut self) -> ExitCode {
        loop {
            let mut look = self.look();
            if !look.displaced {
                self.publish();
                self.pulse.raise(armed(&self.state.reach));
            }
            let mut now = Clock.now();
            if !look.displaced && look.lease_end.is_some_and(|end| now >= end) {
                // This process may have been held up since it read the record.
                look.lease_end = self.run.lease_end(self.boot).ok();
                now = Clock.now();
            }
            let over = look.lease_end.is_none_or(|end| now >= end);
            self.hear(&look);
            self.wonder(&look, over, now);
            let resources = self.resources.left(look.displaced);
            let guests = self.strays != Strays::No
                || look.blind
                || resources
                || self.known.values().any(|k| !k.ended());
            let kill = Limits::kill(self.limits);
            let sight = Sight {
                now: Duration::from_nanos(now.0),
                lease_end: look.lease_end.map(|end| Duration::from_nanos(end.0)),
                armed: true,
                guests: usize::from(guests),
                pending: look.intents.len(),
                kill,
            };
            let act = self.rules.see(&sight);
            let idle = !guests && look.intents.is_empty();
            if !idle {
                self.quiet = now;
            }
            let drill = idle && over && self.drill(&look, now);
            let round = Round {
                now,
                lease_end: look.lease_end,
                left: drill || self.left(&look),
                due: self.rules.reset_due(kill).or(drill.then_some(sight.now)),
                kill,
                feed_until: self.feeding(&sight),
            };
            self.word.say(&round);
            match act {
                Act::Kill { again } | Act::Reset { again } => {
                    if self.ending.is_none() {
                        self.begin(&look, now);
                    }
                    self.end(&look, kill);
                    // A reset is the other thread's; what is left is ended further all the same.
                    let soon = now + quorate_fencing::guardian::KILL_AGAIN;
                    sleep_until(time(again).min(soon).max(Clock.now()));
                }
                Act::Idle | Act::WaitUntil(_) => {
                    self.ended(now, kill);
                    // Nobody can stop it while there is something to guard.
                    let told = self.leave.load(Ordering::Relaxed);
                    if idle && (told || look.displaced) && self.may_go(&sight) {
                        return ExitCode::SUCCESS;
                    }
                    let next = now + self.check;
                    sleep_until(match act {
                        Act::WaitUntil(end) => next.min(time(end)),
                        _ => next,
                    });
                }
            }
        }
    }

    fn begin(&mut self, look: &Look, now: Time) {
        self.state.endings += 1;
        self.ending = Some((look.lease_end.unwrap_or(now), now));
        self.valid = self.search.next();
        self.strays = Strays::Unknown;
        self.groups = (0, Time::ZERO);
        self.known.values_mut().for_each(|k| k.empty = 0);
        self.resources.begin();
    }

    /// An ending is over, if there was one: one that took long is told.
    fn ended(&mut self, now: Time, kill: Duration) {
        let Some((over, began)) = self.ending.take() else {
            return;
        };
        // What came after the lease end is counted from then on.
        let took = now.since(if began > over + kill { began } else { over });
        self.state.last_end_ms = Some(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        if took > kill / 2 {
            self.alarm(format!(
                "ending the guests took {took:.1?} of the {kill:.1?} that the cluster reckons with"
            ));
        }
    }

    /// Until when the watchdog is fed; `None`: for as long as this guardian gets on.
    fn feeding(&mut self, sight: &Sight) -> Option<Time> {
        let may = if self.word.slipped() {
            self.feed.fed(sight)
        } else {
            self.feed.may(sight)
        };
        match may {
            Feeding::Hold => Some(Time::ZERO),
            Feeding::Feed if sight.guests == 0 && sight.pending == 0 => None,
            Feeding::Feed => Some(sight.lease_end.map_or(Time::ZERO, time)),
        }
    }

    /// Whether this guardian may end: a watchdog is closed before.
    fn may_go(&mut self, sight: &Sight) -> bool {
        let Reach::Machine {
            watchdog: Some(_), ..
        } = &self.state.reach
        else {
            return true;
        };
        let now = Time(u64::try_from(sight.now.as_nanos()).unwrap_or(u64::MAX));
        let drained = now >= self.quiet + Limits::drain(self.limits);
        self.feed.may_close(sight, drained) && self.word.close()
    }

    /// Whether somebody wants to see this host reset, now that nothing is on it.
    fn drill(&self, look: &Look, now: Time) -> bool {
        let wanted = !look.displaced && Drill::wanted(&self.run, self.boot, now);
        if wanted {
            self.word.left(drill::WHY.to_owned());
        }
        wanted
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
        self.limits = Limits::read(&self.run, self.boot).or(self.limits);
        if let Some(limits) = self.limits {
            self.word
                .set_timeout(Duration::from_millis(limits.watchdog_ms));
        }
        match self.word.watchdog_news() {
            Some(Ok(seen)) => {
                if let Reach::Machine { watchdog, .. } = &mut self.state.reach {
                    *watchdog = Some(seen);
                }
            }
            Some(Err(why)) => self.alarm(why),
            None => {}
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

    pub(super) fn refresh(&mut self, entries: &[(PathBuf, Entry)]) {
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
            let record = record.filter(|_| !foreign);
            let same = self.known.get(path).filter(|k| k.inode == inode);
            let known = Known {
                leader: Leader::of(record.as_ref()),
                empty: same.map_or(if foreign { EMPTY_ROUNDS } else { 0 }, |k| k.empty),
                record,
                inode,
                vanished: None,
            };
            self.known.insert(path.clone(), known);
        }
        // A file may vanish without its processes: then they are remembered.
        let next = self.search.next();
        self.known.retain(|path, known| {
            known.vanished = match there.contains_key(path) {
                true => None,
                false => known.vanished.or(Some(next)),
            };
            // Without a record only its marks led to it, and those are swept for.
            known.vanished.is_none() || known.record.is_some() && !known.ended()
        });
    }

    pub(super) fn alarm(&mut self, why: String) {
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

fn time(since_boot: Duration) -> Time {
    Time(u64::try_from(since_boot.as_nanos()).unwrap_or(u64::MAX))
}

/// One handle for each guest is held.
fn room_for_handles() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// What stands behind the lease while this process does.
fn armed(reach: &Reach) -> Armed {
    let watched = matches!(
        reach,
        Reach::Machine {
            watchdog: Some(_),
            ..
        }
    );
    Armed {
        class: if watched {
            ArmedClass::Watchdog
        } else {
            ArmedClass::Guardian
        },
        reset: !matches!(reach, Reach::Nothing(_)),
    }
}
