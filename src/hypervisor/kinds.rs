//! Several kinds of guests on one host, each with a driver of its own, behind one.
//!
//! A life belongs to the kind that created it. An end goes to every kind, because a life that is
//! missed writes to its disk for ever; a poll says nothing of a kind that cannot be asked. Kinds are asked
//! side by side: one whose hypervisor hangs does not hold up the others' guests.

use super::{Driver, Gate, Notice, Poll, lock};
use crate::clock::Clock;
use quorate_membership::Token;
use quorate_recovery::contract::GuestSeen;
use quorate_recovery::guest::{Definition, GuestId, GuestSpec, Probe};
use quorate_recovery::images::Harmless;
use quorate_recovery::kinds::{GuestKind, GuestKinds};
use quorate_recovery::observation::Sample;
use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// How long a poll or a look at everything may take; below the runner's own limit, so that the
/// answer says which kind it was.
const LOOK: Duration = Duration::from_millis(4500);

/// One kind of guests.
pub struct Kind {
    kind: GuestKind,
    create: Duration,
    driver: Arc<dyn Driver>,
}

impl Kind {
    /// Guests of `kind`, run by `driver`. `create`: how long the creation of one may take.
    pub fn new(kind: GuestKind, create: Duration, driver: impl Driver) -> Kind {
        Kind {
            kind,
            create,
            driver: Arc::new(driver),
        }
    }
}

/// Every kind of guests of a host, as one driver.
///
/// Where two kinds show the same life, as a process that both find by its marks, the later knows
/// better: the built-in hypervisor comes first.
pub struct Kinds {
    kinds: Vec<Kind>,
    /// The kind of each guest that was created here and not ended since.
    made: Mutex<BTreeMap<GuestId, usize>>,
    look: Duration,
}

impl Kinds {
    /// These kinds, the most general first.
    #[must_use]
    pub fn new(kinds: Vec<Kind>) -> Kinds {
        Kinds {
            kinds,
            made: Mutex::default(),
            look: LOOK,
        }
    }

    /// The longest that any kind may take to create a guest.
    #[must_use]
    pub fn create_limit(&self) -> Duration {
        let limits = self.kinds.iter().map(|k| k.create);
        limits.max().unwrap_or_default()
    }

    fn made(&self) -> MutexGuard<'_, BTreeMap<GuestId, usize>> {
        lock(&self.made)
    }

    /// Which kind has a life.
    fn owner(&self, guest: GuestId, epoch: Token) -> Result<usize, String> {
        if let Some(kind) = self.made().get(&guest) {
            return Ok(*kind);
        }
        // From before this daemon.
        let mut blind = Vec::new();
        for (at, kind) in self.kinds.iter().enumerate().rev() {
            match kind.driver.owns(guest, epoch) {
                Ok(true) => return Ok(at),
                Ok(false) => {}
                Err(why) => blind.push(format!("{}: {why}", kind.kind)),
            }
        }
        if blind.is_empty() {
            return Err(format!("{guest} epoch {epoch} is not on this host"));
        }
        Err(format!("whose it is cannot be told: {}", blind.join("; ")))
    }

    fn of(&self, guest: GuestId, epoch: Token) -> Result<&dyn Driver, String> {
        let kind = &self.kinds[self.owner(guest, epoch)?];
        Ok(&*kind.driver)
    }

    /// Asks every kind at the same time; one that does not answer in time is an error of its own.
    fn each<T: Send + 'static>(
        &self,
        call: fn(&dyn Driver) -> Result<T, String>,
    ) -> Vec<(GuestKind, Result<T, String>)> {
        let (tell, answers) = mpsc::channel();
        let mut found = Vec::new();
        for (at, kind) in self.kinds.iter().enumerate() {
            let why = format!("no answer within {:?}", self.look);
            found.push((kind.kind, Err(why)));
            let (tell, driver) = (tell.clone(), Arc::clone(&kind.driver));
            let begun = std::thread::Builder::new()
                .name(kind.kind.to_string())
                .spawn(move || tell.send((at, call(&*driver))));
            if let Err(e) = begun {
                tracing::error!("no thread for a call of {}: {e}", kind.kind);
            }
        }
        drop(tell);
        let until = Instant::now() + self.look;
        loop {
            match answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((at, answer)) => found[at].1 = answer,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return found,
            }
        }
    }

    /// What the kinds show that can see, and which cannot.
    fn union(&self, call: fn(&dyn Driver) -> Seen) -> Poll {
        let mut lives = BTreeMap::new();
        let (mut blind, mut whys) = (GuestKinds::NONE, Vec::new());
        for (kind, seen) in self.each(call) {
            match seen {
                Ok(seen) => lives.extend(seen.into_iter().map(|s| ((s.guest, s.epoch), s))),
                Err(why) => {
                    blind = blind.with(kind);
                    whys.push(format!("{kind}: {why}"));
                }
            }
        }
        Poll {
            seen: lives.into_values().collect(),
            blind: (!blind.is_empty()).then(|| (blind, whys.join("; "))),
        }
    }
}

/// A poll of all kinds or none.
fn whole(poll: Poll) -> Seen {
    match poll.blind {
        None => Ok(poll.seen),
        Some((_, why)) => Err(why),
    }
}

type Seen = Result<Vec<GuestSeen>, String>;

/// Why no kind of this host runs such a guest.
fn refused(definition: &Definition) -> &'static str {
    match definition {
        Definition::Domain { .. } if cfg!(feature = "libvirt") => {
            "this host runs no domains: its configuration has no [libvirt]"
        }
        Definition::Domain { .. } => {
            "this host runs no domains: its quorate is built without libvirt"
        }
        Definition::Ocf { .. } => "this host runs no resource agents",
        Definition::Command { .. } => "this host runs no commands",
    }
}

impl Driver for Kinds {
    fn recall(&self, guest: GuestId, harmless: &Harmless) {
        let drivers = self.kinds.iter().map(|k| &k.driver);
        drivers.for_each(|driver| driver.recall(guest, harmless));
    }

    fn create(
        &self,
        guest: GuestId,
        epoch: Token,
        spec: &GuestSpec,
        gate: &Gate,
    ) -> Result<(), String> {
        let kind = spec.definition.kind();
        let at = self.kinds.iter().position(|k| k.kind == kind);
        let at = at.ok_or_else(|| refused(&spec.definition))?;
        self.made().insert(guest, at);
        let kind = &self.kinds[at];
        let gate = gate.by(Clock.now() + kind.create);
        kind.driver.create(guest, epoch, spec, &gate)
    }

    fn resume(&self, guest: GuestId, epoch: Token, gate: &Gate) -> Result<(), String> {
        self.of(guest, epoch)?.resume(guest, epoch, gate)
    }

    fn pause(&self, guest: GuestId, epoch: Token, gate: &Gate) -> Result<(), String> {
        self.of(guest, epoch)?.pause(guest, epoch, gate)
    }

    fn end(&self, guest: GuestId, epoch: Token, gate: &Gate) -> Result<(), String> {
        // The kind that has it puts its own house in order; then nothing of it may be left
        // anywhere else.
        let owner = self.owner(guest, epoch).ok();
        let mut turns: Vec<usize> = (0..self.kinds.len()).collect();
        turns.sort_by_key(|at| Some(*at) != owner);
        let mut left = Vec::new();
        for at in turns {
            let kind = &self.kinds[at];
            if let Err(why) = kind.driver.end(guest, epoch, gate) {
                left.push(format!("{}: {why}", kind.kind));
            }
        }
        if !left.is_empty() {
            return Err(left.join("; "));
        }
        self.made().remove(&guest);
        Ok(())
    }

    fn list(&self) -> Seen {
        whole(self.poll())
    }

    fn poll(&self) -> Poll {
        self.union(|driver| driver.list())
    }

    fn present(&self) -> Seen {
        whole(self.union(|driver| driver.present()))
    }

    fn owns(&self, guest: GuestId, epoch: Token) -> Result<bool, String> {
        let mut blind = None;
        for kind in &self.kinds {
            match kind.driver.owns(guest, epoch) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(why) => blind = Some(format!("{}: {why}", kind.kind)),
            }
        }
        blind.map_or(Ok(false), Err)
    }

    fn watch(&self, tell: UnboundedSender<Notice>) -> Result<(), String> {
        let mut blind = Vec::new();
        for kind in &self.kinds {
            if let Err(why) = kind.driver.watch(tell.clone()) {
                blind.push(format!("{}: {why}", kind.kind));
            }
        }
        if blind.is_empty() {
            return Ok(());
        }
        Err(blind.join("; "))
    }

    fn reset(&self, guest: GuestId, epoch: Token, gate: &Gate) -> Result<(), String> {
        self.of(guest, epoch)?.reset(guest, epoch, gate)
    }

    fn capture(&self, guest: GuestId, epoch: Token, why: &str, gate: &Gate) -> Result<(), String> {
        self.of(guest, epoch)?.capture(guest, epoch, why, gate)
    }

    fn probe(
        &self,
        guest: GuestId,
        epoch: Token,
        probe: &Probe,
        gate: &Gate,
    ) -> Result<Result<(), String>, String> {
        self.of(guest, epoch)?.probe(guest, epoch, probe, gate)
    }

    fn sample(&self) -> Result<Vec<(GuestId, Token, Sample)>, String> {
        let mut samples = Vec::new();
        for (name, found) in self.each(|driver| driver.sample()) {
            match found {
                Ok(found) => samples.extend(found),
                // The poll says so too, where it is acted upon.
                Err(why) => tracing::debug!("no samples of {name}: {why}"),
            }
        }
        Ok(samples)
    }
}

#[cfg(test)]
#[path = "kinds_tests.rs"]
mod tests;
