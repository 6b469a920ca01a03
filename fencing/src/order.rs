//! One level in one attempt, and which level comes next.
//!
//! A level proves only if *all* its devices succeed and one of them at least is of a proving
//! class. Vetoes are asked first, since a veto after the cut stops nothing; then all other devices
//! act together, those of one box one after another. A host with two power supplies is off when both
//! outlets are off at once: when the last one is read off, the others are read once more.

use crate::agent::{AgentCall, AgentEnd, Verb};
use crate::boxes::queues;
use crate::class::{Level, NoProof, ProofClass};
use crate::mutants::planted;
use crate::run::{Action, DeviceRun, Outcome};
use std::time::Duration;

/// What to do next about a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LevelAction {
    /// Run the agent of this device, end it at `until` at the latest, and report by
    /// [`LevelRun::ended`]. Ask on: another device may have something to run as well.
    Run {
        /// The device's place in the level, counted from 0.
        device: usize,
        /// What it is asked.
        verb: Verb,
        /// What it reads.
        call: AgentCall,
        /// When it is ended.
        until: Duration,
    },
    /// Nothing before this moment, unless a run ends.
    WaitUntil(Duration),
    /// It is over, and none of its agents acts any more unless the outcome says unknown.
    Done(Outcome),
}

/// One level in one attempt on one host.
#[derive(Clone, Debug)]
pub struct LevelRun {
    target: String,
    level: Level,
    deadline: Duration,
    proves: Result<ProofClass, NoProof>,
    /// Place in the level and run: of the vetoes first, then of the others too.
    runs: Vec<(usize, DeviceRun)>,
    /// Places of devices that wait until those before them in their box are done.
    waiting: Vec<usize>,
    phase: Phase,
    /// Places of devices in the order in which they were read off.
    read_off: Vec<usize>,
    outcome: Option<Outcome>,
}

/// How far a level has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The vetoes are asked.
    Vetoes,
    /// The devices act.
    Acting,
    /// Each was read off; those read earlier are read once more.
    Looking,
}

impl LevelRun {
    /// A run of `level` against the host named `target`, launched at `begun` and over by
    /// `begun + limit` at the latest. [`Level::limit`] is the limit that cuts no device short.
    #[must_use]
    pub fn new(level: &Level, target: &str, begun: Duration, limit: Duration) -> Self {
        let proves = level.proves();
        // A level that cannot prove is not begun: cutting power for nothing helps nobody.
        let outcome = proves
            .as_ref()
            .err()
            .map(|why| Outcome::CannotDo(why.to_string()));
        let mut run = Self {
            target: target.to_owned(),
            level: level.clone(),
            deadline: begun.saturating_add(limit),
            proves,
            runs: Vec::new(),
            waiting: Vec::new(),
            phase: Phase::Vetoes,
            read_off: Vec::new(),
            outcome,
        };
        run.begin(Phase::Vetoes, begun);
        run
    }

    /// What the level proves if its outcome is [`Outcome::Off`].
    #[must_use]
    pub fn class(&self) -> Option<ProofClass> {
        self.proves.as_ref().ok().copied()
    }

    /// When it is over at the latest.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The outcome, once there is one.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// The devices' names, for people.
    #[must_use]
    pub fn names(&self) -> String {
        self.level
            .devices
            .iter()
            .map(|d| d.name.as_str())
            .collect::<Vec<_>>()
            .join(" + ")
    }

    /// What each device was asked and answered so far, for people.
    #[must_use]
    pub fn history(&self) -> String {
        let one = |(_, run): &(usize, DeviceRun)| format!("{}: {}", run.name(), run.history());
        self.runs.iter().map(one).collect::<Vec<_>>().join(" | ")
    }

    /// What to do now. Each `Run` is said once and must be carried out; ask until it says
    /// `WaitUntil` or `Done`.
    pub fn poll(&mut self, now: Duration) -> LevelAction {
        loop {
            if let Some(outcome) = &self.outcome {
                return LevelAction::Done(outcome.clone());
            }
            self.note_off();
            self.admit_next(now);
            let mut wake: Option<Duration> = None;
            for (device, run) in &mut self.runs {
                match run.poll(now) {
                    Action::Run { verb, call, until } => {
                        return LevelAction::Run {
                            device: *device,
                            verb,
                            call,
                            until,
                        };
                    }
                    Action::WaitUntil(at) => wake = Some(wake.map_or(at, |w| w.min(at))),
                    Action::Done(_) => {}
                }
            }
            if let Some(at) = wake {
                return LevelAction::WaitUntil(at);
            }
            self.note_off();
            let phase = self.phase;
            match phase {
                // Those that were over without a wait have let others go.
                Phase::Acting if self.admit_next(now) => {}
                Phase::Acting => match self.combined() {
                    Outcome::Off if self.earlier().next().is_some() => {
                        self.begin(Phase::Looking, now);
                    }
                    outcome => self.outcome = Some(outcome),
                },
                Phase::Looking if self.admit_next(now) => {}
                Phase::Looking => self.outcome = Some(self.combined()),
                Phase::Vetoes => match self.vetoed() {
                    Some(stop) => self.outcome = Some(stop),
                    None => self.begin(Phase::Acting, now),
                },
            }
        }
    }

    /// Places of the devices of class power that were read off before the last of them was.
    fn earlier(&self) -> impl Iterator<Item = usize> + '_ {
        let all_but_last = self.read_off.len().saturating_sub(1);
        let looks = !planted("outlets-read-once");
        let places = self.read_off[..all_but_last].iter().copied();
        places.filter(move |_| looks)
    }

    /// Begins with the devices whose turn it is in their box; says whether there was one.
    fn admit_next(&mut self, now: Duration) -> bool {
        let mut began = false;
        let queues = queues(&self.level);
        for place in std::mem::take(&mut self.waiting) {
            let mut done = true;
            let mut good = true;
            for before in &queues[place] {
                let run = self.runs.iter().find(|(p, _)| p == before);
                let outcome = run.and_then(|(_, run)| run.outcome());
                let waits = self.waiting.contains(before);
                done &= !waits && (run.is_none() || outcome.is_some());
                good &= matches!(outcome, None | Some(Outcome::Off | Outcome::Passed));
            }
            if !done {
                self.waiting.push(place);
            } else if good {
                let begun = self.runs.iter_mut().find(|(p, _)| *p == place);
                match begun {
                    Some((_, run)) => *run = DeviceRun::look(run, now, self.deadline),
                    None => {
                        let device = &self.level.devices[place];
                        let run = DeviceRun::new(device, &self.target, now, self.deadline);
                        self.runs.push((place, run));
                    }
                }
                began = true;
            }
            // One behind a device that failed is left alone: the level proves nothing any more.
        }
        began
    }

    /// The agent last launched for this device has ended. A device that has nothing running is
    /// ignored.
    pub fn ended(&mut self, device: usize, now: Duration, end: &AgentEnd) {
        if let Some((_, run)) = self.runs.iter_mut().find(|(place, _)| *place == device) {
            run.ended(now, end);
        }
        self.note_off();
    }

    /// Notes which devices of class power were read off, in order.
    fn note_off(&mut self) {
        for (place, run) in &self.runs {
            let off = run.outcome() == Some(&Outcome::Off);
            let power = run.class() == Some(ProofClass::Power);
            if off && power && !self.read_off.contains(place) {
                self.read_off.push(*place);
            }
        }
    }

    fn begin(&mut self, phase: Phase, now: Duration) {
        let veto = |place: &usize| self.level.devices[*place].class() == Ok(ProofClass::Veto);
        let all = 0..self.level.devices.len();
        let mut waiting: Vec<usize> = match phase {
            Phase::Vetoes => all.filter(veto).collect(),
            Phase::Acting => all.filter(|place| !veto(place)).collect(),
            Phase::Looking => self.earlier().collect(),
        };
        waiting.sort_unstable();
        self.waiting = waiting;
        self.phase = phase;
        self.admit_next(now);
    }

    /// Anything but consent stops the level. Nothing has acted yet, so even a veto without answer
    /// leaves nothing open.
    fn vetoed(&self) -> Option<Outcome> {
        self.runs.iter().find_map(|(_, run)| match run.outcome() {
            Some(Outcome::Passed) => None,
            Some(Outcome::CannotDo(why)) => Some(Outcome::CannotDo(format!(
                "no consent of {}: {why}",
                run.name()
            ))),
            Some(Outcome::Failed(why) | Outcome::Unknown(why)) => Some(Outcome::Failed(format!(
                "no consent of {}: {why}",
                run.name()
            ))),
            Some(Outcome::Off) | None => Some(Outcome::Failed(format!("veto of {}", run.name()))),
        })
    }

    fn combined(&self) -> Outcome {
        let mut unknown = Vec::new();
        let mut failed = Vec::new();
        let mut cannot = Vec::new();
        for (_, run) in &self.runs {
            match run.outcome() {
                Some(Outcome::Off | Outcome::Passed) => {}
                Some(Outcome::Failed(why)) => failed.push(format!("{}: {why}", run.name())),
                Some(Outcome::CannotDo(why)) => cannot.push(format!("{}: {why}", run.name())),
                Some(Outcome::Unknown(why)) => unknown.push(format!("{}: {why}", run.name())),
                None => unknown.push(format!("{}: not over", run.name())),
            }
        }
        // The worst word stands: what may still act, then what failed, then what could not begin.
        if !unknown.is_empty() {
            return Outcome::Unknown(unknown.join("; "));
        }
        if !failed.is_empty() {
            return Outcome::Failed(failed.join("; "));
        }
        if !cannot.is_empty() {
            return Outcome::CannotDo(cannot.join("; "));
        }
        // By now this must hold. It is the proof others start guests on, so it is asked again.
        let observed = |run: &DeviceRun| match run.class() {
            Some(class) if class.proves() => run.outcome() == Some(&Outcome::Off),
            _ => run.outcome() == Some(&Outcome::Passed),
        };
        let some = self
            .runs
            .iter()
            .any(|(_, run)| run.outcome() == Some(&Outcome::Off));
        let all = self.runs.len() == self.level.devices.len()
            && self.runs.iter().all(|(_, run)| observed(run));
        if some && all {
            Outcome::Off
        } else {
            Outcome::Failed("no device observed the host off".to_owned())
        }
    }
}

/// One device attempt of the log, on the incarnation in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The level's place, counted from 0.
    pub level: usize,
    /// How long ago it ended; `None` while it runs.
    pub ended: Option<Duration>,
}

/// What comes next for a host that is lost and not proved off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// An attempt runs; wait for its end.
    Running,
    /// Begin an attempt with this level, in this round (counted from 0).
    Launch {
        /// The level's place, counted from 0.
        level: usize,
        /// How often all levels were tried before.
        round: u32,
    },
    /// Every level was tried; the next round begins after this delay, from now.
    RetryIn(Duration),
    /// No level can prove anything: only the lease is left.
    LeaseOnly,
}

/// The delay before the second round of levels; it doubles with each further one.
pub const RETRY_FIRST: Duration = Duration::from_secs(5);
/// The longest delay between rounds.
pub const RETRY_MAX: Duration = Duration::from_secs(60);

/// What comes next, by the attempts the log holds on this incarnation, oldest first.
///
/// Levels are tried in order, one after another, without waiting in between; after the last one
/// the round begins again after 5 s, 10 s, 20 s, 40 s and then every 60 s, for as long as the
/// caller asks (it stops when the lease proves it, or for ever tries a host whose lease proves
/// nothing). The level after an attempt that ended *unknown* does not wait for the attempt's last
/// possible effect: cutting twice is harmless to a host that is to be off. Attempts on levels that
/// were since removed from the configuration count for nothing but their time.
#[must_use]
pub fn next_level(levels: &[Level], tried: &[Tried]) -> Next {
    next_of(levels, tried, |_| true)
}

/// The same, of the levels that `may` be used.
#[must_use]
pub fn next_of(levels: &[Level], tried: &[Tried], may: impl Fn(usize) -> bool) -> Next {
    let usable: Vec<usize> = (0..levels.len())
        .filter(|&place| levels[place].proves().is_ok() && may(place))
        .filter(|&place| place == 0 || !planted("first-level-only"))
        .collect();
    if tried.iter().any(|t| t.ended.is_none()) {
        return Next::Running;
    }
    let Some(&first) = usable.first() else {
        return Next::LeaseOnly;
    };
    let mut count = vec![0_u32; levels.len()];
    for attempt in tried {
        if let Some(times) = count.get_mut(attempt.level) {
            *times = times.saturating_add(1);
        }
    }
    // The round is the number of times the least tried level was tried.
    let round = usable
        .iter()
        .map(|&place| count[place])
        .min()
        .unwrap_or_default();
    let level = usable
        .iter()
        .copied()
        .find(|&place| count[place] == round)
        .unwrap_or(first);
    let begins_round = round > 0 && usable.iter().all(|&place| count[place] == round);
    if begins_round {
        let since = tried
            .iter()
            .filter_map(|t| t.ended)
            .min()
            .unwrap_or_default();
        let delay = RETRY_FIRST
            .saturating_mul(1 << (round - 1).min(16))
            .min(RETRY_MAX);
        if since < delay {
            return Next::RetryIn(delay - since);
        }
    }
    Next::Launch { level, round }
}

#[cfg(test)]
mod tests;
