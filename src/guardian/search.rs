//! The guardian's look through all processes, on a thread of its own: what left its group, or has
//! none, is found and ended there. It may hang; then it has not answered, and nothing is gone.

use super::ending::end_round;
use super::processes::{Kind, Wanted};
use super::records::{GuestRecord, RunDir};
use super::scan::Scan;
use quorate_membership::Token;
use quorate_recovery::guest::GuestId;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// What the thread needs.
pub(super) const STACK: usize = 256 * 1024;

/// Which marks are meant, beside the registered guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Marked {
    /// None: in another's directory the marks belong to the guests of that one.
    None,
    /// Those of these lives.
    Lives(Vec<(GuestId, Token)>),
    /// All of this run directory.
    All,
}

/// What is to be looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) records: Vec<GuestRecord>,
    pub(super) marked: Marked,
    /// It is ended, and what agents started and are starting too.
    pub(super) end: bool,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    /// The number of the question.
    pub(super) number: u64,
    pub(super) ask: Ask,
    /// Processes of guests.
    pub(super) guests: io::Result<usize>,
    /// Processes that agents started.
    pub(super) agents: io::Result<usize>,
}

#[derive(Default)]
struct Desk {
    ask: Option<(u64, Ask)>,
    found: Option<Found>,
    at_work: bool,
}

/// The one who looks.
pub(super) struct Search {
    desk: Arc<(Mutex<Desk>, Condvar)>,
    number: u64,
}

impl Search {
    /// # Errors
    /// There is no thread for it.
    pub(super) fn start(run: &RunDir) -> io::Result<Search> {
        super::scan::ready()?;
        let desk = Arc::new((Mutex::new(Desk::default()), Condvar::new()));
        let theirs = Arc::clone(&desk);
        let run = run.clone();
        thread::Builder::new()
            .name("search".into())
            .stack_size(STACK)
            .spawn(move || serve(&run, &theirs))?;
        Ok(Search { desk, number: 0 })
    }

    /// The number of the next question: answers below it are older than this call.
    pub(super) fn next(&self) -> u64 {
        self.number + 1
    }

    /// Asks, unless a question is open already.
    pub(super) fn ask(&mut self, ask: impl FnOnce() -> Ask) {
        let mut desk = self.desk.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !desk.at_work && desk.ask.is_none() && desk.found.is_none() {
            self.number += 1;
            desk.ask = Some((self.number, ask()));
            self.desk.1.notify_all();
        }
    }

    /// The answer to the last question, once.
    pub(super) fn answer(&mut self) -> Option<Found> {
        let mut desk = self.desk.0.lock().unwrap_or_else(PoisonError::into_inner);
        desk.found.take()
    }
}

fn serve(run: &RunDir, (desk, changed): &(Mutex<Desk>, Condvar)) {
    loop {
        let mut open = desk.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, ask) = loop {
            if let Some(ask) = open.ask.take() {
                break ask;
            }
            open = changed.wait(open).unwrap_or_else(PoisonError::into_inner);
        };
        open.at_work = true;
        drop(open);
        let found = look(run, number, ask);
        let mut open = desk.lock().unwrap_or_else(PoisonError::into_inner);
        open.at_work = false;
        open.found = Some(found);
    }
}

fn look(run: &RunDir, number: u64, ask: Ask) -> Found {
    let wanted = Wanted {
        dir: run.path(),
        records: &ask.records,
        marked: &|marks| match &ask.marked {
            Marked::None => false,
            Marked::All => true,
            Marked::Lives(lives) => marks.is_some_and(|life| lives.contains(&life)),
        },
    };
    let mut take = || Scan::take(Some(run.path()));
    let (guests, agents) = if ask.end {
        let started = Wanted {
            records: &[],
            marked: &|_| true,
            ..wanted
        };
        let meant = [(&wanted, Kind::Guests), (&started, Kind::Agents)];
        match end_round(&mut take, meant) {
            Ok([guests, agents]) => (guests, agents),
            Err(e) => (Err(io::Error::new(e.kind(), e.to_string())), Err(e)),
        }
    } else {
        (take().map(|scan| wanted.among(&scan).len()), Ok(0))
    };
    Found {
        number,
        guests,
        agents,
        ask,
    }
}
