//! The lock beside an image: who wrote to it last, as the disk itself says.
//!
//! The log may be wrong about an image: it was set back, cloned, or belongs to another cluster. So
//! beside each image that a guest writes to stands a lock, written before the guest goes on and
//! read before every start. What the guest's record accounts for ([`Life`]) costs nothing; any
//! other lock holds the guest. It is a veto only: no lock, or one that cannot be read, proves
//! nothing, bars no start and ends no guest.

use crate::domain::{Domain, Source};
use crate::guest::{Definition, GuestId, GuestSpec};
use crate::hold::{HoldReason, Words};
pub use crate::images::Life;
use crate::machine::{GuestRecord, Guests};
use crate::mutants::planted;
use quorate_membership::{ClusterId, NodeId, Token};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most locks that one hold names, and the most that a record has released.
pub const LOCKS: usize = 32;
/// The most lives that a record accounts for.
const LIVES: usize = 64;
/// The most lives kept of guests that were removed.
const RETIRED: usize = 1024;
/// The most guests that one entry reports as locked.
pub const REPORTED: usize = 1024;

/// What a lock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// The cluster that wrote it.
    pub cluster: ClusterId,
    /// The guest it wrote it for.
    pub guest: GuestId,
    /// The life of that guest.
    pub life: Life,
    /// Raised while the guest runs.
    pub raised: u64,
}

/// A lock that was seen beside an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenLock {
    /// The image, as the guest names it.
    pub image: Words,
    /// What stood there.
    pub lock: Lock,
}

impl fmt::Display for SeenLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lock {
            cluster,
            guest,
            life,
            raised,
        } = &self.lock;
        write!(
            f,
            "{} was last written by {} of cluster {cluster}, {guest} epoch {}, raised {raised} times",
            self.image, life.host, life.epoch
        )
    }
}

/// An image that a guest writes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedImage {
    /// Its path, as the guest's description has it.
    pub path: String,
    /// Several guests may write to it at once: each has a lock of its own.
    pub shareable: bool,
}

/// What stands beside one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockReading {
    /// The image.
    pub image: Words,
    /// What was found.
    pub found: Found,
}

/// What was found beside an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No lock: nothing was written there yet.
    Nothing,
    /// A lock.
    Lock(Lock),
    /// It cannot be read, or does not check out: nothing follows.
    Unreadable(Words),
}

/// The locks of one life, to be written and raised while the guest runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockPlan {
    /// What they say.
    pub lock: Lock,
    /// The guest's name, for people.
    pub name: String,
    /// Beside which images.
    pub images: Vec<LockedImage>,
}

/// How the locks of a guest that runs stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockState {
    /// Why they cannot be raised, if they cannot.
    pub failing: Option<Words>,
    /// Locks of somebody else, found in place of this life's.
    pub met: Vec<SeenLock>,
}

/// The images that a guest of that description writes to and that have a path.
#[must_use]
pub fn images(spec: &GuestSpec) -> Vec<LockedImage> {
    match &spec.definition {
        Definition::Command { images, .. } => {
            let image = |path: &String| LockedImage {
                path: path.clone(),
                shareable: false,
            };
            images.iter().map(image).collect()
        }
        Definition::Domain { xml } => {
            let disks = Domain::read(xml).map(|d| d.disks).unwrap_or_default();
            let image = |d: crate::domain::Disk| match d.sources.into_iter().next() {
                Some(Source::Path(path)) if d.writable => Some(LockedImage {
                    path,
                    shareable: d.shareable,
                }),
                _ => None,
            };
            disks.into_iter().filter_map(image).collect()
        }
        Definition::Ocf { .. } => Vec::new(),
    }
}

/// Whether guests of that description may have locks; cheaper than [`images`].
fn may_lock(spec: &GuestSpec) -> bool {
    match &spec.definition {
        Definition::Command { images, .. } => !images.is_empty(),
        Definition::Domain { .. } => true,
        Definition::Ocf { .. } => false,
    }
}

/// The reason to hold `guest` that these locks give; `None` if all are accounted for.
#[must_use]
pub fn judge(
    guests: &Guests,
    cluster: ClusterId,
    guest: GuestId,
    readings: &[LockReading],
) -> Option<HoldReason> {
    let record = guests.guests.get(&guest)?;
    let mut unknown: Vec<SeenLock> = Vec::new();
    for reading in readings {
        let Found::Lock(lock) = &reading.found else {
            continue;
        };
        let retired = guests
            .retired
            .iter()
            .any(|(g, l)| (*g, *l) == (lock.guest, lock.life));
        let ours = lock.cluster == cluster
            && (lock.guest == guest && record.lives.contains(&lock.life) || retired);
        if !ours && !record.covered.contains(lock) {
            unknown.push(SeenLock {
                image: reading.image.clone(),
                lock: *lock,
            });
        }
    }
    unknown.truncate(LOCKS);
    if unknown.is_empty() || planted("lock-unknown-is-fine") {
        return None;
    }
    if unknown.iter().any(|s| s.lock.cluster != cluster) {
        return Some(HoldReason::ForeignLock(unknown));
    }
    Some(HoldReason::UnknownLock(unknown))
}

impl GuestRecord {
    /// The epoch was given: whoever has it may write its lock from now on.
    pub(crate) fn given(&mut self) {
        let Some(host) = self.host.filter(|_| may_lock(&self.spec)) else {
            return;
        };
        if self.lives.len() == LIVES {
            // The oldest is what the disk has if none of the later ones wrote.
            self.lives.remove(1);
        }
        self.lives.push(Life {
            epoch: self.epoch,
            host,
            incarnation: self.incarnation,
        });
    }

    /// A planted bug: a lock that was not written is taken for proof.
    pub(crate) fn never_locked(&self) -> bool {
        planted("lock-is-proof") && !self.lives.is_empty() && self.locked < self.epoch
    }

    /// The life that the open epoch is.
    #[must_use]
    pub fn life(&self) -> Option<Life> {
        self.lives.last().copied().filter(|l| l.epoch == self.epoch)
    }

    /// A person has released a hold for these locks: they are accounted for from now on, exactly as
    /// they stood. One that is raised after that belongs to somebody who lives.
    pub(crate) fn cover(&mut self, seen: &[SeenLock]) {
        for one in seen {
            let same = |c: &Lock| {
                Lock {
                    raised: one.lock.raised,
                    ..*c
                } == one.lock
            };
            self.covered.retain(|c| !same(c));
            if self.covered.len() == LOCKS {
                self.covered.remove(0);
            }
            self.covered.push(one.lock);
        }
    }
}

impl Guests {
    /// A host reports that the locks of these guests are written: what they replace is expected no
    /// more.
    pub(crate) fn locked(
        &mut self,
        host: NodeId,
        guests: &[(GuestId, Token)],
    ) -> Result<(), String> {
        if guests.len() > REPORTED {
            return Err(format!("one entry reports at most {REPORTED} guests"));
        }
        let mut any = false;
        for (guest, epoch) in guests {
            let Some(r) = self.guests.get_mut(guest) else {
                continue;
            };
            if r.host != Some(host) || r.epoch != *epoch || r.locked == *epoch {
                continue;
            }
            r.locked = *epoch;
            r.lives.retain(|l| l.epoch >= *epoch);
            r.covered.clear();
            any = true;
        }
        if any {
            Ok(())
        } else {
            Err("no such guest has that epoch there, or it is known".into())
        }
    }

    /// A guest is forgotten, all its epochs closed: its image may be another guest's from now on.
    pub(crate) fn retire(&mut self, guest: GuestId, record: &GuestRecord) {
        self.retired
            .extend(record.lives.iter().map(|l| (guest, *l)));
        let over = self.retired.len().saturating_sub(RETIRED);
        self.retired.drain(..over);
    }
}
