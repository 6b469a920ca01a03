//! Every file of the run directory: names, formats, and how they are written.
//!
//! ```text
//! RUN_DIR/lease.slots                  until when guests may run
//! RUN_DIR/guardian.pulse               that the guardian is at work: its counter
//! RUN_DIR/guardian.lock                held by the one guardian
//! RUN_DIR/guardian.state               who that is
//! RUN_DIR/limits                       the times it works by
//! RUN_DIR/guests/G-E                   guest G runs, or is held, under epoch E: its process group
//! RUN_DIR/guests/G-E.N.intent          a start that has not registered yet; N is drawn per start
//! RUN_DIR/guests/G-E.N.held            created, has not run its program yet
//! RUN_DIR/guests/G-E.N.go              the permission to, and until when it may be used
//! RUN_DIR/guests/G-E.N.why             why it ended before it ran its program, in words
//! RUN_DIR/guests/G-E.N.domain          it is a domain of libvirt: which one
//! RUN_DIR/guests/G-E.N.cgroup          the control group it is in
//! RUN_DIR/locks/G-E.plan, G-E.state    its locks beside images: what is kept, and how that stands
//! RUN_DIR/guests/G-E.N.ocf             it is a resource of an agent: how it is stopped
//! ```
//!
//! A record is one line `quorate KIND 1 SUM` and a JSON object; SUM is half a SHA-256 of the
//! object. A record that does not check out says nothing, and the reader must take that as the
//! worst: a lease is over, a start is under way. Files appear by rename, so no reader meets half a
//! record, except `lease.slots` and `guardian.pulse`, which are overwritten in place
//! (`src/guardian/slots.rs`); they are not synced, since a power cut ends the guests too and the boot id tells.
//!
//! A start changes from "intended" to "registered" by one rename of the same file, done by the
//! starting process itself. Whoever unlinks the intent first has called the start off for
//! certain, with no timer: the rename then fails and the process exits without running anything.

use super::{cgroups, reset::Reach, slots};
use quorate_membership::entry::Armed;
use quorate_membership::{BootId, Incarnation, Time, Token};
use quorate_recovery::guest::GuestId;
use ring::digest;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A record larger than this is not ours.
const LARGEST: u64 = 1 << 20;

/// Set in the environment of every guest process: the run directory it belongs to.
pub const MARK_DIR: &str = "QUORATE_RUN_DIR";
/// Set in the environment of every guest process: its guest id, 16 hexadecimal digits.
pub const MARK_GUEST: &str = "QUORATE_GUEST";
/// Set in the environment of every guest process: its epoch, 16 hexadecimal digits.
pub const MARK_EPOCH: &str = "QUORATE_EPOCH";
/// Set in the environment of a domain's QEMU: the UUID of the domain that the marks were made for.
pub const MARK_DOMAIN: &str = "QUORATE_DOMAIN";

/// Until when guests may run. Lies in `lease.slots`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseRecord {
    /// The boot whose clock `end` is a reading of.
    pub boot: BootId,
    /// Whose lease it is.
    pub incarnation: Incarnation,
    /// The lease end, `CLOCK_BOOTTIME`.
    pub end: Time,
}

/// A start the daemon is about to make. Lies in `guests/G-E.N.intent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntentRecord {
    /// The guest.
    pub guest: GuestId,
    /// The epoch it starts under.
    pub epoch: Token,
    /// The boot it belongs to.
    pub boot: BootId,
    /// The guest's name.
    pub name: String,
    /// The host's name.
    pub host: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the clean environment.
    pub env: BTreeMap<String, String>,
}

/// A guest's process group. Lies in `guests/G-E`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestRecord {
    /// The guest.
    pub guest: GuestId,
    /// The epoch it was created under.
    pub epoch: Token,
    /// The boot it belongs to.
    pub boot: BootId,
    /// Drawn for this start: names its marks.
    pub draw: u64,
    /// Process id of the leader. It leads its group and session too, unless libvirt started it.
    pub pgid: i32,
    /// When the leader started, in clock ticks since boot: tells it from a later process of that id.
    pub start: u64,
}

/// The permission to run a held guest's program. Lies in `guests/G-E.N.go`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoRecord {
    /// Not to be used later than this.
    pub not_after: Time,
}

/// What daemon and guardian agree on: how the lease is read, and which kinds of guests are ended.
/// A daemon trusts no guardian of another version.
pub const GUARDIAN_VERSION: u32 = 1;

/// The guardian is at work. Lies in `guardian.pulse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PulseRecord {
    /// [`GUARDIAN_VERSION`] of the guardian that wrote it.
    pub version: u32,
    /// The boot it is of.
    pub boot: BootId,
    /// Rises with every look of the thread that ends guests; never falls within a boot.
    pub count: u64,
    /// When that was raised last, `CLOCK_BOOTTIME`.
    pub at: Time,
    /// When the last three guardians began, oldest first; 0 for none.
    pub starts: [Time; 3],
    /// What stands behind the lease.
    pub armed: Armed,
}

/// Who the guardian is. Lies in `guardian.state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardianState {
    /// Its process id.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start: u64,
    /// The boot it runs in.
    pub boot: BootId,
    /// Its memory cannot be paged out.
    pub locked_in_memory: bool,
    /// It runs under real-time scheduling.
    pub realtime: bool,
    /// How often it has ended guests.
    pub endings: u64,
    /// What a reset by it ends.
    pub reach: Reach,
    /// How long the last ending took, from the lease end on, in milliseconds.
    pub last_end_ms: Option<u64>,
    /// The last thing an operator should know, in words.
    pub alarm: Option<String>,
    /// [`GUARDIAN_VERSION`] of it; 0 if it is older than that.
    #[serde(default)]
    pub version: u32,
    /// A unit of its own started it.
    #[serde(default)]
    pub unit: bool,
}

/// A kind of record: the word in its first line.
pub trait Record: Serialize + DeserializeOwned {
    /// The word.
    const KIND: &'static str;
}

impl Record for LeaseRecord {
    const KIND: &'static str = "lease";
}
impl Record for PulseRecord {
    const KIND: &'static str = "pulse";
}
impl Record for IntentRecord {
    const KIND: &'static str = "intent";
}
impl Record for GuestRecord {
    const KIND: &'static str = "guest";
}
impl Record for GoRecord {
    const KIND: &'static str = "go";
}
impl Record for GuardianState {
    const KIND: &'static str = "guardian";
}

/// A record as bytes.
#[must_use]
pub fn encode<R: Record>(record: &R) -> Vec<u8> {
    let body = serde_json::to_string(record).expect("records hold nothing JSON cannot say");
    format!("quorate {} 1 {}\n{body}\n", R::KIND, sum(body.as_bytes())).into_bytes()
}

/// A record from bytes; never panics, whatever they are.
///
/// # Errors
/// What is wrong with them.
pub fn decode<R: Record>(bytes: &[u8]) -> Result<R, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| format!("not text: {e}"))?;
    let (head, body) = text.split_once('\n').ok_or("no first line")?;
    let body = body.strip_suffix('\n').ok_or("cut short")?;
    if head != format!("quorate {} 1 {}", R::KIND, sum(body.as_bytes())) {
        return Err(format!("not an intact {} record of version 1", R::KIND));
    }
    serde_json::from_str(body).map_err(|e| e.to_string())
}

fn sum(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref()[..16]
        .iter()
        .fold(String::new(), |mut s, b| {
            let _ = write!(s, "{b:02x}");
            s
        })
}

/// Reads a record; `None` if there is no file.
///
/// # Errors
/// It cannot be read or does not check out; names the file.
pub fn read<R: Record>(path: &Path) -> Result<Option<R>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("{}: {e}", path.display())),
    };
    let mut bytes = Vec::new();
    file.take(LARGEST)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("{}: {e}", path.display()))?;
    decode(&bytes)
        .map(Some)
        .map_err(|e| format!("{}: {e}", path.display()))
}

/// Writes a record under a name of its own and renames it into place.
///
/// # Errors
/// The file cannot be written; the old one, if any, still stands.
pub fn write<R: Record>(path: &Path, record: &R) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
    let name = name.ok_or_else(|| io::Error::other("a record needs a file name"))?;
    let temporary = path.with_file_name(format!(
        ".{name}.{}.{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    ));
    let done = fs::write(&temporary, encode(record)).and_then(|()| fs::rename(&temporary, path));
    if done.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    done.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

/// The number drawn for a start, from the name of its intent.
#[must_use]
pub fn draw_of(intent: &Path) -> Option<u64> {
    let name = intent.file_name()?.to_str()?;
    parse_hex(name.split('.').nth(1)?)
}

/// What a file of `guests/` is, by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// A registered guest.
    Guest(GuestId, Token),
    /// A start under way.
    Intent(GuestId, Token),
    /// A mark of a registered guest, or a file being written.
    Other,
}

impl Entry {
    /// Reads a file name.
    #[must_use]
    pub fn of(name: &str) -> Entry {
        let (key, rest) = name.split_once('.').unwrap_or((name, ""));
        let Some((guest, epoch)) = parse_key(key) else {
            return Entry::Other;
        };
        match rest {
            "" if key == name => Entry::Guest(guest, epoch),
            rest if rest.ends_with(".intent") => Entry::Intent(guest, epoch),
            _ => Entry::Other,
        }
    }
}

fn parse_key(key: &str) -> Option<(GuestId, Token)> {
    let (guest, epoch) = key.split_once('-')?;
    Some((GuestId(parse_hex(guest)?), Token(parse_hex(epoch)?)))
}

/// Exactly 16 hexadecimal digits.
#[must_use]
pub fn parse_hex(text: &str) -> Option<u64> {
    let fine = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    fine.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// A run directory: where daemon, guardian and launchers meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes the directory (mode 0700) if it is not there.
    ///
    /// # Errors
    /// It cannot be made; names it.
    pub fn create(path: &Path) -> io::Result<RunDir> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(path.join("guests")).map_err(named)?;
        RunDir::open(path)
    }

    /// A directory that is there. Its path is made absolute and free of links, because every
    /// process of a guest carries it as a mark.
    ///
    /// # Errors
    /// It is not there; names it.
    pub fn open(path: &Path) -> io::Result<RunDir> {
        let path = fs::canonicalize(path)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        Ok(RunDir { path })
    }

    /// Whether it lies on a memory file system, where no write waits for a disk.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn in_memory(&self) -> io::Result<bool> {
        const TMPFS: i128 = 0x0102_1994;
        const RAMFS: i128 = 0x8584_58f6;
        let kind = rustix::fs::statfs(&self.path)?.f_type as i128 & 0xffff_ffff;
        Ok(kind == TMPFS || kind == RAMFS)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lease record.
    #[must_use]
    pub fn lease(&self) -> PathBuf {
        self.path.join("lease.slots")
    }

    /// The lease record that guardians before [`GUARDIAN_VERSION`] 1 go by.
    #[must_use]
    pub fn lease_before_slots(&self) -> PathBuf {
        self.path.join("lease")
    }

    /// The guardian's counter.
    #[must_use]
    pub fn pulse(&self) -> PathBuf {
        self.path.join("guardian.pulse")
    }

    /// The guardian's lock.
    #[must_use]
    pub fn guardian_lock(&self) -> PathBuf {
        self.path.join("guardian.lock")
    }

    /// Who the guardian is.
    #[must_use]
    pub fn guardian_state(&self) -> PathBuf {
        self.path.join("guardian.state")
    }

    /// The registry.
    #[must_use]
    pub fn guests(&self) -> PathBuf {
        self.path.join("guests")
    }

    /// The registration of a guest.
    #[must_use]
    pub fn guest(&self, guest: GuestId, epoch: Token) -> PathBuf {
        self.guests()
            .join(format!("{:016x}-{:016x}", guest.0, epoch.0))
    }

    /// The intent of a start.
    #[must_use]
    pub fn intent(&self, guest: GuestId, epoch: Token, draw: u64) -> PathBuf {
        self.with(guest, epoch, &format!(".{draw:016x}.intent"))
    }

    /// The mark of a guest that was created and has not run yet.
    #[must_use]
    pub fn held(&self, of: &GuestRecord) -> PathBuf {
        self.with(of.guest, of.epoch, &format!(".{:016x}.held", of.draw))
    }

    /// The permission to run it.
    #[must_use]
    pub fn go(&self, of: &GuestRecord) -> PathBuf {
        self.with(of.guest, of.epoch, &format!(".{:016x}.go", of.draw))
    }

    /// Why it ended before it ran.
    #[must_use]
    pub fn why(&self, of: &GuestRecord) -> PathBuf {
        self.with(of.guest, of.epoch, &format!(".{:016x}.why", of.draw))
    }

    /// The mark of a guest that is a domain of libvirt.
    #[must_use]
    pub fn domain(&self, guest: GuestId, epoch: Token, draw: u64) -> PathBuf {
        self.with(guest, epoch, &format!(".{draw:016x}.domain"))
    }

    fn with(&self, guest: GuestId, epoch: Token, suffix: &str) -> PathBuf {
        self.guests()
            .join(format!("{:016x}-{:016x}{suffix}", guest.0, epoch.0))
    }

    /// Every file of the registry and what its name says.
    ///
    /// # Errors
    /// The registry cannot be read to its end.
    pub fn entries(&self) -> io::Result<Vec<(PathBuf, Entry)>> {
        let mut found = Vec::new();
        for file in fs::read_dir(self.guests())? {
            let file = file?;
            let entry = file.file_name().to_str().map_or(Entry::Other, Entry::of);
            if entry != Entry::Other {
                found.push((file.path(), entry));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Forgets a guest whose processes are all gone: its marks first, its registration last.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn forget(&self, guest: GuestId, epoch: Token) -> io::Result<()> {
        let registration = self.guest(guest, epoch);
        let key = registration
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        for file in fs::read_dir(self.guests())? {
            let name = file?.file_name();
            let mark = name.to_str().and_then(|n| n.strip_prefix(&*key));
            if mark.is_some_and(|m| m.starts_with('.') && !m.ends_with(".intent")) {
                if mark.is_some_and(|m| m.ends_with(".cgroup")) {
                    cgroups::let_go(&self.guests().join(&name));
                }
                remove(&self.guests().join(name))?;
            }
        }
        remove(&registration).map(|_| ())
    }

    /// When the lease of this `boot` ends. `Err` says why there is none: a record that is missing,
    /// unreadable or of another boot means that the lease is over.
    ///
    /// # Errors
    /// See above.
    pub fn lease_end(&self, boot: BootId) -> Result<Time, String> {
        match slots::read::<LeaseRecord>(&self.lease())? {
            None => Err("there is no lease record".into()),
            Some(record) if record.boot != boot => Err("the lease is of another boot".into()),
            Some(record) => Ok(record.end),
        }
    }
}

/// Removes a file; says whether it was there.
///
/// # Errors
/// It is there and cannot be removed.
pub fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
    }
}

#[cfg(test)]
mod tests;
