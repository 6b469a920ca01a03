//! A lease counted from the wrong end: `README.md` beside this file tells the story.

use quorate_simulator::harness::{Subject, cli};
use quorate_simulator::protocol::*;
use quorate_simulator::world::{MS, SECOND};
use std::process::ExitCode;

/// How long a lease is for the one who has it; the grantor waits longer, for clocks differ.
const LEASE: u64 = SECOND;
const WAIT: u64 = LEASE + LEASE / 100;
/// Who grants; everybody else wants the lease.
const GRANTOR: usize = 0;

#[derive(Clone, Debug)]
enum Message {
    /// With the time it was sent, by the sender's clock.
    Want(u64),
    /// With that time again.
    Granted(u64),
}

/// Until when, by this node's own clock, it has the lease or has given it away; and to whom.
struct Lease {
    until: u64,
    holder: usize,
}

impl Protocol for Lease {
    type Message = Message;
    type Write = ();
    type Fact = ();
    const BUGS: &'static [(&'static str, &'static str)] =
        &[("from-receipt", "a lease counts from when it is received")];

    fn start(ctx: &mut Ctx<'_, Self>) -> Lease {
        ctx.set_timer(0, 10 * MS);
        let (until, holder) = (ctx.now(), GRANTOR);
        Lease { until, holder }
    }

    /// A grantor that has forgotten whom it granted waits until that is over.
    fn restart(ctx: &mut Ctx<'_, Self>, _disk: &[()]) -> Lease {
        let mut lease = Lease::start(ctx);
        if ctx.id() == GRANTOR {
            lease.until = ctx.now() + WAIT;
        }
        lease
    }

    fn timer(&mut self, ctx: &mut Ctx<'_, Self>, _timer: u64) {
        if ctx.id() != GRANTOR {
            ctx.send(GRANTOR, Message::Want(ctx.now()));
            let again = ctx.random(LEASE / 4, LEASE);
            ctx.set_timer(0, again);
        }
    }

    fn message(&mut self, ctx: &mut Ctx<'_, Self>, from: usize, message: Message) {
        match message {
            Message::Want(sent) if from == self.holder || ctx.now() >= self.until => {
                (self.holder, self.until) = (from, ctx.now() + WAIT);
                ctx.send(from, Message::Granted(sent));
            }
            Message::Want(_) => {}
            Message::Granted(sent) => {
                let late = ctx.planted("from-receipt");
                let from = if late { ctx.now() } else { sent };
                self.until = self.until.max(from + LEASE);
            }
        }
    }
}

/// At no instant do two nodes believe that they have the lease.
#[derive(Default)]
struct OneHolder;

impl Promise<Lease> for OneHolder {
    fn watch(&mut self, _node: usize, truth: &Truth<'_, Lease>) -> Verdict {
        let left = |n: usize, l: &Lease| l.until.saturating_sub(truth.reading(n));
        let mut holders = truth.up().filter(|(n, l)| *n != GRANTOR && left(*n, l) > 0);
        let fact = |(n, l)| format!("{} has it for {} ms more", NodeName(n), left(n, l) / MS);
        match (holders.next(), holders.next()) {
            (Some(a), Some(b)) => {
                let what = "two nodes have the lease at once";
                Err(Broken::new("one holder", what).facts(fact(a), fact(b)))
            }
            _ => Ok(()),
        }
    }
}

pub(crate) fn test() -> impl Subject {
    Test::<Lease, OneHolder>::new().broken_by("from-receipt")
}

fn main() -> ExitCode {
    cli::main(&test())
}
