//! The built-in hypervisor: a guest is a process tree.
//!
//! What there is lies in the run directory and in `/proc`, never only in this process: a daemon
//! that comes back finds its guests as the one before it left them.

mod watch;

use super::launch::{SUBCOMMAND, launching};
use super::{Driver, Gate, Gone, Notice};
use super::{Turns, lock};
use crate::clock::Clock;
use crate::guardian::cgroups;
use crate::guardian::processes::{self, Process, Scan, Wanted, leader};
use crate::guardian::records::{self, Entry, GoRecord, GuestRecord, IntentRecord, RunDir};
use quorate_membership::{BootId, Time, Token};
use quorate_recovery::contract::GuestSeen;
use quorate_recovery::guest::{Definition, GuestId, GuestSpec};
use ring::rand::{SecureRandom, SystemRandom};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// Between two looks while something is waited for.
const LOOK: Duration = Duration::from_millis(2);
/// Between two rounds of an ending.
const REPEAT: Duration = Duration::from_millis(10);
/// One scan of `/proc` is no snapshot: this many must find nothing.
const EMPTY_ROUNDS: u8 = 2;
/// Between two looks for processes that carry the marks and are not registered.
const SWEEP: Duration = Duration::from_secs(10);

/// How the driver is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The quorate program itself; guests begin as one of it.
    pub program: PathBuf,
    /// Where daemon, guardian and guests meet.
    pub run: RunDir,
    /// The present boot.
    pub boot: BootId,
    /// This host's name, told to guests.
    pub host: String,
    /// A directory for what guests print, one file each, begun anew at every start; it grows as
    /// the guest prints. Without one it is thrown away.
    pub logs: Option<PathBuf>,
}

/// Guest and epoch: one life of a guest.
type Life = (GuestId, Token);

/// The built-in hypervisor.
#[derive(Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    /// Leaders this process started, to take note of their ends.
    children: Mutex<BTreeMap<Life, Child>>,
    /// One call at a time for each guest; who looks after ended ones steps back.
    turns: Turns,
    /// Marked processes without a registration, and when they were last looked for.
    strays: Mutex<(Time, Vec<(Process, Life)>)>,
}

fn words(e: io::Error) -> String {
    e.to_string()
}

/// What the registry holds of one life.
#[derive(Clone, Copy)]
struct Registered {
    life: Life,
    /// `None` if the file cannot be read: only the marks lead to its processes then.
    record: Option<GuestRecord>,
}

impl Embedded {
    /// Takes the run directory over: starts that an earlier daemon left under way are called off,
    /// guests that run are kept.
    ///
    /// # Errors
    /// The registry cannot be read or written.
    pub fn new(settings: Settings) -> io::Result<Embedded> {
        for (path, entry) in settings.run.entries()? {
            if matches!(entry, Entry::Intent(..)) {
                records::remove(&path)?;
            }
        }
        match cgroups::available(&settings.run) {
            Ok(base) => tracing::info!("guests have control groups below {}", base.display()),
            Err(why) => tracing::warn!("guests have no control groups of their own: {why}"),
        }
        let inner = Inner {
            settings,
            children: Mutex::default(),
            turns: Turns::default(),
            strays: Mutex::default(),
        };
        Ok(Embedded {
            inner: Arc::new(inner),
        })
    }
}

impl Inner {
    fn run(&self) -> &RunDir {
        &self.settings.run
    }

    fn turn(&self, guest: GuestId) -> Arc<Mutex<()>> {
        self.turns.of(guest)
    }

    fn scan(&self) -> Result<Scan, String> {
        Scan::take(Some(self.run().path())).map_err(words)
    }

    /// Everything registered.
    fn registered(&self) -> Result<Vec<Registered>, String> {
        let entries = self.run().entries().map_err(words)?;
        let mut found = Vec::new();
        for (path, entry) in entries {
            let Entry::Guest(guest, epoch) = entry else {
                continue;
            };
            let record = match records::read::<GuestRecord>(&path) {
                Ok(None) => continue,
                Ok(Some(r)) if (r.guest, r.epoch) == (guest, epoch) => Some(r),
                Ok(Some(_)) => None,
                Err(why) => {
                    tracing::error!("{why}");
                    None
                }
            };
            // A domain of libvirt is that driver's; only the guardian ends both kinds.
            if let Some(r) = record
                && self.exists(&self.run().domain(guest, epoch, r.draw))?
            {
                continue;
            }
            let life = (guest, epoch);
            found.push(Registered { life, record });
        }
        Ok(found)
    }

    /// The registration of one life as it stands, of whatever boot.
    fn record_of(&self, life: Life) -> Option<GuestRecord> {
        records::read(&self.run().guest(life.0, life.1)).ok()?
    }

    /// The registration of one life, if it can be read and is of this boot.
    fn record(&self, guest: GuestId, epoch: Token) -> Result<GuestRecord, String> {
        let record = records::read::<GuestRecord>(&self.run().guest(guest, epoch))?;
        record
            .filter(|r| r.boot == self.settings.boot && (r.guest, r.epoch) == (guest, epoch))
            .ok_or_else(|| format!("{guest} epoch {epoch} is not on this host"))
    }

    /// Its processes that are not gone.
    fn members(&self, of: &Registered, scan: &Scan) -> BTreeSet<i32> {
        let marked = |life| life == of.life;
        self.with_wanted(std::slice::from_ref(of), &marked, |w| w.among(scan))
    }

    fn with_wanted<T>(
        &self,
        of: &[Registered],
        marked: &dyn Fn(Life) -> bool,
        act: impl FnOnce(&Wanted<'_>) -> T,
    ) -> T {
        let records: Vec<GuestRecord> = of
            .iter()
            .filter_map(|r| r.record)
            .filter(|r| r.boot == self.settings.boot)
            .collect();
        act(&Wanted {
            dir: self.run().path(),
            records: &records,
            marked: &|marks| marks.is_some_and(marked),
        })
    }

    /// Takes note of the end of a leader this process started: its exit status in words.
    fn reap(&self, life: Life) -> Option<String> {
        let mut children = lock(&self.children);
        match children.get_mut(&life)?.try_wait() {
            Ok(Some(status)) => {
                children.remove(&life);
                Some(status.to_string())
            }
            Ok(None) => None,
            Err(e) => {
                children.remove(&life);
                Some(format!("exit status unknown: {e}"))
            }
        }
    }

    /// Ends every process of the lives of `guest` that `meant` names, and forgets them. It looks
    /// until `gate` gives up.
    fn end_lives(
        &self,
        guest: GuestId,
        meant: &dyn Fn(Token) -> bool,
        gate: &Gate,
    ) -> Result<(), String> {
        let mut empty = 0;
        loop {
            // A start under way is called off, or is registered by the time the registry is read.
            for (path, entry) in self.run().entries().map_err(words)? {
                if matches!(entry, Entry::Intent(g, e) if g == guest && meant(e)) {
                    records::remove(&path).map_err(words)?;
                    empty = 0;
                }
            }
            let mut lives = self.registered()?;
            lives.retain(|r| r.life.0 == guest && meant(r.life.1));
            let marked = |(g, e): Life| g == guest && meant(e);
            let boot = self.settings.boot;
            let found = cgroups::end_with(self.run(), boot, &marked, || {
                self.with_wanted(&lives, &marked, |w| w.end())
            });
            for life in &lives {
                self.reap(life.life);
            }
            match &found {
                Ok(0) => empty += 1,
                Ok(_) => empty = 0,
                Err(e) => {
                    empty = 0;
                    tracing::error!("{guest}: {e}");
                }
            }
            if empty >= EMPTY_ROUNDS {
                cgroups::release(self.run(), boot, &marked).map_err(words)?;
                return lives
                    .iter()
                    .try_for_each(|r| self.run().forget(r.life.0, r.life.1).map_err(words));
            }
            if Clock.now() >= gate.give_up() {
                return Err(match found {
                    Ok(n) => format!("{n} processes are still there"),
                    Err(e) => e.to_string(),
                });
            }
            std::thread::sleep(if empty > 0 { LOOK } else { REPEAT });
        }
    }

    fn spawn(&self, life: Life, intent: &Path) -> Result<(), String> {
        let (guest, epoch) = life;
        let output = || match &self.settings.logs {
            None => Ok(Stdio::null()),
            Some(dir) => {
                let path = dir.join(format!("{:016x}-{:016x}.log", guest.0, epoch.0));
                File::options()
                    .append(true)
                    .create(true)
                    .open(&path)
                    .map(Stdio::from)
                    .map_err(|e| format!("{}: {e}", path.display()))
            }
        };
        if let Some(dir) = &self.settings.logs {
            let path = dir.join(format!("{:016x}-{:016x}.log", guest.0, epoch.0));
            File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        let program = &self.settings.program;
        let child = Command::new(program)
            .arg(SUBCOMMAND)
            .arg(self.run().path())
            .arg(intent)
            // Marked from its first instant.
            .env_clear()
            .env(records::MARK_DIR, self.run().path())
            .env(records::MARK_GUEST, format!("{:016x}", guest.0))
            .env(records::MARK_EPOCH, format!("{:016x}", epoch.0))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output()?)
            .stderr(output()?)
            .spawn()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        lock(&self.children).insert(life, child);
        Ok(())
    }

    /// Waits until the new leader is registered and holds itself.
    fn await_held(&self, life: Life, gate: &Gate) -> Result<(), String> {
        loop {
            if let Some(status) = self.reap(life) {
                let why = self.record(life.0, life.1).ok();
                let why = why.and_then(|r| fs::read_to_string(self.run().why(&r)).ok());
                return Err(format!(
                    "it ended before it was created ({status}): {}",
                    why.as_deref()
                        .unwrap_or("its start was called off or could not register")
                ));
            }
            if let Ok(record) = self.record(life.0, life.1)
                && leader(&record).is_some_and(|p| p.stopped())
            {
                return Ok(());
            }
            gate.pass()?;
            if Clock.now() >= gate.give_up() {
                return Err("it was not created in time".into());
            }
            std::thread::sleep(LOOK);
        }
    }

    fn exists(&self, path: &Path) -> Result<bool, String> {
        path.try_exists()
            .map_err(|e| format!("{}: {e}", path.display()))
    }

    /// What a poll says of one life; `None` if nothing of it is left.
    fn seen(&self, of: &Registered, scan: &Scan) -> Result<Option<GuestSeen>, String> {
        let members = self.members(of, scan);
        if members.is_empty() {
            // What hides from every mark is in its group still.
            let hides = cgroups::populated(self.run(), self.settings.boot, of.life);
            return Ok(hides.then_some(GuestSeen {
                guest: of.life.0,
                epoch: of.life.1,
                paused: false,
            }));
        }
        let held = of.record.map(|r| self.exists(&self.run().held(&r)));
        let held = held.transpose()?.unwrap_or(false);
        Ok(Some(GuestSeen {
            guest: of.life.0,
            epoch: of.life.1,
            // Held is what executes nothing: one running member makes it a running guest.
            paused: held || scan.running(&members).is_empty(),
        }))
    }

    /// Guests that run although nobody registered them: somebody removed the file.
    fn unregistered(&self, registered: &[Registered], scan: &Scan) -> Vec<GuestSeen> {
        let known: BTreeSet<Life> = registered.iter().map(|r| r.life).collect();
        let mut strays = lock(&self.strays);
        if !scan.marked.is_empty() {
            let marked = scan
                .marked
                .iter()
                .filter_map(|(pid, m)| Some((*pid, (*m)?)));
            strays.1 = marked
                .filter_map(|(pid, life)| Some((*scan.get(pid)?, life)))
                .filter(|(p, life)| !known.contains(life) && !launching(p.pid))
                .collect();
        }
        strays.1.retain(|(p, life)| {
            let there = scan.get(p.pid).filter(|now| now.start == p.start);
            let registered = self.run().guest(life.0, life.1).exists();
            !registered && there.is_some_and(|now| !now.gone())
        });
        let lives: BTreeSet<Life> = strays.1.iter().map(|(_, life)| *life).collect();
        let seen = lives.into_iter().map(|(guest, epoch)| GuestSeen {
            guest,
            epoch,
            paused: false,
        });
        seen.collect()
    }
}

impl Driver for Embedded {
    fn create(
        &self,
        guest: GuestId,
        epoch: Token,
        spec: &GuestSpec,
        gate: &Gate,
    ) -> Result<(), String> {
        let inner = &self.inner;
        let life = (guest, epoch);
        spec.check()?;
        let turn = inner.turn(guest);
        let _turn = lock(&turn);
        let scan = inner.scan()?;
        for other in inner.registered()? {
            if other.life.0 != guest {
                continue;
            }
            match inner.seen(&other, &scan)? {
                None => inner.run().forget(guest, other.life.1).map_err(words)?,
                Some(seen) if other.life == life && seen.paused => return Ok(()),
                Some(seen) => {
                    let how = if seen.paused { "is held" } else { "runs" };
                    return Err(format!("{guest} {how} here under epoch {}", other.life.1));
                }
            }
        }
        let Definition::Command { argv, env, .. } = &spec.definition else {
            return Err("the built-in hypervisor runs commands, and this guest is none".into());
        };
        let plan = IntentRecord {
            guest,
            epoch,
            boot: inner.settings.boot,
            name: spec.name.clone(),
            host: inner.settings.host.clone(),
            argv: argv.clone(),
            env: env.clone(),
        };
        let intent = inner.run().intent(guest, epoch, draw()?);
        gate.pass()?;
        records::write(&intent, &plan).map_err(words)?;
        let done = gate
            .pass()
            .and_then(|()| inner.spawn(life, &intent))
            .and_then(|()| inner.await_held(life, gate));
        if done.is_err() {
            // Nothing of a start that failed may come to life later.
            let rest = Gate::new(None, Clock.now() + Duration::from_secs(2));
            let undone = records::remove(&intent).map_err(words);
            undone.and_then(|_| inner.end_lives(guest, &|e| e == epoch, &rest))?;
        }
        done
    }

    fn resume(&self, guest: GuestId, epoch: Token, gate: &Gate) -> Result<(), String> {
        let inner = &self.inner;
        let turn = inner.turn(guest);
        let _turn = lock(&turn);
        let record = inner.record(guest, epoch)?;
        let (held, go) = (inner.run().held(&record), inner.run().go(&record));
        let of = Registered {
            life: (guest, epoch),
            record: Some(record),
        };
        if inner.exists(&held)? {
            gate.pass()?;
            // The new leader compares this with the clock itself, right before it goes on.
            let not_after = gate.not_after();
            records::write(&go, &GoRecord { not_after }).map_err(words)?;
        }
        loop {
            let first = leader(&record).ok_or("its first process is gone")?;
            let held = inner.exists(&held)?;
            let scan = inner.scan()?;
            let members = inner.members(&of, &scan);
            let members = members.iter().filter_map(|pid| scan.get(*pid));
            let stopped: Vec<&Process> = members.filter(|p| p.stopped()).collect();
            if !held && stopped.is_empty() && !launching(first.pid) {
                return Ok(());
            }
            let may = gate.pass();
            if may.is_err() || Clock.now() >= gate.give_up() {
                records::remove(&go).map_err(words)?;
                return may.and(Err("it did not go on in time".into()));
            }
            for process in stopped {
                processes::signal(process, Signal::CONT).map_err(words)?;
            }
            std::thread::sleep(LOOK);
        }
    }

    fn pause(&self, guest: GuestId, epoch: Token, gate: &Gate) -> Result<(), String> {
        let inner = &self.inner;
        let turn = inner.turn(guest);
        let _turn = lock(&turn);
        let record = inner.record(guest, epoch)?;
        let of = Registered {
            life: (guest, epoch),
            record: Some(record),
        };
        loop {
            let scan = inner.scan()?;
            let members = inner.members(&of, &scan);
            if members.is_empty() {
                return Err("it is gone".into());
            }
            let running = scan.running(&members);
            if running.is_empty() {
                return Ok(());
            }
            gate.pass()?;
            for process in &running {
                processes::signal(process, Signal::STOP).map_err(words)?;
            }
            if Clock.now() >= gate.give_up() {
                return Err("it was not held in time".into());
            }
            std::thread::sleep(LOOK);
        }
    }

    fn end(&self, guest: GuestId, epoch: Token, gate: &Gate) -> Result<(), String> {
        let turn = self.inner.turn(guest);
        let _turn = lock(&turn);
        gate.pass()?;
        self.inner.end_lives(guest, &|e| e <= epoch, gate)
    }

    fn list(&self) -> Result<Vec<GuestSeen>, String> {
        let inner = &self.inner;
        let registered = inner.registered()?;
        // Read after the registry: whoever registered is among the processes.
        let now = Clock.now();
        let sweep = {
            let mut strays = lock(&inner.strays);
            let due = now >= strays.0 + SWEEP || strays.0 == Time::ZERO;
            if due {
                strays.0 = now;
            }
            due
        };
        let mut scan = Scan::take(sweep.then_some(inner.run().path())).map_err(words)?;
        let mut seen = Vec::new();
        for of in &registered {
            let mut one = inner.seen(of, &scan)?;
            if one.is_none() && !sweep {
                // Its group is empty; what left the group shows only by its marks.
                scan = inner.scan()?;
                one = inner.seen(of, &scan)?;
            }
            seen.extend(one);
        }
        seen.extend(inner.unregistered(&registered, &scan));
        Ok(seen)
    }

    fn watch(&self, gone: UnboundedSender<Notice>) -> Result<(), String> {
        let inner = Arc::downgrade(&self.inner);
        std::thread::Builder::new()
            .name("guests".into())
            .spawn(move || watch::watch(&inner, &gone))
            .map(|_| ())
            .map_err(words)
    }
}

/// A number for a start.
pub(crate) fn draw() -> Result<u64, String> {
    let mut bytes = [0; 8];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(u64::from_le_bytes(bytes))
}
