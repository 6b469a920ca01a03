//! A control group for each host, so that the groups of its guests are its own, and go with it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Begins the name of every group of a lab; the number of its process follows.
const PREFIX: &str = "quorate-lab-";

/// The group of a host; none where control groups of version 2 are not mounted.
pub fn of(host: &str) -> Option<PathBuf> {
    let name = format!("{PREFIX}{}-{host}", std::process::id());
    Some(mount()?.join(name))
}

/// Where control groups of version 2 are mounted.
fn mount() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = text.lines().find_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        let at = fields.split(' ').nth(4)?;
        (kind.split(' ').next() == Some("cgroup2")).then_some(at)
    })?;
    Some(PathBuf::from(mount))
}

/// Removes the groups of labs that were killed; nothing runs in them any more.
pub fn sweep() -> Result<(), String> {
    let entries = mount().and_then(|at| fs::read_dir(at).ok());
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|n| n.strip_prefix(PREFIX));
        let pid = pid.and_then(|n| n.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&Some(entry.path()))?;
        }
    }
    Ok(())
}

/// Makes it; gives its path, or nothing where no group can be made: then there is none.
pub fn make(group: &Option<PathBuf>) -> PathBuf {
    let made = group.as_ref().filter(|path| {
        let made = fs::create_dir(path);
        made.is_ok() || made.is_err_and(|e| e.kind() == io::ErrorKind::AlreadyExists)
    });
    made.cloned().unwrap_or_default()
}

/// Removes it with all that is below; nothing may run in it any more.
pub fn remove(group: &Option<PathBuf>) -> Result<(), String> {
    match group {
        Some(group) if group.exists() => {
            below(group).map_err(|e| format!("{}: {e}", group.display()))
        }
        _ => Ok(()),
    }
}

fn below(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            below(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
