//! What the driver's loop waits for.

use super::Durable;
use super::alarms::Look;
use crate::clock::Clock;
use crate::store::Committed;
use quorate_membership::Time;
use std::time::Duration;
use tokio::sync::mpsc;

/// The next report of the store; never, without a disk.
pub(super) async fn committed(durable: &mut Durable) -> Committed {
    match durable {
        Durable::Disk(_, reports) => match reports.recv().await {
            Some(report) => report,
            // After a failure nothing more comes; the node knows.
            None => std::future::pending().await,
        },
        Durable::Memory => std::future::pending().await,
    }
}

/// The next look; never, where nobody looks.
pub(super) async fn looked(looks: &mut Option<mpsc::Receiver<Look>>) -> Look {
    let next = match looks {
        Some(looks) => looks.recv().await,
        None => None,
    };
    match next {
        Some(look) => look,
        None => std::future::pending().await,
    }
}

/// Returns at this time, or some time before it.
pub(super) async fn sleep_until(until: Time) {
    let left = until.since(Clock.now());
    if !left.is_zero() {
        // A clock of its own: at most a moment early or late, and the node asks for the time.
        tokio::time::sleep(left.min(Duration::from_secs(3600))).await;
    }
}
