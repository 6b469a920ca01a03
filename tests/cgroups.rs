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
use quorate_recovery::guest::{GuestId, GuestSpec};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
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

/// A guest one of whose processes has nothing but its group, far below the guest's own, under the
/// name and words of a daemon of quorate.
fn disguised(lab: &Lab) -> GuestSpec {
    let program = lab.file("quorate");
    std::os::unix::fs::symlink("/bin/sleep", &program).expect("a name");
    spec(&format!(
        "g=$(sed -n 's|^0::||p' /proc/self/cgroup); d={root}$g; \
         for i in 1 2 3 4 5 6 7 8 9 10 11 12; do d=$d/x; mkdir $d; done; \
         (echo 0 > $d/cgroup.procs; exec setsid env -i /bin/sh -c 'exec -a {program} sleep 1000') & \
         (echo 0 > $d/cgroup.procs; exec setsid env -i /bin/sh -c 'while :; do echo x >> {file}; sleep 0.02; done') & \
         while :; do sleep 1; done",
        root = mounted(lab).display(),
        program = program.display(),
        file = lab.file("hidden").display(),
    ))
}

/// Where control groups are mounted.
fn mounted(lab: &Lab) -> PathBuf {
    let base = cgroups::available(&lab.run).expect("seen before");
    let own = fs::read_to_string("/proc/self/cgroup").expect("readable");
    let own = own.lines().find_map(|l| l.strip_prefix("0::")).expect("v2");
    let depth = Path::new(own).components().count();
    base.ancestors().nth(depth).expect("a mount").to_path_buf()
}

#[test]
fn a_guest_far_down_in_groups_of_its_own_runs_until_it_is_ended() {
    let Some(lab) = grouped("a_guest_far_down_in_groups_of_its_own_runs_until_it_is_ended") else {
        return;
    };
    lab.long_lease();
    let driver = lab.driver();
    driver
        .create(G, E, &disguised(&lab), &gate())
        .expect("created");
    driver.resume(G, E, &gate()).expect("runs");
    lab.ticks("hidden");
    let leader = processes::leader(&lab.record(G, E).expect("registered")).expect("there");
    processes::signal(&leader, Signal::KILL).expect("sent");
    eventually("its leader is gone", || gone(&leader));
    assert!(cgroups::populated(&lab.run, lab.boot, (G, E)));
    let seen = driver.list().expect("seen");
    assert!(seen.iter().any(|s| s.guest == G), "it runs: {seen:?}");
    lab.ticks("hidden");
    // Neither depth nor name keeps it.
    fs::remove_file(lab.run.lease()).expect("removed");
    let _guardian = lab.guard();
    eventually("the kernel counts none", || {
        !cgroups::populated(&lab.run, lab.boot, (G, E))
    });
    driver.end(G, E, &gate()).expect("ended");
}

#[test]
fn a_group_is_ended_whoever_was_put_into_it() {
    let Some(lab) = grouped("a_group_is_ended_whoever_was_put_into_it") else {
        return;
    };
    lab.long_lease();
    let driver = lab.driver();
    lab.start(&driver, G, E);
    let record = group(&lab, G, E).expect("grouped");
    // The guardian, found in there by some mistake, is nobody's guest: it leaves.
    let guardian = lab.guard();
    let pid = guardian.state().pid;
    fs::write(record.path.join("cgroup.procs"), pid.to_string()).expect("moved");
    assert_eq!(cgroups::end(&lab.run, lab.boot, &|_| true).ok(), Some(1));
    eventually("it is empty", || {
        !cgroups::populated(&lab.run, lab.boot, (G, E))
    });
    assert!(guardian.is_alive());
    driver.end(G, E, &gate()).expect("ended");
    assert!(!record.path.exists());
}

#[test]
fn the_number_of_looks_does_not_grow_with_guests_and_processes() {
    let Some(lab) = grouped("the_number_of_looks_does_not_grow_with_guests_and_processes") else {
        return;
    };
    const GUESTS: u64 = 12;
    lab.long_lease();
    let driver = lab.driver();
    let guests: Vec<GuestId> = (1..=GUESTS).map(GuestId).collect();
    for guest in &guests {
        let many = spec("for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; wait");
        driver.create(*guest, E, &many, &gate()).expect("created");
        driver.resume(*guest, E, &gate()).expect("runs");
        let path = group(&lab, *guest, E).expect("grouped").path;
        eventually("they are there", || held(&path) == 9);
    }
    let before = processes::passes();
    assert_eq!(
        cgroups::end(&lab.run, lab.boot, &|_| true).ok(),
        Some(guests.len())
    );
    eventually("all are gone", || {
        guests
            .iter()
            .all(|g| !cgroups::populated(&lab.run, lab.boot, (*g, E)))
    });
    assert_eq!(
        processes::passes(),
        before,
        "groups need no look at processes"
    );
    for guest in &guests {
        driver.end(*guest, E, &gate()).expect("ended");
    }
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
