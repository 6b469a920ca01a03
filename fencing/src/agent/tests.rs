use super::*;
use crate::class::ProofClass;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn device(parameters: &[(&str, &str)]) -> Device {
    Device {
        name: "ipmi".to_owned(),
        agent: "fence_ipmilan".to_owned(),
        parameters: parameters
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        class: Some(ProofClass::Power),
        limit_ms: 20_000,
    }
}

fn exited(code: i32, output: &str) -> AgentEnd {
    AgentEnd::Exited {
        code,
        output: output.to_owned(),
    }
}

#[test]
fn a_call_holds_the_parameters_then_the_host_and_the_verb() {
    let device = device(&[("ip", "10.0.0.7"), ("password", "a=b#c"), ("port", "3")]);
    let call = request(&device, "h1", Verb::Off).expect("good parameters");
    assert_eq!(call.agent, "fence_ipmilan");
    assert_eq!(
        call.stdin,
        "ip=10.0.0.7\npassword=a=b#c\nport=3\nnodename=h1\naction=off\n"
    );
}

#[test]
fn passwords_do_not_show_in_debug_output() {
    let call = request(&device(&[("password", "secret")]), "h1", Verb::Status).expect("call");
    assert!(!format!("{call:?}").contains("secret"));
}

#[test]
fn nothing_can_be_injected() {
    let refused = [
        ("password", "x\naction=on"),
        ("password", "x\r"),
        ("password", "x\0"),
        ("ip\naction", "on"),
        ("action=on\nip", "1"),
        ("#ip", "1"),
        ("", "1"),
        ("action", "on"),
        ("Action", "on"),
        ("option", "on"),
        ("nodename", ""),
        ("method", "cycle"),
        ("missing_as_off", "1"),
        ("missing-as-off", "1"),
        ("plug", ""),
        ("pcmk_host_map", "h1:2"),
        ("password", " x"),
    ];
    for (name, value) in refused {
        for verb in [Verb::Off, Verb::Status] {
            assert!(
                request(&device(&[(name, value)]), "h1", verb).is_err(),
                "{name:?}={value:?}"
            );
        }
    }
    for target in ["", "h1\naction=on", "h1\r", " h1"] {
        assert!(
            request(&device(&[]), target, Verb::Off).is_err(),
            "{target:?}"
        );
    }
    assert!(request(&device(&[("method", "onoff")]), "h1", Verb::Off).is_ok());
}

#[test]
fn a_refused_value_is_not_shown() {
    let error = parameter("password", "secret\n").expect_err("line end");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn off_needs_both_the_exit_code_and_the_word() {
    let read = |code, output| Reading::of(&exited(code, output));
    assert_eq!(read(2, "Status: OFF\n"), Reading::Off);
    assert_eq!(read(2, "some warning\nstatus : off\r\n"), Reading::Off);
    assert_eq!(read(0, "Status: ON\n"), Reading::On);
    assert_eq!(read(0, ""), Reading::On);
    // What a shell says to a syntax error, and Python to a script it cannot open.
    assert_eq!(read(2, ""), Reading::Unknown);
    assert_eq!(read(2, "Status: ON\n"), Reading::Unknown);
    assert_eq!(read(0, "Status: OFF\n"), Reading::Unknown);
    assert_eq!(read(2, "Status: OFF\nStatus: ON\n"), Reading::Unknown);
    assert_eq!(read(2, "Status: OFF\nStatus: UNKNOWN\n"), Reading::Unknown);
    assert_eq!(read(2, "Status: POWER OFF PENDING\n"), Reading::Unknown);
    assert_eq!(read(1, "Status: OFF\n"), Reading::Unknown);
    for end in [
        AgentEnd::TimedOut,
        AgentEnd::Crashed { signal: 9 },
        AgentEnd::NotStarted {
            why: "no such file".to_owned(),
        },
    ] {
        assert_eq!(Reading::of(&end), Reading::Unknown);
    }
}

/// How an agent reads its input: the last line of a name wins, split at the first `=`.
fn as_read(stdin: &str) -> BTreeMap<String, String> {
    let pairs = stdin
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| l.split_once('='));
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

proptest! {
    #[test]
    fn what_is_accepted_reaches_the_agent_unchanged(
        parameters in proptest::collection::btree_map("[a-z_#=\n -]{0,8}", ".{0,12}", 0..5),
        target in "[a-z\n= ]{0,6}",
    ) {
        let device = Device { parameters: parameters.clone(), ..device(&[]) };
        if let Ok(call) = request(&device, &target, Verb::Off) {
            let mut expected = parameters;
            expected.insert("nodename".to_owned(), target);
            expected.insert("action".to_owned(), "off".to_owned());
            prop_assert_eq!(as_read(&call.stdin), expected);
        }
    }

    #[test]
    fn no_output_makes_another_exit_code_off(code: i32, output in "(?s).{0,40}") {
        if Reading::of(&exited(code, &output)) == Reading::Off {
            prop_assert_eq!(code, 2);
            prop_assert!(output.to_ascii_lowercase().contains("off"));
        }
    }
}
