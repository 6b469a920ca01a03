//! A small record that is overwritten in place, in a file that is made once: a file system that has
//! become full costs nothing.
//!
//! Two slots take turns, each a record with a sequence number and a sum, so that a reader that
//! meets a half-written one has the one before.

use super::records::{self, Record};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::marker::PhantomData;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes of a slot: far more than any record needs.
const SLOT: usize = 1024;
/// A slot that was being written at each of so many looks is damaged.
const LOOKS: usize = 3;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Slot<R> {
    sequence: u64,
    record: R,
}

impl<R: Record> Record for Slot<R> {
    const KIND: &'static str = R::KIND;
}

/// The writer's end, which may read as well. One writer at a time.
#[derive(Debug)]
pub struct Slots<R> {
    path: PathBuf,
    file: Option<File>,
    sequence: u64,
    kind: PhantomData<R>,
}

impl<R: Record + Copy> Slots<R> {
    /// The record at `path`. Nothing is made or opened yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Slots<R> {
        Slots {
            path,
            file: None,
            sequence: 0,
            kind: PhantomData,
        }
    }

    /// Overwrites the older slot. The file is made if it is not there, or if another lies there.
    ///
    /// # Errors
    /// It cannot be written; what stood before stands on. Names the file.
    pub fn write(&mut self, record: &R) -> io::Result<()> {
        self.put(record)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.path.display())))
    }

    fn put(&mut self, record: &R) -> io::Result<()> {
        if !self.file.as_ref().is_some_and(|f| lies_at(f, &self.path)) {
            self.file = Some(open(&self.path)?);
            // A writer before this one may have got further.
            self.sequence = self
                .sequence
                .max(newest::<R>(&bytes(self.file.as_ref())).map_or(0, |s| s.sequence));
        }
        let sequence = self.sequence + 1;
        let mut slot = encode(sequence, record);
        if slot.len() > SLOT {
            return Err(io::Error::other("the record is too long"));
        }
        slot.resize(SLOT, 0);
        let at = (sequence % 2) * SLOT as u64;
        let done = match &self.file {
            Some(file) => file.write_all_at(&slot, at),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        if let Err(e) = done {
            self.file = None;
            return Err(e);
        }
        self.sequence = sequence;
        Ok(())
    }
}

/// What is written into a slot, before the zeros that fill it.
#[must_use]
pub fn encode<R: Record + Copy>(sequence: u64, record: &R) -> Vec<u8> {
    let record = *record;
    records::encode(&Slot { sequence, record })
}

/// The newest intact record at `path`; `None` if there is no file or nothing was written yet.
///
/// # Errors
/// It cannot be read, or neither slot is intact; names the file.
pub fn read<R: Record>(path: &Path) -> Result<Option<R>, String> {
    match File::open(path) {
        Ok(file) => read_open(&file).map_err(|e| format!("{}: {e}", path.display())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}

/// The same of a file that is open.
///
/// # Errors
/// It cannot be read, or neither slot is intact.
pub fn read_open<R: Record>(file: &File) -> Result<Option<R>, String> {
    let mut last = Err("no slot is intact".to_owned());
    for _ in 0..LOOKS {
        let mut page = [0; 2 * SLOT];
        let n = file.read_at(&mut page, 0).map_err(|e| e.to_string())?;
        if n < page.len() {
            return Err("cut short".into());
        }
        let halves = [&page[..SLOT], &page[SLOT..]];
        let empty = halves.iter().filter(|s| s.iter().all(|b| *b == 0)).count();
        let intact = halves.iter().filter(|s| slot::<R>(s).is_some()).count();
        match newest::<R>(&page) {
            Some(found) => last = Ok(Some(found.record)),
            None if empty == 2 => return Ok(None),
            None => {}
        }
        if intact + empty == 2 {
            break;
        }
    }
    last
}

fn slot<R: Record>(bytes: &[u8]) -> Option<Slot<R>> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let rest = &bytes[end..];
    let fine = end > 0 && rest.iter().all(|b| *b == 0);
    fine.then(|| records::decode(&bytes[..end]).ok()).flatten()
}

fn newest<R: Record>(page: &[u8]) -> Option<Slot<R>> {
    let slots = page.chunks(SLOT).filter_map(slot::<R>);
    slots.max_by_key(|s| s.sequence)
}

fn bytes(file: Option<&File>) -> Vec<u8> {
    let mut page = vec![0; 2 * SLOT];
    let read = file.map_or(Ok(0), |f| f.read_at(&mut page, 0));
    page.truncate(read.unwrap_or(0));
    page
}

/// Whether this file, whole, is the one that lies there.
fn lies_at(file: &File, path: &Path) -> bool {
    match (fs::metadata(path), file.metadata()) {
        (Ok(there), Ok(mine)) => {
            let whole = mine.len() == 2 * SLOT as u64;
            whole && (there.dev(), there.ino()) == (mine.dev(), mine.ino())
        }
        _ => false,
    }
}

/// Opens the file, or makes it with all the room it will ever need.
fn open(path: &Path) -> io::Result<File> {
    let whole = (2 * SLOT) as u64;
    match File::options().read(true).write(true).open(path) {
        Ok(file) if file.metadata()?.len() == whole => return Ok(file),
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let made = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&new)
        .and_then(|file| {
            // Written, not only set long: a hole would need room later.
            file.write_all_at(&[0; 2 * SLOT], 0)?;
            fs::rename(&new, path)?;
            Ok(file)
        });
    if made.is_err() {
        let _ = fs::remove_file(&new);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guardian::records::GoRecord;
    use quorate_membership::Time;

    fn go(n: u64) -> GoRecord {
        GoRecord { not_after: Time(n) }
    }

    #[test]
    fn the_newest_intact_slot_is_read_whatever_becomes_of_the_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x");
        assert_eq!(read::<GoRecord>(&path), Ok(None));
        let mut slots = Slots::new(path.clone());
        for n in 1..=5 {
            slots.write(&go(n)).expect("written");
            assert_eq!(read(&path), Ok(Some(go(n))));
        }
        let file = File::options().write(true).open(&path).expect("there");
        // The slot of the fifth, torn: the fourth stands.
        file.write_all_at(b"torn", SLOT as u64 + 30).expect("torn");
        assert_eq!(read(&path), Ok(Some(go(4))));
        file.write_all_at(b"torn", 30).expect("torn");
        assert!(read::<GoRecord>(&path).is_err(), "nothing is known");
        file.set_len(100).expect("cut");
        assert!(read::<GoRecord>(&path).is_err());
        slots.write(&go(9)).expect("made anew");
        assert_eq!(read(&path), Ok(Some(go(9))));
    }

    #[test]
    fn a_later_writer_goes_on_and_a_removed_file_is_made_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x");
        Slots::new(path.clone()).write(&go(1)).expect("written");
        let mut second = Slots::new(path.clone());
        second.write(&go(2)).expect("written");
        assert_eq!(read(&path), Ok(Some(go(2))));
        fs::remove_file(&path).expect("removed");
        second.write(&go(3)).expect("written");
        assert_eq!(read(&path), Ok(Some(go(3))));
        fs::remove_dir_all(dir.path()).expect("removed");
        assert!(second.write(&go(4)).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x");
        for bytes in [&b""[..], &[0; 4096], &[255; 4096], b"quorate go 1 \n{}\n"] {
            fs::write(&path, bytes).expect("written");
            let _ = read::<GoRecord>(&path);
        }
    }
}
