//! What must hold, and the truth it is judged by.

use super::{NodeName, Protocol, Runner};
use crate::check::At;
use std::fmt::{self, Debug, Display};

/// Something a node told.
#[derive(Clone, Debug)]
pub struct Told<F> {
    /// Who.
    pub node: usize,
    /// When, in true nanoseconds.
    pub at: u64,
    /// What.
    pub fact: F,
}

impl<F: Debug> Display for Told<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (node, at) = (NodeName(self.node), At(self.at));
        write!(f, "{node} at {at}: {:?}", self.fact)
    }
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub(super) property: &'static str,
    pub(super) what: String,
    pub(super) facts: [String; 2],
}

impl Broken {
    /// The promise by its name, and what went wrong.
    #[must_use]
    pub fn new(property: &'static str, what: impl Into<String>) -> Broken {
        Broken {
            property,
            what: what.into(),
            facts: Default::default(),
        }
    }

    /// The two facts that cannot both be right.
    #[must_use]
    pub fn facts(self, one: impl ToString, other: impl ToString) -> Broken {
        let facts = [one.to_string(), other.to_string()];
        Broken { facts, ..self }
    }
}

/// Whether the promise holds.
pub type Verdict = Result<(), Broken>;

/// What must hold of a protocol, as a state machine that begins anew in every run. It sees the
/// truth, which no node knows.
pub trait Promise<P: Protocol>: Default {
    /// A node has told something.
    ///
    /// # Errors
    /// The promise is broken.
    fn told(&mut self, told: &Told<P::Fact>, truth: &Truth<'_, P>) -> Verdict {
        let _ = (told, truth);
        Ok(())
    }

    /// The process of a node has begun, for the first time or after a crash.
    ///
    /// # Errors
    /// The promise is broken.
    fn started(&mut self, node: usize, truth: &Truth<'_, P>) -> Verdict {
        let _ = (node, truth);
        Ok(())
    }

    /// The process of a node has ended: from here on it remembers what its disk kept and no more.
    ///
    /// # Errors
    /// The promise is broken.
    fn crashed(&mut self, node: usize, truth: &Truth<'_, P>) -> Verdict {
        let _ = (node, truth);
        Ok(())
    }

    /// A node has taken a step: everything that can be seen may be looked at.
    ///
    /// # Errors
    /// The promise is broken.
    fn watch(&mut self, node: usize, truth: &Truth<'_, P>) -> Verdict {
        let _ = (node, truth);
        Ok(())
    }

    /// Whether anything must have happened after the healing, given the links that are left: by
    /// default if some running node has two-way links to a quorum.
    fn owed(&self, truth: &Truth<'_, P>) -> bool {
        truth.hub().is_some()
    }

    /// The run is over, its trouble ended at [`Truth::healed`], and something is owed: what had to
    /// happen by now, has it? The way to catch what runs for ever without getting anywhere.
    ///
    /// # Errors
    /// It has not.
    fn due(&mut self, truth: &Truth<'_, P>) -> Verdict {
        let _ = truth;
        Ok(())
    }
}

/// A protocol without promises: panics alone are found.
impl<P: Protocol> Promise<P> for () {}

/// The world as it is.
pub struct Truth<'a, P: Protocol> {
    pub(super) runner: &'a Runner<P>,
    pub(super) healed: Option<u64>,
    pub(super) end: u64,
}

impl<P: Protocol> Truth<'_, P> {
    /// True time in nanoseconds since the run began.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.runner.world.now()
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.runner.nodes()
    }

    /// A node's state; `None` while its process is down.
    #[must_use]
    pub fn node(&self, node: usize) -> Option<&P> {
        self.runner.node(node)
    }

    /// Every node whose process is up.
    pub fn up(&self) -> impl Iterator<Item = (usize, &P)> {
        (0..self.nodes()).filter_map(|n| Some((n, self.node(n)?)))
    }

    /// What a node's clock shows, in nanoseconds.
    #[must_use]
    pub fn reading(&self, node: usize) -> u64 {
        self.runner.world.reading(node)
    }

    /// What a node's disk has, oldest first.
    #[must_use]
    pub fn disk(&self, node: usize) -> &[P::Write] {
        self.runner.disk(node)
    }

    /// When the trouble of this run ended; `None` while it goes on. Cuts may have stayed.
    #[must_use]
    pub fn healed(&self) -> Option<u64> {
        self.healed
    }

    /// Nanoseconds since the trouble of this run ended; `None` while it goes on. A promise about what
    /// must have happened after it compares this with the time that the protocol needs.
    #[must_use]
    pub fn settled_for(&self) -> Option<u64> {
        Some(self.now().saturating_sub(self.healed?))
    }

    /// True time of the end of this run, in nanoseconds.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Since when the process of a node runs, in true nanoseconds; `None` while it is down.
    #[must_use]
    pub fn up_since(&self, node: usize) -> Option<u64> {
        self.runner.up_since(node)
    }

    /// Whether everything passes from one node to another.
    #[must_use]
    pub fn passes(&self, from: usize, to: usize) -> bool {
        self.runner.passes(from, to)
    }

    /// Whether everything passes both ways.
    #[must_use]
    pub fn linked(&self, a: usize, b: usize) -> bool {
        self.passes(a, b) && self.passes(b, a)
    }

    /// The first running node that has two-way links to running nodes which are, with itself, more
    /// than half of all.
    #[must_use]
    pub fn hub(&self) -> Option<usize> {
        let n = self.nodes();
        let running = |node: &usize| self.runner.world.is_running(*node);
        let linked = |a: usize| {
            let others = (0..n).filter(running);
            others.filter(|b| a == *b || self.linked(a, *b)).count()
        };
        (0..n).filter(running).find(|a| linked(*a) > n / 2)
    }
}
