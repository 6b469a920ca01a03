//! Resources of agents at lease end. No signal ends an address or a mounted file system: each is
//! stopped by its agent, by a process of its own that nobody here waits for. One that is not seen
//! stopped in time leaves one way only to keep the promise, and the host is reset.

use super::records::RunDir;
use super::reset::Reset;
use crate::clock::Clock;
use crate::ocf::end_round;
use crate::ocf::registry::{self, Known};
use quorate_membership::{BootId, Time};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Between two stops of one resource.
const AGAIN: Duration = Duration::from_millis(200);
/// Between two resets that are refused.
const INSIST: Duration = Duration::from_secs(1);
/// What the one who starts a stop needs.
const STACK: usize = 256 * 1024;

/// A resource that may be active.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Active {
    path: PathBuf,
    name: String,
    kill: Option<Duration>,
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
    reset: Box<dyn Reset + Send>,
    /// As last seen: a run directory that vanishes stops nothing.
    active: Vec<Active>,
    stops: BTreeMap<PathBuf, Stop>,
    /// When the ending began, and when the lease was over.
    began: Option<(Time, Time)>,
    insisted: Time,
    /// The K of resources here, once one was seen.
    kill: Option<Duration>,
}

impl Resources {
    pub(super) fn new(
        run: RunDir,
        boot: BootId,
        program: &Path,
        reset: Box<dyn Reset + Send>,
    ) -> Resources {
        Resources {
            run,
            boot,
            program: program.to_path_buf(),
            reset,
            active: Vec::new(),
            stops: BTreeMap::new(),
            began: None,
            insisted: Time::ZERO,
            kill: None,
        }
    }

    /// Whether any resource may be active. What cannot be seen is as it was.
    pub(super) fn left(&mut self, displaced: bool) -> bool {
        if !displaced && let Ok(known) = registry::known(&self.run) {
            let active = known.iter().filter(|k| registry::is_active(&k.path));
            self.active = active.filter_map(|k| self.of(k)).collect();
            self.kill = self.active.iter().find_map(|a| a.kill).or(self.kill);
        }
        !self.active.is_empty()
    }

    /// Resources of another boot went with it.
    fn of(&self, known: &Known) -> Option<Active> {
        let (name, kill) = match &known.registration {
            Ok(r) if r.boot != self.boot => return None,
            Ok(r) => (r.name.clone(), r.kill_ms.map(Duration::from_millis)),
            // Nobody can stop it: it takes the K of the others, or is complained about for ever.
            Err(why) => (why.clone(), self.kill),
        };
        Some(Active {
            path: known.path.clone(),
            name,
            kill,
        })
    }

    /// An ending begins; the lease was over at `over`.
    pub(super) fn begin(&mut self, now: Time, over: Time) {
        self.began = Some((now, over.min(now)));
        self.stops.clear();
    }

    /// One round of an ending: ends what agents started and are starting, launches the stops, and
    /// resets the host when their time is over. Gives how much is left.
    ///
    /// # Errors
    /// What an operator should know; it goes on all the same.
    pub(super) fn end(&mut self, displaced: bool) -> Result<usize, String> {
        let left = end_round(&self.run, &|_| true);
        let some = self.left(displaced);
        let now = Clock.now();
        let mut wrong = left.as_ref().err().map(io::Error::to_string);
        for one in self.active.clone() {
            if !displaced {
                self.stop(&one, now);
            }
            if let Ok(why) = std::fs::read_to_string(registry::why(&one.path)) {
                wrong = Some(format!("{} is not stopped: {why}", one.name));
            }
            if let Some(kill) = one.kill {
                let why = format!("{} was not seen stopped", one.name);
                wrong = self.insist(now, kill, &why).or(wrong);
            }
        }
        if let (Some(kill), true) = (self.kill, left.as_ref().is_ok_and(|n| *n > 0)) {
            // A mount that waits for its disk may still succeed.
            let why = "what an agent started did not end";
            wrong = self.insist(now, kill, why).or(wrong);
        }
        match (wrong, left) {
            (Some(why), _) => Err(why),
            (None, Ok(n)) => Ok(n + usize::from(some)),
            (None, Err(e)) => Err(e.to_string()),
        }
    }

    /// Resets the host if its time is over; says what came of it.
    fn insist(&mut self, now: Time, kill: Duration, why: &str) -> Option<String> {
        if now < self.due(now, kill) || now < self.insisted + INSIST {
            return None;
        }
        self.insisted = now;
        let why = format!("{why} within {kill:?} of the lease end");
        Some(match self.reset.reset(&why) {
            Ok(()) => format!("{why}; this host is reset"),
            Err(e) => format!("{why}, and this host cannot be reset: {e}"),
        })
    }

    /// When a resource that is not stopped resets the host. The last fifth of K is for the reset
    /// itself; a guardian that came late has half of K to try.
    fn due(&self, now: Time, kill: Duration) -> Time {
        let (began, over) = self.began.unwrap_or((now, now));
        (over + kill * 4 / 5).max(began + kill / 2)
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
    use std::sync::Mutex;

    struct Watched(Arc<Mutex<Vec<String>>>);

    impl Reset for Watched {
        fn reset(&mut self, why: &str) -> io::Result<()> {
            self.0.lock().expect("not poisoned").push(why.into());
            Err(io::Error::other("only watched"))
        }
    }

    /// A resource whose stop never succeeds, and the resets it leads to.
    fn unstoppable(
        dir: &Path,
        kill_ms: Option<u64>,
    ) -> (Resources, Arc<Mutex<Vec<String>>>, PathBuf) {
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
        let resets = Arc::default();
        let watched = Box::new(Watched(Arc::clone(&resets)));
        let resources = Resources::new(run, BootId(3), Path::new("/bin/false"), watched);
        (resources, resets, path)
    }

    #[test]
    fn the_host_is_reset_when_the_time_is_over_and_not_before() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut resources, resets, path) = unstoppable(dir.path(), Some(3_600_000));
        assert!(resources.left(false));
        let now = Clock.now();
        resources.begin(now, now);
        let _ = resources.end(false);
        assert!(resets.lock().expect("free").is_empty(), "there is time");
        // A guardian that came late tries before.
        resources.begin(now, Time(0));
        let _ = resources.end(false);
        assert!(resets.lock().expect("free").is_empty(), "it has not tried");
        resources.began = Some((Time(0), Time(0)));
        resources.active[0].kill = Some(Duration::ZERO);
        let due = resources.due(now, Duration::from_secs(5));
        assert_eq!(due, Time(0) + Duration::from_secs(4));
        // As if an hour had gone.
        let mut record = records::read::<Registration>(&path)
            .expect("readable")
            .expect("there");
        record.kill_ms = Some(1);
        records::write(&path, &record).expect("written");
        let told = resources.end(false).expect_err("an operator should know");
        assert!(told.contains("cannot be reset"), "{told}");
        let reset = resets.lock().expect("free").clone();
        assert_eq!(reset.len(), 1);
        assert!(reset[0].starts_with("fs was not seen stopped"), "{reset:?}");
        let _ = resources.end(false);
        assert_eq!(resets.lock().expect("free").len(), 1, "not in every round");
        // Its directory may go, it does not.
        std::fs::remove_dir_all(dir.path()).expect("removed");
        resources.insisted = Time::ZERO;
        assert!(resources.left(true));
        let _ = resources.end(true);
        assert_eq!(resets.lock().expect("free").len(), 2);
    }

    #[test]
    fn a_host_that_is_not_set_up_for_it_is_never_reset() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut resources, resets, path) = unstoppable(dir.path(), None);
        resources.begin(Time(0), Time(0));
        for _ in 0..3 {
            let _ = resources.end(false);
        }
        assert!(resets.lock().expect("free").is_empty());
        std::fs::remove_file(registry::active(&path)).expect("seen stopped");
        assert!(!resources.left(false));
        assert_eq!(resources.end(false), Ok(0));
    }
}
