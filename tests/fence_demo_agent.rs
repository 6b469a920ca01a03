//! The shipped demo agent speaks the protocol, and our side of the protocol understands it.
//!
//! The switch is played by the test itself: it waits for the command file and writes the state.

use quorate_fencing::agent::request;
use quorate_fencing::{Action, AgentEnd, Device, DeviceRun, Outcome, ProofClass, Reading, Verb};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a test waits for an event that must come. Far beyond what any takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn agent() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/fence_quorate_demo")
}

/// A switch directory, or `None` and a word if the agent cannot run here.
fn switch(state: Option<&str>) -> Option<TempDir> {
    let python = Command::new("python3").arg("--version").output();
    if !python.is_ok_and(|output| output.status.success()) {
        println!("skipped: python3 is not installed");
        return None;
    }
    let folder = TempDir::new().expect("temporary directory");
    if let Some(state) = state {
        fs::write(folder.path().join("h1.state"), state).expect("state");
    }
    Some(folder)
}

fn device(switch: &Path, more: &[(&str, &str)]) -> Device {
    let mut parameters = BTreeMap::from([(
        "switch".to_owned(),
        switch.to_str().expect("path in UTF-8").to_owned(),
    )]);
    parameters.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    Device {
        name: "demo".to_owned(),
        agent: agent().to_str().expect("path in UTF-8").to_owned(),
        parameters,
        class: None,
        limit_ms: 20_000,
    }
}

fn start(stdin: &str) -> Child {
    let mut child = Command::new(agent())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the agent starts");
    let mut pipe = child.stdin.take().expect("pipe");
    pipe.write_all(stdin.as_bytes()).expect("the agent reads");
    child
}

fn call(switch: &Path, verb: Verb, more: &[(&str, &str)]) -> Child {
    start(
        &request(&device(switch, more), "h1", verb)
            .expect("good parameters")
            .stdin,
    )
}

fn end(child: Child) -> (AgentEnd, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().expect("the agent ends");
    let output = String::from_utf8(stdout).expect("words");
    let end = AgentEnd::Exited {
        code: status.code().expect("exit code"),
        output,
    };
    (end, String::from_utf8_lossy(&stderr).into_owned())
}

fn code(end: &AgentEnd) -> i32 {
    match end {
        AgentEnd::Exited { code, .. } => *code,
        other => panic!("{other:?}"),
    }
}

/// Waits for a command at the switch and says it.
fn await_command(switch: &Path, child: &mut Child) -> String {
    let path = switch.join("h1.cmd");
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Ok(words) = fs::read_to_string(&path) {
            return words.trim().to_owned();
        }
        assert!(
            child.try_wait().expect("child").is_none(),
            "the agent ended without a command"
        );
        assert!(Instant::now() < give_up, "no command came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What the switch does with a command.
fn carry_out(switch: &Path, state: &str) {
    let fresh = switch.join("h1.state.new");
    fs::write(&fresh, state).expect("state");
    fs::rename(fresh, switch.join("h1.state")).expect("state");
    fs::remove_file(switch.join("h1.cmd")).expect("command");
}

#[test]
fn status_reads_what_the_switch_says() {
    for (state, expected) in [
        ("on", Reading::On),
        ("off\n", Reading::Off),
        ("maybe", Reading::Unknown),
    ] {
        let Some(switch) = switch(Some(state)) else {
            return;
        };
        let (end, _) = end(call(switch.path(), Verb::Status, &[]));
        assert_eq!(Reading::of(&end), expected, "{state}: {end:?}");
    }
    let Some(switch) = switch(None) else { return };
    let (end, words) = end(call(switch.path(), Verb::Status, &[]));
    assert_eq!((code(&end), Reading::of(&end)), (1, Reading::Unknown));
    assert!(words.contains("plug"), "{words}");
}

#[test]
fn off_and_on_order_the_switch_and_wait_for_the_state() {
    let Some(switch) = switch(Some("on")) else {
        return;
    };
    for (verb, state) in [(Verb::Off, "off"), (Verb::On, "on")] {
        let mut child = call(switch.path(), verb, &[]);
        assert_eq!(await_command(switch.path(), &mut child), state);
        assert!(
            child.try_wait().expect("child").is_none(),
            "done before the state followed"
        );
        carry_out(switch.path(), state);
        let (end, words) = end(child);
        assert_eq!(code(&end), 0, "{words}");
    }
}

#[test]
fn off_when_already_off_is_success_and_orders_nothing() {
    let Some(switch) = switch(Some("off")) else {
        return;
    };
    let (end, _) = end(call(switch.path(), Verb::Off, &[]));
    assert_eq!(code(&end), 0);
    assert!(!switch.path().join("h1.cmd").exists());
}

#[test]
fn an_order_given_up_is_taken_back() {
    let Some(switch) = switch(Some("on")) else {
        return;
    };
    // The switch process is away: nobody carries anything out.
    let (gave_up, words) = end(call(switch.path(), Verb::Off, &[("power_timeout", "0.2")]));
    assert_eq!(code(&gave_up), 1);
    assert!(words.contains("power OFF"), "{words}");
    assert!(
        !switch.path().join("h1.cmd").exists(),
        "a late cut would hit a healthy host"
    );
    // The device breaks while the agent waits.
    let mut child = call(switch.path(), Verb::Off, &[]);
    await_command(switch.path(), &mut child);
    fs::write(switch.path().join("broken-h1"), "").expect("break it");
    let (lost, _) = end(child);
    assert_eq!(code(&lost), 1);
    assert!(!switch.path().join("h1.cmd").exists());
}

#[test]
fn a_broken_device_fails_at_everything() {
    let Some(switch) = switch(Some("off")) else {
        return;
    };
    fs::write(switch.path().join("broken-h1"), "").expect("break it");
    let children = [Verb::Off, Verb::On, Verb::Status, Verb::Monitor]
        .map(|verb| (verb, call(switch.path(), verb, &[("login_timeout", "0.1")])));
    for (verb, child) in children {
        let (end, words) = end(child);
        assert_eq!(code(&end), 1, "{verb}");
        assert!(words.contains("connect"), "{verb}: {words}");
    }
}

#[test]
fn the_plug_is_named_by_plug_or_port_and_never_leads_out_of_the_switch() {
    let Some(switch) = switch(None) else { return };
    fs::write(switch.path().join("p7.state"), "off").expect("state");
    for name in ["plug", "port"] {
        let (end, words) = end(call(switch.path(), Verb::Status, &[(name, "p7")]));
        assert_eq!(Reading::of(&end), Reading::Off, "{name}: {words}");
    }
    for wait in ["soon", "-1", "nan", "inf"] {
        let (end, _) = end(call(switch.path(), Verb::Off, &[("power_timeout", wait)]));
        assert_eq!(code(&end), 1, "{wait}");
    }
    for plug in ["../h1", "/etc/h1", ".hidden", "a b"] {
        let (end, _) = end(call(switch.path(), Verb::Off, &[("plug", plug)]));
        assert_eq!(code(&end), 1, "{plug}");
    }
}

#[test]
fn other_verbs_answer_and_unknown_ones_are_refused() {
    let Some(switch) = switch(Some("on")) else {
        return;
    };
    let path = switch.path().to_str().expect("path in UTF-8");
    let ask = |action: &str| {
        let stdin = format!("# a comment\n\nunknown=1\nswitch={path}\nplug=h1\n{action}");
        let (end, words) = end(start(&stdin));
        let AgentEnd::Exited { code, output } = end else {
            panic!("{end:?}")
        };
        (code, output, words)
    };
    assert_eq!(ask("action=monitor\n").0, 0);
    assert_eq!(ask("action=validate-all\n").0, 0);
    assert_eq!(ask("action=list\n").1, "h1,\n");
    assert_eq!(
        ask("action=STATUS\n").1,
        "Status: ON\n",
        "verbs in any case"
    );
    assert_eq!(
        ask("action=off\naction=status\n").1,
        "Status: ON\n",
        "the last one wins"
    );
    for refused in ["action=reboot\n", "action=\n", ""] {
        let (code, _, words) = ask(refused);
        assert_eq!(code, 1, "{refused:?}");
        assert!(words.contains("Unrecognised action"), "{words}");
    }
}

#[test]
fn metadata_is_well_formed_and_names_what_the_agent_does() {
    let Some(_switch) = switch(None) else { return };
    let (end, _) = end(start("action=metadata\n"));
    let AgentEnd::Exited { code: 0, output } = end else {
        panic!("{end:?}")
    };
    // Python's own parser judges the XML; it is there, or the agent would not have run.
    let script = "import sys, xml.etree.ElementTree as t\n\
                  r = t.fromstring(sys.stdin.read())\n\
                  print(r.tag, r.get('name'))\n\
                  print(*[p.get('name') for p in r.iter('parameter')])\n\
                  print(*[a.get('name') for a in r.iter('action')])\n";
    let mut parser = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    parser
        .stdin
        .take()
        .expect("pipe")
        .write_all(output.as_bytes())
        .expect("XML is read");
    let parsed = parser.wait_with_output().expect("parser");
    assert!(parsed.status.success(), "not well-formed:\n{output}");
    assert_eq!(
        String::from_utf8_lossy(&parsed.stdout),
        "resource-agent fence_quorate_demo\naction switch plug port login_timeout power_timeout\n\
         on off status monitor list metadata validate-all\n"
    );
}

/// Runs the device as a driver would, playing the switch beside it. Time is the test's own: it
/// moves only over the pauses the run asks for.
fn fence(device: &Device, switch: &Path) -> (Outcome, String) {
    let mut now = Duration::ZERO;
    let mut run = DeviceRun::new(device, "h1", now, Duration::MAX);
    assert_eq!(run.class(), Some(ProofClass::Power));
    loop {
        match run.poll(now) {
            Action::Run { verb, call, .. } => {
                let mut child = start(&call.stdin);
                if verb == Verb::Off && !switch.join("broken-h1").exists() {
                    assert_eq!(await_command(switch, &mut child), "off");
                    carry_out(switch, "off");
                }
                run.ended(now, &end(child).0);
            }
            Action::WaitUntil(at) => now = at,
            Action::Done(outcome) => return (outcome, run.history()),
        }
    }
}

#[test]
fn a_fence_from_status_to_proof() {
    let Some(switch) = switch(Some("on")) else {
        return;
    };
    let (outcome, history) = fence(&device(switch.path(), &[]), switch.path());
    assert_eq!(outcome, Outcome::Off, "{history}");
    assert_eq!(history, "status: on; off: exit 0; status: off");
}

#[test]
fn a_broken_device_proves_nothing_even_if_the_host_is_off() {
    let Some(switch) = switch(Some("off")) else {
        return;
    };
    fs::write(switch.path().join("broken-h1"), "").expect("break it");
    let (outcome, history) = fence(&device(switch.path(), &[]), switch.path());
    assert!(
        matches!(outcome, Outcome::Failed(_)),
        "{outcome:?}: {history}"
    );
}
