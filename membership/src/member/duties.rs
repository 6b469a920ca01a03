//! What a leader and a coordinator do by the clock.

use super::{Member, Output};
use crate::app::Application;
use crate::attest::Word;
use crate::cluster::{Host, HostState};
use crate::entry::{Entry, Ground, Proof};
use crate::id::{Incarnation, NodeId};
use crate::mutants::planted;
use crate::time::Time;
use std::time::Duration;

/// Pause between two alerts of something that lasts.
pub(super) const TOLD: Duration = Duration::from_secs(60);

/// Kinds of cooldowns of this crate; the application's begin at 64.
pub(super) mod kind {
    /// Two nodes under one number, or one from another store.
    pub(in crate::member) const TWICE: u8 = 0;
    pub(super) const TERM: u8 = 1;
    pub(super) const ADMIT: u8 = 2;
    pub(super) const ARMED: u8 = 3;
    pub(super) const RESTORE: u8 = 4;
    pub(super) const EXPIRED: u8 = 5;
    pub(super) const REVOKE: u8 = 6;
    /// A log that grows for a voter, by that voter.
    pub(in crate::member) const GROWS: u8 = 7;
    pub(super) const RESIGN: u8 = 8;
    pub(super) const HAND_OVER: u8 = 9;
    pub(super) const COPY: u8 = 10;
    /// A voter whose state differs, by its number; that no quorum made the same, under 0.
    pub(in crate::member) const DIFFERS: u8 = 11;
    /// The notice to a node that it is refused, by its number.
    pub(in crate::member) const SUPERSEDED: u8 = 12;
    /// The notice to a voter that what it lacks is cut, by its number.
    pub(in crate::member) const CUT: u8 = 13;
    /// The word that no voter holds a log that was claimed.
    pub(in crate::member) const LOST: u8 = 16;
    /// A voter whose store was set back, by its number.
    pub(in crate::member) const SET_BACK: u8 = 14;
    /// The word that the own disk writes nothing.
    pub(in crate::member) const DISK: u8 = 15;
    /// This node votes unvouched.
    pub(in crate::member) const UNVOUCHED: u8 = 17;
}

impl<A: Application> Member<A> {
    /// Gives the coordinator role up for the rest of this life, so that a successor need not wait.
    /// To be called until it gives true: nothing was held, another's term has begun, or nobody
    /// followed for so long that waiting helps no more.
    pub fn resign(&mut self, now: Time) -> bool {
        let retry = self.cluster().timing.election;
        if let Some((term, waited)) = self.office.resign(now)
            && self.cool(now, kind::RESIGN, term.0, retry)
        {
            self.propose(now, Entry::Resign { term, waited });
        }
        let followed = self.cluster().term.is_some_and(|t| t.node != self.me);
        let ago = self.office.resigned_ago(now);
        ago.is_none_or(|ago| followed || ago >= retry * 3)
    }

    /// A coordinator that resigned is about to go, and with it the leader of the log. Its heir
    /// leads at once, where others would first have to miss the old leader. One try: who cannot
    /// hear the answers must not disturb those that can. The old leader gives way, should it stay.
    fn succeed(&mut self, now: Time) {
        if let Some(replica) = self.replica.as_mut().filter(|_| self.office.retired()) {
            return replica.abdicate();
        }
        if !self.office.take_vacancy() || self.following.is_some() {
            return;
        }
        let cluster = &self.state.cluster;
        let member = |v: &NodeId| cluster.hosts.get(v).map(Host::state) == Some(HostState::Member);
        let heir = cluster.voters.iter().map(|(v, _)| *v).find(member);
        if heir == Some(self.me)
            && self.quorate(now)
            && let Some(replica) = self.replica.as_mut().filter(|r| !r.leads())
        {
            replica.lead();
        }
    }

    /// A leader asks for a term; the holder of one renews it; an undecided tail is nudged.
    pub(super) fn lead(&mut self, now: Time) {
        let t = self.cluster().timing.clone();
        if let Some((term, number)) = self.office.renewal(now, &t, !self.states_agree()) {
            self.propose_as_leader(now, Entry::Renew { term, number });
        }
        self.succeed(now);
        let Some(replica) = &self.replica else { return };
        // One that has to follow others leads nobody, whatever it still believes.
        let leads = replica.leads() && self.following.is_none();
        let undecided = replica.undecided();
        if leads {
            self.hand_over(now);
        }
        let named = self.state.cluster.term.is_some_and(|t| t.node == self.me);
        let asks = self.office.sought() && !(named && planted("term-outlives-its-life"));
        if leads && asks && self.cool(now, kind::TERM, 0, t.election) {
            let (node, incarnation) = (self.me, self.incarnation);
            let body = match self.office.owed(self.state.cluster.term) {
                Some((term, waited)) => Entry::Resign { term, waited },
                None => Entry::Term { node, incarnation },
            };
            self.propose_as_leader(now, body);
        } else if leads && undecided && now.since(self.last_append) >= t.election {
            self.propose_as_leader(now, Entry::Noop);
        }
        if leads {
            self.cut_log(now);
        }
    }

    /// The coordinator's part of membership: admit, attest, judge, restore, prove by lease.
    pub(super) fn coordinate(&mut self, now: Time) {
        if self.office.acting(now).is_none() {
            return;
        }
        let retry = self.cluster().timing.election;
        self.admit(now);
        let (ears, cluster) = (&self.ears, &self.state.cluster);
        let news = |host: NodeId, record: &Host| {
            let heard = ears.get(host)?;
            let of_this_life = heard.incarnation == record.incarnation && record.proved.is_none();
            let word = heard.beat.word;
            let newer = word.number > record.word
                || planted("old-armed-word-counts")
                    && word.armed.is_some()
                    && word.armed != record.armed;
            (of_this_life && newer).then_some(word)
        };
        let concerned: Vec<(NodeId, Host, Option<Word>)> = cluster
            .hosts
            .iter()
            .map(|(host, record)| (host, record, news(*host, record)))
            .filter(|(_, record, news)| news.is_some() || record.open_revoke().is_some())
            .map(|(host, record, news)| (*host, record.clone(), news))
            .collect();
        for (host, record, news) in concerned {
            if let Some(word) = news {
                self.enter_word(now, host, record.incarnation, word);
            }
            let Some(revoke) = record.open_revoke() else {
                continue;
            };
            if self.reports.expired(now, &self.state.cluster, host, revoke)
                && (record.armed.is_some() || planted("unarmed-lease-proves"))
                && self.states_agree()
                && self.cool(now, kind::EXPIRED, revoke.0, retry)
            {
                let (incarnation, proof) = (record.incarnation, Proof::LeaseExpired);
                self.propose(
                    now,
                    Entry::Proof {
                        host,
                        incarnation,
                        revoke,
                        proof,
                    },
                );
            } else if self.may_be_restored(host, &record)
                && record.attempts.is_empty()
                && self
                    .reports
                    .heard_again(now, &self.state.cluster, (self.me, &self.ears), host)
                && self.cool(now, kind::RESTORE, revoke.0, retry)
            {
                self.propose(now, Entry::Restore { host, revoke });
            }
        }
        let (app, cluster) = (&self.state.app, &self.state.cluster);
        let holds = |host: NodeId| app.holds(host);
        // A host that left the log gets none while nobody knows which state is right; no proof could follow.
        let deaf = self.states_agree() || planted("deaf-judged-while-divided");
        let hosts = self
            .reports
            .verdict(now, cluster, (self.me, &self.ears), (holds, deaf));
        if !hosts.is_empty() && self.cool(now, kind::REVOKE, 0, retry) {
            self.propose(now, Entry::Revoke { hosts });
        }
    }

    /// Whether hearing `host` again would take its revoke back. A deaf host is heard all the time, so
    /// it must say that it hears a quorum of voters, too; and only one that holds nothing and attested
    /// nobody is restored so, since no proof could ever be had of it: every other is proved over, and
    /// comes back as a new incarnation.
    fn may_be_restored(&self, host: NodeId, record: &Host) -> bool {
        let Some(heard) = self.ears.get(host) else {
            return false;
        };
        let hears = heard.beat.hears.count_ones() as usize >= self.cluster().quorum();
        let unprovable = record.armed.is_none() && !self.state.app.holds(host);
        heard.incarnation == record.incarnation
            && match record.revoke {
                Some((_, Ground::Silent)) => true,
                Some((_, Ground::Deaf)) => hears && unprovable && !planted("deaf-stays-lost"),
                _ => false,
            }
    }

    /// A leader whose store takes so long that its renewals come late gives way, if the store of
    /// another voter that is heard is much faster. Elections wait for no disk, so nobody misses it.
    fn hand_over(&mut self, now: Time) {
        let t = &self.state.cluster.timing;
        let lag = self.disk.lag(now);
        if lag <= t.coordinator_lease / 2 || planted("slow-leader-stays") {
            return;
        }
        let fresh = t.heartbeat * 3;
        let faster = self
            .reports
            .fastest(now, &self.state.cluster, self.me, fresh);
        let pause = t.election * 10;
        if faster.is_some_and(|disk| disk * 4 <= lag)
            && self.cool(now, kind::HAND_OVER, 0, pause)
            && let Some(replica) = &mut self.replica
        {
            replica.abdicate();
        }
    }

    /// Tells that the store has written nothing for T_d: what was decided since is not known here, and
    /// only this node can say so.
    pub(super) fn tell_stalled_disk(&mut self, now: Time) {
        let stands = self.disk.stands(now);
        if stands < self.state.cluster.timing.silence() || !self.cool(now, kind::DISK, 0, TOLD) {
            return;
        }
        let text = format!(
            "the store of this node has written nothing for {:.1} s: until its disk goes on, this node \
             neither votes nor learns what is decided",
            stands.as_secs_f64()
        );
        let node = self.me;
        self.output.push(Output::Alert { node, text });
    }

    /// Enters what a host says of who ends its guests, once per host and election time-out.
    fn enter_word(&mut self, now: Time, host: NodeId, incarnation: Incarnation, word: Word) {
        let retry = self.cluster().timing.election;
        if !self.cool(now, kind::ARMED, host.0.into(), retry) {
            return;
        }
        let number = word.number;
        let entry = match word.armed {
            Some(armed) => Entry::Armed {
                host,
                incarnation,
                number,
                armed,
                timing: self.cluster().timing_token,
            },
            None => Entry::Unarmed {
                host,
                incarnation,
                number,
            },
        };
        self.propose(now, entry);
    }

    fn admit(&mut self, now: Time) {
        let retry = self.cluster().timing.election;
        let nodes = self.ears.nodes();
        for node in nodes {
            let Some(heard) = self.ears.get(node) else {
                continue;
            };
            let Some(hello) = heard.beat.hello.clone() else {
                continue;
            };
            let (incarnation, profile, emptied) = (heard.incarnation, hello.profile, hello.emptied);
            let resolved = self.reports.resolved_at.get(&node);
            if resolved.is_some_and(|at| heard.at <= *at) && !planted("old-hello-admits") {
                // The attempt may have ended the life that said it.
                continue;
            }
            let lease = self.cluster().timing.lease;
            let doubled = self.doubled(node, incarnation);
            let admission = self.state.admission(node, incarnation, &profile, emptied);
            let why = match admission {
                Ok(_) if doubled => Some("an earlier incarnation of it is heard beside it".into()),
                Err(e) if e.copy || e.lasting => Some(e.why),
                Err(_) => continue,
                Ok(_) => None,
            };
            if let Some(why) = why {
                if self.cool(now, kind::COPY, node.0.into(), lease) {
                    let name = self.state.cluster.name(node);
                    let text =
                        format!("{name} is not admitted as incarnation {incarnation}: {why}");
                    self.output.push(Output::Copies { node, text });
                }
                continue;
            }
            if self.cool(now, kind::ADMIT, node.0.into(), retry) {
                self.propose(
                    now,
                    Entry::Admit {
                        node,
                        incarnation,
                        profile,
                        emptied,
                    },
                );
            }
        }
    }

    /// The other hosts that have been silent for as long as makes a host suspect.
    pub fn silent_hosts(&mut self, now: Time) -> Vec<NodeId> {
        let cluster = &self.state.cluster;
        let known = (cluster.hosts.len(), cluster.timing_token);
        let mut silent = Vec::new();
        // Whatever is heard meanwhile only puts that moment off, and no host is ever forgotten.
        if self.hush.0 == known && now < self.hush.1 {
            return silent;
        }
        let window = cluster.timing.silence();
        self.hush = (known, Time::NEVER);
        for (host, record) in cluster.hosts.iter().filter(|(h, _)| **h != self.me) {
            let since = self.ears.life_silent_since(*host, record.incarnation);
            let suspect = since + window;
            self.hush.1 = self.hush.1.min(suspect);
            if now >= suspect {
                silent.push(*host);
            }
        }
        silent
    }

    /// A voter reports every heartbeat, and at once when somebody's silence became certain.
    pub(super) fn observe(&mut self, now: Time) {
        if self.grantor.is_none() {
            return;
        }
        let silent = self.silent_hosts(now);
        if silent != self.silent_before || now >= self.next_report {
            self.silent_before = silent;
            self.report(now);
        }
    }
}
