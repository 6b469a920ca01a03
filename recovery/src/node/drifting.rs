//! What runs here compared with what the log says it is: machine, firmware, disks and their top
//! images. What differs in images is followed by an entry; what cannot be followed holds the guest.

use super::Node;
use crate::command::Command;
use crate::domain::Source;
use crate::domain::layout::{Difference, Layout, Top};
use crate::guest::{Definition, GuestId};
use crate::hold::{HoldKind, HoldReason, Words};
use crate::images::{LeftImage, Life, NewTop, PATH, SCRATCH_MAX, ScratchImage, Stamp, words};
use crate::machine::{GuestRecord, Guests};
use crate::mutants::planted;
use crate::planner::kind;
use quorate_membership::entry::Entry;
use quorate_membership::{Time, Token};
use std::collections::BTreeMap;

/// What this host has to say about images, until the log has it.
#[derive(Debug, Default)]
pub(super) struct Drifting {
    /// Guests of this host that write to other images than their records have.
    follow: BTreeMap<GuestId, Followed>,
    /// Guests whose images this host has read, and since which entry they are these.
    read: BTreeMap<GuestId, Token>,
    /// Images that backups of guests of this host keep old blocks in, where the record has others.
    scratch: BTreeMap<GuestId, (Life, Vec<ScratchImage>)>,
    /// What was told of guests of this host that differ from their records in what harms no disk.
    minor: BTreeMap<GuestId, (Token, String)>,
}

/// What a guest of this host writes to now.
#[derive(Debug)]
struct Followed {
    life: Life,
    tops: Vec<NewTop>,
    left: Vec<LeftImage>,
    over: bool,
}

impl Drifting {
    /// There is nothing to say.
    fn idle(&self) -> bool {
        self.follow.is_empty() && self.scratch.is_empty() && self.read.is_empty()
    }

    /// This host has read the images of a guest.
    pub(super) fn read(&mut self, guest: GuestId, followed: Token) {
        self.read.insert(guest, followed);
    }

    /// What differs in a guest now without harm to a disk; gives whether that is news.
    fn differs(&mut self, guests: &Guests, guest: GuestId, epoch: Token, what: &str) -> bool {
        if what.is_empty() {
            self.minor.remove(&guest);
            return false;
        }
        let now = (epoch, what.to_owned());
        if self.minor.get(&guest) == Some(&now) {
            return false;
        }
        self.minor
            .retain(|g, (e, _)| guests.guests.get(g).is_some_and(|r| r.epoch == *e));
        self.minor.insert(guest, now);
        true
    }

    /// Forgets what the log has, or what is void by now.
    fn settle(&mut self, guests: &Guests) {
        self.follow.retain(|guest, f| {
            let r = guests.guests.get(guest);
            r.is_some_and(|r| r.epoch <= f.life.epoch && r.images.tops != f.tops)
        });
        self.scratch.retain(|guest, (life, images)| {
            let r = guests.guests.get(guest);
            r.is_some_and(|r| r.epoch <= life.epoch && r.images.scratch != *images)
        });
        self.read.retain(|guest, followed| {
            let r = guests.guests.get(guest);
            r.is_some_and(|r| r.images.followed <= *followed)
        });
    }
}

impl Node {
    /// What a guest here is made of, seen by its hypervisor.
    pub(super) fn machine_seen(
        &mut self,
        guest: GuestId,
        epoch: Token,
        live: &Layout,
        stamps: &[(String, Stamp)],
    ) {
        let Some(life) = self.life_here(guest, epoch) else {
            return;
        };
        let Some(r) = self.member.app().guests.get(&guest) else {
            return;
        };
        let Some(mut seen) = judged(r, live, stamps) else {
            return;
        };
        seen.checked(self.member.app(), guest, &life);
        let minor = seen.minor.join("; ");
        if self
            .drifting
            .differs(self.member.app(), guest, epoch, &minor)
        {
            let text = format!(
                "it is not what its description says, which harms no disk: {minor}; its next start \
                 is as described"
            );
            self.executor.tells(guest, text);
        }
        let over = seen.jobs.is_none();
        if over && !seen.tops.is_empty() && !planted("released-before-followed") {
            // The entry by which the record follows ends that hold, and none before it does.
            self.holding.unsaid(guest, HoldKind::NewTop);
        } else {
            self.holding
                .settle_as(guest, epoch, HoldKind::NewTop, seen.jobs);
        }
        self.holding
            .settle_as(guest, epoch, HoldKind::Drift, seen.drift);
        if seen.tops.is_empty() || planted("new-top-not-followed") {
            self.drifting.follow.remove(&guest);
        } else {
            let follow = Followed {
                life,
                tops: seen.tops,
                left: seen.left,
                over,
            };
            self.drifting.follow.insert(guest, follow);
        }
    }

    /// The images that backups of a guest here keep old blocks in, seen by its hypervisor; `None` if
    /// nobody could look.
    pub(super) fn scratch_seen(
        &mut self,
        guest: GuestId,
        epoch: Token,
        scratch: Option<Vec<ScratchImage>>,
    ) {
        let (Some(mut scratch), Some(life)) = (scratch, self.life_here(guest, epoch)) else {
            return;
        };
        if planted("backup-not-told") {
            return;
        }
        scratch.retain(|s| s.path.len() <= PATH);
        scratch.truncate(SCRATCH_MAX);
        // One that the log would refuse, for lack of space, is not proposed again and again.
        match self.member.app().with_scratch(guest, &life, &scratch) {
            Ok(_) => drop(self.drifting.scratch.insert(guest, (life, scratch))),
            Err(_) => drop(self.drifting.scratch.remove(&guest)),
        }
    }

    /// The life of a guest that the log gives to this host under that epoch.
    fn life_here(&self, guest: GuestId, epoch: Token) -> Option<Life> {
        let me = self.member.me();
        let r = self.member.app().guests.get(&guest)?;
        let here = r.open() && r.host == Some(me) && r.epoch == epoch;
        here.then_some(Life {
            epoch,
            host: me,
            incarnation: r.incarnation,
        })
    }

    /// Proposes what this host has to say about images, until it stands in the log.
    pub(super) fn say_images(&mut self, now: Time) {
        if self.drifting.idle() {
            return;
        }
        self.drifting.settle(self.member.app());
        let retry = self.member.cluster().timing.election * 2;
        for (guest, f) in &self.drifting.follow {
            if self.member.cool(now, kind::FOLLOW, guest.0, retry) {
                let follow = Command::Follow {
                    guest: *guest,
                    life: f.life,
                    tops: f.tops.clone(),
                    left: f.left.clone(),
                    over: f.over,
                };
                self.member.propose(now, Entry::App(follow));
            }
        }
        for (guest, (life, images)) in &self.drifting.scratch {
            if self.member.cool(now, kind::SCRATCH, guest.0, retry) {
                let scratch = Command::Scratch {
                    guest: *guest,
                    life: *life,
                    images: images.clone(),
                };
                self.member.propose(now, Entry::App(scratch));
            }
        }
        let host = self.member.me();
        for (guest, followed) in &self.drifting.read {
            let r = self.member.app().guests.get(guest);
            let asked =
                r.is_some_and(|r| r.images.followed == *followed && !r.images.read_by(host));
            if asked && self.member.cool(now, kind::READS, guest.0, retry) {
                let reads = Command::Reads {
                    guest: *guest,
                    followed: *followed,
                    host,
                };
                self.member.propose(now, Entry::App(reads));
            }
        }
    }
}

/// What follows from the differences of a machine and its record.
#[derive(Default)]
struct Judged {
    /// Images to be followed, and what is left for them.
    tops: Vec<NewTop>,
    left: Vec<LeftImage>,
    /// A reason to hold the guest, by kind.
    jobs: Option<HoldReason>,
    drift: Option<HoldReason>,
    /// What is told and holds nothing.
    minor: Vec<String>,
}

fn judged(r: &GuestRecord, live: &Layout, stamps: &[(String, Stamp)]) -> Option<Judged> {
    let Definition::Domain { xml } = &r.spec.definition else {
        return None;
    };
    let record = Layout::read(xml)?;
    let stamp = |top: &Top| {
        let path = match &top.source {
            Source::Path(path) => path,
            Source::Network { .. } => return None,
        };
        let known = stamps.iter().find(|(p, _)| p == path);
        known.map(|(_, stamp)| (path.clone(), *stamp))
    };
    let mut out = Judged::default();
    let (mut jobs, mut drift) = (Vec::new(), Vec::new());
    for difference in record.against(live) {
        match &difference {
            Difference::Job { .. } => jobs.push(difference.to_string()),
            Difference::Top {
                disk,
                was,
                is: Some(top),
            } => {
                let Some((_, now)) = stamp(top) else {
                    drift.push(difference.to_string());
                    continue;
                };
                out.tops.push(NewTop {
                    disk: disk.clone(),
                    top: top.clone(),
                    inode: now.inode,
                });
                let left = was.as_ref().and_then(stamp);
                out.left
                    .extend(left.map(|(path, stamp)| LeftImage { path, stamp }));
            }
            Difference::Minor(_) => out.minor.push(difference.to_string()),
            _ => drift.push(difference.to_string()),
        }
    }
    if !jobs.is_empty() && !planted("block-job-is-nothing") {
        out.jobs = Some(HoldReason::NewTop(words(&jobs)));
    }
    if !drift.is_empty() {
        out.drift = Some(drifted(r, drift));
    }
    Some(out)
}

/// The reason to hold a guest whose record cannot follow what it is.
fn drifted(r: &GuestRecord, mut what: Vec<String>) -> HoldReason {
    what.push(format!(
        "`quorate guest adopt {}` takes over what runs",
        r.spec.name
    ));
    HoldReason::Drift(Words::new(&what.join("; ")))
}

impl Judged {
    /// A record that could not follow holds the guest instead: it must not start from what it left.
    fn checked(&mut self, guests: &Guests, guest: GuestId, life: &Life) {
        if self.tops.is_empty() {
            return;
        }
        let follows = guests.followed(guest, life, &self.tops, &self.left);
        if let (Err(why), Some(r)) = (follows, guests.guests.get(&guest)) {
            let tops = self.tops.drain(..);
            let what = tops.map(|t| {
                format!(
                    "{} is {}, which its record cannot follow",
                    t.disk, t.top.source
                )
            });
            let mut what: Vec<String> = what.collect();
            what.push(why);
            if let Some(HoldReason::Drift(words)) = &self.drift {
                what.insert(0, words.to_string());
            }
            self.drift = Some(drifted(r, what));
        }
    }
}
