//! One run of a plan: faults come and go, nodes step, the promise is judged.

use super::runner::{CLOCK_START, trace};
use super::{Broken, Fault, News, Next, Plan, Promise, Protocol, Runner, Truth, Verdict};
use crate::check::Violation;
use crate::harness::Outcome;
use crate::world::{Clock, Link, MS};

/// A run in which more happens than this for each node is broken off: messages multiply without
/// end.
const EVENTS_MAX: u64 = 200_000;

/// What is planned for an instant.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// A step is over.
    End(usize),
    /// What a step does changes.
    Change,
    /// The process that a step ended right after what it waited for starts again.
    Back(usize),
    /// A step begins.
    Begin(usize),
    /// The trouble is over.
    Healed,
}

/// A plan on its way.
pub(super) struct Run<'p, P: Protocol, C> {
    plan: &'p Plan,
    runner: Runner<P>,
    promise: C,
    turns: Vec<Turn>,
    active: Vec<bool>,
    /// Steps that wait for a node to do something, and how often it still has to.
    aimed: Vec<(usize, u32)>,
    links: Vec<Link>,
    healed: Option<u64>,
    /// All that happens has happened.
    over: bool,
}

fn truth<'a, P: Protocol>(runner: &'a Runner<P>, healed: Option<u64>, plan: &Plan) -> Truth<'a, P> {
    Truth {
        runner,
        healed,
        end: plan.end,
    }
}

impl<'p, P: Protocol, C: Promise<P>> Run<'p, P, C> {
    pub(super) fn new(plan: &'p Plan, bug: Option<&'static str>, traced: bool) -> Run<'p, P, C> {
        let mut runner = Runner::new(plan.seed, plan.nodes, bug);
        if traced {
            runner.trace();
        }
        let mut planned = Vec::new();
        for (i, step) in plan.steps.iter().enumerate() {
            let over = plan.over(step);
            let lasts = over.unwrap_or(plan.end).saturating_sub(step.at);
            planned.push((step.at, 2, Turn::Begin(i)));
            let changes = step.fault.changes(lasts);
            planned.extend(changes.iter().map(|t| (step.at + t, 1, Turn::Change)));
            // What is over as it begins, with the healing, has no end of its own.
            let over = over.filter(|_| !matches!(step.fault, Fault::CrashAfter { .. }));
            planned.extend(over.map(|at| (at.max(step.at), 0, Turn::End(i))));
        }
        planned.extend(plan.healed.map(|at| (at, 3, Turn::Healed)));
        // Of one instant: ends, changes, beginnings, the healing.
        planned.sort_by_key(|(at, rank, _)| (*at, *rank));
        for (number, (at, _, _)) in planned.iter().enumerate() {
            runner.world.after(*at, number as u32);
        }
        let mut run = Run {
            plan,
            runner,
            promise: C::default(),
            turns: planned.iter().map(|(_, _, turn)| *turn).collect(),
            active: vec![false; plan.steps.len()],
            aimed: Vec::new(),
            links: vec![Link::default(); plan.nodes * plan.nodes],
            healed: None,
            over: false,
        };
        run.links();
        for node in 0..plan.nodes {
            run.clock(node, 0);
        }
        run
    }

    /// Runs to the end or to the first broken promise.
    pub(super) fn run(mut self) -> Outcome {
        for node in 0..self.plan.nodes {
            self.runner.start(node);
        }
        let broken = self.play().err();
        let (now, events) = (self.runner.world.now(), self.runner.world.events());
        let ended = if self.over { self.plan.end } else { now };
        let violation = broken.map(|b| {
            trace!(self.runner, "** broken: {}: {}", b.property, b.what);
            self.runner.world.broken(b.property, &b.what, &b.facts);
            Violation::new(b.property, ended, b.what, b.facts)
        });
        let mut exposure = std::mem::take(&mut self.runner.counts);
        for (step, active) in self.plan.steps.iter().zip(&self.active) {
            // A run that broke off never saw what came later.
            let seen = *active || step.at <= now;
            exposure.add(step.fault.kind().counted(), u64::from(seen));
        }
        Outcome {
            seed: self.plan.seed,
            hash: self.runner.hash(),
            violation,
            events,
            ended,
            exposure,
            trace: self.runner.take_trace(),
            record: self.runner.world.take_record(),
        }
    }

    fn play(&mut self) -> Verdict {
        self.judge(None)?;
        while let Some(next) = self.runner.next(self.plan.end) {
            match next {
                Next::Node(node) => {
                    self.judge(Some(node))?;
                    if self.aims_at(node) {
                        self.judge(None)?;
                    }
                }
                Next::Event(turn) => {
                    self.turn(turn);
                    self.judge(None)?;
                }
            }
            let most = EVENTS_MAX * self.plan.nodes as u64;
            if self.runner.world.events() > most {
                let what = format!("more than {most} things happened");
                let facts = ["a run has an end", "messages or timers multiply"];
                return Err(Broken::new("bounded", what).facts(facts[0], facts[1]));
            }
        }
        self.over = true;
        let truth = truth(&self.runner, self.healed, self.plan);
        if self.healed.is_some() && self.promise.owed(&truth) {
            self.promise.due(&truth)?;
        }
        Ok(())
    }

    /// Shows the promise what was told and what has become of the nodes.
    fn judge(&mut self, stepped: Option<usize>) -> Verdict {
        let news = self.runner.take_news();
        let truth = truth(&self.runner, self.healed, self.plan);
        for one in &news {
            match one {
                News::Told(told) => self.promise.told(told, &truth)?,
                News::Started(node) => self.promise.started(*node, &truth)?,
                News::Crashed(node) => self.promise.crashed(*node, &truth)?,
            }
        }
        match stepped {
            Some(node) => self.promise.watch(node, &truth),
            None => Ok(()),
        }
    }

    fn turn(&mut self, number: u32) {
        match self.turns[number as usize] {
            Turn::Begin(step) => self.begin(step),
            Turn::End(step) => self.end(step),
            Turn::Change => self.links(),
            Turn::Healed => {
                trace!(self.runner, "** the trouble is over");
                self.healed = Some(self.runner.world.now());
                self.aimed.clear();
            }
            Turn::Back(step) => {
                self.active[step] = false;
                if let Fault::CrashAfter { node, .. } = self.plan.steps[step].fault
                    && self
                        .last(|f| (*f == Fault::Crash(node)).then_some(()))
                        .is_none()
                    && self.runner.node(node).is_none()
                {
                    self.runner.start(node);
                }
            }
        }
    }

    /// Ends the process of a node that has just done what an aimed fault waits for.
    fn aims_at(&mut self, node: usize) -> bool {
        let mut hit = None;
        for (number, left) in &mut self.aimed {
            if let Fault::CrashAfter {
                node: n, moment, ..
            } = self.plan.steps[*number].fault
                && n == node
                && self.runner.stepped(moment)
            {
                *left -= 1;
                if *left == 0 {
                    hit = Some(*number);
                }
            }
        }
        let Some(number) = hit else { return false };
        self.aimed.retain(|(_, left)| *left > 0);
        let step = &self.plan.steps[number];
        let now = self.runner.world.now();
        trace!(self.runner, "** {}", step.fault);
        if self.runner.world.is_recording() {
            self.runner
                .world
                .fault(number, &step.fault.to_string(), None);
        }
        self.active[number] = true;
        self.runner.crash(node);
        if let Some(lasts) = step.lasts {
            let back = now
                .saturating_add(lasts)
                .min(self.plan.healed.unwrap_or(u64::MAX));
            let turn = self.turns.len() as u32;
            self.turns.push(Turn::Back(number));
            self.runner.world.after(back.saturating_sub(now), turn);
        }
        true
    }

    fn begin(&mut self, number: usize) {
        let step = &self.plan.steps[number];
        let now = self.runner.world.now();
        if let Fault::CrashAfter { nth, .. } = step.fault {
            self.aimed.push((number, nth));
            return;
        }
        trace!(self.runner, "** {}", step.fault);
        if self.runner.world.is_recording() {
            let until = self.plan.over(step);
            self.runner
                .world
                .fault(number, &step.fault.to_string(), until);
        }
        let length = self
            .plan
            .over(step)
            .map_or(u64::MAX, |over| over.saturating_sub(now));
        if length == 0 {
            return;
        }
        self.active[number] = true;
        match &step.fault {
            Fault::Crash(node) => self.runner.crash(*node),
            Fault::Pause(node) => self.runner.world.stop(*node, length),
            Fault::SlowDisk { node, .. } => self.disk(*node),
            Fault::ClockJump { node, by } => {
                let clock = self.runner.world.clock(*node);
                let offset = clock.offset.saturating_add_signed(*by);
                self.runner.set_clock(*node, Clock { offset, ..clock });
            }
            Fault::ClockRate { node, .. } => self.clock(*node, now),
            Fault::Heal => {
                for (i, earlier) in self.plan.steps.iter().enumerate() {
                    self.active[i] &= !earlier.fault.on_links();
                }
                self.links();
            }
            _ => self.links(),
        }
    }

    fn end(&mut self, number: usize) {
        if !std::mem::replace(&mut self.active[number], false) {
            return;
        }
        let step = &self.plan.steps[number];
        trace!(self.runner, "** over: {}", step.fault);
        let now = self.runner.world.now();
        match &step.fault {
            // Another crash of it may still last.
            Fault::Crash(node) if self.last(|f| (*f == step.fault).then_some(())).is_none() => {
                self.runner.start(*node);
            }
            Fault::SlowDisk { node, .. } => self.disk(*node),
            Fault::ClockRate { node, .. } => self.clock(*node, now),
            fault if fault.on_links() => self.links(),
            _ => {}
        }
    }

    /// The last active fault of which `find` makes something.
    fn last<T>(&self, find: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        let active = self.plan.steps.iter().zip(&self.active).rev();
        active
            .filter(|(_, on)| **on)
            .find_map(|(s, _)| find(&s.fault))
    }

    fn disk(&mut self, node: usize) {
        let slow = |f: &Fault| match f {
            Fault::SlowDisk { node: n, delay } if *n == node => Some(*delay),
            _ => None,
        };
        let delay = self.last(slow).unwrap_or((MS / 10, 2 * MS));
        self.runner.world.disk_mut(node).delay = delay;
    }

    /// Gives a node's clock its rate; what it shows goes on from where it is.
    fn clock(&mut self, node: usize, now: u64) {
        let own = self.plan.clocks[node];
        let rate = |f: &Fault| match f {
            Fault::ClockRate { node: n, ppb } if *n == node => Some(*ppb),
            _ => None,
        };
        let rate_ppb = self.last(rate).unwrap_or(own.rate_ppb);
        let offset = if now == 0 {
            CLOCK_START + own.offset
        } else {
            let shown = self.runner.world.reading(node);
            let at_rate = Clock {
                offset: 0,
                rate_ppb,
            };
            shown - at_rate.reading(now)
        };
        self.runner.set_clock(node, Clock { offset, rate_ppb });
    }

    /// Puts all links together anew from the faults that are active.
    fn links(&mut self) {
        let (n, now) = (self.plan.nodes, self.runner.world.now());
        let whole = Link {
            base: self.plan.delay.0,
            jitter: self.plan.delay.1,
            loss: self.plan.loss,
            duplicate: self.plan.duplicate,
            ..Link::default()
        };
        let mut links = vec![whole; n * n];
        for (step, on) in self.plan.steps.iter().zip(&self.active) {
            if !on || !step.fault.on_links() {
                continue;
            }
            let lasts = self.plan.over(step).unwrap_or(self.plan.end);
            let lasts = lasts.saturating_sub(step.at);
            for (a, b) in step.fault.cuts(n, now - step.at, lasts) {
                links[a * n + b].cut = true;
            }
            for (i, link) in links.iter_mut().enumerate() {
                step.fault.bend(i / n, i % n, link);
            }
        }
        for (i, link) in links.into_iter().enumerate() {
            if std::mem::replace(&mut self.links[i], link) != link {
                self.runner
                    .world
                    .change_link(0, i / n, i % n, |l| *l = link);
            }
        }
    }
}
