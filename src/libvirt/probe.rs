//! Probes: a program run in the guest through its agent.

use super::agent::{Answer, Turn, command};
use super::driver::{Inner, until};
use super::link::Failure;
use super::registry::Life;
use crate::clock::Clock;
use crate::hypervisor::Gate;
use quorate_membership::Time;
use quorate_recovery::guest::Probe;
use quorate_recovery::observation::Agent;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Between two looks whether a program in the guest has ended.
const STEP: Duration = Duration::from_millis(100);
/// So much of the end of a program's output is read.
const TAIL_MAX: usize = 2048;
/// So much of a line is told.
const LINE_MAX: usize = 200;

/// What came of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ran {
    /// Exit status 0.
    Well,
    /// It ran and ended otherwise, or not in time.
    Badly(String),
    /// It was not run, or what came of it is not known.
    Not(String),
}

impl Inner {
    /// Runs a probe through the agent, within the gate's time.
    pub(super) fn run_probe(
        &self,
        life: Life,
        probe: &Probe,
        gate: &Gate,
    ) -> Result<Result<(), String>, String> {
        let one = self.standing(life)?;
        let lives = Arc::clone(&self.sense.lives);
        lives.with(life, |_| ());
        let turn = loop {
            match Turn::take(&lives, life) {
                Some(turn) => break turn,
                None if Clock.now() + STEP >= gate.give_up() => {
                    return Err("the agent is busy with something else".into());
                }
                None => std::thread::sleep(STEP / 5),
            }
        };
        let (cluster, probe, theirs) = (self.cluster.clone(), probe.clone(), gate.clone());
        let ran = self
            .sense
            .agents
            .call(until(gate.give_up()) + STEP, move |c| {
                // Held for as long as the call lasts, whoever waits for it.
                let turn = turn;
                let talk = |what: &Value| {
                    theirs.pass().map_err(Failure::no)?;
                    let answer = command(c, &cluster, &one, what)?;
                    if matches!(answer, Answer::Said(_)) {
                        turn.0.if_there(one.life, |m| {
                            m.agent.asked = Some(Clock.now());
                            m.agent.heard(Agent::Answered);
                        });
                    }
                    Ok(answer)
                };
                let before = turn.0.if_there(one.life, |m| m.agent.running).flatten();
                let (ran, left) = run(&probe, before, theirs.give_up(), &talk)?;
                turn.0.if_there(one.life, |m| m.agent.running = left);
                Ok(ran)
            });
        let ran = ran.map_err(|f| {
            gate.abandon();
            f.why
        })?;
        match ran {
            Ran::Well => Ok(Ok(())),
            Ran::Badly(how) => Ok(Err(how)),
            Ran::Not(why) => Err(why),
        }
    }
}

/// Runs a program in the guest and waits for its end; gives what came of it and, if it has not
/// ended, its number there. `before` is one that had not ended the last time: while it runs, no
/// other is started beside it.
fn run(
    probe: &Probe,
    before: Option<i64>,
    give_up: Time,
    talk: &dyn Fn(&Value) -> Result<Answer, Failure>,
) -> Result<(Ran, Option<i64>), Failure> {
    if let Some(pid) = before
        && let Answer::Said(status) = talk(&status_of(pid))?
        && status["exited"] == false
    {
        let how = "the run before it has not ended".to_owned();
        return Ok((Ran::Badly(how), Some(pid)));
    }
    let [path, arguments @ ..] = probe.argv.as_slice() else {
        return Ok((Ran::Not("it names no program".into()), None));
    };
    let exec = json!({
        "execute": "guest-exec",
        "arguments": {"path": path, "arg": arguments, "capture-output": true},
    });
    let pid = match talk(&exec)? {
        Answer::Said(value) => value["pid"].as_i64(),
        other => return Ok((Ran::Not(other.words()), None)),
    };
    let Some(pid) = pid else {
        return Ok((
            Ran::Not("the agent did not say what it started".into()),
            None,
        ));
    };
    loop {
        match talk(&status_of(pid))? {
            Answer::Said(status) if status["exited"] == false => {
                if Clock.now() + STEP >= give_up {
                    let how = format!("no end within {} ms", probe.limit_ms);
                    return Ok((Ran::Badly(how), Some(pid)));
                }
                std::thread::sleep(STEP);
            }
            Answer::Said(status) => return Ok((end_of(&status), None)),
            other => return Ok((Ran::Not(other.words()), Some(pid))),
        }
    }
}

fn status_of(pid: i64) -> Value {
    json!({"execute": "guest-exec-status", "arguments": {"pid": pid}})
}

/// How a program ended.
fn end_of(status: &Value) -> Ran {
    let line = ["err-data", "out-data"]
        .into_iter()
        .filter_map(|key| status[key].as_str())
        .find_map(|text| last_line(&tail(text)));
    let with_line = |how: String| match line {
        Some(line) => Ran::Badly(format!("{how}: {line}")),
        None => Ran::Badly(how),
    };
    if let Some(signal) = status["signal"].as_i64() {
        return with_line(format!("ended by signal {signal}"));
    }
    match status["exitcode"].as_i64() {
        Some(0) => Ran::Well,
        Some(code) => with_line(format!("exit status {code}")),
        None => Ran::Not("the agent did not say how it ended".into()),
    }
}

/// The end of what is written in base 64.
fn tail(text: &str) -> Vec<u8> {
    let text = text.trim_end().as_bytes();
    // Four characters are three bytes, so a cut falls between fours.
    let from = text.len().saturating_sub(TAIL_MAX / 3 * 4) / 4 * 4;
    let mut out = Vec::new();
    for four in text[from..].chunks(4) {
        let mut bits = 0u32;
        let mut count = 0;
        for c in four {
            let value = match c {
                b'A'..=b'Z' => c - b'A',
                b'a'..=b'z' => c - b'a' + 26,
                b'0'..=b'9' => c - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => break,
            };
            bits |= u32::from(value) << (18 - 6 * count);
            count += 1;
        }
        let bytes = bits.to_be_bytes();
        out.extend(&bytes[1..1 + count * 3 / 4]);
    }
    out
}

/// The last line that says something, in printable characters.
fn last_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().rev().map(str::trim).find(|l| !l.is_empty())?;
    let printable = line.chars().map(|c| if c.is_control() { '?' } else { c });
    Some(printable.take(LINE_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::VecDeque;

    fn probe(limit_ms: u64) -> Probe {
        Probe {
            argv: vec!["/bin/check".into(), "-a".into()],
            every_ms: 1000,
            limit_ms,
            failures: 1,
        }
    }

    /// Runs a probe against an agent that gives these answers, and counts what it was told.
    fn with(before: Option<i64>, answers: Vec<Answer>) -> (Ran, Option<i64>, usize) {
        let answers = RefCell::new(VecDeque::from(answers));
        let told = RefCell::new(0);
        let talk = |_: &Value| {
            *told.borrow_mut() += 1;
            let next = answers.borrow_mut().pop_front();
            Ok(next.unwrap_or(Answer::Silent))
        };
        // Its time is over, so a program that runs is asked for once.
        let (ran, left) = run(&probe(100), before, Clock.now(), &talk).expect("an answer");
        (ran, left, told.into_inner())
    }

    fn said(value: Value) -> Answer {
        Answer::Said(value)
    }

    #[test]
    fn a_probe_is_what_its_exit_status_is() {
        let started = || said(json!({"pid": 7}));
        let ended = |code: i64, key: &str, data: &str| {
            let mut status = json!({"exited": true, "exitcode": code});
            status[key] = json!(data);
            said(status)
        };
        let run = |end| with(None, vec![started(), end]);
        assert_eq!(run(ended(0, "out-data", "b2sK")), (Ran::Well, None, 2));
        // "one\ntwo words\n\n" in base 64.
        let (ran, ..) = run(ended(3, "err-data", "b25lCnR3byB3b3JkcwoK"));
        assert_eq!(ran, Ran::Badly("exit status 3: two words".into()));
        let (ran, ..) = run(ended(1, "out-data", "%%%"));
        assert_eq!(ran, Ran::Badly("exit status 1".into()));
        let (ran, ..) = run(said(json!({"exited": true, "signal": 9})));
        assert_eq!(ran, Ran::Badly("ended by signal 9".into()));
        let (ran, left, _) = run(said(json!({"exited": false})));
        assert_eq!(
            (ran, left),
            (Ran::Badly("no end within 100 ms".into()), Some(7))
        );
    }

    #[test]
    fn a_probe_that_could_not_be_run_says_nothing() {
        let no = |answers| matches!(with(None, answers), (Ran::Not(_), ..));
        assert!(no(vec![Answer::Silent]));
        assert!(no(vec![Answer::Refused("no such file".into())]));
        assert!(no(vec![Answer::Nothing("held".into())]));
        assert!(no(vec![said(json!({}))]));
        assert!(no(vec![said(json!({"pid": 7})), Answer::Silent]));
        assert!(no(vec![
            said(json!({"pid": 7})),
            said(json!({"exited": true}))
        ]));
    }

    #[test]
    fn runs_do_not_pile_up() {
        let runs = said(json!({"exited": false}));
        let (ran, left, told) = with(Some(5), vec![runs]);
        assert_eq!((left, told), (Some(5), 1), "nothing new was started");
        assert!(matches!(ran, Ran::Badly(_)));
        // One that has ended since, or that the agent does not know any more, is in nobody's way.
        for old in [
            said(json!({"exited": true})),
            Answer::Refused("none".into()),
        ] {
            let end = said(json!({"exited": true, "exitcode": 0}));
            let answers = vec![old, said(json!({"pid": 8})), end];
            assert_eq!(with(Some(5), answers), (Ran::Well, None, 3));
        }
    }

    #[test]
    fn only_the_end_of_an_output_is_read() {
        let long = format!("{}{}", "AAAA".repeat(100_000), "ZW5k");
        let bytes = tail(&long);
        assert!(bytes.len() <= TAIL_MAX && bytes.ends_with(b"end"));
        assert_eq!(tail("Zg=="), b"f");
        assert_eq!(tail("Zm8="), b"fo");
        assert_eq!(tail(""), b"");
        assert_eq!(last_line(b" \n\x07x\n"), Some("?x".to_owned()));
        assert_eq!(last_line(b"\n"), None);
    }
}
