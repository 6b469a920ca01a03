use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const LIMIT: Duration = Duration::from_secs(20);

fn device(agent: &str) -> Device {
    Device {
        name: "dev".to_owned(),
        agent: agent.to_owned(),
        parameters: BTreeMap::new(),
        class: None,
        limit_ms: 20_000,
    }
}

fn run(agent: &str) -> DeviceRun {
    DeviceRun::new(&device(agent), "h1", Duration::ZERO, Duration::MAX)
}

fn exit(code: i32, output: &str) -> AgentEnd {
    AgentEnd::Exited {
        code,
        output: output.to_owned(),
    }
}

fn on() -> AgentEnd {
    exit(0, "Status: ON\n")
}

fn off() -> AgentEnd {
    exit(2, "Status: OFF\n")
}

fn not_started() -> AgentEnd {
    AgentEnd::NotStarted {
        why: "no such file".to_owned(),
    }
}

/// Gives these ends to whatever is run, each half a second after its launch (a time-out at its
/// full time), waits out every pause, and says the verbs asked and the outcome.
fn play(agent: &str, ends: &[AgentEnd]) -> (Vec<Verb>, Outcome) {
    let (mut run, mut now, mut asked) = (run(agent), Duration::ZERO, Vec::new());
    let mut ends = ends.iter();
    loop {
        match run.poll(now) {
            Action::Run { verb, until, .. } => {
                asked.push(verb);
                // Beyond the script nothing answers.
                let end = ends.next().unwrap_or(&AgentEnd::TimedOut);
                let takes = Duration::from_millis(500);
                now = if *end == AgentEnd::TimedOut {
                    until
                } else {
                    until.min(now + takes)
                };
                run.ended(now, end);
            }
            Action::WaitUntil(at) => {
                assert!(at > now, "waits for the past");
                now = at;
            }
            Action::Done(outcome) => {
                assert_eq!(ends.len(), 0, "asked {asked:?} and left ends over");
                return (asked, outcome);
            }
        }
    }
}

const SOS: [Verb; 3] = [Verb::Status, Verb::Off, Verb::Status];

#[test]
fn on_then_told_off_then_observed_off() {
    let (asked, outcome) = play("fence_ipmilan", &[on(), exit(0, "Success"), off()]);
    assert_eq!((&asked[..], outcome), (&SOS[..], Outcome::Off));
}

#[test]
fn what_reads_off_at_first_is_told_off_all_the_same() {
    let (asked, outcome) = play(
        "fence_ipmilan",
        &[off(), exit(0, "Success: Already OFF"), off()],
    );
    assert_eq!((&asked[..], outcome), (&SOS[..], Outcome::Off));
}

#[test]
fn an_observed_off_counts_whatever_the_off_said() {
    for end in [
        exit(1, "HTTP 409"),
        AgentEnd::TimedOut,
        AgentEnd::Crashed { signal: 11 },
    ] {
        let (asked, outcome) = play("fence_redfish", &[on(), end, off()]);
        assert_eq!((&asked[..], outcome), (&SOS[..], Outcome::Off));
    }
}

#[test]
fn success_without_an_observed_off_is_not_off() {
    // Accepted, and on whenever asked: the device failed, at its limit.
    let mut run = run("fence_ipmilan");
    let mut now = Duration::ZERO;
    let outcome = loop {
        match run.poll(now) {
            Action::Run {
                verb: Verb::Off, ..
            } => run.ended(now, &exit(0, "Success")),
            Action::Run { .. } => run.ended(now, &on()),
            Action::WaitUntil(at) => now = at,
            Action::Done(outcome) => break outcome,
        }
    };
    assert_eq!(now, LIMIT);
    assert!(
        matches!(&outcome, Outcome::Failed(why) if why.starts_with("still on")),
        "{outcome:?}"
    );
}

#[test]
fn success_with_a_state_nobody_can_read_is_unknown() {
    let mut run = run("fence_ipmilan");
    let mut now = Duration::ZERO;
    let outcome = loop {
        match run.poll(now) {
            Action::Run {
                verb: Verb::Off, ..
            } => run.ended(now, &exit(0, "Success")),
            Action::Run { .. } => run.ended(now, &exit(2, "syntax error")),
            Action::WaitUntil(at) => now = at,
            Action::Done(outcome) => break outcome,
        }
    };
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
}

#[test]
fn a_device_that_refuses_is_told_twice_and_has_failed() {
    let refused = exit(1, "");
    let (asked, outcome) = play(
        "fence_ipmilan",
        &[on(), refused.clone(), on(), refused, on()],
    );
    use Verb::{Off, Status};
    assert_eq!(asked, [Status, Off, Status, Off, Status]);
    assert!(
        matches!(&outcome, Outcome::Failed(why) if why.starts_with("still on")),
        "{outcome:?}"
    );
}

#[test]
fn a_device_that_never_answers_has_failed_at_once() {
    let (asked, outcome) = play("fence_ipmilan", &vec![exit(1, ""); 5]);
    assert_eq!(asked.len(), 5);
    assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("does not answer")));
}

#[test]
fn a_device_lost_after_the_order_is_unknown() {
    // It answered, refused, and was not heard again: the order may have reached it.
    let lost = exit(1, "Connection lost");
    let ends = [on(), lost.clone(), lost.clone(), lost.clone(), lost];
    let (_, outcome) = play("fence_ipmilan", &ends);
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
}

#[test]
fn an_off_without_answer_is_unknown_even_if_the_state_reads_on() {
    let mut run = run("fence_ipmilan");
    let mut now = Duration::ZERO;
    let outcome = loop {
        match run.poll(now) {
            Action::Run {
                verb: Verb::Off,
                until,
                ..
            } => {
                now = until;
                run.ended(now, &AgentEnd::TimedOut);
            }
            Action::Run { .. } => run.ended(now, &on()),
            Action::WaitUntil(at) => now = at,
            Action::Done(outcome) => break outcome,
        }
    };
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
}

#[test]
fn a_hanging_first_look_leaves_time_to_cut_and_to_look_again() {
    let mut run = run("fence_ipmilan");
    let mut until_of = |verb, now| match run.poll(now) {
        Action::Run {
            verb: asked, until, ..
        } => {
            assert_eq!(asked, verb);
            run.ended(until, &AgentEnd::TimedOut);
            until
        }
        other => panic!("{other:?}"),
    };
    let first = until_of(Verb::Status, Duration::ZERO);
    let cut = until_of(Verb::Off, first);
    let second = until_of(Verb::Status, cut);
    assert_eq!((first, cut, second), (LIMIT / 4, LIMIT * 3 / 4, LIMIT));
}

#[test]
fn no_off_begins_in_the_last_quarter() {
    // The node stood still, so that what is due is done late.
    let late = |ms| {
        let mut run = run("fence_ipmilan");
        assert!(matches!(run.poll(Duration::ZERO), Action::Run { .. }));
        run.ended(LIMIT / 4, &AgentEnd::TimedOut);
        run.poll(Duration::from_millis(ms))
    };
    assert!(matches!(
        late(15_000),
        Action::Run {
            verb: Verb::Off,
            ..
        }
    ));
    match late(15_001) {
        Action::Done(Outcome::CannotDo(why)) => assert!(why.contains("too little"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_off_without_answer_is_waited_for_even_if_the_state_reads_off() {
    let mut run = run("fence_ipmilan");
    for end in [on(), AgentEnd::TimedOut] {
        assert!(matches!(run.poll(Duration::ZERO), Action::Run { .. }));
        run.ended(Duration::ZERO, &end);
    }
    let read = Duration::from_secs(16);
    assert!(matches!(run.poll(read), Action::Run { .. }));
    run.ended(read, &off());
    assert_eq!(run.poll(read), Action::WaitUntil(LIMIT));
    let last = LIMIT - Duration::from_millis(1);
    assert_eq!(run.poll(last), Action::WaitUntil(LIMIT));
    assert_eq!(run.poll(LIMIT), Action::Done(Outcome::Off));
}

#[test]
fn an_agent_never_reported_ended_does_not_hold_the_run_beyond_its_limit() {
    let mut run = run("fence_ipmilan");
    assert!(matches!(run.poll(Duration::ZERO), Action::Run { .. }));
    run.ended(Duration::ZERO, &on());
    let Action::Run {
        verb: Verb::Off,
        until,
        ..
    } = run.poll(Duration::ZERO)
    else {
        panic!("off");
    };
    assert_eq!(run.poll(until), Action::WaitUntil(LIMIT));
    assert!(matches!(run.poll(LIMIT), Action::Done(Outcome::Unknown(_))));
    // What comes later changes nothing.
    run.ended(LIMIT, &exit(0, "Success"));
    assert!(matches!(run.poll(LIMIT), Action::Done(Outcome::Unknown(_))));
}

#[test]
fn an_agent_that_is_not_there_cannot_do_it() {
    let (asked, outcome) = play("fence_ipmilan", &[not_started()]);
    assert_eq!(asked, [Verb::Status]);
    assert!(matches!(outcome, Outcome::CannotDo(_)), "{outcome:?}");
    let (asked, outcome) = play("fence_ipmilan", &[on(), not_started(), not_started()]);
    assert_eq!(asked, [Verb::Status, Verb::Off, Verb::Off]);
    assert!(matches!(outcome, Outcome::CannotDo(_)), "{outcome:?}");
}

#[test]
fn a_device_without_class_or_with_bad_parameters_is_never_run() {
    let (asked, outcome) = play("fence_dummy", &[]);
    assert!(
        asked.is_empty() && matches!(outcome, Outcome::CannotDo(_)),
        "{outcome:?}"
    );
    let mut bad = device("fence_ipmilan");
    bad.parameters.insert("action".to_owned(), "on".to_owned());
    let mut run = DeviceRun::new(&bad, "h1", Duration::ZERO, LIMIT);
    assert!(matches!(
        run.poll(Duration::ZERO),
        Action::Done(Outcome::CannotDo(_))
    ));
}

#[test]
fn a_crash_message_is_an_observation_and_other_words_are_not() {
    let success = [exit(0, "")];
    assert_eq!(
        play("fence_kdump", &success),
        (vec![Verb::Off], Outcome::Off)
    );
    for agent in [
        "fence_sbd",
        "fence_scsi",
        "fence_heuristics_ping",
        "fence_ack_manual",
    ] {
        assert_eq!(
            play(agent, &success),
            (vec![Verb::Off], Outcome::Passed),
            "{agent}"
        );
        assert!(
            matches!(play(agent, &[exit(1, "")]).1, Outcome::Failed(_)),
            "{agent}"
        );
        assert!(
            matches!(play(agent, &[AgentEnd::TimedOut]).1, Outcome::Unknown(_)),
            "{agent}"
        );
        assert!(
            matches!(play(agent, &[not_started()]).1, Outcome::CannotDo(_)),
            "{agent}"
        );
    }
    assert!(matches!(
        play("fence_kdump", &[exit(1, "")]).1,
        Outcome::Failed(_)
    ));
    assert!(matches!(
        play("fence_kdump", &[AgentEnd::TimedOut]).1,
        Outcome::Unknown(_)
    ));
}

#[test]
fn the_run_ends_with_the_level_even_if_the_device_may_take_longer() {
    let soon = Duration::from_secs(3);
    let run = DeviceRun::new(&device("fence_ipmilan"), "h1", Duration::from_secs(1), soon);
    assert_eq!(run.deadline(), soon);
}

#[test]
fn the_history_tells_what_was_asked_and_answered() {
    let mut run = run("fence_ipmilan");
    for end in [on(), exit(1, ""), exit(2, "usage")] {
        assert!(matches!(run.poll(Duration::ZERO), Action::Run { .. }));
        run.ended(Duration::ZERO, &end);
    }
    assert_eq!(
        run.history(),
        "status: on; off: exit 1; status: exit 2, unreadable"
    );
}

fn ends() -> impl Strategy<Value = AgentEnd> {
    let words = [
        "Status: OFF\n",
        "Status: ON\n",
        "status: off",
        "Success",
        "",
        "off",
        "Status: \n",
    ];
    prop_oneof![
        6 => (-1_i32..4, proptest::sample::select(words.to_vec())).prop_map(|(c, o)| exit(c, o)),
        1 => (any::<i32>(), "(?s).{0,20}").prop_map(|(c, o)| exit(c, &o)),
        1 => Just(AgentEnd::TimedOut),
        1 => Just(AgentEnd::Crashed { signal: 6 }),
        1 => Just(not_started()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn off_only_after_an_off_was_launched_and_off_was_read(
        script in proptest::collection::vec((0_u64..4000, ends()), 0..60),
        limit_ms in 1_u64..30_000,
    ) {
        let mut device = device("fence_ipmilan");
        device.limit_ms = limit_ms;
        let begun = Duration::from_secs(7);
        let deadline = begun + Duration::from_millis(limit_ms);
        let mut run = DeviceRun::new(&device, "h1", begun, Duration::MAX);
        let mut script = script.into_iter();
        let (mut now, mut cut, mut seen, mut silent, mut calls) = (begun, 0, false, false, 0);
        let outcome = loop {
            match run.poll(now) {
                Action::Run { verb, until, .. } => {
                    prop_assert!(now < until && until <= deadline);
                    calls += 1;
                    cut += u32::from(verb == Verb::Off);
                    let (millis, end) = script.next().unwrap_or((9999, AgentEnd::TimedOut));
                    now = until.min(now + Duration::from_millis(millis));
                    let reads_off = matches!(&end, AgentEnd::Exited { code: 2, output }
                        if output.trim().eq_ignore_ascii_case("status: off"));
                    seen |= verb == Verb::Status && cut > 0 && reads_off;
                    silent |= verb == Verb::Off
                        && matches!(end, AgentEnd::TimedOut | AgentEnd::Crashed { .. });
                    run.ended(now, &end);
                }
                Action::WaitUntil(at) => {
                    prop_assert!(at > now && at <= deadline);
                    now = at;
                }
                Action::Done(outcome) => break outcome,
            }
        };
        prop_assert!(now <= deadline);
        prop_assert!(cut <= OFF_TRIES && calls <= 60);
        prop_assert_eq!(outcome == Outcome::Off, seen);
        match outcome {
            Outcome::Failed(_) => prop_assert!(cut > 0 && !silent),
            Outcome::CannotDo(_) => prop_assert!(!silent),
            Outcome::Passed => prop_assert!(false, "a power device proves or fails"),
            Outcome::Off | Outcome::Unknown(_) => {}
        }
    }
}

#[cfg(feature = "mutants")]
#[test]
fn the_planted_bug_takes_a_time_out_for_success_and_only_while_planted() {
    use crate::mutants::plant;
    let ends = [on(), AgentEnd::TimedOut];
    plant(Some("timeout-as-success"));
    assert_eq!(play("fence_ipmilan", &ends).1, Outcome::Off);
    let elsewhere = std::thread::spawn(|| planted("timeout-as-success")).join();
    assert!(!elsewhere.expect("thread"), "planted in one thread only");
    plant(None);
    assert!(matches!(
        play("fence_ipmilan", &[on(), AgentEnd::TimedOut]).1,
        Outcome::Unknown(_)
    ));
}

#[test]
fn a_device_that_lets_nobody_in_is_asked_again_until_the_last_quarter() {
    let away = || AgentEnd::NotLetIn { code: 1 };
    // Turned away far more than twice, and then let in.
    let mut ends = vec![on()];
    ends.extend(std::iter::repeat_with(away).take(6));
    ends.extend([exit(0, "Success"), off()]);
    let (asked, outcome) = play("fence_apc", &ends);
    assert_eq!(outcome, Outcome::Off);
    let told = asked.iter().filter(|v| **v == Verb::Off).count();
    assert_eq!(told, 7);
    // For ever: it has failed when no off may begin any more, and was read on.
    let mut run = run("fence_apc");
    let mut now = Duration::ZERO;
    let outcome = loop {
        match run.poll(now) {
            Action::Run { verb, .. } => {
                now += Duration::from_millis(500);
                let end = if verb == Verb::Off { away() } else { on() };
                run.ended(now, &end);
            }
            Action::WaitUntil(at) => now = at,
            Action::Done(outcome) => break outcome,
        }
    };
    assert!(now > LIMIT * 3 / 4 && now <= LIMIT, "{now:?}");
    assert!(
        matches!(&outcome, Outcome::Failed(why) if why.starts_with("still on")),
        "{outcome:?}"
    );
}

#[test]
fn words_of_agents_tell_who_was_not_let_in() {
    for (code, errors) in [
        (1, "Failed: Unable to connect/login to fencing device"),
        (1, "ERROR: Another session is active"),
        (1, "503 Service Unavailable"),
        (1, "login incorrect"),
    ] {
        let end = AgentEnd::exited(code, String::new(), errors);
        assert_eq!(end, AgentEnd::NotLetIn { code }, "{errors}");
    }
    assert_eq!(AgentEnd::exited(1, String::new(), "plug 9?"), exit(1, ""));
    let said = "Status: OFF\n".to_owned();
    assert_eq!(AgentEnd::exited(2, said, "1 session"), off());
    assert_eq!(AgentEnd::exited(0, String::new(), "busy"), exit(0, ""));
}
