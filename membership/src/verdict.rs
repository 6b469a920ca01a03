//! From suspicion to verdict, and from the answers to the proof by lease.

use crate::cluster::{Cluster, HostState};
use crate::ears::Ears;
use crate::entry::{Away, Ground};
use crate::frame::{Answer, Observation};
use crate::id::{Incarnation, NodeId, Token};
use crate::mutants::planted;
use crate::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// What the voters report, as one (possible) coordinator collects it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reports {
    /// Of each voter the newest observation about each range of hosts.
    reports: BTreeMap<NodeId, Vec<(Time, Observation)>>,
    answers: BTreeMap<(NodeId, Token), BTreeMap<NodeId, (Time, Duration)>>,
    certain_since: Option<Time>,
    /// Since when a host that is heard has said that nothing renews it.
    deaf_since: BTreeMap<NodeId, Time>,
    /// When a fence attempt on the host was resolved here: what said hello before may have ended by it.
    pub(crate) resolved_at: BTreeMap<NodeId, Time>,
    /// When an Admit of the host was applied here.
    pub(crate) admitted_at: BTreeMap<NodeId, Time>,
    /// When the current Term was applied here.
    pub(crate) term_at: Time,
}

/// For how long nothing was heard of the admitted life of `host`.
fn life_silent<S>(now: Time, cluster: &Cluster, ears: &Ears<S>, host: NodeId) -> Duration {
    let life = cluster.hosts.get(&host).map(|h| h.incarnation);
    life.map_or(ears.silent(now, host), |life| {
        now.since(ears.life_silent_since(host, life))
    })
}

/// What an answer counts for: the standing revoke it names, and no other.
fn answered(host: NodeId, revoke: Token) -> (NodeId, Token) {
    if planted("answer-to-an-old-revoke") {
        return (host, Token::NONE);
    }
    (host, revoke)
}

/// What the reports add up to for one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Heard,
    /// Somebody misses it; no verdict may leave it behind for a while.
    Noticed,
    Certain(Ground),
}

impl Reports {
    /// A voter's report came in. Of its answers the newest counts, and none that it no longer gives:
    /// one that was reverted, or a copy that spoke as it, has forgotten what it promised, and may have
    /// acknowledged since. The age in an answer grows with the voter's clock, so a later one of an
    /// undisturbed voter says the same.
    pub(crate) fn report(&mut self, now: Time, voter: NodeId, report: Observation) {
        let kept = planted("answer-stands-unsaid")
            || planted("first-answer-stands")
            || planted("answer-to-an-old-revoke");
        for ((host, _), by) in &mut self.answers {
            if report.covers(*host) && !kept {
                by.remove(&voter);
            }
        }
        for a in &report.answers {
            self.answer(now, voter, a);
        }
        let kept = self.reports.entry(voter).or_default();
        let apart = |r: &Observation| r.about.1 < report.about.0 || report.about.1 < r.about.0;
        kept.retain(|(_, r)| r.incarnation == report.incarnation && apart(r));
        kept.push((now, report));
    }

    /// The newest that `voter` said.
    fn newest(&self, voter: NodeId) -> Option<&(Time, Observation)> {
        self.reports.get(&voter)?.last()
    }

    /// The newest that `voter` said of `host`.
    fn said_of(&self, voter: NodeId, host: NodeId) -> Option<&(Time, Observation)> {
        let all = self.reports.get(&voter)?;
        all.iter().rev().find(|(_, r)| r.covers(host))
    }

    fn answer(&mut self, now: Time, voter: NodeId, a: &Answer) {
        self.answers
            .entry(answered(a.host, a.revoke))
            .or_default()
            .entry(voter)
            .or_insert((now, a.age));
    }

    /// Forgets answers to revokes that no longer stand.
    pub(crate) fn sweep(&mut self, cluster: &Cluster) {
        self.answers.retain(|(host, revoke), _| {
            // An answer may overtake the entry it answers.
            revoke.index() > cluster.applied
                || *revoke == Token::NONE
                || cluster.hosts.get(host).and_then(|h| h.open_revoke()) == Some(*revoke)
        });
    }

    /// How many voters have durably stopped acknowledging.
    pub(crate) fn answered(&self, host: NodeId, revoke: Token) -> usize {
        self.answers
            .get(&answered(host, revoke))
            .map_or(0, BTreeMap::len)
    }

    /// Whether G has passed over the ages of a quorum of answers: the lease is over for certain.
    pub(crate) fn expired(&self, now: Time, cluster: &Cluster, host: NodeId, rv: Token) -> bool {
        let g = cluster.timing.takeover();
        let enough = if planted("one-answer-is-enough") {
            1
        } else {
            cluster.quorum()
        };
        let fresh = cluster.timing.heartbeat * 3;
        let says = |a: &Answer| a.host == host && answered(host, a.revoke) == answered(host, rv);
        let over = |voter: &NodeId, (received, age): &(Time, Duration)| {
            let said = self.said_of(*voter, host);
            let lately =
                said.is_some_and(|(at, r)| now.since(*at) <= fresh && r.answers.iter().any(says));
            now.since(*received) + *age >= g && (lately || planted("answer-stands-unsaid"))
        };
        self.answers
            .get(&answered(host, rv))
            .is_some_and(|a| a.iter().filter(|(v, a)| over(v, a)).count() >= enough)
    }

    /// How long until the lease of `host` is over for certain, as far as the answers tell.
    pub(crate) fn remaining(
        &self,
        now: Time,
        c: &Cluster,
        host: NodeId,
        rv: Token,
    ) -> Option<Duration> {
        let answers = self.answers.get(&answered(host, rv))?;
        let mut left: Vec<Duration> = answers
            .values()
            .map(|(at, age)| c.timing.takeover().saturating_sub(now.since(*at) + *age))
            .collect();
        left.sort();
        left.get(c.quorum() - 1).copied()
    }

    /// Entries that the durable state of each voter contains, ascending; none of one unheard.
    pub(crate) fn kept(&self, cluster: &Cluster, me: NodeId, own: u64) -> Vec<(u64, NodeId)> {
        let of = |v: NodeId| {
            if v == me {
                own
            } else {
                self.newest(v).map_or(0, |(_, r)| r.durable)
            }
        };
        let mut kept: Vec<_> = cluster.voters.iter().map(|(v, _)| (of(*v), *v)).collect();
        kept.sort();
        kept
    }

    /// This node was paused: what hosts said of themselves before is not what they say now.
    pub(crate) fn paused(&mut self) {
        self.deaf_since.clear();
    }

    /// The shortest time that another voter's store takes for a write, of those that report.
    pub(crate) fn fastest(
        &self,
        now: Time,
        cluster: &Cluster,
        me: NodeId,
        fresh: Duration,
    ) -> Option<Duration> {
        let others = cluster.voters.iter().map(|(v, _)| *v).filter(|v| *v != me);
        let reports = others.filter_map(|v| self.newest(v));
        reports
            .filter(|(at, r)| now.since(*at) <= fresh && !r.blind)
            .map(|(_, r)| r.disk)
            .min()
    }

    /// Votes that `host` has been silent for each of `windows`; blind and stale reports never count.
    fn silent_votes<S, const N: usize>(
        &self,
        now: Time,
        cluster: &Cluster,
        (me, ears): (NodeId, &Ears<S>),
        host: NodeId,
        windows: [Duration; N],
    ) -> [usize; N] {
        let t = &cluster.timing;
        let fresh = t.heartbeat * 3;
        let said = |v: NodeId| {
            if v == me {
                let blind = ears.blind(now, t.heartbeat + t.jitter);
                return (!blind).then(|| life_silent(now, cluster, ears, host));
            }
            let (at, r) = self.said_of(v, host)?;
            let (_, silent) = r.silent.iter().find(|(h, _)| *h == host)?;
            (now.since(*at) <= fresh && !r.blind).then_some(*silent)
        };
        // A voter that speaks in a later life attests the silence of an earlier one of its node like any
        // other: with one more voter away nobody else could, while the later life counts for the quorum.
        let life = cluster.hosts.get(&host).map(|h| h.incarnation.counter);
        let attests = |v: NodeId| {
            let later = self.said_of(v, host).map(|(_, r)| r.incarnation) > life;
            v != host || later && !planted("own-earlier-life-unattested")
        };
        let mut votes = [0; N];
        for (voter, _) in cluster.voters.iter().filter(|(v, _)| attests(*v)) {
            if let Some(silent) = said(*voter) {
                for (votes, window) in votes.iter_mut().zip(windows) {
                    *votes += usize::from(silent >= window);
                }
            }
        }
        votes
    }

    /// Whether a quorum of voters, we among them, hears `host` again.
    pub(crate) fn heard_again<S>(
        &self,
        now: Time,
        cluster: &Cluster,
        (me, ears): (NodeId, &Ears<S>),
        host: NodeId,
    ) -> bool {
        let fresh = cluster.timing.heartbeat * 3;
        let window = cluster.timing.heartbeat + cluster.timing.jitter;
        let hears = |v: NodeId| {
            if v == me || v == host {
                return life_silent(now, cluster, ears, host) < window;
            }
            self.said_of(v, host).is_some_and(|(at, r)| {
                now.since(*at) <= fresh && !r.blind && r.silent.iter().all(|(h, _)| *h != host)
            })
        };
        hears(me) && cluster.voters.iter().filter(|(v, _)| hears(*v)).count() >= cluster.quorum()
    }

    fn standing<S>(
        &self,
        now: Time,
        cluster: &Cluster,
        ears: (NodeId, &Ears<S>),
        host: NodeId,
    ) -> Standing {
        let t = &cluster.timing;
        let enough = if planted("one-voter-condemns") {
            1
        } else {
            cluster.quorum()
        };
        let windows = [t.silence(), t.heartbeat * 2 + t.jitter, t.heartbeat * 2];
        let [silent, missed, unheard] = self.silent_votes(now, cluster, ears, host, windows);
        if silent >= enough {
            return Standing::Certain(Ground::Silent);
        }
        if unheard >= enough && self.was_deaf(now, cluster, ears.1, host) {
            return Standing::Certain(Ground::Silent);
        }
        if self.deaf(now, cluster, host) {
            return Standing::Certain(Ground::Deaf);
        }
        if missed >= cluster.quorum() {
            return Standing::Noticed;
        }
        Standing::Heard
    }

    /// The host is heard and says that nothing renewed it for T_d, counted from the latest of its
    /// last renewal, its Admit and the present Term, all by our own clock (V5); and it goes on
    /// saying so while we hear it: one that was cut off and is back is renewed by its next beat.
    fn deaf(&self, now: Time, cluster: &Cluster, host: NodeId) -> bool {
        if planted("deaf-never-lost") {
            return false;
        }
        let patience = cluster.timing.heartbeat * 2;
        self.deaf_since
            .get(&host)
            .is_some_and(|since| now.since(*since) >= patience)
    }

    /// The host, which is silent now, was deaf before: the last beat heard said that nothing had
    /// renewed its lease for 2·h or more. The deaf ground runs on in its silence (reading 24), from
    /// the latest of its last renewal, its Admit and the present Term. Heard again it may be restored:
    /// it may have become whole meanwhile.
    fn was_deaf<S>(&self, now: Time, cluster: &Cluster, ears: &Ears<S>, host: NodeId) -> bool {
        let t = &cluster.timing;
        let Some(heard) = ears.get(host) else {
            return false;
        };
        let record = cluster.hosts.get(&host);
        // What others report may be older than what we heard since.
        if ears.silent(now, host) < t.heartbeat * 2
            || record.is_none_or(|r| r.incarnation != heard.incarnation)
            || heard.beat.renewed_ago < t.heartbeat * 2
            || planted("deaf-ground-ends-in-silence")
        {
            return false;
        }
        let renewed = heard.at - heard.beat.renewed_ago;
        let admitted = self.admitted_at.get(&host).copied().unwrap_or(Time::ZERO);
        let from = renewed.max(admitted).max(self.term_at);
        now.since(from) >= t.silence()
    }

    fn note_deaf<S>(&mut self, now: Time, cluster: &Cluster, ears: &Ears<S>) {
        let window = cluster.timing.silence();
        for (host, record) in &cluster.hosts {
            let admitted = self.admitted_at.get(host).copied().unwrap_or(Time::ZERO);
            let says_so = ears.get(*host).is_some_and(|heard| {
                heard.incarnation == record.incarnation
                    && ears.silent(now, *host) < cluster.timing.heartbeat * 2
                    && heard.beat.renewed_ago >= window
                    && now.since(admitted.max(self.term_at)) >= window
            });
            if says_so {
                self.deaf_since.entry(*host).or_insert(now);
            } else {
                self.deaf_since.remove(host);
            }
        }
    }

    /// The hosts to revoke now, all together: nobody between "noticed" and "certain" is left out,
    /// but the wait for the others ends 2·h after the first certain host. Deaf hosts are judged only if `deaf`; `holds` says
    /// which hosts have guests.
    pub(crate) fn verdict<S>(
        &mut self,
        now: Time,
        cluster: &Cluster,
        ears: (NodeId, &Ears<S>),
        (holds, deaf): (impl Fn(NodeId) -> bool, bool),
    ) -> Vec<(NodeId, Incarnation, Ground)> {
        self.note_deaf(now, cluster, ears.1);
        let mut certain = Vec::new();
        let mut noticed = false;
        for (host, record) in &cluster.hosts {
            let judged = match record.state() {
                HostState::Member => true,
                // A host that left in order is missed by nobody, unless it still holds a guest.
                HostState::Away => record.away == Some(Away::Stop) || holds(*host),
                HostState::Lost | HostState::Fenced => false,
            };
            if !judged {
                continue;
            }
            match self.standing(now, cluster, ears, *host) {
                Standing::Certain(Ground::Deaf) if !deaf => {}
                Standing::Certain(g) => certain.push((*host, record.incarnation, g)),
                Standing::Noticed => noticed = true,
                Standing::Heard => {}
            }
        }
        if certain.is_empty() {
            self.certain_since = None;
            return certain;
        }
        let since = *self.certain_since.get_or_insert(now);
        if noticed && now.since(since) < cluster.timing.verdict_wait() {
            return Vec::new();
        }
        self.certain_since = None;
        certain
    }
}
