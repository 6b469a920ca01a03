//! What the lab's guests write to their disks, and how it is read.
//!
//! The first sector holds a command for one start of the guest. Every start writes to a slot of
//! its own, one record a sector: `LAB start slot counter host rtc uptime`. Its record 0, the claim,
//! goes on with `start=counter` for every earlier slot: how far that start had come when this one
//! began. The clock is the emulated hardware clock, which shows the wall time of the one machine
//! that all hosts of a lab share. `scripts/lab/guest-init` writes it.

use super::image::Image;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a record.
pub const SECTOR: u64 = 512;
/// Bytes of a slot, and of what is before the first.
pub const SLOT: u64 = 1 << 20;
/// Slots of a disk.
pub const SLOTS: u64 = 63;
/// Records that a slot holds; a start that runs longer writes the last place again and again.
pub const RECORDS: u64 = SLOT / SECTOR;

/// Bytes of a disk.
pub const SIZE: u64 = SLOT * (SLOTS + 1);

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Which start of the guest wrote it: no two have the same.
    pub start: String,
    /// The slot it chose.
    pub slot: u64,
    /// Records this start wrote before.
    pub counter: u64,
    /// The host that the start happened on.
    pub host: String,
    /// The hardware clock, in whole seconds.
    pub rtc: u64,
    /// Seconds since the guest's kernel began.
    pub uptime: f64,
    /// Of a claim: every earlier start with its highest counter.
    pub seen: Vec<(String, u64)>,
}

/// Reads one sector; `None` if nothing was ever written there.
///
/// # Errors
/// What is there instead of a record.
pub fn parse(sector: &[u8]) -> Result<Option<Record>, String> {
    if sector.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(sector);
    let unreadable = || format!("no record: {:?}", text.trim_end_matches(['\0', ' ', '\n']));
    record(text.trim_end_matches(['\0', ' ', '\n']))
        .map(Some)
        .ok_or_else(unreadable)
}

fn record(text: &str) -> Option<Record> {
    let mut words = text.split(' ');
    if words.next() != Some("LAB") {
        return None;
    }
    let mut record = Record {
        start: words.next()?.to_owned(),
        slot: words.next()?.parse().ok()?,
        counter: words.next()?.parse().ok()?,
        host: words.next()?.to_owned(),
        rtc: words.next()?.parse().ok()?,
        uptime: words.next()?.parse().ok()?,
        seen: Vec::new(),
    };
    for word in words {
        let (start, counter) = word.split_once('=')?;
        record.seen.push((start.to_owned(), counter.parse().ok()?));
    }
    Some(record)
}

/// All slots in use, each with its sectors up to the last written one.
pub type Slots = Vec<Vec<Result<Option<Record>, String>>>;

/// Reads a whole disk.
///
/// # Errors
/// It cannot be read.
pub fn read(path: &Path) -> io::Result<Slots> {
    let image = Image::open(path)?;
    let mut slots = Vec::new();
    let mut bytes = vec![0; SLOT as usize];
    for slot in 0..SLOTS {
        image.read_at(&mut bytes, (slot + 1) * SLOT)?;
        let sectors: Vec<_> = bytes.chunks(SECTOR as usize).map(parse).collect();
        let used = sectors.iter().rposition(|s| !matches!(s, Ok(None)));
        slots.push(
            sectors
                .into_iter()
                .take(used.map_or(0, |i| i + 1))
                .collect(),
        );
    }
    // A start takes the first free slot, so behind an unused one there is none; if there is,
    // the judge sees it.
    while slots.last().is_some_and(Vec::is_empty) {
        slots.pop();
    }
    Ok(slots)
}

/// The last record of a slot; `None` if it is not in use.
///
/// # Errors
/// It cannot be read.
pub fn last_of(image: &Image, slot: u64) -> io::Result<Option<Record>> {
    let mut low = 0;
    let mut high = RECORDS;
    let mut last = None;
    // Sectors are written in order, so the written ones are a beginning.
    while low < high {
        let middle = (low + high) / 2;
        match sector(image, slot, middle)? {
            Some(record) => (last, low) = (Some(record), middle + 1),
            None => high = middle,
        }
    }
    Ok(last)
}

/// One record of a slot.
///
/// # Errors
/// It cannot be read, or is no record.
pub fn sector(image: &Image, slot: u64, index: u64) -> io::Result<Option<Record>> {
    let mut bytes = [0; SECTOR as usize];
    image.read_at(&mut bytes, (slot + 1) * SLOT + index * SECTOR)?;
    parse(&bytes).map_err(io::Error::other)
}

/// The last record of the youngest start; `None` if the guest never ran.
///
/// # Errors
/// It cannot be read.
pub fn last(path: &Path) -> io::Result<Option<Record>> {
    let image = Image::open(path)?;
    let mut found = None;
    for slot in 0..SLOTS {
        match last_of(&image, slot)? {
            Some(record) => found = Some(record),
            None => break,
        }
    }
    Ok(found)
}

/// Makes an empty disk.
///
/// # Errors
/// It cannot be made.
pub fn make(path: &Path) -> io::Result<()> {
    File::create_new(path)?.set_len(SIZE)
}

/// Tells one start of the guest to do something. `number` differs from the one before.
///
/// # Errors
/// It cannot be written.
pub fn command(path: &Path, number: u64, start: &str, words: &str) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let mut sector = format!("DO {number} {start} {words}\n").into_bytes();
    sector.resize(SECTOR as usize, 0);
    file.write_all_at(&sector, 0)?;
    // The guest reads past the host's cache.
    file.sync_data()
}
