//! One trial of a fence device: its agent's description, and its state. Nothing is changed.

use super::metadata::Metadata;
use super::{AgentExit, Agents, level};
use crate::clock::Clock;
use quorate_fencing::agent::{AgentEnd, Reading, Said, Verb, request};
use quorate_fencing::{Device, ProofClass};
use quorate_membership::Time;
use quorate_recovery::contract::DeviceWord;
use std::time::Duration;

/// How long an agent may take to describe itself.
const DESCRIBES: Duration = Duration::from_secs(10);
/// How long a device may take to be read, whatever its limit.
const READS: Duration = Duration::from_secs(60);
/// Between two tries of one that lets nobody in.
const AGAIN: Duration = Duration::from_secs(1);
/// The part of an agent's words that is kept, in characters.
const WORDS: usize = 160;

/// Reads a device of the host of that name: what it says, and what its agent does not know of its
/// parameters.
pub async fn try_device(
    agents: &Agents,
    device: &Device,
    host: &str,
) -> (DeviceWord, Option<String>) {
    let metadata = describe(agents, device).await;
    let remark = metadata.as_ref().and_then(|m| m.judge(&device.parameters));
    let power = device.class() == Ok(ProofClass::Power);
    let verb = if power { Verb::Status } else { Verb::Monitor };
    // What hears a crash kernel looks at this host when it is asked how it is.
    let mute = device.class() == Ok(ProofClass::Crash);
    if !power && (mute || metadata.is_some_and(|m| !m.has(verb.as_str()))) {
        // There is nothing that could be asked without a change.
        let found = agents.find(&device.agent);
        return (
            found.map_or_else(DeviceWord::Unread, |_| DeviceWord::Answers),
            remark,
        );
    }
    let call = match request(device, host, verb) {
        Ok(call) => call,
        Err(why) => return (DeviceWord::Unread(why.to_string()), remark),
    };
    let until = Clock.now() + device.limit().min(READS);
    let give_up = Clock.now() + device.limit().min(READS) / 2;
    loop {
        let exit = agents
            .run_agent(&call.agent, &call.stdin, Time::NEVER, until)
            .await;
        let words = said(&exit);
        let end = level::agent_end(exit);
        let away = matches!(end, AgentEnd::NotLetIn { .. }) && Clock.now() < give_up;
        if away {
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        let word = match (power, Reading::of(&end), &end) {
            (true, Reading::On, _) => DeviceWord::On,
            (true, Reading::Off, _) => DeviceWord::Off,
            (false, _, AgentEnd::Exited { code, .. }) if Said::of(*code) == Said::Success => {
                DeviceWord::Answers
            }
            _ => DeviceWord::Unread(format!("{verb}: {end}{words}")),
        };
        return (word, remark);
    }
}

/// The description of a device's agent; none if it gives none that can be read.
async fn describe(agents: &Agents, device: &Device) -> Option<Metadata> {
    let until = Clock.now() + DESCRIBES;
    let exit = agents.run_agent(&device.agent, "action=metadata\n", Time::NEVER, until);
    Metadata::read(&exit.await.stdout)
}

/// The last words of an agent, for people.
fn said(exit: &AgentExit) -> String {
    let all = [&exit.stderr, &exit.stdout].into_iter();
    let last = all
        .flat_map(|t| t.lines().rev())
        .find(|l| !l.trim().is_empty());
    last.map_or(String::new(), |line| {
        let line: String = line.trim().chars().take(WORDS).collect();
        format!(" ({line})")
    })
}
