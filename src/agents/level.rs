//! One fence level against one host: agents as [`LevelRun`] asks for them, their ends back to it.

use super::{AgentEnding, AgentExit, Agents};
use crate::clock::Clock;
use quorate_fencing::Level;
use quorate_fencing::agent::AgentEnd;
use quorate_fencing::order::{LevelAction, LevelRun};
use quorate_fencing::run::Outcome;
use quorate_membership::Time;
use quorate_membership::entry::AttemptEnd;
use quorate_recovery::contract::{Fact, FenceLaunch};
use std::time::Duration;
use tokio::task::JoinSet;

/// The part of an agent's last words that goes into a report, in characters.
const WORDS: usize = 300;

fn since_boot(t: Time) -> Duration {
    Duration::from_nanos(t.0)
}

fn moment(d: Duration) -> Time {
    Time::ZERO + d
}

/// Runs a level and says [`Fact::FenceDone`]. Nothing is launched after the bound of the launch;
/// every agent has ended when this comes back; if the future is dropped, they are ended.
pub async fn run_level(agents: &Agents, launch: FenceLaunch) -> Fact {
    let (end, detail) = run(agents, &launch).await;
    Fact::FenceDone {
        attempt: launch.attempt,
        end,
        detail,
    }
}

async fn run(agents: &Agents, launch: &FenceLaunch) -> (AttemptEnd, String) {
    let level = Level {
        devices: launch.devices.clone(),
    };
    let begun = Clock.now();
    if begun > launch.not_after {
        return (AttemptEnd::NotLaunched, "too late".into());
    }
    let mut run = LevelRun::new(&level, &launch.name, since_boot(begun), launch.limit);
    let mut running: JoinSet<(usize, AgentExit)> = JoinSet::new();
    let mut first = true;
    let mut words: Vec<String> = Vec::new();
    let outcome = loop {
        match run.poll(since_boot(Clock.now())) {
            LevelAction::Done(outcome) => break outcome,
            LevelAction::Run {
                device,
                call,
                until,
                ..
            } => {
                let agents = agents.clone();
                let until = moment(until);
                // The launch is over with the first agents; what follows is bound by the limit.
                let bound = if first { launch.not_after } else { until };
                running.spawn(async move {
                    let exit = agents
                        .run_agent(&call.agent, &call.stdin, bound, until)
                        .await;
                    (device, exit)
                });
            }
            LevelAction::WaitUntil(at) => {
                first = false;
                let wait = moment(at).since(Clock.now()).max(Duration::from_millis(1));
                let ended = tokio::time::timeout(wait, async {
                    match running.join_next().await {
                        Some(ended) => ended,
                        // Only the time is waited for.
                        None => std::future::pending().await,
                    }
                });
                if let Ok(Ok((device, exit))) = ended.await {
                    let stderr = exit.stderr.trim();
                    if !stderr.is_empty() {
                        words.push(stderr.chars().take(WORDS).collect());
                    }
                    run.ended(device, since_boot(Clock.now()), &agent_end(exit));
                }
            }
        }
    };
    // One that nobody listens to any more is ended by its keeper in its time.
    while running.join_next().await.is_some() {}
    let mut detail = format!("{}: {}", run.names(), run.history());
    let end = match outcome {
        Outcome::Off => AttemptEnd::Off,
        // Not of a level; and no proof in any case.
        Outcome::Passed => AttemptEnd::Failed,
        Outcome::Failed(why) => {
            detail = format!("{why}; {detail}");
            AttemptEnd::Failed
        }
        Outcome::Unknown(why) => {
            detail = format!("{why}; {detail}");
            AttemptEnd::Unknown
        }
        Outcome::CannotDo(why) => {
            detail = format!("{why}; {detail}");
            AttemptEnd::NotLaunched
        }
    };
    if let Some(last) = words.last() {
        detail = format!("{detail}; agent said: {last}");
    }
    (end, detail)
}

pub(super) fn agent_end(exit: AgentExit) -> AgentEnd {
    match exit.ending {
        AgentEnding::Code(code) => AgentEnd::exited(code, exit.stdout, &exit.stderr),
        AgentEnding::Signal(signal) => AgentEnd::Crashed { signal },
        AgentEnding::Timeout => AgentEnd::TimedOut,
        AgentEnding::NotStarted(why) => AgentEnd::NotStarted { why },
    }
}
