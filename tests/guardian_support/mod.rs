//! A run directory of its own for each test, whose processes all end with the test.
#![allow(dead_code, unreachable_pub, missing_docs)]

use quorate::clock::{self, Clock};
use quorate::guardian::processes::{Process, Scan, Wanted, signal};
use quorate::guardian::records::{self, Entry, GuardianState, GuestRecord, RunDir};
use quorate::guardian::{Guardian, GuardianHandle, Lease};
use quorate::hypervisor::embedded::{Embedded, Settings};
use quorate::hypervisor::{Driver, Gate};
use quorate_membership::{BootId, Incarnation, Time, Token};
use quorate_recovery::guest::{Definition, GuestId, GuestSpec};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_quorate");
/// No test waits longer for anything; only a broken one waits that long.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Lab {
    dir: tempfile::TempDir,
    pub run: RunDir,
    pub boot: BootId,
}

impl Lab {
    pub fn new() -> Lab {
        let shm = Path::new("/dev/shm");
        let dir = tempfile::tempdir_in(shm).or_else(|_| tempfile::tempdir());
        let dir = dir.expect("a temporary directory");
        let run = RunDir::create(&dir.path().join("run")).expect("a run directory");
        Lab {
            run,
            dir,
            boot: clock::boot_id(Path::new(clock::BOOT_ID_FILE)).expect("Linux"),
        }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn driver(&self) -> Embedded {
        driver(&self.run, self.boot)
    }

    pub fn guardian(&self) -> Guardian {
        self.guardian_with(Duration::from_millis(20))
    }

    /// A guardian that looks at the lease every `check`.
    pub fn guardian_with(&self, check: Duration) -> Guardian {
        Guardian::new(
            PROGRAM.into(),
            self.run.clone(),
            clock::BOOT_ID_FILE.into(),
            check,
        )
        .expect("a boot id")
    }

    pub fn guard(&self) -> GuardianHandle {
        self.guardian().ensure().expect("a guardian")
    }

    pub fn lease(&self) -> Lease {
        let life = Incarnation {
            counter: 1,
            random: 1,
        };
        Lease::new(self.run.clone(), self.boot, life)
    }

    /// A lease that outlasts any test.
    pub fn long_lease(&self) {
        let end = Clock.now() + Duration::from_secs(3600);
        self.lease().extend(end).expect("a lease");
    }

    /// A guest that appends to a file for ever.
    pub fn ticker(&self, file: &str) -> GuestSpec {
        let path = self.file(file);
        spec(&format!(
            "while :; do echo x >> {}; sleep 0.02; done",
            path.display()
        ))
    }

    /// Creates a ticking guest and lets it run.
    pub fn start(&self, driver: &Embedded, guest: GuestId, epoch: Token) {
        let name = format!("tick-{}", guest.0);
        driver
            .create(guest, epoch, &self.ticker(&name), &gate())
            .expect("created");
        driver.resume(guest, epoch, &gate()).expect("runs");
        self.ticks(&name);
    }

    /// Waits until the file grows once more.
    pub fn ticks(&self, file: &str) {
        let before = size(&self.file(file));
        eventually("the guest writes", || size(&self.file(file)) > before);
    }

    pub fn record(&self, guest: GuestId, epoch: Token) -> Option<GuestRecord> {
        records::read(&self.run.guest(guest, epoch)).expect("readable")
    }

    /// Processes that carry the marks of this directory and are not gone.
    pub fn marked(&self) -> Vec<Process> {
        let scan = Scan::take(Some(self.run.path())).expect("/proc");
        let marked = scan.marked.keys().filter_map(|pid| scan.get(*pid));
        marked.filter(|p| !p.gone()).copied().collect()
    }

    pub fn state(&self) -> GuardianState {
        let state = records::read(&self.run.guardian_state()).expect("readable");
        state.expect("a guardian was in office")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let give_up = Instant::now() + PATIENCE;
        if let Ok(Some(state)) = records::read::<GuardianState>(&self.run.guardian_state())
            && let Some(process) = Process::look(state.pid).filter(|p| p.start == state.start)
        {
            let _ = signal(&process, Signal::KILL);
        }
        let mut records = Vec::new();
        for (path, entry) in self.run.entries().unwrap_or_default() {
            if let (Entry::Guest(..), Ok(Some(record))) =
                (entry, records::read::<GuestRecord>(&path))
                && record.boot == self.boot
            {
                records.push(record);
            }
        }
        let all = Wanted {
            dir: self.run.path(),
            records: &records,
            marked: &|_| true,
        };
        while !matches!(all.end(), Ok(0)) && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A process of a test that ends with it.
pub struct Helper(pub Child);

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs one test of this test program again, in a process of its own that plays the daemon.
pub fn play(test: &str, run: &Path) -> Helper {
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env("QUORATE_TEST_PLAY", run)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    Helper(child.expect("started"))
}

/// The run directory, in a process that plays the daemon.
pub fn playing() -> Option<RunDir> {
    let dir = std::env::var_os("QUORATE_TEST_PLAY")?;
    Some(RunDir::open(Path::new(&dir)).expect("a run directory"))
}

pub fn driver(run: &RunDir, boot: BootId) -> Embedded {
    Embedded::new(Settings {
        program: PROGRAM.into(),
        run: run.clone(),
        boot,
        host: "here".into(),
        logs: None,
    })
    .expect("a driver")
}

pub fn gate() -> Gate {
    Gate::new(None, Clock.now() + PATIENCE)
}

pub fn spec(script: &str) -> GuestSpec {
    GuestSpec {
        name: "guest".into(),
        definition: Definition::Command {
            argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
            env: Default::default(),
            images: Vec::new(),
        },
        needs: Default::default(),
        priority: 0,
        policy: Default::default(),
        probe: None,
    }
}

pub fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The process whose id a script wrote to `file`.
pub fn process_in(file: &Path) -> Process {
    let mut found = None;
    eventually("a process id", || {
        let text = fs::read_to_string(file).unwrap_or_default();
        found = text.trim().parse().ok().and_then(Process::look);
        found.is_some()
    });
    found.expect("just seen")
}

pub fn gone(process: &Process) -> bool {
    Process::look(process.pid).is_none_or(|p| p.start != process.start || p.gone())
}

pub const G: GuestId = GuestId(7);
pub const E: Token = Token(0x0001_0000_0000_0009);

pub fn soon(ms: u64) -> Time {
    Clock.now() + Duration::from_millis(ms)
}
