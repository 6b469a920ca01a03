//! Notices domains that end by themselves: by libvirt's events, and by a look at their processes,
//! which needs no libvirt.

use super::driver::{Inner, lock};
use super::ending::Meant;
use super::events::{Event, Stopped, What};
use super::registry::{Known, Life};
use super::survey;
use crate::clock::Clock;
use crate::guardian::processes::leader;
use crate::hypervisor::{Gate, Gone, Notice};
use quorate_membership::Time;
use quorate_recovery::observation::Cause;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// Longest time between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// How long libvirt may take to say how a process ended that is seen to be gone.
const REASON: Duration = Duration::from_millis(500);
/// How long the rest of a guest may take to end before the next try.
const REST: Duration = Duration::from_secs(2);
/// Between two questions whether a domain without a process is there still.
const RESYNC: Duration = Duration::from_secs(2);

/// What was heard and seen of domains that may be ending.
#[derive(Default)]
struct Memory {
    /// The last that libvirt said of the end of a domain, by UUID.
    heard: BTreeMap<u128, &'static str>,
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
        match events.recv_timeout(LOOK) {
            Ok(event) => {
                let Some(inner) = inner.upgrade() else {
                    return;
                };
                memory.hear(&inner, event);
                // Whatever else is there already belongs to the same look.
                while let Ok(event) = events.try_recv() {
                    memory.hear(&inner, event);
                }
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
    fn hear(&mut self, inner: &Inner, event: Event) {
        match event.what {
            // That the kernel panicked is said before, and then again.
            What::Stopped(how) => {
                self.heard.insert(event.uuid, how.words());
            }
            What::Panicked => {
                self.heard.insert(event.uuid, Stopped::Crashed.words());
            }
            What::Started | What::Reboot => {
                self.heard.remove(&event.uuid);
            }
            _ => {}
        }
        lock(&inner.listeners).retain(|to| to.send(event.clone()).is_ok());
    }

    fn forget(&mut self, known: &[Known]) {
        self.heard
            .retain(|id, _| known.iter().any(|k| k.uuid == *id));
        let there = |life: &Life| known.iter().any(|k| k.life == *life);
        self.missed.retain(|life, _| there(life));
        self.asked.retain(|life, _| there(life));
    }

    fn look(&mut self, inner: &Arc<Inner>, one: &Known, gone: &UnboundedSender<Notice>) {
        let now = Clock.now();
        let heard = self.heard.get(&one.uuid).copied();
        let ours = one.boot == inner.registry.boot;
        let how = match &one.record {
            _ if !ours => "it went with an earlier boot",
            Some(record) if leader(record).is_some() => {
                self.missed.remove(&one.life);
                return;
            }
            Some(_) => {
                let since = *self.missed.entry(one.life).or_insert(now);
                match heard {
                    Some(how) => how,
                    None if now < since + REASON => return,
                    None => "QEMU ended; libvirt has not said how",
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
                    Some(how) => how,
                    None if now < since.unwrap_or(now) + REASON => return,
                    None => "libvirt does not show it any more",
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
        match inner.end_lives(guest, &(Arc::new(move |e| e == epoch) as Meant), &gate) {
            Ok(()) => {
                let how = how.to_owned();
                let _ = gone.send(Notice::Gone(Gone {
                    guest,
                    epoch,
                    how,
                    cause: Cause::Died,
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
