//! What is done for guests that run here: probes, remedies by their policy, and words about them.
//!
//! The ladder: reset in place, restart here under the same epoch, give back so that it is started
//! elsewhere; then the growing delay of the coordinator. Nothing of it starts a process without the
//! lease: a reset keeps the process, and a restart is an end after which `start_missing` judges
//! anew.

use super::sight::{Deed, Phase, Process, Surroundings};
use super::{END_PATIENCE, Executor};
use crate::command::Closure;
use crate::contract::GuestAction;
use crate::guest::{GuestId, GuestSpec, OnHang, Policy, Probe};
use crate::lrmd::{Context, Failure, GONE, HostWatch};
use crate::mutants::planted;
use crate::observation::{GuestEvent, HostHealth, Observation};
use quorate_membership::{Time, Token};
use std::time::Duration;

/// With less than this left of the lease nothing is captured: an end for the lease's sake must
/// not wait behind a capture, which may take 2.5 s.
const CAPTURE_ROOM: Duration = Duration::from_secs(3);
/// A reset is answered within seconds, unless this node stood still itself; until so long after it
/// was ordered, its guest is left alone.
const RESET_PATIENCE: Duration = Duration::from_secs(60);
/// A probe that is not answered so long after its limit was not run.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// Whether a guest whose disk fails here may find it on another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Elsewhere {
    /// Every other host lacks it too, or takes no guests.
    None,
    /// A host takes guests, and runs none that would show.
    Unknown,
    /// A host runs guests, and their disks work.
    Known,
}

/// What the judge must know besides what was seen of a guest.
fn context<'a>(now: Time, process: &Process, spec: &'a GuestSpec, host: &HostWatch) -> Context<'a> {
    let running = process.phase == Phase::Running && process.reset.is_none();
    Context {
        now,
        policy: &spec.policy,
        probe_failures: spec.probe.as_ref().map(|p| p.failures),
        steady: running.then_some(process.steady),
        crowded: host.crowded(),
        elsewhere: process.elsewhere || planted("storage-gone-everywhere"),
    }
}

impl Process {
    /// Whether [`Executor::tend`] would do nothing about it, running as it is.
    pub(super) fn is_well(
        &mut self,
        now: Time,
        spec: &GuestSpec,
        host: &HostWatch,
        blind: bool,
    ) -> bool {
        let context = context(now, self, spec, host);
        self.reset.is_none()
            && self.watch.failure(&context).is_none()
            && now < self.watch.deadline()
            && !spec.probe.as_ref().is_some_and(|p| self.asks(now, p))
            && (blind || !self.watch.has_news(now))
    }

    /// Whether its probe is due; one at a time.
    fn asks(&self, now: Time, probe: &Probe) -> bool {
        let limit = Duration::from_millis(probe.limit_ms) + PROBE_PATIENCE;
        let under_way = self
            .probe
            .is_some_and(|(_, given)| now.since(given) < limit);
        !under_way && now >= self.watch.probe_at && self.watch.judgeable(now)
    }
}

impl Executor {
    /// A monitor saw something of a guest; gives whether it has failed by all that was seen.
    pub(crate) fn observed(
        &mut self,
        s: &Surroundings<'_>,
        guest: GuestId,
        epoch: Token,
        seen: &Observation,
    ) -> bool {
        let Some(record) = s.guests.guests.get(&guest) else {
            return false;
        };
        let Some(process) = self.processes.get_mut(&guest) else {
            return false;
        };
        // Of another life, or of what a reset is just putting an end to.
        if process.epoch != epoch || process.phase == Phase::Ending || process.reset.is_some() {
            return false;
        }
        let context = context(s.now, process, &record.spec, &self.host);
        process.watch.take(&context, seen);
        let lost = process.watch.without_storage();
        let runs = matches!(seen, Observation::Sample(s) if s.held.is_none())
            && process.phase == Phase::Running;
        let failed = process.watch.failure(&context).is_some();
        if lost {
            self.unfit = true;
        } else if runs && self.unfit {
            let others = self.processes.values();
            self.unfit = others.into_iter().any(|p| p.watch.without_storage());
        }
        if *seen == Observation::Event(GuestEvent::Ending) {
            self.deeds.push(Deed::Health(guest, GONE.into()));
        }
        self.tell(s.now, guest, &record.spec.policy);
        failed
    }

    /// A monitor saw how this host stands.
    pub(crate) fn host_observed(&mut self, health: &HostHealth) {
        for report in self.host.take(health) {
            self.deeds.push(Deed::Host(report.text));
        }
    }

    fn tell(&mut self, now: Time, guest: GuestId, policy: &Policy) {
        let Some(process) = self.processes.get_mut(&guest) else {
            return;
        };
        let Some(report) = process.watch.report(now) else {
            return;
        };
        let left_alone = process.watch.hangs() && policy.on_hang == OnHang::Report;
        self.deeds.push(if report.alert || left_alone {
            Deed::Alert(guest, report.text)
        } else {
            Deed::Health(guest, report.text)
        });
    }

    /// Looks after a guest that runs here by the log's word and under a lease with room to spare.
    pub(super) fn tend(&mut self, s: &Surroundings<'_>, guest: GuestId, spec: &GuestSpec) {
        let until = s.lease_end.map(|end| end - s.cluster.timing.pause_margin);
        let blind = self.blind_to(spec.definition.kind()).is_some();
        let Some(process) = self.processes.get_mut(&guest) else {
            return;
        };
        if let Some((_, given)) = process.reset {
            if s.now.since(given) >= RESET_PATIENCE {
                process.reset = None;
                self.restart(s, guest, "a reset was not answered");
            }
            return;
        }
        let context = context(s.now, process, spec, &self.host);
        if let Some(failure) = process.watch.failure(&context)
            && (!blind || !matches!(failure, Failure::Hung(_)) || planted("blindness-is-silence"))
        {
            self.tell(s.now, guest, &spec.policy);
            return self.remedy(s, guest, &spec.policy, &failure, until);
        }
        if process.watch.try_again(s.now) {
            self.aside(guest, GuestAction::Continue, until);
        }
        self.ask(s, guest, spec, until);
        self.relock(s, guest, until);
        if !blind {
            self.tell(s.now, guest, &spec.policy);
        }
    }

    /// Orders its probe when that is due.
    fn ask(&mut self, s: &Surroundings<'_>, guest: GuestId, spec: &GuestSpec, until: Option<Time>) {
        let Some(probe) = &spec.probe else { return };
        let process = self.processes.get_mut(&guest);
        let Some(process) = process.filter(|p| p.asks(s.now, probe)) else {
            return;
        };
        process.watch.probe_at = s.now + Duration::from_millis(probe.every_ms);
        if let Some(order) = self.aside(guest, GuestAction::Probe(probe.clone()), until)
            && let Some(process) = self.processes.get_mut(&guest)
        {
            process.probe = Some((order, s.now));
        }
    }

    fn remedy(
        &mut self,
        s: &Surroundings<'_>,
        guest: GuestId,
        policy: &Policy,
        failure: &Failure,
        until: Option<Time>,
    ) {
        if matches!(failure, Failure::Hung(_)) && policy.on_hang == OnHang::Report {
            return;
        }
        let why = failure.words();
        if s.lease_left() >= CAPTURE_ROOM {
            let capture = GuestAction::Capture { why: why.clone() };
            self.aside(guest, capture, until);
        }
        if matches!(failure, Failure::IoError(_)) {
            // Its disk is what is gone here: nothing of it is to be tried here again.
            return self.ends(s, guest, &why, Some(Closure::Refused(why.clone())));
        }
        // What is outside the guest is not mended by starting its operating system anew.
        let inside = !matches!(failure, Failure::Monitor(_));
        if inside && self.may_reset(s.now, guest, policy) {
            if let Some(order) = self.aside(guest, GuestAction::Reset, until)
                && let Some(process) = self.processes.get_mut(&guest)
            {
                process.reset = Some((order, s.now));
                let text = format!("is reset: {why}");
                process.watch.note(s.now, text.clone());
                self.deeds.push(Deed::Health(guest, text));
            }
            return;
        }
        self.restart(s, guest, &why);
    }

    /// Takes one reset out of the budget, if it holds one.
    fn may_reset(&mut self, now: Time, guest: GuestId, policy: &Policy) -> bool {
        let window = Duration::from_millis(policy.window_ms);
        let resets = self.resets.entry(guest).or_default();
        resets.retain(|at| now.since(*at) < window);
        let may = resets.len() < policy.resets_here as usize;
        if may {
            resets.push(now);
        }
        may
    }

    /// Ends a guest that failed, to be started again: here as long as the budget lasts.
    fn restart(&mut self, s: &Surroundings<'_>, guest: GuestId, why: &str) {
        let epoch = self.processes.get(&guest).map(|p| p.epoch);
        let used_up = self.failed(s, guest, epoch.unwrap_or(Token::NONE));
        self.ends(
            s,
            guest,
            why,
            used_up.map(|ran_ms| {
                let how = why.to_owned();
                Closure::Failed { how, ran_ms }
            }),
        );
    }

    /// Ends a guest, to be started elsewhere if it is closed so.
    fn ends(&mut self, s: &Surroundings<'_>, guest: GuestId, why: &str, closing: Option<Closure>) {
        let text = if closing.is_some() {
            format!("is ended, to be started elsewhere: {why}")
        } else {
            format!("is ended and started again here: {why}")
        };
        if let Some(process) = self.processes.get_mut(&guest) {
            process.watch.note(s.now, text.clone());
        }
        self.deeds.push(Deed::Health(guest, text));
        self.end(s.now, guest, closing);
    }

    /// The answer to an order that changes no phase: whether anything follows from it. `None` if
    /// it was another order.
    pub(super) fn aside_done(
        &mut self,
        s: &Surroundings<'_>,
        order: u64,
        result: &Result<(), String>,
    ) -> Option<bool> {
        let is = |o: Option<(u64, Time)>| o.is_some_and(|(number, _)| number == order);
        let found = self.processes.iter_mut();
        let (guest, process) = found
            .map(|(g, p)| (*g, p))
            .find(|(_, p)| is(p.reset) || is(p.probe) || is(p.relock))?;
        if is(process.relock) {
            process.relock = None;
            self.relocked(guest, result);
            return Some(false);
        }
        if is(process.probe) {
            process.probe = None;
            // One that took long: the next is due already.
            return Some(s.now >= process.watch.probe_at);
        }
        process.reset = None;
        match result {
            Ok(()) => {
                process.steady = s.now;
                process.watch.begins(s.now);
            }
            // Held or ending by now: its failure stands, and is looked at when it runs again.
            Err(_) if process.phase != Phase::Running => {}
            Err(why) => {
                let text = format!("could not be reset: {why}");
                self.restart(s, guest, &text);
            }
        }
        Some(true)
    }

    /// When something here is due at the latest.
    pub(crate) fn deadline(&self, s: &Surroundings<'_>) -> Time {
        if self.processes.is_empty() {
            return Time::NEVER;
        }
        let mut at = Time::NEVER;
        if let Some(end) = s.lease_end {
            let pause = end - s.cluster.timing.pause_margin;
            for t in [pause, end] {
                if t > s.now {
                    at = at.min(t);
                }
            }
        }
        let due = self.processes.iter().map(|(g, p)| Self::due(s, *g, p));
        due.fold(at, Time::min)
    }

    /// The same for one guest alone.
    pub(crate) fn deadline_of(&self, s: &Surroundings<'_>, guest: GuestId) -> Time {
        let process = self.processes.get(&guest);
        process.map_or(Time::NEVER, |p| Self::due(s, guest, p))
    }

    fn due(s: &Surroundings<'_>, guest: GuestId, process: &Process) -> Time {
        match process.order {
            Some((_, given)) if process.phase == Phase::Ending => given + END_PATIENCE,
            _ => Self::care_due(s, guest, process),
        }
    }

    /// When care for `process` is due at the latest; never a moment that has passed.
    fn care_due(s: &Surroundings<'_>, guest: GuestId, process: &Process) -> Time {
        if process.phase != Phase::Running {
            return Time::NEVER;
        }
        let given = process.reset.map(|(_, given)| given + RESET_PATIENCE);
        let probed = |_: &Time| {
            let record = s.guests.guests.get(&guest);
            record.is_some_and(|r| r.spec.probe.is_some())
        };
        let later = |t: &Time| *t > s.now;
        let probe = Some(process.watch.probe_at).filter(later).filter(probed);
        [
            Some(process.watch.deadline()).filter(later),
            given.filter(later),
            probe,
        ]
        .into_iter()
        .flatten()
        .fold(Time::NEVER, Time::min)
    }

    /// How a guest that runs here stands, in words, and whether that is well; `None` if no monitor
    /// ever saw anything of it.
    pub(crate) fn health(&self, now: Time, guest: GuestId, epoch: Token) -> Option<(bool, String)> {
        let process = self.processes.get(&guest).filter(|p| p.epoch == epoch)?;
        if !process.watch.seen() {
            // Nobody looks inside a guest of that kind: nothing can be said.
            return None;
        }
        let standing = process.watch.standing(now);
        Some((standing == crate::lrmd::Standing::Healthy, standing.words()))
    }

    /// What is kept of a guest that is here, for people.
    pub(crate) fn evidence(&self, now: Time, guest: GuestId) -> Vec<String> {
        let process = self.processes.get(&guest);
        process.map_or_else(Vec::new, |p| p.watch.evidence(now))
    }

    /// Whether guests here are held by I/O errors, or were last.
    pub(crate) fn lacks_storage(&self) -> bool {
        self.unfit
    }

    /// The other hosts were looked through for one that has the disks which fail here. Where that is
    /// not known of any, one guest alone may find it out.
    pub(crate) fn looked_elsewhere(&mut self, found: Elsewhere) {
        let mut held = self.processes.values_mut();
        let mut may = found != Elsewhere::None;
        held.by_ref().for_each(|p| {
            p.elsewhere = may && p.watch.without_storage();
            may &= found == Elsewhere::Known || !p.elsewhere;
        });
    }

    /// What stands against this host.
    pub(crate) fn host_remarks(&self) -> impl Iterator<Item = String> + '_ {
        self.host.remarks()
    }
}
