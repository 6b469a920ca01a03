//! What a guest of the demo writes about itself, and how it is read.
//!
//! A line is `boottime_ns host epoch pid`. The clock is the kernel's `CLOCK_BOOTTIME`, whatever a time
//! namespace adds to it, so lines of different hosts can be compared. The file lies on storage that
//! all hosts share, like a guest's disk would: two copies of a guest would both write into it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::OnceLock;

/// Time between two lines of a running guest, in nanoseconds.
pub const INTERVAL_NS: u64 = 20_000_000;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When, in nanoseconds of the boot clock.
    pub at: u64,
    /// Which life of the guest wrote it.
    pub life: Life,
}

/// One process of a guest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// Name of the host it runs on, as the kernel says it.
    pub host: String,
    /// The guest epoch it was started under.
    pub epoch: String,
    /// Its pid, in its host's own counting.
    pub pid: u32,
}

/// This moment of the kernel's boot clock, in nanoseconds.
pub fn now() -> u64 {
    static AHEAD: OnceLock<u64> = OnceLock::new();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
    now - AHEAD.get_or_init(ahead)
}

/// How far the time namespace of this process is ahead of the kernel's boot clock, in nanoseconds.
/// A kernel without time namespaces has no such file.
fn ahead() -> u64 {
    let offsets = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    let line = offsets.lines().find_map(|l| l.strip_prefix("boottime"));
    let mut numbers = line.unwrap_or_default().split_whitespace();
    let seconds = numbers.next().and_then(|n| n.parse().ok());
    seconds.unwrap_or(0_u64) * 1_000_000_000
}

/// Reads a line, without its newline.
pub fn parse(line: &str) -> Option<Record> {
    let mut words = line.split(' ');
    let at = words.next()?.parse().ok()?;
    let host = words.next()?.to_owned();
    let epoch = words.next()?.to_owned();
    let pid = words.next()?.parse().ok()?;
    if words.next().is_some() || host.is_empty() || epoch.is_empty() {
        return None;
    }
    Some(Record {
        at,
        life: Life { host, epoch, pid },
    })
}

/// The last whole line of a record file; `None` while there is none.
pub fn last(path: &Path) -> io::Result<Option<Record>> {
    // Longer than any two lines.
    const TAIL: u64 = 512;
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = String::new();
    file.read_to_string(&mut tail)?;
    let Some(end) = tail.rfind('\n') else {
        return Ok(None);
    };
    Ok(tail[..end].rsplit('\n').next().and_then(parse))
}
