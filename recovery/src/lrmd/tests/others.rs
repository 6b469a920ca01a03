//! Blindness, probes, disks, holds, and the host.

use super::*;

#[test]
fn probes_count_in_a_row_once_it_has_booted() {
    let fails = Observation::Probe(Err("exit status 1".into()));
    let works = Observation::Probe(Ok(()));
    let mut story = Story::new();
    for _ in 0..10 {
        assert_eq!(story.take(&fails, false, false), None, "it boots");
    }
    story.live(well(10));
    for seen in [&fails, &fails, &works, &fails, &fails] {
        assert_eq!(story.take(seen, false, false), None);
    }
    let failed = story.take(&fails, false, false).expect("three in a row");
    assert_eq!(
        failed.words(),
        "its probe failed 3 times in a row: exit status 1"
    );
    assert_eq!(story.take(&works, false, false), None, "it works again");
    // While file systems are frozen a probe may well fail.
    story.live(Phase {
        agent: Agent::Frozen,
        ..idle(4)
    });
    for _ in 0..5 {
        assert_eq!(story.take(&fails, false, false), None);
    }
}

#[test]
fn a_failing_probe_and_a_silent_agent_and_quiet_disks_are_a_hang() {
    let mut story = Story::new();
    story.live(well(60));
    story.take(&Observation::Probe(Err("time-out".into())), false, false);
    let half = Phase {
        cpu: 400,
        ..dead(40)
    };
    let (at, failure) = story.live(half).expect("hangs");
    assert!((20..=28).contains(&at) && failure.words().contains("its probe fails"));
}

#[test]
fn a_full_disk_waits_for_room_for_ever() {
    let mut story = Story::new();
    story.live(well(60));
    story.event(GuestEvent::IoError {
        device: "vda".into(),
        reason: "enospc".into(),
    });
    story.event(GuestEvent::Held(Held::IoError));
    assert_eq!(
        story.reports,
        [Report {
            alert: true,
            text: "held by disk vda is full and waits for room".into()
        }]
    );
    let held = Phase {
        held: Some(Held::IoError),
        every: 1000,
        ..halted(1)
    };
    let mut tries = Vec::new();
    for second in 0..400 {
        if story.watch.try_again(story.now) {
            tries.push(second);
        }
        assert_eq!(story.live(held), None, "second {second}");
    }
    assert_eq!(tries, [1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363]);
    story.live(well(10));
    assert_eq!(
        story.reports.last().map(|r| r.text.as_str()),
        Some("recovered")
    );
}

#[test]
fn a_broken_disk_is_tried_elsewhere_after_a_while() {
    let mut story = Story::new();
    story.live(well(60));
    story.event(GuestEvent::IoError {
        device: "vda".into(),
        reason: "eio".into(),
    });
    let failed = story.live(Phase {
        held: Some(Held::IoError),
        ..halted(400)
    });
    let (at, failure) = failed.expect("five minutes are enough");
    assert!((298..=304).contains(&at), "{at}");
    assert_eq!(
        failure.words(),
        "held for long by an I/O error of disk vda (eio)"
    );
}

#[test]
fn a_guest_held_by_hand_is_told_and_left_alone() {
    let mut story = Story::new();
    story.live(well(60));
    let held = Phase {
        held: Some(Held::Told),
        ..halted(60)
    };
    assert_eq!(story.live(held), None);
    assert!(story.watch.held_by_others() && !story.watch.judgeable(story.now));
    story.event(GuestEvent::Continued);
    assert_eq!(story.live(well(20)), None);
    let told: Vec<(bool, &str)> = story
        .reports
        .iter()
        .map(|r| (r.alert, r.text.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (true, "held by somebody else than this cluster"),
            (false, "recovered")
        ]
    );
}

#[test]
fn held_by_this_cluster_is_no_news() {
    let mut story = Story::new();
    story.live(well(60));
    let ours = Phase {
        ours: true,
        held: Some(Held::Told),
        ..halted(10)
    };
    story.live(ours);
    // A look made before the guest was let go on, told after.
    let old = Observation::Sample(Sample {
        at: story.now,
        ..story.sample.clone()
    });
    story.running_since = story.now + Duration::from_millis(5);
    story.now = story.now + Duration::from_millis(10);
    story.take(&old, false, false);
    assert!(!story.watch.held_by_others());
    assert_eq!(story.reports, []);
}

#[test]
fn the_host_is_told_of_once_with_room_between() {
    let mut host = HostWatch::default();
    let health = |free, available, load| HostHealth {
        cpus: 2,
        load_milli: load,
        memory_available_mib: available,
        memory_mib: 1000,
        state_free_mib: free,
        faults: Vec::new(),
    };
    assert_eq!(host.take(&HostHealth::default()), [], "not looked at");
    assert_eq!(host.take(&health(64, 20, 16_000)), []);
    let raised: Vec<String> = host
        .take(&health(63, 19, 16_001))
        .into_iter()
        .map(|r| r.text)
        .collect();
    assert_eq!(
        raised,
        [
            "load: load 16 on 2 CPUs",
            "memory: 19 of 1000 MiB of memory are left",
            "state: 63 MiB are left where the store is"
        ]
    );
    assert_eq!(
        host.take(&health(90, 35, 9_000)),
        [],
        "neither worse nor well"
    );
    assert_eq!(host.remarks().count(), 3);
    assert_eq!(host.take(&health(96, 40, 7_000)).len(), 3);
    assert_eq!(host.remarks().count(), 0);
    let mut faulty = health(1000, 500, 0);
    faulty.faults = vec![("libvirt".into(), "no answer within 4 s".into())];
    assert_eq!(host.take(&faulty).len(), 1);
    faulty.faults[0].1 = "no answer within 8 s".into();
    assert_eq!(host.take(&faulty), [], "the same fault");
    let well = host.take(&health(1000, 500, 0));
    assert_eq!(well[0].text, "libvirt: well again");
}

#[test]
fn blindness_is_not_death() {
    let mut story = Story::new();
    story.live(well(60));
    // Nobody looks for a minute; a dead guest would have been found long ago.
    story.live(dead(14));
    story.now = story.now + Duration::from_secs(60);
    story.sample.at = story.now;
    assert_eq!(story.live(dead(18)), None, "evidence is not carried across");
    assert_eq!(story.live(well(10)), None);
    story.live(dead(14));
    story.watch.blinded(story.now);
    assert_eq!(story.live(dead(18)), None, "nor across blindness");
    let standing = story.watch.standing(story.now + Duration::from_secs(30));
    assert!(matches!(standing, Standing::Suspect(why) if why.starts_with("no look")));
}

#[test]
fn evidence_does_not_keep() {
    let mut story = Story::new();
    story.live(well(60));
    assert!(story.live(dead(40)).is_some());
    let policy = story.policy;
    let mut c = Context {
        now: story.now + Duration::from_secs(10),
        policy: &policy,
        probe_failures: None,
        steady: Some(story.running_since),
        crowded: false,
        elsewhere: true,
    };
    assert_eq!(story.watch.failure(&c), None, "ten seconds old");
    c.now = c.now + Duration::from_secs(1);
    assert_eq!(story.watch.failure(&c), None);
}

#[test]
fn what_the_guest_says_itself_counts_at_once() {
    for (event, failure) in [
        (GuestEvent::Panicked, Failure::Panicked),
        (GuestEvent::Watchdog, Failure::Watchdog),
        (GuestEvent::Held(Held::Watchdog), Failure::Watchdog),
        (
            GuestEvent::Failed("not running".into()),
            Failure::Monitor("not running".into()),
        ),
    ] {
        let mut story = Story::new();
        story.live(well(10));
        assert_eq!(story.event(event.clone()), Some(failure), "{event:?}");
        story.watch.begins(story.now);
        assert_eq!(story.live(well(10)), None, "{event:?}: it began anew");
    }
}

#[test]
fn a_reboot_from_inside_is_a_new_life() {
    let mut story = Story::new();
    story.live(well(120));
    assert_eq!(story.event(GuestEvent::Rebooted), None);
    // It boots for longer than a hang may last: spins, and its agent is not there yet.
    assert_eq!(story.live(dead(58)), None);
    assert_eq!(story.live(well(60)), None);
    assert!(matches!(
        story.live(dead(40)),
        Some((20..=28, Failure::Hung(_)))
    ));
}
