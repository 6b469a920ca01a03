//! Resources at lease end: the guardian stops them whatever became of the daemon.

mod guardian_support;
mod ocf_support;

use guardian_support::{E, G, eventually, gate, gone, play, playing, process_in, soon};
use ocf_support::*;
use quorate::clock::Clock;
use quorate::guardian::Lease;
use quorate::guardian::processes::{Process, signal};
use quorate::hypervisor::{Driver, Gate};
use quorate_membership::Incarnation;
use rustix::process::Signal;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PLAY: &str = "plays_a_daemon_with_a_resource";

#[test]
fn plays_a_daemon_with_a_resource() {
    let Some(run) = playing() else {
        return;
    };
    let boot = quorate::clock::boot_id(quorate::clock::BOOT_ID_FILE.as_ref()).expect("Linux");
    let life = Incarnation {
        counter: 1,
        random: 1,
    };
    let mut lease = Lease::new(run.clone(), boot, life);
    lease.extend(soon(5000)).expect("extended");
    let driver = driver(&run, boot, None);
    let dir = run.path().with_file_name("fs").display().to_string();
    let spec = spec("fs", "ocf:test:Fake", [("dir".to_owned(), dir)].into());
    driver.create(G, E, &spec, &gate()).expect("created");
    let _ = driver.resume(G, E, &Gate::new(None, soon(1000)));
    loop {
        lease.extend(soon(1000)).expect("extended");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn ended(bench: &Bench) {
    eventually("it is seen stopped", || {
        bench
            .known()
            .iter()
            .all(|k| !quorate::ocf::registry::is_active(&k.path))
    });
    assert!(!bench.runs("fs"));
    assert!(Clock.now() >= bench.lab.lease().end().expect("a lease"));
}

#[test]
fn a_resource_of_a_daemon_that_is_gone_is_stopped_at_lease_end() {
    let bench = Bench::new();
    bench.spec("fs");
    let _guardian = bench.lab.guard();
    let pid = bench.file("fs", "pid");
    let service = format!(
        "setsid sh -c 'echo $$ > {}; while :; do sleep 1; done' &",
        pid.display()
    );
    bench.on("fs", "start", &service);
    // It does not stop at once, and what it says is not believed.
    bench.on(
        "fs",
        "stop",
        "[ -e $d/asked ] || { touch $d/asked; exit 0; }",
    );
    let mut daemon = play(PLAY, bench.lab.run.path());
    let service = process_in(&pid);
    eventually("it runs", || bench.runs("fs"));
    daemon.0.kill().expect("killed");
    daemon.0.wait().expect("over");
    assert!(bench.runs("fs"), "a daemon takes nothing with it");
    ended(&bench);
    assert!(gone(&service));
    assert!(bench.log("fs").iter().filter(|l| *l == "stop").count() >= 2);
    eventually("the ending is over", || bench.lab.state().endings == 1);
    // The daemon that comes back finds it stopped.
    let next = bench.driver();
    assert!(next.list().expect("seen").iter().all(|s| s.paused));
    next.end(G, E, &gate()).expect("ended");
    assert!(bench.known().is_empty());
}

#[test]
fn a_start_of_a_stopped_daemon_is_ended_at_lease_end() {
    let bench = Bench::new();
    bench.spec("fs");
    let _guardian = bench.lab.guard();
    let pid = bench.file("fs", "pid");
    let script = format!(
        "touch $d/state; echo $$ > {}; while :; do sleep 1; done",
        pid.display()
    );
    bench.on("fs", "start", &script);
    let daemon = play(PLAY, bench.lab.run.path());
    let start = process_in(&pid);
    let daemon = Process::look(i32::try_from(daemon.0.id()).expect("a pid")).expect("there");
    signal(&daemon, Signal::STOP).expect("sent");
    ended(&bench);
    assert!(gone(&start));
    assert!(
        Process::look(daemon.pid).is_some_and(|p| p.stopped()),
        "only what it started"
    );
    signal(&daemon, Signal::KILL).expect("sent");
}

#[test]
fn a_resource_that_cannot_be_stopped_is_told_and_tried_for_ever() {
    let bench = Bench::new();
    bench.lab.long_lease();
    let (driver, spec) = (bench.driver(), bench.spec("fs"));
    driver.create(G, E, &spec, &gate()).expect("created");
    driver.resume(G, E, &gate()).expect("runs");
    bench.on("fs", "stop", "exit 1");
    fs::remove_file(bench.lab.run.lease()).expect("removed");
    let _guardian = bench.lab.guard();
    eventually("people are told", || {
        let alarm = bench.lab.state().alarm;
        alarm.is_some_and(|a| a.contains("fs is not stopped: stop: exit 1"))
    });
    assert!(bench.runs("fs"));
    bench.usual("fs", "stop");
    eventually("it is stopped", || !bench.runs("fs"));
}

/// Only ever in a process namespace of its own, where the reset ends nothing but that.
#[test]
fn a_host_on_which_a_resource_does_not_stop_is_reset() {
    const TEST: &str = "a_host_on_which_a_resource_does_not_stop_is_reset";
    if std::env::var_os("QUORATE_TEST_INSIDE").is_some() {
        assert_eq!(std::process::id(), 1, "a process namespace of its own");
        let shm = ["-t", "tmpfs", "shm", "/dev/shm"];
        let mounted = Command::new("mount").args(shm).status().expect("mount");
        assert!(mounted.success());
        let bench = Bench::new();
        let (driver, spec) = (
            bench.driver_with(Some(Duration::from_secs(1))),
            bench.spec("fs"),
        );
        bench.lab.long_lease();
        driver.create(G, E, &spec, &gate()).expect("created");
        driver.resume(G, E, &gate()).expect("runs");
        bench.on("fs", "stop", "while :; do sleep 1; done");
        fs::remove_file(bench.lab.run.lease()).expect("removed");
        let _guardian = bench.lab.guard();
        eventually("this process ends here", || false);
    }
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/unshare").exists() {
        return skipped(TEST, "needs root and unshare");
    }
    let done = Command::new("unshare")
        .args([
            "--pid",
            "--mount",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "--",
        ])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", TEST, "--nocapture"])
        .env("QUORATE_TEST_INSIDE", "1")
        .output()
        .expect("unshare");
    // The kernel ends the first process of the namespace this way for a restart.
    let hung_up = done.status.signal() == Some(1) || done.status.code() == Some(129);
    assert!(
        hung_up,
        "{:?}\n{}",
        done.status,
        String::from_utf8_lossy(&done.stderr)
    );
}
