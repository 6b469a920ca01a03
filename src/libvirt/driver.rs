//! The driver: orders to libvirt, and what is true whatever libvirt says.

use super::beside::{self, Beside};
use super::ending::{GENTLE, Meant};
use super::events::Event;
use super::launch::{SETTLED, Start};
use super::link::{Kind, Link};
use super::registry::{Known, Life, Registry};
use super::sense::Sense;
use super::survey::{self, Activity, Found};
use super::tag::{Tag, woven};
use super::watch;
use crate::clock::Clock;
use crate::guardian::processes::leader;
use crate::guardian::records::RunDir;
use crate::hypervisor::{Driver, Gate, Notice};
use crate::hypervisor::{Turns, lock};
use quorate_membership::{BootId, Time, Token};
use quorate_recovery::contract::GuestSeen;
use quorate_recovery::domain::Domain;
use quorate_recovery::guest::{Definition, GuestId, GuestSpec, Probe};
use quorate_recovery::hold::{HoldReason, Words};
use quorate_recovery::images::Harmless;
use quorate_recovery::observation::Sample;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// How long one poll may take.
const POLL: Duration = Duration::from_secs(4);
/// Between two looks for processes that carry the marks.
const SWEEP: Duration = Duration::from_secs(10);

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
    /// Where captures are kept, if they are.
    pub evidence: Option<PathBuf>,
}

/// Guests as domains of libvirt.
#[derive(Clone)]
pub struct Libvirt {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) cluster: String,
    pub(super) evidence: Option<PathBuf>,
    pub(super) registry: Registry,
    pub(super) link: Link,
    /// One order at a time for each guest; who looks after ended ones steps back.
    turns: Turns,
    /// Starts that libvirt has not answered for.
    pub(super) starting: Mutex<BTreeMap<Life, Start>>,
    /// One poll at a time: while libvirt hangs, no second waits behind the first.
    polling: Mutex<()>,
    /// When libvirt last answered a poll, or when it was first to be asked; and what came of the
    /// last poll.
    answered: Mutex<(Time, Result<(), String>)>,
    pub(super) sense: Sense,
    /// Lives that processes carry the marks of, and when they were last looked for.
    strays: Mutex<(Time, Vec<Life>)>,
    /// Lives whose processes are gone, and since when, while libvirt may still show them.
    pub(super) buried: Mutex<BTreeMap<Life, Time>>,
    /// Images that hold no start up, of guests about to be started.
    harmless: Mutex<BTreeMap<GuestId, Harmless>>,
    pub(super) events: Mutex<Option<Receiver<Event>>>,
    pub(super) listeners: Mutex<Vec<UnboundedSender<Event>>>,
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
                evidence: settings.evidence,
                registry,
                link: Link::new(&settings.uri, events),
                turns: Turns::default(),
                starting: Mutex::new(starting),
                polling: Mutex::default(),
                answered: Mutex::new((now, Ok(()))),
                sense: Sense::new(&settings.uri),
                strays: Mutex::default(),
                buried: Mutex::default(),
                harmless: Mutex::default(),
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

    /// Whether libvirt answers, by the polls; asks it nothing.
    ///
    /// # Errors
    /// For how long it has not answered, and what came of the last poll.
    pub fn answering(&self) -> Result<(), String> {
        let (at, said) = lock(&self.inner.answered).clone();
        let since = Clock.now().since(at).as_secs();
        match said {
            Err(why) => Err(format!("no answer for {since} s: {why}")),
            // Nobody has polled for so long that the last answer says nothing.
            Ok(()) if since > 2 * POLL.as_secs() => Err(format!("no answer for {since} s")),
            Ok(()) => Ok(()),
        }
    }

    /// Hears every event of every domain from now on. [`Driver::watch`] must be at work.
    pub fn listen(&self, to: UnboundedSender<Event>) {
        lock(&self.inner.listeners).push(to);
    }
}

/// What is left until `t`.
pub(super) fn until(t: Time) -> Duration {
    t.since(Clock.now())
}

impl Inner {
    pub(super) fn turn(&self, guest: GuestId) -> Arc<Mutex<()>> {
        self.turns.of(guest)
    }

    pub(super) fn qemu(&self) -> bool {
        self.link.kind() == Kind::Qemu
    }

    pub(super) fn known(
        &self,
        guest: GuestId,
        meant: &dyn Fn(Token) -> bool,
    ) -> Result<Vec<Known>, String> {
        let mut known = self.registry.known()?;
        known.retain(|k| k.life.0 == guest && meant(k.life.1));
        Ok(known)
    }

    /// Whether any process of these lives is left.
    pub(super) fn alive(
        &self,
        of: &[Known],
        marked: &dyn Fn(Life) -> bool,
    ) -> Result<bool, String> {
        if !self.qemu() {
            return Ok(false);
        }
        let dir = self.registry.run.path();
        let scan = crate::guardian::processes::Scan::take(Some(dir)).map_err(|e| e.to_string())?;
        let left = self.registry.processes(of, marked, |w| w.among(&scan));
        Ok(!left.is_empty())
    }

    pub(super) fn registered(&self, life: Life, known: &[Known]) -> bool {
        let known = known.iter().find(|k| k.life == life);
        known.is_some_and(|k| !self.qemu() || k.record.as_ref().and_then(leader).is_some())
    }

    /// The one life of this order, registered and of this boot.
    pub(super) fn standing(&self, life: Life) -> Result<Known, String> {
        let known = self.known(life.0, &|e| e == life.1)?;
        let one = known.into_iter().find(|k| k.boot == self.registry.boot);
        let one = one.ok_or_else(|| format!("{} epoch {} is not on this host", life.0, life.1))?;
        if self.qemu() && one.record.as_ref().and_then(leader).is_none() {
            return Err("its process is not registered, or is gone".into());
        }
        Ok(one)
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

impl Inner {
    /// Refuses a start from an image that somebody went on from, and has the guest held for it.
    fn fits(&self, life: Life, domain: &Domain) -> Result<(), String> {
        let harmless = lock(&self.harmless).get(&life.0).cloned();
        match beside::check(domain, &harmless.unwrap_or_default()) {
            Ok(()) => Ok(()),
            Err(Beside::Unread(why)) => Err(format!("the images cannot be looked at: {why}")),
            Err(Beside::Stale(why)) => {
                let reason = HoldReason::Backing(Words::new(&why));
                if let Some(tell) = lock(&self.sense.tell).as_ref() {
                    let _ = tell.send(Notice::Hold(life.0, life.1, reason));
                }
                Err(why)
            }
        }
    }
}

impl Driver for Libvirt {
    fn recall(&self, guest: GuestId, harmless: &Harmless) {
        let mut all = lock(&self.inner.harmless);
        if *harmless == Harmless::default() {
            all.remove(&guest);
        } else {
            all.insert(guest, harmless.clone());
        }
    }

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
        inner.fits(life, &domain)?;
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
            domain: Some(domain.uuid),
        };
        let marks = inner.qemu().then_some(&inner.registry.run);
        let text = woven(xml, &tag, marks)?;
        gate.pass()?;
        lock(&inner.buried).remove(&life);
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
        let turn = self.inner.turn(guest);
        let _turn = lock(&turn);
        self.inner.turn_to((guest, epoch), true, gate)
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
        let said = tagged.as_ref().map(|_| ()).map_err(|f| f.why.clone());
        {
            let mut answered = lock(&inner.answered);
            if said.is_ok() {
                answered.0 = Clock.now();
            }
            answered.1 = said;
        }
        let mut seen: BTreeMap<Life, bool> = BTreeMap::new();
        let tagged = tagged?.into_iter();
        let mut tagged: Vec<(Life, Activity)> =
            tagged.map(|(t, a)| ((t.guest, t.epoch), a)).collect();
        inner.without_buried(&mut tagged);
        for (life, activity) in tagged {
            seen.insert(life, activity == Activity::Held);
        }
        // libvirt answered: a start it was lost in before and does not show now is none.
        lock(&inner.starting).retain(|life, start| {
            let over = matches!(start, Start::Unknown(at) if begun >= *at + SETTLED);
            !over || seen.contains_key(life)
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

    fn present(&self) -> Result<Vec<GuestSeen>, String> {
        self.inner.present()
    }

    fn owns(&self, guest: GuestId, epoch: Token) -> Result<bool, String> {
        self.inner.owns(guest, epoch)
    }

    fn watch(&self, gone: UnboundedSender<Notice>) -> Result<(), String> {
        let events = lock(&self.inner.events).take();
        let events = events.ok_or("this driver is watched already")?;
        *lock(&self.inner.sense.tell) = Some(gone.clone());
        let inner = Arc::downgrade(&self.inner);
        std::thread::Builder::new()
            .name("domains".into())
            .spawn(move || watch::watch(&inner, &events, &gone))
            .map(|_| ())
            .map_err(|e| e.to_string())
    }

    fn reset(&self, guest: GuestId, epoch: Token, gate: &Gate) -> Result<(), String> {
        let turn = self.inner.turn(guest);
        let _turn = lock(&turn);
        self.inner.reset((guest, epoch), gate)
    }

    fn capture(&self, guest: GuestId, epoch: Token, why: &str, gate: &Gate) -> Result<(), String> {
        // Takes no turn: it changes nothing, and must hold up no end.
        self.inner.capture((guest, epoch), why, gate)
    }

    fn probe(
        &self,
        guest: GuestId,
        epoch: Token,
        probe: &Probe,
        gate: &Gate,
    ) -> Result<Result<(), String>, String> {
        self.inner.run_probe((guest, epoch), probe, gate)
    }

    fn sample(&self) -> Result<Vec<(GuestId, Token, Sample)>, String> {
        let samples = self.inner.samples()?.into_iter();
        Ok(samples.map(|((g, e), sample)| (g, e, sample)).collect())
    }
}
