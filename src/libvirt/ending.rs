//! Ends: through libvirt, through the processes themselves, and never believed before both agree
//! or processes alone can tell.

use super::driver::{Inner, until};
use super::launch::{SETTLED, Start};
use super::link::{Failure, Fault};
use super::registry::Life;
use super::survey;
use crate::clock::Clock;
use crate::guardian::cgroups;
use crate::hypervisor::Gate;
use crate::hypervisor::lock;
use quorate_membership::Token;
use quorate_recovery::guest::GuestId;
use std::sync::Arc;
use std::time::Duration;

/// How long libvirt may take to end a domain before its process is ended directly.
pub(super) const GENTLE: Duration = Duration::from_secs(2);
/// Between two rounds of an ending.
const REPEAT: Duration = Duration::from_millis(20);
/// One scan of `/proc` is no snapshot: this many must find nothing.
const EMPTY_ROUNDS: u8 = 2;

/// Which epochs of a guest are meant.
pub(super) type Meant = Arc<dyn Fn(Token) -> bool + Send + Sync>;

impl Inner {
    /// Ends every life of `guest` that `meant` names and forgets it, until `gate` gives up.
    pub(super) fn end_lives(
        self: &Arc<Inner>,
        guest: GuestId,
        meant: &Meant,
        gate: &Gate,
    ) -> Result<(), String> {
        self.end_all(guest, meant, gate, true)
    }

    /// The same for a life that is seen to have ended. Its processes tell that nothing is left;
    /// libvirt takes a second or two to clear up after a QEMU that ended, and is not waited for.
    pub(super) fn bury(self: &Arc<Inner>, life: Life, gate: &Gate) -> Result<(), String> {
        let (guest, epoch) = life;
        let meant: Meant = Arc::new(move |e| e == epoch);
        if !self.qemu() {
            return self.end_lives(guest, &meant, gate);
        }
        self.end_all(guest, &meant, gate, false)
    }

    /// Takes out of a poll what libvirt still shows of lives that are known to have ended; whatever
    /// of them runs is found by its process.
    pub(super) fn without_buried<T>(&self, found: &mut Vec<(Life, T)>) {
        let mut buried = lock(&self.buried);
        let now = Clock.now();
        buried.retain(|life, at| now < *at + SETTLED || found.iter().any(|f| f.0 == *life));
        found.retain(|f| !buried.contains_key(&f.0));
    }

    fn end_all(
        self: &Arc<Inner>,
        guest: GuestId,
        meant: &Meant,
        gate: &Gate,
        ask: bool,
    ) -> Result<(), String> {
        // Whoever called a start off cannot be overtaken by it: it looks here when it is back.
        for (life, start) in lock(&self.starting).iter_mut() {
            if let Start::UnderWay { called_off } = start
                && life.0 == guest
                && meant(life.1)
            {
                *called_off = true;
            }
        }
        self.registry.call_off(guest, &**meant)?;
        let mut empty = 0u8;
        let mut asked: Option<Result<(), Failure>> = None;
        let mut silence_told = false;
        loop {
            let known = self.known(guest, &**meant)?;
            // libvirt first, for it puts its own house in order; again if it said no. One that is
            // silent is not waited for twice where processes show what is left.
            let silent = |f: &Failure| f.kind == Fault::Hangs && self.qemu();
            let again = ask
                && asked
                    .as_ref()
                    .is_none_or(|a| a.as_ref().is_err_and(|f| !silent(f)));
            if again {
                let limit = GENTLE.min(until(gate.give_up()) / 2);
                asked = Some(self.destroy(guest, meant, limit));
            }
            let said = asked.as_ref().is_some_and(Result::is_ok);
            let found = if self.qemu() {
                let marked = |(g, e): Life| g == guest && meant(e);
                let registry = &self.registry;
                cgroups::end_with(&registry.run, registry.boot, &marked, || {
                    registry.processes(&known, &marked, |w| w.end())
                })
            } else if said {
                Ok(0)
            } else {
                // Nothing but libvirt can tell.
                Ok(1)
            };
            match &found {
                Ok(0) => empty = empty.saturating_add(1),
                _ => empty = 0,
            }
            if let (Some(Err(f)), Ok(n), false) = (&asked, &found, silence_told)
                && *n > 0
                && self.qemu()
            {
                silence_told = true;
                tracing::warn!("{guest}: {}; {n} processes are ended without it", f.why);
            }
            let under_way = self.unanswered(guest, meant, said);
            if empty >= EMPTY_ROUNDS && under_way.is_none() {
                let gone = |(g, e): Life| g == guest && meant(e);
                let run = &self.registry.run;
                if let Err(e) = cgroups::release(run, self.registry.boot, &gone) {
                    tracing::warn!("{guest}: {e}");
                }
                if self.qemu() && !said {
                    let mut buried = lock(&self.buried);
                    buried.extend(known.iter().map(|k| (k.life, Clock.now())));
                }
                return known.iter().try_for_each(|k| {
                    let done = self.registry.run.forget(k.life.0, k.life.1);
                    done.map_err(|e| e.to_string())
                });
            }
            if Clock.now() >= gate.give_up() {
                return Err(match (found, under_way, asked) {
                    (Err(e), ..) => e.to_string(),
                    (Ok(n), _, _) if n > 0 && self.qemu() => {
                        format!("{n} processes are still there")
                    }
                    (_, Some(why), _) => why,
                    (_, _, Some(Err(f))) => f.why,
                    _ => "it was not seen to be gone in time".to_owned(),
                });
            }
            std::thread::sleep(REPEAT);
            if under_way.is_some() && said {
                // What it was asked before does not count for a start that came meanwhile.
                asked = None;
                std::thread::sleep(REPEAT * 4);
            }
        }
    }

    /// Ends the active domains of `guest` that `meant` names, through libvirt. `Ok` if none is
    /// left that libvirt knows of.
    pub(super) fn destroy(
        &self,
        guest: GuestId,
        meant: &Meant,
        limit: Duration,
    ) -> Result<(), Failure> {
        let (cluster, meant) = (self.cluster.clone(), Arc::clone(meant));
        self.link.call(limit, move |c| {
            for (domain, tag, _) in survey::tagged(c, &cluster)? {
                if tag.guest != guest || !meant(tag.epoch) {
                    continue;
                }
                if let Err(e) = domain.destroy()
                    && survey::activity(&domain)?.is_some()
                {
                    return Err(e.into());
                }
            }
            Ok(())
        })
    }

    /// Why a start of `guest` that `meant` names cannot be told to be over. `said`: libvirt was
    /// asked now, and nothing of the guest is left there.
    pub(super) fn unanswered(&self, guest: GuestId, meant: &Meant, said: bool) -> Option<String> {
        let mut starting = lock(&self.starting);
        let now = Clock.now();
        starting.retain(|life, start| {
            let settled = matches!(start, Start::Unknown(at) if said && now >= *at + SETTLED);
            !(life.0 == guest && meant(life.1) && settled)
        });
        let left = starting.iter().find(|(l, _)| l.0 == guest && meant(l.1));
        left.map(|(life, start)| match start {
            Start::UnderWay { .. } => {
                format!(
                    "libvirt has not answered for the start under epoch {}",
                    life.1
                )
            }
            Start::Unknown(_) => {
                format!("libvirt was lost during the start under epoch {}", life.1)
            }
        })
    }
}
