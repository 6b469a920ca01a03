//! Orders to a hypervisor and facts from it, with real processes and with a driver that hangs.

mod guardian_support;

use guardian_support::*;
use quorate::hypervisor::{Driver, Gate, Limits, Notice, Runner};
use quorate_membership::{Time, Token};
use quorate_recovery::contract::{Fact, GuestAction, GuestOrder, GuestSeen};
use quorate_recovery::guest::{GuestId, GuestSpec};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

struct Rig {
    orders: mpsc::UnboundedSender<GuestOrder>,
    facts: mpsc::Receiver<Fact>,
    number: u64,
}

impl Rig {
    fn new(driver: impl Driver, limits: Limits) -> Rig {
        let (orders, theirs) = mpsc::unbounded_channel();
        let (tell, facts) = mpsc::channel(64);
        tokio::spawn(Runner::run(Arc::new(driver), limits, None, theirs, tell));
        Rig {
            orders,
            facts,
            number: 0,
        }
    }

    fn order(&mut self, action: GuestAction, not_after: Option<Time>) -> u64 {
        self.number += 1;
        let order = GuestOrder {
            order: self.number,
            guest: G,
            epoch: E,
            action,
            not_after,
        };
        self.orders.send(order).expect("taken");
        self.number
    }

    async fn fact(&mut self) -> Fact {
        let fact = tokio::time::timeout(PATIENCE, self.facts.recv()).await;
        fact.expect("in time").expect("running")
    }

    async fn done(&mut self, order: u64) -> Result<(), String> {
        loop {
            if let Fact::GuestDone { order: of, result } = self.fact().await {
                assert_eq!(of, order, "in the order given");
                return result;
            }
        }
    }

    /// Orders a creation and comes back when the driver hangs in it.
    async fn creation_hangs(&mut self, driver: &Hangs) -> u64 {
        let create = self.order(GuestAction::Create(Box::new(spec("").into())), None);
        // Orders are taken before polls.
        assert_eq!(self.guests().await, []);
        eventually("hung", || driver.hung.load(Ordering::SeqCst) == 1);
        create
    }

    async fn guests(&mut self) -> Vec<GuestSeen> {
        loop {
            if let Fact::Guests { seen } = self.fact().await {
                return seen;
            }
        }
    }
}

fn fast() -> Limits {
    Limits {
        poll: Duration::from_millis(20),
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_guest_from_its_creation_to_its_end() {
    let lab = Lab::new();
    lab.long_lease();
    let mut rig = Rig::new(lab.driver(), fast());
    let order = rig.order(
        GuestAction::Create(Box::new(lab.ticker("t").into())),
        Some(soon(60_000)),
    );
    assert_eq!(rig.done(order).await, Ok(()));
    let [one] = rig.guests().await[..] else {
        panic!("one guest");
    };
    assert_eq!((one.guest, one.epoch, one.paused), (G, E, true));
    let order = rig.order(GuestAction::Continue, Some(soon(60_000)));
    assert_eq!(rig.done(order).await, Ok(()));
    assert!(rig.guests().await.iter().all(|g| !g.paused));
    lab.ticks("t");
    let order = rig.order(GuestAction::Pause, None);
    assert_eq!(rig.done(order).await, Ok(()));
    let order = rig.order(GuestAction::End, None);
    assert_eq!(rig.done(order).await, Ok(()));
    // What is said after an answer is never older than the answer.
    assert_eq!(rig.guests().await, []);
    assert!(lab.marked().is_empty());
}

#[tokio::test]
async fn an_order_that_is_too_late_does_nothing_and_says_so() {
    let lab = Lab::new();
    lab.long_lease();
    let mut rig = Rig::new(lab.driver(), fast());
    let order = rig.order(
        GuestAction::Create(Box::new(lab.ticker("t").into())),
        Some(Time(1)),
    );
    assert_eq!(rig.done(order).await, Err("too late".into()));
    assert_eq!(rig.guests().await, []);
}

#[tokio::test]
async fn a_guest_that_ends_by_itself_is_told_once_all_of_it_is_gone() {
    let lab = Lab::new();
    lab.long_lease();
    let mut rig = Rig::new(lab.driver(), fast());
    let create = rig.order(
        GuestAction::Create(Box::new(spec("sleep 1000 & exit 5").into())),
        None,
    );
    let go_on = rig.order(GuestAction::Continue, None);
    assert_eq!(rig.done(create).await, Ok(()));
    // It may be over before anybody sees it run.
    let mut answered = false;
    let mut how = None;
    while !answered || how.is_none() {
        match rig.fact().await {
            Fact::GuestDone { order, .. } => answered |= order == go_on,
            Fact::GuestGone {
                guest,
                epoch,
                how: h,
                ..
            } => {
                assert_eq!((guest, epoch), (G, E));
                assert!(lab.marked().is_empty());
                how = Some(h);
            }
            _ => {}
        }
    }
    assert!(how.is_some_and(|h| h.contains("exit status: 5")));
    assert_eq!(rig.guests().await, []);
}

/// Hangs where it is told to, until it is let go; notes what it was asked.
#[derive(Clone, Default)]
struct Hangs {
    create: Arc<AtomicBool>,
    list: Arc<AtomicBool>,
    let_go: Arc<AtomicBool>,
    /// Calls that have come as far as to hang.
    hung: Arc<AtomicUsize>,
    late_effects: Arc<AtomicUsize>,
    refused_late: Arc<AtomicUsize>,
    ended: Arc<Mutex<Vec<Token>>>,
}

impl Hangs {
    fn hang(&self) {
        self.hung.fetch_add(1, Ordering::SeqCst);
        eventually("let go", || self.let_go.load(Ordering::SeqCst));
    }
}

impl Driver for Hangs {
    fn create(&self, _: GuestId, _: Token, _: &GuestSpec, gate: &Gate) -> Result<(), String> {
        if self.create.load(Ordering::SeqCst) {
            self.hang();
        }
        if let Err(why) = gate.pass() {
            self.refused_late.fetch_add(1, Ordering::SeqCst);
            return Err(why);
        }
        self.late_effects.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
    fn resume(&self, _: GuestId, _: Token, _: &Gate) -> Result<(), String> {
        Ok(())
    }
    fn pause(&self, _: GuestId, _: Token, _: &Gate) -> Result<(), String> {
        panic!("a driver may even panic")
    }
    fn end(&self, _: GuestId, epoch: Token, _: &Gate) -> Result<(), String> {
        self.ended.lock().expect("whole").push(epoch);
        Ok(())
    }
    fn list(&self) -> Result<Vec<GuestSeen>, String> {
        if self.list.load(Ordering::SeqCst) {
            self.hang();
        }
        Ok(Vec::new())
    }
    fn watch(&self, _: mpsc::UnboundedSender<Notice>) -> Result<(), String> {
        Ok(())
    }
}

fn impatient() -> Limits {
    let ms = Duration::from_millis(50);
    Limits {
        create: ms,
        hold: ms,
        end: ms,
        list: ms,
        poll: ms,
        sample: ms,
        capture: ms,
        locks: ms,
    }
}

#[tokio::test]
async fn a_call_that_hangs_is_given_up_and_has_no_effect_later() {
    let driver = Hangs::default();
    driver.create.store(true, Ordering::SeqCst);
    let mut rig = Rig::new(driver.clone(), impatient());
    let create = rig.creation_hangs(&driver).await;
    let end = rig.order(GuestAction::End, None);
    assert!(
        rig.done(create)
            .await
            .expect_err("hung")
            .contains("no answer")
    );
    assert_eq!(rig.done(end).await, Ok(()), "the next order is not held up");
    assert_eq!(*driver.ended.lock().expect("whole"), [E]);
    driver.let_go.store(true, Ordering::SeqCst);
    eventually("the call comes back", || {
        driver.refused_late.load(Ordering::SeqCst) == 1
    });
    assert_eq!(driver.late_effects.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_end_calls_off_the_creation_before_it() {
    let driver = Hangs::default();
    driver.create.store(true, Ordering::SeqCst);
    let mut rig = Rig::new(driver.clone(), fast());
    let create = rig.creation_hangs(&driver).await;
    let end = rig.order(GuestAction::End, None);
    // Orders are taken before polls, so that by the second one the end is known.
    for _ in 0..2 {
        assert_eq!(rig.guests().await, []);
    }
    driver.let_go.store(true, Ordering::SeqCst);
    assert!(rig.done(create).await.is_err());
    assert_eq!(driver.late_effects.load(Ordering::SeqCst), 0);
    assert_eq!(rig.done(end).await, Ok(()));
}

#[tokio::test]
async fn a_silent_hypervisor_is_blind_and_never_empty() {
    let driver = Hangs::default();
    driver.list.store(true, Ordering::SeqCst);
    let mut rig = Rig::new(driver.clone(), impatient());
    for _ in 0..2 {
        let Fact::HypervisorBlind { .. } = rig.fact().await else {
            panic!("nothing follows from silence");
        };
    }
    driver.list.store(false, Ordering::SeqCst);
    driver.let_go.store(true, Ordering::SeqCst);
    assert_eq!(rig.guests().await, []);
}

#[tokio::test]
async fn a_driver_that_panics_fails_the_order_only() {
    let mut rig = Rig::new(Hangs::default(), impatient());
    let pause = rig.order(GuestAction::Pause, None);
    assert!(rig.done(pause).await.is_err());
    let end = rig.order(GuestAction::End, None);
    assert_eq!(rig.done(end).await, Ok(()));
}
