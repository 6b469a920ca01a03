//! Writes the locks of one life and raises them while its guest runs.
//!
//! A process of the guest's: in its control group, with its marks. Storage that hangs hangs this
//! process alone, and it ends with the guest. It ends by itself when the guest's first process
//! does. Only one keeps a life: it holds a lock on its plan's file. When the images of the guest
//! change, another plan takes that file's place, and another keeper this one's.

use super::block::{self, Content};
use super::file;
use super::files::Files;
use super::place::Placing;
use crate::guardian::cgroups;
use crate::guardian::processes::leader;
use crate::guardian::records::{self, GuestRecord, Record, RunDir};
use quorate_membership::BootId;
use quorate_recovery::hold::Words;
use quorate_recovery::lock::{LOCKS, Lock, LockState, LockedImage, SeenLock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, pidfd_open, setsid};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The hidden subcommand.
pub(super) const SUBCOMMAND: &str = "lock-keep";
/// Between two raises; sooner while they fail.
const PERIOD: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};
const RETRY: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// How often the locks of a plan were raised, if an earlier one of the same life was in its place:
/// nobody has read what stands beside its images, so nothing of others is written over.
pub(super) const TAKEN_OVER: u64 = 1;

/// What is to be kept. Lies in `locks/G-E.plan`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeeperPlan {
    pub(super) boot: BootId,
    pub(super) lock: Lock,
    pub(super) name: String,
    pub(super) host: String,
    pub(super) images: Vec<LockedImage>,
    pub(super) placing: Placing,
}

/// How it stands. Lies in `locks/G-E.state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeeperState {
    pub(super) boot: BootId,
    /// Every lock was written at least once.
    pub(super) written: bool,
    /// Why the last round failed.
    pub(super) failing: Option<String>,
    /// Locks of somebody else in place of ours.
    pub(super) met: Vec<SeenLock>,
}

impl Record for KeeperPlan {
    const KIND: &'static str = "lock-plan";
}
impl Record for KeeperState {
    const KIND: &'static str = "lock-state";
}

impl From<KeeperState> for LockState {
    fn from(state: KeeperState) -> LockState {
        LockState {
            failing: state.failing.map(|why| Words::new(&why)),
            met: state.met,
        }
    }
}

/// Whether somebody keeps the life whose plan this is.
pub(super) fn taken(plan: &File) -> bool {
    flock(plan, FlockOperation::NonBlockingLockExclusive).is_err()
}

/// `quorate lock-keep RUN_DIR PLAN`: keeps the locks that the plan names.
#[must_use]
pub fn lock_keep_main(args: &[OsString]) -> ExitCode {
    let [dir, plan] = args else {
        eprintln!("quorate {SUBCOMMAND}: a run directory and a plan are needed");
        return ExitCode::from(2);
    };
    match keep(Path::new(dir), Path::new(plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("quorate {SUBCOMMAND}: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Whether another plan has taken the place of this one, whose file is open.
fn replaced(plan: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (plan.metadata(), path.metadata()) else {
        return false;
    };
    (ours.dev(), ours.ino()) != (there.dev(), there.ino())
}

/// One image's lock.
struct Kept {
    image: LockedImage,
    path: PathBuf,
    met: Option<SeenLock>,
}

fn keep(dir: &Path, plan_file: &Path) -> Result<(), String> {
    let run = RunDir::open(dir).map_err(|e| e.to_string())?;
    let handle = File::open(plan_file).map_err(|e| e.to_string())?;
    if taken(&handle) {
        return Ok(());
    }
    let plan: KeeperPlan = records::read(plan_file)?.ok_or("its plan is gone")?;
    let (guest, epoch) = (plan.lock.guest, plan.lock.life.epoch);
    let record: GuestRecord = records::read(&run.guest(guest, epoch))?
        .filter(|r: &GuestRecord| r.boot == plan.boot)
        .ok_or("the guest is not registered")?;
    // So that it is ended with the guest, by whoever ends that; its marks do that, too.
    let _ = setsid();
    let _ = cgroups::join(&run, &record);
    let first = leader(&record).ok_or("the guest's first process is gone")?;
    let pid = Pid::from_raw(first.pid).ok_or("the guest has no process")?;
    let watched = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| e.to_string())?;
    let path = Files::of(&run).state(guest, epoch);
    let mut state = KeeperState {
        boot: plan.boot,
        written: false,
        failing: None,
        met: Vec::new(),
    };
    let mut said = None;
    let mut kept: Option<Vec<Kept>> = None;
    let mut lock = plan.lock;
    loop {
        // The pid may have been taken anew before the handle was open; from here on it is the same.
        if leader(&record).is_none() {
            break;
        }
        if replaced(&handle, plan_file) {
            // What it says in there is the other keeper's.
            return Ok(());
        }
        // Names are looked up on the storage too, so only here.
        let kept = kept.get_or_insert_with(|| places(&plan));
        lock.raised += 1;
        state.failing = round(&plan, &lock, kept).err();
        state.written |= state.failing.is_none();
        state.met = kept
            .iter()
            .filter_map(|k| k.met.clone())
            .take(LOCKS)
            .collect();
        if replaced(&handle, plan_file) {
            return Ok(());
        }
        if said.as_ref() != Some(&state) && records::write(&path, &state).is_ok() {
            said = Some(state.clone());
        }
        let wait = if state.failing.is_some() {
            RETRY
        } else {
            PERIOD
        };
        let mut fds = [PollFd::new(&watched, PollFlags::IN)];
        match poll(&mut fds, Some(&wait)) {
            Ok(0) | Err(_) => {}
            Ok(_) => break,
        }
    }
    let _ = records::remove(&path);
    let _ = records::remove(plan_file);
    Ok(())
}

fn places(plan: &KeeperPlan) -> Vec<Kept> {
    let of = |image: &LockedImage| {
        let path = plan.placing.of(plan.lock.guest, image)?;
        Some(Kept {
            image: image.clone(),
            path,
            met: None,
        })
    };
    plan.images.iter().filter_map(of).collect()
}

/// Writes every lock once more. A lock of somebody else is left to stand, once ours was there: the
/// disk has the last word.
fn round(plan: &KeeperPlan, lock: &Lock, kept: &mut [Kept]) -> Result<(), String> {
    let words = format!(
        "Quorate: guest {} on host {} of cluster {}",
        plan.name, plan.host, lock.cluster
    );
    let mut failed = None;
    for one in kept {
        let named = |e: std::io::Error| format!("{}: {e}", one.path.display());
        let done = file::read(&one.path).map_err(named).and_then(|found| {
            let mut ours = *lock;
            let sequence = match found {
                Content::Nothing | Content::Damaged(_) => 1,
                Content::Lock(there, sequence) => {
                    if lock.raised > 1 && supersedes(&there, lock) {
                        one.met = Some(SeenLock {
                            image: Words::new(&one.image.path),
                            lock: there,
                        });
                        return Ok(());
                    }
                    if (there.guest, there.life) == (lock.guest, lock.life) {
                        // By the keeper before this one.
                        ours.raised = ours.raised.max(there.raised.saturating_add(1));
                    }
                    sequence.saturating_add(1)
                }
            };
            one.met = None;
            let bytes = block::encode(&ours, sequence, &words);
            file::write(&one.path, &bytes, sequence).map_err(named)
        });
        failed = failed.or(done.err());
    }
    failed.map_or(Ok(()), Err)
}

/// Whether `there` is of a life that this one did not replace: another cluster's, another guest's
/// or a later one. An earlier life's may be a write that was stuck.
fn supersedes(there: &Lock, ours: &Lock) -> bool {
    let same = (there.cluster, there.guest) == (ours.cluster, ours.guest);
    !same
        || there.life.epoch > ours.life.epoch
        || (there.life.epoch == ours.life.epoch && there.life != ours.life)
}
