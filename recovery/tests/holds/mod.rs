//! Guests that are held until somebody releases them.

mod locks;

use crate::rig::{Rig, guest};
use quorate_membership::NodeId;
use quorate_recovery::contract::{EventKind, Request};
use quorate_recovery::hold::{HoldKind, HoldReason, Words};

fn running() -> (Rig, NodeId) {
    let mut rig = Rig::new(3);
    rig.run(3_000);
    rig.ask(1, Request::AddGuest(guest("g1"))).expect("added");
    rig.run(5_000);
    let host = rig.running("g1")[0];
    (rig, host)
}

fn other(host: NodeId) -> u32 {
    if host == NodeId(1) { 2 } else { 1 }
}

fn hold_by_operator() -> Request {
    Request::HoldGuest {
        name: "g1".into(),
        by: "ann".into(),
        why: "storage work".into(),
    }
}

fn release(names: &[&str], all_of: Option<HoldKind>) -> Request {
    Request::ReleaseGuests {
        names: names.iter().map(|n| (*n).to_owned()).collect(),
        all_of,
        by: "ann".into(),
    }
}

fn drift() -> HoldReason {
    HoldReason::Drift(Words::new("vda is another file"))
}

#[test]
fn a_held_guest_runs_on_and_is_placed_nowhere_after_its_host_is_lost() {
    let (mut rig, host) = running();
    let asked = other(host);
    rig.ask(asked, hold_by_operator()).expect("held");
    rig.run(5_000);
    assert_eq!(rig.running("g1"), [host]);
    rig.power_off(host);
    rig.run(40_000);
    assert!(rig.running("g1").is_empty());
    let now = rig.now();
    let row = rig.node(asked).guests(now).remove(0);
    assert_eq!(row.state, "held");
    assert_eq!(row.holds[0].kind, "operator");
    assert!(row.holds[0].reason.contains("storage work"), "{row:?}");
    let remarks = rig.node(asked).status(now).remarks;
    assert!(
        remarks.iter().any(|r| r.contains("g1 is held")),
        "{remarks:?}"
    );
    rig.ask(asked, release(&["g1"], None)).expect("released");
    rig.run(5_000);
    assert_eq!(rig.running("g1").len(), 1);
}

#[test]
fn what_a_host_sees_becomes_a_hold_once_with_an_alert() {
    let (mut rig, host) = running();
    rig.said.clear();
    for _ in 0..3 {
        rig.hold("g1", drift());
        rig.run(1_000);
    }
    let alerts = rig.heard(EventKind::Alert);
    let held = alerts.iter().filter(|t| t.contains("vda is another file"));
    assert_eq!(held.count(), 3, "once on each of three nodes: {alerts:?}");
    assert_eq!(rig.running("g1"), [host], "it runs on");
}

#[test]
fn a_held_guest_that_failed_is_not_started_again_here() {
    let (mut rig, host) = running();
    rig.hold("g1", HoldReason::NewTop(Words::new("a block job")));
    rig.run(1_000);
    rig.crash_guest("g1");
    rig.run(10_000);
    assert!(
        rig.running("g1").is_empty(),
        "which image it went to, nobody knows"
    );
    rig.ask(1, release(&[], Some(HoldKind::NewTop)))
        .expect("released");
    rig.run(3_000);
    assert_eq!(rig.running("g1"), [host]);
}

#[test]
fn only_a_kind_that_passes_is_taken_back_by_its_host() {
    let (mut rig, _) = running();
    rig.hold("g1", HoldReason::NewTop(Words::new("snapshot under way")));
    rig.hold("g1", HoldReason::ByHand(Words::new("somebody moved it")));
    rig.run(1_000);
    rig.hold_passes("g1", HoldKind::NewTop);
    rig.hold_passes("g1", HoldKind::ByHand);
    rig.run(3_000);
    let now = rig.now();
    let row = rig.node(1).guests(now).remove(0);
    let kinds: Vec<&str> = row.holds.iter().map(|h| h.kind).collect();
    assert_eq!(kinds, ["by-hand"]);
}

#[test]
fn a_hold_seen_under_another_epoch_is_void() {
    let (mut rig, host) = running();
    let old = rig.epoch("g1");
    rig.power_off(host);
    rig.run(20_000);
    assert_eq!(rig.running("g1").len(), 1);
    rig.hold_under("g1", old, drift());
    rig.run(3_000);
    let now = rig.now();
    let row = rig.node(other(host)).guests(now).remove(0);
    assert!(row.holds.is_empty(), "{row:?}");
}

#[test]
fn a_release_that_fits_nothing_is_refused() {
    let (mut rig, _) = running();
    let why = rig.ask(1, release(&["g1"], None)).expect_err("not held");
    assert!(why.contains("is not held"), "{why}");
    let why = rig
        .ask(1, release(&["g9"], None))
        .expect_err("no such guest");
    assert!(why.contains("no guest is named"), "{why}");
    rig.ask(1, hold_by_operator()).expect("held");
    let why = rig
        .ask(1, release(&["g1"], Some(HoldKind::Drift)))
        .expect_err("another kind");
    assert!(why.contains("no guest is held for that"), "{why}");
}
