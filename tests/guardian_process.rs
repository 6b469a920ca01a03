//! The guardian, with real processes.

mod guardian_support;

use guardian_support::*;
use quorate::clock::Clock;
use quorate::guardian::Lease;
use quorate::guardian::processes::{Process, signal};
use quorate::guardian::records::{self, GUARDIAN_VERSION, GuardianState, GuestRecord, PulseRecord};
use quorate::guardian::slots;
use quorate::hypervisor::Driver;
use quorate_membership::{BootId, Incarnation, Time};
use quorate_recovery::contract::Fact;
use quorate_recovery::guest::GuestId;
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc;

fn ended(lab: &Lab) {
    eventually("every process of every guest is gone", || {
        lab.marked().is_empty()
    });
}

fn guardian_process(lab: &Lab) -> Process {
    Process::look(lab.state().pid).expect("in office")
}

#[test]
fn plays_a_daemon_with_a_short_lease() {
    let Some(run) = playing() else {
        return;
    };
    let boot = quorate::clock::boot_id(quorate::clock::BOOT_ID_FILE.as_ref()).expect("Linux");
    let life = Incarnation {
        counter: 1,
        random: 1,
    };
    let mut lease = Lease::new(run.clone(), boot, life);
    let driver = driver(&run, boot);
    lease.extend(soon(5000)).expect("extended");
    let tick = run.path().with_file_name("t");
    let script = format!("while :; do echo x >> {}; sleep 0.02; done", tick.display());
    driver
        .create(G, E, &spec(&script), &gate())
        .expect("created");
    driver.resume(G, E, &gate()).expect("runs");
    loop {
        lease.extend(soon(2000)).expect("extended");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn guests_of_a_stopped_daemon_end_with_the_lease() {
    let lab = Lab::new();
    let _guardian = lab.guard();
    let daemon = play("plays_a_daemon_with_a_short_lease", lab.run.path());
    lab.ticks("t");
    let pid = i32::try_from(daemon.0.id()).expect("a pid");
    let daemon_process = Process::look(pid).expect("there");
    signal(&daemon_process, Signal::STOP).expect("sent");
    eventually("it is stopped", || {
        Process::look(pid).is_some_and(|p| p.stopped())
    });
    let end = lab.lease().end().expect("a lease");
    ended(&lab);
    assert!(Clock.now() >= end, "not before the lease is over");
    eventually("the ending is counted", || lab.state().endings == 1);
    assert!(
        Process::look(pid).is_some_and(|p| p.stopped()),
        "only guests are ended"
    );
}

#[test]
fn without_a_readable_lease_of_this_boot_nothing_runs() {
    for case in ["missing", "garbage", "empty", "foreign"] {
        let lab = Lab::new();
        lab.long_lease();
        lab.start(&lab.driver(), G, E);
        let _guardian = lab.guard();
        match case {
            "missing" => fs::remove_file(lab.run.lease()).expect("removed"),
            "garbage" => {
                fs::write(lab.run.lease(), "quorate lease 1 nonsense\n{}\n").expect("written")
            }
            "empty" => fs::write(lab.run.lease(), "").expect("written"),
            _ => {
                let life = Incarnation::default();
                let mut other = Lease::new(lab.run.clone(), BootId(lab.boot.0 ^ 1), life);
                other.extend(soon(3_600_000)).expect("written");
            }
        }
        eventually(case, || lab.marked().is_empty());
    }
}

#[test]
fn a_lease_extended_in_time_is_not_felt() {
    let lab = Lab::new();
    let mut lease = lab.lease();
    let first_end = soon(10_000);
    lease.extend(first_end).expect("extended");
    let _guardian = lab.guard();
    lab.start(&lab.driver(), G, E);
    let before = lab.record(G, E);
    // Steps much shorter than the lease, until the first end has passed.
    while Clock.now() < first_end + Duration::from_millis(300) {
        lease.extend(soon(10_000)).expect("extended");
        std::thread::sleep(Duration::from_millis(200));
    }
    lab.ticks("tick-7");
    assert_eq!((lab.record(G, E), lab.state().endings), (before, 0));
}

#[test]
fn a_second_guardian_refuses() {
    let lab = Lab::new();
    let first = lab.guard();
    let again = lab.guard();
    assert_eq!(
        first.state().pid,
        again.state().pid,
        "found, not started again"
    );
    let second = Command::new(PROGRAM)
        .args(["guardian", "--detached", "--run-dir"])
        .arg(lab.run.path())
        .output()
        .expect("ran");
    assert_eq!(second.status.code(), Some(75));
    assert!(String::from_utf8_lossy(&second.stderr).contains("in office"));
    assert!(first.is_alive());
    assert_eq!(lab.state().pid, first.state().pid);
}

#[test]
fn bad_arguments_are_refused_with_exit_code_2() {
    for args in [&["guardian"][..], &["guardian", "--what"]] {
        let done = Command::new(PROGRAM).args(args).output().expect("ran");
        assert_eq!(done.status.code(), Some(2));
    }
}

#[test]
fn what_registers_after_the_lease_end_is_ended() {
    let lab = Lab::new();
    lab.lease()
        .extend(soon(0))
        .expect("a lease that is over at once");
    let _guardian = lab.guard();
    // Not by way of the launcher, which would refuse: a process nothing but its file speaks for.
    let file = lab.file("t");
    let late = Command::new("setsid")
        .args(["/bin/sh", "-c"])
        .arg(format!(
            "while :; do echo x >> {}; sleep 0.02; done",
            file.display()
        ))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let late = Helper(late.expect("started"));
    lab.ticks("t");
    let process = Process::look(i32::try_from(late.0.id()).expect("a pid")).expect("runs");
    assert_eq!(process.session, process.pid);
    let record = GuestRecord {
        guest: G,
        epoch: E,
        boot: lab.boot,
        draw: 1,
        pgid: process.pid,
        start: process.start,
    };
    records::write(&lab.run.guest(G, E), &record).expect("registered");
    eventually("it is ended", || gone(&process));
}

#[test]
fn starts_under_way_are_called_off_after_the_lease_end() {
    let lab = Lab::new();
    let _guardian = lab.guard();
    let intent = lab.run.intent(G, E, 1);
    fs::write(&intent, "not even readable").expect("written");
    eventually("it is called off", || !intent.exists());
    // A whole start under its eyes comes to nothing, whichever of its steps it meets.
    let driver = lab.driver();
    for n in 0..10 {
        let guest = GuestId(100 + n);
        if driver.create(guest, E, &lab.ticker("t"), &gate()).is_ok() {
            let _ = driver.resume(guest, E, &gate());
        }
    }
    ended(&lab);
    assert!(!lab.file("t").exists(), "no guest has run");
}

#[test]
fn guests_without_a_readable_registration_end_with_the_lease() {
    for case in ["garbage", "removed"] {
        let lab = Lab::new();
        lab.long_lease();
        lab.start(&lab.driver(), G, E);
        let registration = lab.run.guest(G, E);
        match case {
            "garbage" => fs::write(&registration, "garbage").expect("written"),
            _ => fs::remove_file(&registration).expect("removed"),
        }
        let _guardian = lab.guard();
        fs::remove_file(lab.run.lease()).expect("removed");
        eventually(case, || lab.marked().is_empty());
        if case == "garbage" {
            eventually("people are told", || {
                lab.state()
                    .alarm
                    .is_some_and(|a| a.contains("0000000000000007-0001000000000009"))
            });
        }
    }
}

#[test]
fn a_run_directory_that_vanishes_ends_guests_and_then_the_guardian() {
    let lab = Lab::new();
    lab.long_lease();
    lab.start(&lab.driver(), G, E);
    let _guardian = lab.guard();
    let process = guardian_process(&lab);
    fs::remove_dir_all(lab.run.path()).expect("removed");
    ended(&lab);
    eventually("the guardian leaves", || gone(&process));
}

#[test]
fn a_request_to_stop_is_obeyed_only_without_guests() {
    let lab = Lab::new();
    lab.long_lease();
    let driver = lab.driver();
    lab.start(&driver, G, E);
    let guardian = lab.guard();
    let process = guardian_process(&lab);
    for asked in [Signal::TERM, Signal::INT, Signal::HUP] {
        signal(&process, asked).expect("sent");
    }
    fs::remove_file(lab.run.lease()).expect("removed");
    ended(&lab);
    eventually("it leaves when there is nothing to guard", || {
        gone(&process)
    });
    assert!(!guardian.is_alive());
}

/// Keeps a guardian in office for as long as the receiver lives.
fn watch(lab: &Lab) -> (JoinHandle<()>, mpsc::Receiver<Fact>) {
    let (facts, told) = mpsc::channel(8);
    let guardian = lab.guardian();
    let watch = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().expect("a runtime");
        runtime.block_on(guardian.watch(facts));
    });
    (watch, told)
}

#[test]
fn a_guardian_that_ends_is_replaced_and_one_that_was_stopped_goes_on() {
    let lab = Lab::new();
    lab.long_lease();
    let (watch, told) = watch(&lab);
    let pulse = || slots::read::<PulseRecord>(&lab.run.pulse()).ok().flatten();
    let rises = |what: &str| {
        let before = pulse().map_or(0, |p| p.count);
        eventually(what, || pulse().is_some_and(|p| p.count > before + 1));
    };
    rises("a guardian is at work");
    let first = guardian_process(&lab);
    signal(&first, Signal::KILL).expect("sent");
    eventually("another takes office", || lab.state().pid != first.pid);
    rises("that one is at work");
    let second = guardian_process(&lab);
    let name = fs::read_to_string(format!("/proc/{}/comm", second.pid)).expect("a name");
    assert_eq!(name, "quorate-guardia\n", "no name of the daemon's");
    signal(&second, Signal::STOP).expect("sent");
    rises("it is told to go on");
    assert_eq!(guardian_process(&lab).pid, second.pid);
    let starts = pulse().expect("a counter").starts;
    assert_eq!(starts[0], Time::ZERO, "two have begun, and were counted");
    assert!(Time::ZERO < starts[1] && starts[1] < starts[2]);
    drop(told);
    watch.join().expect("it goes with whoever listens");
}

#[test]
fn a_guardian_of_another_version_hands_over_when_nothing_needs_it() {
    let lab = Lab::new();
    let handle = lab.guard();
    let older = GuardianState {
        version: 0,
        ..handle.state().clone()
    };
    // It writes its own state once; what a build before versions wrote had none.
    records::write(&lab.run.guardian_state(), &older).expect("written");
    let (watch, told) = watch(&lab);
    eventually("one of this version is in office", || {
        let state = lab.state();
        state.pid != older.pid && state.version == GUARDIAN_VERSION
    });
    drop(told);
    watch.join().expect("it goes with whoever listens");
}

#[test]
fn a_full_file_system_costs_no_renewal() {
    let lab = Lab::new();
    let mut lease = lab.lease();
    lease.extend(Time(1_000)).expect("written");
    let inode = fs::metadata(lab.run.lease()).expect("there").ino();
    for n in 2..50 {
        lease.extend(Time(n * 1_000)).expect("written");
    }
    let page = fs::metadata(lab.run.lease()).expect("there");
    assert_eq!((page.ino(), page.len()), (inode, 2048), "in place");
    assert!(page.blocks() * 512 >= 2048, "no hole");
    assert_eq!(lease.end(), Ok(Time(49_000)));
}
