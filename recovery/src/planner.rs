//! What the coordinator does beyond membership: fences what is lost, places what is free.

use crate::command::{Closure, Command, GuestWord};
use crate::contract::FenceLaunch;
use crate::guest::{GuestId, Wanted};
use crate::machine::Guests;
use crate::mutants::planted;
use quorate_fencing::order::next_of;
use quorate_fencing::{Level, Next, Tried};
use quorate_membership::cluster::Attempt;
use quorate_membership::entry::{AttemptEnd, Entry, Proof, ProposalId};
use quorate_membership::{Epoch, Host, Member, NodeId, ProofPolicy, Time, Token};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

mod boxes;
mod braking;
mod place;
mod spared;
mod standing;
mod stranded;

/// Kinds of cooldowns of this crate (the membership's own are below 64).
pub(crate) mod kind {
    pub(crate) const CLOSED: u8 = 64;
    pub(crate) const PLACED: u8 = 65;
    pub(crate) const ATTEMPT: u8 = 66;
    pub(crate) const ATTEMPT_ENDED: u8 = 67;
    pub(crate) const FENCED: u8 = 68;
    pub(crate) const FENCING: u8 = 69;
    pub(crate) const AWAY: u8 = 70;
    pub(crate) const STRANDED: u8 = 71;
    pub(crate) const BEHIND: u8 = 72;
    pub(crate) const HOLD: u8 = 80;
    pub(crate) const RELEASE: u8 = 81;
    pub(crate) const FOLLOW: u8 = 84;
    pub(crate) const READS: u8 = 85;
    pub(crate) const LOCKED: u8 = 82;
    pub(crate) const TRIED: u8 = 86;
    pub(crate) const SCRATCH: u8 = 87;
}

/// Why nothing is placed and nobody is cut or proved over, while that is not known.
pub(crate) const DISAGREE: &str =
    "a quorum of voters has not yet said in this term that it made the same of the log";

/// An attempt on its way to the log.
#[derive(Clone, Debug)]
struct Proposed {
    /// The term it was proposed in.
    term: Token,
    /// It is not launched after that.
    not_after: Time,
    host: NodeId,
    level: Level,
}

/// The coordinator's memory. All of it may be lost with the role: what counts is in the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Planner {
    /// When the closing of a guest was applied here.
    freed: BTreeMap<GuestId, (Token, Time)>,
    /// Attempts this node proposed in its present term: launched only by it, and not after.
    proposed: BTreeMap<ProposalId, Proposed>,
    /// When an attempt's entry was applied here.
    logged: BTreeMap<Token, Time>,
    /// Results to be entered, until they are.
    results: BTreeMap<Token, (NodeId, AttemptEnd)>,
    /// Placements proposed and not yet applied, so that room is not given away twice.
    placing: BTreeMap<GuestId, (NodeId, Time)>,
    /// Why a guest that should run is not placed, for people.
    pub(crate) waiting: BTreeMap<GuestId, String>,
    /// Why a lost host is not being cut by a device, for people.
    pub(crate) fencing: BTreeMap<NodeId, String>,
    /// When the newest failure of a guest was applied here.
    failed: BTreeMap<Token, Time>,
    /// When the end of an attempt was applied here.
    ended: BTreeMap<Token, Time>,
    /// What stands against hosts.
    standing: standing::Standing,
    /// Since when hosts have run nothing of what they were given: they get no log, or are blind.
    stranded: BTreeMap<NodeId, Time>,
    /// How many entries hosts had applied that lack what gives them guests, and since when.
    behind: BTreeMap<NodeId, (u64, Time)>,
    /// When hosts were last looked through for that.
    looked: Time,
    /// When this node had applied how many entries, oldest first.
    history: VecDeque<(Time, u64)>,
    /// The epoch and the number of entries that were applied when the state was looked through.
    seen: Option<(Epoch, u64)>,
}

impl Planner {
    /// An Attempt of ours was applied: launch it, if we still hold the term we proposed it in.
    pub(crate) fn attempt_logged(
        &mut self,
        now: Time,
        member: &Member<Guests>,
        id: ProposalId,
        host: NodeId,
        attempt: &Attempt,
    ) -> Option<FenceLaunch> {
        self.logged.insert(attempt.token, now);
        let Proposed {
            term, not_after, ..
        } = self.proposed.remove(&id)?;
        let current = member.cluster().term.map(|t| t.token) == Some(term);
        // One that has resigned gives no order, even while the log still names its term (S6).
        let bound = current && now < not_after && member.acting(now).is_some();
        if !bound && !planted("launch-not-bound") {
            return None;
        }
        let level = member
            .app()
            .fencing
            .get(&host)?
            .get(usize::from(attempt.level))?;
        Some(FenceLaunch {
            attempt: attempt.token,
            host,
            name: member.cluster().name(host),
            devices: level.devices.clone(),
            not_after: if bound { not_after } else { Time::NEVER },
            limit: attempt.limit,
        })
    }

    /// A launched attempt ended; the result is proposed until it stands in the log.
    pub(crate) fn attempt_done(&mut self, host: NodeId, attempt: Token, end: AttemptEnd) {
        self.results.insert(attempt, (host, end));
    }

    /// Forgets what no longer matters; learns when guests became free.
    pub(crate) fn observe(&mut self, now: Time, member: &Member<Guests>) {
        // By every node: who becomes coordinator must know at once which hosts get the log.
        self.remember(now, member.cluster().applied, &member.cluster().timing);
        // Everything below follows from the applied log.
        let at = (member.cluster().epoch, member.cluster().applied);
        if self.seen == Some(at) {
            return;
        }
        self.seen = Some(at);
        let guests = &member.app().guests;
        self.freed.retain(|g, _| guests.contains_key(g));
        self.waiting.retain(|g, _| guests.contains_key(g));
        for (id, r) in guests {
            match &r.closed {
                Some(c) if self.freed.get(id).is_none_or(|(at, _)| *at != c.at) => {
                    self.freed.insert(*id, (c.at, now));
                }
                Some(_) => {}
                None => {
                    self.freed.remove(id);
                    self.placing.remove(id);
                    self.waiting.remove(id);
                }
            }
        }
        let failures = guests.values().map(|r| r.failed_at);
        let failures: BTreeSet<Token> = failures.filter(|at| *at != Token::NONE).collect();
        self.failed.retain(|at, _| failures.contains(at));
        for at in failures {
            self.failed.entry(at).or_insert(now);
        }
        self.standing.observe(now, member);
        let hosts = &member.cluster().hosts;
        let tried = hosts.values().filter_map(|h| h.tried.last());
        let tried: BTreeSet<Token> = tried.map(|(a, _)| a.token).collect();
        self.ended.retain(|token, _| tried.contains(token));
        for token in tried {
            self.ended.entry(token).or_insert(now);
        }
        let open = |token: &Token| hosts.values().any(|h| h.attempts.contains_key(token));
        let latest = |token: &Token| hosts.values().any(|h| h.last_attempt == Some(*token));
        for h in hosts.values() {
            for token in h.attempts.keys().chain(&h.last_attempt) {
                self.logged.entry(*token).or_insert(now);
            }
        }
        self.logged.retain(|token, _| open(token) || latest(token));
        self.results.retain(|token, (_, end)| {
            // An observed off is kept until the proof stands, the rest until the end is logged.
            open(token) || *end == AttemptEnd::Off
        });
        self.fencing
            .retain(|n, _| hosts.get(n).is_some_and(|h| h.open_revoke().is_some()));
    }

    /// Proposes the results of our launches. Judged by their own conditions, so the role is not
    /// needed for it.
    pub(crate) fn enter_results(&mut self, now: Time, member: &mut Member<Guests>) {
        let retry = member.cluster().timing.election;
        for (token, (host, end)) in self.results.clone() {
            let Some(record) = member.cluster().hosts.get(&host).cloned() else {
                continue;
            };
            if record.attempts.contains_key(&token) {
                if member.cool(now, kind::ATTEMPT_ENDED, token.0, retry) {
                    member.propose(
                        now,
                        Entry::AttemptEnded {
                            host,
                            attempt: token,
                            end,
                        },
                    );
                }
                continue;
            }
            let tried = record
                .tried
                .iter()
                .find(|(a, e)| a.token == token && *e == end);
            let Some((attempt, _)) = tried.filter(|_| end == AttemptEnd::Off) else {
                self.results.remove(&token);
                continue;
            };
            if record.open_revoke() != Some(attempt.revoke)
                || record.incarnation != attempt.incarnation
                || member.cluster().proof == ProofPolicy::DeviceAndLease
            {
                self.results.remove(&token);
                continue;
            }
            if member.states_agree() && member.cool(now, kind::FENCED, token.0, retry) {
                let class = member
                    .app()
                    .fencing
                    .get(&host)
                    .and_then(|l| l.get(usize::from(attempt.level)))
                    .and_then(|l| l.proves().ok());
                let Some(class) = class else {
                    self.results.remove(&token);
                    continue;
                };
                let proof = Proof::Fenced {
                    device: attempt.device.clone(),
                    class: format!("{class:?}").to_lowercase(),
                };
                let (incarnation, revoke) = (attempt.incarnation, attempt.revoke);
                member.propose(
                    now,
                    Entry::Proof {
                        host,
                        incarnation,
                        revoke,
                        proof,
                    },
                );
            }
        }
    }

    /// The coordinator's round; `until` is the end of its lease.
    pub(crate) fn plan(&mut self, now: Time, until: Time, member: &mut Member<Guests>) {
        self.enter_words(now, member);
        let hosts: Vec<(NodeId, Host)> = member
            .cluster()
            .hosts
            .iter()
            .filter(|(_, h)| h.open_revoke().is_some() || !h.attempts.is_empty())
            .map(|(n, h)| (*n, h.clone()))
            .collect();
        let agree = member.states_agree();
        for (host, record) in &hosts {
            self.expire_attempts(now, member, *host, record);
            if !agree {
                self.fencing.insert(*host, DISAGREE.to_owned());
            } else if let Some(revoke) = record.open_revoke() {
                match self.fence(now, until, member, *host, record, revoke) {
                    Ok(()) => drop(self.fencing.remove(host)),
                    Err(why) => drop(self.fencing.insert(*host, why)),
                }
            }
        }
        if agree {
            self.judge_stranded(now, member);
            self.place(now, member);
        } else {
            self.wait_for_states(member);
        }
    }

    /// Enters what hosts say they have closed, each in its admitted incarnation: a later one may be a
    /// copy, which has none of the guests and says so of all.
    fn enter_words(&mut self, now: Time, member: &mut Member<Guests>) {
        let retry = member.cluster().timing.election;
        let nodes: Vec<NodeId> = member.cluster().hosts.keys().copied().collect();
        for host in nodes {
            let (incarnation, words) = member.told(host);
            if !member.cluster().admitted(host, incarnation)
                && !planted("closed-believed-from-a-copy")
            {
                continue;
            }
            let closed: Vec<(GuestId, Token, Closure)> = words
                .into_iter()
                .filter_map(|word| match word {
                    GuestWord::Closed(guest, epoch, why) => Some((*guest, *epoch, why.clone())),
                    GuestWord::Running(..) => None,
                })
                .collect();
            for (guest, epoch, why) in closed {
                let open = member
                    .app()
                    .guests
                    .get(&guest)
                    .is_some_and(|r| r.open() && r.host == Some(host) && r.epoch <= epoch);
                if open && member.cool(now, kind::CLOSED, guest.0, retry) {
                    let closed = Command::Closed {
                        guest,
                        epoch,
                        host,
                        incarnation,
                        why,
                    };
                    member.propose(now, Entry::App(closed));
                }
            }
        }
    }

    /// An attempt whose result never came is resolved when it can have no more effect: bound plus
    /// device limit after its entry was applied, stretched for clocks (V2).
    fn expire_attempts(
        &mut self,
        now: Time,
        member: &mut Member<Guests>,
        host: NodeId,
        record: &Host,
    ) {
        let t = member.cluster().timing.clone();
        for (token, attempt) in &record.attempts {
            let logged = *self.logged.entry(*token).or_insert(now);
            let span = attempt.launch_within + attempt.limit;
            let stretched = span + span / 1000 * (2 * t.clock_rate_ppm).div_ceil(1000) + t.slack;
            if (now.since(logged) >= stretched || planted("attempt-forgotten"))
                && member.cool(now, kind::ATTEMPT_ENDED, token.0, t.election)
            {
                let end = AttemptEnd::Unknown;
                member.propose(
                    now,
                    Entry::AttemptEnded {
                        host,
                        attempt: *token,
                        end,
                    },
                );
            }
        }
    }

    /// Proposes the next device attempt on a lost host, or says why not.
    fn fence(
        &mut self,
        now: Time,
        until: Time,
        member: &mut Member<Guests>,
        host: NodeId,
        record: &Host,
        revoke: Token,
    ) -> Result<(), String> {
        let t = member.cluster().timing.clone();
        spared::spared(now, member, host, record, revoke)?;
        let levels = member.app().fencing.get(&host).cloned().unwrap_or_default();
        // Which level comes next depends on when the last one ended; only the log's order of
        // attempts is shared, so ages are measured from when this node saw the newest end.
        let last = record.tried.last().map(|(a, _)| a.token);
        let seen = last.and_then(|token| self.ended.get(&token));
        let age = seen.map(|at| now.since(*at));
        let tried: Vec<Tried> = record
            .tried
            .iter()
            .map(|(a, _)| Tried {
                level: a.level.into(),
                ended: age.or(Some(Duration::ZERO)),
            })
            .chain(record.attempts.values().map(|a| Tried {
                level: a.level.into(),
                ended: None,
            }))
            .collect();
        self.brake(now, member, host).map_err(|b| b.to_string())?;
        let unfit = |place: &usize| member.app().relied_on(host, &levels[*place]).err();
        let fit: Vec<bool> = (0..levels.len()).map(|p| unfit(&p).is_none()).collect();
        let level = match next_of(&levels, &tried, |place| fit[place]) {
            Next::Launch { level, .. } => level,
            Next::Running => return Ok(()),
            Next::RetryIn(d) => return Err(format!("every level failed; again in {}", secs(d))),
            Next::LeaseOnly => {
                let why = (0..levels.len()).find_map(|place| unfit(&place));
                let why = why.map_or("no level proves anything".into(), |w| w.to_string());
                return Err(format!("{why}: only its lease is left"));
            }
        };
        self.box_free(now, member, host, &levels[level])?;
        if !member.cool(now, kind::ATTEMPT, revoke.0, t.election) {
            return Ok(());
        }
        let Some(term) = member.cluster().term.map(|t| t.token) else {
            return Ok(());
        };
        let chosen = &levels[level];
        let names: Vec<&str> = chosen.devices.iter().map(|d| d.name.as_str()).collect();
        let attempt = Entry::Attempt {
            host,
            incarnation: record.incarnation,
            revoke,
            level: level as u8,
            device: names.join("+"),
            launch_within: until.since(now),
            limit: chosen.limit(),
        };
        let id = member.propose(now, attempt);
        // Fixed now: a later lease of ours does not extend it (V2).
        let proposed = Proposed {
            term,
            not_after: until,
            host,
            level: chosen.clone(),
        };
        self.proposed.insert(id, proposed);
        while self.proposed.len() > 64 {
            self.proposed.pop_first();
        }
        Ok(())
    }

    /// When something here becomes due that no fact announces.
    pub(crate) fn deadline(&self, now: Time, member: &Member<Guests>) -> Time {
        if self.freed.is_empty() {
            return Time::NEVER;
        }
        let drain = member.cluster().timing.drain_wait();
        self.freed
            .iter()
            .filter(|(g, _)| {
                member
                    .app()
                    .guests
                    .get(g)
                    .is_some_and(|r| r.wanted == Wanted::Running)
            })
            .map(|(_, (_, at))| *at + drain)
            .filter(|at| *at > now)
            .min()
            .unwrap_or(Time::NEVER)
    }
}

fn secs(d: Duration) -> String {
    format!("{:.1} s", d.as_secs_f64())
}
