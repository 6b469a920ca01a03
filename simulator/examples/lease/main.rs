//! A lease counted from the wrong end: `README.md` beside this file tells the story.

use quorate_simulator::harness::cli;
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
        let holds = |n: usize, l: &Lease| n != GRANTOR && truth.reading(n) < l.until;
        let mut holders = truth.up().filter(|(n, l)| holds(*n, l)).map(|(n, l)| {
            let left = (l.until - truth.reading(n)) / MS;
            format!("{} has the lease for {left} ms more", NodeName(n))
        });
        match (holders.next(), holders.next()) {
            (Some(a), Some(b)) => {
                let what = "two nodes have the lease at once";
                Err(Broken::new("one holder", what).facts(a, b))
            }
            _ => Ok(()),
        }
    }
}

fn main() -> ExitCode {
    let test = Test::<Lease, OneHolder>::new().broken_by("from-receipt");
    cli::main(&test)
}
