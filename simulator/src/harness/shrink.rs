//! Cutting a failing plan down to the few faults that matter.
//!
//! Random handfuls of faults go first, half of them or less at once; then delta debugging over the
//! list of what is left (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing
//! input", 2002), then simpler variants, then delta debugging again. A smaller plan counts only if the
//! *same promise* breaks: another one would be another story.
//!
//! A fault left out shifts the random delays after it, and a race is lost for that reason alone. So
//! each candidate is tried under a few other seeds as well, and any of them that fails will do. When
//! nothing can be left out that way, patience helps: the fewer faults make a race likely, the rarer
//! are the seeds that lose it, so all that could go is tried in turns, each turn under new seeds. How
//! many turns depends on how many new seeds lose the race as it stands.
//!
//! What is left depends on the way down. So several are gone from the whole plan on, and the one that
//! leaves least is gone on with.

use super::{Outcome, Subject, run};
use crate::check::Violation;
use crate::world::{Rng, Stream};
use std::ops::RangeInclusive;

/// Runs spent on one failure if nothing else is said.
pub const RUNS: u32 = 12_000;
/// Other seeds a candidate is tried under: while many faults are left out at once, and while single
/// ones are.
const OTHER_SEEDS: (u64, u64) = (1, 4);
/// Turns without a success after which patience ends, and how many more for each seed that it takes to
/// see the failure again: on each way down, and at the end of the best.
const TURNS: [(u32, u32); 2] = [(10, 2), (48, 4)];
/// New seeds tried to learn that, at most, and failures among them that are enough.
const ODDS: (u32, u32) = (200, 3);
/// Pairs are tried among so many faults at most: they are many.
const PAIRS_AMONG: usize = 8;
/// The last so many faults are tried alone first, under so many other seeds each: what broke the
/// promise is often near its end.
const TAILS: ([usize; 5], u64) = ([1, 2, 4, 8, 16], 3);
/// Handfuls are thrown out while more faults than this are left, and until so many in a row were
/// missed, or so many more for each seed that it takes to see the failure again.
const HANDFULS: (usize, u32, u32) = (4, 60, 4);
/// Ways down that may leave no less than the best, in a row, before it is taken for the least.
const WAYS: u32 = 3;

/// What shrinking came to.
#[derive(Clone, Debug)]
pub struct Shrunk<P> {
    /// The plan that is left.
    pub plan: P,
    /// What it comes to.
    pub outcome: Outcome,
    /// Faults before and after.
    pub faults: (usize, usize),
    /// Runs it took.
    pub runs: u32,
}

/// Cuts `plan` down with at most `limit` runs; `tell` hears of the number of runs and of the faults
/// that are left. `None` if the plan breaks no promise.
pub fn shrink<S: Subject>(
    subject: &S,
    plan: &S::Plan,
    limit: u32,
    tell: impl FnMut(u32, usize),
) -> Option<Shrunk<S::Plan>> {
    let outcome = run(subject, plan, false);
    let violation = outcome.violation.clone()?;
    let before = subject.faults(plan);
    let mut s = Shrinker {
        subject,
        violation,
        best: (plan.clone(), outcome),
        fresh: subject.seed(plan),
        rng: Rng::new(subject.seed(plan), Stream::Shrink),
        backwards: false,
        turns: TURNS[0],
        runs: 1,
        limit,
        tell,
    };
    let whole = s.best.clone();
    let mut least = whole.clone();
    let mut in_vain = 0;
    // Half of what is left for each way: one that meets a rare race may take any number. The last
    // quarter of all is for the patience at the end.
    let ways_end = limit - limit / 4;
    while in_vain < WAYS && s.runs < ways_end && subject.faults(&least.0) > 1 {
        s.best = whole.clone();
        s.limit = s.runs + (ways_end - s.runs).div_ceil(2);
        if !s.backwards {
            s.tails();
        }
        s.cut_down();
        s.backwards = !s.backwards;
        in_vain += 1;
        if subject.faults(&s.best.0) < subject.faults(&least.0) {
            (least, in_vain) = (s.best.clone(), 0);
        }
    }
    (s.best, s.turns, s.limit) = (least, TURNS[1], limit);
    s.cut_down();
    let (plan, outcome) = s.best;
    Some(Shrunk {
        faults: (before, subject.faults(&plan)),
        plan,
        outcome,
        runs: s.runs,
    })
}

struct Shrinker<'a, S: Subject, F> {
    subject: &'a S,
    violation: Violation,
    best: (S::Plan, Outcome),
    /// The last seed that was tried: none is tried twice, whatever the candidate.
    fresh: u64,
    rng: Rng,
    /// Every second way down: the plan is made plainer first, and faults go from the last one on.
    backwards: bool,
    /// Turns without a success after which patience ends.
    turns: (u32, u32),
    runs: u32,
    limit: u32,
    tell: F,
}

impl<S: Subject, F: FnMut(u32, usize)> Shrinker<'_, S, F> {
    /// Takes steps of every kind until none is left.
    fn cut_down(&mut self) {
        self.shorter();
        if self.backwards {
            // In a plainer world, fewer faults may be enough.
            self.plainer();
        }
        self.handfuls();
        loop {
            self.shorter();
            self.fewer_faults();
            while self.plainer() && self.fewer_faults() {}
            if !self.patiently_fewer() {
                return;
            }
        }
    }

    /// Takes the plan if the same promise breaks under one of so many seeds: 0 stands for its own,
    /// all others are new.
    fn take(&mut self, plan: S::Plan, seeds: RangeInclusive<u64>) -> bool {
        for other in seeds {
            if self.runs >= self.limit {
                return false;
            }
            let tried = if other == 0 {
                Some(plan.clone())
            } else {
                self.fresh = self.fresh.wrapping_add(1);
                self.subject.with_seed(&plan, self.fresh)
            };
            let Some(tried) = tried else { return false };
            self.runs += 1;
            let outcome = run(self.subject, &tried, false);
            (self.tell)(self.runs, self.subject.faults(&self.best.0));
            let same = |v: &Violation| {
                v.property == self.violation.property
                    // Every expectation is a promise of its own.
                    && (v.property != "expectation" || v.what == self.violation.what)
            };
            if outcome.violation.as_ref().is_some_and(same) {
                self.best = (tried, outcome);
                return true;
            }
        }
        false
    }

    /// About how many new seeds it takes to see the failure again, as it stands.
    fn odds(&mut self) -> u32 {
        let (most, enough) = ODDS;
        let whole = self.best.clone();
        let (mut tried, mut failed) = (0, 0);
        while tried < most && failed < enough && self.runs < self.limit {
            tried += 1;
            failed += u32::from(self.take(whole.0.clone(), 1..=1));
        }
        self.best = whole;
        tried / failed.max(1)
    }

    /// Leaves out what comes after the failure.
    fn shorter(&mut self) {
        if let Some(v) = self.best.1.violation.clone() {
            let cut = self.subject.until(&self.best.0, &v);
            self.take(cut, 0..=0);
        }
    }

    /// Tries the last few faults alone.
    fn tails(&mut self) {
        let all = self.subject.faults(&self.best.0);
        for last in TAILS.0.into_iter().filter(|last| *last < all) {
            if self.take_only(|i| i + last >= all, 0..=TAILS.1) {
                return;
            }
        }
    }

    /// Leaves out faults at random: a half, a quarter or an eighth of them. A few that matter, wherever
    /// they stand, are missed by that more often than by stretches; and the more is left out at once,
    /// the fewer of the rare seeds are needed under which a race is lost.
    fn handfuls(&mut self) {
        let (few, patience, more) = HANDFULS;
        if self.subject.faults(&self.best.0) <= few {
            return;
        }
        let patience = patience + more * self.odds();
        let mut missed = 0;
        while missed < patience && self.runs < self.limit {
            let all = self.subject.faults(&self.best.0);
            if all <= few {
                return;
            }
            let out = (all >> (1 + self.rng.index(3))).max(1);
            let mut stays = vec![true; all];
            for _ in 0..out {
                stays[self.rng.index(all)] = false;
            }
            let seed = u64::from(missed % 2);
            if self.take_only(|i| stays[i], seed..=seed) {
                missed = 0;
            } else {
                missed += 1;
            }
        }
    }

    /// Takes the plan with only these faults, if the same promise breaks.
    fn take_only(&mut self, stays: impl Fn(usize) -> bool, seeds: RangeInclusive<u64>) -> bool {
        let all = 0..self.subject.faults(&self.best.0);
        let kept: Vec<usize> = all.filter(|i| stays(*i)).collect();
        let candidate = self.subject.keep(&self.best.0, &kept);
        self.take(candidate, seeds)
    }

    /// Leaves out faults, many at once at first; whether any was.
    fn fewer_faults(&mut self) -> bool {
        let before = self.subject.faults(&self.best.0);
        let mut chunk = before.div_ceil(2).max(1);
        loop {
            let mut at = 0;
            let mut any = false;
            while at < self.subject.faults(&self.best.0) && self.runs < self.limit {
                let (many, single) = OTHER_SEEDS;
                let others = if chunk == 1 { single } else { many };
                let last = self.subject.faults(&self.best.0) - 1;
                let backwards = self.backwards;
                let place = |i: usize| if backwards { last - i } else { i };
                let stays = |i: usize| place(i) < at || place(i) >= at + chunk;
                if self.take_only(stays, 0..=others) {
                    any = true;
                } else {
                    at += chunk;
                }
            }
            if chunk > 1 {
                chunk = chunk.div_ceil(2);
            } else if !any || self.runs >= self.limit {
                return self.subject.faults(&self.best.0) < before;
            }
        }
    }

    /// Leaves out what single tries did not: stretches, single faults, and two that make up for each
    /// other, as a cut and what mends it. Whether any was.
    fn patiently_fewer(&mut self) -> bool {
        let before = self.subject.faults(&self.best.0);
        let turns = self.turns.0 + self.turns.1 * self.odds();
        let mut since = 0;
        while since < turns && self.runs < self.limit {
            since += 1;
            for out in removals(self.subject.faults(&self.best.0)) {
                if self.take_only(|i| !out.contains(&i), 1..=1) {
                    since = 0;
                    break;
                }
            }
        }
        self.subject.faults(&self.best.0) < before
    }

    /// Takes plainer variants until there is none; whether any was taken.
    fn plainer(&mut self) -> bool {
        let mut taken = false;
        let (mut at, mut since) = (0, 0);
        loop {
            let candidates = self.subject.simpler(&self.best.0);
            if candidates.is_empty() || self.runs >= self.limit {
                return taken;
            }
            // On from where the last one was taken: those before it were refused a moment ago.
            at %= candidates.len();
            since += 1;
            if self.take(candidates[at].clone(), 0..=1) {
                taken = true;
                since = 0;
            } else {
                at += 1;
            }
            if since > candidates.len() {
                return taken;
            }
        }
    }
}

/// Which of `all` faults could be left out together, the most first.
fn removals(all: usize) -> Vec<Vec<usize>> {
    let mut sets = Vec::new();
    for stretch in [all / 2, all / 4].into_iter().filter(|s| *s > 2) {
        let starts = (0..all).step_by(stretch);
        sets.extend(starts.map(|from| (from..all.min(from + stretch)).collect()));
    }
    if all <= PAIRS_AMONG {
        sets.extend((1..all).flat_map(|b| (0..b).map(move |a| vec![a, b])));
    }
    sets.extend((0..all).map(|i| vec![i]));
    sets
}

#[cfg(test)]
mod tests;
