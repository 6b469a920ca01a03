//! How long the store of a voter takes for a write, so that a leader whose disk is slow is noticed.

use crate::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// Batches on their way to the store; more are counted with the oldest of them.
const REMEMBERED: usize = 256;

/// The batches on their way to the store, and how long the last one took.
#[derive(Clone, Debug, Default)]
pub(crate) struct DiskLag {
    under_way: VecDeque<(u64, Time)>,
    last: Duration,
}

impl DiskLag {
    /// A batch is given to the store.
    pub(crate) fn begins(&mut self, now: Time, batch: u64) {
        if self.under_way.len() < REMEMBERED {
            self.under_way.push_back((batch, now));
        }
    }

    /// Batches up to `batch` are durable.
    pub(crate) fn done(&mut self, now: Time, batch: u64) {
        while let Some((number, began)) = self.under_way.front()
            && *number <= batch
        {
            self.last = now.since(*began);
            self.under_way.pop_front();
        }
    }

    /// Age of the oldest write under way; zero if there is none.
    pub(crate) fn stands(&self, now: Time) -> Duration {
        let began = self.under_way.front().map(|(_, began)| now.since(*began));
        began.unwrap_or_default()
    }

    /// The longer of the last write and the one under way.
    pub(crate) fn lag(&self, now: Time) -> Duration {
        self.stands(now).max(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_under_way_counts_before_it_ends() {
        let at = Time::from_millis;
        let ms = Duration::from_millis;
        let mut disk = DiskLag::default();
        assert_eq!(disk.lag(at(9)), Duration::ZERO);
        disk.begins(at(10), 1);
        disk.begins(at(20), 2);
        assert_eq!(disk.lag(at(50)), ms(40));
        disk.done(at(60), 1);
        assert_eq!(disk.lag(at(61)), ms(50));
        assert_eq!(disk.lag(at(100)), ms(80));
        disk.done(at(110), 2);
        assert_eq!(disk.lag(at(500)), ms(90), "the last one");
        assert_eq!(disk.stands(at(500)), Duration::ZERO);
    }
}
