//! What can be wrong with a store.

use quorate_membership::{ClusterId, NodeId, StoreId};
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

/// Why a store cannot be made, opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no store. It is never made on the way: an empty store has forgotten its votes.
    #[error(
        "store {path}: does not exist; `quorate cluster init` or `quorate join` makes it, once"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// There is a store already.
    #[error("store {path}: exists already and is left as it is; a node is made only once")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error("store {path}: is in use by another process; is a quorate daemon running?")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It was copied, or its disk moved.
    #[error(
        "store {path}: this store was made on another machine: cloned? A copied store would vote twice; make this machine a node of its own with `quorate join`"
    )]
    OtherMachine {
        /// The file.
        path: PathBuf,
    },
    /// Another version wrote it.
    #[error("store {path}: format {found}; this build reads format {expected}", expected = super::FORMAT)]
    Version {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: String,
    },
    /// Something in it cannot be.
    #[error(
        "store {path}: table `{table}`, key `{key}`: {why}; the store is damaged and this node's vote is lost: make it a new node"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// The key, in words.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// The node belongs to another cluster.
    #[error("store {path}: belongs to cluster {earlier}, not to {cluster}")]
    OtherCluster {
        /// The file.
        path: PathBuf,
        /// The cluster it is pledged to or founded in.
        earlier: ClusterId,
        /// The cluster asked for.
        cluster: ClusterId,
    },
    /// The cluster has another first record.
    #[error("store {path}: cluster {cluster} has a first record that differs from the one offered")]
    OtherFounding {
        /// The file.
        path: PathBuf,
        /// The cluster.
        cluster: ClusterId,
    },
    /// The founding counts on another store of this node, one that is gone.
    #[error(
        "store {path}: the cluster was founded with store {named} of {node}; this is {this}: a node whose store is gone is a new node"
    )]
    OtherStore {
        /// The file.
        path: PathBuf,
        /// This node.
        node: NodeId,
        /// The store that the founding names.
        named: StoreId,
        /// This store.
        this: StoreId,
    },
    /// A write does not fit what is there.
    #[error("store {path}: a write does not fit: {why}")]
    Misfit {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Reading or writing failed.
    #[error("store {path}: {why}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// What the database says.
        why: String,
    },
    /// It failed before and is used no more.
    #[error("store {path}: is used no more since this happened: {why}")]
    Ended {
        /// The file.
        path: PathBuf,
        /// The first error.
        why: String,
    },
    /// The system refused.
    #[error("store {path}: cannot {action} it: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// Makes errors that name the store.
pub(super) struct Context<'a> {
    path: &'a Path,
}

impl<'a> Context<'a> {
    pub(super) fn new(path: &'a Path) -> Context<'a> {
        Context { path }
    }

    pub(super) fn open(&self, e: &redb::DatabaseError) -> StoreError {
        let path = self.path.to_owned();
        match e {
            redb::DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { path },
            other => StoreError::Failed {
                path,
                why: format!("cannot be opened: {other}"),
            },
        }
    }

    pub(super) fn failed(&self, e: &impl Display) -> StoreError {
        StoreError::Failed {
            path: self.path.to_owned(),
            why: e.to_string(),
        }
    }

    pub(super) fn misfit(&self, why: String) -> StoreError {
        StoreError::Misfit {
            path: self.path.to_owned(),
            why,
        }
    }

    pub(super) fn version(&self, found: String) -> StoreError {
        StoreError::Version {
            path: self.path.to_owned(),
            found,
        }
    }

    pub(super) fn damaged(
        &self,
        table: &'static str,
        key: impl Display,
        why: impl Display,
    ) -> StoreError {
        StoreError::Damaged {
            path: self.path.to_owned(),
            table,
            key: key.to_string(),
            why: why.to_string(),
        }
    }
}
