//! S1. The accident: two hosts write to one guest's disk, and its file system is destroyed.
//!
//! A writer is a process that runs on a host that has power and is not frozen. Writes that a
//! stopped writer had under way still reach the storage for a while (drain), and count.

use super::{At, HostName, Violation};
use quorate_recovery::guest::GuestId;
use std::collections::BTreeMap;

/// Writers of every guest.
#[derive(Debug)]
pub struct S1 {
    hosts: usize,
    guests: BTreeMap<GuestId, Vec<Writer>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Writer {
    writing: bool,
    /// When it began, or when it stopped.
    since: u64,
    drains_until: u64,
}

impl S1 {
    /// For so many hosts.
    #[must_use]
    pub fn new(hosts: usize) -> S1 {
        S1 {
            hosts,
            guests: BTreeMap::new(),
        }
    }

    /// `guest` can write on `host` from now on.
    ///
    /// # Errors
    /// Another host can too, or its last writes are still under way.
    pub fn begins(&mut self, now: u64, host: usize, guest: GuestId) -> Result<(), Violation> {
        let hosts = self.hosts;
        let writers = self
            .guests
            .entry(guest)
            .or_insert_with(|| vec![Writer::default(); hosts]);
        writers[host] = Writer {
            writing: true,
            since: now,
            drains_until: 0,
        };
        for (other, w) in writers.iter().enumerate() {
            if other == host || !(w.writing || w.drains_until > now) {
                continue;
            }
            let second = if w.writing {
                format!("{} has run it since {}", HostName(other), At(w.since))
            } else {
                format!(
                    "{} stopped it at {} but its last write lands at {}",
                    HostName(other),
                    At(w.since),
                    At(w.drains_until)
                )
            };
            return Err(Violation::new(
                "S1",
                now,
                format!("{guest} can write on two hosts"),
                [
                    format!("{} runs it from {}", HostName(host), At(now)),
                    second,
                ],
            ));
        }
        Ok(())
    }

    /// `guest` writes on `host` no more; its last write lands at `drains_until`.
    pub fn ends(&mut self, now: u64, host: usize, guest: GuestId, drains_until: u64) {
        if let Some(w) = self.guests.get_mut(&guest).map(|w| &mut w[host]) {
            *w = Writer {
                writing: false,
                since: now,
                drains_until,
            };
        }
    }

    /// The host where `guest` can write now.
    #[must_use]
    pub fn writer(&self, guest: GuestId) -> Option<usize> {
        self.guests.get(&guest)?.iter().position(|w| w.writing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_writers_or_a_writer_beside_a_drain_are_found() {
        let g = GuestId(5);
        let mut s = S1::new(2);
        s.begins(10, 0, g).expect("first");
        assert_eq!(s.writer(g), Some(0));
        assert_eq!(s.begins(20, 1, g).expect_err("two").property, "S1");
        let mut s = S1::new(2);
        s.begins(10, 0, g).expect("first");
        s.ends(20, 0, g, 50);
        assert_eq!(s.writer(g), None);
        s.begins(30, 0, g).expect("the same host may go on");
        s.ends(40, 0, g, 60);
        assert!(s.begins(59, 1, g).is_err());
        s.ends(59, 1, g, 59);
        s.begins(60, 1, g).expect("drained");
        s.begins(60, 0, GuestId(6)).expect("another guest");
    }
}
