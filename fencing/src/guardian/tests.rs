use super::*;
use proptest::prelude::*;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Armed, lease until 30 s, one guest.
fn sight(now: u64) -> Sight {
    Sight {
        now: at(now),
        lease_end: Some(at(30)),
        armed: true,
        guests: 1,
        pending: 0,
        kill: at(5),
    }
}

fn kills(act: Act) -> bool {
    matches!(act, Act::Kill { .. })
}

fn resets(act: Act) -> bool {
    matches!(act, Act::Reset { .. })
}

#[test]
fn what_is_left_at_four_fifths_of_k_resets_the_host() {
    let mut guardian = Guardian::new();
    assert!(kills(guardian.see(&sight(30))));
    assert_eq!(guardian.reset_due(at(5)), Some(at(34)));
    let again = at(34) + RESET_AGAIN;
    assert!(kills(guardian.see(&sight(33))));
    // The lease that returns meanwhile changes nothing.
    let renewed = Sight {
        lease_end: Some(at(90)),
        ..sight(34)
    };
    assert_eq!(guardian.see(&renewed), Act::Reset { again });
    // It is still there, so it is ended further, and reset again a second later.
    let soon = Sight {
        now: at(34) + RESET_AGAIN / 2,
        ..renewed
    };
    assert!(kills(guardian.see(&soon)));
    assert!(resets(guardian.see(&sight(35))));
    let gone = Sight {
        guests: 0,
        ..sight(36)
    };
    assert_eq!(guardian.see(&gone), Act::Idle);
    assert_eq!(guardian.reset_due(at(5)), None);
}

#[test]
fn a_kill_without_a_record_or_begun_late_has_time_of_its_own() {
    let mut guardian = Guardian::new();
    let unknown = |now| Sight {
        lease_end: None,
        ..sight(now)
    };
    assert!(kills(guardian.see(&unknown(50))));
    assert!(kills(guardian.see(&unknown(53))));
    assert!(
        resets(guardian.see(&unknown(54))),
        "4/5 of K after the first kill"
    );
    let mut guardian = Guardian::new();
    assert!(kills(guardian.see(&sight(60))), "a start that was held up");
    assert!(kills(guardian.see(&sight(62))));
    assert!(
        resets(guardian.see(&sight(63))),
        "half of K after the first kill"
    );
}

#[test]
fn guests_are_left_alone_until_the_lease_end_and_ended_at_it() {
    let mut guardian = Guardian::new();
    assert_eq!(guardian.see(&sight(0)), Act::WaitUntil(at(30)));
    assert_eq!(guardian.see(&sight(29)), Act::WaitUntil(at(30)));
    assert_eq!(
        guardian.see(&sight(30)),
        Act::Kill {
            again: at(30) + KILL_AGAIN
        }
    );
}

#[test]
fn a_record_that_is_missing_is_a_lease_that_is_over() {
    assert!(kills(Guardian::new().see(&Sight {
        lease_end: None,
        ..sight(1)
    })));
}

#[test]
fn a_kill_goes_on_though_the_lease_returns_until_all_is_reaped() {
    let mut guardian = Guardian::new();
    assert!(kills(guardian.see(&sight(30))));
    let renewed = Sight {
        lease_end: Some(at(90)),
        ..sight(31)
    };
    assert!(
        kills(guardian.see(&renewed)),
        "a process stuck in the kernel is still there"
    );
    let starting = Sight {
        guests: 0,
        pending: 1,
        ..renewed
    };
    assert!(
        kills(guardian.see(&starting)),
        "an unanswered start may still become a guest"
    );
    assert_eq!(
        guardian.see(&Sight {
            guests: 0,
            ..renewed
        }),
        Act::Idle
    );
    // A guest started under the new lease lives.
    assert_eq!(
        guardian.see(&Sight {
            now: at(32),
            ..renewed
        }),
        Act::WaitUntil(at(90))
    );
}

#[test]
fn a_guest_that_appears_after_the_lease_end_is_ended_at_once() {
    let mut guardian = Guardian::new();
    assert_eq!(
        guardian.see(&Sight {
            guests: 0,
            ..sight(40)
        }),
        Act::Idle
    );
    assert!(kills(guardian.see(&sight(41))));
}

#[test]
fn a_pending_start_is_treated_as_a_guest() {
    let pending = Sight {
        guests: 0,
        pending: 1,
        ..sight(30)
    };
    assert!(kills(Guardian::new().see(&pending)));
}

#[test]
fn disarmed_nothing_is_begun_but_what_was_begun_is_finished() {
    let disarmed = Sight {
        armed: false,
        ..sight(33)
    };
    assert_eq!(Guardian::new().see(&disarmed), Act::Idle);
    let mut guardian = Guardian::new();
    assert!(kills(guardian.see(&sight(30))));
    assert!(kills(guardian.see(&disarmed)));
}

#[test]
fn a_clock_that_steps_back_gives_no_time() {
    let mut guardian = Guardian::new();
    assert_eq!(
        guardian.see(&Sight {
            guests: 0,
            ..sight(50)
        }),
        Act::Idle
    );
    assert!(kills(guardian.see(&sight(10))));
}

#[test]
fn the_watchdog_is_fed_up_to_the_lease_end() {
    let mut feed = Feed::new();
    assert_eq!(feed.may(&sight(29)), Feeding::Feed);
    assert_eq!(feed.may(&sight(30)), Feeding::Hold);
}

#[test]
fn a_feed_that_slipped_past_the_end_is_the_last_until_all_is_reaped() {
    let mut feed = Feed::new();
    assert_eq!(feed.may(&sight(29)), Feeding::Feed);
    assert_eq!(feed.fed(&sight(31)), Feeding::Hold);
    let renewed = Sight {
        lease_end: Some(at(90)),
        ..sight(32)
    };
    assert_eq!(
        feed.may(&renewed),
        Feeding::Hold,
        "the lease is back, the guest is not reaped"
    );
    assert_eq!(
        feed.may(&Sight {
            guests: 0,
            ..renewed
        }),
        Feeding::Feed
    );
    assert_eq!(feed.may(&renewed), Feeding::Feed);
}

#[test]
fn the_watchdog_closes_only_over_an_empty_and_drained_host() {
    let empty = Sight {
        guests: 0,
        ..sight(5)
    };
    assert!(Feed::new().may_close(&empty, true));
    assert!(!Feed::new().may_close(&empty, false));
    assert!(!Feed::new().may_close(&sight(5), true));
    assert!(!Feed::new().may_close(
        &Sight {
            pending: 1,
            ..empty
        },
        true
    ));
    assert!(Feed::new().may_close(
        &Sight {
            armed: false,
            ..sight(5)
        },
        true
    ));
    // Disarming does not let a machine escape a reset that is already on its way.
    let mut feed = Feed::new();
    assert_eq!(feed.may(&sight(30)), Feeding::Hold);
    assert!(!feed.may_close(
        &Sight {
            armed: false,
            ..sight(31)
        },
        true
    ));
}

fn sights() -> impl Strategy<Value = Vec<Sight>> {
    let one = (
        0_u64..60,
        proptest::option::of(0_u64..60),
        any::<bool>(),
        0_usize..3,
        0_usize..2,
    )
        .prop_map(|(now, end, armed, guests, pending)| Sight {
            now: at(now),
            lease_end: end.map(at),
            armed,
            guests,
            pending,
            kill: at(5),
        });
    proptest::collection::vec(one, 1..40)
}

proptest! {
    #[test]
    fn never_idle_with_a_guest_past_the_lease_end(list in sights()) {
        let mut guardian = Guardian::new();
        let mut begun = false;
        let mut latest = Duration::ZERO;
        for sight in list {
            latest = latest.max(sight.now);
            let act = guardian.see(&sight);
            let something = sight.guests + sight.pending > 0;
            let over = sight.lease_end.is_none_or(|end| latest >= end);
            begun = something && (begun || (sight.armed && over));
            prop_assert_eq!(kills(act) || resets(act), begun);
            if let Act::WaitUntil(when) = act {
                prop_assert!(sight.lease_end == Some(when) && when > latest && sight.armed);
            }
            if act == Act::Idle {
                prop_assert!(!something || !sight.armed);
            }
        }
    }

    #[test]
    fn never_fed_while_a_kill_is_unfinished(list in sights()) {
        let (mut guardian, mut feed) = (Guardian::new(), Feed::new());
        for sight in list {
            let act = guardian.see(&sight);
            let fed = feed.may(&sight);
            let ends = kills(act) || resets(act);
            prop_assert_eq!(fed == Feeding::Hold, ends);
            prop_assert!(!(ends && feed.may_close(&sight, true)));
        }
    }
}
