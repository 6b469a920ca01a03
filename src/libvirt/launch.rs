//! Starts: libvirt is asked once, and what it does with the request is followed to its end.

use super::driver::{Inner, until};
use super::ending::Meant;
use super::link::{Failure, Fault};
use super::registry::{Known, Life};
use super::survey::{self, Activity, Found};
use crate::clock::Clock;
use crate::hypervisor::Gate;
use crate::hypervisor::lock;
use quorate_membership::Time;
use quorate_recovery::domain::{Domain, quoted, uuid};
use std::sync::Arc;
use std::time::Duration;
use virt::sys;

/// A start of which nobody knows what became is over when libvirt, asked so long after, does not
/// show it. It had the request before, and takes requests in their order.
pub(super) const SETTLED: Duration = Duration::from_secs(1);

/// How long libvirt may take to say what it has, before it is asked for a start. That one may
/// take much longer, when libvirt looks at its emulators first; one that hangs shows here, and the
/// guest is tried elsewhere the sooner.
const ANSWER: Duration = Duration::from_secs(10);

/// Between two looks whether libvirt has cleared up.
const REPEAT: Duration = Duration::from_millis(50);

/// A start that libvirt has not answered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
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

impl Inner {
    /// Lets libvirt create the domain, held. It may do so after everybody gave up: then whoever
    /// called it ends what came of it.
    pub(super) fn launch(
        self: &Arc<Inner>,
        life: Life,
        xml: String,
        gate: &Gate,
    ) -> Result<(), String> {
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
    ///
    /// libvirt was asked in time, and may take minutes to create what it was asked for: it looks at
    /// its emulators, or gathers much memory. The lease is renewed meanwhile, so its record is read
    /// anew; the bound that came with the order was the lease of that moment.
    pub(super) fn enrol(&self, life: Life, draw: u64, id: u128, gate: &Gate) -> Result<(), String> {
        if !self.qemu() {
            return Ok(());
        }
        gate.awaited()?;
        self.leased()?;
        self.registry.enrol(life, draw, id).map(|_| ())
    }

    /// Refuses a start beside a domain of the same name or UUID; `true` if the domain that is
    /// there is this very life, held. What libvirt shows of an earlier life whose processes are
    /// gone is waited for.
    pub(super) fn free(
        &self,
        life: Life,
        domain: &Domain,
        known: &[Known],
        gate: &Gate,
    ) -> Result<bool, String> {
        let guest = life.0;
        loop {
            let alike = self.alike(domain, gate)?;
            let corpse = alike.iter().any(|one| {
                let tag = one.tag.as_ref().filter(|t| t.cluster == self.cluster);
                one.activity.is_some() && tag.is_some_and(|t| t.guest == guest && t.epoch <= life.1)
            });
            let patience = until(gate.give_up()) / 2;
            let wait = self.qemu() && corpse && patience > SETTLED;
            if !wait || self.alive(known, &|(g, _)| g == guest)? {
                return self.judge(life, domain, known, alike);
            }
            gate.pass()?;
            let meant: Meant = Arc::new(move |e| e <= life.1);
            if let Err(f) = self.destroy(guest, &meant, patience) {
                tracing::debug!("{guest}: libvirt has not cleared up: {}", f.why);
                std::thread::sleep(REPEAT);
            }
        }
    }

    fn alike(&self, domain: &Domain, gate: &Gate) -> Result<Vec<Found>, String> {
        let (name, id) = (domain.name.clone(), domain.uuid);
        let limit = until(gate.give_up()).min(ANSWER);
        let alike = self.link.call(limit, move |c| survey::alike(c, &name, id));
        alike.map_err(|f| f.why)
    }

    fn judge(
        &self,
        life: Life,
        domain: &Domain,
        known: &[Known],
        alike: Vec<Found>,
    ) -> Result<bool, String> {
        let id = domain.uuid;
        for one in alike {
            if one.autostart {
                return Err(format!(
                    "libvirt starts domain {} by itself when this host boots: \
                     `virsh autostart --disable {}`",
                    one.name,
                    quoted(&one.name)
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
}

#[cfg(test)]
mod tests {
    use crate::clock::{self, Clock};
    use crate::guardian::records::{LeaseRecord, RunDir};
    use crate::guardian::slots::Slots;
    use crate::libvirt::{Libvirt, Settings};
    use quorate_membership::{BootId, Incarnation};
    use std::time::Duration;

    #[test]
    fn a_start_goes_by_the_lease_as_it_is_and_not_as_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let run = RunDir::create(&dir.path().join("run")).expect("made");
        let boot = clock::boot_id(clock::BOOT_ID_FILE.as_ref()).expect("Linux");
        let driver = Libvirt::new(Settings {
            uri: "qemu:///system".into(),
            run: run.clone(),
            boot,
            host: "here".into(),
            cluster: "c1".into(),
            evidence: None,
        })
        .expect("a driver");
        let mut slots = Slots::new(run.lease());
        let mut renew = |boot: BootId, end| {
            let incarnation = Incarnation {
                counter: 1,
                random: 1,
            };
            let record = LeaseRecord {
                boot,
                incarnation,
                end,
            };
            slots.write(&record).expect("written");
        };
        let leased = || driver.inner.leased();
        assert!(leased().is_err(), "no record is no lease");
        renew(boot, Clock.now() + Duration::from_secs(60));
        assert_eq!(leased(), Ok(()));
        renew(boot, Clock.now());
        assert_eq!(leased(), Err("the lease is over".into()));
        renew(BootId(boot.0 ^ 1), Clock.now() + Duration::from_secs(60));
        assert!(leased().is_err(), "a lease of another boot is none");
    }
}
