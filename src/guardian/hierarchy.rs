//! Where control groups are: the hierarchy of version 2, and what is made of it for guests.

use super::records::RunDir;
use ring::digest;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Groups below a guest's that are looked into.
const GROUPS_MAX: usize = 100_000;

pub(super) fn named(path: &Path) -> impl FnOnce(io::Error) -> String {
    move |e| format!("{}: {e}", path.display())
}

/// Where the hierarchy of version 2 is mounted, and which of its directories that shows.
fn mounted() -> Result<(PathBuf, PathBuf), String> {
    let text = fs::read_to_string("/proc/self/mountinfo").map_err(|e| e.to_string())?;
    text.lines()
        .find_map(|line| {
            let (fields, kind) = line.split_once(" - ")?;
            let mut fields = fields.split(' ').skip(3);
            let (root, at) = (fields.next()?, fields.next()?);
            // A path with blanks is written otherwise there, and is none of the usual ones.
            (kind.split(' ').next() == Some("cgroup2") && !at.contains('\\'))
                .then(|| (PathBuf::from(at), PathBuf::from(root)))
        })
        .ok_or_else(|| "control groups of version 2 are not mounted".into())
}

/// The directory of the group a process is in.
pub(super) fn group_of(pid: &str) -> Result<PathBuf, String> {
    let (at, root) = mounted()?;
    let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let text = fs::read_to_string(&path).map_err(named(&path))?;
    let own = text.lines().find_map(|l| l.strip_prefix("0::"));
    let own = Path::new(own.ok_or("no group of version 2")?);
    let below = own
        .strip_prefix(&root)
        .map_err(|_| "its group lies outside of what is mounted".to_owned())?;
    let inside = below
        .components()
        .all(|c| matches!(c, Component::Normal(_)));
    if !inside {
        return Err("its group lies outside of what is mounted".into());
    }
    Ok(at.join(below))
}

/// Where groups of this run directory's guests are made: below the group of whoever asks.
pub(super) fn base(run: &RunDir) -> Result<PathBuf, String> {
    base_of(run.path())
}

/// Removes what a host that lost its power left empty: on a real one, that goes with the boot.
pub(crate) fn sweep(run_dir: &Path) {
    let Ok(base) = base_of(run_dir) else { return };
    for group in fs::read_dir(&base).into_iter().flatten().flatten() {
        // One that holds a process is refused by the kernel.
        let _ = remove(&group.path());
    }
    let _ = fs::remove_dir(&base);
}

fn base_of(run_dir: &Path) -> Result<PathBuf, String> {
    use std::os::unix::ffi::OsStrExt;
    let sum = digest::digest(&digest::SHA256, run_dir.as_os_str().as_bytes());
    let sum: String = sum.as_ref()[..8]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    Ok(group_of("self")?.join(format!("quorate-{sum}")))
}

/// Says whether guests get groups of their own here, and where.
///
/// # Errors
/// Why they do not.
pub fn available(run: &RunDir) -> Result<PathBuf, String> {
    let base = base(run)?;
    let there = base.exists();
    fs::create_dir(&base)
        .or_else(|e| if there { Ok(()) } else { Err(e) })
        .map_err(named(&base))?;
    let writable = fs::File::options()
        .write(true)
        .open(base.join("cgroup.procs"))
        .map(|_| ())
        .map_err(named(&base));
    if !there {
        let _ = fs::remove_dir(&base);
    }
    writable.map(|()| base)
}

/// The part of a path that libvirt made for one domain: `machine-qemu\x2d3\x2dweb.scope` below
/// systemd, `qemu-3-web.libvirt-qemu` without.
pub(super) fn scope(path: &Path) -> Option<PathBuf> {
    let mut found = PathBuf::new();
    for part in path.components() {
        found.push(part);
        let name = part.as_os_str().to_string_lossy();
        if name.starts_with("machine-qemu") && name.ends_with(".scope")
            || name.starts_with("qemu-") && name.ends_with(".libvirt-qemu")
        {
            return Some(found);
        }
    }
    None
}

/// Whether a group or any below it holds a process, by the kernel's own count.
///
/// # Errors
/// The kernel does not say: then it may.
pub(super) fn holds_any(path: &Path) -> io::Result<bool> {
    let file = path.join("cgroup.events");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if gone(&e) => return Ok(false),
        Err(e) => return Err(io::Error::new(e.kind(), format!("{}: {e}", file.display()))),
    };
    match text.lines().find_map(|l| l.strip_prefix("populated ")) {
        Some("0") => Ok(false),
        Some("1") => Ok(true),
        _ => Err(io::Error::other(format!(
            "{}: it does not say whether it is populated",
            file.display()
        ))),
    }
}

/// A group that went meanwhile says so in two ways.
pub(super) fn gone(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound
        || e.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

/// A group and all below it, from the top down.
fn groups(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![path.to_path_buf()];
    let mut at = 0;
    while let Some(path) = found.get(at) {
        at += 1;
        let inside = match fs::read_dir(path) {
            Ok(inside) => inside,
            Err(e) if gone(&e) => continue,
            Err(e) => return Err(e),
        };
        for entry in inside {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
        }
        if found.len() > GROUPS_MAX {
            return Err(io::Error::other("more groups than can be looked into"));
        }
    }
    Ok(found)
}

/// Every process in a group and below. 0 stands for one that cannot be seen from here.
pub(super) fn members(path: &Path) -> io::Result<BTreeSet<i32>> {
    let mut found = BTreeSet::new();
    for group in groups(path)? {
        match fs::read_to_string(group.join("cgroup.procs")) {
            Ok(text) => found.extend(text.lines().filter_map(|l| l.parse::<i32>().ok())),
            // A threaded group shows its processes only further up.
            Err(e) if gone(&e) || e.raw_os_error() == Some(95) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

/// Removes a group with those that its guest has made in it.
///
/// # Errors
/// One holds a process.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    for group in groups(path)?.iter().rev() {
        match fs::remove_dir(group) {
            Err(e) if !gone(&e) => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domains_own_part_of_a_path_is_found() {
        let of = |p: &str| scope(Path::new(p)).map(|p| p.display().to_string());
        let systemd = "/sys/fs/cgroup/machine.slice/machine-qemu\\x2d3\\x2dweb.scope";
        assert_eq!(
            of(&format!("{systemd}/libvirt/emulator")),
            Some(systemd.to_owned())
        );
        let plain = "/c/machine/qemu-3-web.libvirt-qemu";
        assert_eq!(of(&format!("{plain}/vcpu0")), Some(plain.into()));
        for shared in ["/c", "/c/machine.slice", "/c/system.slice/libvirtd.service"] {
            assert_eq!(of(shared), None);
        }
    }
}
