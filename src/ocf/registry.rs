//! Which resources may be active on this host: files that daemon, keepers and guardian share.
//!
//! A registration stands before anything is started. Beside it stands the mark *active*: a start
//! was launched, or the resource was seen to run, and nobody has seen it stopped since. Mark and
//! actions change under a lock on the registration, so no two actions on one resource ever meet.

use crate::clock::Clock;
use crate::guardian::records::{self, Entry, Record, RunDir};
use quorate_membership::{BootId, Time, Token};
use quorate_recovery::guest::GuestId;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Guest and epoch: one life of a guest.
pub(crate) type Life = (GuestId, Token);

/// Between two tries to lock a registration.
const RETRY: Duration = Duration::from_millis(5);

/// A resource that this host may start, with all that stopping it needs. Lies in
/// `guests/G-E.N.ocf`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The guest.
    pub guest: GuestId,
    /// The epoch it is created under.
    pub epoch: Token,
    /// The boot it belongs to.
    pub boot: BootId,
    /// Drawn for this creation.
    pub draw: u64,
    /// The guest's name: the instance of the resource.
    pub name: String,
    /// The host's name.
    pub host: String,
    /// The agent, as `ocf:heartbeat:IPaddr2`.
    pub agent: String,
    /// Its program.
    pub program: PathBuf,
    /// `OCF_ROOT`.
    pub root: PathBuf,
    /// `HA_RSCTMP`.
    pub temporary: PathBuf,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
    /// Between two monitors, in milliseconds.
    pub every_ms: u64,
    /// How long `start` may take, in milliseconds.
    pub start_ms: u64,
    /// How long `stop` may take, in milliseconds.
    pub stop_ms: u64,
    /// How long `monitor` may take, in milliseconds.
    pub monitor_ms: u64,
    /// How long after the end of the lease it must be seen stopped, in milliseconds, or else the
    /// host is reset; `null`: it never is.
    pub kill_ms: Option<u64>,
}

impl Record for Registration {
    const KIND: &'static str = "ocf";
}

impl Registration {
    /// Which life it is.
    #[must_use]
    pub(crate) fn life(&self) -> Life {
        (self.guest, self.epoch)
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self, run: &RunDir) -> PathBuf {
        mark(run, self.life(), self.draw, "ocf")
    }
}

fn mark(run: &RunDir, (guest, epoch): Life, draw: u64, kind: &str) -> PathBuf {
    let name = format!("{:016x}-{:016x}.{draw:016x}.{kind}", guest.0, epoch.0);
    run.guests().join(name)
}

/// The mark *active* of a registration.
#[must_use]
pub fn active(registration: &Path) -> PathBuf {
    registration.with_extension("active")
}

/// Why it could not be stopped, as the one who tried for the guardian left it.
#[must_use]
pub fn why(registration: &Path) -> PathBuf {
    registration.with_extension("unstopped")
}

/// Whether a resource may be active. In doubt it is.
#[must_use]
pub fn is_active(registration: &Path) -> bool {
    active(registration).try_exists().unwrap_or(true)
}

/// A registration as the run directory has it.
#[derive(Clone, Debug)]
pub struct Known {
    /// The file.
    pub path: PathBuf,
    /// Guest and epoch, by the file's name.
    pub life: (GuestId, Token),
    /// What it says; `Err` if it cannot be read.
    pub registration: Result<Registration, String>,
}

/// Every registration.
///
/// # Errors
/// The directory cannot be read.
pub fn known(run: &RunDir) -> io::Result<Vec<Known>> {
    let mut found = Vec::new();
    for file in fs::read_dir(run.guests())? {
        let path = file?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
            continue;
        };
        let Some(key) = name.strip_suffix(".ocf").and_then(|n| n.split_once('.')) else {
            continue;
        };
        let (Entry::Guest(guest, epoch), Some(draw)) =
            (Entry::of(key.0), records::parse_hex(key.1))
        else {
            continue;
        };
        let registration = match records::read::<Registration>(&path) {
            Ok(None) => continue,
            Ok(Some(r)) if (r.guest, r.epoch, r.draw) == (guest, epoch, draw) => Ok(r),
            Ok(Some(_)) => Err(format!("{}: names another guest inside", path.display())),
            Err(why) => Err(why),
        };
        found.push(Known {
            path,
            life: (guest, epoch),
            registration,
        });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The right to act on a resource, held until it is dropped.
#[derive(Debug)]
pub struct Held {
    _file: File,
}

/// Waits for the right to act on a resource, until `until` or `stop` says so. `Ok(None)`: it is
/// registered no more.
///
/// # Errors
/// Somebody else acts on it still, or it cannot be locked.
pub fn hold(
    registration: &Path,
    until: Time,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Held>, String> {
    let named = |e: io::Error| format!("{}: {e}", registration.display());
    let file = match File::open(registration) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(named(e)),
    };
    while let Err(e) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if e != rustix::io::Errno::WOULDBLOCK && e != rustix::io::Errno::INTR {
            return Err(named(e.into()));
        }
        if Clock.now() >= until || stop() {
            return Err("another action on it has not ended".into());
        }
        std::thread::sleep(RETRY);
    }
    // Whoever forgot it meanwhile did so under this lock.
    let same = match (fs::metadata(registration), file.metadata()) {
        (Ok(there), Ok(mine)) => (there.dev(), there.ino()) == (mine.dev(), mine.ino()),
        (Err(e), _) if e.kind() == io::ErrorKind::NotFound => false,
        (Err(e), _) | (_, Err(e)) => return Err(named(e)),
    };
    Ok(same.then_some(Held { _file: file }))
}

/// Notes that the resource may be active from now on. Only for who holds it.
///
/// # Errors
/// It cannot be written; nothing may be started.
pub fn activate(_: &Held, registration: &Path) -> io::Result<()> {
    fs::write(active(registration), b"")
}

/// Notes that the resource was seen stopped. Only for who holds it.
///
/// # Errors
/// It cannot be noted.
pub fn passivate(_: &Held, registration: &Path) -> io::Result<()> {
    records::remove(&active(registration)).map(|_| ())
}

/// Forgets a resource that is not active. Only for who holds it.
///
/// # Errors
/// It is active, or a file cannot be removed.
pub fn forget(_: &Held, registration: &Path) -> io::Result<()> {
    if is_active(registration) {
        return Err(io::Error::other("it may be active"));
    }
    records::remove(&why(registration))?;
    records::remove(registration).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration() -> Registration {
        Registration {
            guest: GuestId(7),
            epoch: Token(9),
            boot: BootId(3),
            draw: 11,
            name: "ip".into(),
            host: "h1".into(),
            agent: "ocf:heartbeat:IPaddr2".into(),
            program: "/x".into(),
            root: "/r".into(),
            temporary: "/t".into(),
            parameters: BTreeMap::new(),
            every_ms: 10_000,
            start_ms: 20_000,
            stop_ms: 20_000,
            monitor_ms: 20_000,
            kill_ms: None,
        }
    }

    #[test]
    fn only_who_holds_it_acts_and_what_was_forgotten_is_held_by_nobody() {
        let dir = tempfile::tempdir().expect("a directory");
        let run = RunDir::create(dir.path()).expect("made");
        let one = registration();
        let path = one.path(&run);
        let now = || Clock.now();
        assert!(hold(&path, now(), &|| false).expect("free").is_none());
        records::write(&path, &one).expect("written");
        let found = known(&run).expect("read");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].life, (GuestId(7), Token(9)));
        assert_eq!(found[0].registration, Ok(one.clone()));
        let held = hold(&path, now(), &|| false).expect("free").expect("there");
        assert!(hold(&path, now(), &|| false).is_err(), "by one at a time");
        activate(&held, &path).expect("noted");
        assert!(is_active(&path));
        assert!(forget(&held, &path).is_err(), "not while it may be active");
        passivate(&held, &path).expect("noted");
        // Who waits for it meanwhile finds nothing any more.
        let (waiting, begun) = (path.clone(), std::sync::mpsc::channel());
        let waiter = std::thread::spawn(move || {
            begun.0.send(()).expect("told");
            hold(&waiting, Time::NEVER, &|| false)
        });
        begun.1.recv().expect("begun");
        forget(&held, &path).expect("forgotten");
        records::write(&path, &one).expect("another of its name");
        drop(held);
        let got = waiter.join().expect("no panic").expect("free");
        // It opened the old file or the new one; only the new one may be acted on.
        if let Some(held) = got {
            assert!(forget(&held, &path).is_ok());
        }
        assert!(known(&run).expect("read").len() <= 1);
    }

    #[test]
    fn the_page_shows_a_registration() {
        let one = Registration {
            guest: GuestId(0x0001_0000_0000_0005),
            epoch: Token(0x0001_0000_0000_0009),
            boot: BootId(0xabcd),
            kill_ms: Some(5000),
            parameters: [("ip".to_owned(), "192.0.2.7".to_owned())].into(),
            program: "/usr/lib/ocf/resource.d/heartbeat/IPaddr2".into(),
            root: "/usr/lib/ocf".into(),
            temporary: "/run/quorate/ocf".into(),
            ..registration()
        };
        let text = String::from_utf8(records::encode(&one)).expect("text");
        let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/WIRE.md"));
        assert!(page.contains(&text), "WIRE.md does not show\n{text}");
    }

    #[test]
    fn what_cannot_be_read_is_shown_by_its_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let run = RunDir::create(dir.path()).expect("made");
        let path = registration().path(&run);
        fs::write(&path, "garbage").expect("written");
        let found = known(&run).expect("read");
        assert_eq!(found[0].life, (GuestId(7), Token(9)));
        assert!(found[0].registration.is_err());
    }
}
