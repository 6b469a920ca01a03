//! Levels played from text: what happens, and after each line what the level does next.
//!
//! Each file of `tests/scripts/` is one story:
//!
//! ```text
//! # comment
//! device NAME AGENT LIMIT_S   a device of the level
//! begin                       launches the level at 0 s against host h1
//! at S                        time passes
//! at S NAME exit CODE [WORDS] an agent ended; also: timed-out, crashed, not-started
//! > run NAME VERB until S     expected: what the level does
//! > wait S
//! > done OUTCOME
//! ```

use quorate_fencing::{AgentEnd, Device, Level, LevelAction, LevelRun, Outcome};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

fn seconds(word: &str) -> Duration {
    Duration::from_secs_f64(word.parse().expect("seconds"))
}

fn show(time: Duration) -> String {
    format!("{}", time.as_millis() as f64 / 1000.0)
}

#[derive(Default)]
struct Stage {
    devices: Vec<Device>,
    run: Option<LevelRun>,
    now: Duration,
}

impl Stage {
    /// Carries out one line and says what the level does next.
    fn line(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["device", name, agent, limit] => {
                self.devices.push(Device {
                    name: name.to_owned(),
                    agent: agent.to_owned(),
                    parameters: BTreeMap::new(),
                    class: None,
                    limit_ms: u64::try_from(seconds(limit).as_millis()).expect("limit"),
                });
                return Vec::new();
            }
            ["begin"] => {
                let level = Level {
                    devices: self.devices.clone(),
                };
                self.run = Some(LevelRun::new(&level, "h1", self.now, level.limit()));
            }
            ["at", time] => self.now = seconds(time),
            ["at", time, name, how, ref rest @ ..] => {
                self.now = seconds(time);
                let end = match (how, rest) {
                    ("exit", [code, words @ ..]) => AgentEnd::Exited {
                        code: code.parse().expect("exit code"),
                        output: words.join(" "),
                    },
                    ("timed-out", []) => AgentEnd::TimedOut,
                    ("crashed", []) => AgentEnd::Crashed { signal: 9 },
                    ("not-started", []) => AgentEnd::NotStarted {
                        why: "not found".to_owned(),
                    },
                    _ => panic!("{line:?}"),
                };
                let place = self
                    .devices
                    .iter()
                    .position(|d| d.name == name)
                    .expect("device");
                self.run
                    .as_mut()
                    .expect("begun")
                    .ended(place, self.now, &end);
            }
            _ => panic!("{line:?} is no line of a script"),
        }
        self.drain()
    }

    fn drain(&mut self) -> Vec<String> {
        let run = self.run.as_mut().expect("begun");
        let mut said = Vec::new();
        loop {
            match run.poll(self.now) {
                LevelAction::Run {
                    device,
                    verb,
                    until,
                    ..
                } => {
                    let name = &self.devices[device].name;
                    said.push(format!("> run {name} {verb} until {}", show(until)));
                }
                LevelAction::WaitUntil(at) => {
                    said.push(format!("> wait {}", show(at)));
                    return said;
                }
                LevelAction::Done(outcome) => {
                    said.push(match outcome {
                        Outcome::Off => "> done off".to_owned(),
                        Outcome::Passed => "> done passed".to_owned(),
                        Outcome::Failed(why) => format!("> done failed: {why}"),
                        Outcome::Unknown(why) => format!("> done unknown: {why}"),
                        Outcome::CannotDo(why) => format!("> done cannot do: {why}"),
                    });
                    return said;
                }
            }
        }
    }
}

/// The script with the expectations replaced by what happened.
fn play(script: &str) -> String {
    let mut stage = Stage::default();
    let mut transcript = Vec::new();
    for line in script.lines().filter(|l| !l.starts_with('>')) {
        transcript.push(line.to_owned());
        if !line.trim().is_empty() && !line.starts_with('#') {
            transcript.extend(stage.line(line));
        }
    }
    transcript.join("\n") + "\n"
}

#[test]
fn every_script_plays_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .expect("folder of scripts")
        .map(|entry| entry.expect("entry").path())
        .collect();
    names.sort();
    assert!(names.len() >= 5, "scripts are missing");
    let mut wrong = Vec::new();
    for name in names {
        let script = std::fs::read_to_string(&name).expect("script");
        assert!(
            script.contains("\n> done"),
            "{} ends without outcome",
            name.display()
        );
        let played = play(&script);
        if played != script {
            wrong.push(format!("--- {} played as:\n{played}", name.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
