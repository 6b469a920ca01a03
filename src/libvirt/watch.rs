//! Notices domains that end by themselves: by libvirt's events, and by a look at their processes,
//! which needs no libvirt.

use super::driver::Inner;
use super::events::{Barks, By, Event, Stopped, Suspended, What};
use super::registry::{Known, Life};
use super::survey;
use crate::clock::Clock;
use crate::guardian::processes::leader;
use crate::hypervisor::lock;
use crate::hypervisor::{Gate, Gone, Notice};
use quorate_membership::Time;
use quorate_recovery::observation::{Cause, GuestEvent, Held};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// Longest time between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// How long libvirt may take to say how a process ended that is seen to be gone. libvirt tells of a
/// shutdown or a panic first and ends QEMU then, so it needs no longer than it takes to be late on a
/// busy host: a guest that its owner switched off must not be started again. Of a QEMU that ended by
/// itself it tells a second later, which is too long to wait.
const REASON: Duration = Duration::from_millis(600);
/// How long the rest of a guest may take to end before the next try.
const REST: Duration = Duration::from_secs(2);
/// What is known of a domain that ends while it is migrated: whether it goes on at the other end,
/// this host cannot tell.
const LEAVING: &str = "it ended while it was being migrated past this cluster";
/// Between two questions whether a domain without a process is there still.
const RESYNC: Duration = Duration::from_secs(2);

/// So many events are taken in before the next look.
const NEWS_MAX: usize = 1000;
/// Two resets within this time are one: libvirt tells of each twice.
const ONE_RESET: Duration = Duration::from_millis(200);

/// What libvirt said of the end of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    how: &'static str,
    cause: Cause,
}

/// What was heard and seen of domains that may be ending.
#[derive(Default)]
struct Memory {
    /// What libvirt said of the end of a domain, by UUID.
    heard: BTreeMap<u128, Heard>,
    /// When a reset was last told.
    reset: BTreeMap<Life, Time>,
    /// Since when a process, or a domain without one, is seen to be gone.
    missed: BTreeMap<Life, Time>,
    /// When libvirt was last asked for a domain without a process.
    asked: BTreeMap<Life, Time>,
}

/// Runs until nobody listens or the driver is gone.
pub(super) fn watch(inner: &Weak<Inner>, events: &Receiver<Event>, gone: &UnboundedSender<Notice>) {
    let mut memory = Memory::default();
    if let Some(inner) = inner.upgrade() {
        inner.link.listen();
    }
    while !gone.is_closed() {
        let mut news = Vec::new();
        match events.recv_timeout(LOOK) {
            Ok(event) => {
                news.push(event);
                // Whatever else is there already belongs to the same look.
                news.extend(events.try_iter().take(NEWS_MAX));
            }
            Err(RecvTimeoutError::Timeout) => {}
            // The driver is gone with its link.
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let Some(inner) = inner.upgrade() else {
            return;
        };
        inner.link.listen();
        match inner.registry.known() {
            Ok(known) => {
                for event in news {
                    memory.hear(&inner, &known, event);
                }
                memory.forget(&known);
                for one in &known {
                    memory.look(&inner, one, gone);
                }
            }
            Err(why) => tracing::error!("domains cannot be watched: {why}"),
        }
    }
}

impl Memory {
    fn hear(&mut self, inner: &Inner, known: &[Known], event: Event) {
        self.hear_end(event.uuid, &event.what);
        // Of this life only what comes after its registration: before, the domain of the same
        // number was the life before, or is not whole yet.
        let ours = |k: &&Known| k.uuid == event.uuid && k.boot == inner.registry.boot;
        if let Some(one) = known.iter().rev().find(ours) {
            let life = one.life;
            inner.sense.lives.note(life, &event.what);
            if !inner.qemu() || one.record.is_some() {
                self.tell(inner, life, &event.what);
            }
        }
        lock(&inner.listeners).retain(|to| to.send(event.clone()).is_ok());
    }

    /// Notes what an event says about the end of a domain.
    fn hear_end(&mut self, id: u128, what: &What) {
        let heard = |how, cause| Some(Heard { how, cause });
        let before = self.heard.get(&id).copied();
        let now = match what {
            // That it shuts down, or that its kernel panicked, is said before, and what ends QEMU
            // then says less.
            What::Stopped(Stopped::Shutdown) if before.is_some() => before,
            // Where it went it may run: that outweighs all that was said before.
            What::Stopped(how @ (Stopped::Migrated | Stopped::Saved)) => {
                heard(how.words(), Cause::Taken)
            }
            What::Suspended(Suspended::Leaving) => heard(LEAVING, Cause::Taken),
            What::Stopped(how) => match before {
                Some(before) if matches!(before.cause, Cause::ShutDown | Cause::Taken) => {
                    Some(before)
                }
                _ => heard(
                    how.words(),
                    match how {
                        Stopped::Shutdown => Cause::ShutDown,
                        Stopped::Crashed => Cause::Panicked,
                        _ => Cause::Died,
                    },
                ),
            },
            What::Shutdown(By::Guest) => heard(Stopped::Shutdown.words(), Cause::ShutDown),
            What::Shutdown(By::Host) => heard("QEMU was told to end", Cause::Died),
            What::Panicked => heard(Stopped::Crashed.words(), Cause::Panicked),
            What::Watchdog(Barks::Ends) => heard("its watchdog switched it off", Cause::Died),
            What::Started | What::Reboot | What::Resumed => None,
            _ => before,
        };
        match now {
            Some(now) => self.heard.insert(id, now),
            None => self.heard.remove(&id),
        };
    }

    /// Tells what an event means for a guest that is there.
    fn tell(&mut self, inner: &Inner, life: Life, what: &What) {
        let lives = &inner.sense.lives;
        let event = match what {
            What::Panicked => {
                if !lives.panicked(life) {
                    return;
                }
                GuestEvent::Panicked
            }
            // What resets it or ends it is told as such.
            What::Watchdog(Barks::Only) => GuestEvent::Watchdog,
            What::IoError(alias, reason) => GuestEvent::IoError {
                device: lives.disk(life, alias),
                reason: reason.clone(),
            },
            What::Reboot => {
                lives.afresh(life);
                let now = Clock.now();
                let told = self.reset.get(&life);
                if told.is_some_and(|at| now < *at + ONE_RESET) {
                    return;
                }
                // From the one that was told: a guest that resets itself again and again is told again.
                self.reset.insert(life, now);
                GuestEvent::Rebooted
            }
            What::Agent(there) => {
                lives.if_there(life, |m| m.agent.forget());
                GuestEvent::Agent(*there)
            }
            What::Suspended(why) => GuestEvent::Held(match why {
                Suspended::Told => Held::Told,
                Suspended::IoError => Held::IoError,
                Suspended::Watchdog => Held::Watchdog,
                Suspended::Leaving | Suspended::Move => Held::Move,
                Suspended::Other => Held::Other,
            }),
            What::Resumed => GuestEvent::Continued,
            _ => return,
        };
        inner.tell(life, event);
    }

    fn forget(&mut self, known: &[Known]) {
        self.heard
            .retain(|id, _| known.iter().any(|k| k.uuid == *id));
        let there = |life: &Life| known.iter().any(|k| k.life == *life);
        self.missed.retain(|life, _| there(life));
        self.reset.retain(|life, _| there(life));
        self.asked.retain(|life, _| there(life));
    }

    fn look(&mut self, inner: &Arc<Inner>, one: &Known, gone: &UnboundedSender<Notice>) {
        let now = Clock.now();
        let heard = self.heard.get(&one.uuid).copied();
        let ours = one.boot == inner.registry.boot;
        let died = |how| Heard {
            how,
            cause: Cause::Died,
        };
        let Heard { how, cause } = match &one.record {
            _ if !ours => died("it went with an earlier boot"),
            Some(record) if leader(record).is_some() => {
                self.missed.remove(&one.life);
                return;
            }
            Some(_) => {
                if heard.is_none() && !self.missed.contains_key(&one.life) {
                    inner.tell(one.life, GuestEvent::Ending);
                }
                let since = *self.missed.entry(one.life).or_insert(now);
                match heard {
                    Some(heard) => heard,
                    None if now < since + REASON => return,
                    None => died("QEMU ended; libvirt has not said how"),
                }
            }
            // Without a process only libvirt can tell; a start of QEMU under way is nobody's end.
            None if inner.link.kind() == super::link::Kind::Mock => {
                let since = self.missed.get(&one.life).copied();
                let asked = *self.asked.entry(one.life).or_insert(now);
                if since.is_none() {
                    if heard.is_none() && now < asked + RESYNC {
                        return;
                    }
                    self.asked.insert(one.life, now);
                    if !absent(inner, one.uuid) {
                        return;
                    }
                    self.missed.insert(one.life, now);
                }
                match heard {
                    Some(heard) => heard,
                    None if now < since.unwrap_or(now) + REASON => return,
                    None => died("libvirt does not show it any more"),
                }
            }
            None => return,
        };
        // Whoever acts on this guest now says himself what became of it.
        let turn = inner.turn(one.life.0);
        let Ok(_turn) = turn.try_lock() else {
            return;
        };
        let there = inner.registry.known().unwrap_or_default();
        if !there
            .iter()
            .any(|k| k.life == one.life && k.draw == one.draw)
        {
            return;
        }
        let (guest, epoch) = one.life;
        // Gone only when all of it is.
        let gate = Gate::new(None, Clock.now() + REST);
        match inner.bury(one.life, &gate) {
            Ok(()) => {
                let how = how.to_owned();
                let _ = gone.send(Notice::Gone(Gone {
                    guest,
                    epoch,
                    how,
                    cause,
                }));
            }
            Err(why) => tracing::error!("{guest} epoch {epoch}: what is left of it: {why}"),
        }
    }
}

/// Whether libvirt answers that no such domain is active.
fn absent(inner: &Inner, id: u128) -> bool {
    let answer = inner
        .link
        .call(REST, move |c| match survey::numbered(c, id)? {
            None => Ok(true),
            Some(domain) => Ok(survey::activity(&domain)?.is_none()),
        });
    answer.unwrap_or(false)
}
