//! Resources of agents at lease end. No signal ends an address or a mounted file system: each is
//! stopped by its agent, by a process of its own that nobody here waits for. One that is not seen
//! stopped counts as a guest that is left, and in the end the host is reset for it.

use super::records::RunDir;
use crate::clock::Clock;
use crate::ocf::registry::{self, Known};
use quorate_membership::{BootId, Time};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Between two stops of one resource.
const AGAIN: Duration = Duration::from_millis(200);
/// What the one who starts a stop needs.
const STACK: usize = 256 * 1024;

/// A resource that may be active.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Active {
    path: PathBuf,
    name: String,
    /// The host is reset for it.
    resets: bool,
}

/// A stop that was launched.
struct Stop {
    under_way: Arc<AtomicBool>,
    again: Time,
}

/// The guardian's part about resources.
pub(super) struct Resources {
    run: RunDir,
    boot: BootId,
    /// The quorate program: it stops one resource as `ocf-stop`.
    program: PathBuf,
    /// As last seen: a run directory that vanishes stops nothing.
    active: Vec<Active>,
    stops: BTreeMap<PathBuf, Stop>,
    /// Whether the host is reset for resources here, by the last one seen that says so.
    resets: bool,
}

impl Resources {
    pub(super) fn new(run: RunDir, boot: BootId, program: &Path) -> Resources {
        Resources {
            run,
            boot,
            program: program.to_path_buf(),
            active: Vec::new(),
            stops: BTreeMap::new(),
            resets: false,
        }
    }

    /// Whether any resource may be active. What cannot be seen is as it was.
    pub(super) fn left(&mut self, displaced: bool) -> bool {
        if !displaced && let Ok(known) = registry::known(&self.run) {
            let active = known.iter().filter(|k| registry::is_active(&k.path));
            self.active = active.filter_map(|k| self.of(k)).collect();
            self.resets |= self.active.iter().any(|a| a.resets);
        }
        !self.active.is_empty()
    }

    /// Resources of another boot went with it.
    fn of(&self, known: &Known) -> Option<Active> {
        let (name, resets) = match &known.registration {
            Ok(r) if r.boot != self.boot => return None,
            Ok(r) => (r.name.clone(), r.kill_ms.is_some()),
            // Nobody can stop it: the host is reset for it if it is for others.
            Err(why) => (why.clone(), self.resets),
        };
        Some(Active {
            path: known.path.clone(),
            name,
            resets,
        })
    }

    /// The first resource that the host is reset for.
    pub(super) fn resets(&self) -> Option<&str> {
        let mut active = self.active.iter();
        active.find(|a| a.resets).map(|a| a.name.as_str())
    }

    /// Whether the host is reset for what agents have left.
    pub(super) fn resets_for_agents(&self) -> bool {
        self.resets
    }

    /// An ending begins.
    pub(super) fn begin(&mut self) {
        self.stops.clear();
    }

    /// One round of an ending: launches the stops. Gives how many may be active.
    ///
    /// # Errors
    /// What an operator should know; it goes on all the same.
    pub(super) fn end(&mut self, displaced: bool) -> Result<usize, String> {
        self.left(displaced);
        let now = Clock.now();
        let mut wrong = None;
        for one in self.active.clone() {
            if !displaced {
                self.stop(&one, now);
            }
            if let Ok(why) = std::fs::read_to_string(registry::why(&one.path)) {
                wrong = Some(format!("{} is not stopped: {why}", one.name));
            }
        }
        wrong.map_or(Ok(self.active.len()), Err)
    }

    fn stop(&mut self, one: &Active, now: Time) {
        let known = self.stops.get(&one.path);
        if known.is_some_and(|s| s.under_way.load(Ordering::SeqCst) || now < s.again) {
            return;
        }
        let under_way = Arc::new(AtomicBool::new(true));
        let theirs = Arc::clone(&under_way);
        let mut command = Command::new(&self.program);
        command
            .arg("ocf-stop")
            .arg(self.run.path())
            .arg(&one.path)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Even the start of a process may hang, on a disk that is gone.
        let begun = thread::Builder::new()
            .name("stop".into())
            .stack_size(STACK)
            .spawn(move || {
                let _ = command.status();
                theirs.store(false, Ordering::SeqCst);
            });
        if begun.is_err() {
            under_way.store(false, Ordering::SeqCst);
        }
        let again = now + AGAIN;
        self.stops
            .insert(one.path.clone(), Stop { under_way, again });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guardian::records;
    use crate::ocf::registry::Registration;
    use quorate_membership::Token;
    use quorate_recovery::guest::GuestId;

    /// A resource whose stop never succeeds.
    fn unstoppable(dir: &Path, kill_ms: Option<u64>) -> (Resources, PathBuf) {
        let run = RunDir::create(dir).expect("made");
        let registration = Registration {
            guest: GuestId(7),
            epoch: Token(9),
            boot: BootId(3),
            draw: 11,
            name: "fs".into(),
            host: "h1".into(),
            agent: "ocf:heartbeat:Filesystem".into(),
            program: "/x".into(),
            root: "/r".into(),
            temporary: "/t".into(),
            parameters: BTreeMap::new(),
            every_ms: 10_000,
            start_ms: 20_000,
            stop_ms: 20_000,
            monitor_ms: 20_000,
            kill_ms,
        };
        let path = registration.path(&run);
        records::write(&path, &registration).expect("written");
        std::fs::write(registry::active(&path), "").expect("written");
        (
            Resources::new(run, BootId(3), Path::new("/bin/false")),
            path,
        )
    }

    #[test]
    fn a_resource_that_is_not_seen_stopped_is_left_and_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut resources, path) = unstoppable(dir.path(), Some(1000));
        assert!(resources.left(false));
        resources.begin();
        assert_eq!(resources.end(false), Ok(1));
        assert_eq!(resources.resets(), Some("fs"));
        // One that nobody can read is left as well, and reset for as well.
        std::fs::write(&path, "?").expect("written");
        assert_eq!(resources.end(false), Ok(1));
        assert!(resources.resets().is_some());
        // Its directory may go, it does not.
        std::fs::remove_dir_all(dir.path()).expect("removed");
        assert!(resources.left(true));
        assert!(resources.resets().is_some());
    }

    #[test]
    fn a_host_that_is_not_set_up_for_it_is_not_reset_for_a_resource() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut resources, path) = unstoppable(dir.path(), None);
        resources.begin();
        assert_eq!(resources.end(false), Ok(1));
        assert_eq!(resources.resets(), None);
        assert!(!resources.resets_for_agents());
        std::fs::remove_file(registry::active(&path)).expect("seen stopped");
        assert!(!resources.left(false));
        assert_eq!(resources.end(false), Ok(0));
    }
}
