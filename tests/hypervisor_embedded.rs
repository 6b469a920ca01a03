//! The built-in hypervisor, with real processes.

mod guardian_support;

use guardian_support::*;
use quorate::clock::Clock;
use quorate::guardian::processes::{Process, leader, signal};
use quorate::guardian::records::{self, IntentRecord};
use quorate::hypervisor::{Driver, Gate, Gone, Notice};
use quorate_membership::{Time, Token};
use quorate_recovery::contract::GuestSeen;
use quorate_recovery::guest::GuestId;
use rustix::process::Signal;
use std::fs;
use std::process::Command;
use tokio::sync::mpsc;

fn seen(paused: bool) -> Vec<GuestSeen> {
    vec![GuestSeen {
        guest: G,
        epoch: E,
        paused,
    }]
}

#[test]
fn a_created_guest_executes_nothing_until_it_is_told_to() {
    let lab = Lab::new();
    lab.long_lease();
    let driver = lab.driver();
    driver
        .create(G, E, &lab.ticker("t"), &gate())
        .expect("created");
    assert_eq!(driver.list(), Ok(seen(true)));
    let record = lab.record(G, E).expect("registered");
    assert_eq!(record.boot, lab.boot);

    // Somebody's signal to continue is no permission.
    let first = leader(&record).expect("there");
    for _ in 0..3 {
        signal(&first, Signal::CONT).expect("sent");
        eventually("it holds itself again", || {
            Process::look(first.pid).is_some_and(|p| p.stopped())
        });
    }
    assert_eq!(driver.list(), Ok(seen(true)));
    driver
        .create(G, E, &lab.ticker("t"), &gate())
        .expect("the same one");
    assert_eq!(lab.record(G, E), Some(record));
    assert!(!lab.file("t").exists(), "nothing of the guest has run");

    driver.resume(G, E, &gate()).expect("runs");
    lab.ticks("t");
    assert_eq!(driver.list(), Ok(seen(false)));
    assert!(
        driver.create(G, E, &lab.ticker("t"), &gate()).is_err(),
        "it runs"
    );
    let other = driver.create(G, Token(E.0 + 1), &lab.ticker("t"), &gate());
    assert!(other.expect_err("never twice").contains("runs here"));
}

#[test]
fn the_environment_is_clean_and_names_the_guest() {
    let lab = Lab::new();
    lab.long_lease();
    let driver = lab.driver();
    let out = lab.file("env");
    let script = format!("env > {0}.new; mv {0}.new {0}; sleep 1000", out.display());
    driver
        .create(G, E, &spec(&script), &gate())
        .expect("created");
    driver.resume(G, E, &gate()).expect("runs");
    eventually("the environment", || out.exists());
    let text = fs::read_to_string(&out).expect("written");
    let has = |line: &str| text.lines().any(|l| l == line);
    assert!(
        has("QUORATE_NAME=guest") && has("QUORATE_HOST=here"),
        "{text}"
    );
    assert!(has("QUORATE_GUEST=0000000000000007"), "{text}");
    assert!(has("QUORATE_EPOCH=0001000000000009"), "{text}");
    assert!(!text.contains("CARGO"), "{text}");
}

#[test]
fn a_held_guest_does_nothing_and_goes_on_where_it_was() {
    let lab = Lab::new();
    lab.long_lease();
    let driver = lab.driver();
    lab.start(&driver, G, E);
    driver.pause(G, E, &gate()).expect("held");
    assert!(lab.marked().iter().all(Process::stopped));
    assert_eq!(driver.list(), Ok(seen(true)));
    let before = leader(&lab.record(G, E).expect("registered")).map(|p| p.pid);
    driver.resume(G, E, &gate()).expect("runs");
    lab.ticks("tick-7");
    let after = leader(&lab.record(G, E).expect("registered")).map(|p| p.pid);
    assert_eq!(before, after);
}

#[test]
fn an_end_reaches_those_who_left_group_session_and_environment() {
    let lab = Lab::new();
    lab.long_lease();
    let driver = lab.driver();
    let [marked, clean, orphan] = ["marked", "clean", "orphan"].map(|n| lab.file(n));
    // Three ways to leave: a session of its own; that with a clean environment; that as an orphan.
    let script = format!(
        "setsid sh -c 'echo $$ > {}; while :; do sleep 1; done' & \
         setsid env -i /bin/sh -c 'echo $$ > {}; while :; do sleep 1; done' & \
         (setsid env -i /bin/sh -c 'echo $$ > {}; while :; do sleep 1; done' &) ; \
         while :; do sleep 1; done",
        marked.display(),
        clean.display(),
        orphan.display()
    );
    driver
        .create(G, E, &spec(&script), &gate())
        .expect("created");
    driver.resume(G, E, &gate()).expect("runs");
    let away = [marked, clean, orphan].map(|file| process_in(&file));
    let record = lab.record(G, E).expect("registered");
    for process in &away {
        let now = Process::look(process.pid).expect("runs");
        assert_ne!((now.group, now.session), (record.pgid, record.pgid));
    }
    driver.end(G, E, &gate()).expect("ended");
    for process in &away {
        assert!(gone(process), "{process:?} is left");
    }
    assert!(lab.marked().is_empty());
    assert_eq!((lab.record(G, E), driver.list()), (None, Ok(vec![])));
    let files = fs::read_dir(lab.run.guests()).expect("readable").count();
    assert_eq!(files, 0, "nothing of it is left in the registry");
}

#[test]
fn an_end_means_this_epoch_and_lower_ones_only() {
    let lab = Lab::new();
    lab.long_lease();
    let driver = lab.driver();
    lab.start(&driver, G, E);
    driver
        .end(G, Token(E.0 - 1), &gate())
        .expect("nothing older is there");
    driver
        .end(GuestId(8), E, &gate())
        .expect("no such guest is there");
    lab.ticks("tick-7");
    driver.end(G, Token(E.0 + 1), &gate()).expect("ended");
    assert_eq!(driver.list(), Ok(vec![]));
}

#[test]
fn plays_a_daemon_that_starts_a_guest() {
    let Some(run) = playing() else {
        return;
    };
    let boot = quorate::clock::boot_id(quorate::clock::BOOT_ID_FILE.as_ref()).expect("Linux");
    let driver = driver(&run, boot);
    let tick = run.path().with_file_name("t");
    let script = format!("while :; do echo x >> {}; sleep 0.02; done", tick.display());
    driver
        .create(G, E, &spec(&script), &gate())
        .expect("created");
    driver.resume(G, E, &gate()).expect("runs");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_guest_outlives_its_daemon_and_is_adopted_by_the_next() {
    let lab = Lab::new();
    lab.long_lease();
    let mut daemon = play("plays_a_daemon_that_starts_a_guest", lab.run.path());
    lab.ticks("t");
    daemon.0.kill().expect("ended by SIGKILL");
    daemon.0.wait().expect("gone");
    lab.ticks("t");

    let driver = lab.driver();
    let (tell, mut told) = mpsc::unbounded_channel();
    driver.watch(tell).expect("watches");
    assert_eq!(driver.list(), Ok(seen(false)));
    driver.pause(G, E, &gate()).expect("held");
    driver.resume(G, E, &gate()).expect("runs");
    lab.ticks("t");
    // Its end is noticed by one that is not its parent.
    let first = leader(&lab.record(G, E).expect("registered")).expect("there");
    signal(&first, Signal::KILL).expect("sent");
    let Notice::Gone(Gone { guest, epoch, .. }) = told.blocking_recv().expect("told") else {
        panic!("not gone");
    };
    assert_eq!((guest, epoch), (G, E));
    assert!(lab.marked().is_empty());
    assert_eq!((lab.record(G, E), driver.list()), (None, Ok(vec![])));
}

#[test]
fn a_guest_is_gone_only_when_what_it_left_behind_is() {
    let lab = Lab::new();
    lab.long_lease();
    let driver = lab.driver();
    let (tell, mut told) = mpsc::unbounded_channel();
    driver.watch(tell).expect("watches");
    let file = lab.file("child");
    let script = format!(
        "sh -c 'echo $$ > {0}; while :; do sleep 1; done' & while [ ! -s {0} ]; do sleep 0.01; done; exit 3",
        file.display()
    );
    driver
        .create(G, E, &spec(&script), &gate())
        .expect("created");
    driver.resume(G, E, &gate()).expect("runs");
    let child = process_in(&file);
    let Notice::Gone(gone_guest) = told.blocking_recv().expect("told") else {
        panic!("not gone");
    };
    assert!(gone_guest.how.contains("exit status: 3"), "{gone_guest:?}");
    assert!(gone(&child));
    // The same epoch may begin again.
    lab.start(&driver, G, E);
    driver.end(G, E, &gate()).expect("ended");
    assert!(told.try_recv().is_err(), "an end by order is no surprise");
}

#[test]
fn a_program_that_cannot_run_says_why() {
    let lab = Lab::new();
    lab.long_lease();
    let driver = lab.driver();
    let (tell, mut told) = mpsc::unbounded_channel();
    driver.watch(tell).expect("watches");
    let mut bad = spec("");
    bad.definition = quorate_recovery::guest::Definition::Command {
        argv: vec!["/nonexistent/program".into()],
        env: std::collections::BTreeMap::new(),
        images: Vec::new(),
    };
    driver.create(G, E, &bad, &gate()).expect("created");
    let _ = driver.resume(G, E, &gate());
    let Notice::Gone(Gone { how, .. }) = told.blocking_recv().expect("told") else {
        panic!("not gone");
    };
    assert!(how.contains("/nonexistent/program"), "{how}");
}

#[test]
fn too_late_is_not_at_all() {
    let lab = Lab::new();
    lab.long_lease();
    let driver = lab.driver();
    let late = || Gate::new(Some(Time(1)), Clock.now() + PATIENCE);
    let refused = driver.create(G, E, &lab.ticker("t"), &late());
    assert_eq!(refused, Err("too late".into()));
    assert!(lab.run.entries().expect("readable").is_empty());
    driver
        .create(G, E, &lab.ticker("t"), &gate())
        .expect("created");
    assert_eq!(driver.resume(G, E, &late()), Err("too late".into()));
    assert_eq!(driver.list(), Ok(seen(true)));
    let abandoned = gate();
    abandoned.abandon();
    assert!(driver.resume(G, E, &abandoned).is_err());
    assert_eq!(driver.list(), Ok(seen(true)));
    assert!(!lab.file("t").exists());
}

#[test]
fn without_a_lease_no_program_is_run() {
    let lab = Lab::new();
    let driver = lab.driver();
    driver
        .create(G, E, &lab.ticker("t"), &gate())
        .expect("held, which is harmless");
    assert!(driver.resume(G, E, &gate()).is_err());
    lab.lease().extend(Time(1)).expect("a lease long over");
    driver.end(G, E, &gate()).expect("ended");
    driver
        .create(G, E, &lab.ticker("t"), &gate())
        .expect("created");
    assert!(driver.resume(G, E, &gate()).is_err());
    eventually("it ended by itself", || lab.marked().is_empty());
    assert!(!lab.file("t").exists());
}

#[test]
fn a_start_that_was_called_off_registers_nothing() {
    let lab = Lab::new();
    lab.long_lease();
    let plan = IntentRecord {
        guest: G,
        epoch: E,
        boot: lab.boot,
        name: "guest".into(),
        host: "here".into(),
        argv: vec!["/bin/touch".into(), lab.file("t").display().to_string()],
        env: Default::default(),
    };
    let launch = |intent: &std::path::Path| {
        let done = Command::new(PROGRAM)
            .arg("guest-launch")
            .arg(lab.run.path())
            .arg(intent)
            .output();
        done.expect("ran").status.code()
    };
    let intent = lab.run.intent(G, E, 5);
    assert_eq!(launch(&intent), Some(75), "no intent");
    fs::write(&intent, "garbage").expect("written");
    assert_eq!(launch(&intent), Some(75), "an unreadable one");
    records::write(&intent, &plan).expect("written");
    fs::write(lab.run.guest(G, E), "taken").expect("written");
    assert_eq!(launch(&intent), Some(75), "made twice");
    assert_eq!(fs::read(lab.run.guest(G, E)).expect("there"), b"taken");
    // A daemon that starts calls off what the one before it left.
    let _driver = lab.driver();
    assert!(!intent.exists());
    assert!(!lab.file("t").exists());
}

#[test]
fn a_guest_whose_registration_vanished_is_still_seen_and_ended() {
    let lab = Lab::new();
    lab.long_lease();
    lab.start(&lab.driver(), G, E);
    fs::remove_file(lab.run.guest(G, E)).expect("removed");
    let driver = lab.driver();
    assert_eq!(driver.list(), Ok(seen(false)));
    driver.end(G, E, &gate()).expect("ended");
    assert!(lab.marked().is_empty());
    assert_eq!(driver.list(), Ok(vec![]));
}

#[test]
fn an_unreadable_registration_hides_no_guest() {
    let lab = Lab::new();
    lab.long_lease();
    lab.start(&lab.driver(), G, E);
    fs::write(lab.run.guest(G, E), "garbage").expect("written");
    let driver = lab.driver();
    assert_eq!(driver.list(), Ok(seen(false)));
    driver.end(G, E, &gate()).expect("ended");
    assert!(lab.marked().is_empty());
    assert_eq!(driver.list(), Ok(vec![]));
}

#[test]
fn a_registration_never_leads_to_another_process_of_that_id() {
    let lab = Lab::new();
    lab.long_lease();
    let bystander = Helper(Command::new("sleep").arg("1000").spawn().expect("started"));
    let pid = i32::try_from(bystander.0.id()).expect("a pid");
    let process = Process::look(pid).expect("there");
    lab.start(&lab.driver(), G, E);
    let mut record = lab.record(G, E).expect("registered");
    lab.driver().end(G, E, &gate()).expect("ended");
    (record.pgid, record.start) = (pid, process.start - 1);
    records::write(&lab.run.guest(G, E), &record).expect("written");
    let driver = lab.driver();
    assert_eq!(driver.list(), Ok(vec![]));
    driver.end(G, E, &gate()).expect("nothing to end");
    assert!(!gone(&process));
    // Another boot's processes are gone with it, whoever has their ids now.
    record.start = process.start;
    record.boot.0 ^= 1;
    records::write(&lab.run.guest(G, E), &record).expect("written");
    assert_eq!(driver.list(), Ok(vec![]));
    driver.end(G, E, &gate()).expect("nothing to end");
    assert!(!gone(&process));
}
