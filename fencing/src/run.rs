//! One device in one attempt, from the first `status` to its outcome.
//!
//! A device of class *power* is read, then told off, then read until it says off:
//!
//! ```text
//!   status ──> off ──> status ──off──> Off
//!                ^       │ on or unreadable: wait a little, status again, up to the limit;
//!                └───────┘ if off had failed: off again, twice at most; if the device let nobody
//!                          in: again until the last quarter
//! ```
//!
//! * The first `status` decides nothing. Even a device that says *off* is told off: a word from
//!   before the order may be about a host in the middle of a reset, or about the wrong plug, and
//!   telling off what is off is a success. It shows whether the device answers at all.
//! * Only a `status` that reads off *after* an `off` was launched is an observation. It counts
//!   whatever the `off` itself said: a device that refuses to cut what is off already (some do)
//!   is no reason to leave guests down.
//! * Time running out is never success.
//! * What an off set going may still go on when its agent is ended, and must not hit the host's next
//!   life: none begins in the last quarter of the run, and after one without answer the run lasts to
//!   its end, even if the device reads off meanwhile.
//!
//! A device of any other class has no state to read and is told `off` once. Success of class
//! *crash* is an observation by itself (its agent heard the crash kernel); success of the others
//! lets the level go on and proves nothing.
//!
//! *Failed* says more than "not off": the device will not act any more, so that an attempt which
//! failed is over. Where that is not certain the outcome is *unknown*, and the attempt is over only
//! when its bound and the device's limit have passed.

use crate::agent::{AgentCall, AgentEnd, Reading, Said, Verb, request};
use crate::class::{Device, ProofClass};
use crate::mutants::planted;
use std::time::Duration;

/// How often `off` is launched before the device has failed.
const OFF_TRIES: u32 = 2;

/// What came of one device, or of one level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The host was observed off.
    Off,
    /// The device succeeded and proves nothing by its class. Never the outcome of a level.
    Passed,
    /// The host was not observed off, and this device will not act any more. Holds the reason.
    Failed(String),
    /// Not observed off, and the device may still act, though not after its limit. Holds the
    /// reason.
    Unknown(String),
    /// It does not know how: nothing was launched that could act. Holds the reason.
    CannotDo(String),
}

/// What to do next about a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the agent, end it with every process it started at `until` at the latest, and report
    /// by [`DeviceRun::ended`].
    Run {
        /// What it is asked.
        verb: Verb,
        /// What it reads.
        call: AgentCall,
        /// When it is ended.
        until: Duration,
    },
    /// Nothing before this moment, unless a run ends.
    WaitUntil(Duration),
    /// It is over.
    Done(Outcome),
}

#[derive(Clone, Debug)]
enum State {
    /// To be launched at the next poll.
    Launch(Verb),
    /// An agent runs.
    Running {
        verb: Verb,
        until: Duration,
    },
    /// Launch this one at this time.
    Pause {
        verb: Verb,
        until: Duration,
    },
    Done(Outcome),
}

/// What the last `off` came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Off {
    /// None was launched yet.
    Never,
    /// It could not be started: nothing was done.
    NotStarted,
    /// It said success.
    Accepted,
    /// It said failure.
    Refused,
    /// It was ended before it said anything.
    Unanswered,
}

/// One device in one attempt on one host.
#[derive(Clone, Debug)]
pub struct DeviceRun {
    device: Device,
    target: String,
    class: Option<ProofClass>,
    begun: Duration,
    deadline: Duration,
    state: State,
    off: Off,
    off_tries: u32,
    /// An `off` of this run was ended without a word, so it may act late.
    loose: bool,
    /// The device answered a `status` at least once.
    alive: bool,
    last: Reading,
    said: Vec<String>,
    /// It is read and never told off.
    reads: bool,
}

impl DeviceRun {
    /// A run of `device` against the host named `target`, launched at `begun`. It is over by its
    /// own limit, and not after `deadline`.
    #[must_use]
    pub fn new(device: &Device, target: &str, begun: Duration, deadline: Duration) -> Self {
        let (class, state) = match device.class() {
            Ok(ProofClass::Power) => (Some(ProofClass::Power), State::Launch(Verb::Status)),
            Ok(class) => (Some(class), State::Launch(Verb::Off)),
            Err(why) => (None, State::Done(Outcome::CannotDo(why.to_string()))),
        };
        Self {
            device: device.clone(),
            target: target.to_owned(),
            class,
            begun,
            deadline: deadline
                .min(begun.saturating_add(device.limit()))
                .max(begun),
            state,
            off: Off::Never,
            off_tries: 0,
            loose: false,
            alive: false,
            last: Reading::Unknown,
            said: Vec::new(),
            reads: false,
        }
    }

    /// A last look at a device of class power that was read off: whether it is off still.
    #[must_use]
    pub(crate) fn look(before: &Self, begun: Duration, deadline: Duration) -> Self {
        Self {
            reads: true,
            said: before.said.clone(),
            ..Self::new(&before.device, &before.target, begun, deadline)
        }
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.device.name
    }

    /// The class of its word, if it has one.
    #[must_use]
    pub fn class(&self) -> Option<ProofClass> {
        self.class
    }

    /// When it is over at the latest.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// What was asked and answered so far, for people: `status: exit 0; off: timed out`.
    #[must_use]
    pub fn history(&self) -> String {
        self.said.join("; ")
    }

    /// The outcome, once there is one.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.state {
            State::Done(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// What to do now. `Run` is said once and must be carried out; the other two repeat.
    pub fn poll(&mut self, now: Duration) -> Action {
        if now >= self.deadline && self.outcome().is_none() {
            self.give_up();
        }
        let verb = match &self.state {
            State::Done(outcome) => return Action::Done(outcome.clone()),
            // An agent that is not reported ended at its time (stuck in the kernel) is waited for
            // up to the deadline only.
            State::Running { until, .. } if now < *until => return Action::WaitUntil(*until),
            State::Running { .. } => return Action::WaitUntil(self.deadline),
            State::Pause { until, .. } if now < *until => return Action::WaitUntil(*until),
            State::Pause { verb, .. } | State::Launch(verb) => *verb,
        };
        self.launch(verb, now)
    }

    /// The agent that was last launched has ended, at `now`. Ignored if none runs, or if the
    /// outcome is already known.
    pub fn ended(&mut self, now: Duration, end: &AgentEnd) {
        let State::Running { verb, .. } = self.state else {
            return;
        };
        self.said.push(match (verb, end) {
            (Verb::Status, AgentEnd::Exited { .. }) => match Reading::of(end) {
                Reading::On => "status: on".to_owned(),
                Reading::Off => "status: off".to_owned(),
                Reading::Unknown => format!("status: {end}, unreadable"),
            },
            _ => format!("{verb}: {end}"),
        });
        self.state = match (verb, self.class) {
            (Verb::Off, Some(ProofClass::Power)) => self.after_off(now, end),
            (Verb::Off, Some(ProofClass::Fabric)) if self.turned_away(end) => {
                self.pause(Verb::Off, now)
            }
            (Verb::Off, _) => State::Done(self.after_word(end)),
            _ => self.after_status(now, end),
        };
    }

    fn launch(&mut self, verb: Verb, now: Duration) -> Action {
        let call = match request(&self.device, &self.target, verb) {
            Ok(call) => call,
            Err(why) => {
                let outcome = Outcome::CannotDo(why.to_string());
                self.state = State::Done(outcome.clone());
                return Action::Done(outcome);
            }
        };
        // A quarter of the time is kept for reading the state after the off, and the first look
        // may take no more than a quarter either: a device that hangs must still be told off.
        let quarter = (self.deadline - self.begun) / 4;
        let until = match (verb, self.class) {
            (Verb::Off, Some(ProofClass::Power)) => self.deadline - quarter,
            (Verb::Status, _) if self.off == Off::Never => self.begun + quarter,
            _ => self.deadline,
        };
        // What an off sets going may still go on when its agent is ended: one that begins late could
        // cut the host's next life, which is let in when this run is over (S8).
        let too_late = now > self.deadline - quarter && !planted("off-at-the-last-moment");
        if verb == Verb::Off && too_late {
            let outcome = self.verdict("too little time was left for an off");
            self.state = State::Done(outcome.clone());
            return Action::Done(outcome);
        }
        // Time already used up (a late poll) must not leave an agent without any.
        let until = if until > now { until } else { self.deadline };
        if verb == Verb::Off {
            self.off_tries += 1;
        }
        self.state = State::Running { verb, until };
        Action::Run { verb, call, until }
    }

    /// What the word of a device without a state to read comes to.
    fn after_word(&self, end: &AgentEnd) -> Outcome {
        match end {
            AgentEnd::Exited { code, .. } => match Said::of(*code) {
                Said::Success if self.class == Some(ProofClass::Crash) => Outcome::Off,
                Said::Success => Outcome::Passed,
                Said::Failure => Outcome::Failed(format!("off: exit {code}")),
            },
            AgentEnd::NotLetIn { .. } => Outcome::Failed(format!("off: {end}")),
            AgentEnd::NotStarted { why } => Outcome::CannotDo(format!("off: not started: {why}")),
            AgentEnd::TimedOut | AgentEnd::Crashed { .. } => {
                Outcome::Unknown(format!("off: {end}"))
            }
        }
    }

    fn after_off(&mut self, now: Duration, end: &AgentEnd) -> State {
        if planted("timeout-as-success") && *end == AgentEnd::TimedOut {
            return State::Done(Outcome::Off);
        }
        if planted("unanswered-off-is-over") && *end == AgentEnd::TimedOut {
            return State::Done(Outcome::Failed("given up".to_owned()));
        }
        if planted("exit-code-proves") && matches!(end, AgentEnd::Exited { code: 0, .. }) {
            return State::Done(Outcome::Off);
        }
        if self.turned_away(end) {
            return self.pause(Verb::Off, now);
        }
        self.off = match end {
            AgentEnd::NotLetIn { .. } => Off::Refused,
            AgentEnd::Exited { code, .. } => match Said::of(*code) {
                Said::Success => Off::Accepted,
                Said::Failure => Off::Refused,
            },
            AgentEnd::NotStarted { .. } if self.off == Off::Never => Off::NotStarted,
            AgentEnd::NotStarted { .. } => self.off,
            AgentEnd::TimedOut | AgentEnd::Crashed { .. } => Off::Unanswered,
        };
        self.loose |= self.off == Off::Unanswered;
        if self.off == Off::NotStarted {
            return self.off_again_or_give_up(now);
        }
        State::Launch(Verb::Status)
    }

    /// Whether the device let nobody in. Then nothing was asked of it, most likely, and it may let
    /// one in a moment later: the off does not count as one of the two. It counts as refused all
    /// the same, for words prove nothing.
    fn turned_away(&mut self, end: &AgentEnd) -> bool {
        let away = matches!(end, AgentEnd::NotLetIn { .. }) && !planted("turned-away-is-refused");
        if away {
            self.off_tries = self.off_tries.saturating_sub(1);
            self.off = match self.off {
                Off::Never | Off::NotStarted => Off::Refused,
                before => before,
            };
        }
        away
    }

    fn after_status(&mut self, now: Duration, end: &AgentEnd) -> State {
        self.last = Reading::of(end);
        self.alive |= self.last != Reading::Unknown;
        if self.reads {
            return match self.last {
                Reading::Off => State::Done(Outcome::Off),
                Reading::On => State::Done(Outcome::Failed("on again".to_owned())),
                Reading::Unknown => self.pause(Verb::Status, now),
            };
        }
        match (self.off, self.last) {
            // Nothing was read, so nothing follows but another look.
            (Off::Refused | Off::NotStarted, _) if matches!(end, AgentEnd::NotLetIn { .. }) => {
                self.pause(Verb::Status, now)
            }
            // The first look.
            (Off::Never, _) => match end {
                AgentEnd::NotStarted { why } => {
                    State::Done(Outcome::CannotDo(format!("status: not started: {why}")))
                }
                _ => State::Launch(Verb::Off),
            },
            // An off that was left without answer can still act, on the host's next life: that is not
            // let in before this run is over (S8).
            (_, Reading::Off) if self.loose && !planted("off-read-is-over") => State::Pause {
                verb: Verb::Status,
                until: self.deadline,
            },
            (_, Reading::Off) => State::Done(Outcome::Off),
            (Off::Accepted, _) => self.pause(Verb::Status, now),
            // It may act yet, and there may be time to see it.
            (Off::Unanswered, _) => self.pause(Verb::Status, now),
            (Off::Refused | Off::NotStarted, _) => self.off_again_or_give_up(now),
        }
    }

    fn off_again_or_give_up(&mut self, now: Duration) -> State {
        if self.off_tries < OFF_TRIES {
            self.pause(Verb::Off, now)
        } else {
            State::Done(self.verdict("gave up after its second off"))
        }
    }

    fn pause(&self, verb: Verb, now: Duration) -> State {
        let twentieth = (self.deadline - self.begun) / 20;
        let pause = twentieth.clamp(Duration::from_millis(50), Duration::from_secs(1));
        State::Pause {
            verb,
            until: now.saturating_add(pause).min(self.deadline),
        }
    }

    /// Out of time.
    fn give_up(&mut self) {
        let outcome = match self.state {
            // An off that still runs can act after this.
            State::Running {
                verb: Verb::Off, ..
            } => Outcome::Unknown(format!(
                "no answer to off within the limit ({})",
                self.words()
            )),
            // It was off after the order, whatever has become of it since.
            State::Pause { .. } if self.loose && self.last == Reading::Off => Outcome::Off,
            _ if self.reads => Outcome::Failed("it could not be read off once more".to_owned()),
            _ => self.verdict("out of time"),
        };
        self.state = State::Done(outcome);
    }

    /// The outcome of a device that was not observed off.
    fn verdict(&self, why: &str) -> Outcome {
        let words = self.words();
        match self.off {
            Off::Never | Off::NotStarted => {
                Outcome::CannotDo(format!("off was never launched: {why} ({words})"))
            }
            _ if self.loose => {
                Outcome::Unknown(format!("an off was left without answer: {why} ({words})"))
            }
            // It answers, after its agent has come to an end, and says on.
            _ if self.last == Reading::On => Outcome::Failed(format!("still on: {why} ({words})")),
            // It never answered anything, so it took no order either.
            Off::Refused if !self.alive => {
                Outcome::Failed(format!("the device does not answer: {why} ({words})"))
            }
            _ => Outcome::Unknown(format!("the state cannot be read: {why} ({words})")),
        }
    }

    fn words(&self) -> String {
        if self.said.is_empty() {
            "nothing asked".to_owned()
        } else {
            self.history()
        }
    }
}

#[cfg(test)]
mod tests;
