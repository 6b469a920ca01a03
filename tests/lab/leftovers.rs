//! Whether anything of a lab outlived it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// The kinds of namespaces that hosts are made of.
const KINDS: [&str; 5] = ["mnt", "net", "pid", "uts", "ipc"];
/// The kernel takes its time to end what was killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The namespaces of a process that are not this one's own.
pub fn spaces_of(pid: u32) -> BTreeSet<String> {
    let read = |pid: &str, kind: &str| {
        let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
        Some(link.display().to_string())
    };
    let own = |kind: &str| read("self", kind);
    let mut found = BTreeSet::new();
    for kind in KINDS {
        let space = read(&pid.to_string(), kind);
        if space.is_some() && space != own(kind) {
            found.extend(space);
        }
    }
    found
}

/// What is left of a lab in these namespaces and this directory; nothing if all is well.
pub fn left(spaces: &BTreeSet<String>, dir: &Path) -> Vec<String> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let mut left = processes(spaces);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let path = dir.display().to_string();
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&path))
                .map(|line| format!("the mount {line}")),
        );
        if left.is_empty() || Instant::now() >= give_up {
            return left;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn processes(spaces: &BTreeSet<String>) -> Vec<String> {
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        if !spaces_of(pid).is_disjoint(spaces) {
            let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            left.push(format!("process {pid} ({})", command.trim()));
        }
    }
    left
}
