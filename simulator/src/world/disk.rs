//! Disks: a write is durable only after a while, in order; a crash may lose what is not.

use super::rng::Rng;
use super::{Item, Types, World};
use std::collections::VecDeque;

/// One node's disk. `W` is one atomic batch of writes.
#[derive(Debug)]
pub struct Disk<W> {
    /// Batches given but not durable, oldest first.
    pending: VecDeque<(u64, W)>,
    /// Rises at every crash: completions of earlier lives mean nothing.
    pub(super) life: u32,
    /// When the newest batch will be durable.
    pub(super) busy_until: u64,
    /// Shortest and longest time of one batch in nanoseconds.
    pub delay: (u64, u64),
    /// Every further batch fails.
    pub failed: bool,
}

impl<W> Default for Disk<W> {
    fn default() -> Disk<W> {
        Disk {
            pending: VecDeque::new(),
            life: 0,
            busy_until: 0,
            delay: (100_000, 2_000_000),
            failed: false,
        }
    }
}

impl<W> Disk<W> {
    pub(super) fn put(&mut self, batch: u64, write: W) {
        self.pending.push_back((batch, write));
    }

    pub(super) fn complete(&mut self) -> Option<(u64, W)> {
        self.pending.pop_front()
    }

    /// Nothing more is durable before true time `until`; what was on its way still is.
    pub fn stall(&mut self, until: u64) {
        self.busy_until = self.busy_until.max(until);
    }

    /// The node is gone: the batches that reached the disk all the same. A batch is atomic and
    /// batches are ordered, so it is always the oldest of them, possibly none.
    pub fn crash(&mut self, rng: &mut Rng) -> Vec<W> {
        self.life += 1;
        self.busy_until = 0;
        let kept = rng.range(0, self.pending.len() as u64) as usize;
        let all = std::mem::take(&mut self.pending);
        all.into_iter().take(kept).map(|(_, w)| w).collect()
    }

    /// Batches not yet durable.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.pending.len()
    }
}

impl<T: Types> World<T> {
    /// A stall of a disk is over: what waits becomes durable at the disk's own pace.
    pub fn disk_goes_on(&mut self, node: usize) {
        let disk = &mut self.disks[node];
        if disk.busy_until <= self.now || disk.pending.is_empty() {
            disk.busy_until = disk.busy_until.min(self.now);
            return;
        }
        disk.busy_until = self.now;
        let ((low, high), life) = (disk.delay, disk.life);
        // What was planned for the end of the stall finds nothing left then, or a batch that came
        // since, a moment before its time.
        for _ in 0..disk.pending.len() {
            disk.busy_until += self.writes.next(node).range(low, high) + 1;
            let node = node as u16;
            self.queue
                .push(disk.busy_until, Item::Durable { node, life });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rng::Stream;
    use super::*;

    #[test]
    fn a_crash_keeps_a_prefix_of_any_length() {
        let mut rng = Rng::new(3, Stream::Disk);
        let mut lengths = [false; 4];
        for _ in 0..200 {
            let mut d = Disk::default();
            (0..3).for_each(|n| d.put(n, n));
            let kept = d.crash(&mut rng);
            assert_eq!(kept, (0..kept.len() as u64).collect::<Vec<_>>());
            lengths[kept.len()] = true;
            assert_eq!(d.waiting(), 0);
        }
        assert_eq!(lengths, [true; 4]);
    }
}
