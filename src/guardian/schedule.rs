//! When the guardian's process runs, and when it sleeps.

use crate::clock::Clock;
use quorate_membership::Time;
use rustix::thread::{ClockId, clock_nanosleep_absolute};
use std::time::Duration;
use thread_priority::{
    NormalThreadSchedulePolicy, RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

/// Runs before ordinary processes, if this is allowed here.
pub(super) fn realtime() -> bool {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    u8::try_from(1)
        .ok()
        .and_then(|p| p.try_into().ok())
        .is_some_and(|p| {
            let priority = ThreadPriority::Crossplatform(p);
            set_thread_priority_and_policy(thread_native_id(), priority, policy).is_ok()
        })
}

/// Runs like any other process again: for what the guardian starts.
pub(crate) fn ordinary() -> bool {
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy).is_ok()
}

/// Makes this process one that is not taken for the daemon, nor for one whose memory may be had.
/// Best effort: without the privilege it stays as it is, and `status` says so.
pub(super) fn apart() {
    let _ = rustix::thread::set_name(c"quorate-guardian");
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
}

/// Sleeps on the clock of the leases, so that waking from suspension counts.
pub(super) fn sleep_until(t: Time) {
    let nanos = i64::try_from(t.0).unwrap_or(i64::MAX);
    let until = rustix::time::Timespec {
        tv_sec: nanos / 1_000_000_000,
        tv_nsec: nanos % 1_000_000_000,
    };
    // A signal wakes it early, which only means an early look.
    if clock_nanosleep_absolute(ClockId::Boottime, &until) == Err(rustix::io::Errno::INVAL) {
        let rest = t.since(Clock.now()).min(Duration::from_millis(100));
        std::thread::sleep(rest);
    }
}
