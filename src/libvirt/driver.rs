//! The driver: orders to libvirt, and what is true whatever libvirt says.

use super::events::Event;
use super::link::{Failure, Fault, Kind, Link};
use super::registry::{Known, Life, Registry};
use super::survey::{self, Activity, Found};
use super::tag::{Tag, woven};
use super::watch;
use crate::clock::Clock;
use crate::guardian::processes::leader;
use crate::guardian::records::RunDir;
use crate::hypervisor::{Driver, Gate, Gone};
use quorate_membership::{BootId, Time, Token};
use quorate_recovery::contract::GuestSeen;
use quorate_recovery::domain::{Domain, uuid};
use quorate_recovery::guest::{Definition, GuestId, GuestSpec};
use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use virt::sys;

/// How long one poll may take.
const POLL: Duration = Duration::from_secs(4);
/// How long libvirt may take to end a domain before its process is ended directly.
const GENTLE: Duration = Duration::from_secs(2);
/// Between two rounds of an ending.
const REPEAT: Duration = Duration::from_millis(20);
/// One scan of `/proc` is no snapshot: this many must find nothing.
const EMPTY_ROUNDS: u8 = 2;
/// A start of which nobody knows what became is over when libvirt, asked so long after, does not
/// show it. It had the request before, and takes requests in their order.
const SETTLED: Duration = Duration::from_secs(1);
/// Between two looks for processes that carry the marks.
const SWEEP: Duration = Duration::from_secs(10);

/// Which epochs of a guest are meant.
pub(super) type Meant = Arc<dyn Fn(Token) -> bool + Send + Sync>;

/// How the driver is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which libvirt, as `qemu:///system`.
    pub uri: String,
    /// Where daemon, guardian and guests meet.
    pub run: RunDir,
    /// The present boot.
    pub boot: BootId,
    /// This host's name.
    pub host: String,
    /// The cluster's name: domains of other clusters are none of ours.
    pub cluster: String,
}

/// Guests as domains of libvirt.
#[derive(Clone)]
pub struct Libvirt {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    cluster: String,
    pub(super) registry: Registry,
    pub(super) link: Link,
    /// One order at a time for each guest; who looks after ended ones steps back.
    turns: Mutex<BTreeMap<GuestId, Arc<Mutex<()>>>>,
    /// Starts that libvirt has not answered for.
    starting: Mutex<BTreeMap<Life, Start>>,
    /// One poll at a time: while libvirt hangs, no second waits behind the first.
    polling: Arc<Mutex<()>>,
    /// Lives that processes carry the marks of, and when they were last looked for.
    strays: Mutex<(Time, Vec<Life>)>,
    pub(super) events: Mutex<Option<Receiver<Event>>>,
    pub(super) listeners: Mutex<Vec<UnboundedSender<Event>>>,
}

/// A start that libvirt has not answered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// The call has not come back.
    UnderWay {
        /// It must end what it creates.
        called_off: bool,
    },
    /// The call broke off at this moment; libvirt may have it still.
    Unknown(Time),
}

/// One call that starts a domain. However it ends, also by a panic, what it leaves is noted.
struct Flight {
    inner: Arc<Inner>,
    life: Life,
    /// libvirt has been asked.
    sent: bool,
    /// It has answered.
    landed: bool,
}

impl Flight {
    fn begin(inner: &Arc<Inner>, life: Life) -> Flight {
        let start = Start::UnderWay { called_off: false };
        lock(&inner.starting).insert(life, start);
        Flight {
            inner: Arc::clone(inner),
            life,
            sent: false,
            landed: false,
        }
    }

    fn called_off(&self) -> bool {
        let start = lock(&self.inner.starting).get(&self.life).copied();
        matches!(start, Some(Start::UnderWay { called_off: true }))
    }

    /// libvirt has answered; whether the start was called off before.
    fn land(&mut self) -> bool {
        self.landed = true;
        let start = lock(&self.inner.starting).remove(&self.life);
        matches!(start, Some(Start::UnderWay { called_off: true }))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut starting = lock(&self.inner.starting);
        if self.landed {
            return;
        }
        if self.sent {
            starting.insert(self.life, Start::Unknown(Clock.now()));
        } else {
            starting.remove(&self.life);
        }
    }
}

pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Libvirt {
    /// Takes the run directory over: starts that an earlier daemon left under way are called off,
    /// domains that run are kept. libvirt is not asked yet, it may be away.
    ///
    /// # Errors
    /// The registry cannot be read or written.
    pub fn new(settings: Settings) -> io::Result<Libvirt> {
        let (events, received) = mpsc::channel();
        let registry = Registry {
            run: settings.run,
            boot: settings.boot,
            host: settings.host,
        };
        let known = registry.known().map_err(io::Error::other)?;
        let now = Clock.now();
        let mut starting = BTreeMap::new();
        for one in known {
            let (guest, epoch) = one.life;
            registry
                .call_off(guest, &|e| e == epoch)
                .map_err(io::Error::other)?;
            if one.boot == registry.boot && one.record.is_none() {
                starting.insert(one.life, Start::Unknown(now));
            }
        }
        Ok(Libvirt {
            inner: Arc::new(Inner {
                cluster: settings.cluster,
                registry,
                link: Link::new(&settings.uri, events),
                turns: Mutex::default(),
                starting: Mutex::new(starting),
                polling: Arc::default(),
                strays: Mutex::default(),
                events: Mutex::new(Some(received)),
                listeners: Mutex::default(),
            }),
        })
    }

    /// Every domain of this libvirt, protected or not, active or only defined: for alarms about
    /// autostart and about copies started by hand.
    ///
    /// # Errors
    /// libvirt does not answer; nothing follows about any domain.
    pub fn survey(&self) -> Result<Vec<Found>, String> {
        self.inner
            .link
            .call(POLL, survey::survey)
            .map_err(|f| f.why)
    }

    /// Hears every event of every domain from now on. [`Driver::watch`] must be at work.
    pub fn listen(&self, to: UnboundedSender<Event>) {
        lock(&self.inner.listeners).push(to);
    }
}

/// What is left until `t`.
fn until(t: Time) -> Duration {
    t.since(Clock.now())
}

impl Inner {
    pub(super) fn turn(&self, guest: GuestId) -> Arc<Mutex<()>> {
        Arc::clone(lock(&self.turns).entry(guest).or_default())
    }

    fn qemu(&self) -> bool {
        self.link.kind() == Kind::Qemu
    }

    fn known(&self, guest: GuestId, meant: &dyn Fn(Token) -> bool) -> Result<Vec<Known>, String> {
        let mut known = self.registry.known()?;
        known.retain(|k| k.life.0 == guest && meant(k.life.1));
        Ok(known)
    }

    /// Whether any process of these lives is left.
    fn alive(&self, of: &[Known], marked: &dyn Fn(Life) -> bool) -> Result<bool, String> {
        if !self.qemu() {
            return Ok(false);
        }
        let dir = self.registry.run.path();
        let scan = crate::guardian::processes::Scan::take(Some(dir)).map_err(|e| e.to_string())?;
        let left = self.registry.processes(of, marked, |w| w.among(&scan));
        Ok(!left.is_empty())
    }

    /// Ends every life of `guest` that `meant` names and forgets it, until `gate` gives up.
    pub(super) fn end_lives(
        self: &Arc<Inner>,
        guest: GuestId,
        meant: &Meant,
        gate: &Gate,
    ) -> Result<(), String> {
        // Whoever called a start off cannot be overtaken by it: it looks here when it is back.
        for (life, start) in lock(&self.starting).iter_mut() {
            if let Start::UnderWay { called_off } = start
                && life.0 == guest
                && meant(life.1)
            {
                *called_off = true;
            }
        }
        self.registry.call_off(guest, &**meant)?;
        let mut empty = 0;
        let mut asked: Option<Result<(), Failure>> = None;
        let mut silence_told = false;
        loop {
            let known = self.known(guest, &**meant)?;
            // libvirt first, for it puts its own house in order; again if it said no. One that is
            // silent is not waited for twice where processes show what is left.
            let silent = |f: &Failure| f.kind == Fault::Hangs && self.qemu();
            let again = asked
                .as_ref()
                .is_none_or(|a| a.as_ref().is_err_and(|f| !silent(f)));
            if again {
                let limit = GENTLE.min(until(gate.give_up()) / 2);
                asked = Some(self.destroy(guest, meant, limit));
            }
            let said = asked.as_ref().is_some_and(Result::is_ok);
            let found = if self.qemu() {
                let marked = |(g, e): Life| g == guest && meant(e);
                self.registry.processes(&known, &marked, |w| w.end())
            } else if said {
                Ok(0)
            } else {
                // Nothing but libvirt can tell.
                Ok(1)
            };
            match &found {
                Ok(0) => empty += 1,
                _ => empty = 0,
            }
            if let (Some(Err(f)), Ok(n), false) = (&asked, &found, silence_told)
                && *n > 0
                && self.qemu()
            {
                silence_told = true;
                tracing::warn!("{guest}: {}; {n} processes are ended without it", f.why);
            }
            let under_way = self.unanswered(guest, meant, said);
            if empty >= EMPTY_ROUNDS && under_way.is_none() {
                return known.iter().try_for_each(|k| {
                    let done = self.registry.run.forget(k.life.0, k.life.1);
                    done.map_err(|e| e.to_string())
                });
            }
            if Clock.now() >= gate.give_up() {
                return Err(match (found, under_way, asked) {
                    (Err(e), ..) => e.to_string(),
                    (Ok(n), _, _) if n > 0 && self.qemu() => {
                        format!("{n} processes are still there")
                    }
                    (_, Some(why), _) => why,
                    (_, _, Some(Err(f))) => f.why,
                    _ => "it was not seen to be gone in time".to_owned(),
                });
            }
            std::thread::sleep(REPEAT);
            if under_way.is_some() && said {
                // What it was asked before does not count for a start that came meanwhile.
                asked = None;
                std::thread::sleep(REPEAT * 4);
            }
        }
    }

    /// Ends the active domains of `guest` that `meant` names, through libvirt. `Ok` if none is
    /// left that libvirt knows of.
    fn destroy(&self, guest: GuestId, meant: &Meant, limit: Duration) -> Result<(), Failure> {
        let (cluster, meant) = (self.cluster.clone(), Arc::clone(meant));
        self.link.call(limit, move |c| {
            for (domain, tag, _) in survey::tagged(c, &cluster)? {
                if tag.guest != guest || !meant(tag.epoch) {
                    continue;
                }
                if let Err(e) = domain.destroy()
                    && survey::activity(&domain)?.is_some()
                {
                    return Err(e.into());
                }
            }
            Ok(())
        })
    }

    /// Why a start of `guest` that `meant` names cannot be told to be over. `said`: libvirt was
    /// asked now, and nothing of the guest is left there.
    fn unanswered(&self, guest: GuestId, meant: &Meant, said: bool) -> Option<String> {
        let mut starting = lock(&self.starting);
        let now = Clock.now();
        starting.retain(|life, start| {
            let settled = matches!(start, Start::Unknown(at) if said && now >= *at + SETTLED);
            !(life.0 == guest && meant(life.1) && settled)
        });
        let left = starting.iter().find(|(l, _)| l.0 == guest && meant(l.1));
        left.map(|(life, start)| match start {
            Start::UnderWay { .. } => {
                format!(
                    "libvirt has not answered for the start under epoch {}",
                    life.1
                )
            }
            Start::Unknown(_) => {
                format!("libvirt was lost during the start under epoch {}", life.1)
            }
        })
    }

    /// Lets libvirt create the domain, held. It may do so after everybody gave up: then whoever
    /// called it ends what came of it.
    fn launch(self: &Arc<Inner>, life: Life, xml: String, gate: &Gate) -> Result<(), String> {
        let mut flight = Flight::begin(self, life);
        let (theirs, mock) = (gate.clone(), !self.qemu());
        let result = self.link.call(until(gate.give_up()), move |connect| {
            theirs.pass().map_err(Failure::no)?;
            if flight.called_off() {
                return Err(Failure::no("the start was called off"));
            }
            flight.sent = true;
            let flags = if mock {
                0
            } else {
                sys::VIR_DOMAIN_START_PAUSED
            };
            let made = connect.create_domain_xml(&xml, flags);
            let made = made.map_err(Failure::from);
            if let (true, Ok(domain)) = (mock, &made) {
                // The mock hypervisor cannot create held, and runs nothing anyway.
                domain.suspend()?;
            }
            let alive = matches!(connect.is_alive(), Ok(true));
            if made
                .as_ref()
                .is_err_and(|f| f.kind == Fault::Lost || !alive)
            {
                // Whether libvirt has it still, nobody knows.
                return made.map(|_| ());
            }
            let called_off = flight.land();
            match made {
                Ok(domain) if called_off => {
                    let ended = domain.destroy();
                    tracing::warn!("a start that was called off came late; ended: {ended:?}");
                    Err(Failure::no("the start was called off"))
                }
                other => other.map(|_| ()),
            }
        });
        result.map_err(|f| {
            gate.abandon();
            if let Some(Start::UnderWay { called_off }) = lock(&self.starting).get_mut(&life) {
                *called_off = true;
            }
            f.why
        })
    }

    /// Waits for the process of a created domain and registers it.
    fn enrol(&self, life: Life, draw: u64, id: u128, gate: &Gate) -> Result<(), String> {
        if !self.qemu() {
            return Ok(());
        }
        gate.pass()?;
        self.registry.enrol(life, draw, id).map(|_| ())
    }

    /// Refuses a start beside a domain of the same name or UUID; `true` if the domain that is
    /// there is this very life, held.
    fn free(
        &self,
        life: Life,
        domain: &Domain,
        known: &[Known],
        gate: &Gate,
    ) -> Result<bool, String> {
        let (name, id) = (domain.name.clone(), domain.uuid);
        let alike = self
            .link
            .call(until(gate.give_up()), move |c| survey::alike(c, &name, id))?;
        for one in alike {
            if one.autostart {
                return Err(format!(
                    "libvirt starts domain {} by itself when this host boots: \
                     `virsh autostart --disable {}`",
                    one.name, one.name
                ));
            }
            let Some(activity) = one.activity else {
                continue;
            };
            let ours = one.tag.as_ref().is_some_and(|t| {
                t.cluster == self.cluster && (t.guest, t.epoch) == life && one.uuid == id
            });
            if ours && activity == Activity::Held && self.registered(life, known) {
                return Ok(true);
            }
            return Err(match one.tag {
                Some(tag) => format!(
                    "domain {} ({}) runs here as {} of cluster {} under epoch {}",
                    one.name,
                    uuid(one.uuid),
                    tag.guest,
                    tag.cluster,
                    tag.epoch
                ),
                None => format!(
                    "domain {} ({}) runs here, started by somebody else",
                    one.name,
                    uuid(one.uuid)
                ),
            });
        }
        Ok(false)
    }

    fn registered(&self, life: Life, known: &[Known]) -> bool {
        let known = known.iter().find(|k| k.life == life);
        known.is_some_and(|k| !self.qemu() || k.record.as_ref().and_then(leader).is_some())
    }

    /// The one life of this order, registered and of this boot.
    fn standing(&self, life: Life) -> Result<Known, String> {
        let known = self.known(life.0, &|e| e == life.1)?;
        let one = known.into_iter().find(|k| k.boot == self.registry.boot);
        let one = one.ok_or_else(|| format!("{} epoch {} is not on this host", life.0, life.1))?;
        if self.qemu() && one.record.as_ref().and_then(leader).is_none() {
            return Err("its process is not registered, or is gone".into());
        }
        Ok(one)
    }

    /// Holds a domain or lets it run, and looks that it is so.
    fn turn_to(&self, life: Life, run: bool, gate: &Gate) -> Result<(), String> {
        let id = self.standing(life)?.uuid;
        let (cluster, theirs) = (self.cluster.clone(), gate.clone());
        let done = self.link.call(until(gate.give_up()), move |c| {
            let gone = || Failure::no("the domain is gone");
            let domain = survey::numbered(c, id)?.ok_or_else(gone)?;
            let tag = survey::tag(&domain)?;
            if !tag.is_some_and(|t| t.cluster == cluster && (t.guest, t.epoch) == life) {
                return Err(Failure::no("the domain is another's by its tag"));
            }
            let before = survey::activity(&domain)?.ok_or_else(gone)?;
            let wanted = if run { Activity::Runs } else { Activity::Held };
            if before == wanted {
                return Ok(());
            }
            theirs.pass().map_err(Failure::no)?;
            if run {
                domain.resume()?;
            } else {
                domain.suspend()?;
            }
            match survey::activity(&domain)?.ok_or_else(gone)? {
                now if now == wanted => Ok(()),
                now => Err(Failure::no(format!("it is found {now:?} afterwards"))),
            }
        });
        done.map_err(|f| {
            // If it comes back from wherever it hangs, it must do nothing more.
            gate.abandon();
            f.why
        })
    }

    /// Lives that processes here carry the marks of, looked for now and then, and looked after
    /// for as long as they are there.
    fn strays(&self) -> Result<Vec<Life>, String> {
        let mut strays = lock(&self.strays);
        let now = Clock.now();
        let due = now >= strays.0 + SWEEP || strays.0 == Time::ZERO;
        if due || !strays.1.is_empty() {
            strays.1 = self.registry.marked()?.into_iter().collect();
            // Those that are registered are found cheaper.
            let known = self.registry.known()?;
            strays.1.retain(|life| {
                !known
                    .iter()
                    .any(|k| k.life == *life && k.record.as_ref().and_then(leader).is_some())
            });
            // A process of the built-in hypervisor carries marks too; its registration is no
            // domain's.
            let run = &self.registry.run;
            strays.1.retain(|(g, e)| {
                known.iter().any(|k| k.life == (*g, *e)) || !run.guest(*g, *e).exists()
            });
            if due {
                strays.0 = now;
            }
        }
        Ok(strays.1.clone())
    }
}

impl Driver for Libvirt {
    fn create(
        &self,
        guest: GuestId,
        epoch: Token,
        spec: &GuestSpec,
        gate: &Gate,
    ) -> Result<(), String> {
        let inner = &self.inner;
        let life = (guest, epoch);
        spec.check()?;
        let Definition::Domain { xml } = &spec.definition else {
            return Err("libvirt runs domains, and this guest is none".into());
        };
        let domain = Domain::read(xml)?;
        let turn = inner.turn(guest);
        let _turn = lock(&turn);
        gate.pass()?;
        let known = inner.known(guest, &|_| true)?;
        if inner.free(life, &domain, &known, gate)? {
            return Ok(());
        }
        if let Some(why) = inner.unanswered(guest, &(Arc::new(|_| true) as Meant), true) {
            return Err(why);
        }
        if inner.alive(&known, &|(g, _)| g == guest)? {
            return Err(format!(
                "a process of {guest} runs here that libvirt does not show"
            ));
        }
        for old in &known {
            let forgotten = inner.registry.run.forget(guest, old.life.1);
            forgotten.map_err(|e| e.to_string())?;
        }
        let draw = crate::hypervisor::embedded::draw()?;
        let tag = Tag {
            guest,
            epoch,
            cluster: inner.cluster.clone(),
        };
        let marks = inner.qemu().then_some(&inner.registry.run);
        let text = woven(xml, &tag, marks)?;
        gate.pass()?;
        inner
            .registry
            .announce(life, draw, domain.uuid, &domain.name)?;
        let begun = if inner.qemu() {
            inner.registry.intend(life, draw, &spec.name)
        } else {
            Ok(())
        };
        let done = begun
            .and_then(|()| inner.launch(life, text, gate))
            .and_then(|()| inner.enrol(life, draw, domain.uuid, gate));
        done.map_err(|why| {
            // Nothing of a start that failed may come to life later.
            let rest = Gate::new(None, Clock.now() + GENTLE);
            match inner.end_lives(guest, &(Arc::new(move |e| e == epoch) as Meant), &rest) {
                Ok(()) => why,
                Err(left) => format!("{why}; and {left}"),
            }
        })
    }

    fn resume(&self, guest: GuestId, epoch: Token, gate: &Gate) -> Result<(), String> {
        let inner = &self.inner;
        let turn = inner.turn(guest);
        let _turn = lock(&turn);
        if inner.qemu() {
            // The guardian would end it; better not to begin at all.
            let end = inner.registry.run.lease_end(inner.registry.boot)?;
            if Clock.now() >= end {
                return Err("the lease is over".into());
            }
        }
        inner.turn_to((guest, epoch), true, gate)
    }

    fn pause(&self, guest: GuestId, epoch: Token, gate: &Gate) -> Result<(), String> {
        let turn = self.inner.turn(guest);
        let _turn = lock(&turn);
        self.inner.turn_to((guest, epoch), false, gate)
    }

    fn end(&self, guest: GuestId, epoch: Token, gate: &Gate) -> Result<(), String> {
        let turn = self.inner.turn(guest);
        let _turn = lock(&turn);
        gate.pass()?;
        self.inner
            .end_lives(guest, &(Arc::new(move |e| e <= epoch) as Meant), gate)
    }

    fn list(&self) -> Result<Vec<GuestSeen>, String> {
        let inner = &self.inner;
        let Ok(polling) = inner.polling.try_lock() else {
            return Err("libvirt has not answered the poll before".into());
        };
        let begun = Clock.now();
        let cluster = inner.cluster.clone();
        let tagged = inner.link.call(POLL, move |c| {
            let all = survey::tagged(c, &cluster)?.into_iter();
            Ok(all.map(|(_, t, a)| (t, a)).collect::<Vec<_>>())
        });
        drop(polling);
        let mut seen: BTreeMap<Life, bool> = BTreeMap::new();
        for (tag, activity) in tagged? {
            seen.insert((tag.guest, tag.epoch), activity == Activity::Held);
        }
        // libvirt answered: a start it was lost in before and does not show now is none.
        lock(&inner.starting).retain(|life, start| {
            let over = matches!(start, Start::Unknown(at) if begun >= *at + SETTLED);
            !(over && !seen.contains_key(life))
        });
        for life in lock(&inner.starting).keys() {
            seen.entry(*life).or_insert(true);
        }
        if inner.qemu() {
            // What libvirt lost sight of runs all the same.
            for known in inner.registry.known()? {
                let here = known.record.filter(|r| r.boot == inner.registry.boot);
                if here.as_ref().and_then(leader).is_some() {
                    seen.entry(known.life).or_insert(false);
                }
            }
            for life in inner.strays()? {
                seen.entry(life).or_insert(false);
            }
        }
        let seen = seen.into_iter();
        Ok(seen
            .map(|((guest, epoch), paused)| GuestSeen {
                guest,
                epoch,
                paused,
            })
            .collect())
    }

    fn watch(&self, gone: UnboundedSender<Gone>) -> Result<(), String> {
        let events = lock(&self.inner.events).take();
        let events = events.ok_or("this driver is watched already")?;
        let inner = Arc::downgrade(&self.inner);
        std::thread::Builder::new()
            .name("domains".into())
            .spawn(move || watch::watch(&inner, &events, &gone))
            .map(|_| ())
            .map_err(|e| e.to_string())
    }
}
