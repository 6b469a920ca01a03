//! Where the lock of an image stands.

use quorate_recovery::guest::GuestId;
use quorate_recovery::lock::LockedImage;
use ring::digest;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// What names a lock file.
const SUFFIX: &str = ".quorate-lock";

/// Where locks stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placing {
    /// One directory that every host reaches, for all locks. Without it each stands beside its
    /// image.
    pub dir: Option<PathBuf>,
}

impl Placing {
    /// The lock file of an image of `guest`; `None` for a device without a directory for locks.
    /// An image is what it is, not how it is spelt: links are followed.
    pub(super) fn of(&self, guest: GuestId, image: &LockedImage) -> Option<PathBuf> {
        let path = Path::new(&image.path);
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut name: OsString = real.file_name()?.to_owned();
        if image.shareable {
            name.push(format!(".{:016x}", guest.0));
        }
        if let Some(dir) = &self.dir {
            let sum = digest::digest(&digest::SHA256, real.as_os_str().as_bytes());
            let mut text = String::new();
            for byte in &sum.as_ref()[..8] {
                let _ = write!(text, "{byte:02x}");
            }
            let mut hashed = OsString::from(text);
            hashed.push("-");
            // Long names are cut: the number tells images apart.
            hashed.push(
                String::from_utf8_lossy(name.as_bytes())
                    .chars()
                    .take(60)
                    .collect::<String>(),
            );
            hashed.push(SUFFIX);
            return Some(dir.join(hashed));
        }
        let device = real.metadata().is_ok_and(|m| {
            let kind = m.file_type();
            kind.is_block_device() || kind.is_char_device()
        });
        if device {
            return None;
        }
        name.push(SUFFIX);
        Some(real.with_file_name(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(path: &Path, shareable: bool) -> LockedImage {
        LockedImage {
            path: path.display().to_string(),
            shareable,
        }
    }

    #[test]
    fn an_image_has_one_lock_however_it_is_spelt() {
        let dir = tempfile::tempdir().expect("a directory");
        let real = dir.path().canonicalize().expect("there").join("disk.raw");
        std::fs::write(&real, b"x").expect("written");
        let link = dir.path().join("other");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        let beside = Placing::default();
        let lock = beside
            .of(GuestId(1), &image(&real, false))
            .expect("a place");
        assert_eq!(lock, real.with_file_name("disk.raw.quorate-lock"));
        assert_eq!(
            beside.of(GuestId(2), &image(&link, false)),
            Some(lock.clone())
        );
        let dots = dir.path().join(".").join("disk.raw");
        assert_eq!(beside.of(GuestId(2), &image(&dots, false)), Some(lock));
        let one = beside.of(GuestId(1), &image(&real, true));
        let numbered = real.with_file_name("disk.raw.0000000000000001.quorate-lock");
        assert_eq!(one, Some(numbered), "one for each guest");
        assert_ne!(one, beside.of(GuestId(2), &image(&real, true)));
        let dir = Placing {
            dir: Some("/locks".into()),
        };
        let there = dir.of(GuestId(1), &image(&link, false)).expect("a place");
        assert_eq!(
            Some(there.clone()),
            dir.of(GuestId(1), &image(&real, false))
        );
        assert!(there.starts_with("/locks"), "{there:?}");
    }

    #[test]
    fn a_device_has_a_lock_in_a_directory_for_locks_only() {
        let null = image(Path::new("/dev/null"), false);
        assert_eq!(Placing::default().of(GuestId(1), &null), None);
        assert!(
            Placing {
                dir: Some("/locks".into())
            }
            .of(GuestId(1), &null)
            .is_some()
        );
    }
}
