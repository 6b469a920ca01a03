//! Any protocol in the false world: networks, clocks, disks, crashes, hunting and shrinking for
//! whoever implements one small trait.
//!
//! A [`Protocol`] is a state machine that is handed what happens and answers through a [`Ctx`]. A
//! [`Promise`] is what must hold, as a state machine fed with the facts nodes tell, with the truth
//! of the world at hand. A [`Test`] is both together and has every command of the harness:
//!
//! ```
//! use quorate_simulator::harness::{Subject, run};
//! use quorate_simulator::protocol::{Broken, Ctx, Promise, Protocol, Test, Told, Truth, Verdict};
//! use quorate_simulator::world::MS;
//!
//! /// Every node tells the others once how often it started, and believes the newest it hears.
//! struct Gossip(u64);
//!
//! impl Protocol for Gossip {
//!     type Message = u64;
//!     type Write = u64;
//!     type Fact = u64;
//!
//!     fn start(ctx: &mut Ctx<'_, Self>) -> Gossip {
//!         ctx.set_timer(0, 100 * MS);
//!         Gossip(1)
//!     }
//!     fn restart(ctx: &mut Ctx<'_, Self>, disk: &[u64]) -> Gossip {
//!         let begun = Gossip::start(ctx);
//!         Gossip(begun.0 + disk.last().unwrap_or(&0))
//!     }
//!     fn timer(&mut self, ctx: &mut Ctx<'_, Self>, _timer: u64) {
//!         ctx.persist(self.0);
//!         ctx.broadcast(self.0);
//!     }
//!     fn message(&mut self, ctx: &mut Ctx<'_, Self>, _from: usize, started: u64) {
//!         ctx.tell(started);
//!     }
//! }
//!
//! /// What is heard never falls. It does: this protocol speaks before its disk has the number.
//! #[derive(Default)]
//! struct Rises(Option<Told<u64>>);
//!
//! impl Promise<Gossip> for Rises {
//!     fn told(&mut self, told: &Told<u64>, _truth: &Truth<'_, Gossip>) -> Verdict {
//!         match self.0.replace(told.clone()) {
//!             Some(last) if last.fact > told.fact => {
//!                 Err(Broken::new("what is heard rises", "it fell").facts(&last, told))
//!             }
//!             _ => Ok(()),
//!         }
//!     }
//! }
//!
//! // In a program of its own: `fn main() -> ExitCode { harness::cli::main(&test) }`.
//! let test = Test::<Gossip, Rises>::new().nodes(2..=3);
//! let broken = (1..200).find_map(|seed| run(&test, &test.draw(seed), false).violation);
//! assert_eq!(broken.map(|v| v.property), Some("what is heard rises"));
//! ```

mod ctx;
mod draw;
mod fault;
mod plan;
mod promise;
mod run;
mod runner;
mod simpler;
mod subject;

#[cfg(test)]
mod tests;

pub use ctx::Ctx;
pub use fault::{Fault, Kind, Moment, Shape, Side};
pub use plan::{Plan, Step};
pub use promise::{Broken, Promise, Told, Truth, Verdict};
pub use runner::{Alone, News, Next, Runner};
pub use subject::Test;

use std::fmt::{self, Debug};

/// A deterministic state machine under test: one node of it.
///
/// The same calls give the same answers: no clock but [`Ctx::now`], no chance but [`Ctx::random`],
/// no unordered map. Nodes are numbered from 0; people see the first as `n1`.
pub trait Protocol: Sized {
    /// What nodes send each other.
    type Message: Clone + Debug;
    /// What is made durable at once, or not at all; `()` for a protocol without a disk.
    type Write: Clone + Debug;
    /// What a node tells the promise, and nobody else; `()` for nothing.
    type Fact: Clone + Debug;

    /// Names of the kinds of messages, so that faults can stop one kind alone. At most 31.
    const CLASSES: &'static [&'static str] = &["message"];

    /// Whether [`Ctx::stream`] is used: sessions that keep order and lose nothing while they last.
    const SESSIONS: bool = false;

    /// Name and meaning of every bug that can be planted with `--bug`; see [`Ctx::planted`].
    const BUGS: &'static [(&'static str, &'static str)] = &[];

    /// The kind of a message: an index into [`Protocol::CLASSES`].
    fn class(message: &Self::Message) -> usize {
        let _ = message;
        0
    }

    /// A node begins for the first time.
    fn start(ctx: &mut Ctx<'_, Self>) -> Self;

    /// A node begins again after a crash, with what its disk kept, oldest first: everything that
    /// [`Protocol::stored`] named, perhaps some more, nothing else.
    fn restart(ctx: &mut Ctx<'_, Self>, disk: &[Self::Write]) -> Self {
        let _ = disk;
        Self::start(ctx)
    }

    /// A message of another node (or of this one) has come.
    fn message(&mut self, ctx: &mut Ctx<'_, Self>, from: usize, message: Self::Message);

    /// A timer is over; see [`Ctx::set_timer`].
    fn timer(&mut self, ctx: &mut Ctx<'_, Self>, timer: u64) {
        let _ = (ctx, timer);
    }

    /// Every write up to this number is durable; see [`Ctx::persist`].
    fn stored(&mut self, ctx: &mut Ctx<'_, Self>, write: u64) {
        let _ = (ctx, write);
    }

    /// A session to this node is open; what an older one held is lost. See [`Ctx::stream`].
    fn connected(&mut self, ctx: &mut Ctx<'_, Self>, peer: usize) {
        let _ = (ctx, peer);
    }

    /// The session to this node is gone.
    fn disconnected(&mut self, ctx: &mut Ctx<'_, Self>, peer: usize) {
        let _ = (ctx, peer);
    }
}

/// A node as people call it: `n1` is node 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeName(pub usize);

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0 + 1)
    }
}
