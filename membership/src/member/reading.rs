//! What a member can be asked without changing it.

use super::Member;
use crate::app::Application;
use crate::apply::{Admission, NotAdmitted};
use crate::attest::Word;
use crate::cluster::{Cluster, View};
use crate::consensus::Replica;
use crate::ears::Heard;
use crate::frame::Words;
use crate::id::{Incarnation, NodeId, Token};
use crate::mutants::planted;
use crate::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

impl<A: Application> Member<A> {
    /// This node.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// This life of it.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The membership as applied here.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.state.cluster
    }

    /// The application as applied here.
    #[must_use]
    pub fn app(&self) -> &A {
        &self.state.app
    }

    /// The view as applied here.
    #[must_use]
    pub fn view(&self) -> View {
        self.state.cluster.view()
    }

    /// When the host lease ends, as far as this node knows; `None` before the first.
    #[must_use]
    pub fn lease_end(&self) -> Option<Time> {
        self.lease.end()
    }

    /// Whether this node is admitted in this incarnation, as applied here.
    #[must_use]
    pub fn admitted(&self) -> bool {
        self.state.cluster.admitted(self.me, self.incarnation)
    }

    /// Reason for which this incarnation will never be admitted, as applied here; `None` if it is, or
    /// may still be.
    #[must_use]
    pub fn refused_for_good(&self) -> Option<String> {
        if self.admitted() {
            return None;
        }
        let (me, life) = (self.me, self.incarnation);
        let admission = self.state.admission(me, life, &self.profile, self.emptied);
        admission.err().filter(|e| e.lasting).map(|e| e.why)
    }

    /// Until when this node may give orders as coordinator, if it may now (S6).
    #[must_use]
    pub fn acting(&self, now: Time) -> Option<Time> {
        let leads = self.replica.as_ref().is_some_and(Replica::leads);
        if leads && planted("leader-is-coordinator") {
            return Some(now + self.cluster().timing.coordinator_lease);
        }
        self.office.acting(now)
    }

    /// The newest beat heard of `node`, and for how long nothing newer came.
    #[must_use]
    pub fn heard(&self, now: Time, node: NodeId) -> Option<(&Heard<A::Status>, Duration)> {
        self.ears
            .get(node)
            .map(|h| (h, self.ears.silent(now, node)))
    }

    /// What `node` says in its bulletin, and the incarnation that says it; some of it may come twice.
    pub fn told(&self, node: NodeId) -> (Incarnation, Vec<&<A::Status as Words>::Item>) {
        if node == self.me {
            return (self.incarnation, self.bulletin.items().collect());
        }
        match self.told.get(&node) {
            Some(told) => {
                let (incarnation, items) = told.items();
                (incarnation, items.collect())
            }
            None => (Incarnation::default(), Vec::new()),
        }
    }

    /// For how long nothing was heard of the admitted life of `node` while this node listened.
    #[must_use]
    pub fn silent(&self, now: Time, node: NodeId) -> Duration {
        let life = self.cluster().hosts.get(&node).map(|h| h.incarnation);
        life.map_or(self.ears.silent(now, node), |life| {
            now.since(self.ears.life_silent_since(node, life))
        })
    }

    /// Says whether the newest life heard of `node` may still be admitted: now, or once what it lacks
    /// has come. One that may be a copy is not.
    #[must_use]
    pub fn admissible(&self, node: NodeId) -> bool {
        let admission = self.asks_for(node);
        admission.is_some_and(|a| a.map_or_else(|e| !e.copy, |_| true))
    }

    /// Says whether the newest life heard of `node` would be admitted as it asks now.
    #[must_use]
    pub fn would_admit(&self, node: NodeId) -> bool {
        self.asks_for(node).is_some_and(|a| a.is_ok())
    }

    /// Judges the newest hello of `node`; `None` if it said none.
    fn asks_for(&self, node: NodeId) -> Option<Result<Admission, NotAdmitted>> {
        let heard = self.ears.get(node)?;
        let hello = heard.beat.hello.as_ref()?;
        let (life, profile) = (heard.incarnation, &hello.profile);
        Some(self.state.admission(node, life, profile, hello.emptied))
    }

    /// Whether another machine was heard lately that speaks as this node.
    #[must_use]
    pub fn copied(&self, now: Time) -> bool {
        let lease = self.cluster().timing.lease;
        self.copied.is_some_and(|at| now.since(at) < lease)
    }

    /// How many voters have durably stopped acknowledging under this revoke.
    #[must_use]
    pub fn answered(&self, host: NodeId, revoke: Token) -> usize {
        self.reports.answered(host, revoke)
    }

    /// How long until the lease of a revoked host is over for certain, as far as answers tell.
    #[must_use]
    pub fn lease_remaining(&self, now: Time, host: NodeId) -> Option<Duration> {
        let revoke = self.cluster().hosts.get(&host)?.open_revoke()?;
        self.reports.remaining(now, self.cluster(), host, revoke)
    }

    /// Whether a quorum of voters is heard: without one nothing can be decided here.
    #[must_use]
    pub fn quorate(&self, now: Time) -> bool {
        let window = self.cluster().timing.silence();
        let hears = |v: NodeId| v == self.me || self.ears.silent(now, v) < window;
        let n = self
            .cluster()
            .voters
            .iter()
            .filter(|(v, _)| hears(*v))
            .count();
        n >= self.cluster().quorum() && !self.ears_just_opened(now)
    }

    fn ears_just_opened(&self, now: Time) -> bool {
        self.ears.blind(now, self.cluster().timing.heartbeat)
            && self
                .cluster()
                .voters
                .iter()
                .all(|(v, _)| self.ears.get(*v).is_none())
    }

    /// Whether a session to `peer` is open.
    #[must_use]
    pub fn in_session(&self, peer: NodeId) -> bool {
        self.sessions.contains_key(&peer)
    }

    /// What this host says of who ends its guests at lease end.
    #[must_use]
    pub fn word(&self) -> Word {
        self.attest.word()
    }

    /// Why this node votes no more, if its store failed.
    #[must_use]
    pub fn voter_failure(&self) -> Option<&str> {
        self.voter_failed.as_deref()
    }

    /// Datagrams dropped, by reason.
    #[must_use]
    pub fn dropped(&self) -> &BTreeMap<&'static str, u64> {
        &self.dropped
    }
}
