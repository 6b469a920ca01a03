//! Guests in control groups of their own: root, and control groups of version 2.

mod guardian_support;
mod ocf_support;

use guardian_support::*;
use ocf_support::skipped;
use quorate::guardian::cgroups::{self, CgroupRecord};
use quorate::guardian::processes::{self, Process};
use quorate::guardian::records;
use quorate::hypervisor::Driver;
use quorate_membership::Token;
use quorate_recovery::guest::GuestId;
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

fn grouped(test: &str) -> Option<Lab> {
    let lab = Lab::new();
    match cgroups::available(&lab.run) {
        Ok(_) => Some(lab),
        Err(why) => {
            skipped(test, &why);
            None
        }
    }
}

fn group(lab: &Lab, guest: GuestId, epoch: Token) -> Option<CgroupRecord> {
    let record = lab.record(guest, epoch)?;
    let name = format!(
        "{:016x}-{:016x}.{:016x}.cgroup",
        guest.0, epoch.0, record.draw
    );
    records::read(&lab.run.guests().join(name)).expect("readable")
}

fn held(path: &Path) -> usize {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    text.lines().count()
}

/// A guest whose 200 processes have left its session, its environment and its leader.
fn bomb() -> String {
    "i=0; while [ $i -lt 200 ]; do (setsid env -i /bin/sleep 1000 &) ; i=$((i+1)); done; \
     while :; do sleep 1; done"
        .into()
}

#[test]
fn a_guest_that_hides_every_process_ends_whole() {
    let Some(lab) = grouped("a_guest_that_hides_every_process_ends_whole") else {
        return;
    };
    lab.long_lease();
    let driver = lab.driver();
    driver
        .create(G, E, &spec(&bomb()), &gate())
        .expect("created");
    let record = group(&lab, G, E).expect("in a group before it runs");
    assert_eq!(held(&record.path), 1);
    driver.resume(G, E, &gate()).expect("runs");
    eventually("they are there", || held(&record.path) > 200);
    // Without its leader nothing leads to them but the group.
    let leader = processes::leader(&lab.record(G, E).expect("registered")).expect("there");
    processes::signal(&leader, Signal::KILL).expect("sent");
    eventually("it is gone", || gone(&leader));
    let seen = driver.list().expect("seen");
    assert!(
        seen.iter().any(|s| s.guest == G && !s.paused),
        "it runs: {seen:?}"
    );
    driver.end(G, E, &gate()).expect("ended");
    assert!(!record.path.exists(), "nothing is left of the group");
    assert_eq!(driver.list(), Ok(vec![]));
}

#[test]
fn the_guardian_ends_a_group_whole_and_touches_no_other() {
    let Some(lab) = grouped("the_guardian_ends_a_group_whole_and_touches_no_other") else {
        return;
    };
    lab.long_lease();
    let driver = lab.driver();
    driver
        .create(G, E, &spec(&bomb()), &gate())
        .expect("created");
    driver.resume(G, E, &gate()).expect("runs");
    let record = group(&lab, G, E).expect("grouped");
    eventually("they are there", || held(&record.path) > 200);
    let leader = processes::leader(&lab.record(G, E).expect("registered")).expect("there");
    processes::signal(&leader, Signal::KILL).expect("sent");
    fs::remove_file(lab.run.lease()).expect("removed");
    let _guardian = lab.guard();
    eventually("every process is gone", || held(&record.path) == 0);
    driver.end(G, E, &gate()).expect("ended");
    assert!(!record.path.exists());
}

#[test]
fn a_group_with_somebody_elses_process_is_never_ended_as_a_whole() {
    let Some(lab) = grouped("a_group_with_somebody_elses_process_is_never_ended_as_a_whole") else {
        return;
    };
    lab.long_lease();
    let driver = lab.driver();
    let (other, mine) = (GuestId(8), G);
    lab.start(&driver, mine, E);
    lab.start(&driver, other, E);
    let theirs = processes::leader(&lab.record(other, E).expect("registered")).expect("there");
    let record = group(&lab, mine, E).expect("grouped");
    fs::write(record.path.join("cgroup.procs"), theirs.pid.to_string()).expect("moved");
    let why = cgroups::end(&lab.run, lab.boot, &|(g, _)| g == mine).expect_err("refused");
    assert!(why.to_string().contains("another guest"), "{why}");
    // The guardian, found in there by some mistake, is nobody's guest.
    let guardian = lab.guard();
    let pid = guardian.state().pid;
    fs::write(record.path.join("cgroup.procs"), pid.to_string()).expect("moved");
    let why = cgroups::end(&lab.run, lab.boot, &|(g, _)| g == mine).expect_err("refused");
    assert!(why.to_string().contains("left alone"), "{why}");
    assert!(guardian.is_alive() && !gone(&theirs));
    // The guest is ended all the same, process by process; that the group is not empty is said.
    let short = quorate::hypervisor::Gate::new(None, soon(300));
    assert!(driver.end(mine, E, &short).is_err());
    lab.ticks("tick-8");
    assert!(guardian.is_alive());
    let top = record
        .path
        .parent()
        .and_then(|p| p.parent())
        .expect("above");
    for pid in [pid, theirs.pid] {
        fs::write(top.join("cgroup.procs"), pid.to_string()).expect("moved back");
    }
    driver.end(mine, E, &gate()).expect("ended");
    driver.end(other, E, &gate()).expect("ended");
    assert!(!record.path.exists());
}

#[test]
fn a_process_of_libvirt_in_a_shared_group_is_moved_into_one_of_its_own() {
    let test = "a_process_of_libvirt_in_a_shared_group_is_moved_into_one_of_its_own";
    let Some(lab) = grouped(test) else {
        return;
    };
    let pid = lab.file("pid");
    let child = Command::new("/bin/sh")
        .args([
            "-c",
            &format!("sleep 1000 & echo $! > {}; wait", pid.display()),
        ])
        .stdout(Stdio::null())
        .spawn();
    let child = Helper(child.expect("started"));
    let grandchild = process_in(&pid);
    let process = Process::look(i32::try_from(child.0.id()).expect("a pid")).expect("there");
    let record = records::GuestRecord {
        guest: G,
        epoch: E,
        boot: lab.boot,
        draw: 5,
        pgid: process.pid,
        start: process.start,
    };
    records::write(&lab.run.guest(G, E), &record).expect("registered");
    cgroups::adopt(&lab.run, &record).expect("moved");
    let group = group(&lab, G, E).expect("on record");
    assert!(group.ours);
    assert_eq!(held(&group.path), 2, "with what it started before");
    eventually("it is ended", || {
        cgroups::end(&lab.run, lab.boot, &|life| life == (G, E)).expect("ended") == 0
    });
    assert!(gone(&process) && gone(&grandchild));
    cgroups::release(&lab.run, lab.boot, &|_| true).expect("released");
    assert!(!group.path.exists());
}
