//! What lies beside an image that is to be started: another image above it, which somebody went on
//! with, or one below it that was written to later. Either would make the start one from a stale
//! image.

use super::backup::made;
use super::qcow2::{HEAD, Head, head};
use quorate_recovery::domain::{DiskKind, Domain, Source};
use quorate_recovery::images::{Harmless, LeftImage, ScratchImage, Stamp};
use std::cmp::Ordering;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// More files in one folder are not looked at; a folder of images has fewer.
const FILES_MAX: usize = 10_000;
/// An image below another is newer if it was written to so much later, in nanoseconds: what is
/// written down when a snapshot begins is no use of it.
const NEWER_NS: i64 = 500_000_000;

/// Why a start must not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// The images do not fit together: a person must look.
    Stale(String),
    /// They cannot be looked at now.
    Unread(String),
}

/// Looks at the headers beside every image that the guest is to write to, but at those that hold no
/// start up.
pub(super) fn check(domain: &Domain, harmless: &Harmless) -> Result<(), Beside> {
    let written = domain
        .disks
        .iter()
        .filter(|d| d.writable && d.kind == DiskKind::Fixed);
    for disk in written {
        if let Some(Source::Path(path)) = disk.sources.first() {
            one(Path::new(path), harmless)?;
        }
    }
    Ok(())
}

fn one(top: &Path, harmless: &Harmless) -> Result<(), Beside> {
    let unread = |path: &Path, e: &io::Error| Beside::Unread(format!("{}: {e}", path.display()));
    let found = match fs::metadata(top) {
        Ok(found) => found,
        // libvirt says it better.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(unread(top, &e)),
    };
    if !found.is_file() {
        // A device has no folder of its own; the README names the window.
        return Ok(());
    }
    // Links lead to where the image lies.
    let place = fs::canonicalize(top).map_err(|e| unread(top, &e))?;
    let Some(dir) = place.parent() else {
        return Ok(());
    };
    below(&place, &found)?;
    for entry in fs::read_dir(dir)
        .map_err(|e| unread(dir, &e))?
        .take(FILES_MAX)
    {
        let path = entry.map_err(|e| unread(dir, &e))?.path();
        let Ok(other) = fs::metadata(&path) else {
            // Gone meanwhile, or a link to nowhere.
            continue;
        };
        if !other.is_file() || (other.dev(), other.ino()) == (found.dev(), found.ino()) {
            continue;
        }
        match read(&path) {
            Ok(Head::Qcow2(Some(name))) if leads(dir, &name, &place, &found) => {
                if !is_harmless(harmless, &path, &other) {
                    return Err(Beside::Stale(above(&path, &other, top, &found)));
                }
            }
            // What is no image of this format, or a damaged one, nobody went on with.
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                tracing::warn!("{}: its header cannot be read: {e}", path.display());
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(unread(&path, &e)),
        }
    }
    Ok(())
}

/// Whether the log has an image of this folder as one that holds nothing up. By its own name in the
/// folder: a path may lead there by links.
fn is_harmless(harmless: &Harmless, path: &Path, found: &Metadata) -> bool {
    let alike = |other: &str| Path::new(other).file_name() == path.file_name();
    let stamp = stamp(found);
    let as_left = |l: &LeftImage| l.stamp == stamp && alike(&l.path);
    let kept = (found.ino(), made(found));
    let scratch = |s: &ScratchImage| (s.inode, s.made_ns) == kept && alike(&s.path);
    harmless.left.iter().any(as_left) || harmless.scratch.iter().any(scratch)
}

/// Words for an image that stands on the one to be started. Nothing in it says why it was made.
fn above(path: &Path, other: &Metadata, top: &Path, found: &Metadata) -> String {
    let (path, top) = (path.display(), top.display());
    let order = match written(other).cmp(&written(found)) {
        Ordering::Greater => "was written to after",
        Ordering::Less => "was written to before",
        Ordering::Equal => "was last written to at the same time as",
    };
    format!(
        "{path} is backed by {top} and {order} it: if somebody went on with it, what was written since is \
         there; if it is a linked copy, or the image of a backup that its host did not live to tell of, \
         it holds nothing new and is to be removed or moved away"
    )
}

/// Refuses an image whose image below was written to later.
fn below(top: &Path, found: &Metadata) -> Result<(), Beside> {
    let dir = top.parent().unwrap_or(Path::new("/"));
    let name = match read(top) {
        Ok(Head::Qcow2(Some(name))) => name,
        Ok(_) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(e) => return Err(Beside::Unread(format!("{}: {e}", top.display()))),
    };
    let Some(path) = resolved(dir, &name) else {
        return Ok(());
    };
    let Ok(under) = fs::metadata(&path) else {
        return Ok(());
    };
    if under.is_file() && written(&under) > written(found).saturating_add(NEWER_NS) {
        return Err(Beside::Stale(format!(
            "{} was written to after {}, which is above it: somebody went on below, or merged the \
             one into the other",
            path.display(),
            top.display()
        )));
    }
    Ok(())
}

/// The first bytes of an image, read anew: opening it again asks a network storage for what
/// others wrote.
pub(super) fn read(path: &Path) -> io::Result<Head> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(HEAD as u64)
        .read_to_end(&mut bytes)?;
    Ok(head(&bytes))
}

/// Whether a name that stands in an image of that folder leads to the image that is to be started.
fn leads(dir: &Path, name: &str, top: &Path, found: &Metadata) -> bool {
    let Some(path) = resolved(dir, name) else {
        // Written as a whole description of a source: it is taken for ours if it has its name.
        let file = top.file_name().and_then(|n| n.to_str());
        return file.is_some_and(|file| name.contains(file));
    };
    match fs::metadata(&path) {
        Ok(other) => (other.dev(), other.ino()) == (found.dev(), found.ino()),
        Err(_) => path == top,
    }
}

/// Where a name in an image's header leads; `None` if it is no path.
fn resolved(dir: &Path, name: &str) -> Option<PathBuf> {
    if name.starts_with("json:") {
        return None;
    }
    let name = name.strip_prefix("file:").unwrap_or(name);
    Some(dir.join(name))
}

fn written(found: &Metadata) -> i64 {
    found
        .mtime()
        .saturating_mul(1_000_000_000)
        .saturating_add(found.mtime_nsec())
}

/// What tells an image from another, and from itself after a write.
pub(super) fn stamp(found: &Metadata) -> Stamp {
    let inode = if found.is_file() { found.ino() } else { 0 };
    Stamp {
        inode,
        written_ns: written(found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::backup;
    use super::super::qcow2::tests::image;
    use super::*;
    use std::time::{Duration, SystemTime};

    fn domain(path: &Path) -> Domain {
        let xml = format!(
            "<domain type='kvm'><name>a</name><uuid>5ee5ee5e-1111-2222-3333-444444444444</uuid>\
             <memory>65536</memory><devices><disk type='file'><driver cache='none'/>\
             <source file='{}'/><target dev='vda'/></disk></devices></domain>",
            path.display()
        );
        Domain::read(&xml).expect("good")
    }

    fn stale(path: &Path, harmless: &Harmless) -> Option<String> {
        match check(&domain(path), harmless) {
            Ok(()) => None,
            Err(Beside::Stale(why)) => Some(why),
            Err(Beside::Unread(why)) => panic!("{why}"),
        }
    }

    #[test]
    fn an_image_above_the_one_to_be_started_holds_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a.raw"), b"data").expect("written");
        fs::write(at("other.qcow2"), image("b.raw")).expect("written");
        fs::write(at("note.txt"), b"QFI").expect("written");
        fs::create_dir(at("folder")).expect("made");
        assert_eq!(stale(&at("a.raw"), &Harmless::default()), None);
        let full = at("a.raw").display().to_string();
        for below in [
            "a.raw",
            "./a.raw",
            &full,
            &format!("file:{full}"),
            "json:{\"file\":\"a.raw\"}",
        ] {
            fs::write(at("above"), image(below)).expect("written");
            let why = stale(&at("a.raw"), &Harmless::default());
            assert!(why.is_some_and(|w| w.contains("is backed by")), "{below}");
        }
        // As the log says it was left, it is no use of the other; after a write it is.
        let path = fs::canonicalize(at("above")).expect("there");
        let known = Harmless {
            left: vec![LeftImage {
                path: path.display().to_string(),
                stamp: stamp(&fs::metadata(&path).expect("there")),
            }],
            ..Harmless::default()
        };
        assert_eq!(stale(&at("a.raw"), &known), None);
        let later = SystemTime::now() + Duration::from_secs(9);
        let file = File::options().append(true).open(&path).expect("opened");
        file.set_modified(later).expect("set");
        assert!(stale(&at("a.raw"), &known).is_some());
        // What a backup keeps old blocks in is written to for as long as it lasts.
        let backup = Harmless {
            scratch: backup::found(&path.display().to_string())
                .into_iter()
                .collect(),
            ..Harmless::default()
        };
        assert_eq!(stale(&at("a.raw"), &backup), None);
        file.set_modified(later + Duration::from_secs(9))
            .expect("set");
        assert_eq!(stale(&at("a.raw"), &backup), None);
        let mut other = backup;
        other.scratch[0].made_ns += 1;
        assert!(
            stale(&at("a.raw"), &other).is_some(),
            "made at another time"
        );
        std::os::unix::fs::symlink(at("a.raw"), at("link")).expect("linked");
        assert!(
            stale(&at("link"), &Harmless::default()).is_some(),
            "a link leads to it"
        );
        assert_eq!(
            stale(&at("none"), &Harmless::default()),
            None,
            "libvirt says that better"
        );
    }

    #[test]
    fn an_image_below_that_was_written_to_later_holds_the_one_above() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        let set = |name: &str, age: u64| {
            let file = File::options().append(true).open(at(name)).expect("opened");
            let time = SystemTime::now() - Duration::from_secs(age);
            file.set_modified(time).expect("set");
        };
        fs::write(at("base"), b"data").expect("written");
        fs::write(at("top"), image("base")).expect("written");
        set("base", 60);
        set("top", 30);
        assert_eq!(stale(&at("top"), &Harmless::default()), None);
        set("base", 10);
        let why = stale(&at("top"), &Harmless::default()).expect("stale");
        assert!(why.contains("written to after"), "{why}");
    }
}
