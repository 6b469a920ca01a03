//! The agent in the guest: asked now and then whether it is there.

use super::link::Failure;
use super::memory::Lives;
use super::registry::{Known, Life};
use super::sense::Sense;
use super::survey;
use crate::clock::Clock;
use crate::hypervisor::lock;
use quorate_membership::Time;
use quorate_recovery::observation::Agent;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use virt::connect::Connect;
use virt::error::{Error, ErrorNumber};

/// Between two questions to one agent.
const PACE: Duration = Duration::from_secs(3);
/// How long an answer counts: it is missed when two questions came to nothing.
const FRESH: Duration = Duration::from_secs(7);
/// How long an agent may take to answer a question, in seconds, on top of the time libvirt takes
/// to find out whether it is there.
const ANSWER: i32 = 1;
/// Agents asked side by side.
const ABREAST: usize = 4;

/// What is known of one agent.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Somebody talks to it now. Two at a time would wait for each other in libvirt.
    busy: bool,
    /// When it was last asked.
    pub asked: Option<Time>,
    /// What came of it, and when.
    said: Option<(Agent, Time)>,
    /// It does not tell of frozen file systems.
    plain: bool,
    /// A program of a probe that had not ended when its time was over.
    pub running: Option<i64>,
}

impl Standing {
    /// What it says at this moment.
    pub(super) fn at(&self, now: Time) -> Agent {
        match self.said {
            Some((said, at)) if now < at + FRESH => said,
            _ => Agent::None,
        }
    }

    /// What it said does not count any more.
    pub(super) fn forget(&mut self) {
        self.said = None;
        self.running = None;
    }

    fn due(&self, now: Time) -> bool {
        !self.busy && self.asked.is_none_or(|at| now >= at + PACE)
    }

    pub(super) fn heard(&mut self, said: Agent) {
        self.said = Some((said, Clock.now()));
    }
}

/// The right to talk to one agent, given back at its end, also by a panic.
pub(super) struct Turn(pub Arc<Lives>, Life);

impl Turn {
    pub(super) fn take(lives: &Arc<Lives>, life: Life) -> Option<Turn> {
        let free = lives.if_there(life, |m| !std::mem::replace(&mut m.agent.busy, true));
        (free == Some(true)).then(|| Turn(Arc::clone(lives), life))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.if_there(self.1, |m| m.agent.busy = false);
    }
}

/// Asks the agents of these domains that are due, and waits for none of them.
pub(super) fn ask_all(sense: &Sense, cluster: &str, domains: Vec<Known>) {
    let now = Clock.now();
    let mut queue = VecDeque::new();
    for one in domains {
        let due = sense.lives.if_there(one.life, |m| m.agent.due(now));
        if due == Some(true)
            && let Some(turn) = Turn::take(&sense.lives, one.life)
        {
            queue.push_back((one, turn));
        }
    }
    let abreast = ABREAST.min(queue.len());
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..abreast {
        let (queue, cluster) = (Arc::clone(&queue), cluster.to_owned());
        let lives = Arc::clone(&sense.lives);
        let begun = sense.agents.ask(move |c| {
            loop {
                let Some((one, turn)) = lock(&queue).pop_front() else {
                    return Ok(());
                };
                lives.if_there(one.life, |m| m.agent.asked = Some(Clock.now()));
                let said = ask(c, &cluster, &one, &lives)?;
                if let Some(said) = said {
                    lives.if_there(one.life, |m| m.agent.heard(said));
                }
                drop(turn);
            }
        });
        if let Err(f) = begun {
            // Those that wait give their turns back when the queue goes.
            tracing::debug!("agents cannot be asked: {}", f.why);
        }
    }
}

/// Asks one agent; `None` if nothing follows from what came of it.
fn ask(c: &Connect, cluster: &str, one: &Known, lives: &Lives) -> Result<Option<Agent>, Failure> {
    let plain = lives.if_there(one.life, |m| m.agent.plain);
    if plain == Some(false) {
        match command(
            c,
            cluster,
            one,
            &json!({"execute": "guest-fsfreeze-status"}),
        )? {
            Answer::Said(value) if value == "frozen" => return Ok(Some(Agent::Frozen)),
            Answer::Said(_) => return Ok(Some(Agent::Answered)),
            Answer::Refused(_) => {
                // It may be told not to answer this. It answered, though.
                lives.if_there(one.life, |m| m.agent.plain = true);
            }
            Answer::Silent => return Ok(Some(Agent::Silent)),
            Answer::Nothing(_) => return Ok(None),
        }
    }
    Ok(
        match command(c, cluster, one, &json!({"execute": "guest-ping"}))? {
            Answer::Said(_) => Some(Agent::Answered),
            Answer::Silent => Some(Agent::Silent),
            Answer::Refused(_) | Answer::Nothing(_) => None,
        },
    )
}

/// What came of a command to an agent.
pub(super) enum Answer {
    /// It did it and gave this.
    Said(Value),
    /// libvirt, or the agent itself, said no.
    Refused(String),
    /// libvirt waited for it in vain, or it is not connected.
    Silent,
    /// It was not asked.
    Nothing(String),
}

impl Answer {
    pub(super) fn words(self) -> String {
        match self {
            Answer::Said(_) => "the agent answered something else".to_owned(),
            Answer::Silent => "the agent does not answer".to_owned(),
            Answer::Refused(why) | Answer::Nothing(why) => why,
        }
    }
}

/// Gives an agent a command.
pub(super) fn command(
    c: &Connect,
    cluster: &str,
    one: &Known,
    what: &Value,
) -> Result<Answer, Failure> {
    let gone = || Ok(Answer::Nothing("the domain is gone".to_owned()));
    let Some(domain) = survey::numbered(c, one.uuid)? else {
        return gone();
    };
    let tag = survey::tag(&domain)?;
    if !tag.is_some_and(|t| t.cluster == cluster && (t.guest, t.epoch) == one.life) {
        return gone();
    }
    match domain.qemu_agent_command(&what.to_string(), ANSWER, 0) {
        Ok(text) => Ok(match serde_json::from_str::<Value>(&text) {
            Ok(mut value) => Answer::Said(value["return"].take()),
            Err(_) => Answer::Nothing("the agent's answer is damaged".to_owned()),
        }),
        Err(e) => judge(e),
    }
}

fn judge(e: Error) -> Result<Answer, Failure> {
    let is = |number| super::link::is(&e, number);
    if is(ErrorNumber::AgentUnresponsive) || is(ErrorNumber::AgentCommandTimeout) {
        return Ok(Answer::Silent);
    }
    let nobodys = [
        ErrorNumber::OperationInvalid,
        ErrorNumber::OperationTimeout,
        ErrorNumber::OperationUnsupported,
        ErrorNumber::ArgumentUnsupported,
        ErrorNumber::ConfigUnsupported,
        ErrorNumber::NoSupport,
        ErrorNumber::NoDomain,
    ];
    if nobodys.into_iter().any(is) {
        return Ok(Answer::Nothing(e.message().to_owned()));
    }
    let failure = Failure::from(e);
    match failure.kind {
        super::link::Fault::No => Ok(Answer::Refused(failure.why)),
        _ => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_a_while() {
        let mut standing = Standing::default();
        let now = Clock.now();
        assert_eq!(standing.at(now), Agent::None);
        standing.said = Some((Agent::Silent, now));
        assert_eq!(standing.at(now + PACE * 2), Agent::Silent);
        assert_eq!(standing.at(now + FRESH), Agent::None);
    }
}
