//! How this host itself stands: load, memory, room on its disks, and whoever says that something
//! of it does not answer. Facts only; the core judges them.

use crate::guardian::records::{self, GUARDIAN_VERSION, GuardianState, RunDir};
use quorate_recovery::contract::Fact;
use quorate_recovery::observation::HostHealth;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);
/// How long a disk may take to say how much room it has.
const DISK: Duration = Duration::from_secs(2);
/// Less room than this where daemon and guardian meet is a fault: leases are written there.
const RUN_FREE_MIB: u64 = 4;

/// Somebody who knows whether a part of this host answers, and says so without waiting for it.
pub(super) struct Ask {
    /// The part's name, as `libvirt`.
    pub(super) source: String,
    /// What is wrong with it, in words.
    pub(super) ask: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// What the guardian says of itself that an operator should know.
pub(super) fn guardian(run: &RunDir) -> Ask {
    let path = run.guardian_state();
    let ask = move || {
        let state = records::read::<GuardianState>(&path)?.ok_or("nobody is in office")?;
        let mut said: Vec<String> = state.alarm.into_iter().collect();
        if state.version != GUARDIAN_VERSION {
            said.push(format!(
                "it is of version {}, not {GUARDIAN_VERSION}, and hands over when no guest needs it",
                state.version
            ));
        }
        if !state.locked_in_memory {
            said.push("its memory can be paged out".into());
        }
        if !state.realtime {
            said.push("it runs at ordinary priority".into());
        }
        if said.is_empty() {
            Ok(())
        } else {
            Err(said.join("; "))
        }
    };
    Ask {
        source: "guardian".into(),
        ask: Box::new(ask),
    }
}

/// What is looked at.
pub(super) struct Settings {
    /// Where the store is.
    pub(super) state_dir: PathBuf,
    /// Where daemon, guardian and guests meet.
    pub(super) run_dir: PathBuf,
    /// Who else is asked.
    pub(super) asks: Vec<Ask>,
}

/// Looks now and every five seconds, for as long as anybody listens.
pub(super) async fn watch(settings: Settings, tell: mpsc::Sender<Fact>) {
    let mut looks = Looks::new(settings);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let health = looks.take().await;
        if tell.send(Fact::HostObserved(health)).await.is_err() {
            return;
        }
    }
}

/// What the last looks found.
struct Looks {
    state: Disk,
    run: Disk,
    /// With whether it was wrong at the last look.
    asks: Vec<(Ask, bool)>,
}

impl Looks {
    fn new(settings: Settings) -> Looks {
        let asks = settings.asks.into_iter();
        Looks {
            state: Disk::new("disk of state_dir", settings.state_dir),
            run: Disk::new("disk of run_dir", settings.run_dir),
            asks: asks.map(|ask| (ask, false)).collect(),
        }
    }

    async fn take(&mut self) -> HostHealth {
        let mut health = figures();
        for disk in [&mut self.state, &mut self.run] {
            if let Err(why) = disk.look().await {
                health.faults.push((disk.name.to_owned(), why));
            }
        }
        // Before the first answer nothing is known to be short.
        health.state_free_mib = self.state.free_mib.unwrap_or(u64::MAX);
        if let Some(left) = self.run.free_mib.filter(|left| *left < RUN_FREE_MIB) {
            let why = format!("{left} MiB are left where leases are written");
            health.faults.push(("run".to_owned(), why));
        }
        for (one, before) in &mut self.asks {
            let said = (one.ask)();
            // Once may be a restart of it; twice is a fault.
            let twice = std::mem::replace(before, said.is_err());
            if let (Err(why), true) = (said, twice) {
                health.faults.push((one.source.clone(), why));
            }
        }
        health
    }
}

/// A disk that may not answer.
struct Disk {
    name: &'static str,
    path: PathBuf,
    /// What it said last.
    free_mib: Option<u64>,
    /// A question that it has not answered; no second one is asked meanwhile.
    asked: Option<JoinHandle<io::Result<u64>>>,
}

impl Disk {
    fn new(name: &'static str, path: PathBuf) -> Disk {
        Disk {
            name,
            path,
            free_mib: None,
            asked: None,
        }
    }

    async fn look(&mut self) -> Result<(), String> {
        let path = self.path.clone();
        let asked = self
            .asked
            .get_or_insert_with(|| tokio::task::spawn_blocking(move || free_mib(&path)));
        let Ok(answer) = timeout(DISK, asked).await else {
            return Err(format!("{}: no answer", self.path.display()));
        };
        self.asked = None;
        let free = answer.map_err(io::Error::other).and_then(|free| free);
        let free = free.map_err(|e| format!("{}: {e}", self.path.display()))?;
        self.free_mib = Some(free);
        Ok(())
    }
}

fn free_mib(path: &Path) -> io::Result<u64> {
    let room = rustix::fs::statvfs(path)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize) >> 20)
}

/// What the kernel says of load and memory; what it does not say is 0.
fn figures() -> HostHealth {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    HostHealth {
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        load_milli: load_milli(&read("/proc/loadavg")).unwrap_or(0),
        memory_available_mib: memory_mib(&memory, "MemAvailable").unwrap_or(0),
        memory_mib: memory_mib(&memory, "MemTotal").unwrap_or(0),
        state_free_mib: 0,
        faults: Vec::new(),
    }
}

/// The first number of `/proc/loadavg`, as `1.25`, in thousandths.
fn load_milli(text: &str) -> Option<u64> {
    let (whole, part) = text.split_ascii_whitespace().next()?.split_once('.')?;
    let thousandths: u64 = format!("{part:0<3}").get(..3)?.parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    whole.checked_mul(1000)?.checked_add(thousandths)
}

/// A line of `/proc/meminfo`, as `MemTotal:   2048 kB`.
fn memory_mib(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(key, _)| *key == name)?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn the_kernels_figures_are_read() {
        assert_eq!(load_milli("1.25 0.90 1.00 2/345 678\n"), Some(1250));
        assert_eq!(load_milli("0.5 1"), Some(500));
        assert_eq!(load_milli("44.1239 1"), Some(44_123));
        for damaged in ["", "x.y", "1", "-1.00", "18446744073709551615.00"] {
            assert_eq!(load_milli(damaged), None, "{damaged}");
        }
        let text = "MemTotal:       24576000 kB\nMemFree:  1 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(memory_mib(text, "MemTotal"), Some(24_000));
        assert_eq!(memory_mib(text, "MemAvailable"), Some(2));
        assert_eq!(memory_mib(text, "Mem"), None);
        assert_eq!(memory_mib("MemTotal: many", "MemTotal"), None);
        let here = figures();
        assert!(here.cpus > 0 && here.memory_mib > here.memory_available_mib);
    }

    fn settings(dir: &Path, silent: &Arc<AtomicBool>) -> Settings {
        let silent = Arc::clone(silent);
        Settings {
            state_dir: dir.to_owned(),
            run_dir: dir.to_owned(),
            asks: vec![Ask {
                source: "libvirt".to_owned(),
                ask: Box::new(move || match silent.load(Ordering::SeqCst) {
                    true => Err("no answer for 7 s".to_owned()),
                    false => Ok(()),
                }),
            }],
        }
    }

    #[test]
    fn a_part_that_is_silent_twice_is_a_fault() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let dir = tempfile::tempdir().expect("a directory");
            let silent = Arc::new(AtomicBool::new(false));
            let mut looks = Looks::new(settings(dir.path(), &silent));
            let of = |health: HostHealth| {
                let mut faults = health.faults.into_iter();
                faults.find(|(source, _)| source == "libvirt")
            };
            let first = looks.take().await;
            assert!(first.state_free_mib > 0 && first.state_free_mib < u64::MAX);
            assert_eq!(of(first), None);
            silent.store(true, Ordering::SeqCst);
            assert_eq!(of(looks.take().await), None, "once");
            let fault = of(looks.take().await).expect("twice");
            assert_eq!(fault.1, "no answer for 7 s");
            silent.store(false, Ordering::SeqCst);
            assert_eq!(of(looks.take().await), None);
        });
    }

    #[test]
    fn a_disk_that_cannot_be_asked_is_a_fault_and_no_empty_disk() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut disk = Disk::new("disk", PathBuf::from("/nonexistent/place"));
            let why = disk.look().await.expect_err("not there");
            assert!(why.contains("/nonexistent/place"), "{why}");
            assert_eq!(disk.free_mib, None);
            disk.path = std::env::temp_dir();
            disk.look().await.expect("there");
            assert!(disk.free_mib.is_some());
        });
    }
}
