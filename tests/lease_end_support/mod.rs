//! A host of many guests and processes, in a pid namespace of its own, whose lease ends.
//!
//! Inside are a guardian that no unit started, which can reset nothing, and processes that read
//! from a pipe nobody writes to. Everything ends with the namespace's first process.
#![allow(dead_code, unreachable_pub, missing_docs)]

use crate::guardian_support::{E, Lab, PATIENCE, eventually, gate, soon, spec};
use quorate::clock::Clock;
use quorate::guardian::{Limits, cgroups};
use quorate::hypervisor::Driver;
use quorate_recovery::guest::GuestId;
use rustix::process::{geteuid, getpid};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Tells a copy of this program that it is to play the host, and which.
const PLAY: &str = "QUORATE_TEST_HOST";
/// First words of the line that says what came of it.
const LINE: &str = "lease end:";

/// Whose the processes are that are not guests' first ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The guests', in a control group each.
    Grouped,
    /// The guests', without control groups.
    Marked,
    /// Nobody's that quorate knows.
    Strangers,
}

/// A host.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    pub guests: u64,
    /// On the whole host, but for a dozen.
    pub processes: u64,
    pub whose: Whose,
    /// K.
    pub kill: Duration,
    /// Between two looks at the lease.
    pub check: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// From the lease end until the guardian has seen that nothing is left, in milliseconds.
    pub took_ms: u64,
    /// Passes over all processes meanwhile, by the reads of the thread that makes them.
    pub reads: u64,
    /// Processes of the host before.
    pub processes: u64,
    /// Of them, those that are left.
    pub left: u64,
}

impl Host {
    fn written(&self) -> String {
        let whose = match self.whose {
            Whose::Grouped => "grouped",
            Whose::Marked => "marked",
            Whose::Strangers => "strangers",
        };
        let (kill, check) = (self.kill.as_millis(), self.check.as_millis());
        let Host {
            guests, processes, ..
        } = self;
        format!("{guests} {processes} {whose} {kill} {check}")
    }

    fn read(text: &str) -> Option<Host> {
        let words: Vec<&str> = text.split(' ').collect();
        let number = |at: usize| words.get(at)?.parse::<u64>().ok();
        Some(Host {
            guests: number(0)?,
            processes: number(1)?,
            whose: match *words.get(2)? {
                "grouped" => Whose::Grouped,
                "marked" => Whose::Marked,
                _ => Whose::Strangers,
            },
            kill: Duration::from_millis(number(3)?),
            check: Duration::from_millis(number(4)?),
        })
    }

    /// The host that this process is to play, if it is.
    pub fn played() -> Option<Host> {
        Host::read(&std::env::var(PLAY).ok()?)
    }

    /// Runs this program again with `args`, in namespaces of its own, and waits until it has played
    /// the host. `None`: its guardian reset it, which ends the namespace.
    ///
    /// # Errors
    /// Why it cannot be played here.
    pub fn play(&self, args: &[&str]) -> Result<Option<Outcome>, String> {
        if !geteuid().is_root() {
            return Err("needs root".into());
        }
        let groups = match self.whose {
            Whose::Grouped => "",
            // No group of version 2 is to be had: the marks lead to the processes.
            Whose::Marked | Whose::Strangers => "umount -a -t cgroup2 && ",
        };
        // A shell as the first process takes note of whoever ends.
        let script = format!("mount -t tmpfs none /dev/shm && {groups}\"$0\" \"$@\"; exit $?");
        let done = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", &script])
            .arg(std::env::current_exe().map_err(|e| e.to_string())?)
            .args(args)
            .env(PLAY, self.written())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|e| format!("needs unshare: {e}"))?;
        // What `reboot(2)` does to the first process of a namespace.
        if done.status.signal() == Some(1) {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&done.stdout);
        let line = text.lines().find_map(|l| l.split_once(LINE));
        let Some((_, line)) = line else {
            if let Some((_, why)) = text.split_once("not here: ") {
                return Err(why.lines().next().unwrap_or_default().into());
            }
            panic!("the host did not come to its end ({}): {text}", done.status);
        };
        let n: Vec<u64> = line.split_whitespace().flat_map(str::parse).collect();
        let [took_ms, reads, processes, left] = n[..] else {
            panic!("found {line:?}");
        };
        Ok(Some(Outcome {
            took_ms,
            reads,
            processes,
            left,
        }))
    }

    /// Plays the host, and says what came of it.
    pub fn be(&self) {
        let lab = Lab::new();
        if self.whose == Whose::Grouped
            && let Err(why) = cgroups::available(&lab.run)
        {
            println!("not here: {why}");
            return;
        }
        let pipe = lab.file("pipe");
        let made = Command::new("mkfifo").arg(&pipe).status();
        assert!(made.is_ok_and(|s| s.success()), "no pipe");
        let both = File::options().read(true).write(true).open(&pipe);
        let _open = both.expect("held open");
        let limits = Limits {
            boot: lab.boot,
            daemon: getpid().as_raw_nonzero().get(),
            kill_ms: u64::try_from(self.kill.as_millis()).expect("short"),
            watchdog_ms: 2000,
            drain_ms: 1000,
        };
        limits.write(&lab.run).expect("told");
        let guardian = lab.guardian_with(self.check);
        let pid = guardian.ensure().expect("a guardian").state().pid;
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut lease = lab.lease();
                while !done.load(Ordering::SeqCst) {
                    lease.extend(soon(3000)).expect("extended");
                    thread::sleep(Duration::from_millis(100));
                }
            });
            self.fill(&lab, &pipe);
            done.store(true, Ordering::SeqCst);
        });
        let (processes, before) = (count(), reads(pid));
        eventually("the ending begins", || lab.state().endings == 1);
        eventually("it is over", || lab.state().last_end_ms.is_some());
        let took = lab.state().last_end_ms.expect("over");
        let (reads, left) = (reads(pid) - before, lab.marked().len());
        println!("{LINE} {took} {reads} {processes} {left}");
    }

    // Nobody waits for what goes with the namespace.
    #[allow(clippy::zombie_processes)]
    fn fill(&self, lab: &Lab, pipe: &Path) {
        let driver = lab.driver();
        let (guests, others) = match self.whose {
            Whose::Strangers => (1, self.processes.saturating_sub(self.guests)),
            _ => (self.processes / self.guests.max(1), 0),
        };
        let script = forks(guests, pipe);
        thread::scope(|scope| {
            for half in 0..2 {
                let (driver, script) = (&driver, &script);
                scope.spawn(move || {
                    for guest in (0..self.guests).filter(|g| g % 2 == half).map(GuestId) {
                        let made = driver.create(guest, E, &spec(script), &gate());
                        made.expect("created");
                        driver.resume(guest, E, &gate()).expect("runs");
                    }
                });
            }
        });
        for _ in 0..others.div_ceil(100) {
            let mut shell = Command::new("sh");
            shell.args(["-c", &forks(100.min(others), pipe)]);
            shell.stdin(Stdio::null()).spawn().expect("started");
        }
        let give_up = Clock.now() + PATIENCE * 4;
        while count() < self.processes {
            assert!(Clock.now() < give_up, "{} processes only", count());
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A shell script of `n` processes that wait.
fn forks(n: u64, pipe: &Path) -> String {
    let pipe = pipe.display();
    format!("i=1; while [ $i -lt {n} ]; do (read x) <{pipe} & i=$((i+1)); done; read x <{pipe}")
}

fn count() -> u64 {
    let all = fs::read_dir("/proc").expect("/proc");
    let all = all
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok());
    all.filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
        .fold(0, |n, _| n + 1)
}

/// Calls that read, of the guardian's thread that looks through all processes.
fn reads(pid: i32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    for task in tasks.flatten().map(|t| t.path()) {
        let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
        if name.trim() == "scan" {
            let io = fs::read_to_string(task.join("io")).expect("counted by the kernel");
            let reads = io.lines().find_map(|l| l.strip_prefix("syscr: "));
            return reads.and_then(|n| n.parse().ok()).expect("a number");
        }
    }
    panic!("no thread of its own looks through the processes");
}
