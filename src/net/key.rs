//! The cluster key: 32 secret bytes that every node has in a file of its own.
//!
//! The file is text, so that it survives being copied by hand: a line `quorate-key-1`, then 64
//! hexadecimal digits. The number is the version of the file; another kind of key gets another.

use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const HEADER: &str = "quorate-key-1";
const LENGTH: usize = 32;
/// More than any key file holds; the rest of a wrong file is not read.
const FILE_LIMIT: u64 = 4096;

/// The secret all nodes of a cluster share. Never printed, not even by `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey([u8; LENGTH]);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no such file.
    #[error(
        "key file {path}: does not exist; make one with `quorate key generate`, or copy the cluster's"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file is there already; a key is never written over another.
    #[error("key file {path}: exists already and is left as it is")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner can use the file.
    #[error("key file {path}: mode {mode:04o} lets others use it; allowed is 0600 or less")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A directory, a device or the like.
    #[error("key file {path}: is not an ordinary file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The first line is not that of a key file.
    #[error("key file {path}: line 1 is not `{HEADER}`: not a key file of this version")]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The second line has another length.
    #[error("key file {path}: line 2 has {found} characters, expected {expected} hexadecimal digits", expected = 2 * LENGTH)]
    Length {
        /// The file.
        path: PathBuf,
        /// Characters found.
        found: usize,
    },
    /// The second line holds something else than digits.
    #[error("key file {path}: line 2, column {column}: not a hexadecimal digit")]
    Digit {
        /// The file.
        path: PathBuf,
        /// Where, counted from 1.
        column: usize,
    },
    /// Something follows the key.
    #[error("key file {path}: line {line} follows the key: expected nothing")]
    Rest {
        /// The file.
        path: PathBuf,
        /// Where, counted from 1.
        line: usize,
    },
    /// The system refused.
    #[error("key file {path}: cannot {action}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The system's random source failed.
    #[error("the system's random source gives no bytes")]
    Random,
}

impl ClusterKey {
    /// A key from bytes that are already secret and random.
    #[must_use]
    pub fn from_bytes(bytes: [u8; LENGTH]) -> ClusterKey {
        ClusterKey(bytes)
    }

    /// A new key from the system's random source.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate() -> Result<ClusterKey, KeyError> {
        let mut bytes = [0; LENGTH];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| KeyError::Random)?;
        Ok(ClusterKey(bytes))
    }

    /// Reads the key in `path`, which only its owner may be able to use.
    ///
    /// # Errors
    /// What is wrong with the file, where in it, and what is allowed.
    pub fn load(path: &Path) -> Result<ClusterKey, KeyError> {
        let io = |action| {
            move |source| KeyError::Io {
                path: path.to_owned(),
                action,
                source,
            }
        };
        let file = match File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(KeyError::Missing {
                    path: path.to_owned(),
                });
            }
            other => other.map_err(io("open it"))?,
        };
        // Of the opened file, not of the path: what was judged is what is read.
        let meta = file.metadata().map_err(io("read its permissions"))?;
        if !meta.is_file() {
            return Err(KeyError::NotAFile {
                path: path.to_owned(),
            });
        }
        if meta.mode() & 0o7177 != 0 {
            return Err(KeyError::Permissions {
                path: path.to_owned(),
                mode: meta.mode() & 0o7777,
            });
        }
        let mut bytes = Vec::new();
        file.take(FILE_LIMIT)
            .read_to_end(&mut bytes)
            .map_err(io("read it"))?;
        parse(path, &bytes)
    }

    /// Writes the key to a file that must not exist, readable by its owner alone and durable when
    /// this returns.
    ///
    /// # Errors
    /// [`KeyError::Exists`], or why the system refused; no half-written file stays behind.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyError> {
        let io = |action| {
            move |source| KeyError::Io {
                path: path.to_owned(),
                action,
                source,
            }
        };
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        let mut file = match opened {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(KeyError::Exists {
                    path: path.to_owned(),
                });
            }
            other => other.map_err(io("create it"))?,
        };
        let written = file
            .write_all(self.text().as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| crate::store::sync_parent(path));
        if let Err(source) = written {
            // Ours and useless; the first error is the one to tell.
            let _ = std::fs::remove_file(path);
            return Err(io("write it")(source));
        }
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for byte in self.0 {
            text.push_str(&format!("{byte:02x}"));
        }
        text.push('\n');
        text
    }

    /// The root of all keys made for one purpose.
    pub(crate) fn purpose(&self, purpose: &str) -> hkdf::Prk {
        hkdf::Salt::new(hkdf::HKDF_SHA256, purpose.as_bytes()).extract(&self.0)
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(secret)")
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<ClusterKey, KeyError> {
    let path = path.to_owned();
    let mut lines = bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end);
    if lines.next() != Some(HEADER.as_bytes()) {
        return Err(KeyError::NotAKey { path });
    }
    let digits = lines.next().unwrap_or_default();
    if digits.len() != 2 * LENGTH {
        let found = digits.len();
        return Err(KeyError::Length { path, found });
    }
    let mut key = [0; LENGTH];
    for (at, digit) in digits.iter().enumerate() {
        let Some(value) = char::from(*digit).to_digit(16) else {
            let column = at + 1;
            return Err(KeyError::Digit { path, column });
        };
        key[at / 2] = key[at / 2] << 4 | value as u8;
    }
    if let Some(at) = lines.position(|line| !line.is_empty()) {
        return Err(KeyError::Rest { path, line: at + 3 });
    }
    Ok(ClusterKey(key))
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
