//! The images of a guest while its description follows what its host does with them: snapshots that
//! begin a new top image, merges that go back to an old one.
//!
//! The record names the image that the guest writes to. A host that sees its guest write to another
//! one enters that, and the record follows; from then on only hosts that have read the new image
//! take the guest. What was left behind is remembered, so that an image that lies unchanged beside
//! the one in use is told from one that somebody began to use.

use crate::domain::layout::{Top, with_top};
use crate::guest::Definition;
use crate::guest::{GuestId, GuestSpec};
use crate::hold::{HoldKind, Words};
use crate::machine::{GuestRecord, Guests};
use crate::mutants::planted;
use quorate_membership::{Incarnation, NodeId, Token};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The most disks whose top image one entry changes.
const TOPS: usize = 64;
/// The most images that are remembered as left behind; of more, the oldest are forgotten.
const LEFT: usize = 16;
/// The most images of backups of one guest that are told; of more, the rest counts as any image.
pub const SCRATCH_MAX: usize = 64;
/// The longest path of an image, in bytes.
pub const PATH: usize = 4096;

/// What tells an image from another at the same place, and from itself after a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// Its inode; 0 for a device.
    pub inode: u64,
    /// When it was last written to by the storage's clock, in nanoseconds since 1970.
    pub written_ns: i64,
}

/// A disk's new top image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTop {
    /// The disk, as the guest names it.
    pub disk: String,
    /// The image.
    pub top: Top,
    /// Its inode; 0 for a device.
    pub inode: u64,
}

/// An image that was a guest's top and is not any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftImage {
    /// Where it lies.
    pub path: String,
    /// What it was when it was left.
    pub stamp: Stamp,
}

/// An image that a backup of a running guest keeps old blocks in. Its header looks like that of a new
/// top image; it holds nothing that the guest wrote since.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ScratchImage {
    /// Where it lies.
    pub path: String,
    /// Its inode.
    pub inode: u64,
    /// When it was made by the storage's clock, in nanoseconds since 1970; 0 where a file system does
    /// not tell. Another file of that name may get the inode of one that was removed.
    pub made_ns: i64,
}

/// Images beside those of a guest that hold no start of it up, as the log says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Harmless {
    /// Images that were left behind: one that lies as it was left is no use of another.
    pub left: Vec<LeftImage>,
    /// Images that backups kept old blocks in.
    pub scratch: Vec<ScratchImage>,
}

/// What the log knows of a guest's images beside their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    /// The entry that changed them last, by following the guest or by a person's word; zero if none
    /// ever did.
    pub followed: Token,
    /// The images of that entry, if it followed.
    pub tops: Vec<NewTop>,
    /// Hosts that have read them; `None`: the operator's word holds, every host does.
    pub readers: Option<BTreeSet<NodeId>>,
    /// Images that were left behind.
    pub left: Vec<LeftImage>,
    /// Images of backups: under way, or broken off with the host that ran them.
    pub scratch: Vec<ScratchImage>,
}

impl Images {
    /// The bytes that it takes in the state, nearly: paths above all.
    pub(crate) fn size(&self) -> usize {
        let tops = self.tops.iter();
        let tops = tops.map(|t| t.disk.len() + t.top.format.len() + t.top.source.to_string().len());
        let left = self.left.iter().map(|l| l.path.len());
        let scratch = self.scratch.iter().map(|s| s.path.len());
        let all = tops.chain(left).chain(scratch);
        all.map(|bytes| bytes + 24).sum()
    }

    /// Whether a host may take the guest.
    #[must_use]
    pub fn read_by(&self, host: NodeId) -> bool {
        self.readers
            .as_ref()
            .is_none_or(|hosts| hosts.contains(&host))
    }

    /// Whether an image lies as it was left.
    #[must_use]
    pub fn as_left(&self, path: &str, stamp: Stamp) -> bool {
        self.left.iter().any(|l| l.path == path && l.stamp == stamp)
    }
}

/// Whose word an entry about images is, and of which life of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// The guest's epoch.
    pub epoch: Token,
    /// The host it runs on.
    pub host: NodeId,
    /// That host's incarnation.
    pub incarnation: Incarnation,
}

impl Guests {
    /// The record follows its guest to other top images.
    pub(crate) fn follow(
        &mut self,
        at: Token,
        guest: GuestId,
        life: &Life,
        tops: &[NewTop],
        left: &[LeftImage],
    ) -> Result<(), String> {
        let (spec, mut images) = self.followed(guest, life, tops, left)?;
        images.followed = at;
        self.redefine(guest, spec, images)
    }

    /// What a record becomes that follows its guest to other top images.
    ///
    /// # Errors
    /// Why it cannot.
    pub(crate) fn followed(
        &self,
        guest: GuestId,
        life: &Life,
        tops: &[NewTop],
        left: &[LeftImage],
    ) -> Result<(GuestSpec, Images), String> {
        let bounded = tops.len() <= TOPS
            && left.len() <= TOPS
            && tops
                .iter()
                .all(|t| t.disk.len() <= PATH && t.top.format.len() <= PATH)
            && left.iter().all(|l| l.path.len() <= PATH);
        if !bounded || tops.is_empty() {
            return Err(format!("an entry changes 1 to {TOPS} top images"));
        }
        let r = self.runs(guest, life)?;
        let Definition::Domain { xml } = &r.spec.definition else {
            return Err("the guest has no disks".into());
        };
        let mut new = xml.clone();
        for t in tops {
            new = with_top(&new, &t.disk, &t.top)
                .ok_or_else(|| format!("the record has no disk {} to follow", t.disk))?;
        }
        if new == *xml {
            return Err("the record has these images already".into());
        }
        let mut spec = r.spec.clone();
        spec.definition = Definition::Domain { xml: new };
        spec.check()?;
        let mut images = r.images.clone();
        images.tops = tops.to_vec();
        if !planted("followed-unread") {
            images.readers = Some(BTreeSet::from([life.host]));
        }
        // An image that is in use again is not left any more.
        let used = |path: &str| tops.iter().any(|t| t.top.source.to_string() == path);
        images
            .left
            .retain(|l| !used(&l.path) && !left.iter().any(|new| new.path == l.path));
        images
            .left
            .extend(left.iter().filter(|l| !used(&l.path)).cloned());
        let over = images.left.len().saturating_sub(LEFT);
        images.left.drain(..over);
        images.scratch.retain(|s| !used(&s.path));
        self.may_become(guest, &spec, &images)?;
        Ok((spec, images))
    }

    /// The record of a guest, if that life of it is the open one.
    fn runs(&self, guest: GuestId, life: &Life) -> Result<&GuestRecord, String> {
        let r = self.guests.get(&guest);
        let r = r.ok_or_else(|| format!("{guest} does not exist"))?;
        let open = (life.epoch, Some(life.host), life.incarnation);
        if !r.open() || (r.epoch, r.host, r.incarnation) != open {
            return Err("the guest does not run there under that epoch".into());
        }
        Ok(r)
    }

    /// The host that runs a guest says which images its backups keep old blocks in.
    pub(crate) fn scratch(
        &mut self,
        guest: GuestId,
        life: &Life,
        scratch: &[ScratchImage],
    ) -> Result<(), String> {
        let images = self.with_scratch(guest, life, scratch)?;
        self.record(guest)?.images = images;
        Ok(())
    }

    /// The images of a record that has these of backups.
    ///
    /// # Errors
    /// Why it cannot have them.
    pub(crate) fn with_scratch(
        &self,
        guest: GuestId,
        life: &Life,
        scratch: &[ScratchImage],
    ) -> Result<Images, String> {
        if scratch.len() > SCRATCH_MAX || scratch.iter().any(|s| s.path.len() > PATH) {
            return Err(format!(
                "at most {SCRATCH_MAX} scratch images of a guest are remembered"
            ));
        }
        let r = self.runs(guest, life)?;
        if r.images.scratch == scratch {
            return Err("the record has these scratch images already".into());
        }
        let mut images = r.images.clone();
        images.scratch = scratch.to_vec();
        self.has_space_instead(guest, &r.spec, &images)?;
        Ok(images)
    }

    /// A host has read the top images that the record follows.
    pub(crate) fn reads(
        &mut self,
        guest: GuestId,
        followed: Token,
        host: NodeId,
    ) -> Result<(), String> {
        let r = self.record(guest)?;
        let of = r.images.followed == followed && followed != Token::NONE;
        let readers = r.images.readers.as_mut().filter(|_| of);
        if readers.is_some_and(|readers| readers.insert(host)) {
            return Ok(());
        }
        Err("nothing is to be read any more".into())
    }

    /// A person's word: the guest is as this description says. Holds for what its description or
    /// its images were not are answered by it.
    pub(crate) fn adopt(
        &mut self,
        at: Token,
        guest: GuestId,
        epoch: Token,
        xml: &str,
    ) -> Result<(), String> {
        let r = self.record(guest)?;
        if r.epoch != epoch {
            return Err("the guest has run under another epoch meanwhile: look again".into());
        }
        if !matches!(r.spec.definition, Definition::Domain { .. }) {
            return Err("the guest is no virtual machine".into());
        }
        let mut spec = r.spec.clone();
        spec.definition = Definition::Domain {
            xml: xml.to_owned(),
        };
        spec.check()?;
        // Whoever runs it writes their locks anew; nothing of them is to be read first.
        let images = Images {
            followed: at,
            ..Images::default()
        };
        self.redefine(guest, spec, images)?;
        let r = self.record(guest)?;
        let answered = [HoldKind::Drift, HoldKind::NewTop, HoldKind::Backing];
        r.holds.retain(|h| !answered.contains(&h.reason.kind()));
        Ok(())
    }
}

/// Images in words, for a hold.
#[must_use]
pub fn words(what: &[String]) -> Words {
    Words::new(&what.join("; "))
}
