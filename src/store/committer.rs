//! The thread that waits for the disk, so that the loop that beats never does.
//!
//! Batches that pile up while one transaction is being written go into the next one together.

use super::Store;
use quorate_membership::codec::{self, Kind};
use quorate_membership::store::Write;
use quorate_recovery::contract::NodeWrite;
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc as tokio_mpsc;

/// Bytes of batches that may wait for the disk; a disk that is this far behind is as good as failed.
/// Bytes and not batches, so that a disk that stalls for seconds under load costs no vote.
const QUEUE_BYTES: usize = 64 << 20;
/// Batches that go into one transaction at most.
const GROUP: usize = 4096;
/// Bytes that a batch and each of its writes count beside what they carry.
const WRITE: usize = 128;

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
    queue: Sender<Batch>,
    /// Bytes that wait.
    waiting: Arc<AtomicUsize>,
    /// A batch was not taken, so no later one is: what is reported durable has no holes.
    refused: Cell<bool>,
    thread: JoinHandle<()>,
}

/// A batch on its way to the disk.
#[derive(Debug)]
struct Batch {
    number: u64,
    writes: Vec<NodeWrite>,
    bytes: usize,
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
        let (queue, batches) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let theirs = Arc::clone(&waiting);
        let thread = std::thread::Builder::new()
            .name("quorate-store".to_owned())
            .spawn(move || run(store, batches, &theirs, report))?;
        Ok(Committer {
            queue,
            waiting,
            refused: Cell::new(false),
            thread,
        })
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
        let bytes = WRITE + writes.iter().map(weight).sum::<usize>();
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        if self.refused.get() || before > 0 && before + bytes > QUEUE_BYTES {
            self.refused.set(true);
            return Err(Stalled { ended: false });
        }
        let batch = Batch {
            number: batch,
            writes,
            bytes,
        };
        self.queue.send(batch).map_err(|_| Stalled { ended: true })
    }

    /// Waits until everything submitted is written and the store is closed; false if the thread broke
    /// down, or the disk did not finish within `patience`. What was submitted is then written by the
    /// thread that is left behind, if it is ever written.
    #[must_use]
    pub fn finish(self, patience: Duration) -> bool {
        drop(self.queue);
        let until = Instant::now() + patience;
        while !self.thread.is_finished() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.thread.join().is_ok()
    }
}

/// Bytes that a write holds while it waits.
fn weight(write: &NodeWrite) -> usize {
    let carried = match write {
        NodeWrite::Member(Write::Append { entries, .. }) => {
            let bytes = |e| codec::size(Kind::Stream, e).unwrap_or(QUEUE_BYTES);
            entries.iter().map(bytes).sum()
        }
        NodeWrite::Member(Write::Snapshot { bytes, .. }) => bytes.len(),
        _ => 0,
    };
    WRITE + carried
}

/// The store is closed here as well: what that writes waits for the disk like everything else.
fn run(
    mut store: Store,
    batches: Receiver<Batch>,
    waiting: &AtomicUsize,
    mut report: impl FnMut(Committed),
) {
    while let Ok(first) = batches.recv() {
        let mut group = vec![first];
        group.extend(batches.try_iter().take(GROUP));
        let last = group.last().map_or(0, |batch| batch.number);
        let writes = group.iter().flat_map(|batch| &batch.writes);
        // A panic below must reach the node as a failed store, not as silence.
        let done = catch_unwind(AssertUnwindSafe(|| store.commit_all(writes)));
        let bytes = group.iter().map(|batch| batch.bytes).sum();
        waiting.fetch_sub(bytes, Ordering::Relaxed);
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
        return;
    }
}
