//! Images: what a description names, and whether two names mean one image.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where an image lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Source {
    /// A file, a directory or a block device of the host, from the root and without `//` and `.`.
    Path(String),
    /// On the network.
    Network {
        /// As `rbd` or `nbd`.
        protocol: String,
        /// The image's name there.
        name: String,
        /// Every server that is named, with its port or socket, in order; none for the default.
        servers: Vec<String>,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Path(path) => f.write_str(path),
            Source::Network {
                protocol,
                name,
                servers,
            } => match servers.first() {
                Some(server) => write!(f, "{protocol}:{name} at {server}"),
                None => write!(f, "{protocol}:{name} at its default server"),
            },
        }
    }
}

impl Source {
    /// A path of the host as every spelling of it is written here.
    ///
    /// # Errors
    /// It does not begin at the root, or it climbs: what `..` means depends on the host's links.
    pub(super) fn path(text: &str) -> Result<Source, &'static str> {
        let names = names(text)?;
        Ok(Source::Path(format!("/{}", names.join("/"))))
    }

    /// Whether two sources mean one image, as far as their names tell. For protocols whose names
    /// belong to a whole installation the servers do not matter: those of one are listed in any
    /// order, by name or by address.
    #[must_use]
    pub fn same(&self, other: &Source) -> bool {
        match (self, other) {
            (Source::Path(mine), Source::Path(theirs)) => mine == theirs,
            (
                Source::Network {
                    protocol,
                    name,
                    servers,
                },
                Source::Network {
                    protocol: p,
                    name: n,
                    servers: s,
                },
            ) => {
                let wide = matches!(protocol.as_str(), "rbd" | "iscsi" | "gluster" | "sheepdog");
                let unnamed = servers.is_empty() || s.is_empty();
                protocol == p
                    && name.trim_matches('/') == n.trim_matches('/')
                    && (wide || unnamed || servers.iter().any(|one| s.contains(one)))
            }
            _ => false,
        }
    }
}

/// The names of an absolute path, empty ones and `.` left out.
fn names(path: &str) -> Result<Vec<&str>, &'static str> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err("is not written from the root");
    };
    let names = rest.split('/').filter(|n| !n.is_empty() && *n != ".");
    let names: Vec<&str> = names.collect();
    if names.contains(&"..") {
        return Err("climbs by \"..\", which means another place on each host");
    }
    Ok(names)
}

/// Whether a path lies in a directory or is it, by whole names. One that climbs lies nowhere.
#[must_use]
pub fn lies_under(path: &str, dir: &str) -> bool {
    match (names(path), names(dir)) {
        (Ok(path), Ok(dir)) => path.starts_with(&dir),
        _ => false,
    }
}
