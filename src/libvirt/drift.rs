//! What guests here are made of, told to the node, which compares it with the log; and images of
//! other hosts' guests, read so that this host may take them.

use super::backup;
use super::beside::{read, stamp};
use super::driver::{Libvirt, until};
use super::hold::own;
use super::qcow2::Head;
use super::stats;
use crate::clock::Clock;
use quorate_membership::Token;
use quorate_recovery::contract::Fact;
use quorate_recovery::domain::layout::Layout;
use quorate_recovery::domain::{Source, lies_under};
use quorate_recovery::guest::GuestId;
use quorate_recovery::images::{NewTop, ScratchImage, Stamp};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// How long all domains together may take to be described.
const LIMIT: Duration = Duration::from_secs(4);
/// How long the storage may take to answer.
const STORAGE: Duration = Duration::from_secs(4);
/// Questions to the storage that may hang before no more are asked.
const HANGING_MAX: usize = 4;

/// What the log says that this host should look at.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Guests that run here.
    pub here: Vec<Here>,
    /// Guests whose new images this host has not read, and since which entry they are these.
    pub unread: Vec<(GuestId, Token, Vec<NewTop>)>,
}

/// A guest that runs here, by the log.
#[derive(Clone, Debug)]
pub struct Here {
    /// The guest.
    pub guest: GuestId,
    /// Its epoch.
    pub epoch: Token,
    /// Its description.
    pub xml: String,
    /// Images of backups of it.
    pub scratch: Vec<ScratchImage>,
}

impl Libvirt {
    /// Looks at what guests here are made of, and reads images that are new to this host. What
    /// cannot be looked at is left out: nothing follows about it.
    #[must_use]
    pub fn drift(&self, wanted: Wanted, shared: &[String]) -> Vec<Fact> {
        let give_up = Clock.now() + LIMIT;
        let mut facts = Vec::new();
        for one in wanted.here {
            let Here {
                guest, epoch, xml, ..
            } = one;
            let Some((live, backup)) = self.layout((guest, epoch), until(give_up)) else {
                continue;
            };
            let scratch = backup.and_then(|files| scratch(files, one.scratch));
            let record = Layout::read(&xml).unwrap_or_default();
            let tops = [&record, &live].into_iter().flat_map(|l| l.disks.values());
            let paths: BTreeSet<String> = tops
                .filter_map(|plate| match &plate.top.as_ref()?.source {
                    Source::Path(path) => Some(path.clone()),
                    Source::Network { .. } => None,
                })
                .collect();
            let differs = !record.against(&live).is_empty();
            let stamps = if differs {
                asked(move || stamps(paths)).unwrap_or_default()
            } else {
                Vec::new()
            };
            facts.push(Fact::Machine {
                guest,
                epoch,
                layout: Box::new(live),
                stamps,
                scratch,
            });
        }
        for (guest, followed, tops) in wanted.unread {
            let shared = shared.to_vec();
            if asked(move || tops.iter().all(|top| reads(top, &shared))) == Some(true) {
                facts.push(Fact::ImagesRead { guest, followed });
            }
        }
        facts
    }

    /// What a guest that runs here is made of now, and the files that a backup of it writes to;
    /// `None` of those if libvirt does not tell.
    fn layout(&self, life: (GuestId, Token), limit: Duration) -> Option<Seen> {
        let inner = &self.inner;
        let known = inner.known(life.0, &|e| e == life.1).ok()?;
        let id = known.first()?.uuid;
        let cluster = inner.cluster.clone();
        let said = inner.sense.looks.call(limit, move |c| {
            let domain = own(c, &cluster, id, life)?;
            let xml = domain.xml_desc(0)?;
            let files = match stats::job(&domain) {
                Ok(Some(stats::BACKUP)) => stats::backup(&domain).ok().map(|b| backup::files(&b)),
                Ok(_) => Some(Vec::new()),
                Err(_) => None,
            };
            Ok((xml, files))
        });
        let (xml, files) = said.ok()?;
        Some((Layout::read(&xml)?, files))
    }
}

/// A description, and files of a backup.
type Seen = (Layout, Option<Vec<String>>);

/// The images of a backup under way and those that the record has and still lie there, in order;
/// `None` if the storage does not answer.
fn scratch(files: Vec<String>, recorded: Vec<ScratchImage>) -> Option<Vec<ScratchImage>> {
    if files.is_empty() && recorded.is_empty() {
        return Some(Vec::new());
    }
    asked(move || {
        let under_way = files.iter().filter_map(|path| backup::found(path));
        let still = |s: &ScratchImage| backup::found(&s.path).as_ref() == Some(s);
        let left = recorded.into_iter().filter(still);
        let all: BTreeSet<ScratchImage> = under_way.chain(left).collect();
        all.into_iter().collect()
    })
}

/// Asks the storage on a thread of its own, which may hang; `None` if it does.
fn asked<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    static HANGING: AtomicUsize = AtomicUsize::new(0);
    if HANGING.load(Ordering::SeqCst) >= HANGING_MAX {
        return None;
    }
    HANGING.fetch_add(1, Ordering::SeqCst);
    let (tell, told) = mpsc::channel();
    let thread = std::thread::Builder::new().name("images".into());
    let asking = thread.spawn(move || {
        let _ = tell.send(ask());
        HANGING.fetch_sub(1, Ordering::SeqCst);
    });
    if asking.is_err() {
        HANGING.fetch_sub(1, Ordering::SeqCst);
        return None;
    }
    told.recv_timeout(STORAGE).ok()
}

fn stamps(paths: BTreeSet<String>) -> Vec<(String, Stamp)> {
    let found = paths.into_iter().filter_map(|path| {
        let stamp = stamp(&std::fs::metadata(&path).ok()?);
        Some((path, stamp))
    });
    found.collect()
}

/// Whether this host reads a new image: it lies where the operator says that every host reaches it,
/// it is the same file, and it begins as it should.
fn reads(new: &NewTop, shared: &[String]) -> bool {
    let Source::Path(path) = &new.top.source else {
        return false;
    };
    if !shared.iter().any(|dir| lies_under(path, dir)) {
        return false;
    }
    let Ok(found) = std::fs::metadata(path) else {
        return false;
    };
    let whole = match read(Path::new(path)) {
        Ok(Head::Qcow2(_)) => true,
        Ok(Head::Other) => new.top.format != "qcow2",
        Ok(Head::Damaged(_)) | Err(_) => false,
    };
    whole && stamp(&found).inode == new.inode
}

#[cfg(test)]
mod tests {
    use super::super::qcow2::tests::image;
    use super::*;
    use quorate_recovery::domain::layout::Top;

    #[test]
    fn an_image_is_read_if_it_is_the_one_and_lies_where_all_reach_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.1");
        std::fs::write(&path, image("a.raw")).expect("written");
        let found = std::fs::metadata(&path).expect("there");
        let new = NewTop {
            disk: "vda".into(),
            top: Top {
                source: Source::Path(path.display().to_string()),
                device: false,
                format: "qcow2".into(),
            },
            inode: stamp(&found).inode,
        };
        let shared = [dir.path().display().to_string()];
        assert!(reads(&new, &shared));
        assert!(!reads(&new, &["/elsewhere".to_owned()]));
        let other = NewTop {
            inode: new.inode + 1,
            ..new.clone()
        };
        assert!(!reads(&other, &shared), "another file at that place");
        std::fs::write(&path, b"QFI\xfb").expect("written");
        assert!(!reads(&new, &shared), "damaged");
        std::fs::remove_file(&path).expect("removed");
        assert!(!reads(&new, &shared), "gone");
    }
}
