//! A control group for each guest, where the kernel lets this process make one: whatever a guest's
//! processes do with their environment, session or parent, all of them are in it, and one write
//! ends them all.
//!
//! Only version 2 has that write. What a group holds is looked at before each: one that holds
//! anything else than its guest is left alone. Without a group a guest is found by its marks, its
//! process group and descent, as it is with one too.

pub use super::hierarchy::available;
use super::hierarchy::{base, group_of, named, scope};
use super::processes::{Marks, Process, Scan, Wanted, signal};
use super::records::{self, Entry, GuestRecord, Record, RunDir};
use quorate_membership::{BootId, Token};
use quorate_recovery::guest::GuestId;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Groups below a guest's that are looked into.
const DEPTH: usize = 8;

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

/// Takes note of the group that a process of libvirt is in, if it is that guest's alone;
/// otherwise moves it into one of its own.
///
/// # Errors
/// It stays where it is, and nothing is noted.
pub fn adopt(run: &RunDir, of: &GuestRecord) -> Result<(), String> {
    let own = group_of(&of.pgid.to_string())?;
    let scan = Scan::take(Some(run.path())).map_err(|e| e.to_string())?;
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
        if alone(
            &record,
            &members(&path).map_err(named(&path))?,
            &scan,
            Some(of),
        )
        .is_ok()
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

fn same(of: &CgroupRecord) -> bool {
    fs::metadata(&of.path).is_ok_and(|m| m.ino() == of.inode)
}

/// Every process in a group and below. 0 stands for one that cannot be seen from here.
fn members(path: &Path) -> io::Result<BTreeSet<i32>> {
    fn below(path: &Path, depth: usize, found: &mut BTreeSet<i32>) -> io::Result<()> {
        // A threaded group shows its processes only further up.
        let text = match fs::read_to_string(path.join("cgroup.procs")) {
            Ok(text) => text,
            Err(e) if e.raw_os_error() == Some(95) && depth > 0 => String::new(),
            Err(e) => return Err(e),
        };
        found.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()));
        if depth >= DEPTH {
            return Err(io::Error::other("groups lie too deep"));
        }
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                match below(&entry.path(), depth + 1, found) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }
    let mut found = BTreeSet::new();
    below(path, 0, &mut found)?;
    Ok(found)
}

/// Refuses a group that holds anything but its guest.
fn alone(
    of: &CgroupRecord,
    members: &BTreeSet<i32>,
    scan: &Scan,
    leader: Option<&GuestRecord>,
) -> Result<(), String> {
    let life = (of.guest, of.epoch);
    let mine = |marks: &Marks| *marks == Some(life);
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    let descends = |pid: i32| {
        let mut at = scan.get(pid);
        for _ in 0..64 {
            let Some(p) = at else {
                return false;
            };
            if leader.is_some_and(|l| l.pgid == p.pid && l.start == p.start) {
                return true;
            }
            at = scan.get(p.parent);
        }
        false
    };
    for pid in members {
        let what = if *pid == 0 {
            "a process that cannot be seen from here"
        } else if *pid == 1 || *pid == me || serves(*pid) {
            "a process that is no guest's"
        } else if scan.marked.get(pid).is_some_and(|m| !mine(m)) {
            "a process of another guest"
        } else if !of.ours
            && Process::look(*pid).is_some()
            && !scan.marked.get(pid).is_some_and(mine)
            && !descends(*pid)
        {
            "a process that is not known to be this guest's"
        } else {
            continue;
        };
        return Err(format!(
            "{} holds {what} ({pid}); it is left alone",
            of.path.display()
        ));
    }
    Ok(())
}

/// Whether a process is quorate itself at work, daemon or guardian.
fn serves(pid: i32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|b| *b == 0);
    let program = words.next().unwrap_or_default();
    let first = words.next().unwrap_or_default();
    program.ends_with(b"quorate") && matches!(first, b"daemon" | b"guardian")
}

/// Every group on record of this boot.
fn known(run: &RunDir, boot: BootId) -> io::Result<Vec<(PathBuf, CgroupRecord)>> {
    let mut found = Vec::new();
    for file in fs::read_dir(run.guests())? {
        let path = file?.path();
        let name = path.file_name().and_then(|n| n.to_str());
        let Some(key) = name.and_then(|n| n.strip_suffix(".cgroup")) else {
            continue;
        };
        let key = key.split_once('.').map_or(key, |(key, _)| key);
        let Entry::Guest(guest, epoch) = Entry::of(key) else {
            continue;
        };
        // What cannot be read leads nowhere; its processes are found as without it.
        match records::read::<CgroupRecord>(&path) {
            Ok(Some(r)) if (r.guest, r.epoch) == (guest, epoch) => {
                if r.boot == boot {
                    found.push((path, r));
                } else {
                    records::remove(&path)?;
                }
            }
            Ok(_) => {}
            Err(why) => tracing::error!("{why}"),
        }
    }
    Ok(found)
}

/// Ends everything in the groups of the lives that `meant` names; says how many processes there
/// were. Zero means that none of these groups holds any.
///
/// # Errors
/// A group cannot be looked at or written, or holds something else; the others are ended.
pub fn end(run: &RunDir, boot: BootId, meant: &dyn Fn(Life) -> bool) -> io::Result<usize> {
    let mut count = 0;
    let mut failed = None;
    let mut scan = None;
    for (_, of) in known(run, boot)? {
        if !meant((of.guest, of.epoch)) || !same(&of) {
            continue;
        }
        match end_one(run, &of, &mut scan) {
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

fn end_one(run: &RunDir, of: &CgroupRecord, scan: &mut Option<Scan>) -> io::Result<usize> {
    let found = match members(&of.path) {
        // It went meanwhile, with all that was in it.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        found => found?,
    };
    if found.is_empty() {
        // Whoever has the guest next makes another; a run directory that is gone releases none.
        let _ = dissolve(of);
        return Ok(0);
    }
    // Taken after the members were read: whoever is there is in it, or is gone.
    let seen = scan.insert(Scan::take(Some(run.path()))?);
    let leader = records::read::<GuestRecord>(&run.guest(of.guest, of.epoch));
    let leader = leader.ok().flatten();
    alone(of, &found, seen, leader.as_ref()).map_err(io::Error::other)?;
    match fs::write(of.path.join("cgroup.kill"), "1") {
        Ok(()) => {}
        // Before Linux 5.14: frozen first, so that none is started meanwhile.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let _ = fs::write(of.path.join("cgroup.freeze"), "1");
            for pid in members(&of.path)? {
                if let Some(process) = Process::look(pid) {
                    signal(&process, Signal::KILL)?;
                }
            }
            let _ = fs::write(of.path.join("cgroup.freeze"), "0");
        }
        Err(e) => return Err(e),
    }
    Ok(found.len())
}

/// Whether any group of a life holds a process. In doubt it does not: what it would show is shown
/// by other means too.
#[must_use]
pub fn populated(run: &RunDir, boot: BootId, life: Life) -> bool {
    known(run, boot).is_ok_and(|known| {
        known.iter().any(|(_, of)| {
            (of.guest, of.epoch) == life
                && same(of)
                && members(&of.path).is_ok_and(|m| !m.is_empty())
        })
    })
}

/// Removes the empty groups of the lives that `meant` names, and forgets them.
///
/// # Errors
/// One is not empty, or a file cannot be removed.
pub fn release(run: &RunDir, boot: BootId, meant: &dyn Fn(Life) -> bool) -> io::Result<()> {
    for (path, of) in known(run, boot)? {
        if !meant((of.guest, of.epoch)) {
            continue;
        }
        dissolve(&of)?;
        records::remove(&path)?;
    }
    Ok(())
}

fn dissolve(of: &CgroupRecord) -> io::Result<()> {
    if !of.ours || !same(of) {
        return Ok(());
    }
    match fs::remove_dir(&of.path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
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
    use std::collections::BTreeMap;

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
    fn a_group_that_holds_anything_else_is_left_alone() {
        let process = |pid: i32, parent: i32| {
            let one = Process {
                pid,
                parent,
                group: pid,
                session: pid,
                state: b'S',
                threads: 1,
                start: 5,
            };
            (pid, one)
        };
        let p = 1_900_000_000;
        let other = Some((GuestId(8), Token(2)));
        let scan = Scan {
            all: [process(p, 1), process(p + 1, p), process(p + 2, 1)].into(),
            marked: BTreeMap::from([(p + 2, other)]),
        };
        let of = CgroupRecord {
            guest: GuestId(7),
            epoch: Token(2),
            boot: BootId(1),
            draw: 1,
            path: "/c".into(),
            inode: 1,
            ours: true,
        };
        let me = i32::try_from(std::process::id()).expect("a pid");
        let holds = |pids: &[i32]| alone(&of, &pids.iter().copied().collect(), &scan, None);
        assert_eq!(holds(&[p, p + 1]), Ok(()));
        for bad in [0, 1, me, p + 2] {
            let why = holds(&[p, bad]).expect_err("refused");
            assert!(why.contains("left alone"), "{why}");
        }
        // In one that is libvirt's, every process must be known: this one is none of the guest's.
        let theirs = CgroupRecord { ours: false, ..of };
        let parent = i32::try_from(std::os::unix::process::parent_id()).expect("a pid");
        let strange = alone(&theirs, &[parent].into(), &scan, None);
        assert!(strange.expect_err("refused").contains("not known"));
    }
}
