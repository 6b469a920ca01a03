//! A lock without a fencing token: `README.md` beside this file tells the story.

use quorate_simulator::harness::{Subject, cli};
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

/// The newest token given (service), seen (storage) or held (client), and until when it is.
#[derive(Default)]
struct Lock {
    token: u64,
    until: u64,
}

impl Protocol for Lock {
    type Message = Message;
    type Write = ();
    /// The storage tells the token of each write.
    type Fact = (&'static str, u64);
    const BUGS: &'static [(&'static str, &'static str)] =
        &[("no-token", "the storage takes every write, whoever's")];

    fn start(ctx: &mut Ctx<'_, Self>) -> Lock {
        ctx.set_timer(ASK, MS);
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
                ctx.tell(("wrote with token", token));
            }
            _ => {}
        }
    }

    fn timer(&mut self, ctx: &mut Ctx<'_, Self>, timer: u64) {
        if timer == ASK && ctx.id() > STORAGE {
            self.until = ctx.now() + LEASE;
            ctx.send(SERVICE, Message::Ask);
            let again = ctx.random(LEASE, 2 * LEASE);
            ctx.set_timer(ASK, again);
        } else if timer == WRITE && ctx.now() < self.until {
            // The lock is held: what could go wrong?
            ctx.send(STORAGE, Message::Write(self.token));
        }
    }
}

/// Once who got the lock later has written, nobody before it writes any more.
#[derive(Default)]
struct OneAfterTheOther(Option<Told<(&'static str, u64)>>);

impl Promise<Lock> for OneAfterTheOther {
    fn told(&mut self, told: &Told<(&'static str, u64)>, _truth: &Truth<'_, Lock>) -> Verdict {
        match self.0.replace(told.clone()) {
            Some(last) if last.fact.1 > told.fact.1 => {
                let what = "a write of an earlier holder came after one of a later holder";
                Err(Broken::new("one writer", what).facts(last, told))
            }
            _ => Ok(()),
        }
    }
}

/// A service that forgets is another story, so nobody crashes in this one.
pub(crate) fn test() -> impl Subject {
    let test = Test::<Lock, OneAfterTheOther>::new().nodes(4..=5);
    test.without(&[Kind::Crash]).broken_by("no-token")
}

fn main() -> ExitCode {
    cli::main(&test())
}
