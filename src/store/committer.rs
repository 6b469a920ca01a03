//! The thread that waits for the disk, so that the loop that beats never does.
//!
//! Batches that pile up while one transaction is being written go into the next one together.

use super::Store;
use quorate_recovery::contract::NodeWrite;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc as tokio_mpsc;

/// Batches that may wait for the disk. A disk that is this far behind is as good as failed.
const QUEUE: usize = 4096;

/// What became of submitted batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// Every batch up to this one is durable.
    Durable {
        /// The number given with it.
        batch: u64,
    },
    /// The store failed; batches not yet reported durable may or may not be there. Always last.
    Failed {
        /// What failed.
        why: String,
    },
}

/// A batch was not taken: the disk is too far behind, or the store failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store takes no more batches: {}", if *ended { "it failed" } else { "too many wait for the disk" })]
pub struct Stalled {
    /// The store failed before; [`Committed::Failed`] says why.
    pub ended: bool,
}

/// The commit thread. Dropping it lets what was submitted be finished in the background.
#[derive(Debug)]
pub struct Committer {
    queue: SyncSender<(u64, Vec<NodeWrite>)>,
    thread: JoinHandle<Store>,
}

impl Committer {
    /// Starts the thread; `report` is called on it.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        store: Store,
        report: impl FnMut(Committed) + Send + 'static,
    ) -> io::Result<Committer> {
        let (queue, batches) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("quorate-store".to_owned())
            .spawn(move || run(store, batches, report))?;
        Ok(Committer { queue, thread })
    }

    /// Starts the thread with a channel that an async loop can wait on. It holds at most one
    /// report for each batch submitted.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn channel(
        store: Store,
    ) -> io::Result<(Committer, tokio_mpsc::UnboundedReceiver<Committed>)> {
        let (reports, received) = tokio_mpsc::unbounded_channel();
        let committer = Committer::start(store, move |report| {
            // Nobody listens any more: the node is going down.
            let _ = reports.send(report);
        })?;
        Ok((committer, received))
    }

    /// Hands over a batch; numbers rise. Never waits.
    ///
    /// # Errors
    /// The batch was not taken and never becomes durable: the voter must end.
    pub fn submit(&self, batch: u64, writes: Vec<NodeWrite>) -> Result<(), Stalled> {
        self.queue.try_send((batch, writes)).map_err(|e| Stalled {
            ended: matches!(e, TrySendError::Disconnected(_)),
        })
    }

    /// Waits until everything submitted is written and gives the store back; `None` if the
    /// thread broke down, or the disk did not finish within `patience`. What was submitted is then
    /// written by the thread that is left behind, if it is ever written.
    #[must_use]
    pub fn finish(self, patience: Duration) -> Option<Store> {
        drop(self.queue);
        let until = Instant::now() + patience;
        while !self.thread.is_finished() {
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.thread.join().ok()
    }
}

fn run(
    mut store: Store,
    batches: Receiver<(u64, Vec<NodeWrite>)>,
    mut report: impl FnMut(Committed),
) -> Store {
    while let Ok(first) = batches.recv() {
        let mut group = vec![first];
        group.extend(batches.try_iter().take(QUEUE));
        let last = group.last().map_or(0, |(batch, _)| *batch);
        let writes = group.iter().flat_map(|(_, writes)| writes);
        // A panic below must reach the node as a failed store, not as silence.
        let done = catch_unwind(AssertUnwindSafe(|| store.commit_all(writes)));
        let why = match done {
            Ok(Ok(())) => {
                report(Committed::Durable { batch: last });
                continue;
            }
            Ok(Err(e)) => e.to_string(),
            Err(_) => "the store's thread panicked".to_owned(),
        };
        // From here on nothing is taken, and only then is it said.
        drop(batches);
        report(Committed::Failed { why });
        return store;
    }
    store
}
