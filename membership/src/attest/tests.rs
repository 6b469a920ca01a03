use super::*;
use crate::entry::ArmedClass;
use std::time::Duration;

const T: fn(u64) -> Time = Time::from_millis;
const GUARDIAN: Armed = Armed {
    class: ArmedClass::Guardian,
    reset: false,
};

fn pulse(at: u64) -> Option<Pulse> {
    Some(Pulse {
        armed: GUARDIAN,
        count: at,
        at: T(at),
        third_start: None,
    })
}

/// A host whose guardian looked at 1,000 ms and never since. The pause margin is 700 ms.
fn stopped() -> (Attest, Timing) {
    let t = Timing::fast();
    let mut attest = Attest::new(T(900), true);
    attest.read(T(1000), pulse(1000), &t);
    assert!(attest.judge(T(1000), &t), "the first word");
    assert_eq!(attest.word().armed, Some(GUARDIAN));
    (attest, t)
}

#[test]
fn a_counter_that_stands_still_bounds_the_lease_and_changes_the_word_after_the_pause_margin() {
    let (mut attest, t) = stopped();
    // The same reading again, however often, is no sign of work.
    attest.read(T(1600), pulse(1000), &t);
    assert!(!attest.judge(T(1699), &t), "too early to say");
    assert_eq!(attest.bound(None, &t), Some(T(1175)));
    assert!(attest.judge(T(1700), &t));
    let unarmed = Word {
        number: 2,
        armed: None,
    };
    assert_eq!(attest.word(), unarmed);
    assert!(!attest.judge(T(1800), &t), "said once");
    assert_eq!(attest.bound(None, &t), Some(T(1175)), "not entered yet");
}

#[test]
fn a_late_reading_counts_from_when_the_counter_was_raised() {
    let (mut attest, t) = stopped();
    attest.read(T(5000), pulse(1300), &t);
    assert_eq!(attest.bound(None, &t), Some(T(1475)));
    attest.read(T(5000), pulse(9000), &t);
    assert_eq!(attest.bound(None, &t), Some(T(5175)), "no stamp is ahead");
}

#[test]
fn guardians_that_do_not_stay_are_none() {
    let (mut attest, t) = stopped();
    let restless = |at: u64| {
        pulse(at).map(|p| Pulse {
            third_start: Some(T(1200)),
            ..p
        })
    };
    attest.read(T(1500), restless(1500), &t);
    assert_eq!(attest.bound(None, &t), Some(T(1175)));
    attest.judge(T(1800), &t);
    assert_eq!(attest.word().armed, None);
    let later = 1200 + t.lease.as_millis() as u64;
    attest.read(T(later), restless(later), &t);
    assert!(attest.judge(T(later), &t));
    assert_eq!(attest.word().armed, Some(GUARDIAN), "it stayed");
    assert_eq!(attest.word().number, 3);
}

#[test]
fn a_host_that_never_had_a_guardian_says_so() {
    let t = Timing::fast();
    let mut attest = Attest::new(T(900), true);
    attest.read(T(1000), None, &t);
    assert!(!attest.judge(T(1500), &t));
    assert_eq!(attest.bound(None, &t), None, "nothing renews it");
    assert!(attest.judge(T(1600), &t));
    assert_eq!(attest.word().armed, None);
    let mut witness = Attest::new(T(900), false);
    assert!(!witness.judge(T(9000), &t));
    assert_eq!(witness.bound(None, &t), Some(Time::NEVER));
}

#[test]
fn a_counter_of_a_guardian_long_gone_arms_nobody() {
    let t = Timing::fast();
    let mut attest = Attest::new(T(9000), true);
    attest.read(T(9000), pulse(1000), &t);
    assert!(!attest.judge(T(9000), &t));
    assert_eq!(attest.bound(None, &t), Some(T(1175)));
    assert!(attest.judge(T(9000) + Duration::from_millis(700), &t));
    assert_eq!(attest.word().armed, None);
}
