//! The driver: creates, starts, stops and lists resources through their agents.

use super::agent;
use super::call::{Cancel, call};
use super::describe::Version;
use super::keeper::{Answer, Job, marks};
use super::metadata::Metadata;
use super::registry::{self, Known, Life, Registration};
use super::slot::{Op, Slot};
use super::watch;
use crate::agents::{AgentEnding, AgentExit};
use crate::clock::Clock;
use crate::guardian::cgroups;
use crate::guardian::records::{self, RunDir};
use crate::hypervisor::{Driver, Gate, Gone, Notice};
use crate::hypervisor::{Turns, lock};
use quorate_membership::{BootId, Time, Token};
use quorate_recovery::contract::GuestSeen;
use quorate_recovery::guest::{GuestId, GuestSpec};
use quorate_recovery::observation::Cause;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// How long an operator waits for what is to be known of a resource.
const NOTES: Duration = Duration::from_secs(10);
/// How long forgetting waits for the guardian's own stop to end.
const FORGET: Duration = Duration::from_secs(2);
/// How long the last process of a control group may take to leave it.
const UNGROUP: Duration = Duration::from_millis(500);

/// How the driver is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The quorate program itself: agents' keepers are one of it.
    pub program: PathBuf,
    /// Where daemon, guardian and guests meet.
    pub run: RunDir,
    /// The present boot.
    pub boot: BootId,
    /// This host's name, told to agents.
    pub host: String,
    /// Directories with a directory per provider in each, in order.
    pub dirs: Vec<PathBuf>,
    /// K: a resource that is not seen stopped so long after the lease end makes the guardian reset
    /// this host. `None`: the host is never reset, and nothing but hope stops such a resource.
    pub kill: Option<Duration>,
}

/// Resources, through their agents.
#[derive(Clone)]
pub struct Ocf {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) settings: Settings,
    slots: Mutex<BTreeMap<Life, Arc<Slot>>>,
    /// One order at a time for each guest; who looks after ended ones steps back.
    turns: Turns,
    pub(super) metadata: Mutex<BTreeMap<Version, Metadata>>,
    pub(super) tell: Mutex<Option<UnboundedSender<Notice>>>,
}

fn words(e: io::Error) -> String {
    e.to_string()
}

impl Ocf {
    /// A driver over what the run directory holds: resources that run are kept.
    ///
    /// # Errors
    /// The run directory cannot be written.
    pub fn new(settings: Settings) -> io::Result<Ocf> {
        let temporary = settings.run.path().join("ocf");
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o755).create(&temporary)?;
        Ok(Ocf {
            inner: Arc::new(Inner {
                settings,
                slots: Mutex::default(),
                turns: Turns::default(),
                metadata: Mutex::default(),
                tell: Mutex::default(),
            }),
        })
    }

    /// What the operator should know of a resource before it is added; nothing is changed.
    ///
    /// # Errors
    /// The agent is not on this host, or says that it cannot do with these parameters.
    pub fn notes(&self, spec: &GuestSpec) -> Result<Vec<String>, String> {
        spec.check()?;
        let inner = &self.inner;
        let give_up = Clock.now() + NOTES;
        let (of, metadata) = inner.described((GuestId(0), Token::NONE), spec, give_up)?;
        Ok(inner.notes(&of, &metadata))
    }
}

impl Inner {
    pub(super) fn slot(&self, life: Life) -> Arc<Slot> {
        Arc::clone(lock(&self.slots).entry(life).or_default())
    }

    pub(super) fn turn(&self, guest: GuestId) -> Arc<Mutex<()>> {
        self.turns.of(guest)
    }

    pub(super) fn known(&self) -> Result<Vec<Known>, String> {
        registry::known(&self.settings.run).map_err(words)
    }

    pub(super) fn path(&self, of: &Registration) -> PathBuf {
        of.path(&self.settings.run)
    }

    fn call(&self, of: &Registration, job: &Job, until: Time, cancel: &Cancel) -> Answer {
        let marks = marks(&self.settings.run, of);
        call(&self.settings.program, &marks, job, until, cancel)
    }

    /// Runs one action that changes nothing.
    pub(super) fn look(
        &self,
        of: &Registration,
        action: &str,
        limit: Duration,
        every: Duration,
        hold: bool,
        cancel: &Cancel,
    ) -> AgentExit {
        let until = Clock.now() + limit;
        let job = Job::Run {
            of: Box::new(of.clone()),
            action: action.to_owned(),
            until,
            every,
            hold: hold.then(|| self.path(of)),
        };
        match self.call(of, &job, until, cancel) {
            Answer::Ran(exit) => exit,
            Answer::Stopped(_) => AgentExit::not_started("its keeper answered something else"),
        }
    }

    pub(super) fn stop(&self, of: &Registration, cancel: &Cancel) -> Result<(), String> {
        let limit = Duration::from_millis(of.stop_ms);
        let until = Clock.now() + limit;
        let job = Job::Stop {
            run: self.settings.run.path().to_path_buf(),
            registration: self.path(of),
            until,
        };
        let look = until + Duration::from_millis(of.monitor_ms) + FORGET;
        match self.call(of, &job, look, cancel) {
            Answer::Stopped(result) => result,
            Answer::Ran(exit) => Err(agent::words("stop", &exit)),
        }
    }

    /// Starts it; one that does not start is stopped again, and is gone.
    fn start(&self, of: &Registration, not_after: Time, cancel: &Cancel) -> Result<(), String> {
        let until = Clock.now() + Duration::from_millis(of.start_ms);
        let job = Job::Start {
            run: self.settings.run.path().to_path_buf(),
            registration: self.path(of),
            not_after,
            until,
        };
        let exit = match self.call(of, &job, until, cancel) {
            Answer::Ran(exit) => exit,
            Answer::Stopped(_) => AgentExit::not_started("its keeper answered something else"),
        };
        let done = agent::done("start", &exit);
        let Err(why) = &done else {
            return Ok(());
        };
        if cancel.cancelled() {
            return Err("it was called off".into());
        }
        if !matches!(exit.ending, AgentEnding::NotStarted(_)) {
            self.gone(of, why, cancel);
        }
        done
    }

    /// Stops what is left of a resource that has failed, forgets it, and says so.
    pub(super) fn gone(&self, of: &Registration, how: &str, cancel: &Cancel) {
        let path = self.path(of);
        let done = self.stop(of, cancel).and_then(|()| {
            if cancel.cancelled() {
                return Err("called off".into());
            }
            self.forget(&path)
        });
        match done {
            Ok(()) => {
                if let Some(tell) = &*lock(&self.tell) {
                    let _ = tell.send(Notice::Gone(Gone {
                        guest: of.guest,
                        epoch: of.epoch,
                        how: how.to_owned(),
                        cause: Cause::Died,
                    }));
                }
            }
            Err(left) => tracing::error!("{}: {how}; and what is left of it: {left}", of.name),
        }
    }

    /// Forgets a registration, once nobody acts on it.
    pub(super) fn forget(&self, path: &std::path::Path) -> Result<(), String> {
        match registry::hold(path, Clock.now() + FORGET, &|| false)? {
            Some(held) => {
                let of = records::read::<Registration>(path);
                if let Ok(Some(of)) = of {
                    self.ungroup(&of)?;
                }
                registry::forget(&held, path).map_err(words)
            }
            None => Ok(()),
        }
    }

    /// Removes the control group of a resource, once the last keeper has left it.
    fn ungroup(&self, of: &Registration) -> Result<(), String> {
        let until = Clock.now() + UNGROUP;
        loop {
            let done = cgroups::release(&self.settings.run, of.boot, &|life| life == of.life());
            match done {
                Err(_) if Clock.now() < until => std::thread::sleep(Duration::from_millis(5)),
                done => return done.map_err(words),
            }
        }
    }

    /// The registration of one life of this boot.
    fn standing(&self, life: Life) -> Result<Registration, String> {
        let known = self.known()?.into_iter().find(|k| k.life == life);
        let known =
            known.ok_or_else(|| format!("{} epoch {} is not on this host", life.0, life.1))?;
        let of = known.registration?;
        if of.boot != self.settings.boot {
            return Err(format!("{} epoch {} is of another boot", life.0, life.1));
        }
        Ok(of)
    }

    fn stopped(self: &Arc<Inner>, of: Registration, give_up: Time) -> Result<(), String> {
        let this = Arc::clone(self);
        let slot = self.slot(of.life());
        slot.perform(Op::Stop, give_up, move |cancel| this.stop(&of, cancel))
    }
}

impl Driver for Ocf {
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
        gate.pass()?;
        for old in inner.known()? {
            if old.life.0 != guest {
                continue;
            }
            let here = old.registration.as_ref();
            let here = here.map_or(true, |r| r.boot == inner.settings.boot);
            if here && registry::is_active(&old.path) {
                return Err(format!("{guest} runs here under epoch {}", old.life.1));
            }
            if here && old.life == life {
                return Ok(());
            }
            inner.forgotten(&old)?;
        }
        let (of, metadata) = inner.described(life, spec, gate.give_up())?;
        for note in inner.notes(&of, &metadata) {
            tracing::warn!("{}: {note}", of.name);
        }
        gate.pass()?;
        let path = inner.path(&of);
        records::write(&path, &of).map_err(words)?;
        let (this, checked) = (Arc::clone(inner), of.clone());
        let done = inner
            .slot(life)
            .perform(Op::Check, gate.give_up(), move |cancel| {
                this.check(&checked, cancel)
            });
        done.map_err(|why| {
            // Only what was seen to run is left standing, to be ended before anything else.
            inner.slot(life).clear(Op::Stop);
            match inner.forget(&path) {
                Ok(()) => why,
                Err(left) => format!("{why}; and {left}"),
            }
        })
    }

    fn resume(&self, guest: GuestId, epoch: Token, gate: &Gate) -> Result<(), String> {
        let inner = &self.inner;
        let turn = inner.turn(guest);
        let _turn = lock(&turn);
        let of = inner.standing((guest, epoch))?;
        gate.pass()?;
        let (this, not_after) = (Arc::clone(inner), gate.not_after());
        let slot = inner.slot((guest, epoch));
        // A start may take longer than an order: it goes on as long as the lease does, and the
        // next order finds how it ended.
        slot.perform(Op::Start, gate.give_up(), move |cancel| {
            this.start(&of, not_after, cancel)
        })
    }

    fn pause(&self, guest: GuestId, epoch: Token, gate: &Gate) -> Result<(), String> {
        let inner = &self.inner;
        let turn = inner.turn(guest);
        let _turn = lock(&turn);
        let of = inner.standing((guest, epoch))?;
        gate.pass()?;
        inner.stopped(of, gate.give_up())
    }

    fn end(&self, guest: GuestId, epoch: Token, gate: &Gate) -> Result<(), String> {
        let inner = &self.inner;
        // What is under way is given up at once, whoever waits for it.
        for known in inner.known()? {
            if known.life.0 == guest && known.life.1 <= epoch {
                inner.slot(known.life).clear(Op::Stop);
            }
        }
        let turn = inner.turn(guest);
        let _turn = lock(&turn);
        gate.pass()?;
        for known in inner.known()? {
            if known.life.0 != guest || known.life.1 > epoch {
                continue;
            }
            let of = known.registration.clone()?;
            if of.boot == inner.settings.boot {
                inner.stopped(of, gate.give_up())?;
            }
            inner.forgotten(&known)?;
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<GuestSeen>, String> {
        let boot = self.inner.settings.boot;
        let known = self.inner.known()?.into_iter();
        // One that cannot be read may be anything.
        let here = known.filter(|k| k.registration.as_ref().map_or(true, |r| r.boot == boot));
        Ok(here
            .map(|k| GuestSeen {
                guest: k.life.0,
                epoch: k.life.1,
                paused: !registry::is_active(&k.path),
            })
            .collect())
    }

    fn watch(&self, tell: UnboundedSender<Notice>) -> Result<(), String> {
        *lock(&self.inner.tell) = Some(tell.clone());
        let inner = Arc::downgrade(&self.inner);
        std::thread::Builder::new()
            .name("resources".into())
            .spawn(move || watch::watch(&inner, &tell))
            .map(|_| ())
            .map_err(words)
    }
}

impl Inner {
    /// Forgets a life; what an earlier boot had is gone with it.
    pub(super) fn forgotten(&self, known: &Known) -> Result<(), String> {
        let of = known.registration.as_ref().map_err(Clone::clone)?;
        if of.boot != self.settings.boot {
            let until = Clock.now() + FORGET;
            if let Some(held) = registry::hold(&known.path, until, &|| false)? {
                registry::passivate(&held, &known.path).map_err(words)?;
                registry::forget(&held, &known.path).map_err(words)?;
            }
        } else {
            self.forget(&known.path)?;
        }
        lock(&self.slots).remove(&known.life);
        Ok(())
    }
}
