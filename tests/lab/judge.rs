//! Whether two copies of a guest ever ran at once, by what its disk says and by nothing else.
//!
//! A start that still writes after another one began is found without any clock: the later one
//! wrote down how far the earlier one had come. The emulated hardware clock, which shows the wall time
//! of the machine, must say the same, to a second. The guest's own clock is not used: on a starved
//! machine its kernel misjudges it by a factor. Pure, so that it can be tested with records that no
//! healthy cluster writes.

use super::disk::{RECORDS, Record, Slots};
use std::fmt;

/// One start of a guest.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    /// Its name for itself.
    pub start: String,
    /// The host.
    pub host: String,
    /// First record.
    pub first: Record,
    /// Last record.
    pub last: Record,
}

/// What is wrong with the records of one guest.
#[derive(Clone, Debug, PartialEq)]
pub enum Charge {
    /// A sector that no guest writes, or where no start would write it.
    Unreadable {
        slot: usize,
        sector: usize,
        why: String,
    },
    /// Two starts wrote into one slot.
    OneSlot {
        slot: usize,
        first: String,
        second: String,
    },
    /// A start went on writing after another had begun.
    WroteOn {
        first: String,
        second: String,
        records: u64,
    },
    /// A start wrote, by the hardware clock, when another one was up already.
    Overlap {
        first: String,
        second: String,
        seconds: u64,
    },
    /// A start began without seeing an earlier one.
    Unseen { first: String, second: String },
}

/// Judges the disk of one guest; the lives in the order of their slots.
pub fn judge(slots: &Slots) -> (Vec<Life>, Vec<Charge>) {
    let mut lives = Vec::new();
    let mut charges = Vec::new();
    for (slot, sectors) in slots.iter().enumerate() {
        lives.extend(life(slot, sectors, &mut charges));
    }
    for (i, later) in lives.iter().enumerate() {
        for earlier in &lives[..i] {
            pair(earlier, later, &mut charges);
        }
    }
    (lives, charges)
}

fn life(
    slot: usize,
    sectors: &[Result<Option<Record>, String>],
    charges: &mut Vec<Charge>,
) -> Option<Life> {
    let mut found: Option<Life> = None;
    for (sector, what) in sectors.iter().enumerate() {
        let unreadable = |why: String| Charge::Unreadable { slot, sector, why };
        let record = match what {
            Ok(Some(record)) => record,
            Ok(None) => {
                charges.push(unreadable("left out".into()));
                continue;
            }
            Err(why) => {
                charges.push(unreadable(why.clone()));
                continue;
            }
        };
        // The last place is written again and again.
        let placed = record.counter == sector as u64
            || (sector as u64 == RECORDS - 1 && record.counter > sector as u64);
        if record.slot != slot as u64 || !placed {
            charges.push(unreadable(format!("out of place: {record:?}")));
        }
        match &mut found {
            None => {
                found = Some(Life {
                    start: record.start.clone(),
                    host: record.host.clone(),
                    first: record.clone(),
                    last: record.clone(),
                });
            }
            Some(life) if life.start != record.start => {
                let charge = Charge::OneSlot {
                    slot,
                    first: life.start.clone(),
                    second: record.start.clone(),
                };
                if !charges.contains(&charge) {
                    charges.push(charge);
                }
            }
            Some(life) => life.last = record.clone(),
        }
    }
    found
}

fn pair(earlier: &Life, later: &Life, charges: &mut Vec<Charge>) {
    let (first, second) = (earlier.start.clone(), later.start.clone());
    let seen = later.first.seen.iter().find(|(s, _)| *s == earlier.start);
    match seen {
        None => {
            charges.push(Charge::Unseen { first, second });
            return;
        }
        Some((_, counter)) if earlier.last.counter > *counter => {
            charges.push(Charge::WroteOn {
                first,
                second,
                records: earlier.last.counter - counter,
            });
            return;
        }
        Some(_) => {}
    }
    // Both are whole seconds of one clock.
    let over = earlier.last.rtc.saturating_sub(began(later));
    if over > 0 {
        charges.push(Charge::Overlap {
            first,
            second,
            seconds: over,
        });
    }
}

/// When the first program of a start ran: its name begins with that.
fn began(life: &Life) -> u64 {
    let stamp = life.start.split('-').next().and_then(|s| s.parse().ok());
    stamp.map_or(life.first.rtc, |at: u64| at.min(life.first.rtc))
}

impl fmt::Display for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Charge::Unreadable { slot, sector, why } => {
                write!(f, "slot {slot}, sector {sector}: {why}")
            }
            Charge::OneSlot {
                slot,
                first,
                second,
            } => write!(f, "starts {first} and {second} both wrote to slot {slot}"),
            Charge::WroteOn {
                first,
                second,
                records,
            } => write!(
                f,
                "start {first} wrote {records} records after start {second} had begun"
            ),
            Charge::Overlap {
                first,
                second,
                seconds,
            } => write!(
                f,
                "start {first} wrote {seconds} s after start {second} had come up"
            ),
            Charge::Unseen { first, second } => {
                write!(f, "start {second} began without seeing start {first}")
            }
        }
    }
}
