//! Whether anything of a lab outlived it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The kernel takes its time to end what was killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The process namespace of a host or of the rack: everything in either is in one of them.
///
/// It is kept open: the kernel gives the number of one that is gone to the next, which may be
/// anybody's.
#[derive(Clone, Debug)]
pub struct Space {
    name: PathBuf,
    _pinned: Arc<File>,
}

impl Space {
    /// The one that this process is pid 1 of.
    ///
    /// # Errors
    /// It has ended.
    pub fn of(pid: u32) -> Result<Space, String> {
        let path = format!("/proc/{pid}/ns/pid");
        let fault = |e: std::io::Error| format!("{path}: {e}");
        Ok(Space {
            _pinned: Arc::new(File::open(&path).map_err(fault)?),
            name: fs::read_link(&path).map_err(fault)?,
        })
    }

    /// Whether a process is in it.
    pub fn holds(&self, pid: u32) -> bool {
        fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|name| name == self.name)
    }
}

/// What is left of a lab in these namespaces and this directory; nothing if all is well.
pub fn left(spaces: &[Space], dir: &Path) -> Vec<String> {
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

fn processes(spaces: &[Space]) -> Vec<String> {
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        if spaces.iter().any(|space| space.holds(pid)) {
            let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            left.push(format!("process {pid} ({})", command.trim()));
        }
    }
    left
}
