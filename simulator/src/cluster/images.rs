//! The images of guests: snapshots, merges and copies made past the cluster while a guest runs, what
//! a host's daemon sees of them, and what its driver reads before a start.

use super::host::Proc;
use super::picture::mark;
use super::{Event, Local, Sim, SimNode, nodes};
use crate::cluster::Plan;
use crate::cluster::action::{Action, Ill};
use crate::world::{MS, SECOND};
use quorate_membership::Token;
use quorate_recovery::contract::{Fact, Start};
use quorate_recovery::domain::layout::{Layout, Top};
use quorate_recovery::domain::{Source, uuid};
use quorate_recovery::guest::{Definition, GuestId, GuestSpec};
use quorate_recovery::hold::{HoldReason, Words};
use quorate_recovery::images::{LeftImage, ScratchImage, Stamp};

/// Between two looks of a daemon at what its guests are made of.
const SURVEY: (u64, u64) = (9_500 * MS, 10_500 * MS);
/// An image below another is newer if it was written to so much later.
const NEWER: u64 = 500 * MS;
/// Chance per million that the hypervisor's event of a change reaches the daemon.
const HEARD: u32 = 800_000;

/// The images of one guest; the first is the one its description names.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    images: Vec<Image>,
}

#[derive(Clone, Copy, Debug)]
struct Image {
    /// What its header says lies below.
    below: Option<u32>,
    /// The one host that has it.
    only: Option<usize>,
    /// When it was last written to, by the storage's clock.
    written: u64,
    /// Somebody removed it.
    removed: bool,
}

impl Default for Disk {
    fn default() -> Disk {
        let base = Image {
            below: None,
            only: None,
            written: 0,
            removed: false,
        };
        Disk { images: vec![base] }
    }
}

/// Whether anything in the plan changes images, so that guests need any.
pub(super) fn wanted(plan: &Plan) -> bool {
    let changes = |a: &Action| matches!(a, Action::Guest(_, ill) if ill.of_images());
    let triggers = plan.triggers.iter().map(|t| &t.action);
    plan.timeline
        .iter()
        .map(|(_, a)| a)
        .chain(triggers)
        .any(changes)
}

/// The description of a guest that has a disk.
pub(super) fn described(guest: usize) -> Definition {
    let xml = format!(
        "<domain type='kvm'><name>g{}</name><uuid>{}</uuid><memory unit='MiB'>128</memory>\
         <devices><disk type='file'><driver name='qemu' type='qcow2' cache='none'/>\
         <source file='{}'/><target dev='vda'/></disk></devices></domain>",
        guest + 1,
        uuid(guest as u128 + 1),
        path(guest, 0)
    );
    Definition::Domain { xml }
}

fn path(guest: usize, image: u32) -> String {
    format!("/s/g{}.{image}", guest + 1)
}

/// The image that a description names.
fn top(spec: &GuestSpec) -> Option<u32> {
    let Definition::Domain { xml } = &spec.definition else {
        return None;
    };
    let top = Layout::read(xml)?.disks.get("vda")?.top.clone()?;
    top.source.to_string().rsplit_once('.')?.1.parse().ok()
}

impl<N: SimNode> Sim<N> {
    fn image(&self, guest: usize, image: u32) -> Image {
        self.disks[guest].images[image as usize]
    }

    /// What a driver reads beside the image it is to start a guest from.
    pub(super) fn images_fit(
        &self,
        host: usize,
        id: GuestId,
        start: &Start,
    ) -> Result<u32, String> {
        let (Some(guest), Some(top)) = (self.index_of(id), top(&start.spec)) else {
            return Ok(0);
        };
        let images = self.disks[guest].images.iter().enumerate();
        for (number, image) in images {
            let there = image.only.is_none_or(|only| only == host) && !image.removed;
            let path = path(guest, number as u32);
            let stamp = stamp(number as u32, image);
            let left = start.harmless.left.contains(&LeftImage {
                path: path.clone(),
                stamp,
            });
            let old = start
                .harmless
                .scratch
                .contains(&scratch(guest, number as u32));
            if image.below == Some(top) && there && !left && !old {
                return Err(format!(
                    "{path} is backed by the image that is to be started"
                ));
            }
        }
        let of = self.image(guest, top);
        if let Some(below) = of.below.map(|n| self.image(guest, n))
            && below.written > of.written + NEWER
        {
            return Err("the image below the one to be started was written to later".into());
        }
        Ok(top)
    }

    /// The image that a start names, whatever lies beside it.
    pub(super) fn named_top(&self, start: &Start) -> u32 {
        top(&start.spec).unwrap_or(0)
    }

    /// A start was refused for what lies beside its image.
    pub(super) fn images_misfit(&mut self, host: usize, guest: GuestId, epoch: Token, why: &str) {
        let reason = HoldReason::Backing(Words::new(why));
        let fact = Fact::Hold {
            guest,
            epoch,
            reason,
        };
        self.world.tell(host, MS, Local::fact(fact));
    }

    /// Somebody changes the images of a guest that runs. `false` if it is no such change.
    pub(super) fn changes_images(&mut self, host: usize, at: usize, guest: usize, ill: &Ill) {
        let now = self.world.now();
        let p = self.hosts[host].procs[at];
        let next = self.disks[guest].images.len() as u32;
        let new = |below, only| Image {
            below,
            only,
            written: now,
            removed: false,
        };
        self.disks[guest].images[p.top as usize].written = now;
        // libvirt refuses the one while the other is under way.
        if p.scratch.is_some() || (p.job && matches!(ill, Ill::BackedUp(_))) {
            return;
        }
        match ill {
            Ill::BackedUp(length) => {
                self.disks[guest].images.push(new(Some(p.top), None));
                self.hosts[host].procs[at].scratch = Some(next);
                let epoch = p.epoch;
                self.world
                    .after(*length, Event::BackedUp { host, guest, epoch });
                self.surveyed_soon(host);
            }
            Ill::Snapshot { local } => {
                // What lies above an image that one host alone has can be read by no other either.
                let below = self.image(guest, p.top).only;
                let only = local.then_some(host).or(below);
                self.disks[guest].images.push(new(Some(p.top), only));
                self.turns_to(host, at, next, only);
            }
            Ill::Merges => {
                let Some(below) = self.image(guest, p.top).below else {
                    return;
                };
                // Its next writes follow at once.
                self.disks[guest].images[below as usize].written = now + 2 * NEWER;
                self.turns_to(host, at, below, self.image(guest, below).only);
            }
            Ill::Copies(length) => {
                if p.job {
                    return;
                }
                self.hosts[host].procs[at].job = true;
                let epoch = p.epoch;
                self.world
                    .after(*length, Event::Copied { host, guest, epoch });
                self.surveyed_soon(host);
            }
            _ => {}
        }
    }

    /// A copy under way is done: the guest goes on with it.
    pub(super) fn copied(&mut self, host: usize, guest: usize, epoch: Token) {
        let id = self.guest_ids[guest];
        let procs = &self.hosts[host].procs;
        let found = procs
            .iter()
            .position(|p| Some(p.guest) == id && p.epoch == epoch && p.job);
        let Some(at) = found else { return };
        let next = self.disks[guest].images.len() as u32;
        let old = self.hosts[host].procs[at].top;
        let now = self.world.now();
        self.disks[guest].images[old as usize].written = now;
        self.disks[guest].images.push(Image {
            below: None,
            only: None,
            written: now,
            removed: false,
        });
        self.hosts[host].procs[at].job = false;
        self.turns_to(host, at, next, None);
    }

    /// A backup is done: what it kept is removed. Nobody removes that of one that was broken off.
    pub(super) fn backed_up(&mut self, host: usize, guest: usize, epoch: Token) {
        let id = self.guest_ids[guest];
        let procs = &mut self.hosts[host].procs;
        let mut of = procs.iter_mut();
        let of = of.find(|p| Some(p.guest) == id && p.epoch == epoch && p.scratch.is_some());
        if let Some(image) = of.and_then(|p| p.scratch.take()) {
            self.disks[guest].images[image as usize].removed = true;
            self.surveyed_soon(host);
        }
    }

    fn turns_to(&mut self, host: usize, at: usize, image: u32, only: Option<usize>) {
        let now = self.world.now();
        self.hosts[host].procs[at].top = image;
        let id = self.hosts[host].procs[at].guest;
        self.s16.goes_on(now, id, image, only);
        mark!(self, host, Truth, "TRUTH {id} writes to image {image}");
        self.surveyed_soon(host);
    }

    fn surveyed_soon(&mut self, host: usize) {
        if self.guest_rng.chance(HEARD) {
            let delay = self.guest_rng.range(20 * MS, 300 * MS);
            self.world.after(delay, Event::Survey { host, once: true });
        }
    }

    /// A daemon looks at what its guests are made of, and at images it has not read.
    pub(super) fn survey(&mut self, host: usize, once: bool) {
        if !once {
            let wait = self.guest_rng.range(SURVEY.0, SURVEY.1);
            self.world.after(wait, Event::Survey { host, once });
        }
        let h = &self.hosts[host];
        let blind = h.silent_until > self.world.now();
        if !h.on || h.frozen_until > self.world.now() || !self.world.is_running(host) {
            return;
        }
        let mut facts = Vec::new();
        for p in h.procs.iter().filter(|_| !blind) {
            if let Some(guest) = self.index_of(p.guest) {
                facts.push(self.machine(guest, p));
            }
        }
        let gone = h.storage_gone_until > self.world.now();
        for (id, g) in self.audit.guests.iter().filter(|_| !gone) {
            let wanted = g
                .readers
                .as_ref()
                .is_some_and(|r| !r.contains(&nodes::id(host)));
            let Some(guest) = self.index_of(*id).filter(|_| wanted) else {
                continue;
            };
            let image = g
                .top
                .as_ref()
                .and_then(|t| t.rsplit_once('.')?.1.parse().ok());
            let Some(image) = image.map(|n| self.image(guest, n)) else {
                continue;
            };
            if image.only.is_none_or(|only| only == host) {
                facts.push(Fact::ImagesRead {
                    guest: *id,
                    followed: g.followed,
                });
            }
        }
        for fact in facts {
            let delay = self.guest_rng.range(MS, 100 * MS);
            self.world.tell(host, delay, Local::fact(fact));
        }
    }

    fn machine(&self, guest: usize, p: &Proc) -> Fact {
        let (id, epoch) = (p.guest, p.epoch);
        // All but the images is as described.
        let mut layout = match described(guest) {
            Definition::Domain { xml } => Layout::read(&xml).unwrap_or_default(),
            _ => Layout::default(),
        };
        let source = Source::Path(path(guest, p.top));
        let image = Top {
            source,
            device: false,
            format: "qcow2".into(),
        };
        let plate = layout.disks.entry("vda".into()).or_default();
        (plate.top, plate.job) = (Some(image), p.job);
        let images = self.disks[guest].images.iter().enumerate();
        let stamps = images.map(|(n, i)| (path(guest, n as u32), stamp(n as u32, i)));
        Fact::Machine {
            guest: id,
            epoch,
            layout: Box::new(layout),
            stamps: stamps.collect(),
            scratch: Some(self.scratch_there(guest, p)),
        }
    }

    /// What a backup keeps old blocks in, and what the log says that one did and still lies there.
    fn scratch_there(&self, guest: usize, p: &Proc) -> Vec<ScratchImage> {
        let images = self.disks[guest].images.iter().zip(0..);
        let there = images.filter(|(image, _)| !image.removed);
        let recorded = self.audit.guests.get(&p.guest).map(|g| &g.scratch);
        let known = |s: &ScratchImage| recorded.is_some_and(|all| all.contains(s));
        let wanted = there.map(|(_, n)| (n, scratch(guest, n)));
        let wanted = wanted.filter(|(n, s)| p.scratch == Some(*n) || known(s));
        wanted.map(|(_, s)| s).collect()
    }

    /// The plan changes images: daemons look at them from the start.
    pub(super) fn begin_surveys(&mut self) {
        if wanted(&self.plan) {
            for host in 0..self.plan.hosts {
                let first = self.guest_rng.range(0, 10 * SECOND);
                self.world.after(first, Event::Survey { host, once: false });
            }
        }
    }
}

fn stamp(number: u32, image: &Image) -> Stamp {
    Stamp {
        inode: u64::from(number) + 1,
        written_ns: image.written as i64,
    }
}

fn scratch(guest: usize, number: u32) -> ScratchImage {
    ScratchImage {
        path: path(guest, number),
        inode: u64::from(number) + 1,
        made_ns: i64::from(number),
    }
}
