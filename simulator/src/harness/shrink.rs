//! Cutting a failing plan down to the few faults that matter.
//!
//! First delta debugging over the list of faults (Zeller and Hildebrandt, "Simplifying and isolating
//! failure-inducing input", 2002), then simpler variants of what is left, then delta debugging again.
//! A smaller plan counts only if the *same promise* breaks: another one would be another story.
//!
//! A fault left out shifts the random delays after it, and a rare race is lost for that reason alone.
//! So each candidate is tried under a few other seeds as well; any of them that fails will do.

use super::{Outcome, Subject, run};
use crate::check::Violation;

/// Runs spent on one failure if nothing else is said.
pub const RUNS: u32 = 3000;
/// Other seeds a plan is tried under, while many faults are left out at once and while single ones
/// are.
const OTHER_SEEDS: (u64, u64) = (1, 4);

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
        runs: 1,
        limit,
        tell,
    };
    s.shorter();
    s.fewer_faults();
    loop {
        let plainer = s.plainer();
        if !plainer || !s.fewer_faults() {
            break;
        }
    }
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
    runs: u32,
    limit: u32,
    tell: F,
}

impl<S: Subject, F: FnMut(u32, usize)> Shrinker<'_, S, F> {
    /// Takes the plan if the same promise breaks, under its own seed or one of `others` more.
    fn take(&mut self, plan: S::Plan, others: u64) -> bool {
        let seed = self.subject.seed(&plan);
        for other in 0..=others {
            if self.runs >= self.limit {
                return false;
            }
            let tried = if other == 0 {
                Some(plan.clone())
            } else {
                self.subject.with_seed(&plan, seed.wrapping_add(other))
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

    /// Leaves out what comes after the failure.
    fn shorter(&mut self) {
        if let Some(v) = self.best.1.violation.clone() {
            let cut = self.subject.until(&self.best.0, &v);
            self.take(cut, 0);
        }
    }

    /// Leaves out faults, many at once at first; whether any was.
    fn fewer_faults(&mut self) -> bool {
        let before = self.subject.faults(&self.best.0);
        let mut chunk = before.div_ceil(2).max(1);
        loop {
            let mut at = 0;
            let mut any = false;
            while at < self.subject.faults(&self.best.0) {
                let all = self.subject.faults(&self.best.0);
                let kept: Vec<usize> = (0..all).filter(|i| *i < at || *i >= at + chunk).collect();
                let candidate = self.subject.keep(&self.best.0, &kept);
                let others = if chunk == 1 {
                    OTHER_SEEDS.1
                } else {
                    OTHER_SEEDS.0
                };
                if self.take(candidate, others) {
                    any = true;
                } else {
                    at += chunk;
                }
                if self.runs >= self.limit {
                    return self.subject.faults(&self.best.0) < before;
                }
            }
            if chunk > 1 {
                chunk = chunk.div_ceil(2);
            } else if !any {
                return self.subject.faults(&self.best.0) < before;
            }
        }
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
            if self.take(candidates[at].clone(), 0) {
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
