//! The first life of a guest's leader: registers itself, waits for its permission, becomes the guest.
//!
//! No process of a guest exists before its registration: this process makes it itself, before it
//! runs anything, and one that was called off finds its intent gone and ends.

use crate::clock::Clock;
use crate::guardian::cgroups;
use crate::guardian::processes::Process;
use crate::guardian::records::{self, GoRecord, GuestRecord, IntentRecord, RunDir};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::{
    Resource, Rlimit, Signal, getpid, getpriority_process, getrlimit, kill_process,
    set_child_subreaper, setpriority_process, setrlimit, setsid,
};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Exit status of a leader that ended before it became the guest.
const NOT_STARTED: u8 = 75;
/// Bytes that a guest may lock in memory, as the kernel's own default is.
const MEMLOCK: u64 = 8 << 20;
/// Files that a guest may open, as systemd's own defaults are: at first, and by its own choice.
const NOFILE: u64 = 1024;
const NOFILE_MAX: u64 = 524_288;
/// The hidden subcommand; also tells a leader that has not become the guest yet.
pub(super) const SUBCOMMAND: &str = "guest-launch";

/// `quorate guest-launch RUN_DIR INTENT`: becomes the guest that the intent describes.
#[must_use]
pub fn guest_launch_main(args: &[OsString]) -> ExitCode {
    let [dir, intent] = args else {
        eprintln!("quorate {SUBCOMMAND}: a run directory and an intent file are needed");
        return ExitCode::from(2);
    };
    let Err(why) = launch(Path::new(dir), Path::new(intent));
    eprintln!("quorate {SUBCOMMAND}: {why}");
    ExitCode::from(NOT_STARTED)
}

/// Whether the leader has not become the guest yet.
pub(super) fn launching(pid: i32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|b| *b == 0).nth(1) == Some(SUBCOMMAND.as_bytes())
}

fn launch(dir: &Path, intent: &Path) -> Result<std::convert::Infallible, String> {
    let words = |what: &str| {
        let what = what.to_owned();
        move |e: std::io::Error| format!("{what}: {e}")
    };
    let run = RunDir::open(dir).map_err(words("run directory"))?;
    // Its own session and group; orphans of the guest come back to it, so they stay findable.
    setsid().map_err(|e| format!("setsid: {e}"))?;
    set_child_subreaper(Some(getpid())).map_err(|e| format!("subreaper: {e}"))?;
    let mut file = File::options()
        .write(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(intent)
        .map_err(words("the start was called off"))?;
    let plan: IntentRecord = records::read(intent)?.ok_or("the start was called off")?;
    let me = Process::me().map_err(words("/proc"))?;
    let record = GuestRecord {
        guest: plan.guest,
        epoch: plan.epoch,
        boot: plan.boot,
        draw: records::draw_of(intent).ok_or("the intent's name holds no number")?,
        pgid: me.pid,
        start: me.start,
    };
    ordinary_limits();
    // Everything it ever starts is in there too. Without one it is found as ever.
    let _ = cgroups::enter(&run, &record);
    let held = run.held(&record);
    fs::write(&held, b"").map_err(words("held mark"))?;
    if let Err(why) = register(&run, intent, &mut file, &record) {
        let _ = records::remove(&held);
        return Err(why);
    }
    drop(file);
    let Err(why) = become_guest(&run, &plan, &record);
    // For the people who wonder why it ended at once.
    let _ = fs::write(run.why(&record), &why);
    Err(why)
}

/// Gives up what the daemon has and no guest needs: its immunity from the kernel's choice of whom to
/// end when memory is short, its priority, its locked memory and its many files.
fn ordinary_limits() {
    // Each is less than it was, so none needs a privilege; where one fails it stays as it was.
    let _ = fs::write("/proc/self/oom_score_adj", "0");
    if getpriority_process(None).is_ok_and(|nice| nice < 0) {
        let _ = setpriority_process(None, 0);
    }
    let _ = crate::guardian::ordinary();
    for (resource, current, maximum) in [
        (Resource::Memlock, MEMLOCK, MEMLOCK),
        (Resource::Nofile, NOFILE, NOFILE_MAX),
    ] {
        let has = getrlimit(resource);
        let least = |has: Option<u64>, most: u64| Some(has.map_or(most, |has| has.min(most)));
        let maximum = least(has.maximum, maximum);
        let limit = Rlimit {
            current: least(maximum, current),
            maximum,
        };
        let _ = setrlimit(resource, limit);
    }
}

/// The intent becomes the registration: written into the same file, then renamed. It is an intent
/// by its name until then, whatever a reader meets inside.
pub(crate) fn register(
    run: &RunDir,
    intent: &Path,
    file: &mut File,
    me: &GuestRecord,
) -> Result<(), String> {
    let bytes = records::encode(me);
    file.write_all(&bytes)
        .and_then(|()| file.set_len(bytes.len() as u64))
        .map_err(|e| format!("registration: {e}"))?;
    let registered = run.guest(me.guest, me.epoch);
    renameat_with(CWD, intent, CWD, &registered, RenameFlags::NOREPLACE)
        .map_err(|e| format!("the start was called off or made twice: {e}"))?;
    let inode = |m: std::io::Result<fs::Metadata>| m.map(|m| m.ino());
    match (inode(file.metadata()), inode(fs::metadata(&registered))) {
        (Ok(mine), Ok(there)) if mine == there => Ok(()),
        _ => Err("another start registered in its place".into()),
    }
}

/// Waits, stopped, for the permission; then runs the guest's program in place of this one.
fn become_guest(
    run: &RunDir,
    plan: &IntentRecord,
    me: &GuestRecord,
) -> Result<std::convert::Infallible, String> {
    let (held, go) = (run.held(me), run.go(me));
    loop {
        // A signal to continue is no permission: anybody may send one.
        match records::read::<GoRecord>(&go) {
            Ok(Some(permission)) if Clock.now() <= permission.not_after => break,
            Ok(Some(_)) | Err(_) => {
                records::remove(&go).map_err(|e| format!("late permission: {e}"))?;
            }
            Ok(None) => {}
        }
        kill_process(getpid(), Signal::STOP).map_err(|e| format!("stop: {e}"))?;
    }
    let mut command = Command::new(plan.argv.first().ok_or("no program")?);
    command
        .args(&plan.argv[1..])
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .envs(&plan.env)
        .env(records::MARK_DIR, run.path())
        .env(records::MARK_GUEST, format!("{:016x}", plan.guest.0))
        .env(records::MARK_EPOCH, format!("{:016x}", plan.epoch.0))
        .env("QUORATE_NAME", &plan.name)
        .env("QUORATE_HOST", &plan.host)
        .current_dir("/");
    records::remove(&held).map_err(|e| format!("held mark: {e}"))?;
    records::remove(&go).map_err(|e| format!("permission: {e}"))?;
    // The guardian would end it; better not to begin at all.
    let end = run.lease_end(plan.boot)?;
    if Clock.now() >= end {
        return Err("the lease is over".into());
    }
    Err(format!("{}: {}", plan.argv[0], command.exec()))
}
