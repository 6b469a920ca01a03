//! The tables of a store, and how writes become rows and rows become an image.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `format` | format, four bytes, little endian |
//! | `meta` | `identity`, `machine`, `incarnation`, `pledge`, `founding` | a record each |
//! | `log` | index, counted from 0 at the beginning of the epoch | the entry, a record |
//! | `paxos` | `promise`, `accepted`, `decided`, `trimmed`, `unvouched` | a record each |
//! | `snapshot` | `state` | entries contained, eight bytes, little endian; then the state |
//! | `stops` | host, revoke token | the promise, a record |
//! | `peers` | node | what that voter claimed and its newest life vouched for, a record |
//! | `guests` | guest | what the executor promised, a record |
//!
//! A record is a value framed by the codec: magic, version, kind, length, checksum, body.

use super::error::Context;
use super::{FORMAT, NodeIdentity, StoreError};
use quorate_membership::codec::{self, Kind};
use quorate_membership::consensus::Round;
use quorate_membership::entry::LogEntry;
use quorate_membership::store::{Image, StopRecord, Write};
use quorate_membership::vouch::Unvouched;
use quorate_membership::{ClusterId, Founding, Incarnation, NodeId};
use quorate_recovery::command::Command;
use quorate_recovery::contract::NodeWrite;
use quorate_recovery::executor::GuestPromise;
use quorate_recovery::guest::GuestId;
use redb::{
    Key, ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition, TableHandle, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Display;

const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
const LOG: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("log");
const PAXOS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("paxos");
const SNAPSHOT: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("snapshot");
const STOPS: TableDefinition<'static, (u32, u64), &[u8]> = TableDefinition::new("stops");
const PEERS: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("peers");
const GUESTS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("guests");

/// Which entries the log holds, so that a write that does not fit is refused before it is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Entries dropped from the front.
    trimmed: u64,
    /// Entries counted from the beginning of the epoch.
    length: u64,
}

/// The rows of `meta`.
pub(super) struct Meta {
    pub(super) identity: NodeIdentity,
    pub(super) machine: String,
    pub(super) incarnation: Incarnation,
    pub(super) pledge: Option<ClusterId>,
    pub(super) founding: Option<Founding>,
}

fn record<T: Serialize>(value: &T) -> Result<Vec<u8>, redb::StorageError> {
    codec::encode(Kind::Record, value).map_err(|e| redb::StorageError::ValueTooLarge(e.found))
}

/// Every table, empty, and the rows that are written once.
pub(super) fn create(
    txn: &WriteTransaction,
    context: &Context<'_>,
    machine: &str,
    identity: &NodeIdentity,
) -> Result<(), StoreError> {
    Tables::open(txn, context)?;
    let mut meta = txn.open_table(META).map_err(|e| context.failed(&e))?;
    for (key, value) in [
        ("format", FORMAT.to_le_bytes().to_vec()),
        (
            "identity",
            record(identity).map_err(|e| context.failed(&e))?,
        ),
        ("machine", record(&machine).map_err(|e| context.failed(&e))?),
        (
            "incarnation",
            record(&Incarnation::default()).map_err(|e| context.failed(&e))?,
        ),
    ] {
        let put = meta.insert(key, value.as_slice());
        put.map_err(|e| context.failed(&e))?;
    }
    Ok(())
}

fn put_meta<T: Serialize>(
    txn: &WriteTransaction,
    context: &Context<'_>,
    key: &str,
    value: &T,
) -> Result<(), StoreError> {
    let mut meta = txn.open_table(META).map_err(|e| context.failed(&e))?;
    let value = record(value).map_err(|e| context.failed(&e))?;
    let put = meta.insert(key, value.as_slice());
    put.map_err(|e| context.failed(&e))?;
    Ok(())
}

pub(super) fn put_incarnation(
    txn: &WriteTransaction,
    context: &Context<'_>,
    incarnation: Incarnation,
) -> Result<(), StoreError> {
    put_meta(txn, context, "incarnation", &incarnation)
}

pub(super) fn put_pledge(
    txn: &WriteTransaction,
    context: &Context<'_>,
    cluster: ClusterId,
) -> Result<(), StoreError> {
    put_meta(txn, context, "pledge", &cluster)
}

pub(super) fn put_founding(
    txn: &WriteTransaction,
    context: &Context<'_>,
    founding: &Founding,
) -> Result<(), StoreError> {
    put_meta(txn, context, "founding", founding)
}

/// The tables that batches change, open in one transaction.
pub(super) struct Tables<'t> {
    context: &'t Context<'t>,
    log: Table<'t, u64, &'static [u8]>,
    paxos: Table<'t, &'static str, &'static [u8]>,
    snapshot: Table<'t, &'static str, &'static [u8]>,
    stops: Table<'t, (u32, u64), &'static [u8]>,
    peers: Table<'t, u32, &'static [u8]>,
    guests: Table<'t, u64, &'static [u8]>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(
        txn: &'t WriteTransaction,
        context: &'t Context<'t>,
    ) -> Result<Tables<'t>, StoreError> {
        let failed = |e: redb::TableError| context.failed(&e);
        Ok(Tables {
            context,
            log: txn.open_table(LOG).map_err(failed)?,
            paxos: txn.open_table(PAXOS).map_err(failed)?,
            snapshot: txn.open_table(SNAPSHOT).map_err(failed)?,
            stops: txn.open_table(STOPS).map_err(failed)?,
            peers: txn.open_table(PEERS).map_err(failed)?,
            guests: txn.open_table(GUESTS).map_err(failed)?,
        })
    }

    /// Makes the rows say what `write` says.
    pub(super) fn apply(
        &mut self,
        write: &NodeWrite,
        bounds: &mut Bounds,
    ) -> Result<(), StoreError> {
        let done = match write {
            NodeWrite::Executor(write) => match &write.promise {
                Some(promise) => keep(&mut self.guests, write.guest.0, promise),
                None => remove(&mut self.guests, write.guest.0),
            },
            NodeWrite::Member(write) => match write {
                Write::Promise(round) => keep(&mut self.paxos, "promise", round),
                Write::AcceptedRound(round) => keep(&mut self.paxos, "accepted", round),
                Write::Decided(count) => keep(&mut self.paxos, "decided", count),
                Write::Append { from, entries } => return self.append(*from, entries, bounds),
                Write::Trim(to) => return self.trim(*to, bounds),
                Write::Snapshot { applied, bytes } => {
                    let value = [&applied.to_le_bytes(), bytes.as_slice()].concat();
                    put(&mut self.snapshot, "state", &value)
                }
                Write::Stop(stop) => keep(&mut self.stops, (stop.host.0, stop.revoke.0), stop),
                Write::Unstop { host, revoke } => remove(&mut self.stops, (host.0, revoke.0)),
                Write::Rebase(at) => return self.rebase(*at, bounds),
                Write::Peer { node, record: peer } => keep(&mut self.peers, node.0, peer),
                Write::Unvouched(alone) => keep(&mut self.paxos, "unvouched", alone),
            },
        };
        done.map_err(|e| self.context.failed(&e))
    }

    fn append(
        &mut self,
        from: u64,
        entries: &[LogEntry<Command>],
        bounds: &mut Bounds,
    ) -> Result<(), StoreError> {
        let Bounds { trimmed, length } = *bounds;
        if from < trimmed || from > length {
            return Err(self.context.misfit(format!(
                "entries from index {from} do not continue a log of {trimmed}..{length}"
            )));
        }
        let end = from + entries.len() as u64;
        let mut rows = || {
            for (index, entry) in (from..).zip(entries) {
                keep(&mut self.log, index, entry)?;
            }
            for index in end..length {
                remove(&mut self.log, index)?;
            }
            Ok::<(), redb::StorageError>(())
        };
        rows().map_err(|e| self.context.failed(&e))?;
        bounds.length = end;
        Ok(())
    }

    fn rebase(&mut self, at: u64, bounds: &mut Bounds) -> Result<(), StoreError> {
        let Bounds { trimmed, length } = *bounds;
        let mut rows = || {
            for index in trimmed..length {
                remove(&mut self.log, index)?;
            }
            keep(&mut self.paxos, "trimmed", &at)?;
            keep(&mut self.paxos, "decided", &at)
        };
        rows().map_err(|e| self.context.failed(&e))?;
        (bounds.trimmed, bounds.length) = (at, at);
        Ok(())
    }

    fn trim(&mut self, to: u64, bounds: &mut Bounds) -> Result<(), StoreError> {
        let Bounds { trimmed, length } = *bounds;
        if to > length {
            return Err(self
                .context
                .misfit(format!("trim to index {to} of a log of {length}")));
        }
        if to <= trimmed {
            return Ok(());
        }
        let mut rows = || {
            for index in trimmed..to {
                remove(&mut self.log, index)?;
            }
            keep(&mut self.paxos, "trimmed", &to)
        };
        rows().map_err(|e| self.context.failed(&e))?;
        bounds.trimmed = to;
        Ok(())
    }
}

fn keep<'k, K: Key + 'static, T: Serialize>(
    table: &mut Table<'_, K, &'static [u8]>,
    key: K::SelfType<'k>,
    value: &T,
) -> Result<(), redb::StorageError> {
    put(table, key, &record(value)?)
}

fn put<'k, K: Key + 'static>(
    table: &mut Table<'_, K, &'static [u8]>,
    key: K::SelfType<'k>,
    value: &[u8],
) -> Result<(), redb::StorageError> {
    table.insert(key, value)?;
    Ok(())
}

fn remove<'k, K: Key + 'static>(
    table: &mut Table<'_, K, &'static [u8]>,
    key: K::SelfType<'k>,
) -> Result<(), redb::StorageError> {
    table.remove(key)?;
    Ok(())
}

/// A table being read, with its name for errors.
struct Reader<'r, K: Key + 'static> {
    context: &'r Context<'r>,
    name: &'static str,
    table: ReadOnlyTable<K, &'static [u8]>,
}

impl<'r, K: Key + 'static> Reader<'r, K> {
    fn open(
        read: &ReadTransaction,
        context: &'r Context<'r>,
        definition: TableDefinition<'static, K, &'static [u8]>,
        name: &'static str,
    ) -> Result<Reader<'r, K>, StoreError> {
        debug_assert_eq!(definition.name(), name);
        let table = read
            .open_table(definition)
            .map_err(|e| context.damaged(name, "", e))?;
        Ok(Reader {
            context,
            name,
            table,
        })
    }

    fn damaged(&self, key: impl Display, why: impl Display) -> StoreError {
        self.context.damaged(self.name, key, why)
    }

    fn decode<T: DeserializeOwned>(
        &self,
        key: impl Display,
        bytes: &[u8],
    ) -> Result<T, StoreError> {
        codec::decode(Kind::Record, bytes).map_err(|e| self.damaged(key, e))
    }

    /// Every row in order, handed to `row`.
    fn each(
        &self,
        mut row: impl FnMut(K::SelfType<'_>, &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let rows = self.table.iter().map_err(|e| self.damaged("", e))?;
        for found in rows {
            let (key, value) = found.map_err(|e| self.damaged("", e))?;
            row(key.value(), value.value())?;
        }
        Ok(())
    }
}

impl Reader<'_, &'static str> {
    fn bytes(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.table.get(key).map_err(|e| self.damaged(key, e))?;
        Ok(value.map(|v| v.value().to_vec()))
    }

    fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let bytes = self.bytes(key)?;
        bytes.map(|b| self.decode(key, &b)).transpose()
    }

    fn need<T: DeserializeOwned>(&self, key: &str) -> Result<T, StoreError> {
        self.get(key)?
            .ok_or_else(|| self.damaged(key, "is missing"))
    }
}

pub(super) fn read_meta(read: &ReadTransaction, context: &Context<'_>) -> Result<Meta, StoreError> {
    let meta = Reader::open(read, context, META, "meta")?;
    let format = meta.bytes("format")?;
    let format = format.ok_or_else(|| meta.damaged("format", "is missing"))?;
    if format != FORMAT.to_le_bytes() {
        let number = <[u8; 4]>::try_from(format.as_slice()).map(u32::from_le_bytes);
        return Err(context.version(number.map_or("unknown".to_owned(), |n| n.to_string())));
    }
    Ok(Meta {
        identity: meta.need("identity")?,
        machine: meta.need("machine")?,
        incarnation: meta.need("incarnation")?,
        pledge: meta.get("pledge")?,
        founding: meta.get("founding")?,
    })
}

/// The bounds of the log, which must have no gap.
pub(super) fn read_bounds(
    read: &ReadTransaction,
    context: &Context<'_>,
) -> Result<Bounds, StoreError> {
    let paxos = Reader::open(read, context, PAXOS, "paxos")?;
    let trimmed = paxos.get("trimmed")?.unwrap_or(0);
    let log = Reader::open(read, context, LOG, "log")?;
    let rows = log.table.len().map_err(|e| log.damaged("", e))?;
    let mut next = trimmed;
    log.each(|index, _| {
        if index != next {
            return Err(log.damaged(
                index,
                format!("expected entry {next} here: the log of {rows} has a gap"),
            ));
        }
        next += 1;
        Ok(())
    })?;
    Ok(Bounds {
        trimmed,
        length: next,
    })
}

/// Fills `image` with the membership's rows.
pub(super) fn read_member(
    read: &ReadTransaction,
    context: &Context<'_>,
    image: &mut Image<Command>,
) -> Result<(), StoreError> {
    let paxos = Reader::open(read, context, PAXOS, "paxos")?;
    image.promise = paxos.get::<Round>("promise")?;
    image.accepted_round = paxos.get::<Round>("accepted")?;
    image.decided = paxos.get("decided")?.unwrap_or(0);
    image.trimmed = read_bounds(read, context)?.trimmed;

    let log = Reader::open(read, context, LOG, "log")?;
    log.each(|index, value| {
        image.log.push(log.decode(index, value)?);
        Ok(())
    })?;

    let snapshot = Reader::open(read, context, SNAPSHOT, "snapshot")?;
    if let Some(value) = snapshot.bytes("state")? {
        let Some((applied, bytes)) = value.split_first_chunk::<8>() else {
            return Err(snapshot.damaged("state", "is shorter than its index"));
        };
        image.snapshot = Some((u64::from_le_bytes(*applied), bytes.to_vec()));
    }

    let stops = Reader::open(read, context, STOPS, "stops")?;
    stops.each(|key, value| {
        let name = format!("{}, {}", key.0, key.1);
        let stop: StopRecord = stops.decode(&name, value)?;
        if (stop.host.0, stop.revoke.0) != key {
            return Err(stops.damaged(name, "holds the promise of another key"));
        }
        image.stops.push(stop);
        Ok(())
    })?;

    image.unvouched = paxos.get::<Option<Unvouched>>("unvouched")?.flatten();
    let peers = Reader::open(read, context, PEERS, "peers")?;
    peers.each(|node, value| {
        image.peers.insert(NodeId(node), peers.decode(node, value)?);
        Ok(())
    })
}

/// What the executor promised.
pub(super) fn read_promises(
    read: &ReadTransaction,
    context: &Context<'_>,
) -> Result<BTreeMap<GuestId, GuestPromise>, StoreError> {
    let guests = Reader::open(read, context, GUESTS, "guests")?;
    let mut promises = BTreeMap::new();
    guests.each(|guest, value| {
        promises.insert(GuestId(guest), guests.decode(guest, value)?);
        Ok(())
    })?;
    Ok(promises)
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
