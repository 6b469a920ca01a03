//! The counter by which the daemon sees that the guardian is at work.

use super::records::{GUARDIAN_VERSION, PulseRecord, RunDir};
use super::slots::{self, Slots};
use crate::clock::Clock;
use quorate_membership::attest::Pulse;
use quorate_membership::entry::Armed;
use quorate_membership::{BootId, Time};
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

/// A counter that has not moved for so long may be another file by now.
const REOPEN: Duration = Duration::from_secs(1);

/// The guardian's end: raised by the thread that ends guests, and by no other.
#[derive(Debug)]
pub(super) struct Raise {
    slots: Slots<PulseRecord>,
    record: PulseRecord,
}

impl Raise {
    /// A guardian takes office. Reads what the one before left.
    pub(super) fn begin(run: &RunDir, boot: BootId, armed: Armed) -> Raise {
        let before = slots::read::<PulseRecord>(&run.pulse()).ok().flatten();
        let before = before.filter(|r| r.boot == boot);
        let now = Clock.now();
        let starts = before.map_or([Time::ZERO; 3], |r| r.starts);
        Raise {
            slots: Slots::new(run.pulse()),
            record: PulseRecord {
                version: GUARDIAN_VERSION,
                boot,
                count: before.map_or(0, |r| r.count),
                at: now,
                starts: [starts[1], starts[2], now],
                armed,
            },
        }
    }

    /// It has looked, and is about to act on what it saw. A write that fails is a counter that
    /// stands still, which the daemon takes for the worst.
    pub(super) fn raise(&mut self, armed: Armed) {
        self.record.count += 1;
        self.record.at = Clock.now();
        self.record.armed = armed;
        let _ = self.slots.write(&self.record);
    }
}

/// The daemon's end.
#[derive(Debug)]
pub(crate) struct Watch {
    path: PathBuf,
    boot: BootId,
    file: Option<File>,
    /// What was told last, and when it changed.
    told: Option<Pulse>,
    changed: Time,
}

impl Watch {
    /// Of this run directory and boot.
    pub(crate) fn new(run: &RunDir, boot: BootId) -> Watch {
        Watch {
            path: run.pulse(),
            boot,
            file: None,
            told: None,
            changed: Time::ZERO,
        }
    }

    /// The reading, if it is another one than last time. `Some(None)`: what is there now is of no
    /// guardian that this daemon can trust.
    pub(crate) fn news(&mut self) -> Option<Option<Pulse>> {
        let now = Clock.now();
        let mut pulse = self.read();
        if pulse == self.told && now.since(self.changed) >= REOPEN {
            self.changed = now;
            self.file = None;
            pulse = self.read();
        }
        if pulse == self.told {
            return None;
        }
        (self.told, self.changed) = (pulse, now);
        Some(pulse)
    }

    fn read(&mut self) -> Option<Pulse> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let read = slots::read_open::<PulseRecord>(self.file.as_ref()?);
        let record = read.ok().flatten()?;
        let trusted = record.boot == self.boot && record.version == GUARDIAN_VERSION;
        trusted.then(|| Pulse {
            armed: record.armed,
            count: record.count,
            at: record.at,
            third_start: Some(record.starts[0]).filter(|at| *at > Time::ZERO),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_membership::entry::ArmedClass;

    const ARMED: Armed = Armed {
        class: ArmedClass::Guardian,
        reset: false,
    };

    #[test]
    fn a_reading_is_told_once_and_the_third_last_start_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let run = RunDir::create(dir.path()).expect("made");
        let mut watch = Watch::new(&run, BootId(1));
        assert_eq!(watch.news(), None, "nobody was there yet");
        let mut first = Raise::begin(&run, BootId(1), ARMED);
        first.raise(ARMED);
        let told = watch.news().flatten().expect("a reading");
        assert_eq!((told.count, told.third_start), (1, None));
        assert_eq!(watch.news(), None, "the same again");
        for _ in 0..2 {
            Raise::begin(&run, BootId(1), ARMED).raise(ARMED);
        }
        let told = watch.news().flatten().expect("a reading");
        assert_eq!(told.count, 3, "it never falls");
        assert!(told.third_start.is_some(), "three have begun");
        let mut elsewhere = Watch::new(&run, BootId(2));
        assert_eq!(elsewhere.news(), None, "another boot");
    }

    #[test]
    fn a_guardian_of_another_version_is_not_trusted() {
        let dir = tempfile::tempdir().expect("a directory");
        let run = RunDir::create(dir.path()).expect("made");
        let mut raise = Raise::begin(&run, BootId(1), ARMED);
        raise.raise(ARMED);
        let mut watch = Watch::new(&run, BootId(1));
        assert!(watch.news().flatten().is_some());
        raise.record.version += 1;
        raise.raise(ARMED);
        assert_eq!(watch.news(), Some(None));
    }
}
