//! What a node can say about the cluster, for people and for programs.

use super::Node;
use super::devices::DeviceRow;
use crate::command::GuestWord;
use crate::guest::Wanted;
use crate::hold::Hold;
use crate::machine::{GuestRecord, Guests};
use quorate_membership::attest::Word;
use quorate_membership::states::Agreement;
use quorate_membership::vouch::Standing;
use quorate_membership::{HostState, NodeId, Time, Token};
use serde::Serialize;
use std::collections::BTreeMap;

/// The cluster as this node sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The cluster's name.
    pub cluster: String,
    /// This node's name.
    pub node: String,
    /// Its incarnation's counter.
    pub incarnation: u64,
    /// Whether it reaches a quorum of voters.
    pub quorate: bool,
    /// Whether the log names it as a member in this incarnation.
    pub admitted: bool,
    /// Whether its store is vouched for: `vouched`, `unvouched` (it votes, alarmed), `seeking` (it
    /// does not vote).
    pub store: Standing,
    /// What the voters made of the log, as far as this node compared it.
    pub states: StatesRow,
    /// The view.
    pub view: ViewRow,
    /// Entries applied.
    pub applied: u64,
    /// Seconds left of its own lease.
    pub lease_left: f64,
    /// Until when it may give orders as coordinator, in seconds from now; absent if it may not.
    pub acting_for: Option<f64>,
    /// Datagrams dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// What an operator should know, in words.
    pub remarks: Vec<String>,
}

/// What the voters made of the log.
#[derive(Clone, Debug, Serialize)]
pub struct StatesRow {
    /// `agreed` (a quorum made the same, this voter among them if it votes), `divided` (some differ,
    /// and none is that of a quorum), `unknown` (too few have said anything), `left` (this node's was
    /// another than a quorum's, or the rules are not known here: it has left the log).
    pub verdict: &'static str,
    /// The entry after which they were compared.
    pub at: Option<String>,
    /// Voters that made another state than a quorum.
    pub differ: Vec<String>,
    /// The version of the rules by which the log is applied.
    pub rules: u16,
}

/// The view in names.
#[derive(Clone, Debug, Serialize)]
pub struct ViewRow {
    /// Its number.
    pub number: u64,
    /// Its nodes.
    pub members: Vec<HostRow>,
    /// Name of the coordinator.
    pub coordinator: Option<String>,
}

/// One node of the view.
#[derive(Clone, Debug, Serialize)]
pub struct HostRow {
    /// Its number.
    pub node: u32,
    /// Its name.
    pub name: String,
    /// `member`, `suspect` (private to this node), `away`, `left`, `lost`, `fenced`.
    pub state: &'static str,
    /// Votes but never runs guests.
    pub witness: bool,
    /// Votes.
    pub voter: bool,
    /// Its admitted incarnation.
    pub incarnation: u64,
    /// Seconds since it was last heard here; absent for this node itself.
    pub unheard: Option<f64>,
    /// Guests that belong there.
    pub guests: usize,
    /// What is known of its fence devices.
    pub devices: Vec<DeviceRow>,
    /// What it waits for, if it is lost.
    pub reason: Option<String>,
}

/// One guest.
#[derive(Clone, Debug, Serialize)]
pub struct GuestRow {
    /// Its name.
    pub name: String,
    /// `running` or `stopped`.
    pub wanted: &'static str,
    /// `running`, `starting`, `stopping`, `waiting`, `held`, `stopped`, `unproved`.
    pub state: &'static str,
    /// Where it belongs.
    pub host: Option<String>,
    /// Its epoch.
    pub epoch: String,
    /// Failures in a row.
    pub failures: u32,
    /// What the monitors of its host make of it, in words; known on that host only, while it runs, and
    /// if they can look inside guests of its kind.
    pub health: Option<String>,
    /// Why it is where it is, if that needs words.
    pub reason: Option<String>,
    /// What it is held for until it is released; empty if it is not held.
    pub holds: Vec<HoldRow>,
}

/// One hold of a guest.
#[derive(Clone, Debug, Serialize)]
pub struct HoldRow {
    /// Its kind, as `release --all-of` takes it.
    pub kind: &'static str,
    /// The epoch it was seen under.
    pub epoch: String,
    /// The entry that made it.
    pub token: String,
    /// Why, in words.
    pub reason: String,
}

fn hold_rows(r: &GuestRecord) -> Vec<HoldRow> {
    let row = |h: &Hold| HoldRow {
        kind: h.reason.kind().name(),
        epoch: h.epoch.to_string(),
        token: h.at.to_string(),
        reason: h.reason.to_string(),
    };
    r.holds.iter().map(row).collect()
}

/// What `status` says of held guests: how many, and the first of them.
fn held_remark(guests: &Guests) -> Option<String> {
    let mut held = guests.guests.values().filter(|r| r.held().is_some());
    let first = held.next()?;
    let more = match held.count() {
        0 => String::new(),
        n => format!(" (and {n} more, see `quorate guests`)"),
    };
    let hold = first.held()?;
    Some(format!(
        "guest {} is held until `quorate guest release`{more}: {}",
        first.spec.name, hold.reason
    ))
}

impl Node {
    fn states(&self) -> StatesRow {
        let m = &self.member;
        let (verdict, at, differ) = match m.agreement() {
            Agreement::Unknown => ("unknown", None, &[][..]),
            Agreement::Agreed { at, differ, .. } => ("agreed", Some(at), &differ[..]),
            Agreement::Divided { at, .. } => ("divided", Some(at), &[][..]),
        };
        StatesRow {
            verdict: if m.left_log() { "left" } else { verdict },
            at: at.map(ToString::to_string),
            differ: differ.iter().map(|n| m.cluster().name(*n)).collect(),
            rules: m.cluster().rules,
        }
    }

    /// The cluster as this node sees it now.
    #[must_use]
    pub fn status(&self, now: Time) -> Status {
        let m = &self.member;
        let c = m.cluster();
        let mut remarks = Vec::new();
        if !m.quorate(now) {
            remarks.push(format!(
                "no quorum: fewer than {} of {} voters are reached, so nothing is fenced or \
                 restarted by command, and guests end with the lease of their host",
                c.quorum(),
                c.voters.len()
            ));
        }
        let window = c.timing.silence();
        let heard = self.heard_hosts(now);
        for (link, silent) in self.links.silent(now, &heard, window) {
            let open: Vec<NodeId> = silent
                .iter()
                .copied()
                .filter(|n| m.in_session(*n))
                .collect();
            let names = self.names(&silent);
            remarks.push(match open.is_empty() {
                true => format!("link {link} brings nothing from {names}"),
                false => format!(
                    "link {link} brings nothing from {names}; the sessions to {} are open, and beats \
                     go by them where no link is left",
                    self.names(&open)
                ),
            });
        }
        if let Some(why) = m.voter_failure() {
            remarks.push(format!("this node votes no more, its store failed: {why}"));
        }
        remarks.extend(m.standing_remark());
        remarks.extend(m.states_remark());
        if let Some((_, why)) = &self.unwritten {
            remarks.push(format!("the lease record cannot be written: {why}"));
        }
        for (node, h) in &c.hosts {
            let word = if *node == m.me() {
                m.word()
            } else {
                Word {
                    number: h.word,
                    armed: h.armed,
                }
            };
            if h.state() == HostState::Member && word.number > 0 && word.armed.is_none() {
                remarks.push(format!(
                    "{}: no guardian ends its guests with its lease; it is given no new ones, and \
                     if it is lost they wait for a fence device or an operator",
                    h.profile.name
                ));
            }
        }
        if let Some(why) = self.executor.blind() {
            remarks.push(format!("the hypervisor does not answer: {why}"));
        }
        remarks.extend(self.executor.host_remarks());
        remarks.extend(self.device_remarks());
        remarks.extend(held_remark(m.app()));
        if let Some((count, guest, why)) = self.executor.locks_failing() {
            let name = m.app().guests.get(&guest).map(|r| r.spec.name.clone());
            remarks.push(format!(
                "locks of {count} guests here cannot be raised, as of {}: {why}",
                name.unwrap_or_default()
            ));
        }
        if !m.admitted() {
            remarks.push(match &self.unadmitted {
                Some(why) => format!("this node is not admitted: {why}"),
                None => "this node is not admitted yet".to_owned(),
            });
        }
        Status {
            cluster: c.id.to_string(),
            node: c.name(m.me()),
            incarnation: m.incarnation().counter,
            quorate: m.quorate(now),
            admitted: m.admitted(),
            store: m.standing(),
            states: self.states(),
            view: ViewRow {
                number: c.view,
                members: self.hosts(now),
                coordinator: c.term.map(|t| c.name(t.node)),
            },
            applied: c.applied,
            lease_left: m
                .lease_end()
                .map_or(0.0, |end| end.since(now).as_secs_f64()),
            acting_for: m.acting(now).map(|until| until.since(now).as_secs_f64()),
            dropped: m
                .dropped()
                .iter()
                .map(|(k, v)| ((*k).to_owned(), *v))
                .collect(),
            remarks,
        }
    }

    /// Every node of the view.
    #[must_use]
    pub fn hosts(&self, now: Time) -> Vec<HostRow> {
        let m = &self.member;
        let silence = m.cluster().timing.silence();
        m.cluster()
            .hosts
            .iter()
            .map(|(node, h)| {
                let me = *node == m.me();
                let silent = m.silent(now, *node);
                let holds = self.member.app().on(*node).count();
                let state = match h.state() {
                    HostState::Member if !me && silent >= silence => "suspect",
                    HostState::Member => "member",
                    HostState::Away if holds == 0 => "left",
                    HostState::Away => "away",
                    HostState::Lost => "lost",
                    HostState::Fenced => "fenced",
                };
                let reason = h.open_revoke().map(|_| {
                    let lease = m.lease_remaining(now, *node).map_or_else(
                        || "its lease is over once a quorum of voters has answered".to_owned(),
                        |d| format!("its lease is over for certain in {:.1} s", d.as_secs_f64()),
                    );
                    match self.planner.fencing.get(node) {
                        Some(why) => format!("{why}; {lease}"),
                        None => lease,
                    }
                });
                HostRow {
                    node: node.0,
                    name: h.profile.name.clone(),
                    state,
                    witness: h.profile.witness,
                    voter: m.cluster().slot(*node).is_some(),
                    incarnation: h.incarnation.counter,
                    unheard: (!me).then_some(silent.as_secs_f64()),
                    guests: holds,
                    devices: self.device_rows(*node),
                    reason,
                }
            })
            .collect()
    }

    /// What this node keeps of a guest that is on its host: the newest events, looks and remedies,
    /// oldest first, each with its age. Empty for one that is not here.
    #[must_use]
    pub fn guest_evidence(&self, now: Time, name: &str) -> Vec<String> {
        let known = self.member.app().named(name);
        known.map_or_else(Vec::new, |(id, _)| self.executor.evidence(now, id))
    }

    /// Every guest.
    #[must_use]
    pub fn guests(&self, now: Time) -> Vec<GuestRow> {
        let m = &self.member;
        let mut running = std::collections::BTreeSet::new();
        for host in m.cluster().hosts.keys() {
            let told = m.told(*host).1.into_iter();
            running.extend(told.filter_map(|word| match word {
                GuestWord::Running(guest, epoch) => Some((*host, *guest, *epoch)),
                GuestWord::Closed(..) => None,
            }));
        }
        // A beat of the own host says nothing newer than the own state.
        let lacks = |r: &GuestRecord| {
            let (heard, _) = m.heard(now, r.host.filter(|h| *h != m.me())?)?;
            let lacks = heard.beat.applied < r.epoch.index();
            lacks.then(|| "its host has not got that entry of the log yet".to_owned())
        };
        m.app()
            .guests
            .iter()
            .map(|(id, r)| {
                let host = r.host.map(|h| m.cluster().name(h));
                let running = r.host.is_some_and(|h| {
                    let here = h == m.me()
                        && self
                            .executor
                            .running()
                            .any(|(g, e)| (g, e) == (*id, r.epoch));
                    let there = running.contains(&(h, *id, r.epoch));
                    here || there
                });
                let lost = r
                    .host
                    .and_then(|h| m.cluster().hosts.get(&h))
                    .filter(|h| h.open_revoke().is_some() && h.incarnation == r.incarnation);
                let (state, reason) = match (&r.closed, r.wanted) {
                    (None, _) if lost.is_some() => (
                        "unproved",
                        Some("its host is lost and not yet proved off".to_owned()),
                    ),
                    (None, Wanted::Running) if running => {
                        ("running", r.held().map(|h| format!("held: {}", h.reason)))
                    }
                    (None, Wanted::Running) if r.held().is_some() => {
                        ("held", r.held().map(|h| h.reason.to_string()))
                    }
                    (None, Wanted::Running) => ("starting", lacks(r)),
                    (None, Wanted::Stopped) => ("stopping", None),
                    (Some(_), Wanted::Stopped) => ("stopped", None),
                    (Some(_), Wanted::Running) if r.held().is_some() => {
                        ("held", r.held().map(|h| h.reason.to_string()))
                    }
                    (Some(c), Wanted::Running) => {
                        let why = self.planner.waiting.get(id);
                        (
                            "waiting",
                            Some(why.cloned().unwrap_or_else(|| c.why.clone())),
                        )
                    }
                };
                let health = (state == "running" && r.host == Some(m.me()))
                    .then(|| self.executor.health(now, *id, r.epoch))
                    .flatten();
                let reason = match &health {
                    Some((false, words)) if reason.is_none() => Some(words.clone()),
                    _ => reason,
                };
                GuestRow {
                    name: r.spec.name.clone(),
                    wanted: if r.wanted == Wanted::Running {
                        "running"
                    } else {
                        "stopped"
                    },
                    state,
                    host: if r.epoch == Token::NONE { None } else { host },
                    epoch: r.epoch.to_string(),
                    failures: r.failures,
                    health: health.map(|(_, words)| words),
                    reason,
                    holds: hold_rows(r),
                }
            })
            .collect()
    }
}
