//! The log as OmniPaxos sees it: in memory, never failing, every change noted for the store.

use super::{Command, Round};
use crate::codec;
use crate::entry::LogEntry;
use crate::store::{Image, Write};
use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::storage::{NoSnapshot, StopSign, Storage, StorageOp, StorageResult};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

/// What is accepted and decided, and what the store has not been told yet.
#[derive(Debug)]
pub(super) struct Mirror<C> {
    /// The newest promise; `None` before the first.
    promise: Option<Ballot>,
    /// The round of the newest entries; `None` before the first.
    accepted_round: Option<Ballot>,
    /// Entries decided.
    decided: u64,
    /// Entries trimmed from the front of `log`.
    trimmed: u64,
    /// What follows the trimmed entries.
    log: Vec<LogEntry<C>>,
    /// Encoded bytes of everything up to and with each entry of `log`, counted from any base.
    ends: VecDeque<u64>,
    /// The same up to the first entry of `log`.
    base: u64,
    /// Changes since the last [`Mirror::take_writes`], oldest first.
    writes: Vec<Write<C>>,
}

impl<C: Command> Mirror<C> {
    /// The mirror of what the store held. Consistency is the caller's to check.
    pub(super) fn new(image: &Image<C>) -> Self {
        let mut mirror = Mirror {
            promise: image.promise.map(|r| r.0),
            accepted_round: image.accepted_round.map(|r| r.0),
            // Trimmed entries were decided, whatever became of the note that said so.
            decided: image.decided.max(image.trimmed),
            trimmed: image.trimmed,
            log: image.log.clone(),
            ends: VecDeque::new(),
            base: 0,
            writes: Vec::new(),
        };
        mirror.measure();
        mirror
    }

    /// Measures the entries that were not measured yet.
    fn measure(&mut self) {
        let mut end = self.ends.back().copied().unwrap_or(self.base);
        for entry in &self.log[self.ends.len()..] {
            end += codec::length(entry);
            self.ends.push_back(end);
        }
    }

    /// Encoded bytes of the entries from index `from` on; of all that are here if it lies below.
    pub(super) fn bytes_from(&self, from: u64) -> u64 {
        let end = |entries: usize| match entries.checked_sub(1) {
            None => self.base,
            Some(last) => self.ends.get(last).copied().unwrap_or(self.base),
        };
        let skipped = usize::try_from(from.saturating_sub(self.trimmed)).unwrap_or(usize::MAX);
        end(self.log.len()) - end(skipped.min(self.log.len()))
    }

    /// The first index not trimmed.
    pub(super) fn first(&self) -> u64 {
        self.trimmed
    }

    /// The index behind the last entry.
    pub(super) fn length(&self) -> u64 {
        self.trimmed + self.log.len() as u64
    }

    /// The round of the newest entries.
    pub(super) fn accepted_round(&self) -> Ballot {
        self.accepted_round.unwrap_or_default()
    }

    /// The promised round.
    pub(super) fn promised(&self) -> Ballot {
        self.promise.unwrap_or_default()
    }

    /// Entries decided.
    pub(super) fn decided_here(&self) -> u64 {
        self.decided
    }

    /// Whether changes wait to be taken.
    pub(super) fn has_writes(&self) -> bool {
        !self.writes.is_empty()
    }

    /// The changes since the last call, oldest first.
    pub(super) fn take_writes(&mut self) -> Vec<Write<C>> {
        std::mem::take(&mut self.writes)
    }

    /// The entries `from..to`, or none if one of them is missing.
    pub(super) fn entries(&self, from: u64, to: u64) -> &[LogEntry<C>] {
        if from < self.trimmed || from > to || to > self.length() {
            return &[];
        }
        &self.log[(from - self.trimmed) as usize..(to - self.trimmed) as usize]
    }

    pub(super) fn append_from(&mut self, from: u64, entries: Vec<LogEntry<C>>) {
        let length = self.length();
        if from == length && entries.is_empty() {
            return;
        }
        assert!(
            self.trimmed <= from && from <= length,
            "entries from index {from} for a log of {}..{length}",
            self.trimmed
        );
        self.log.truncate((from - self.trimmed) as usize);
        self.ends.truncate(self.log.len());
        self.log.extend(entries.iter().cloned());
        self.measure();
        if let Some(Write::Append {
            from: f,
            entries: e,
        }) = self.writes.last_mut()
            && *f + e.len() as u64 == from
        {
            e.extend(entries);
        } else {
            self.writes.push(Write::Append { from, entries });
        }
    }

    /// Begins anew behind `at` entries, which are decided.
    pub(super) fn rebase(&mut self, at: u64) {
        self.log.clear();
        self.ends.clear();
        (self.trimmed, self.decided) = (at, at);
        self.writes.push(Write::Rebase(at));
    }

    fn trim_to(&mut self, to: u64) {
        assert!(
            to <= self.decided && to <= self.length(),
            "trim to index {to} of a log of {} with {} decided",
            self.length(),
            self.decided
        );
        if to > self.trimmed {
            let count = (to - self.trimmed) as usize;
            self.log.drain(..count);
            self.base = self.ends.drain(..count).next_back().unwrap_or(self.base);
            self.trimmed = to;
            self.writes.push(Write::Trim(to));
        }
    }

    pub(super) fn promise(&mut self, ballot: Ballot) {
        // The library writes back at start what it has read; that needs no disk.
        if self.promise.unwrap_or_default() != ballot {
            self.promise = Some(ballot);
            self.writes.push(Write::Promise(Round(ballot)));
        }
    }

    pub(super) fn accept_round(&mut self, ballot: Ballot) {
        if self.accepted_round.unwrap_or_default() != ballot {
            self.accepted_round = Some(ballot);
            self.writes.push(Write::AcceptedRound(Round(ballot)));
        }
    }

    fn decide(&mut self, index: u64) {
        if self.decided == index {
            return;
        }
        self.decided = index;
        if let Some(Write::Decided(last)) = self.writes.last_mut() {
            *last = index;
        } else {
            self.writes.push(Write::Decided(index));
        }
    }
}

/// The mirror, shared between the library, which owns its storage, and the replica around it.
/// Both live in one object and one thread, so the lock is never waited for.
#[derive(Debug)]
pub(super) struct Shared<C>(Arc<Mutex<Mirror<C>>>);

impl<C> Clone for Shared<C> {
    fn clone(&self) -> Self {
        Shared(Arc::clone(&self.0))
    }
}

impl<C: Command> Shared<C> {
    pub(super) fn new(mirror: Mirror<C>) -> Self {
        Shared(Arc::new(Mutex::new(mirror)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Mirror<C>> {
        // Poisoned means that a change of the log was left half done: this node is over.
        self.0.lock().expect("a change of the log panicked before")
    }
}

impl<C: Command> Storage<LogEntry<C>> for Shared<C> {
    fn write_atomically(&mut self, ops: Vec<StorageOp<LogEntry<C>>>) -> StorageResult<()> {
        let decided = self.lock().decided;
        for op in ops {
            if let StorageOp::AppendOnPrefix(from, _) = &op {
                // The guard lets nothing in that could come to this.
                assert!(
                    *from as u64 >= decided,
                    "entries from index {from} where {decided} are decided"
                );
            }
            match op {
                StorageOp::AppendEntry(entry) => self.append_entry(entry)?,
                StorageOp::AppendEntries(entries) => self.append_entries(entries)?,
                StorageOp::AppendOnPrefix(from, entries) => self.append_on_prefix(from, entries)?,
                StorageOp::SetPromise(ballot) => self.set_promise(ballot)?,
                StorageOp::SetDecidedIndex(index) => self.set_decided_idx(index)?,
                StorageOp::SetAcceptedRound(ballot) => self.set_accepted_round(ballot)?,
                StorageOp::SetCompactedIdx(index) => self.set_compacted_idx(index)?,
                StorageOp::Trim(index) => self.trim(index)?,
                StorageOp::SetStopsign(stop) => self.set_stopsign(stop)?,
                StorageOp::SetSnapshot(snapshot) => self.set_snapshot(snapshot)?,
            }
        }
        Ok(())
    }

    fn append_entry(&mut self, entry: LogEntry<C>) -> StorageResult<()> {
        self.append_entries(vec![entry])
    }

    fn append_entries(&mut self, entries: Vec<LogEntry<C>>) -> StorageResult<()> {
        let mut mirror = self.lock();
        let from = mirror.length();
        mirror.append_from(from, entries);
        Ok(())
    }

    fn append_on_prefix(&mut self, from: usize, entries: Vec<LogEntry<C>>) -> StorageResult<()> {
        self.lock().append_from(from as u64, entries);
        Ok(())
    }

    fn set_promise(&mut self, ballot: Ballot) -> StorageResult<()> {
        self.lock().promise(ballot);
        Ok(())
    }

    fn set_decided_idx(&mut self, index: usize) -> StorageResult<()> {
        self.lock().decide(index as u64);
        Ok(())
    }

    fn get_decided_idx(&self) -> StorageResult<usize> {
        Ok(self.lock().decided as usize)
    }

    fn set_accepted_round(&mut self, ballot: Ballot) -> StorageResult<()> {
        self.lock().accept_round(ballot);
        Ok(())
    }

    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.lock().accepted_round)
    }

    fn get_entries(&self, from: usize, to: usize) -> StorageResult<Vec<LogEntry<C>>> {
        Ok(self.lock().entries(from as u64, to as u64).to_vec())
    }

    fn get_log_len(&self) -> StorageResult<usize> {
        Ok(self.lock().log.len())
    }

    fn get_suffix(&self, from: usize) -> StorageResult<Vec<LogEntry<C>>> {
        let mirror = self.lock();
        Ok(mirror.entries(from as u64, mirror.length()).to_vec())
    }

    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.lock().promise)
    }

    fn set_stopsign(&mut self, stop: Option<StopSign>) -> StorageResult<()> {
        // Nothing proposes one and the guard lets none in.
        assert!(stop.is_none(), "stop-signs are not in use");
        Ok(())
    }

    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        Ok(None)
    }

    fn trim(&mut self, index: usize) -> StorageResult<()> {
        self.lock().trim_to(index as u64);
        Ok(())
    }

    fn set_compacted_idx(&mut self, index: usize) -> StorageResult<()> {
        // Always comes with the `Trim` that did it.
        assert!(
            self.lock().trimmed == index as u64,
            "compacted to index {index} without a trim"
        );
        Ok(())
    }

    fn get_compacted_idx(&self) -> StorageResult<usize> {
        Ok(self.lock().trimmed as usize)
    }

    fn set_snapshot(&mut self, _: Option<NoSnapshot>) -> StorageResult<()> {
        // The library's snapshots lose entries; ours never pass through here.
        panic!("snapshots of the library are not in use");
    }

    fn get_snapshot(&self) -> StorageResult<Option<NoSnapshot>> {
        Ok(None)
    }
}
