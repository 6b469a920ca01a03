//! The voter's side of host leases: acknowledging, promising to stop, answering with ages.

use crate::cluster::Cluster;
use crate::frame::Answer;
use crate::id::{Incarnation, NodeId, Token};
use crate::mutants::planted;
use crate::store::StopRecord;
use crate::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// What one voter must remember about the leases it helps to grant.
#[derive(Clone, Debug)]
pub(crate) struct Grantor {
    /// When this voter began to acknowledge in this incarnation and epoch. Whatever it did before,
    /// it no longer knows: every age counts from here at the earliest (C3).
    began: Time,
    /// Last acknowledgement of any incarnation of a host: a lease inherited across an Admit was
    /// never acknowledged under the new name.
    acknowledged: BTreeMap<NodeId, Time>,
    stops: Vec<Stop>,
}

#[derive(Clone, Copy, Debug)]
struct Stop {
    record: StopRecord,
    durability: Durability,
}

/// An answer may leave only when the promise behind it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    Unwritten,
    InBatch(u64),
    Durable,
}

impl Grantor {
    pub(crate) fn new(now: Time, stops: &[StopRecord]) -> Grantor {
        let kept: &[StopRecord] = if planted("stop-promise-forgotten") {
            &[]
        } else {
            stops
        };
        let stops = kept
            .iter()
            .map(|s| Stop {
                record: *s,
                durability: Durability::Durable,
            })
            .collect();
        Grantor {
            began: now,
            acknowledged: BTreeMap::new(),
            stops,
        }
    }

    /// Whether a beat may be acknowledged: only an admitted incarnation, under the timing it
    /// attests, that no promise forbids.
    pub(crate) fn may_acknowledge(
        &self,
        cluster: &Cluster,
        host: NodeId,
        incarnation: Incarnation,
        timing: Token,
    ) -> bool {
        (cluster.admitted(host, incarnation) || planted("unadmitted-acknowledged"))
            && timing == cluster.timing_token
            && !self.stops.iter().any(|s| {
                s.record.host == host
                    && incarnation.counter <= s.record.incarnation.counter
                    && !planted("promise-to-stop-not-kept")
            })
    }

    /// Others vouch for this incarnation from now on: up to now an earlier one may have acknowledged.
    pub(crate) fn vouched(&mut self, now: Time) {
        self.began = now;
    }

    /// Notes that a beat of `host` is being acknowledged.
    pub(crate) fn acknowledge(&mut self, now: Time, host: NodeId) {
        self.acknowledged.insert(host, now);
    }

    /// The host has a new incarnation. Its acknowledgements go on counting: a lease that was taken
    /// over lasts from one that the old incarnation was given.
    pub(crate) fn renamed(&mut self, host: NodeId) {
        if planted("age-per-incarnation") {
            self.acknowledged.remove(&host);
        }
    }

    /// Promises to acknowledge this incarnation no more, from this very moment.
    /// Gives whether the promise is new and must be written.
    pub(crate) fn stop(&mut self, record: StopRecord) -> bool {
        if self.stops.iter().any(|s| s.record == record) {
            return false;
        }
        self.stops.push(Stop {
            record,
            durability: Durability::Unwritten,
        });
        true
    }

    /// Drops promises whose token the applied state has voided; one not yet applied again after a
    /// restart is kept.
    pub(crate) fn sweep(&mut self, cluster: &Cluster, applied: Token) -> Vec<StopRecord> {
        let stands = |s: &StopRecord| {
            s.revoke > applied
                || cluster.hosts.get(&s.host).is_some_and(|h| {
                    h.incarnation.counter <= s.incarnation.counter
                        && h.revoke.map(|(token, _)| token) == Some(s.revoke)
                })
        };
        let void = self
            .stops
            .iter()
            .map(|s| s.record)
            .filter(|s| !stands(s))
            .collect();
        self.stops.retain(|s| stands(&s.record));
        void
    }

    /// Everything written so far is part of `batch`.
    pub(crate) fn batched(&mut self, batch: u64) {
        for s in &mut self.stops {
            if s.durability == Durability::Unwritten {
                s.durability = Durability::InBatch(batch);
            }
        }
    }

    /// Batches up to `batch` are durable; says whether a new answer became possible.
    pub(crate) fn persisted(&mut self, batch: u64) -> bool {
        let mut any = false;
        for s in &mut self.stops {
            if matches!(s.durability, Durability::InBatch(b) if b <= batch) {
                s.durability = Durability::Durable;
                any = true;
            }
        }
        any
    }

    /// This voter's answers to the standing revokes, with ages as of now.
    pub(crate) fn answers(&self, now: Time, cluster: &Cluster) -> Vec<Answer> {
        self.stops
            .iter()
            .filter(|s| s.durability == Durability::Durable)
            .filter(|s| {
                let open = cluster
                    .hosts
                    .get(&s.record.host)
                    .and_then(|h| h.open_revoke());
                open == Some(s.record.revoke)
            })
            .map(|s| Answer {
                host: s.record.host,
                revoke: s.record.revoke,
                age: self.age(now, s.record.host),
            })
            .collect()
    }

    /// now − max(last acknowledgement of any incarnation of the host, start of acknowledging).
    fn age(&self, now: Time, host: NodeId) -> Duration {
        let last = self.acknowledged.get(&host).copied();
        if planted("restarted-voter-says-never") {
            return last.map_or(Duration::from_secs(1 << 20), |l| now.since(l));
        }
        now.since(last.unwrap_or(Time::ZERO).max(self.began))
    }
}
