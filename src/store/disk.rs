//! A disk in memory for tests: it remembers what was not synced, and can lose power.

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use redb::StorageBackend;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

const SECTOR: usize = 512;

/// What happens to writes that were not synced when the power goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loss {
    /// All are lost.
    All,
    /// None is lost.
    None,
    /// Each is lost or kept by chance, or torn at a sector.
    Random(u64),
}

/// Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    inner: Arc<(Mutex<Inner>, Condvar)>,
}

#[derive(Debug, Default)]
struct Inner {
    /// What a reader sees.
    now: Vec<u8>,
    /// What is certain to survive.
    synced: Vec<u8>,
    unsynced: Vec<Op>,
    operations: u64,
    /// Operations that are still carried out; the power goes at the next.
    power_for: Option<u64>,
    syncs: u64,
    /// Syncs wait.
    held: bool,
    /// Syncs that wait or waited.
    arrived: u64,
}

#[derive(Clone, Debug)]
enum Op {
    Length(usize),
    Write(usize, Vec<u8>),
}

fn apply(bytes: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Length(length) => bytes.resize(*length, 0),
        Op::Write(at, data) => {
            let end = at + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*at..end].copy_from_slice(data);
        }
    }
}

impl Disk {
    /// A disk whose content is certain.
    fn of(bytes: Vec<u8>) -> Disk {
        let disk = Disk::default();
        let mut inner = disk.lock();
        inner.now.clone_from(&bytes);
        inner.synced = bytes;
        drop(inner);
        disk
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.0.lock().expect("no test panics inside the disk")
    }

    /// A copy of what is certain to be there.
    pub(super) fn copy(&self) -> Disk {
        Disk::of(self.lock().synced.clone())
    }

    /// Operations so far.
    pub(super) fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Syncs so far.
    pub(super) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// The power goes after this many more operations.
    pub(super) fn power_for(&self, operations: u64) {
        let mut inner = self.lock();
        inner.power_for = Some(inner.operations + operations);
    }

    /// Makes every sync wait, or lets them go on.
    pub(super) fn hold(&self, held: bool) {
        self.lock().held = held;
        self.inner.1.notify_all();
    }

    /// Waits until a sync waits.
    pub(super) fn wait_for_held_sync(&self) {
        let mut inner = self.lock();
        let before = inner.syncs;
        while inner.arrived == before {
            inner = self.inner.1.wait(inner).expect("no panic inside");
        }
    }

    /// The disk as it is found after the power went.
    pub(super) fn after_power_loss(&self, loss: Loss) -> Disk {
        let inner = self.lock();
        let mut bytes = inner.synced.clone();
        let random = |seed: u64| {
            let mut wide = [0; 32];
            wide[..8].copy_from_slice(&seed.to_le_bytes());
            TestRng::from_seed(RngAlgorithm::ChaCha, &wide)
        };
        match loss {
            Loss::All => {}
            Loss::None => inner.unsynced.iter().for_each(|op| apply(&mut bytes, op)),
            Loss::Random(seed) => {
                let mut random = random(seed);
                for op in &inner.unsynced {
                    match (random.next_u32() % 3, op) {
                        (0, _) => {}
                        (1, Op::Write(at, data)) => {
                            // Sectors are written whole, some of them.
                            let first = SECTOR - at % SECTOR;
                            let mut start = 0;
                            while start < data.len() {
                                let size = if start == 0 { first } else { SECTOR };
                                let end = data.len().min(start + size);
                                if random.next_u32() % 2 == 0 {
                                    let piece = data[start..end].to_vec();
                                    apply(&mut bytes, &Op::Write(at + start, piece));
                                }
                                start = end;
                            }
                        }
                        _ => apply(&mut bytes, op),
                    }
                }
            }
        }
        Disk::of(bytes)
    }

    fn operate(&self, op: Op) -> io::Result<()> {
        let mut inner = self.lock();
        inner.spend()?;
        apply(&mut inner.now, &op);
        inner.unsynced.push(op);
        Ok(())
    }
}

impl Inner {
    fn spend(&mut self) -> io::Result<()> {
        if self.power_for.is_some_and(|end| self.operations >= end) {
            return Err(io::Error::other("the power is gone"));
        }
        self.operations += 1;
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.lock();
        let at = offset as usize;
        let bytes = inner.now.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.operate(Op::Length(length as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.lock();
        inner.arrived += 1;
        self.inner.1.notify_all();
        while inner.held {
            inner = self.inner.1.wait(inner).expect("no panic inside");
        }
        inner.spend()?;
        inner.syncs += 1;
        inner.unsynced.clear();
        inner.synced = inner.now.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.operate(Op::Write(offset as usize, data.to_vec()))
    }
}
