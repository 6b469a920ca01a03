//! Locks beside images: what the log accounts for costs nothing, any other lock holds the guest.

use super::release;
use crate::rig::{Rig, with_image};
use quorate_membership::{ClusterId, NodeId};
use quorate_recovery::contract::{EventKind, Request};
use quorate_recovery::hold::HoldKind;
use quorate_recovery::lock::Lock;

fn running() -> (Rig, NodeId) {
    let mut rig = Rig::new(3);
    rig.run(3_000);
    rig.ask(1, Request::AddGuest(with_image("g1")))
        .expect("added");
    rig.run(5_000);
    let host = rig.running("g1")[0];
    (rig, host)
}

fn on_disk(rig: &Rig) -> Lock {
    rig.locks["/shared/g1"].expect("a lock")
}

/// Somebody else writes the lock.
fn write(rig: &mut Rig, change: impl FnOnce(&mut Lock)) {
    let mut lock = on_disk(rig);
    change(&mut lock);
    rig.locks.insert("/shared/g1".into(), Some(lock));
}

fn kinds(rig: &Rig) -> Vec<&'static str> {
    let row = rig.any().guests(rig.now()).remove(0);
    row.holds.iter().map(|h| h.kind).collect()
}

#[test]
fn a_lock_is_written_before_the_guest_goes_on_and_is_known_to_every_later_start() {
    let (mut rig, host) = running();
    let (epoch, lock) = (rig.epoch("g1"), on_disk(&rig));
    assert_eq!((lock.cluster, lock.guest), (ClusterId(7), rig.id("g1")));
    assert_eq!((lock.life.epoch, lock.life.host), (epoch, host));
    let id = rig.id("g1");
    assert_eq!(rig.any().member().app().guests[&id].locked, epoch);
    rig.crash_guest("g1");
    rig.run(3_000);
    assert_eq!(rig.running("g1"), [host], "its own lock is no news");
    rig.power_off(host);
    rig.run(20_000);
    assert_eq!(
        rig.running("g1").len(),
        1,
        "nor is that of a life proved over"
    );
    assert_ne!(on_disk(&rig).life.host, host);
    assert!(kinds(&rig).is_empty());
}

#[test]
fn the_lock_of_another_cluster_holds_the_guest_until_it_is_released() {
    let (mut rig, host) = running();
    write(&mut rig, |l| l.cluster = ClusterId(8));
    rig.power_off(host);
    rig.run(20_000);
    assert!(rig.running("g1").is_empty());
    assert_eq!(kinds(&rig), ["foreign-lock"]);
    let asked = if host == NodeId(1) { 2 } else { 1 };
    rig.ask(asked, release(&["g1"], Some(HoldKind::ForeignLock)))
        .expect("released");
    rig.run(5_000);
    assert_eq!(rig.running("g1").len(), 1);
    assert_eq!(on_disk(&rig).cluster, ClusterId(7));
    assert!(
        rig.any().member().app().guests[&rig.id("g1")]
            .covered
            .is_empty()
    );
}

#[test]
fn a_lock_that_was_raised_after_the_release_holds_anew() {
    let (mut rig, _) = running();
    write(&mut rig, |l| (l.cluster, l.raised) = (ClusterId(8), 5));
    rig.crash_guest("g1");
    rig.run(3_000);
    assert_eq!(kinds(&rig), ["foreign-lock"]);
    write(&mut rig, |l| l.raised = 6);
    rig.ask(1, release(&["g1"], None)).expect("released");
    rig.run(3_000);
    assert!(rig.running("g1").is_empty(), "somebody raises it still");
    assert_eq!(kinds(&rig), ["foreign-lock"]);
    rig.ask(1, release(&["g1"], None)).expect("released");
    rig.run(3_000);
    assert_eq!(rig.running("g1").len(), 1);
}

#[test]
fn an_epoch_or_a_life_that_the_log_does_not_know_holds_the_guest() {
    let changes: [fn(&mut Lock); 3] = [
        |l| l.life.epoch.0 += 1000,
        |l| l.life.incarnation.random ^= 1,
        |l| l.life.host = NodeId(9),
    ];
    for change in changes {
        let (mut rig, _) = running();
        write(&mut rig, change);
        rig.crash_guest("g1");
        rig.run(10_000);
        assert!(rig.running("g1").is_empty());
        assert_eq!(kinds(&rig), ["unknown-lock"]);
    }
}

#[test]
fn an_older_lock_than_the_last_reported_holds_the_guest() {
    let (mut rig, host) = running();
    let old = on_disk(&rig);
    rig.power_off(host);
    rig.run(20_000);
    assert_eq!(rig.running("g1").len(), 1);
    rig.crash_guest("g1");
    write(&mut rig, |l| *l = old);
    rig.run(10_000);
    assert_eq!(kinds(&rig), ["unknown-lock"], "an old copy of the image");
}

#[test]
fn a_lock_that_cannot_be_read_or_written_is_an_alert_and_bars_no_start() {
    let (mut rig, host) = running();
    let id = rig.id("g1");
    rig.locks.insert("/shared/g1".into(), None);
    rig.said.clear();
    rig.power_off(host);
    rig.run(20_000);
    assert_eq!(rig.running("g1").len(), 1);
    let alerts = rig.heard(EventKind::Alert).join("; ");
    assert!(alerts.contains("cannot be read"), "{alerts}");
    assert!(alerts.contains("not written"), "{alerts}");
    assert!(kinds(&rig).is_empty());
    // What is readable again is known: nothing was written since.
    let life = rig.any().member().app().guests[&id].lives[0];
    rig.locks.insert(
        "/shared/g1".into(),
        Some(Lock {
            cluster: ClusterId(7),
            guest: id,
            life,
            raised: 1,
        }),
    );
    rig.crash_guest("g1");
    rig.run(3_000);
    assert_eq!(rig.running("g1").len(), 1);
}

#[test]
fn the_image_of_a_guest_that_was_removed_is_known_to_the_next() {
    let (mut rig, _) = running();
    let old = on_disk(&rig);
    let name = || "g1".to_owned();
    rig.ask(1, Request::StopGuest { name: name() })
        .expect("stopped");
    rig.run(3_000);
    rig.ask(1, Request::RemoveGuest { name: name() })
        .expect("removed");
    rig.ask(2, Request::AddGuest(with_image("g1")))
        .expect("added");
    rig.run(5_000);
    assert_eq!(rig.running("g1").len(), 1);
    assert_ne!(on_disk(&rig).guest, old.guest);
}
