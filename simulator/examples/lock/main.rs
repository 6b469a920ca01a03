//! A lock without a fencing token: `README.md` beside this file tells the story.

use quorate_simulator::harness::cli;
use quorate_simulator::protocol::*;
use quorate_simulator::world::{MS, SECOND};
use std::process::ExitCode;

/// How long the lock is given for; who has it counts from when it asked.
const LEASE: u64 = SECOND;
/// Who gives the lock, and what it is to protect; everybody else is a client.
const SERVICE: usize = 0;
const STORAGE: usize = 1;
/// Timers of a client: to ask for the lock, and to write with it.
const ASK: u64 = 0;
const WRITE: u64 = 1;

#[derive(Clone, Debug)]
enum Message {
    Ask,
    Granted(u64),
    Write(u64),
}

/// What the storage tells.
#[derive(Clone, Debug)]
struct Wrote {
    token: u64,
}

/// The newest token given (service), seen (storage) or held (client), and until when it is.
#[derive(Default)]
struct Lock {
    token: u64,
    until: u64,
}

impl Protocol for Lock {
    type Message = Message;
    type Write = ();
    type Fact = Wrote;
    const CLASSES: &'static [&'static str] = &["lock", "write"];
    const BUGS: &'static [(&'static str, &'static str)] =
        &[("no-token", "the storage takes every write, whoever's")];

    fn class(message: &Message) -> usize {
        usize::from(matches!(message, Message::Write(_)))
    }

    fn start(ctx: &mut Ctx<'_, Self>) -> Lock {
        if ctx.id() > STORAGE {
            let soon = ctx.random(MS, SECOND);
            ctx.set_timer(ASK, soon);
        }
        Lock::default()
    }

    fn message(&mut self, ctx: &mut Ctx<'_, Self>, from: usize, message: Message) {
        match message {
            Message::Ask if ctx.now() >= self.until => {
                self.token += 1;
                self.until = ctx.now() + LEASE + LEASE / 100;
                ctx.send(from, Message::Granted(self.token));
            }
            Message::Granted(token) if ctx.now() < self.until => {
                self.token = token;
                ctx.set_timer(WRITE, 300 * MS);
            }
            Message::Write(token) if token >= self.token || ctx.planted("no-token") => {
                self.token = self.token.max(token);
                ctx.tell(Wrote { token });
            }
            _ => {}
        }
    }

    fn timer(&mut self, ctx: &mut Ctx<'_, Self>, timer: u64) {
        match timer {
            ASK => {
                self.until = ctx.now() + LEASE;
                ctx.send(SERVICE, Message::Ask);
                let again = ctx.random(LEASE, 2 * LEASE);
                ctx.set_timer(ASK, again);
            }
            // The lock is held: what could go wrong?
            _ if ctx.now() < self.until => ctx.send(STORAGE, Message::Write(self.token)),
            _ => ctx.reached("lock lost before the write"),
        }
    }
}

/// Who got the lock later has written: nobody before it writes any more.
#[derive(Default)]
struct OneAfterTheOther(Option<Told<Wrote>>);

impl Promise<Lock> for OneAfterTheOther {
    fn told(&mut self, told: &Told<Wrote>, _truth: &Truth<'_, Lock>) -> Verdict {
        match self.0.replace(told.clone()) {
            Some(last) if last.fact.token > told.fact.token => {
                let what = "a client wrote after the lock had passed to another, who wrote too";
                Err(Broken::new("one writer", what).facts(&last, told))
            }
            _ => Ok(()),
        }
    }
}

/// The test: a service that forgets is another story, so nobody crashes in this one.
fn lock() -> Test<Lock, OneAfterTheOther> {
    let test = Test::new().nodes(4..=5).without(&[Kind::Crash]);
    test.broken_by("no-token")
}

fn main() -> ExitCode {
    cli::main(&lock())
}
