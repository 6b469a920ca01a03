//! Carries orders to a driver and facts back, whatever the driver does.

use super::{Driver, Gate, Gone, LeaseEnd, Notice, Poll, spare};
use crate::clock::Clock;
use crate::locks::Locks;
use quorate_membership::{Time, Token};
use quorate_recovery::contract::{Fact, GuestAction, GuestOrder};
use quorate_recovery::guest::{GuestId, Probe};
use quorate_recovery::kinds::GuestKinds;
use quorate_recovery::lock::{LockReading, LockState, LockedImage};
use quorate_recovery::observation::{Observation, Sample};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// How long one call may take, and how often the driver is polled.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Creating a guest.
    pub create: Duration,
    /// Letting a guest run or holding it.
    pub hold: Duration,
    /// Ending a guest.
    pub end: Duration,
    /// One complete poll.
    pub list: Duration,
    /// Between two polls.
    pub poll: Duration,
    /// Between two samples of how guests stand.
    pub sample: Duration,
    /// Keeping what shows a guest's state, before it is reset or ended.
    pub capture: Duration,
    /// Reading the locks of a guest, or writing them. Storage that takes longer holds up no start.
    pub locks: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        let s = Duration::from_secs;
        Limits {
            create: s(10),
            hold: s(2),
            end: s(5),
            list: s(5),
            poll: s(1),
            sample: s(2),
            capture: s(2),
            locks: s(2),
        }
    }
}

/// How much longer than its limit a driver may take to answer that it gave up.
const GRACE: Duration = Duration::from_millis(500);

/// A driver at work.
pub struct Runner<D> {
    driver: Arc<D>,
    limits: Limits,
    lease: Option<LeaseEnd>,
    facts: mpsc::Sender<Fact>,
    /// Orders behind the one that is carried out, by guest. A guest without an entry is idle.
    waiting: BTreeMap<GuestId, VecDeque<GuestOrder>>,
    /// Creations under way: the epoch, and the permission that an end takes back.
    creating: BTreeMap<GuestId, (Token, Gate)>,
    /// How locks are kept here, if they are.
    locks: Option<Arc<Locks>>,
    /// What was last said of them.
    lock_states: BTreeMap<(GuestId, Token), LockState>,
    done: mpsc::UnboundedSender<Done>,
    /// Rises whenever something was said about a guest: a poll begun before is out of date.
    said: u64,
}

enum Done {
    Order(GuestId, u64, Result<(), String>),
    /// A probe was run, or could not be.
    Probe(GuestId, Token, u64, Result<Result<(), String>, String>),
    /// Locks were read.
    LocksRead(GuestId, u64, Vec<LockReading>),
    /// How the locks of every guest here stand.
    LockStates(Vec<(GuestId, Token, LockState)>),
    Samples(Result<Vec<(GuestId, Token, Sample)>, String>),
    /// With the count of things said when the poll began.
    List(u64, Poll),
}

impl<D: Driver> Runner<D> {
    /// Carries out `orders` until their sender is gone, saying `GuestDone` to each, `Guests` or
    /// `HypervisorBlind` after each poll, and `GuestGone` for guests that end by themselves.
    /// What is said of one guest is never older than what was said before. Creations are bound by
    /// `lease` as it stands when they act.
    pub async fn run(
        driver: Arc<D>,
        limits: Limits,
        lease: Option<LeaseEnd>,
        orders: mpsc::UnboundedReceiver<GuestOrder>,
        facts: mpsc::Sender<Fact>,
    ) {
        Runner::run_with(driver, limits, (lease, None), orders, facts).await;
    }

    /// The same, with locks beside the images of guests.
    pub async fn run_with(
        driver: Arc<D>,
        limits: Limits,
        (lease, locks): (Option<LeaseEnd>, Option<Arc<Locks>>),
        mut orders: mpsc::UnboundedReceiver<GuestOrder>,
        facts: mpsc::Sender<Fact>,
    ) {
        spare::ready();
        let (done, mut answers) = mpsc::unbounded_channel();
        let (tell, mut told) = mpsc::unbounded_channel();
        if let Err(why) = driver.watch(tell) {
            let (kinds, seen) = (GuestKinds::ALL, None);
            let blind = Fact::HypervisorBlind { kinds, seen, why };
            let _ = facts.send(blind).await;
        }
        let mut runner = Runner {
            driver,
            limits,
            lease,
            facts,
            waiting: BTreeMap::new(),
            creating: BTreeMap::new(),
            locks,
            lock_states: BTreeMap::new(),
            done,
            said: 0,
        };
        let mut poll = interval(limits.poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut polling = false;
        let mut sample = interval(limits.sample);
        sample.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sampling = false;
        loop {
            let going = tokio::select! {
                biased;
                Some(notice) = told.recv() => {
                    let fact = match notice {
                        Notice::Gone(Gone { guest, epoch, how, cause }) => {
                            Fact::GuestGone { guest, epoch, how, cause }
                        }
                        Notice::Seen(guest, epoch, seen) => Fact::Observed { guest, epoch, seen },
                        Notice::Hold(guest, epoch, reason) => Fact::Hold { guest, epoch, reason },
                    };
                    runner.say(fact).await
                }
                Some(answer) = answers.recv() => match answer {
                    Done::Order(guest, order, result) => {
                        runner.creating.remove(&guest);
                        runner.next(guest);
                        runner.say(Fact::GuestDone { order, result }).await
                    }
                    Done::Probe(guest, epoch, order, result) => {
                        let said = match result {
                            Ok(seen) => {
                                let seen = Observation::Probe(seen);
                                runner.say(Fact::Observed { guest, epoch, seen }).await;
                                Ok(())
                            }
                            Err(why) => Err(why),
                        };
                        runner.say(Fact::GuestDone { order, result: said }).await
                    }
                    Done::LocksRead(guest, order, readings) => {
                        runner.next(guest);
                        runner.say(Fact::LocksRead { order, readings }).await
                    }
                    Done::LockStates(states) => runner.lock_states(states).await,
                    Done::Samples(result) => {
                        sampling = false;
                        // A hypervisor that does not answer is known by the poll.
                        let samples = result.unwrap_or_default();
                        runner.samples(samples).await
                    }
                    Done::List(at, Poll { blind: None, .. }) if at != runner.said => {
                        // Something was said meanwhile; what the poll saw may be older.
                        runner.list();
                        true
                    }
                    Done::List(at, Poll { seen, blind }) => {
                        polling = false;
                        let current = at == runner.said;
                        let fact = match blind {
                            None => Fact::Guests { seen },
                            Some((kinds, why)) => {
                                let seen = current.then_some(seen);
                                Fact::HypervisorBlind { kinds, seen, why }
                            }
                        };
                        runner.facts.send(fact).await.is_ok()
                    }
                },
                order = orders.recv() => match order {
                    Some(order) => {
                        runner.take(order);
                        true
                    }
                    None => false,
                },
                _ = sample.tick(), if !sampling => {
                    sampling = true;
                    runner.sample();
                    runner.look_at_locks();
                    true
                }
                _ = poll.tick(), if !polling => {
                    polling = true;
                    runner.list();
                    true
                }
            };
            if !going {
                return;
            }
        }
    }

    async fn say(&mut self, fact: Fact) -> bool {
        self.said += 1;
        self.facts.send(fact).await.is_ok()
    }

    async fn samples(&mut self, samples: Vec<(GuestId, Token, Sample)>) -> bool {
        for (guest, epoch, sample) in samples {
            let seen = Observation::Sample(sample);
            // Says nothing about whether the guest is there: a poll under way stays good.
            let fact = Fact::Observed { guest, epoch, seen };
            if self.facts.send(fact).await.is_err() {
                return false;
            }
        }
        true
    }

    fn take(&mut self, order: GuestOrder) {
        if let GuestAction::Probe(probe) = order.action {
            // Changes nothing, so it waits behind nothing and holds up nothing.
            return self.probe(order.guest, order.epoch, order.order, probe);
        }
        // An end calls off the creation before it, which a lease renewed since would let pass (S5).
        if order.action == GuestAction::End
            && let Some((epoch, gate)) = self.creating.get(&order.guest)
            && *epoch <= order.epoch
        {
            gate.abandon();
        }
        match self.waiting.get_mut(&order.guest) {
            Some(queue) => queue.push_back(order),
            None => {
                self.waiting.insert(order.guest, VecDeque::new());
                self.begin(order);
            }
        }
    }

    fn next(&mut self, guest: GuestId) {
        match self.waiting.get_mut(&guest).and_then(VecDeque::pop_front) {
            Some(order) => self.begin(order),
            None => {
                self.waiting.remove(&guest);
            }
        }
    }

    /// Whether an end of the guest waits behind this creation.
    fn called_off(&self, order: &GuestOrder) -> bool {
        let queue = self.waiting.get(&order.guest).into_iter().flatten();
        let mut ends = queue.filter(|o| o.action == GuestAction::End);
        ends.any(|end| end.epoch >= order.epoch)
    }

    fn begin(&mut self, order: GuestOrder) {
        if let GuestAction::ReadLocks(images) = order.action {
            return self.read_locks(order.guest, order.order, images, order.not_after);
        }
        let limit = match &order.action {
            GuestAction::Create(_) => self.limits.create,
            GuestAction::Continue | GuestAction::Pause | GuestAction::Reset => self.limits.hold,
            GuestAction::End => self.limits.end,
            GuestAction::Capture { .. } => self.limits.capture,
            GuestAction::WriteLocks(_) => self.limits.locks,
            GuestAction::Probe(_) | GuestAction::ReadLocks(_) => return,
        };
        let lease = self.lease.clone();
        let lease = lease.filter(|_| matches!(order.action, GuestAction::Create(_)));
        let locks = self.locks.clone();
        let gate = Gate::new(order.not_after, Clock.now() + limit).under(lease);
        self.creating.remove(&order.guest);
        if matches!(order.action, GuestAction::Create(_)) {
            if self.called_off(&order) {
                gate.abandon();
            }
            let under_way = (order.epoch, gate.clone());
            self.creating.insert(order.guest, under_way);
        }
        let driver = Arc::clone(&self.driver);
        let theirs = gate.clone();
        let (guest, number) = (order.guest, order.order);
        let answer = on_thread("order", move || {
            theirs.pass()?;
            let GuestOrder { guest, epoch, .. } = order;
            match order.action {
                GuestAction::Create(start) => {
                    driver.recall(guest, &start.harmless);
                    driver.create(guest, epoch, &start.spec, &theirs)
                }
                GuestAction::Continue => driver.resume(guest, epoch, &theirs),
                GuestAction::Pause => driver.pause(guest, epoch, &theirs),
                GuestAction::End => driver.end(guest, epoch, &theirs),
                GuestAction::Reset => driver.reset(guest, epoch, &theirs),
                GuestAction::Capture { why } => driver.capture(guest, epoch, &why, &theirs),
                GuestAction::WriteLocks(plan) => match locks {
                    Some(locks) => locks.keep(&plan, &theirs),
                    None => Err("this host keeps no locks".into()),
                },
                GuestAction::Probe(_) | GuestAction::ReadLocks(_) => Ok(()),
            }
        });
        let done = self.done.clone();
        tokio::spawn(async move {
            let result = in_time(answer, limit + GRACE).await;
            // If it comes back from wherever it hangs, it must do nothing more.
            gate.abandon();
            let _ = done.send(Done::Order(guest, number, result));
        });
    }

    fn read_locks(
        &self,
        guest: GuestId,
        number: u64,
        images: Vec<LockedImage>,
        not_after: Option<Time>,
    ) {
        let limit = self.limits.locks;
        let gate = Gate::new(not_after, Clock.now() + limit);
        let locks = self.locks.clone();
        let answer = on_thread("locks", move || match locks {
            Some(locks) => locks.read(&images, guest, &gate),
            None => Ok(Vec::new()),
        });
        let done = self.done.clone();
        tokio::spawn(async move {
            let _ = done.send(match in_time(answer, limit + GRACE).await {
                Ok(readings) => Done::LocksRead(guest, number, readings),
                Err(why) => Done::Order(guest, number, Err(why)),
            });
        });
    }

    fn look_at_locks(&self) {
        let Some(locks) = self.locks.clone() else {
            return;
        };
        let answer = on_thread("locks", move || Ok(locks.states()));
        let (done, limit) = (self.done.clone(), self.limits.list);
        tokio::spawn(async move {
            if let Ok(states) = in_time(answer, limit).await {
                let _ = done.send(Done::LockStates(states));
            }
        });
    }

    /// Says what has changed of locks.
    async fn lock_states(&mut self, states: Vec<(GuestId, Token, LockState)>) -> bool {
        let mut now = BTreeMap::new();
        for (guest, epoch, state) in states {
            let before = self.lock_states.remove(&(guest, epoch));
            if before.unwrap_or_default() != state {
                let state = state.clone();
                let fact = Fact::LockState {
                    guest,
                    epoch,
                    state,
                };
                if self.facts.send(fact).await.is_err() {
                    return false;
                }
            }
            now.insert((guest, epoch), state);
        }
        self.lock_states = now;
        true
    }

    fn probe(&self, guest: GuestId, epoch: Token, number: u64, probe: Probe) {
        let limit = Duration::from_millis(probe.limit_ms);
        let gate = Gate::new(None, Clock.now() + limit);
        let (driver, theirs) = (Arc::clone(&self.driver), gate.clone());
        let answer = on_thread("probe", move || {
            theirs.pass()?;
            driver.probe(guest, epoch, &probe, &theirs)
        });
        let done = self.done.clone();
        tokio::spawn(async move {
            let result = in_time(answer, limit + GRACE).await;
            gate.abandon();
            let _ = done.send(Done::Probe(guest, epoch, number, result));
        });
    }

    fn sample(&self) {
        let driver = Arc::clone(&self.driver);
        let answer = on_thread("sample", move || driver.sample());
        let (done, limit) = (self.done.clone(), self.limits.list);
        tokio::spawn(async move {
            let _ = done.send(Done::Samples(in_time(answer, limit).await));
        });
    }

    fn list(&self) {
        let driver = Arc::clone(&self.driver);
        let answer = on_thread("poll", move || Ok(driver.poll()));
        let (done, at, limit) = (self.done.clone(), self.said, self.limits.list);
        tokio::spawn(async move {
            let answer = in_time(answer, limit).await;
            let poll = answer.unwrap_or_else(|why| Err(why).into());
            let _ = done.send(Done::List(at, poll));
        });
    }
}

type Answer<T> = oneshot::Receiver<Result<T, String>>;

/// Runs a call that may hang on a thread nobody joins. A machine that has no thread left is not
/// without means: the spare ones take the call, in turn.
fn on_thread<T: Send + 'static>(
    name: &str,
    call: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Answer<T> {
    let (answer, receiver) = oneshot::channel();
    let job: spare::Job = Box::new(move || {
        let _ = answer.send(call());
    });
    if let Err(e) = spare::on_thread(name, job) {
        // The sender went with the closure, which the receiver sees.
        tracing::error!("no thread for a call of the hypervisor: {e}");
    }
    receiver
}

async fn in_time<T>(answer: Answer<T>, limit: Duration) -> Result<T, String> {
    match timeout_at(Instant::now() + limit, answer).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err("the call was not made or broke off".into()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}
