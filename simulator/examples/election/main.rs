//! An election that one cut keeps going for ever: `README.md` beside this file tells the story.

use quorate_simulator::harness::{Subject, cli};
use quorate_simulator::protocol::*;
use quorate_simulator::world::{MS, SECOND};
use std::process::ExitCode;

/// Time between two beats, and the silence after which a leader counts as gone.
const BEAT: u64 = 100 * MS;
const SILENCE: u64 = 500 * MS;

/// Term, leader, and the number of the beat: the greatest one counts, so of one term the higher
/// node's.
type Beat = (u64, usize, u64);

/// A node follows the greatest beat it knows; if that is its own, it leads.
struct Node {
    newest: Beat,
    /// When it counts the leader as gone.
    gone: u64,
}

impl Node {
    fn lead(&mut self, ctx: &mut Ctx<'_, Self>, term: u64) {
        self.newest = (term, ctx.id(), 0);
        ctx.tell(("leads term", term));
        ctx.broadcast(self.newest);
    }
}

impl Protocol for Node {
    type Message = Beat;
    type Write = ();
    /// The term that a node begins to lead.
    type Fact = (&'static str, u64);
    const BUGS: &'static [(&'static str, &'static str)] =
        &[("no-relay", "who does not hear the leader itself stands up")];

    fn start(ctx: &mut Ctx<'_, Self>) -> Node {
        ctx.set_timer(0, BEAT);
        Node {
            newest: (0, ctx.nodes(), 0),
            gone: ctx.now() + SILENCE,
        }
    }

    fn timer(&mut self, ctx: &mut Ctx<'_, Self>, _timer: u64) {
        if self.newest.1 == ctx.id() {
            self.newest.2 += 1;
            ctx.broadcast(self.newest);
        } else if ctx.now() >= self.gone {
            self.lead(ctx, self.newest.0 + 1);
        }
        ctx.set_timer(0, BEAT);
    }

    fn message(&mut self, ctx: &mut Ctx<'_, Self>, from: usize, beat: Beat) {
        if beat < self.newest {
            // Whoever leads an old term learns of the new one.
            ctx.send(from, self.newest);
        } else if beat > self.newest {
            self.newest = beat;
            self.gone = ctx.now() + SILENCE + ctx.random(0, SILENCE);
            if !ctx.planted("no-relay") {
                ctx.broadcast(beat);
            }
            if beat.1 < ctx.id() {
                // The highest node is to lead.
                self.lead(ctx, beat.0 + 1);
            }
        }
    }
}

/// Ten seconds after the trouble there are no more elections.
#[derive(Default)]
struct Settles(Vec<Told<(&'static str, u64)>>);

impl Promise<Node> for Settles {
    fn told(&mut self, told: &Told<(&'static str, u64)>, truth: &Truth<'_, Node>) -> Verdict {
        let calm = truth.healed().is_some_and(|at| told.at > at + 10 * SECOND);
        self.0.extend(calm.then(|| told.clone()));
        Ok(())
    }

    fn due(&mut self, truth: &Truth<'_, Node>) -> Verdict {
        let (Some(last), Some(hub)) = (self.0.last(), truth.hub()) else {
            return Ok(());
        };
        let what = format!("{} elections with nothing new to cause them", self.0.len());
        let linked = format!("{} is linked to a quorum all the time", NodeName(hub));
        Err(Broken::new("a leader stays", what).facts(linked, last))
    }
}

pub(crate) fn test() -> impl Subject {
    let test = Test::<Node, Settles>::new().timeout(SILENCE);
    test.settle(20 * SECOND).broken_by("no-relay")
}

fn main() -> ExitCode {
    cli::main(&test())
}
