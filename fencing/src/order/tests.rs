use super::*;
use crate::class::Device;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn device(name: &str, agent: &str, limit_ms: u64) -> Device {
    Device {
        name: name.to_owned(),
        agent: agent.to_owned(),
        parameters: BTreeMap::new(),
        class: None,
        limit_ms,
    }
}

fn level(agents: &[&str]) -> Level {
    let one = |(i, agent): (usize, &&str)| device(&format!("d{i}"), agent, 10_000);
    Level {
        devices: agents.iter().enumerate().map(one).collect(),
    }
}

#[test]
fn a_level_that_cannot_prove_is_not_begun() {
    for agents in [&["fence_sbd"][..], &["fence_ipmilan", "fence_dummy"], &[]] {
        let mut run = LevelRun::new(&level(agents), "h1", Duration::ZERO, Duration::from_secs(9));
        let action = run.poll(Duration::ZERO);
        assert!(
            matches!(action, LevelAction::Done(Outcome::CannotDo(_))),
            "{action:?}"
        );
        assert_eq!(run.class(), None);
    }
}

#[test]
fn the_worst_word_of_the_devices_stands() {
    use AgentEnd::{Exited, NotStarted, TimedOut};
    let exit = |code, output: &str| Exited {
        code,
        output: output.to_owned(),
    };
    // The end of everything asked of the second device; the first is cut without trouble.
    let outcome_with = |end: AgentEnd| {
        let level = level(&["fence_apc", "fence_sbd"]);
        let mut run = LevelRun::new(&level, "h1", Duration::ZERO, level.limit());
        let mut now = Duration::ZERO;
        let mut asked = 0;
        loop {
            match run.poll(now) {
                LevelAction::Run {
                    device: 0,
                    verb: Verb::Status,
                    ..
                } => {
                    asked += 1;
                    let end = if asked == 1 {
                        exit(0, "Status: ON")
                    } else {
                        exit(2, "Status: OFF")
                    };
                    run.ended(0, now, &end);
                }
                LevelAction::Run { device: 0, .. } => run.ended(0, now, &exit(0, "")),
                LevelAction::Run { .. } => run.ended(1, now, &end),
                LevelAction::WaitUntil(at) => now = at,
                LevelAction::Done(outcome) => return outcome,
            }
        }
    };
    assert_eq!(outcome_with(exit(0, "")), Outcome::Off);
    assert_eq!(
        outcome_with(exit(1, "")),
        Outcome::Failed("d1: off: exit 1".to_owned())
    );
    assert_eq!(
        outcome_with(TimedOut),
        Outcome::Unknown("d1: off: timed out".to_owned())
    );
    let missing = NotStarted {
        why: "no file".to_owned(),
    };
    let expected = Outcome::CannotDo("d1: off: not started: no file".to_owned());
    assert_eq!(outcome_with(missing), expected);
}

fn ended(level: usize, seconds: u64) -> Tried {
    Tried {
        level,
        ended: Some(Duration::from_secs(seconds)),
    }
}

#[test]
fn levels_follow_one_another_then_rounds_with_growing_delay() {
    let levels = [level(&["fence_ipmilan"]), level(&["fence_apc"])];
    assert_eq!(
        next_level(&levels, &[]),
        Next::Launch { level: 0, round: 0 }
    );
    assert_eq!(
        next_level(&levels, &[ended(0, 0)]),
        Next::Launch { level: 1, round: 0 }
    );
    let round = [ended(0, 20), ended(1, 1)];
    assert_eq!(
        next_level(&levels, &round),
        Next::RetryIn(Duration::from_secs(4))
    );
    let round = [ended(0, 23), ended(1, 4)];
    assert_eq!(
        next_level(&levels, &round),
        Next::RetryIn(Duration::from_secs(1))
    );
    let round = [ended(0, 24), ended(1, 5)];
    assert_eq!(
        next_level(&levels, &round),
        Next::Launch { level: 0, round: 1 }
    );
    let second = [ended(0, 24), ended(1, 5), ended(0, 0)];
    assert_eq!(
        next_level(&levels, &second),
        Next::Launch { level: 1, round: 1 }
    );
    let second = [ended(0, 24), ended(1, 5), ended(0, 1), ended(1, 0)];
    assert_eq!(
        next_level(&levels, &second),
        Next::RetryIn(Duration::from_secs(10))
    );
}

#[test]
fn the_delay_stops_growing() {
    let tried = vec![ended(0, 0); 40];
    let next = next_level(&[level(&["fence_apc"])], &tried);
    assert_eq!(next, Next::RetryIn(RETRY_MAX));
}

#[test]
fn nothing_is_launched_beside_a_running_attempt() {
    let running = [
        ended(0, 5),
        Tried {
            level: 1,
            ended: None,
        },
    ];
    let levels = [level(&["fence_ipmilan"]), level(&["fence_apc"])];
    assert_eq!(next_level(&levels, &running), Next::Running);
    assert_eq!(next_level(&[], &running), Next::Running);
}

#[test]
fn levels_that_prove_nothing_are_passed_over() {
    let levels = [
        level(&["fence_sbd"]),
        level(&["fence_apc"]),
        level(&["fence_dummy"]),
    ];
    assert_eq!(
        next_level(&levels, &[]),
        Next::Launch { level: 1, round: 0 }
    );
    assert!(matches!(
        next_level(&levels, &[ended(1, 0)]),
        Next::RetryIn(_)
    ));
    assert_eq!(next_level(&levels[..1], &[]), Next::LeaseOnly);
    assert_eq!(next_level(&[], &[]), Next::LeaseOnly);
}

#[test]
fn an_attempt_on_a_level_that_is_gone_is_not_counted() {
    let tried = [ended(7, 100)];
    let levels = [level(&["fence_apc"])];
    assert_eq!(
        next_level(&levels, &tried),
        Next::Launch { level: 0, round: 0 }
    );
}

const AGENTS: [&str; 6] = [
    "fence_ipmilan",
    "fence_apc",
    "fence_kdump",
    "fence_sbd",
    "fence_heuristics_ping",
    "fence_dummy",
];

fn ends() -> impl Strategy<Value = AgentEnd> {
    let exit = |code, output: &str| AgentEnd::Exited {
        code,
        output: output.to_owned(),
    };
    prop_oneof![
        5 => Just(exit(0, "")),
        5 => Just(exit(2, "Status: OFF\n")),
        2 => Just(exit(0, "Status: ON\n")),
        1 => Just(exit(1, "")),
        1 => Just(exit(2, "")),
        1 => Just(AgentEnd::TimedOut),
        1 => Just(AgentEnd::Crashed { signal: 9 }),
        1 => Just(AgentEnd::NotStarted { why: "x".to_owned() }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn off_only_if_every_device_succeeded_and_no_veto_spoke(
        agents in proptest::collection::vec(proptest::sample::select(AGENTS.to_vec()), 1..5),
        script in proptest::collection::vec((0_u64..3000, ends()), 0..60),
        picks in proptest::collection::vec(0_usize..8, 60),
        limit_ms in 1_u64..25_000,
    ) {
        let level = level(&agents);
        let limit = Duration::from_millis(limit_ms);
        let mut run = LevelRun::new(&level, "h1", Duration::ZERO, limit);
        // Per device: whether an off was launched, and whether its word came to success.
        let mut cut: BTreeSet<usize> = BTreeSet::new();
        let mut good: BTreeSet<usize> = BTreeSet::new();
        let mut running: Vec<(usize, Verb, Duration)> = Vec::new();
        let (mut now, mut script, mut picks) = (Duration::ZERO, script.into_iter(), picks.into_iter());
        let outcome = loop {
            match run.poll(now) {
                LevelAction::Run { device, verb, until, .. } => {
                    prop_assert!(running.iter().all(|(d, ..)| *d != device), "two at once");
                    prop_assert!(until > now && until <= limit);
                    let is_veto = agents[device] == "fence_heuristics_ping";
                    if verb == Verb::Off {
                        cut.insert(device);
                    }
                    // Nothing acts before every veto consented.
                    let vetoes = (0..agents.len()).filter(|&d| agents[d] == "fence_heuristics_ping");
                    for veto in vetoes {
                        prop_assert!(is_veto || good.contains(&veto));
                    }
                    running.push((device, verb, until));
                }
                LevelAction::WaitUntil(at) => {
                    prop_assert!(at > now && at <= limit);
                    let (millis, end) = script.next().unwrap_or((9999, AgentEnd::TimedOut));
                    let step = now + Duration::from_millis(millis);
                    if running.is_empty() || at < step {
                        now = at;
                    }
                    // Any of the running agents may end first.
                    if !running.is_empty() {
                        let (device, verb, until) =
                            running.swap_remove(picks.next().unwrap_or(0) % running.len());
                        now = now.max(step.min(until));
                        let exit_code = match &end {
                            AgentEnd::Exited { code, .. } => Some(*code),
                            _ => None,
                        };
                        let success = match agents[device] {
                            "fence_ipmilan" | "fence_apc" => {
                                verb == Verb::Status && cut.contains(&device)
                                    && matches!(&end, AgentEnd::Exited { code: 2, output }
                                        if output.contains("OFF"))
                            }
                            _ => verb == Verb::Off && exit_code == Some(0),
                        };
                        if success {
                            good.insert(device);
                        }
                        run.ended(device, now, &end);
                    }
                }
                LevelAction::Done(outcome) => break outcome,
            }
        };
        let proving = ["fence_ipmilan", "fence_apc", "fence_kdump"];
        if outcome == Outcome::Off {
            prop_assert!((0..agents.len()).all(|d| good.contains(&d)), "{:?}", run.history());
            prop_assert!(agents.iter().any(|a| proving.contains(a)));
            prop_assert!(!agents.contains(&"fence_dummy"));
        }
        prop_assert!(outcome != Outcome::Passed);
        // A level that ended without doubt left no agent running.
        if !matches!(outcome, Outcome::Unknown(_)) {
            let acting = running.iter().any(|(d, v, _)| {
                *v == Verb::Off && agents[*d] != "fence_heuristics_ping"
            });
            prop_assert!(!acting, "{outcome:?} with {running:?}");
        }
    }

    #[test]
    fn every_level_gets_its_turn(
        agents in proptest::collection::vec(proptest::sample::select(AGENTS.to_vec()), 0..6),
        steps in 1_usize..30,
    ) {
        let levels: Vec<Level> = agents.iter().map(|a| level(&[a])).collect();
        let usable = levels.iter().filter(|l| l.proves().is_ok()).count();
        let mut tried: Vec<Tried> = Vec::new();
        for step in 0..steps {
            match next_level(&levels, &tried) {
                Next::Launch { level, round } => {
                    prop_assert!(levels[level].proves().is_ok());
                    prop_assert_eq!(round as usize, step / usable);
                    let times = tried.iter().filter(|t| t.level == level).count();
                    prop_assert_eq!(times, step / usable);
                    tried.push(ended(level, 1000));
                }
                next => {
                    prop_assert_eq!(next, Next::LeaseOnly);
                    prop_assert_eq!(usable, 0);
                }
            }
        }
    }
}

/// Plays a level whose devices stand at one box with one session: an agent that comes while another
/// is in is turned away. `returns` is when the first outlet is on again, if it ever is.
fn play_box(agents: &[&str], ip: &[&str], returns: Option<u64>) -> (Outcome, Duration, u32) {
    let mut level = level(agents);
    for (device, ip) in level.devices.iter_mut().zip(ip) {
        device.limit_ms = 20_000;
        device.parameters.insert("ip".to_owned(), (*ip).to_owned());
        let plug = device.name.clone();
        device.parameters.insert("plug".to_owned(), plug);
    }
    let session = Duration::from_secs(3);
    let mut run = LevelRun::new(&level, "h1", Duration::ZERO, level.limit());
    let mut now = Duration::ZERO;
    let mut off: BTreeMap<usize, Duration> = BTreeMap::new();
    let mut inside: BTreeMap<&str, Duration> = BTreeMap::new();
    let mut running: Vec<(Duration, usize, AgentEnd)> = Vec::new();
    let mut turned_away = 0;
    loop {
        match run.poll(now) {
            LevelAction::Run { device, verb, .. } => {
                if inside.get(ip[device]).is_some_and(|until| *until > now) {
                    turned_away += 1;
                    let end = AgentEnd::exited(1, String::new(), "Unable to connect/login");
                    running.push((now + Duration::from_millis(500), device, end));
                    continue;
                }
                inside.insert(ip[device], now + session);
                if verb == Verb::Off {
                    off.insert(device, now);
                }
                let back = returns.map(Duration::from_secs);
                if device == 0 && back.is_some_and(|at| now >= at) {
                    off.remove(&0);
                }
                let (code, words) = match (verb, off.contains_key(&device)) {
                    (Verb::Status, true) => (2, "Status: OFF"),
                    (Verb::Status, false) => (0, "Status: ON"),
                    _ => (0, "Success"),
                };
                let end = AgentEnd::exited(code, words.to_owned(), "");
                running.push((now + session, device, end));
            }
            LevelAction::WaitUntil(at) => {
                running.sort_by_key(|(at, device, _)| (*at, *device));
                match running.first() {
                    Some((end, ..)) if *end <= at => {
                        let (end, device, how) = running.remove(0);
                        now = end;
                        run.ended(device, now, &how);
                    }
                    _ => now = at,
                }
            }
            LevelAction::Done(outcome) => return (outcome, now, turned_away),
        }
    }
}

#[test]
fn outlets_of_one_box_are_switched_one_after_the_other_and_read_once_more() {
    let apc = ["fence_apc", "fence_apc"];
    let (outcome, took, away) = play_box(&apc, &["10.0.0.1", "10.0.0.1"], None);
    assert_eq!((outcome, away), (Outcome::Off, 0));
    // Status, off, status of each, and the first one once more.
    assert_eq!(took, Duration::from_secs(21));
    let (outcome, took, _) = play_box(&apc, &["10.0.0.1", "10.0.0.2"], None);
    assert_eq!((outcome, took), (Outcome::Off, Duration::from_secs(12)));
}

#[test]
fn an_outlet_that_is_on_again_when_the_other_is_off_proves_nothing() {
    let apc = ["fence_apc", "fence_apc"];
    let (outcome, ..) = play_box(&apc, &["10.0.0.1", "10.0.0.1"], Some(12));
    let Outcome::Failed(why) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(why.contains("on again"), "{why}");
}

#[test]
fn the_limit_of_a_level_leaves_time_for_each_device_of_a_box() {
    let mut two = level(&["fence_apc", "fence_apc"]);
    for device in &mut two.devices {
        let ip = ("ip".to_owned(), "10.0.0.1".to_owned());
        device.parameters.extend([ip]);
    }
    assert_eq!(two.limit(), Duration::from_secs(30));
    two.devices[1].parameters.clear();
    assert_eq!(two.limit(), Duration::from_secs(15));
    assert_eq!(level(&["fence_apc"]).limit(), Duration::from_secs(10));
}

#[test]
fn a_level_that_may_not_be_used_is_passed_over() {
    let levels = [level(&["fence_ipmilan"]), level(&["fence_apc"])];
    let second = |place: usize| place == 1;
    let next = next_of(&levels, &[], second);
    assert_eq!(next, Next::Launch { level: 1, round: 0 });
    assert_eq!(next_of(&levels, &[], |_| false), Next::LeaseOnly);
}
