//! An election that one one-way cut keeps going for ever: `README.md` beside this file tells the
//! story.

use quorate_simulator::harness::cli;
use quorate_simulator::protocol::*;
use quorate_simulator::world::{MS, SECOND};
use std::process::ExitCode;

/// Time between two beats, and the silence after which a leader counts as gone.
const BEAT: u64 = 100 * MS;
const SILENCE: u64 = 500 * MS;

#[derive(Clone, Debug)]
enum Message {
    /// The leader of this term is here.
    Beat(u64),
    /// That beat was heard.
    Heard(u64),
    /// May I lead this term? Nobody leads that I hear.
    May(u64),
    /// I hear nobody either, and listen to no other for a while.
    Yes(u64),
    /// You lead no more: this term is on.
    Over(u64),
}

#[derive(Default)]
struct Node {
    term: u64,
    leads: bool,
    /// The term this node asked for; 0 for none.
    asked: u64,
    /// When a leader was heard last, or somebody was told that none is.
    heard: u64,
    /// Who has said yes (one bit each), or has heard the last beats.
    with_me: u32,
}

impl Node {
    fn lead(&mut self, ctx: &mut Ctx<'_, Self>, term: u64) {
        (self.term, self.leads, self.asked) = (term, true, 0);
        ctx.tell(term);
        ctx.set_timer(BEAT, BEAT);
        ctx.broadcast(Message::Beat(term));
    }

    fn quorum(&self, ctx: &Ctx<'_, Self>) -> bool {
        let with_me = self.with_me | 1 << ctx.id();
        with_me.count_ones() as usize > ctx.nodes() / 2
    }
}

impl Protocol for Node {
    type Message = Message;
    type Write = ();
    type Fact = u64;
    const BUGS: &'static [(&'static str, &'static str)] = &[(
        "bully",
        "who hears no leader, or a lower one, leads without asking",
    )];

    fn start(ctx: &mut Ctx<'_, Self>) -> Node {
        let heard = ctx.now();
        ctx.set_timer(SILENCE, SILENCE);
        Node {
            heard,
            ..Node::default()
        }
    }

    fn timer(&mut self, ctx: &mut Ctx<'_, Self>, timer: u64) {
        if timer == BEAT {
            if self.leads {
                ctx.broadcast(Message::Beat(self.term));
                ctx.set_timer(BEAT, BEAT);
            }
            return;
        }
        if self.leads {
            // Who is heard by no quorum does not lead, whatever it believes.
            self.leads = self.quorum(ctx) || ctx.planted("bully");
        } else if ctx.now() >= self.heard + SILENCE && ctx.planted("bully") {
            self.lead(ctx, self.term + 1);
        } else if ctx.now() >= self.heard + SILENCE {
            self.asked = self.term + 1;
            ctx.broadcast(Message::May(self.asked));
        }
        self.with_me = 0;
        let again = ctx.random(SILENCE, 2 * SILENCE);
        ctx.set_timer(SILENCE, again);
    }

    fn message(&mut self, ctx: &mut Ctx<'_, Self>, from: usize, message: Message) {
        match message {
            Message::Beat(term) if term < self.term => ctx.send(from, Message::Over(self.term)),
            Message::Beat(term) if from < ctx.id() && ctx.planted("bully") => {
                self.lead(ctx, term + 1)
            }
            Message::Beat(term) => {
                (self.term, self.leads, self.asked, self.heard) = (term, false, 0, ctx.now());
                ctx.send(from, Message::Heard(term));
            }
            Message::Heard(term) if self.leads && term == self.term => self.with_me |= 1 << from,
            Message::May(term)
                if !self.leads && term > self.term && ctx.now() >= self.heard + SILENCE =>
            {
                (self.asked, self.heard) = (0, ctx.now());
                ctx.send(from, Message::Yes(term));
            }
            Message::Yes(term) if term == self.asked => {
                self.with_me |= 1 << from;
                if self.quorum(ctx) {
                    self.lead(ctx, term);
                }
            }
            Message::Over(term) if term > self.term => (self.term, self.leads) = (term, false),
            _ => {}
        }
    }
}

/// Every time somebody began to lead a term.
#[derive(Default)]
struct Settles(Vec<Told<u64>>);

impl Promise<Node> for Settles {
    fn told(&mut self, told: &Told<u64>, _truth: &Truth<'_, Node>) -> Verdict {
        self.0.push(told.clone());
        Ok(())
    }

    /// Ten seconds are enough: there is a leader then, and there are no more elections.
    fn due(&mut self, truth: &Truth<'_, Node>) -> Verdict {
        let late = |t: &&Told<u64>| Some(t.at) > truth.healed().map(|at| at + 10 * SECOND);
        let elections = self.0.iter().filter(late).count();
        let hub = truth.hub().map(NodeName);
        let linked = hub.map(|n| format!("{n} has two-way links to a quorum, and nothing changes"));
        let linked = linked.unwrap_or_default();
        if elections > 1 {
            let what = format!("{elections} elections long after the trouble was over");
            let last: Vec<String> = self.0.iter().rev().take(2).map(Told::to_string).collect();
            return Err(Broken::new("a leader stays", what).facts(linked, last.join(", after ")));
        }
        if !truth.up().any(|(_, node)| node.leads) {
            let what = "nobody leads long after the trouble was over";
            return Err(Broken::new("a leader", what).facts(linked, "no node leads"));
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let test = Test::<Node, Settles>::new().nodes(3..=3);
    cli::main(&test.timeout(SILENCE).settle(20 * SECOND).broken_by("bully"))
}
