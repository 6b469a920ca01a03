//! A client that adds, stops, starts and removes guests, and keeps account of what it was told.

use crate::common::{PROGRAM, ended_within};
use crate::dice::Dice;
use crate::ledger::{Ledger, Stand};
use quorate::demo::site::Site;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Done,
    /// Refused before anything changed.
    Refused,
    Unknown,
}

/// State of the client between rounds.
struct Hand {
    dice: Dice,
    next: u32,
    outcomes: BTreeMap<Outcome, u32>,
}

pub(crate) struct Client {
    site: Arc<Site>,
    ledger: Arc<Ledger>,
    hand: Option<Hand>,
    stop: Arc<AtomicBool>,
    at_work: Option<JoinHandle<Hand>>,
}

impl Client {
    pub(crate) fn new(seed: u64, site: Arc<Site>, ledger: Arc<Ledger>) -> Client {
        Client {
            site,
            ledger,
            hand: Some(Hand {
                dice: Dice::new(seed ^ 0xc11e),
                next: 0,
                outcomes: BTreeMap::new(),
            }),
            stop: Arc::default(),
            at_work: None,
        }
    }

    pub(crate) fn start(&mut self) {
        let Some(mut hand) = self.hand.take() else {
            return;
        };
        self.stop.store(false, Ordering::SeqCst);
        let (site, ledger) = (Arc::clone(&self.site), Arc::clone(&self.ledger));
        let stop = Arc::clone(&self.stop);
        self.at_work = Some(std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                hand.change(&site, &ledger);
                std::thread::park_timeout(hand.dice.between(300, 2000));
            }
            hand
        }));
    }

    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.at_work.take() {
            thread.thread().unpark();
            self.hand = Some(thread.join().expect("the client"));
        }
    }

    /// Tells what became of the changes; gives how many were acknowledged.
    pub(crate) fn report(&self) -> u32 {
        let Some(hand) = &self.hand else { return 0 };
        println!("changes: {:?}", hand.outcomes);
        hand.outcomes.get(&Outcome::Done).copied().unwrap_or(0)
    }
}

impl Hand {
    /// Makes one change, of a guest of its own: those the soak began with are to run throughout.
    fn change(&mut self, site: &Site, ledger: &Ledger) {
        let own = ledger.known();
        let own: Vec<_> = own
            .into_iter()
            .filter(|(g, _)| g.starts_with('c'))
            .collect();
        let at = site.nodes()[self.dice.below(site.nodes().len())].clone();
        if own.is_empty() || self.dice.below(4) == 0 {
            let guest = format!("c{}", self.next);
            self.next += 1;
            let Ok(file) = site.guest_file(&guest) else {
                return;
            };
            let file = file.display().to_string();
            let stands = (Stand::Running, Stand::Gone);
            return self.ask(site, ledger, &at, (&guest, &file, "add"), stands);
        }
        let (guest, stand) = own[self.dice.below(own.len())].clone();
        let (word, becomes) = match stand {
            Stand::Running => ("stop", Stand::Stopped),
            Stand::Stopped if self.dice.below(5) == 0 => ("remove", Stand::Gone),
            Stand::Stopped => ("start", Stand::Running),
            Stand::Gone => return,
        };
        self.ask(site, ledger, &at, (&guest, &guest, word), (becomes, stand));
    }

    /// Asks `at` for a change that makes the guest stand otherwise.
    fn ask(
        &mut self,
        site: &Site,
        ledger: &Ledger,
        at: &str,
        (guest, argument, word): (&str, &str, &str),
        (becomes, was): (Stand, Stand),
    ) {
        ledger.set(guest, &[becomes, was]);
        let outcome = told(site, at, &["guest", word, argument]);
        match outcome {
            Outcome::Done => ledger.set(guest, &[becomes]),
            Outcome::Refused => ledger.set(guest, &[was]),
            Outcome::Unknown => {}
        }
        *self.outcomes.entry(outcome).or_default() += 1;
    }
}

/// Runs a command of the program against a node, and gives what its exit code says.
fn told(site: &Site, at: &str, args: &[&str]) -> Outcome {
    const PATIENCE: Duration = Duration::from_secs(30);
    let child = Command::new(PROGRAM)
        .args(args)
        .arg("--socket")
        .arg(site.socket(at))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let child = child.expect("the program runs");
    match ended_within(child, PATIENCE).and_then(|out| out.status.code()) {
        Some(0) => Outcome::Done,
        Some(2) => Outcome::Refused,
        _ => Outcome::Unknown,
    }
}
