//! Fence agents as real processes.

mod guardian_support;

use guardian_support::*;
use quorate::agents::{AgentEnding, AgentExit, Agents, OUTPUT_MAX, run_level};
use quorate::guardian::processes::Process;
use quorate_fencing::{Device, ProofClass};
use quorate_membership::entry::AttemptEnd;
use quorate_membership::{NodeId, Time, Token};
use quorate_recovery::contract::{Fact, FenceLaunch};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

fn agents(dir: &Path) -> Agents {
    Agents {
        program: PROGRAM.into(),
        dirs: vec![dir.to_path_buf()],
    }
}

/// Writes an agent that does this.
fn agent(lab: &Lab, name: &str, script: &str) -> Agents {
    let path = lab.file(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made executable");
    agents(path.parent().expect("a directory"))
}

async fn run(agents: &Agents, stdin: &str, limit_ms: u64) -> AgentExit {
    let exit = agents.run_agent("fence_x", stdin, Time::NEVER, soon(limit_ms));
    tokio::time::timeout(PATIENCE, exit).await.expect("in time")
}

#[tokio::test]
async fn an_agent_reads_all_of_its_input_and_its_end_and_words_come_back() {
    let lab = Lab::new();
    let agents = agent(
        &lab,
        "fence_x",
        "cat; echo trouble >&2; echo args=$#; exit 2",
    );
    let exit = run(&agents, "plug=1\naction=off\n", 30_000).await;
    assert_eq!(exit.ending, AgentEnding::Code(2));
    assert_eq!(exit.stdout, "plug=1\naction=off\nargs=0\n");
    assert_eq!(exit.stderr, "trouble\n");
}

#[tokio::test]
async fn an_agent_that_reads_nothing_is_no_error() {
    let lab = Lab::new();
    let agents = agent(&lab, "fence_x", "exit 0");
    let exit = run(&agents, &"x=1\n".repeat(50_000), 30_000).await;
    assert_eq!(exit.ending, AgentEnding::Code(0));
}

#[tokio::test]
async fn output_is_bounded_and_the_rest_is_still_read() {
    let lab = Lab::new();
    let agents = agent(
        &lab,
        "fence_x",
        "head -c 1000000 /dev/zero; head -c 300000 /dev/urandom >&2; exit 0",
    );
    let exit = run(&agents, "", 30_000).await;
    assert_eq!(exit.ending, AgentEnding::Code(0));
    assert_eq!(exit.stdout.len(), OUTPUT_MAX);
    assert!(exit.stderr.len() <= OUTPUT_MAX && exit.stderr.len() > OUTPUT_MAX / 2);
}

#[tokio::test]
async fn at_its_limit_an_agent_ends_with_everything_it_started() {
    let lab = Lab::new();
    let [child, away] = ["child", "away"].map(|n| lab.file(n));
    let script = format!(
        "sh -c 'echo $$ > {0}; while :; do sleep 1; done' & \
         (setsid env -i /bin/sh -c 'echo $$ > {1}; while :; do sleep 1; done' &) ; \
         trap '' TERM; while :; do sleep 1; done",
        child.display(),
        away.display()
    );
    let agents = agent(&lab, "fence_x", &script);
    let exit = run(&agents, "", 1500).await;
    assert_eq!(exit.ending, AgentEnding::Timeout);
    for file in [child, away] {
        let left = Process::look(pid_in(&file));
        assert!(left.is_none_or(|p| p.gone()), "{}", file.display());
    }
}

/// The process id a script wrote before it was ended.
fn pid_in(file: &Path) -> i32 {
    let text = fs::read_to_string(file).expect("it got that far");
    text.trim().parse().expect("a process id")
}

#[tokio::test]
async fn what_an_agent_leaves_behind_ends_with_it() {
    let lab = Lab::new();
    let file = lab.file("left");
    let script = format!(
        "setsid sh -c 'echo $$ > {0}; while :; do sleep 1; done' & \
         while [ ! -s {0} ]; do sleep 0.01; done; echo done; exit 0",
        file.display()
    );
    let agents = agent(&lab, "fence_x", &script);
    let exit = run(&agents, "", 30_000).await;
    assert_eq!(
        (exit.ending, exit.stdout.as_str()),
        (AgentEnding::Code(0), "done\n")
    );
    let left = Process::look(pid_in(&file));
    assert!(left.is_none_or(|p| p.gone()));
}

#[tokio::test]
async fn a_late_or_missing_agent_is_not_started() {
    let lab = Lab::new();
    let mark = lab.file("mark");
    let agents = agent(&lab, "fence_x", &format!("touch {}", mark.display()));
    let exit = agents.run_agent("fence_x", "", Time(1), soon(10_000)).await;
    assert_eq!(exit.ending, AgentEnding::NotStarted("too late".into()));
    let exit = agents
        .run_agent("fence_y", "", Time::NEVER, soon(10_000))
        .await;
    let AgentEnding::NotStarted(why) = exit.ending else {
        panic!("{exit:?}");
    };
    let dir = mark.parent().expect("a directory").display().to_string();
    assert!(why.contains("fence_y") && why.contains(&dir), "{why}");
    assert!(!mark.exists());
}

#[tokio::test]
async fn an_agent_ended_by_a_signal_says_so() {
    let lab = Lab::new();
    let agents = agent(&lab, "fence_x", "kill -USR1 $$");
    assert_eq!(
        run(&agents, "", 30_000).await.ending,
        AgentEnding::Signal(10)
    );
}

#[tokio::test]
async fn an_agent_nobody_waits_for_is_ended() {
    let lab = Lab::new();
    let file = lab.file("pid");
    let script = format!("echo $$ > {}; while :; do sleep 1; done", file.display());
    let agents = agent(&lab, "fence_x", &script);
    let waiting = tokio::spawn(async move { run(&agents, "", 3_600_000).await });
    while fs::read_to_string(&file)
        .unwrap_or_default()
        .trim()
        .is_empty()
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let process = process_in(&file);
    waiting.abort();
    let _ = waiting.await;
    eventually("it is ended", || gone(&process));
}

#[test]
fn plays_a_daemon_that_fences() {
    let Some(run_dir) = playing() else {
        return;
    };
    let dir = run_dir
        .path()
        .parent()
        .expect("the test's directory")
        .to_path_buf();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async move {
        run(&agents(&dir), "", 3_600_000).await;
    });
}

#[test]
fn agents_end_with_their_daemon() {
    let lab = Lab::new();
    let [first, child] = ["first", "child"].map(|n| lab.file(n));
    let script = format!(
        "echo $$ > {}; sh -c 'echo $$ > {}; while :; do sleep 1; done'",
        first.display(),
        child.display()
    );
    agent(&lab, "fence_x", &script);
    let mut daemon = play("plays_a_daemon_that_fences", lab.run.path());
    let processes = [process_in(&first), process_in(&child)];
    daemon.0.kill().expect("ended by SIGKILL");
    for process in processes {
        eventually("agent and child are ended", || gone(&process));
    }
}

fn launch(limit_ms: u64, not_after: Time) -> FenceLaunch {
    FenceLaunch {
        attempt: Token(5),
        host: NodeId(2),
        name: "host-b".into(),
        devices: vec![Device {
            name: "bmc-b".into(),
            agent: "fence_x".into(),
            parameters: [("plug".to_owned(), "7".to_owned())].into(),
            class: Some(ProofClass::Power),
            limit_ms,
        }],
        not_after,
        limit: Duration::from_millis(limit_ms),
    }
}

async fn fence(agents: &Agents, launch: FenceLaunch) -> (AttemptEnd, String) {
    let done = tokio::time::timeout(PATIENCE, run_level(agents, launch)).await;
    match done.expect("in time") {
        Fact::FenceDone {
            attempt,
            end,
            detail,
        } => {
            assert_eq!(attempt, Token(5));
            (end, detail)
        }
        other => panic!("{other:?}"),
    }
}

/// A power switch whose state is a file; `off` does what `$OFF` says.
fn switch(lab: &Lab, off: &str) -> Agents {
    let state = lab.file("off");
    let script = format!(
        "while IFS='=' read -r k v; do case $k in action) a=$v;; nodename) n=$v;; plug) p=$v;; esac; done
         [ \"$n$p\" = host-b7 ] || exit 1
         case $a in
         status) if [ -e {0} ]; then echo Status: OFF; exit 2; fi; echo Status: ON; exit 0;;
         off) {off};;
         esac",
        state.display()
    );
    agent(lab, "fence_x", &script)
}

#[tokio::test]
async fn a_level_is_off_when_off_was_observed() {
    let lab = Lab::new();
    let agents = switch(
        &lab,
        &format!("touch {}; exit 0", lab.file("off").display()),
    );
    let (end, detail) = fence(&agents, launch(20_000, soon(20_000))).await;
    assert_eq!(end, AttemptEnd::Off, "{detail}");
    assert!(detail.contains("status: off"), "{detail}");
}

#[tokio::test]
async fn success_without_an_observed_off_state_proves_nothing() {
    let lab = Lab::new();
    let agents = switch(&lab, "echo Success; exit 0");
    let (end, detail) = fence(&agents, launch(2500, soon(20_000))).await;
    assert!(
        matches!(end, AttemptEnd::Failed | AttemptEnd::Unknown),
        "{detail}"
    );
}

#[tokio::test]
async fn an_off_without_answer_is_unknown() {
    let lab = Lab::new();
    let agents = switch(&lab, "sleep 1000");
    let (end, detail) = fence(&agents, launch(2500, soon(20_000))).await;
    assert_eq!(end, AttemptEnd::Unknown, "{detail}");
}

#[tokio::test]
async fn a_level_that_is_too_late_or_has_no_agent_was_never_launched() {
    let lab = Lab::new();
    let agents = switch(
        &lab,
        &format!("touch {}; exit 0", lab.file("off").display()),
    );
    let (end, _) = fence(&agents, launch(20_000, Time(1))).await;
    assert_eq!(end, AttemptEnd::NotLaunched);
    fs::remove_file(lab.file("fence_x")).expect("removed");
    let (end, detail) = fence(&agents, launch(20_000, soon(20_000))).await;
    assert_eq!(end, AttemptEnd::NotLaunched, "{detail}");
    assert!(detail.contains("not found in"), "{detail}");
    assert!(!lab.file("off").exists());
}
