//! A lock file read and written past the page cache.
//!
//! With `O_DIRECT` where the file system knows it. Elsewhere what the cache holds is dropped
//! before each read, writes go through (`O_SYNC`), and the file is opened anew each time, which on
//! NFS asks the server.

use super::block::{self, BLOCK, Content, FILE};
use rustix::fs::{Advice, OFlags, fadvise};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// A buffer whose content begins where `O_DIRECT` wants it to.
struct Aligned {
    bytes: Vec<u8>,
    at: usize,
}

impl Aligned {
    fn new(size: usize) -> Aligned {
        let bytes = vec![0; size + BLOCK];
        let at = bytes.as_ptr().align_offset(BLOCK).min(BLOCK);
        Aligned { bytes, at }
    }

    fn part(&mut self, size: usize) -> &mut [u8] {
        &mut self.bytes[self.at..self.at + size]
    }
}

/// The flags to try, best first.
const WAYS: [OFlags; 2] = [OFlags::DIRECT, OFlags::empty()];

fn open(path: &Path, options: &mut OpenOptions, extra: OFlags) -> io::Result<File> {
    let flags = extra | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = options
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("something that is no file is there"));
    }
    Ok(file)
}

/// Whether a file system that lacks `O_DIRECT` would say this.
fn lacks_direct(e: &io::Error) -> bool {
    e.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error())
}

/// What the lock file says; no file: nothing.
pub(super) fn read(path: &Path) -> io::Result<Content> {
    let mut last = None;
    for way in WAYS {
        match read_by(path, way) {
            Ok(found) => return Ok(found),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Content::Nothing),
            Err(e) if way == OFlags::DIRECT && lacks_direct(&e) => last = Some(e),
            Err(e) => return Err(e),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("no way to read it")))
}

fn read_by(path: &Path, way: OFlags) -> io::Result<Content> {
    let file = open(path, File::options().read(true), way)?;
    if way.is_empty() {
        // What this host remembers is not what the disk says.
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    let mut buffer = Aligned::new(FILE);
    let mut size = 0;
    while size < FILE {
        let part = &mut buffer.part(FILE)[size..];
        let read = file.read_at(part, size as u64)?;
        size += read;
        if read == 0 || size % BLOCK != 0 {
            break;
        }
    }
    Ok(block::read(buffer.part(size)))
}

/// Writes one block durably, in the turn that its sequence says. The file is made whole first, so
/// that a full disk holds up no later write.
pub(super) fn write(path: &Path, bytes: &[u8], sequence: u64) -> io::Result<()> {
    let mut last = None;
    for way in WAYS {
        match write_by(path, bytes, sequence, way) {
            Err(e) if way == OFlags::DIRECT && lacks_direct(&e) => last = Some(e),
            done => return done,
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("no way to write it")))
}

fn write_by(path: &Path, bytes: &[u8], sequence: u64, way: OFlags) -> io::Result<()> {
    let mut options = File::options();
    options.read(true).write(true).create(true).mode(0o640);
    let file = open(path, &mut options, way | OFlags::SYNC)?;
    let mut buffer = Aligned::new(FILE);
    let whole = file.metadata()?.len() >= FILE as u64;
    let at = (sequence % 2) as usize * BLOCK;
    if whole {
        buffer.part(BLOCK).copy_from_slice(bytes);
        file.write_all_at(buffer.part(BLOCK), at as u64)?;
    } else {
        buffer.part(FILE)[at..at + BLOCK].copy_from_slice(bytes);
        file.write_all_at(buffer.part(FILE), 0)?;
        if let Some(parent) = path.parent() {
            // Its name too.
            File::open(parent)?.sync_all()?;
        }
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_membership::{ClusterId, Incarnation, NodeId, Token};
    use quorate_recovery::guest::GuestId;
    use quorate_recovery::lock::{Life, Lock};

    #[test]
    fn what_was_written_is_read_in_turns() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("disk.quorate-lock");
        assert_eq!(read(&path).expect("readable"), Content::Nothing);
        for sequence in 1..6 {
            let lock = Lock {
                cluster: ClusterId(7),
                guest: GuestId(1),
                life: Life {
                    epoch: Token(3),
                    host: NodeId(1),
                    incarnation: Incarnation::default(),
                },
                raised: sequence,
            };
            let bytes = block::encode(&lock, sequence, "words");
            write(&path, &bytes, sequence).expect("written");
            assert_eq!(
                read(&path).expect("readable"),
                Content::Lock(lock, sequence)
            );
        }
        assert_eq!(path.metadata().expect("there").len(), FILE as u64);
    }

    #[test]
    fn a_link_or_directory_in_place_of_a_lock_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/nowhere", &link).expect("linked");
        assert!(read(&link).is_err());
        assert!(read(dir.path()).is_err());
        assert!(write(&link, &[0; BLOCK], 1).is_err());
    }
}
