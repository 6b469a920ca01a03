//! Images as this host finds them: a link, a second mount or another node of one device are other
//! names of one image.

use quorate_recovery::domain::{Domain, Source};
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::mpsc;
use std::time::Duration;

/// How long the storage may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a name leads to on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identity {
    /// A file: its file system's device and its inode.
    File(u64, u64),
    /// A block device, by its number.
    Device(u64),
}

/// What the images of some domains are on this host.
#[derive(Debug, Default)]
pub(super) struct Images(BTreeMap<String, Identity>);

impl Images {
    /// Looks at every image of these domains. One that is not there has no identity: it is known
    /// by its name alone.
    ///
    /// # Errors
    /// The storage does not answer, or refuses to say: which image, why.
    pub(super) fn of<'a>(domains: impl Iterator<Item = &'a Domain>) -> Result<Images, String> {
        let mut paths: Vec<String> = domains
            .flat_map(|d| &d.disks)
            .flat_map(|d| &d.sources)
            .filter_map(|source| match source {
                Source::Path(path) => Some(path.clone()),
                Source::Network { .. } => None,
            })
            .collect();
        paths.sort();
        paths.dedup();
        let (tell, told) = mpsc::channel();
        let looker = std::thread::Builder::new().name("images".into());
        let looking = looker.spawn(move || {
            let looked = paths.into_iter().map(|path| {
                let found = identity(&path).map_err(|e| format!("{path}: {e}"))?;
                Ok(found.map(|identity| (path, identity)))
            });
            let looked: Result<Vec<_>, String> = looked.collect();
            let _ = tell.send(looked);
        });
        looking.map_err(|e| format!("the images cannot be looked at: {e}"))?;
        match told.recv_timeout(PATIENCE) {
            Ok(looked) => Ok(Images(looked?.into_iter().flatten().collect())),
            Err(_) => Err(format!(
                "the images' storage did not answer within {} s",
                PATIENCE.as_secs()
            )),
        }
    }

    /// Whether two sources mean one image.
    pub(super) fn same(&self, one: &Source, other: &Source) -> bool {
        if one.same(other) {
            return true;
        }
        let known = |source: &Source| match source {
            Source::Path(path) => self.0.get(path),
            Source::Network { .. } => None,
        };
        matches!((known(one), known(other)), (Some(a), Some(b)) if a == b)
    }
}

fn identity(path: &str) -> std::io::Result<Option<Identity>> {
    match std::fs::metadata(path) {
        Ok(found) if found.file_type().is_block_device() => {
            Ok(Some(Identity::Device(found.rdev())))
        }
        Ok(found) => Ok(Some(Identity::File(found.dev(), found.ino()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(path: &str) -> Domain {
        let xml = format!(
            "<domain type='kvm'><name>a</name><uuid>5ee5ee5e-1111-2222-3333-444444444444</uuid>\
             <memory>65536</memory><devices><disk type='file'><driver cache='none'/>\
             <source file='{path}'/><target dev='vda'/></disk></devices></domain>"
        );
        Domain::read(&xml).expect("good")
    }

    #[test]
    fn a_link_leads_to_the_same_image() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(file("a"), b"x").expect("written");
        std::fs::write(file("c"), b"x").expect("written");
        std::os::unix::fs::symlink(file("a"), file("link")).expect("linked");
        std::fs::hard_link(file("a"), file("hard")).expect("linked");
        let names = ["a", "c", "link", "hard", "none"].map(file);
        let domains: Vec<Domain> = names.iter().map(|n| with(n)).collect();
        let images = Images::of(domains.iter()).expect("looked at");
        let same = |i: usize, j: usize| {
            images.same(
                &domains[i].disks[0].sources[0],
                &domains[j].disks[0].sources[0],
            )
        };
        assert!(same(0, 2) && same(0, 3) && same(2, 3) && same(4, 4));
        assert!(!same(0, 1) && !same(0, 4));
        let nodes = ["/dev/null", "/proc/self/nonexistent"].map(with);
        Images::of(nodes.iter()).expect("what is not there is no error");
    }
}
