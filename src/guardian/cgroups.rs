//! A control group for each guest, where the kernel lets this process make one: whatever a guest's
//! processes do with their environment, session or parent, all of them are in it, and one write
//! ends them all.
//!
//! Only version 2 has that write. Nothing that a guest does to its group keeps it from being ended:
//! only this process and its own kind, daemon and guardian, are taken out first if somebody put them
//! in. Whether anything is left is the kernel's own count (`cgroup.events`), at whatever depth. No
//! other process is looked at, so nothing here waits for one. Without a group a guest is found by its
//! marks, its process group and descent, as it is with one too.

pub use super::hierarchy::available;
use super::hierarchy::{base, gone, group_of, holds_any, members, named, remove, scope};
use super::limits::Limits;
use super::processes::{Process, Scan, Wanted, signal};
use super::records::{self, Entry, GuardianState, GuestRecord, Record, RunDir};
use quorate_membership::{BootId, Token};
use quorate_recovery::guest::GuestId;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Guest and epoch: one life of a guest.
type Life = (GuestId, Token);

/// Which control group a life is in. Lies in `guests/G-E.N.cgroup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CgroupRecord {
    /// The guest.
    pub guest: GuestId,
    /// The epoch it was created under.
    pub epoch: Token,
    /// The boot it belongs to.
    pub boot: BootId,
    /// Drawn for this start.
    pub draw: u64,
    /// The group's directory.
    pub path: PathBuf,
    /// Its inode: tells it from a later group of that name.
    pub inode: u64,
    /// It was made for this life alone, and goes with it; otherwise it is libvirt's.
    pub ours: bool,
}

impl Record for CgroupRecord {
    const KIND: &'static str = "cgroup";
}

fn mark(run: &RunDir, (guest, epoch): Life, draw: u64) -> PathBuf {
    let name = format!("{:016x}-{:016x}.{draw:016x}.cgroup", guest.0, epoch.0);
    run.guests().join(name)
}

/// A group for one life. It is on record before anything is in it.
fn make(run: &RunDir, of: &GuestRecord) -> Result<PathBuf, String> {
    let base = base(run)?;
    let life = (of.guest, of.epoch);
    let key = format!("{:016x}-{:016x}.{:016x}", of.guest.0, of.epoch.0, of.draw);
    let path = base.join(key);
    let mut tries = 0;
    // The last of other guests to go takes the base with it.
    let made = loop {
        let _ = fs::create_dir(&base);
        match fs::create_dir(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && tries < 5 => tries += 1,
            made => break made,
        }
    };
    made.map_err(named(&path))?;
    bound(&base, &path);
    let noted = fs::metadata(&path).and_then(|m| {
        let record = CgroupRecord {
            guest: of.guest,
            epoch: of.epoch,
            boot: of.boot,
            draw: of.draw,
            path: path.clone(),
            inode: m.ino(),
            ours: true,
        };
        records::write(&mark(run, life, of.draw), &record)
    });
    if let Err(e) = noted {
        let _ = fs::remove_dir(&path);
        return Err(e.to_string());
    }
    Ok(path)
}

/// Processes of one guest, where the kernel counts them for its group: one that starts processes
/// without end takes no other's place.
const PIDS_MAX: &str = "16384";

/// Bounds a new group, where the group above lets the kernel count there.
fn bound(base: &Path, path: &Path) {
    let _ = fs::write(base.join("cgroup.subtree_control"), "+pids");
    let _ = fs::write(path.join("pids.max"), PIDS_MAX);
}

fn unmake(run: &RunDir, of: &GuestRecord, path: &Path) {
    let _ = fs::remove_dir(path);
    let _ = records::remove(&mark(run, (of.guest, of.epoch), of.draw));
}

/// Puts this process into a group of its own for a life, or into the one that life has.
///
/// # Errors
/// It stays where it was.
pub fn enter(run: &RunDir, of: &GuestRecord) -> Result<(), String> {
    let known = records::read::<CgroupRecord>(&mark(run, (of.guest, of.epoch), of.draw));
    let path = match known {
        Ok(Some(there)) if there.boot == of.boot && same(&there) => there.path,
        _ => make(run, of)?,
    };
    let done = fs::write(path.join("cgroup.procs"), "0").map_err(named(&path));
    if done.is_err() {
        unmake(run, of, &path);
    }
    done
}

/// Puts this process into the group that a life has. Unlike [`enter`] it makes none, and leaves the
/// record of one that takes nobody as it is.
///
/// # Errors
/// It stays where it was.
pub fn join(run: &RunDir, of: &GuestRecord) -> Result<(), String> {
    let known = records::read::<CgroupRecord>(&mark(run, (of.guest, of.epoch), of.draw))?;
    let there = known.filter(|there| there.boot == of.boot && same(there));
    let path = there.ok_or("the guest has no group")?.path;
    fs::write(path.join("cgroup.procs"), "0").map_err(named(&path))
}

/// Takes note of the group that a process of libvirt is in, if it is that guest's alone;
/// otherwise moves it into one of its own.
///
/// # Errors
/// It stays where it is, and nothing is noted.
pub fn adopt(run: &RunDir, of: &GuestRecord) -> Result<(), String> {
    let own = group_of(&of.pgid.to_string())?;
    if let Some(path) = scope(&own) {
        let inode = fs::metadata(&path).map_err(named(&path))?.ino();
        let record = CgroupRecord {
            guest: of.guest,
            epoch: of.epoch,
            boot: of.boot,
            draw: of.draw,
            path: path.clone(),
            inode,
            ours: false,
        };
        // Helpers of the domain are in there too, and end with it.
        if spared_in(run)
            .iter()
            .all(|(_, own)| !own.starts_with(&path))
        {
            let mark = mark(run, (of.guest, of.epoch), of.draw);
            return records::write(&mark, &record).map_err(|e| e.to_string());
        }
    }
    let path = make(run, of)?;
    let procs = path.join("cgroup.procs");
    let done = fs::write(&procs, of.pgid.to_string()).map_err(named(&path));
    if done.is_err() {
        unmake(run, of, &path);
        return done;
    }
    // What it started before; from now on its children are born in there.
    let all: Vec<GuestRecord> = vec![*of];
    let mine = Wanted {
        dir: run.path(),
        records: &all,
        marked: &|_| false,
    };
    let scan = Scan::take(None).map_err(|e| e.to_string())?;
    for pid in mine.among(&scan) {
        // One that is gone needs no group.
        let _ = fs::write(&procs, pid.to_string());
    }
    Ok(())
}

/// Whether the group of a record is still there: `false` once it went, or another has its name.
fn there(of: &CgroupRecord) -> io::Result<bool> {
    match fs::metadata(&of.path) {
        Ok(m) => Ok(m.ino() == of.inode),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn same(of: &CgroupRecord) -> bool {
    there(of).unwrap_or(false)
}

/// The processes that end no guest by ending: this one, this directory's guardian and daemon.
fn spared(run: &RunDir) -> Vec<i32> {
    let mut pids = vec![i32::try_from(std::process::id()).unwrap_or(0)];
    // Not by name or words of theirs, which any guest can have.
    if let Ok(Some(guardian)) = records::read::<GuardianState>(&run.guardian_state()) {
        pids.push(guardian.pid);
    }
    if let Ok(Some(limits)) = records::read::<Limits>(&Limits::path(run)) {
        pids.push(limits.daemon);
    }
    pids.retain(|pid| *pid > 1);
    pids
}

/// Those processes, each with the group it is in. One whose group cannot be told is in none.
fn spared_in(run: &RunDir) -> Vec<(i32, PathBuf)> {
    let placed = |pid: i32| Some((pid, group_of(&pid.to_string()).ok()?));
    spared(run).into_iter().filter_map(placed).collect()
}

/// Takes this process and its kind out of a guest's group, into the one above all groups of guests.
fn step_out(spared: &[(i32, PathBuf)], of: &CgroupRecord) -> io::Result<()> {
    for (pid, _) in spared.iter().filter(|(_, own)| own.starts_with(&of.path)) {
        let above = of.path.parent().and_then(Path::parent);
        let above = above.ok_or_else(|| io::Error::other("it lies at the top"))?;
        fs::write(above.join("cgroup.procs"), pid.to_string())?;
    }
    Ok(())
}

/// A group on record.
struct Known {
    /// The record's file.
    file: PathBuf,
    /// By the file's name.
    life: Life,
    /// What it says; `Err` if it cannot be read.
    of: Result<CgroupRecord, String>,
}

/// Every group on record of this boot.
fn known(run: &RunDir, boot: BootId) -> io::Result<Vec<Known>> {
    let mut found = Vec::new();
    for file in fs::read_dir(run.guests())? {
        let file = file?.path();
        let name = file.file_name().and_then(|n| n.to_str());
        let Some(key) = name.and_then(|n| n.strip_suffix(".cgroup")) else {
            continue;
        };
        let key = key.split_once('.').map_or(key, |(key, _)| key);
        let Entry::Guest(guest, epoch) = Entry::of(key) else {
            continue;
        };
        let of = match records::read::<CgroupRecord>(&file) {
            Ok(None) => continue,
            Ok(Some(r)) if (r.guest, r.epoch) != (guest, epoch) => {
                Err(format!("{}: names another guest inside", file.display()))
            }
            Ok(Some(r)) if r.boot != boot => {
                records::remove(&file)?;
                continue;
            }
            Ok(Some(r)) => Ok(r),
            Err(why) => Err(why),
        };
        let life = (guest, epoch);
        found.push(Known { file, life, of });
    }
    Ok(found)
}

/// Ends everything in the groups of the lives that `meant` names; says how many groups held
/// something. Zero means that none of them holds any.
///
/// # Errors
/// A group cannot be looked at or written; the others are ended.
pub fn end(run: &RunDir, boot: BootId, meant: &dyn Fn(Life) -> bool) -> io::Result<usize> {
    let mut count = 0;
    let mut failed = None;
    // Looked at once for all groups.
    let spared = std::cell::OnceCell::new();
    for one in known(run, boot)? {
        if !meant(one.life) {
            continue;
        }
        let done = one.of.map_err(io::Error::other).and_then(|of| {
            let spared = || spared.get_or_init(|| spared_in(run)).as_slice();
            let done =
                there(&of).and_then(|there| if there { end_one(&of, spared) } else { Ok(0) });
            done.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", of.path.display())))
        });
        match done {
            Ok(n) => count += n,
            Err(e) => failed = Some(e),
        }
    }
    failed.map_or(Ok(count), Err)
}

/// The same, and then `rest`, which ends what is found by other means: says how many there were.
///
/// # Errors
/// Those of `rest`; those of a group if nothing else is left.
pub fn end_with(
    run: &RunDir,
    boot: BootId,
    meant: &dyn Fn(Life) -> bool,
    rest: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    let grouped = end(run, boot, meant);
    match (grouped, rest()?) {
        (Ok(n), found) => Ok(n.max(found)),
        (Err(e), 0) => Err(e),
        (Err(_), found) => Ok(found),
    }
}

fn end_one<'a>(
    of: &CgroupRecord,
    spared: impl FnOnce() -> &'a [(i32, PathBuf)],
) -> io::Result<usize> {
    if !holds_any(&of.path)? {
        // Whoever has the guest next makes another; a run directory that is gone releases none.
        let _ = dissolve(of);
        return Ok(0);
    }
    let spared = spared();
    let out = step_out(spared, of);
    let kill = of.path.join("cgroup.kill");
    let whole = match &out {
        Ok(()) => fs::write(&kill, "1"),
        Err(_) => Err(io::ErrorKind::Unsupported.into()),
    };
    match whole {
        Ok(()) => {}
        Err(e) if gone(&e) && !kill.exists() || out.is_err() => {
            one_by_one(spared, of, out.is_ok())?;
        }
        Err(e) => return Err(e),
    }
    Ok(1)
}

/// Before Linux 5.14, or with one of us inside who cannot leave. Frozen first, if that is allowed, so
/// that none is started meanwhile.
fn one_by_one(spared: &[(i32, PathBuf)], of: &CgroupRecord, freeze: bool) -> io::Result<()> {
    let frozen = of.path.join("cgroup.freeze");
    if freeze {
        let _ = fs::write(&frozen, "1");
    }
    let found = members(&of.path);
    let mut failed = None;
    for pid in found.iter().flatten() {
        match Process::find(*pid) {
            Ok(Some(process)) if spared.iter().all(|(own, _)| own != pid) => {
                failed = signal(&process, Signal::KILL).err().or(failed);
            }
            Ok(_) => {}
            Err(e) => failed = Some(e),
        }
    }
    if freeze {
        let _ = fs::write(&frozen, "0");
    }
    found?;
    failed.map_or(Ok(()), Err)
}

/// Whether any group of a life holds a process. In doubt it does.
#[must_use]
pub fn populated(run: &RunDir, boot: BootId, life: Life) -> bool {
    let Ok(known) = known(run, boot) else {
        return true;
    };
    let mut groups = known.iter().filter(|one| one.life == life);
    groups.any(|one| {
        let Ok(of) = &one.of else {
            return true;
        };
        let holds = there(of).and_then(|there| Ok(there && holds_any(&of.path)?));
        holds.unwrap_or(true)
    })
}

/// Removes the empty groups of the lives that `meant` names, and forgets them.
///
/// # Errors
/// One is not empty, or a file cannot be removed.
pub fn release(run: &RunDir, boot: BootId, meant: &dyn Fn(Life) -> bool) -> io::Result<()> {
    for one in known(run, boot)? {
        if !meant(one.life) {
            continue;
        }
        if let Ok(of) = &one.of {
            dissolve(of)?;
        }
        records::remove(&one.file)?;
    }
    Ok(())
}

fn dissolve(of: &CgroupRecord) -> io::Result<()> {
    if !of.ours || !same(of) {
        return Ok(());
    }
    match remove(&of.path) {
        Err(e) if !gone(&e) => {
            let path = of.path.display();
            return Err(io::Error::new(e.kind(), format!("{path}: {e}")));
        }
        _ => {}
    }
    if let Some(base) = of.path.parent() {
        // For as long as other guests have groups there, it stays.
        let _ = fs::remove_dir(base);
    }
    Ok(())
}

/// Removes the group of a mark that is about to be removed itself, if nothing is in it.
pub(super) fn let_go(mark: &Path) {
    if let Ok(Some(of)) = records::read::<CgroupRecord>(mark) {
        let _ = dissolve(&of);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_a_group() {
        let of = CgroupRecord {
            guest: GuestId(0x0001_0000_0000_0005),
            epoch: Token(0x0001_0000_0000_0009),
            boot: BootId(0xabcd),
            draw: 11,
            path: "/sys/fs/cgroup/quorate-0011223344556677/x".into(),
            inode: 42,
            ours: true,
        };
        let text = String::from_utf8(records::encode(&of)).expect("text");
        let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/WIRE.md"));
        assert!(page.contains(&text), "WIRE.md does not show\n{text}");
    }

    #[test]
    fn a_group_that_does_not_say_is_populated() {
        let dir = tempfile::tempdir().expect("a directory");
        let says = |text: &str| {
            std::fs::write(dir.path().join("cgroup.events"), text).expect("written");
            holds_any(dir.path()).ok()
        };
        assert_eq!(says("populated 0\nfrozen 0\n"), Some(false));
        assert_eq!(says("populated 1\nfrozen 0\n"), Some(true));
        for nothing in ["", "frozen 0\n", "populated x\n", "populated 10\n"] {
            assert_eq!(says(nothing), None, "{nothing:?}");
        }
        std::fs::write(dir.path().join("cgroup.events"), [0xff]).expect("written");
        assert!(holds_any(dir.path()).is_err(), "unreadable");
        assert!(!holds_any(&dir.path().join("none")).expect("it went"));
        let run = RunDir::create(&dir.path().join("run")).expect("made");
        let of = CgroupRecord {
            guest: GuestId(7),
            epoch: Token(2),
            boot: BootId(1),
            draw: 1,
            path: dir.path().to_path_buf(),
            inode: fs::metadata(dir.path()).expect("there").ino(),
            ours: true,
        };
        let life = (of.guest, of.epoch);
        assert!(!populated(&run, BootId(1), life), "it has no group");
        records::write(&mark(&run, life, 1), &of).expect("written");
        assert!(populated(&run, BootId(1), life), "its group cannot be read");
        let other = CgroupRecord { inode: 1, ..of };
        records::write(&mark(&run, life, 1), &other).expect("written");
        assert!(!populated(&run, BootId(1), life), "another of its name");
        fs::write(mark(&run, life, 1), "?").expect("written");
        assert!(
            populated(&run, BootId(1), life),
            "its record cannot be read"
        );
    }
}
