//! What a node must find again after losing power: one redb file.
//!
//! A store is made once, by `quorate cluster init` or `quorate join`, and belongs to one node on
//! one machine. Every opening is a new life: the incarnation is counted up, durably, before
//! anything else. Batches are transactions, durable when [`Store::commit`] returns. The first
//! error of writing is the last thing a store does: nobody knows what a disk holds after a failed
//! sync, so nothing more is built on it.

mod committer;
mod error;
pub mod mark;
mod tables;

pub use committer::{Committed, Committer, Stalled};
pub use error::StoreError;

use crate::store::error::Context;
use quorate_membership::store::Image;
use quorate_membership::{ClusterId, Founding, Incarnation, NodeId, StoreId};
use quorate_recovery::command::Command;
use quorate_recovery::contract::NodeWrite;
use quorate_recovery::executor::GuestPromise;
use quorate_recovery::guest::GuestId;
use redb::backends::FileBackend;
use redb::{Builder, Database, Durability, ReadableDatabase, StorageBackend, WriteTransaction};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tables::{Bounds, Meta, Tables};

/// Version of the tables and their values.
pub const FORMAT: u32 = 1;
/// Memory for pages of the file, in bytes. The whole state is small and mostly written.
const CACHE: usize = 16 << 20;

/// Whose store it is. Written once, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// The node.
    pub node: NodeId,
    /// Its name for people.
    pub name: String,
    /// The store's own random name.
    pub store: StoreId,
}

/// Everything in a store.
#[derive(Clone, Debug)]
pub struct LoadedImage {
    /// Whose store it is.
    pub identity: NodeIdentity,
    /// This life; already counted up and durable.
    pub incarnation: Incarnation,
    /// The cluster this node has promised its vote to, if it has.
    pub pledge: Option<ClusterId>,
    /// The cluster's first record, once the node belongs to one.
    pub founding: Option<Founding>,
    /// The membership's part; there from the founding on.
    pub member: Option<Image<Command>>,
    /// What the executor promised about guests.
    pub promises: BTreeMap<GuestId, GuestPromise>,
}

/// The open store of this node. While it is open nobody else can open it.
#[derive(Debug)]
pub struct Store {
    db: Database,
    path: PathBuf,
    identity: NodeIdentity,
    incarnation: Incarnation,
    bounds: Bounds,
    failed: Option<String>,
    marker: Option<mark::Marker>,
}

impl Store {
    /// Makes the store of `node` on the machine named `machine` (its machine id). Only the founding
    /// of a cluster and the joining of one may do this: a node whose store is gone is a new node.
    /// A store is there whole or not at all, whatever happens meanwhile.
    ///
    /// # Errors
    /// There is a store at `path` already, or the system's reason.
    pub fn create(
        path: &Path,
        machine: &str,
        node: NodeId,
        name: &str,
    ) -> Result<NodeIdentity, StoreError> {
        if path.symlink_metadata().is_ok() {
            return Err(StoreError::Exists {
                path: path.to_owned(),
            });
        }
        let identity = NodeIdentity {
            node,
            name: name.to_owned(),
            store: StoreId(u128::from_le_bytes(random(path)?)),
        };
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}.new", identity.store));
        let draft = PathBuf::from(draft);
        let made = create_at(&draft, path, machine, &identity);
        let _ = std::fs::remove_file(&draft);
        made?;
        sync_parent(path).map_err(|source| StoreError::Io {
            path: path.to_owned(),
            action: "make durable the directory of",
            source,
        })?;
        Ok(identity)
    }

    /// Opens the store at `path` for a new life of its node.
    ///
    /// # Errors
    /// There is none, another process has it, it was made on another machine or by another
    /// version, it is damaged, or the disk failed.
    pub fn open(path: &Path, machine: &str) -> Result<Store, StoreError> {
        Store::open_if(path, machine, |_, _| Ok(()))
    }

    /// As [`Store::open`], if `fit` finds that this is the right store for what is to be done:
    /// it sees whose store it is and the cluster it belongs to, before a new life begins.
    ///
    /// # Errors
    /// As [`Store::open`], and what `fit` says; the store is then as it was.
    pub fn open_if<E: From<StoreError>>(
        path: &Path,
        machine: &str,
        fit: impl FnOnce(&NodeIdentity, Option<ClusterId>) -> Result<(), E>,
    ) -> Result<Store, E> {
        Store::open_above(path, machine, 0, fit)
    }

    /// As [`Store::open_if`], for a life whose counter is above `above` at least: one that was used
    /// before this store was set back is not used again.
    ///
    /// # Errors
    /// As [`Store::open_if`].
    pub fn open_above<E: From<StoreError>>(
        path: &Path,
        machine: &str,
        above: u64,
        fit: impl FnOnce(&NodeIdentity, Option<ClusterId>) -> Result<(), E>,
    ) -> Result<Store, E> {
        let (db, mut meta, bounds) = look(file_backend(path)?, path, machine)?;
        fit(&meta.identity, meta.founding.as_ref().map(|f| f.cluster))?;
        meta.incarnation.counter = meta.incarnation.counter.max(above);
        Ok(Store::begin(db, meta, bounds, path)?)
    }

    /// Opens the store in `backend`; `path` is its name in errors.
    #[cfg(test)]
    fn open_on(
        backend: impl StorageBackend,
        path: &Path,
        machine: &str,
    ) -> Result<Store, StoreError> {
        let (db, meta, bounds) = look(backend, path, machine)?;
        Store::begin(db, meta, bounds, path)
    }

    /// A new life of the store's node.
    fn begin(db: Database, meta: Meta, bounds: Bounds, path: &Path) -> Result<Store, StoreError> {
        let context = Context::new(path);
        let counter = meta.incarnation.counter.checked_add(1);
        let incarnation = Incarnation {
            counter: counter.ok_or_else(|| context.damaged("meta", "incarnation", "is used up"))?,
            random: u64::from_le_bytes(random(path)?),
        };
        let mut store = Store {
            db,
            path: path.to_owned(),
            identity: meta.identity,
            incarnation,
            bounds,
            failed: None,
            marker: None,
        };
        // In a transaction of its own, before anyone can act in this life.
        store.write(|txn, context| tables::put_incarnation(txn, context, incarnation))?;
        Ok(store)
    }

    /// Whose store it is.
    #[must_use]
    pub fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// This life; already counted up and durable.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Everything in the store.
    ///
    /// # Errors
    /// A value that cannot be, with its table and key.
    pub fn load(&self) -> Result<LoadedImage, StoreError> {
        self.check()?;
        let context = Context::new(&self.path);
        let read = self.db.begin_read().map_err(|e| context.failed(&e))?;
        let meta = tables::read_meta(&read, &context)?;
        let member = match &meta.founding {
            Some(founding) => {
                let mut image = Image::new(
                    self.identity.node,
                    self.identity.store,
                    self.incarnation,
                    founding.clone(),
                );
                tables::read_member(&read, &context, &mut image)?;
                Some(image)
            }
            None => None,
        };
        Ok(LoadedImage {
            identity: self.identity.clone(),
            incarnation: self.incarnation,
            pledge: meta.pledge,
            founding: meta.founding,
            member,
            promises: tables::read_promises(&read, &context)?,
        })
    }

    /// Promises this node's vote to `cluster`, for good; the same promise again is no change.
    ///
    /// # Errors
    /// It is promised to another cluster, or the disk failed.
    pub fn set_pledge(&mut self, cluster: ClusterId) -> Result<(), StoreError> {
        let image = self.load()?;
        let earlier = image.founding.map(|f| f.cluster).or(image.pledge);
        self.same_cluster(earlier, cluster)?;
        if image.pledge == Some(cluster) {
            return Ok(());
        }
        self.write(|txn, context| tables::put_pledge(txn, context, cluster))
    }

    /// Records the first record of the node's cluster, for good; the same again is no change.
    ///
    /// # Errors
    /// The node belongs or is pledged to another cluster, the record differs from the one there
    /// or names another store for this node, or the disk failed.
    pub fn set_founding(&mut self, founding: &Founding) -> Result<(), StoreError> {
        let image = self.load()?;
        self.same_cluster(image.pledge, founding.cluster)?;
        if let Some(earlier) = image.founding {
            self.same_cluster(Some(earlier.cluster), founding.cluster)?;
            if earlier != *founding {
                return Err(StoreError::OtherFounding {
                    path: self.path.clone(),
                    cluster: founding.cluster,
                });
            }
            return Ok(());
        }
        let me = &self.identity;
        let other = |(node, store): &&(NodeId, StoreId)| *node == me.node && *store != me.store;
        if let Some((node, store)) = founding.voters.iter().find(other) {
            return Err(StoreError::OtherStore {
                path: self.path.clone(),
                node: *node,
                named: *store,
                this: me.store,
            });
        }
        self.write(|txn, context| tables::put_founding(txn, context, founding))
    }

    fn same_cluster(
        &self,
        earlier: Option<ClusterId>,
        cluster: ClusterId,
    ) -> Result<(), StoreError> {
        match earlier {
            Some(earlier) if earlier != cluster => Err(StoreError::OtherCluster {
                path: self.path.clone(),
                earlier,
                cluster,
            }),
            _ => Ok(()),
        }
    }

    /// Makes a batch durable, all of it or nothing.
    ///
    /// # Errors
    /// The disk failed or a write does not fit what is there; the store refuses everything from
    /// then on, and whether this batch is there is only known after opening it anew.
    pub fn commit(&mut self, batch: &[NodeWrite]) -> Result<(), StoreError> {
        self.commit_all(batch.iter())
    }

    /// Makes the writes of several batches durable in one transaction.
    fn commit_all<'a>(
        &mut self,
        writes: impl Iterator<Item = &'a NodeWrite> + Clone,
    ) -> Result<(), StoreError> {
        let mut bounds = self.bounds;
        self.write(|txn, context| {
            let mut tables = Tables::open(txn, context)?;
            for write in writes.clone() {
                tables.apply(write, &mut bounds)?;
            }
            Ok(())
        })?;
        self.bounds = bounds;
        if let Some(marker) = &self.marker
            && let Err(source) = marker.note(writes)
        {
            // A mark that names too little would vouch for a store that was set back.
            self.failed = Some(source.to_string());
            return Err(StoreError::Io {
                path: self.path.clone(),
                action: "mark in the run directory",
                source,
            });
        }
        Ok(())
    }

    /// From now on every batch that became durable is marked outside the store as well.
    pub fn marked_by(&mut self, marker: mark::Marker) {
        self.marker = Some(marker);
    }

    /// Runs one durable transaction; any error is final.
    fn write(
        &mut self,
        change: impl FnOnce(&WriteTransaction, &Context<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.check()?;
        let path = self.path.clone();
        let context = Context::new(&path);
        let done = transaction(&self.db, &context, change);
        if let Err(e) = &done {
            self.failed = Some(e.to_string());
        }
        done
    }

    fn check(&self) -> Result<(), StoreError> {
        match &self.failed {
            Some(why) => Err(StoreError::Ended {
                path: self.path.clone(),
                why: why.clone(),
            }),
            None => Ok(()),
        }
    }
}

fn transaction(
    db: &Database,
    context: &Context<'_>,
    change: impl FnOnce(&WriteTransaction, &Context<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut txn = db.begin_write().map_err(|e| context.failed(&e))?;
    txn.set_durability(Durability::Immediate)
        .map_err(|e| context.failed(&e))?;
    change(&txn, context)?;
    txn.commit().map_err(|e| context.failed(&e))
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .set_cache_size(CACHE)
        // Every page is checked against its checksum before anything is believed.
        .set_check_integrity_on_open(true);
    builder
}

/// Makes the store at `draft`, then gives it its name in one step that replaces nothing.
fn create_at(
    draft: &Path,
    path: &Path,
    machine: &str,
    identity: &NodeIdentity,
) -> Result<(), StoreError> {
    let io = |action| {
        move |source| StoreError::Io {
            path: path.to_owned(),
            action,
            source,
        }
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(draft)
        .map_err(io("create"))?;
    let backend = FileBackend::new(file).map_err(|e| Context::new(path).open(&e))?;
    create_on(backend, path, machine, identity)?;
    File::open(draft)
        .and_then(|file| file.sync_all())
        .map_err(io("make durable"))?;
    std::fs::hard_link(draft, path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => StoreError::Exists {
            path: path.to_owned(),
        },
        _ => io("name")(source),
    })
}

/// Fills an empty `backend` with the store of `identity`.
fn create_on(
    backend: impl StorageBackend,
    path: &Path,
    machine: &str,
    identity: &NodeIdentity,
) -> Result<(), StoreError> {
    let context = Context::new(path);
    let db = builder()
        .create_with_backend(backend)
        .map_err(|e| context.open(&e))?;
    transaction(&db, &context, |txn, context| {
        tables::create(txn, context, machine, identity)
    })
}

/// The file of a store that is there.
fn file_backend(path: &Path) -> Result<FileBackend, StoreError> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => StoreError::Missing {
            path: path.to_owned(),
        },
        _ => StoreError::Io {
            path: path.to_owned(),
            action: "open",
            source,
        },
    })?;
    let context = Context::new(path);
    let length = file.metadata().map(|meta| meta.len());
    if length.is_ok_and(|length| length == 0) {
        // Opening would make a new store of it.
        return Err(context.damaged("file", "", "is empty"));
    }
    FileBackend::new(file).map_err(|e| context.open(&e))
}

/// Opens the tables and reads whose they are; nothing is written.
fn look(
    backend: impl StorageBackend,
    path: &Path,
    machine: &str,
) -> Result<(Database, Meta, Bounds), StoreError> {
    let context = Context::new(path);
    let db = builder()
        .create_with_backend(backend)
        .map_err(|e| context.open(&e))?;
    let read = db.begin_read().map_err(|e| context.failed(&e))?;
    let meta = tables::read_meta(&read, &context)?;
    if meta.machine != machine {
        return Err(StoreError::OtherMachine {
            path: path.to_owned(),
        });
    }
    let bounds = tables::read_bounds(&read, &context)?;
    Ok((db, meta, bounds))
}

fn random<const N: usize>(path: &Path) -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| StoreError::Io {
            path: path.to_owned(),
            action: "draw random bytes for",
            source: io::Error::other("the system's random source gives no bytes"),
        })?;
    Ok(bytes)
}

/// Makes the directory entry of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod sample;
