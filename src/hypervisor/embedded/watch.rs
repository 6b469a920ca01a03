//! Notices guests that end by themselves: by a handle on each leader, and by a look each second.

use super::{Gone, Inner, Life, Notice, Registered};
use crate::clock::Clock;
use crate::guardian::processes::leader;
use crate::hypervisor::Gate;
use quorate_recovery::observation::Cause;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Weak;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// Longest time until a new guest is watched, and between two looks at all.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 250_000_000,
};
/// How long the rest of a guest whose leader ended may take to end before the next try.
const REST: Duration = Duration::from_secs(2);

/// Runs until nobody listens or the driver is gone.
pub(super) fn watch(inner: &Weak<Inner>, gone: &UnboundedSender<Notice>) {
    let mut handles: BTreeMap<Life, (u64, OwnedFd)> = BTreeMap::new();
    while !gone.is_closed() {
        let Some(inner) = inner.upgrade() else {
            return;
        };
        match inner.registered() {
            Ok(registered) => {
                handles.retain(|life, _| registered.iter().any(|r| r.life == *life));
                for one in &registered {
                    look_at(&inner, one, &mut handles, gone);
                }
            }
            Err(why) => tracing::error!("guests cannot be watched: {why}"),
        }
        // The driver may go while this sleeps.
        drop(inner);
        let mut fds: Vec<PollFd<'_>> = handles
            .values()
            .map(|(_, handle)| PollFd::new(handle, PollFlags::IN))
            .collect();
        let woken = poll(&mut fds, Some(&LOOK));
        if woken.is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn look_at(
    inner: &Inner,
    one: &Registered,
    handles: &mut BTreeMap<Life, (u64, OwnedFd)>,
    gone: &UnboundedSender<Notice>,
) {
    let Some(record) = one.record else {
        return;
    };
    let ours = record.boot == inner.settings.boot;
    if ours && leader(&record).is_some() {
        let known = handles
            .get(&one.life)
            .is_some_and(|(start, _)| *start == record.draw);
        let handle = Pid::from_raw(record.pgid).filter(|_| !known);
        let handle = handle.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        if let Some(handle) = handle {
            handles.insert(one.life, (record.draw, handle));
        }
        return;
    }
    // Its handle tells nothing more, and would wake the poll for ever.
    handles.remove(&one.life);
    // Whoever acts on this guest now says himself what became of it.
    let turn = inner.turn(one.life.0);
    let Ok(_turn) = turn.try_lock() else {
        return;
    };
    if inner.record_of(one.life) != Some(record) {
        return;
    }
    let why = fs::read_to_string(inner.run().why(&record)).ok();
    let status = inner.reap(one.life);
    let how = match (ours, why, status) {
        (false, ..) => "it went with an earlier boot".to_owned(),
        (true, Some(why), _) => why,
        (true, None, Some(status)) => status,
        (true, None, None) => "exit status unknown: an earlier daemon started it".to_owned(),
    };
    // Gone only when all of it is: what its leader left behind still runs.
    let (guest, epoch) = one.life;
    let gate = Gate::new(None, Clock.now() + REST);
    match inner.end_lives(guest, &|e| e == epoch, &gate) {
        Ok(()) => {
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
