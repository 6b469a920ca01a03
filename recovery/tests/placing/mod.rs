//! Which host a guest goes to, and what its failures and those of others have to do with it.

use crate::rig::{self, Rig};
use quorate_membership::NodeId;
use quorate_recovery::contract::{EventKind, Request};
use quorate_recovery::guest::{GuestId, Needs};
use quorate_recovery::kinds::{GuestKind, GuestKinds};

fn with(hosts: u32, guests: &[&str]) -> Rig {
    let mut rig = Rig::new(hosts);
    rig.run(3_000);
    for g in guests {
        rig.ask(1, Request::AddGuest(rig::guest(g))).expect("added");
    }
    rig.run(3_000);
    rig
}

fn fail_three_times(rig: &mut Rig, name: &str) -> u64 {
    for _ in 0..3 {
        while rig.running(name).is_empty() {
            rig.run(100);
        }
        rig.crash_guest(name);
        rig.run(50);
    }
    let mut down = 0;
    while rig.running(name).is_empty() {
        rig.run(100);
        down += 100;
    }
    down
}

#[test]
fn failures_days_apart_are_no_row() {
    let mut rig = with(4, &["g"]);
    for day in 0..6 {
        let down = fail_three_times(&mut rig, "g");
        assert!(down <= 2_000, "day {day}: down for {down} ms");
        let (_, r) = rig.any().member().app().named("g").expect("exists");
        assert_eq!(r.failures, 1, "day {day}");
        rig.run(700_000);
    }
}

#[test]
fn failures_in_a_row_are_tried_elsewhere_and_then_later_and_later() {
    let mut rig = with(4, &["g"]);
    let mut hosts = vec![rig.running("g")[0]];
    let mut downs = Vec::new();
    for _ in 0..4 {
        downs.push(fail_three_times(&mut rig, "g"));
        hosts.push(rig.running("g")[0]);
    }
    assert!(downs.is_sorted(), "{downs:?}");
    assert!(downs[3] >= 4_000, "{downs:?}");
    let mut different = hosts[..4].to_vec();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), 4, "each host once: {hosts:?}");
}

#[test]
fn room_on_a_host_that_is_lost_is_none() {
    let mut rig = with(3, &[]);
    rig.power_off(NodeId(3));
    rig.run(40_000);
    // A third of a host each: of two hosts, one holds three.
    let third = |name: &str| {
        let mut g = rig::guest(name);
        g.needs = Needs {
            vcpus: 42,
            memory_mib: 1024,
        };
        Request::AddGuest(g)
    };
    for name in ["a", "b", "c"] {
        rig.ask(1, third(name)).expect("one host has room for it");
    }
    let why = rig.ask(1, third("d")).expect_err("no host would have room");
    assert!(why.contains("would find no room"), "{why}");
    rig.power_on(NodeId(3));
    rig.run(10_000);
    rig.ask(1, third("d")).expect("it is back");
}

#[test]
fn guests_that_wait_for_a_host_without_the_log_are_told() {
    let mut rig = with(4, &["a", "b", "c", "d", "e", "f"]);
    let coordinator = rig.coordinator();
    let behind = (1..=4).map(NodeId).find(|n| *n != coordinator);
    let behind = behind.expect("four hosts");
    let there = rig.guests_on(behind);
    assert!(!there.is_empty());
    let before = rig.heard(EventKind::Alert).len();
    rig.no_log = Some(behind);
    for name in ["g", "h", "i", "j"] {
        let add = Request::AddGuest(rig::guest(name));
        rig.ask(coordinator.0, add).expect("there is room");
    }
    rig.run(60_000);
    let alerts = rig.heard(EventKind::Alert);
    let told = |text: &&&str| text.starts_with("gets no log");
    assert_eq!(
        alerts[before..].iter().filter(told).count(),
        1,
        "{alerts:?}"
    );
    let rows = rig.node(coordinator.0).guests(rig.now());
    let starting: Vec<_> = rows.iter().filter(|r| r.state == "starting").collect();
    assert!(!starting.is_empty(), "one was given to it");
    for row in starting {
        let why = row.reason.as_deref();
        assert_eq!(why, Some("its host has not got that entry of the log yet"));
    }
    for name in &there {
        assert_eq!(rig.running(name), [behind], "{name} is left alone");
    }
    rig.no_log = None;
    rig.run(10_000);
    for name in ["g", "h", "i", "j"] {
        assert_eq!(rig.running(name).len(), 1, "{name}");
    }
}

#[test]
fn a_process_that_does_not_end_costs_its_host_no_lease() {
    let mut rig = with(4, &["a", "b", "c", "d", "e", "f"]);
    let host = rig.running("a")[0];
    let there = rig.guests_on(host);
    let (orphan, epoch) = (GuestId(1), rig.epoch("a"));
    rig.never_ends = Some(orphan);
    rig.late_creation(host, orphan, epoch);
    rig.run(20_000);
    for g in &there {
        assert_eq!(rig.running(g), [host], "{g} runs on undisturbed");
        assert_eq!(rig.starts(g), 1);
    }
    assert!(rig.node(host.0).running().len() >= there.len());
}

#[test]
fn a_blind_host_gives_back_what_it_has_not_begun() {
    let mut rig = with(3, &["g"]);
    let host = rig.running("g")[0];
    rig.blind(host);
    rig.run(100);
    rig.crash_guest("g");
    rig.run(3_000);
    let now = rig.running("g");
    assert!(now.len() == 1 && now[0] != host, "{now:?} beside {host}");
}

#[test]
fn guests_of_other_kinds_than_the_blind_one_go_on_and_start() {
    let mut rig = with(3, &["g"]);
    let others = GuestKinds::NONE.with(GuestKind::Domain);
    for host in 1..=3 {
        rig.blind_to(NodeId(host), others);
    }
    rig.run(100);
    let host = rig.running("g")[0];
    rig.crash_guest("g");
    rig.run(3_000);
    assert_eq!(rig.running("g"), [host], "restarted where it ran");
    assert_eq!(rig.starts("g"), 2);
}
