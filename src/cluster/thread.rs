//! The thread of a member: its lives, one after the other, until nobody holds it or it is done.

use super::life::{Place, begin};
use super::{ClusterError, Options, Outlets};
use crate::clock::Clock;
use crate::daemon::{Ask, Driver, Durable, Ended};
use quorate_recovery::contract::{NotProposed, Reply, Request};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Longest wait for an address or a store that is in use: a member of this process that is
/// just ending may hold it.
const RELEASE: Duration = Duration::from_secs(3);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Pause before the next life: one that fails at once must not spin.
const PAUSE: Duration = Duration::from_millis(100);
/// Time a disk has to finish what it was given when a life ends.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// Says that the member has ended, however its thread does.
struct End<'a> {
    outlets: &'a Outlets,
    why: String,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.outlets.end(&self.why);
    }
}

/// Runs the member.
pub(super) fn run(
    options: &Options,
    place: &Place,
    outlets: &Arc<Outlets>,
    asks: mpsc::Receiver<Ask>,
) {
    let mut end = End {
        outlets,
        why: "its thread broke down".into(),
    };
    // Dropped before the end is told: whoever asks after that is told so.
    let mut asks = asks;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        // Sockets are closed with the runtime, before the end is told.
        Ok(runtime) => runtime.block_on(live(options, place, outlets, &mut asks)),
        Err(e) => Err(ClusterError::system("no runtime")(e)),
    };
    end.why = match done {
        Ok(why) => why,
        Err(e) => {
            let why = e.to_string();
            outlets.joined(Err(e));
            why
        }
    };
    tracing::info!("member {}: {}", options.name, end.why);
}

/// Gives the reason of its end.
async fn live(
    options: &Options,
    place: &Place,
    outlets: &Arc<Outlets>,
    asks: &mut mpsc::Receiver<Ask>,
) -> Result<String, ClusterError> {
    // Nobody asks over a socket.
    let (_, mut questions) = mpsc::channel(1);
    let mut above = 0;
    loop {
        let begun = tokio::select! {
            begun = begin_once_free(options, place, above, outlets) => begun?,
            () = given_up(asks) => return Ok("nobody holds it any more".into()),
        };
        let mut driver = begun;
        let ended = driver.run(&mut questions, asks).await;
        close(driver);
        match (ended, place) {
            (Ended::Exit(_, why), _) => return Ok(why),
            // A member without a disk has no next life.
            (Ended::Restart(why, _), Place::Memory) => return Ok(why),
            (Ended::Restart(why, seen), Place::Disk(_)) => {
                tracing::warn!("{why}: a new incarnation begins");
                above = seen;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn begin_once_free(
    options: &Options,
    place: &Place,
    above: u64,
    outlets: &Arc<Outlets>,
) -> Result<Driver, ClusterError> {
    let began = Clock.now();
    loop {
        match begin(options, place, above, outlets).await {
            Err(e) if e.in_use() && Clock.now().since(began) < RELEASE => {
                tokio::time::sleep(LOOK).await;
            }
            done => return done,
        }
    }
}

/// Comes back when nobody holds the member any more, or it is told to leave; between two lives it
/// proposes nothing.
async fn given_up(asks: &mut mpsc::Receiver<Ask>) {
    while let Some(ask) = asks.recv().await {
        if matches!(ask.request, Request::Leave(_)) {
            return;
        }
        if let Some(reply) = ask.reply {
            let _ = reply.send(Reply::NotProposed(NotProposed::NoQuorum));
        }
    }
}

/// Lets go of what the next life opens again.
fn close(driver: Driver) {
    if let Durable::Disk(committer, _) = driver.durable
        && !committer.finish(STORE_PATIENCE)
    {
        tracing::warn!("the store is left behind: its disk does not finish what it was given");
    }
}
