//! The last resort: this host starts anew, at once.

use super::search::STACK;
use super::watchdog::WatchdogSeen;
use crate::clock::Clock;
use quorate_membership::BootId;
use rustix::system::{RebootCommand, reboot};
use rustix::thread::{CapabilitySet, capabilities};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

/// The first pid namespace, by the number the kernel gives it at every boot.
const FIRST: &str = "pid:[4026531836]";
/// How long the reason of a reset may take to be written.
const NOTING: Duration = Duration::from_millis(100);
/// The note's file has this size from the beginning.
const NOTE_LEN: usize = 4096;

/// What a reset ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// The machine.
    Machine {
        /// At once, past all drivers; otherwise by `reboot(2)`, which drivers may hold up.
        sysrq: bool,
        /// The watchdog that stands behind.
        watchdog: Option<WatchdogSeen>,
    },
    /// This pid namespace: a host of a demo, a lab or a container.
    Namespace,
    /// Nothing: why, in words.
    Nothing(String),
}

/// Why this host was reset. Lies in a file that is there from the start, since a full or slow disk
/// must not keep it away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetNote {
    /// The boot that was ended.
    pub boot: BootId,
    /// When, in seconds of Unix time.
    pub unix: u64,
    /// Why, in words.
    pub why: String,
}

impl super::records::Record for ResetNote {
    const KIND: &'static str = "reset";
}

impl ResetNote {
    /// The note of an earlier boot in `file`, if there is one.
    #[must_use]
    pub fn read(file: &Path, boot: BootId) -> Option<ResetNote> {
        let bytes = fs::read(file).ok()?;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        let note: ResetNote = super::records::decode(bytes.get(..end)?).ok()?;
        (note.boot != boot).then_some(note)
    }

    /// Takes the note of `file` away; the room for the next one stays.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn clear(file: &Path) -> io::Result<()> {
        let file = File::options().write(true).open(file)?;
        file.write_all_at(&[0; NOTE_LEN], 0)?;
        file.sync_all()
    }
}

/// How this host is reset. Everything that is needed is open before it is needed.
pub(super) struct Means {
    reach: Reach,
    /// `/proc/sysrq-trigger`: at once, past all drivers.
    sysrq: Option<File>,
    notes: Arc<(Mutex<Notes>, Condvar)>,
    boot: BootId,
}

#[derive(Default)]
struct Notes {
    open: Option<ResetNote>,
    done: bool,
}

impl Means {
    /// `unit`: this guardian was started by its unit, and may reset the machine. `note`: where the
    /// reason is kept over the boot.
    ///
    /// # Errors
    /// There is no thread for the notes.
    pub(super) fn open(unit: bool, boot: BootId, note: Option<PathBuf>) -> io::Result<Means> {
        let mut reach = reach(unit, fs::read_link("/proc/self/ns/pid"), may_reboot());
        let mut trigger = None;
        if let Reach::Machine { sysrq, .. } = &mut reach {
            let mut options = File::options();
            trigger = options.write(true).open("/proc/sysrq-trigger").ok();
            *sysrq = trigger.is_some();
        }
        let notes = Arc::new((Mutex::new(Notes::default()), Condvar::new()));
        let theirs = Arc::clone(&notes);
        let machine = matches!(reach, Reach::Machine { .. });
        let serve = move || keep_notes(&theirs, machine, note.as_deref());
        let thread = thread::Builder::new().name("notes".into());
        thread.stack_size(STACK).spawn(serve)?;
        Ok(Means {
            reach,
            sysrq: trigger,
            notes,
            boot,
        })
    }

    /// What a reset would end.
    pub(super) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Resets this host. Comes back only if that failed.
    ///
    /// # Errors
    /// It is not permitted.
    pub(super) fn reset(&mut self, why: &str) -> io::Result<()> {
        if let Reach::Nothing(why) = &self.reach {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why.clone()));
        }
        self.note(why);
        if let Some(trigger) = &mut self.sysrq {
            let _ = trigger.write_all(b"b");
        }
        // Without a sync: it may wait for the very disk that is in the way, and what is not written
        // by now must not be.
        reboot(RebootCommand::Restart)?;
        Ok(())
    }

    /// Leaves the reason where it is found afterwards, if that goes quickly.
    fn note(&self, why: &str) {
        let (notes, changed) = &*self.notes;
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let Ok(mut open) = notes.try_lock() else {
            return;
        };
        open.done = false;
        open.open = Some(ResetNote {
            boot: self.boot,
            unix: unix.map_or(0, |d| d.as_secs()),
            why: why.to_owned(),
        });
        changed.notify_all();
        let until = Clock.now() + NOTING;
        while !open.done {
            let left = until.since(Clock.now());
            if left.is_zero() {
                return;
            }
            let waited = changed.wait_timeout(open, left);
            open = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Whether this process may ask the kernel for a reset.
fn may_reboot() -> bool {
    capabilities(None).is_ok_and(|c| c.effective.contains(CapabilitySet::SYS_BOOT))
}

fn reach(unit: bool, namespace: io::Result<PathBuf>, may_reboot: bool) -> Reach {
    let first = match namespace {
        Ok(name) => name == Path::new(FIRST),
        // One that cannot be told is the machine's, which is not reset by mistake.
        Err(_) => true,
    };
    match (first, unit, may_reboot) {
        (_, _, false) => Reach::Nothing("it lacks the capability CAP_SYS_BOOT".into()),
        (true, false, _) => Reach::Nothing(
            "only a guardian that was started by its unit (--unit) resets the machine".into(),
        ),
        (true, true, true) => Reach::Machine {
            sysrq: false,
            watchdog: None,
        },
        (false, _, true) => Reach::Namespace,
    }
}

/// Writes what is put on the desk into every place that is left over a boot.
fn keep_notes((notes, changed): &(Mutex<Notes>, Condvar), machine: bool, note: Option<&Path>) {
    let file = note.and_then(|path| prepare(path).ok());
    let open = |path: &str| {
        let mut options = File::options();
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        options.write(true).custom_flags(flags).open(path).ok()
    };
    // Only the machine's own logs are looked at after a boot of the machine.
    let mut logs: Vec<File> = if machine {
        ["/dev/pmsg0", "/dev/kmsg"]
            .into_iter()
            .filter_map(open)
            .collect()
    } else {
        Vec::new()
    };
    loop {
        let mut desk = notes.lock().unwrap_or_else(PoisonError::into_inner);
        let note = loop {
            if let Some(note) = desk.open.take() {
                break note;
            }
            desk = changed.wait(desk).unwrap_or_else(PoisonError::into_inner);
        };
        drop(desk);
        for log in &mut logs {
            let _ = log.write_all(format!("<0>quorate: {}\n", note.why).as_bytes());
        }
        if let Some(file) = &file {
            let _ = file
                .write_all_at(&padded(&note), 0)
                .and_then(|()| file.sync_data());
        }
        let mut desk = notes.lock().unwrap_or_else(PoisonError::into_inner);
        desk.done = true;
        changed.notify_all();
    }
}

/// Makes room for a note; one that stands stays.
fn prepare(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    if file.metadata()?.len() != NOTE_LEN as u64 {
        file.write_all_at(&[0; NOTE_LEN], 0)?;
        file.set_len(NOTE_LEN as u64)?;
        file.sync_all()?;
    }
    Ok(file)
}

fn padded(note: &ResetNote) -> Vec<u8> {
    let mut short = note.clone();
    let mut bytes = super::records::encode(&short);
    while bytes.len() > NOTE_LEN {
        let half = short.why.chars().count() / 2;
        short.why = short.why.chars().take(half).collect();
        bytes = super::records::encode(&short);
    }
    bytes.resize(NOTE_LEN, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_reset_only_by_a_guardian_of_its_unit() {
        let first = || Ok(PathBuf::from(FIRST));
        let other = || Ok(PathBuf::from("pid:[4026532000]"));
        let unknown = || Err(io::Error::other("no /proc"));
        assert_eq!(
            reach(true, first(), true),
            Reach::Machine {
                sysrq: false,
                watchdog: None,
            }
        );
        assert_eq!(reach(true, other(), true), Reach::Namespace);
        assert_eq!(reach(false, other(), true), Reach::Namespace);
        for nothing in [
            reach(false, first(), true),
            reach(false, unknown(), true),
            reach(true, first(), false),
            reach(false, other(), false),
        ] {
            assert!(matches!(nothing, Reach::Nothing(_)), "{nothing:?}");
        }
    }

    #[test]
    fn a_note_is_read_in_the_next_boot_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("reset");
        assert_eq!(ResetNote::read(&path, BootId(2)), None);
        let file = prepare(&path).expect("made");
        assert_eq!(ResetNote::read(&path, BootId(2)), None, "nothing yet");
        let note = ResetNote {
            boot: BootId(1),
            unix: 5,
            why: "ä".repeat(NOTE_LEN),
        };
        file.write_all_at(&padded(&note), 0).expect("written");
        let read = ResetNote::read(&path, BootId(2)).expect("there");
        assert!(read.why.starts_with("ää") && read.why.len() < NOTE_LEN);
        assert_eq!(ResetNote::read(&path, BootId(1)), None, "of this boot");
        assert_eq!(fs::metadata(&path).expect("there").len(), NOTE_LEN as u64);
        prepare(&path).expect("made");
        assert!(ResetNote::read(&path, BootId(2)).is_some(), "it stays");
        ResetNote::clear(&path).expect("cleared");
        assert_eq!(ResetNote::read(&path, BootId(2)), None, "told once");
    }
}
