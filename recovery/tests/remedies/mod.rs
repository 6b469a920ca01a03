//! What a host does for guests that fail while they are there.

use crate::rig::{Rig, guest};
use quorate_membership::Time;
use quorate_recovery::contract::{EventKind, Request};
use quorate_recovery::guest::{GuestSpec, OnHang, OnShutdown, Probe};
use quorate_recovery::observation::{
    Agent, Cause, GuestEvent, Held, HostHealth, Observation, Sample,
};
use std::time::Duration;

const PANIC: Observation = Observation::Event(GuestEvent::Panicked);

/// A cluster of three on which one guest runs that is described like this.
fn with(spec: GuestSpec) -> Rig {
    let mut rig = Rig::new(3);
    rig.run(3_000);
    rig.ask(1, Request::AddGuest(spec)).expect("added");
    rig.run(5_000);
    rig.done.clear();
    rig.said.clear();
    rig
}

/// Looks at the guest every 2 s for so long: alive, or dead and spinning.
fn look(rig: &mut Rig, sample: &mut Sample, seconds: u64, alive: bool) {
    for _ in 0..seconds / 2 {
        rig.run(2_000);
        sample.at = rig.now();
        sample.cpu_ns += if alive { 100_000_000 } else { 1_990_000_000 };
        let requests = sample.disk_requests.unwrap_or(0);
        sample.disk_requests = Some(requests + if alive { 8 } else { 0 });
        sample.agent = if alive {
            Agent::Answered
        } else {
            Agent::Silent
        };
        rig.see("g1", Observation::Sample(sample.clone()));
    }
}

fn sample() -> Sample {
    Sample {
        at: Time::ZERO,
        held: None,
        vcpus: 1,
        cpu_ns: 0,
        wait_ns: Some(0),
        disk_requests: Some(0),
        packets_sent: None,
        agent: Agent::None,
        job: None,
    }
}

#[test]
fn the_ladder_is_reset_then_restart_here_then_elsewhere() {
    let mut spec = guest("g1");
    spec.policy.resets_here = 1;
    spec.policy.restarts_here = 1;
    let mut rig = with(spec);
    rig.resets = true;
    let (first, epoch) = (rig.running("g1"), rig.epoch("g1"));
    rig.see("g1", PANIC);
    rig.run(100);
    assert_eq!(rig.done, ["capture", "reset"]);
    assert_eq!((rig.starts("g1"), rig.running("g1")), (1, first.clone()));
    rig.done.clear();
    // Said right after it began anew: of the life before, since this one is well.
    let mut s = sample();
    rig.see("g1", PANIC);
    look(&mut rig, &mut s, 12, true);
    assert_eq!(rig.done, [""; 0]);
    rig.see("g1", PANIC);
    rig.run(3_000);
    assert_eq!(rig.done, ["capture", "end", "continue"]);
    assert_eq!((rig.starts("g1"), rig.running("g1")), (2, first.clone()));
    assert_eq!(rig.epoch("g1"), epoch, "under the same epoch");
    rig.see("g1", PANIC);
    rig.run(4_000);
    assert_eq!(rig.starts("g1"), 3);
    assert_ne!(rig.running("g1"), first, "elsewhere");
    assert!(rig.epoch("g1") > epoch);
    let told = rig.heard(EventKind::Health);
    let short: Vec<&str> = told
        .iter()
        .map(|t| t.split(':').next().unwrap_or(t))
        .collect();
    assert_eq!(
        short,
        [
            "its kernel panicked",
            "is reset",
            "its kernel panicked",
            "is ended and started again here",
            "its kernel panicked",
            "is ended, to be started elsewhere"
        ]
    );
}

#[test]
fn a_reset_that_fails_becomes_a_restart() {
    let mut spec = guest("g1");
    spec.policy.resets_here = 5;
    let mut rig = with(spec);
    rig.see("g1", Observation::Event(GuestEvent::Watchdog));
    rig.run(1_000);
    assert_eq!(rig.done, ["capture", "reset", "end", "continue"]);
    assert_eq!((rig.starts("g1"), rig.running("g1").len()), (2, 1));
}

#[test]
fn a_hang_is_remedied_within_thirty_seconds_and_shown() {
    let mut rig = with(guest("g1"));
    let mut s = sample();
    look(&mut rig, &mut s, 40, true);
    rig.run(10);
    let host = rig.running("g1")[0];
    let row = rig.node(host.0).guests(rig.now()).remove(0);
    assert_eq!((row.health.as_deref(), row.reason), (Some("healthy"), None));
    look(&mut rig, &mut s, 14, false);
    rig.run(10);
    let row = rig.node(host.0).guests(rig.now()).remove(0);
    assert!(
        row.reason
            .expect("words")
            .starts_with("suspect: agent silent")
    );
    assert_eq!(rig.done, [""; 0]);
    let kept = rig.node(host.0).guest_evidence(rig.now(), "g1");
    assert!(kept.iter().any(|l| l.contains("agent Silent")), "{kept:?}");
    look(&mut rig, &mut s, 16, false);
    rig.run(1_000);
    assert_eq!(rig.done, ["capture", "end", "continue"]);
    assert_eq!(rig.starts("g1"), 2);
    let row = rig.node(host.0).guests(rig.now()).remove(0);
    assert_eq!(row.health.as_deref(), Some("healthy"), "a new life");
    let kept = rig.node(host.0).guest_evidence(rig.now(), "g1");
    assert!(
        kept.iter().any(|l| l.contains("hangs: agent silent")),
        "{kept:?}"
    );
}

#[test]
fn a_hang_that_is_only_to_be_reported_is() {
    let mut spec = guest("g1");
    spec.policy.on_hang = OnHang::Report;
    let mut rig = with(spec);
    let mut s = sample();
    look(&mut rig, &mut s, 40, true);
    look(&mut rig, &mut s, 60, false);
    assert_eq!(rig.done, [""; 0]);
    let alerts = rig.heard(EventKind::Alert);
    assert!(
        alerts.len() == 1 && alerts[0].starts_with("hangs: "),
        "{alerts:?}"
    );
    look(&mut rig, &mut s, 10, true);
    assert_eq!(rig.heard(EventKind::Health).last(), Some(&"recovered"));
}

#[test]
fn what_a_person_holds_is_not_let_go_on_even_after_a_cut() {
    let mut rig = with(guest("g1"));
    let host = rig.running("g1")[0];
    rig.run(3_000);
    rig.by_hand("g1", Some(Held::Told));
    rig.run(20_000);
    assert_eq!(rig.done, [""; 0]);
    assert_eq!(
        rig.heard(EventKind::Alert),
        ["held by somebody else than this cluster"]
    );
    let row = rig.node(host.0).guests(rig.now()).remove(0);
    assert!(row.reason.expect("words").contains("by somebody else"));
    rig.by_hand("g1", None);
    rig.run(1_000);
    assert_eq!(rig.running("g1"), [host]);
    assert_eq!(rig.starts("g1"), 1);
}

#[test]
fn a_full_disk_is_tried_again_and_again_and_a_broken_one_given_up() {
    let mut rig = with(guest("g1"));
    rig.run(3_000);
    let full = GuestEvent::IoError {
        device: "vda".into(),
        reason: "enospc".into(),
    };
    rig.see("g1", Observation::Event(full));
    rig.by_hand("g1", Some(Held::IoError));
    let mut s = sample();
    let mut held = |rig: &mut Rig, seconds: u64| {
        for _ in 0..seconds {
            rig.run(1_000);
            s.at = rig.now();
            s.held = Some(Held::IoError);
            rig.see("g1", Observation::Sample(s.clone()));
        }
    };
    held(&mut rig, 400);
    assert!(rig.done.iter().all(|d| *d == "continue"), "{:?}", rig.done);
    assert!((9..=13).contains(&rig.done.len()), "{}", rig.done.len());
    assert_eq!(
        rig.heard(EventKind::Alert),
        ["held by disk vda is full and waits for room"]
    );
    let broken = GuestEvent::IoError {
        device: "vda".into(),
        reason: "eio".into(),
    };
    rig.see("g1", Observation::Event(broken));
    let mut s = sample();
    for _ in 0..15 {
        rig.run(1_000);
        s.at = rig.now();
        s.held = Some(Held::IoError);
        rig.see("g1", Observation::Sample(s.clone()));
    }
    assert!(rig.done.contains(&"end"));
    rig.run(2_000);
    assert_eq!(rig.starts("g1"), 2);
}

#[test]
fn probes_are_ordered_one_at_a_time_and_not_of_what_is_held() {
    let mut spec = guest("g1");
    spec.probe = Some(Probe {
        argv: vec!["true".into()],
        every_ms: 1000,
        limit_ms: 2000,
        failures: 2,
    });
    let mut rig = with(spec);
    // Unanswered: the next comes after its limit and five seconds.
    let unanswered = rig.done.len();
    assert!(unanswered <= 1, "{:?}", rig.done);
    rig.probes = true;
    rig.run(20_000);
    let answered = rig.done.len() - unanswered;
    assert!((10..=20).contains(&answered), "{answered}");
    assert_eq!(
        rig.starts("g1"),
        1,
        "one that could not be run says nothing"
    );
    rig.by_hand("g1", Some(Held::Told));
    rig.run(100);
    rig.done.clear();
    rig.run(10_000);
    assert_eq!(rig.done, [""; 0]);
    rig.by_hand("g1", None);
    rig.run(5_000);
    assert!(!rig.done.is_empty());
    // It has booted by now, so its word counts.
    rig.run(60_000);
    for _ in 0..2 {
        rig.see("g1", Observation::Probe(Err("exit status 7".into())));
    }
    rig.run(1_000);
    assert_eq!(rig.starts("g1"), 2);
}

#[test]
fn what_is_wrong_with_a_host_is_an_alert_and_a_remark() {
    let mut rig = with(guest("g1"));
    let mut health = HostHealth {
        cpus: 2,
        load_milli: 100,
        memory_available_mib: 1000,
        memory_mib: 2000,
        state_free_mib: 10,
        faults: vec![("libvirt".into(), "no answer within 4 s".into())],
    };
    rig.host_sees(1, health.clone());
    rig.run(10);
    let said = rig.heard(EventKind::Alert);
    assert_eq!(
        said,
        [
            "libvirt: no answer within 4 s",
            "state: 10 MiB are left where the store is"
        ]
    );
    let remarks = rig.node(1).status(rig.now()).remarks;
    assert!(
        remarks.iter().any(|r| r.starts_with("libvirt: ")),
        "{remarks:?}"
    );
    health.faults.clear();
    health.state_free_mib = 1000;
    rig.host_sees(1, health);
    rig.run(10);
    assert_eq!(rig.heard(EventKind::Alert).len(), 4);
    assert!(rig.node(1).status(rig.now()).remarks.is_empty());
}

#[test]
fn what_its_owner_switched_off_stays_off_unless_the_policy_says_so() {
    let mut rig = with(guest("g1"));
    let stands = |rig: &Rig| {
        let row = rig.any().guests(rig.now()).remove(0);
        (row.wanted, row.state, row.failures)
    };
    rig.see("g1", Observation::Event(GuestEvent::Ending));
    rig.run(100);
    assert_eq!(rig.heard(EventKind::Health), ["its process is gone"]);
    assert_eq!(stands(&rig), ("running", "running", 0), "how is not known");
    rig.guest_ends("g1", Cause::ShutDown);
    rig.run(30_000);
    assert_eq!((rig.starts("g1"), rig.running("g1").len()), (1, 0));
    assert_eq!(stands(&rig), ("stopped", "stopped", 0));
    rig.ask(1, Request::StartGuest { name: "g1".into() })
        .expect("wanted again");
    rig.run(5_000);
    assert_eq!(rig.starts("g1"), 2);

    let mut spec = guest("g1");
    spec.policy.on_shutdown = OnShutdown::Restart;
    let mut rig = with(spec);
    rig.guest_ends("g1", Cause::ShutDown);
    rig.run(5_000);
    assert_eq!((rig.starts("g1"), rig.running("g1").len()), (2, 1));
    assert_eq!(stands(&rig).0, "running");
}

#[test]
fn a_blind_hypervisor_ends_no_guest() {
    let mut rig = with(guest("g1"));
    let mut s = sample();
    look(&mut rig, &mut s, 40, true);
    look(&mut rig, &mut s, 16, false);
    let host = rig.running("g1")[0];
    rig.blind(host);
    rig.run(60_000);
    look(&mut rig, &mut s, 18, false);
    assert_eq!(rig.done, [""; 0]);
    assert_eq!(rig.starts("g1"), 1);
    let later = rig.now() + Duration::from_secs(1);
    assert!(
        rig.node(host.0)
            .status(later)
            .remarks
            .iter()
            .any(|r| r.contains("does not answer"))
    );
}
