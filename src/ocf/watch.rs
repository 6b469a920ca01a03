//! Regular monitors, one thread for each resource: a monitor that hangs holds up no other.

use super::agent::{self, Seen};
use super::driver::Inner;
use super::registry::{self, Life, Registration};
use super::slot::Op;
use crate::clock::Clock;
use crate::hypervisor::lock;
use crate::hypervisor::{Gone, Notice};
use quorate_recovery::observation::{Cause, GuestEvent, Observation};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// Longest time until a resource has its thread.
const LOOK: Duration = Duration::from_millis(250);
/// So many monitors in a row without an end of their own are a failure; one is nothing.
const SILENT: u32 = 3;

/// Lives that have a thread.
type Watched = Arc<Mutex<BTreeSet<(Life, u64)>>>;

/// Runs until nobody listens or the driver is gone.
pub(super) fn watch(inner: &Weak<Inner>, tell: &UnboundedSender<Notice>) {
    let watched = Watched::default();
    while !tell.is_closed() {
        let Some(this) = inner.upgrade() else {
            return;
        };
        match this.known() {
            Ok(known) => {
                for one in known {
                    let of = match &one.registration {
                        Ok(of) => of.clone(),
                        Err(why) => {
                            tracing::error!("a resource that may run is not monitored: {why}");
                            continue;
                        }
                    };
                    if of.boot != this.settings.boot {
                        vanished(&this, &one, tell);
                    } else if lock(&watched).insert((of.life(), of.draw)) {
                        begin(inner.clone(), of, tell.clone(), Arc::clone(&watched));
                    }
                }
            }
            Err(why) => tracing::error!("resources cannot be watched: {why}"),
        }
        // The driver may go while this sleeps.
        drop(this);
        std::thread::sleep(LOOK);
    }
}

fn vanished(inner: &Inner, one: &registry::Known, tell: &UnboundedSender<Notice>) {
    let turn = inner.turn(one.life.0);
    let Ok(_turn) = turn.try_lock() else {
        return;
    };
    match inner.forgotten(one) {
        Ok(()) => {
            let _ = tell.send(Notice::Gone(Gone {
                guest: one.life.0,
                epoch: one.life.1,
                how: "it went with an earlier boot".into(),
                cause: Cause::Died,
            }));
        }
        Err(why) => tracing::error!("{}: {why}", one.path.display()),
    }
}

fn begin(inner: Weak<Inner>, of: Registration, tell: UnboundedSender<Notice>, watched: Watched) {
    let key = (of.life(), of.draw);
    let theirs = Arc::clone(&watched);
    let begun = std::thread::Builder::new()
        .name("monitor".into())
        .spawn(move || {
            monitor(&inner, &of, &tell);
            lock(&theirs).remove(&key);
        });
    if let Err(e) = begun {
        tracing::error!("no thread for a monitor: {e}");
        lock(&watched).remove(&key);
    }
}

/// Monitors one resource until it is registered no more.
fn monitor(inner: &Weak<Inner>, of: &Registration, tell: &UnboundedSender<Notice>) {
    let every = Duration::from_millis(of.every_ms);
    let mut due = Clock.now();
    let mut seen_starts = None;
    let mut silent = 0;
    while !tell.is_closed() {
        let Some(this) = inner.upgrade() else {
            return;
        };
        let path = of.path(&this.settings.run);
        if !path.exists() {
            return;
        }
        let slot = this.slot(of.life());
        let starts = slot.started();
        if seen_starts != Some(starts) {
            // A start is not believed either.
            seen_starts = Some(starts);
            due = Clock.now();
        }
        let now = Clock.now();
        if !registry::is_active(&path) || slot.busy() || now < due {
            let until = if now < due { due } else { now + LOOK };
            drop(this);
            slot.look(until.min(now + LOOK));
            continue;
        }
        let (ask, asked) = std::sync::mpsc::channel();
        let (theirs, which) = (Arc::clone(&this), of.clone());
        let limit = Duration::from_millis(of.monitor_ms);
        let _ = slot.perform(Op::Monitor, now + limit * 2, move |cancel| {
            let exit = theirs.look(&which, "monitor", limit, every, true, cancel);
            let seen = (!cancel.cancelled()).then(|| agent::seen(&exit));
            ask.send(seen).map_err(|e| e.to_string())
        });
        due = Clock.now() + every;
        // Given up for something else: it says nothing.
        let Ok(Some(seen)) = asked.try_recv() else {
            continue;
        };
        let failed = match seen {
            Seen::Running => {
                silent = 0;
                continue;
            }
            Seen::Stopped => {
                silent = 0;
                stopped(&this, of);
                continue;
            }
            Seen::Failed(why) => why,
            Seen::Unknown(why) => {
                silent += 1;
                tracing::warn!("{}: {why}", of.name);
                if silent < SILENT {
                    continue;
                }
                format!("{why}, {silent} times in a row")
            }
        };
        let event = Observation::Event(GuestEvent::Failed(failed));
        let _ = tell.send(Notice::Seen(of.guest, of.epoch, event));
    }
}

/// A resource that should run does not: what is left of it is cleared away, and it is gone.
fn stopped(inner: &Arc<Inner>, of: &Registration) {
    // Whoever acts on it now says himself what becomes of it.
    let turn = inner.turn(of.guest);
    let Ok(_turn) = turn.try_lock() else {
        return;
    };
    let path = of.path(&inner.settings.run);
    let slot = inner.slot(of.life());
    if !registry::is_active(&path) || slot.busy() {
        return;
    }
    let (this, which) = (Arc::clone(inner), of.clone());
    let limit = Duration::from_millis(of.stop_ms + of.monitor_ms);
    let _ = slot.perform(Op::Stop, Clock.now() + limit, move |cancel| {
        this.gone(&which, "monitor: exit 7 (not running)", cancel);
        Ok(())
    });
}
