//! Resource agents as guests, with an agent that does what each test wants.

mod guardian_support;
mod ocf_support;

use guardian_support::{E, G, eventually, gate, gone, process_in, soon};
use ocf_support::*;
use quorate::clock::Clock;
use quorate::hypervisor::{Driver, Gate, Notice};
use quorate_membership::{BootId, Token};
use quorate_recovery::contract::GuestSeen;
use quorate_recovery::guest::{Definition, GuestSpec};
use quorate_recovery::observation::{GuestEvent, Observation};
use std::fs;
use tokio::sync::mpsc::{self, UnboundedReceiver};

fn seen(paused: bool) -> Vec<GuestSeen> {
    vec![GuestSeen {
        guest: G,
        epoch: E,
        paused,
    }]
}

fn notice(from: &mut UnboundedReceiver<Notice>) -> Notice {
    let mut got = None;
    eventually("a notice", || {
        got = from.try_recv().ok();
        got.is_some()
    });
    got.expect("just received")
}

fn short(ms: u64) -> Gate {
    Gate::new(None, soon(ms))
}

#[test]
fn a_resource_is_stopped_until_it_is_told_to_run_and_stopped_while_it_is_held() {
    let bench = Bench::new();
    bench.lab.long_lease();
    let (driver, spec) = (bench.driver(), bench.spec("ip"));
    driver.create(G, E, &spec, &gate()).expect("created");
    assert!(!bench.runs("ip"));
    assert_eq!(driver.list(), Ok(seen(true)));
    driver.create(G, E, &spec, &gate()).expect("the same one");
    driver.resume(G, E, &gate()).expect("runs");
    assert!(bench.runs("ip"));
    assert_eq!(driver.list(), Ok(seen(false)));
    let other = driver.create(G, Token(E.0 + 1), &spec, &gate());
    assert!(other.expect_err("never twice").contains("runs here"));
    driver.pause(G, E, &gate()).expect("held");
    assert!(!bench.runs("ip"));
    assert_eq!(driver.list(), Ok(seen(true)));
    driver.resume(G, E, &gate()).expect("runs again");
    driver
        .end(G, Token(E.0 - 1), &gate())
        .expect("nothing so old");
    assert!(bench.runs("ip"));
    driver.end(G, E, &gate()).expect("ended");
    assert_eq!(driver.list(), Ok(vec![]));
    assert!(bench.known().is_empty() && !bench.runs("ip"));
    let actions = ["validate-all", "start", "stop", "start", "stop"];
    assert_eq!(bench.log("ip"), actions);
    driver.end(G, E, &gate()).expect("still");
}

#[test]
fn an_agent_meets_the_environment_of_the_standard_and_nothing_else() {
    let bench = Bench::new();
    bench.lab.long_lease();
    let (driver, spec) = (bench.driver(), bench.spec("ip"));
    driver.create(G, E, &spec, &gate()).expect("created");
    driver.resume(G, E, &gate()).expect("runs");
    let text = fs::read_to_string(bench.file("ip", "env-start")).expect("written");
    let root = bench.lab.file("ocf").display().to_string();
    let temporary = bench.lab.run.path().join("ocf").display().to_string();
    for line in [
        format!("OCF_ROOT={root}"),
        format!("HA_RSCTMP={temporary}"),
        "OCF_RA_VERSION_MAJOR=1".into(),
        "OCF_RA_VERSION_MINOR=1".into(),
        "OCF_RESOURCE_INSTANCE=ip".into(),
        "OCF_RESOURCE_TYPE=Fake".into(),
        "OCF_RESOURCE_PROVIDER=test".into(),
        "OCF_RESKEY_CRM_meta_timeout=20000".into(),
        "OCF_RESKEY_CRM_meta_interval=0".into(),
        "LANG=C".into(),
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    assert!(!text.contains("CARGO"), "{text}");
    driver.end(G, E, &gate()).expect("ended");
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let bench = Bench::new();
    bench.lab.long_lease();
    let driver = bench.driver();
    let refused = |spec: &GuestSpec| {
        let error = driver.create(G, E, spec, &gate()).expect_err("refused");
        assert!(bench.known().is_empty());
        error
    };
    let mut absent = bench.spec("a");
    if let Definition::Ocf { agent, .. } = &mut absent.definition {
        *agent = "ocf:test:None".into();
    }
    assert!(refused(&absent).contains("resource.d/test/None"));
    let mut bare = bench.spec("a");
    if let Definition::Ocf { parameters, .. } = &mut bare.definition {
        parameters.clear();
    }
    assert!(refused(&bare).contains("needs the parameter dir"));
    let spec = bench.spec("b");
    bench.on(
        "b",
        "validate-all",
        "echo ocf-exit-reason:no such card >&2; exit 6",
    );
    let error = refused(&spec);
    assert!(
        error.contains("exit 6 (not configured): no such card"),
        "{error}"
    );
    // Blindness at the first look is no permission to start.
    bench.usual("b", "validate-all");
    bench.on("b", "monitor", "exit 1");
    assert!(refused(&spec).contains("monitor: exit 1"));
    assert_eq!(driver.list(), Ok(vec![]));
    let notes = driver.notes(&bench.spec("c")).expect("known");
    assert!(notes[0].contains("not reset"), "{notes:?}");
}

#[test]
fn what_somebody_else_started_is_stopped_first() {
    let bench = Bench::new();
    bench.lab.long_lease();
    let (driver, spec) = (bench.driver(), bench.spec("ip"));
    fs::write(bench.file("ip", "state"), "by hand").expect("started");
    driver.create(G, E, &spec, &gate()).expect("created");
    assert!(!bench.runs("ip"));
    assert_eq!(driver.list(), Ok(seen(true)));
    driver.end(G, E, &gate()).expect("ended");
    // One that does not stop is not left alone: it is there until it is seen stopped.
    fs::write(bench.file("ip", "state"), "by hand").expect("started");
    bench.on("ip", "stop", "exit 0");
    let error = driver.create(G, E, &spec, &gate()).expect_err("it runs");
    assert!(error.contains("monitor says that it runs"), "{error}");
    assert_eq!(driver.list(), Ok(seen(false)));
    bench.usual("ip", "stop");
    driver.end(G, E, &gate()).expect("ended");
    assert!(!bench.runs("ip"));
}

#[test]
fn a_stop_is_not_believed() {
    let bench = Bench::new();
    bench.lab.long_lease();
    let (driver, spec) = (bench.driver(), bench.spec("fs"));
    driver.create(G, E, &spec, &gate()).expect("created");
    driver.resume(G, E, &gate()).expect("runs");
    for (how, words) in [
        ("exit 0", "monitor says that it runs"),
        ("exit 1", "stop: exit 1 (failed)"),
        ("while :; do sleep 1; done", "stop: did not end in time"),
    ] {
        bench.on("fs", "stop", how);
        let error = driver.end(G, E, &gate()).expect_err("something is left");
        assert!(error.contains(words), "{error}");
        assert_eq!(driver.list(), Ok(seen(false)), "{how}");
    }
    // Nor is blindness.
    bench.usual("fs", "stop");
    bench.on("fs", "monitor", "while :; do sleep 1; done");
    let error = driver
        .end(G, E, &gate())
        .expect_err("nobody saw it stopped");
    assert!(error.contains("monitor: did not end in time"), "{error}");
    assert_eq!(driver.list(), Ok(seen(false)));
    bench.usual("fs", "monitor");
    driver.end(G, E, &gate()).expect("ended");
    assert_eq!(driver.list(), Ok(vec![]));
}

#[test]
fn a_start_that_hangs_holds_up_no_order_and_is_ended_with_all_it_started() {
    let bench = Bench::new();
    bench.lab.long_lease();
    let (driver, spec) = (bench.driver(), bench.spec("fs"));
    let pids = ["a", "b"].map(|n| bench.file("fs", n));
    bench.on(
        "fs",
        "start",
        &format!(
            "setsid sh -c 'echo $$ > {}; while :; do sleep 1; done' & echo $$ > {}; while :; do sleep 1; done",
            pids[0].display(),
            pids[1].display()
        ),
    );
    driver.create(G, E, &spec, &gate()).expect("created");
    let error = driver.resume(G, E, &short(300)).expect_err("not yet");
    assert!(error.contains("under way"), "{error}");
    let processes = pids.each_ref().map(|p| process_in(p));
    assert_eq!(driver.list(), Ok(seen(false)), "it may run");
    driver.end(G, E, &gate()).expect("ended");
    assert!(processes.iter().all(gone));
    assert_eq!(driver.list(), Ok(vec![]));
    assert_eq!(bench.log("fs"), ["validate-all", "start", "stop"]);
}

#[test]
fn a_start_ends_with_the_lease_and_none_begins_after_it() {
    let bench = Bench::new();
    let mut lease = bench.lab.lease();
    lease.extend(soon(1000)).expect("written");
    let (driver, spec) = (bench.driver(), bench.spec("fs"));
    let pid = bench.file("fs", "pid");
    let script = format!("echo $$ > {}; while :; do sleep 1; done", pid.display());
    bench.on("fs", "start", &script);
    driver.create(G, E, &spec, &gate()).expect("created");
    let _ = driver.resume(G, E, &short(300));
    let process = process_in(&pid);
    // An extension reaches a start under way.
    let end = soon(2500);
    lease.extend(end).expect("written");
    eventually("it is ended", || gone(&process));
    assert!(Clock.now() >= end);
    driver.end(G, E, &gate()).expect("ended");
    driver.create(G, E, &spec, &gate()).expect("created");
    let error = driver.resume(G, E, &gate()).expect_err("refused");
    assert!(error.contains("the lease is over"), "{error}");
    lease.extend(soon(60_000)).expect("written");
    let late = Gate::new(Some(Clock.now()), soon(10_000));
    let error = driver.resume(G, E, &late).expect_err("refused");
    assert!(error.contains("too late"), "{error}");
    assert_eq!(driver.list(), Ok(seen(true)), "nothing was started");
    driver.end(G, E, &gate()).expect("ended");
}

#[test]
fn a_start_that_fails_leaves_nothing_and_is_told() {
    let bench = Bench::new();
    bench.lab.long_lease();
    let (driver, spec) = (bench.driver(), bench.spec("fs"));
    let (tell, mut told) = mpsc::unbounded_channel();
    driver.watch(tell).expect("watched");
    let script = format!(
        "touch {}; echo 'ocf-exit-reason:bad superblock' >&2; exit 1",
        bench.file("fs", "state").display()
    );
    bench.on("fs", "start", &script);
    driver.create(G, E, &spec, &gate()).expect("created");
    let error = driver.resume(G, E, &gate()).expect_err("it failed");
    assert!(error.contains("bad superblock"), "{error}");
    match notice(&mut told) {
        Notice::Gone(gone) => assert!(gone.how.contains("bad superblock"), "{gone:?}"),
        other => panic!("{other:?}"),
    }
    assert!(!bench.runs("fs") && bench.known().is_empty());
}

#[test]
fn what_a_monitor_sees_is_told() {
    let bench = Bench::new();
    bench.lab.long_lease();
    let (driver, spec) = (bench.driver(), bench.spec("web"));
    let (tell, mut told) = mpsc::unbounded_channel();
    driver.watch(tell).expect("watched");
    driver.create(G, E, &spec, &gate()).expect("created");
    driver.resume(G, E, &gate()).expect("runs");
    let failed = |notice| match notice {
        Notice::Seen(G, E, Observation::Event(GuestEvent::Failed(why))) => why,
        other => panic!("{other:?}"),
    };
    bench.on("web", "monitor", "echo 'answers 500' >&2; exit 1");
    let why = failed(notice(&mut told));
    assert!(why.contains("exit 1 (failed): answers 500"), "{why}");
    assert_eq!(driver.list(), Ok(seen(false)));
    // A monitor that hangs says nothing, and never that the resource is gone.
    bench.on("web", "monitor", "while :; do sleep 1; done");
    let why = loop {
        let why = failed(notice(&mut told));
        if !why.contains("answers 500") {
            break why;
        }
    };
    assert!(why.contains("did not end in time, 3 times"), "{why}");
    bench.usual("web", "monitor");
    fs::remove_file(bench.file("web", "state")).expect("it ends by itself");
    let gone = loop {
        match notice(&mut told) {
            Notice::Gone(gone) => break gone,
            Notice::Seen(..) | Notice::Hold(..) => {}
        }
    };
    assert_eq!((gone.guest, gone.epoch), (G, E));
    assert_eq!(driver.list(), Ok(vec![]));
    assert_eq!(bench.log("web").last().map(String::as_str), Some("stop"));
}

#[test]
fn a_driver_that_comes_back_takes_resources_over() {
    let bench = Bench::new();
    bench.lab.long_lease();
    let (driver, spec) = (bench.driver(), bench.spec("ip"));
    driver.create(G, E, &spec, &gate()).expect("created");
    driver.resume(G, E, &gate()).expect("runs");
    drop(driver);
    let next = bench.driver();
    assert_eq!(next.list(), Ok(seen(false)));
    assert!(bench.runs("ip"), "nothing was touched");
    next.end(G, E, &gate()).expect("ended");
    assert!(!bench.runs("ip"));
    // What an earlier boot had went with it.
    next.create(G, E, &spec, &gate()).expect("created");
    next.resume(G, E, &gate()).expect("runs");
    let rebooted = driver_of(&bench, BootId(bench.lab.boot.0 ^ 1));
    assert_eq!(rebooted.list(), Ok(vec![]));
    let (tell, mut told) = mpsc::unbounded_channel();
    rebooted.watch(tell).expect("watched");
    assert!(matches!(notice(&mut told), Notice::Gone(g) if g.how.contains("earlier boot")));
    assert!(bench.known().is_empty());
}

fn driver_of(bench: &Bench, boot: BootId) -> quorate::ocf::Ocf {
    driver(&bench.lab.run, boot, None)
}

#[test]
fn what_a_resource_left_running_ends_with_it() {
    let bench = Bench::new();
    bench.lab.long_lease();
    let (driver, spec) = (bench.driver(), bench.spec("web"));
    let pid = bench.file("web", "pid");
    // A service, and a stop that forgets a part of it.
    let script = format!(
        "setsid sh -c 'echo $$ > {}; while :; do sleep 1; done' &",
        pid.display()
    );
    bench.on("web", "start", &script);
    driver.create(G, E, &spec, &gate()).expect("created");
    driver.resume(G, E, &gate()).expect("runs");
    let service = process_in(&pid);
    driver.end(G, E, &gate()).expect("ended");
    eventually("it is gone", || gone(&service));
}
