//! A soak with real libvirt and QEMU: faults that a seed draws, in rounds. After each everything is
//! mended, and within a minute the cluster is back, every change that was acknowledged holds, and every
//! guest that is to run runs. Whether two copies ever wrote at once, the judge says at the end.
//!
//! `QUORATE_SOAK_SECONDS` and `QUORATE_SOAK_SEED` say how long at least, and which faults.

use super::cases::Case;
use super::dice::{Dice, setting};
use super::lab::Lab;
use super::site::{HOSTS, NODES, WITNESS, kill};
use quorate::demo::DemoError;
use quorate::demo::record::now;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The case; it is played only when it is named.
pub const SOAK: [Case; 1] = [Case {
    name: "soak",
    text: "faults that a seed draws (SECONDS=600 SEED=1)",
    fresh: true,
    play,
}];

/// Faults are made for so long before everything is mended.
const ROUND: Duration = Duration::from_secs(90);
/// A cluster that is mended is back within this; its guests still have to boot.
const BACK: Duration = Duration::from_secs(60);
/// So many nodes are in trouble at once, at most: one more than the cluster can bear.
const AT_ONCE: usize = 2;
/// A host whose guardian was killed is left alone for two leases: guardian and daemon both lost within
/// one leave only a watchdog, which a host of namespaces does not have.
const AFTER_GUARDIAN: Duration = Duration::from_millis(7400);
/// How long faults last, in milliseconds: around silence and lease of the fast profile, and far from both.
const LENGTHS_MS: [u64; 7] = [400, 1000, 3000, 3700, 6000, 12_000, 25_000];

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Power,
    DaemonKilled,
    DaemonStopped,
    GuardianKilled,
    Cable,
    /// The cable and the controller at once.
    CableAndController,
    LibvirtStopped,
    QemuKilled,
}

const FAULTS: [Fault; 8] = [
    Fault::Power,
    Fault::DaemonKilled,
    Fault::DaemonStopped,
    Fault::GuardianKilled,
    Fault::Cable,
    Fault::CableAndController,
    Fault::LibvirtStopped,
    Fault::QemuKilled,
];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Power => "loses power",
            Fault::DaemonKilled => "has its daemon killed",
            Fault::DaemonStopped => "has its daemon stopped",
            Fault::GuardianKilled => "has its guardian killed",
            Fault::Cable => "is cut off",
            Fault::CableAndController => "is cut off, its controller dead",
            Fault::LibvirtStopped => "has its libvirt stopped",
            Fault::QemuKilled => "has a guest's QEMU killed",
        })
    }
}

impl Fault {
    fn begin(self, lab: &Lab<'_>, host: &str) -> Result<(), String> {
        match self {
            Fault::Power => lab.site.power_off(host),
            Fault::DaemonKilled => lab.site.signal(host, "daemon", "KILL"),
            Fault::DaemonStopped => lab.site.signal(host, "daemon", "STOP"),
            Fault::GuardianKilled => {
                let there = lab.site.processes(host, "quorate-guardia")?;
                there.into_iter().try_for_each(kill)
            }
            Fault::Cable => lab.site.cable(host, false),
            Fault::CableAndController => {
                lab.site.unplug_controller(host)?;
                lab.site.cable(host, false)
            }
            Fault::LibvirtStopped => lab.site.signal(host, "libvirtd", "STOP"),
            Fault::QemuKilled => match lab.site.emulators(host)?.first() {
                Some((pid, _)) => kill(*pid),
                None => Ok(()),
            },
        }
    }

    /// What it does to a node that runs no guests.
    fn of_witness(self) -> bool {
        matches!(
            self,
            Fault::Power | Fault::DaemonKilled | Fault::DaemonStopped | Fault::Cable
        )
    }
}

/// What the client was told last of a guest; `None` if the outcome of a change is unknown.
type Told = BTreeMap<String, Option<&'static str>>;

struct Soak {
    dice: Dice,
    /// Nodes in trouble, and until when.
    busy: BTreeMap<&'static str, (Fault, u64)>,
    told: Told,
    counted: BTreeMap<Fault, u32>,
    acknowledged: u32,
}

fn play(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    let seed = setting("QUORATE_SOAK_SEED", 1);
    let seconds = setting("QUORATE_SOAK_SECONDS", 180);
    lab.begin("soak", &format!("seed {seed}, {seconds} s or more"));
    let running = lab.guests.iter().map(|g| (g.name.clone(), Some("running")));
    let mut soak = Soak {
        dice: Dice::new(seed),
        busy: BTreeMap::new(),
        told: running.collect(),
        counted: BTreeMap::new(),
        acknowledged: 0,
    };
    let until = now() + seconds * 1_000_000_000;
    let mut rounds = 0;
    while rounds == 0 || now() < until {
        rounds += 1;
        soak.trouble(lab)?;
        soak.mend(lab)?;
        let mended = now();
        soak.back(lab, mended)?;
        let took = now().saturating_sub(mended) as f64 / 1e9;
        lab.step("back", now(), &format!("round {rounds}, after {took:.1} s"));
        soak.start_all(lab)?;
    }
    if soak.acknowledged == 0 {
        let why = format!("seed {seed}: no change was acknowledged, so none could be lost");
        return Err(DemoError::Failed(why));
    }
    let counted: Vec<String> = { &soak.counted }
        .iter()
        .map(|(fault, n)| format!("{n} x {fault}"))
        .collect();
    lab.step("faults", now(), &counted.join(", "));
    let changes = format!("{} acknowledged, none lost", soak.acknowledged);
    lab.step("changes", now(), &changes);
    Ok(())
}

impl Soak {
    /// Makes trouble for one round.
    fn trouble(&mut self, lab: &mut Lab<'_>) -> Result<(), DemoError> {
        let until = now() + ROUND.as_nanos() as u64;
        while now() < until {
            let host = NODES[self.dice.below(NODES.len())];
            let fault = FAULTS[self.dice.below(FAULTS.len())];
            let length = LENGTHS_MS[self.dice.below(LENGTHS_MS.len())];
            let fits = host != WITNESS || fault.of_witness();
            if fits && !self.busy.contains_key(host) && self.busy.len() < AT_ONCE {
                let mut length = Duration::from_millis(length);
                lab.mark(&format!("{host} {fault} ({length:?})"));
                // A host that was fenced or reset meanwhile has nothing that can fail.
                if fault.begin(lab, host).is_ok() {
                    *self.counted.entry(fault).or_default() += 1;
                }
                if fault == Fault::GuardianKilled {
                    length = length.max(AFTER_GUARDIAN);
                }
                self.busy
                    .insert(host, (fault, now() + length.as_nanos() as u64));
            }
            self.change(lab);
            lab.pass(self.dice.between(300, 3000))?;
            self.end_due(lab, now());
        }
        Ok(())
    }

    /// Ends the faults whose time is over. A host that lost its power meanwhile is switched on.
    fn end_due(&mut self, lab: &Lab<'_>, now: u64) {
        let over: Vec<&str> = { &self.busy }
            .iter()
            .filter(|(_, (_, until))| *until <= now)
            .map(|(host, _)| *host)
            .collect();
        for host in over {
            if let Some((fault, _)) = self.busy.remove(host) {
                end(lab, host, fault == Fault::CableAndController);
            }
        }
    }

    /// One change by a client, on a node that the dice choose.
    fn change(&mut self, lab: &Lab<'_>) {
        let node = NODES[self.dice.below(NODES.len())];
        let guest = lab.guests[self.dice.below(lab.guests.len())].name.clone();
        let (verb, wanted) = match self.dice.below(2) {
            0 => ("stop", "stopped"),
            _ => ("start", "running"),
        };
        // A node that cannot answer would cost the soak its time.
        if self.busy.contains_key(node) {
            return;
        }
        let done = lab.site.quorate(node, &["guest", verb, &guest]);
        self.acknowledged += u32::from(done.is_ok());
        self.told.insert(guest, done.is_ok().then_some(wanted));
    }

    /// Mends everything.
    fn mend(&mut self, lab: &mut Lab<'_>) -> Result<(), DemoError> {
        lab.mark("everything is mended");
        let busy = std::mem::take(&mut self.busy);
        for host in NODES {
            let dead = busy.get(host).map(|(f, _)| *f) == Some(Fault::CableAndController);
            end(lab, host, dead);
        }
        Ok(())
    }

    /// Waits until the cluster is whole, every acknowledged change holds, and guests run.
    fn back(&mut self, lab: &mut Lab<'_>, mended: u64) -> Result<(), DemoError> {
        lab.wait("four members with leases", || {
            // An attempt that was under way may have cut a host that was back.
            NODES.iter().for_each(|host| end(lab, host, false));
            let status = lab.status(WITNESS)?;
            let member = |name: &&'static str| {
                let mut all = status.view.members.iter();
                all.any(|m| m.name == **name && m.state == "member")
            };
            let whole = status.view.coordinator.is_some() && NODES.iter().all(member);
            if !whole {
                return Err(format!("status: {status:?}"));
            }
            // One that has just started is known by the life before.
            for host in HOSTS {
                let own = lab.status(host)?;
                if own.lease_left <= 0.0 {
                    return Err(format!("{host} has no lease"));
                }
            }
            Ok(())
        })?;
        let took = Duration::from_nanos(now().saturating_sub(mended));
        if took > BACK {
            let why = format!("the cluster was back after {took:?} only");
            return Err(DemoError::Failed(why));
        }
        for host in HOSTS {
            lab.libvirt_answers(host)?;
        }
        let known = lab.known()?;
        for (guest, told) in &self.told {
            let row = known.iter().find(|g| g.name == *guest);
            let wanted = row.map(|g| g.wanted.as_str());
            if told.is_some() && wanted != *told {
                let why = format!("{guest}: {told:?} was acknowledged, and wanted is {wanted:?}");
                return Err(DemoError::Failed(why));
            }
        }
        Ok(())
    }

    /// Every guest runs before the next round.
    fn start_all(&mut self, lab: &mut Lab<'_>) -> Result<(), DemoError> {
        for (guest, told) in &mut self.told {
            lab.site.quorate(WITNESS, &["guest", "start", guest])?;
            *told = Some("running");
        }
        lab.settled()
    }
}

/// Mends what a node may have: each of these is without effect where nothing is wrong.
fn end(lab: &Lab<'_>, host: &str, controller: bool) {
    if controller {
        let _ = lab.site.plug_controller(host);
    }
    if !lab.site.alive(host) {
        let _ = lab.site.power_off(host);
        let _ = lab.site.power_on(host);
        return;
    }
    let _ = lab.site.cable(host, true);
    let _ = lab.site.signal(host, "daemon", "CONT");
    if host != WITNESS {
        let _ = lab.site.signal(host, "libvirtd", "CONT");
    }
}
