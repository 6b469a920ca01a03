//! The decided log as an auditor reads it: a second, smaller reading of the rules, written from
//! the design and not from the code under test, that says which entries are valid at their place.

use quorate_fencing::Level;
use quorate_membership::entry::{Entry, LogEntry, Machine, Proof, ProposalId};
use quorate_membership::{BootId, Epoch, Incarnation, NodeId, ProofPolicy, Token};
use quorate_recovery::command::Command;
use quorate_recovery::guest::{GuestId, Wanted};
use quorate_recovery::hold::{HoldKind, HoldReason};
use quorate_recovery::images::ScratchImage;
use quorate_recovery::lock::Lock;
use std::collections::{BTreeMap, BTreeSet};

/// A host as the log has it.
#[derive(Clone, Debug, Default)]
pub struct HostRecord {
    /// The admitted incarnation; counter 0 before the first.
    pub incarnation: Incarnation,
    /// Its boot.
    pub boot: BootId,
    /// Its machine.
    pub machine: Machine,
    /// Token of the standing revoke.
    pub revoke: Option<Token>,
    /// Its incarnation is proved ended.
    pub proved: bool,
    /// An operator took it out of service.
    pub away: bool,
    /// It attested who ends its guests.
    pub armed: bool,
    /// Number of its last word on that.
    pub word: u64,
    /// Unresolved attempts: token, incarnation aimed at.
    pub attempts: Vec<(Token, Incarnation)>,
    /// Its levels.
    pub fencing: Vec<Level>,
    /// Its memory for guests, in MiB; a witness has none.
    pub room: Option<u64>,
}

/// A guest as the log has it.
#[derive(Clone, Debug)]
pub struct GuestRecord {
    /// Its name.
    pub name: String,
    /// What the operator wants.
    pub wanted: Wanted,
    /// Memory that it needs, in MiB.
    pub wants: u64,
    /// Where it was placed last, by which incarnation.
    pub holder: Option<(NodeId, Incarnation)>,
    /// Its epoch.
    pub epoch: Token,
    /// The epoch is closed or proved.
    pub closed: bool,
    /// What holds it: kind, and the entry that did.
    pub holds: BTreeMap<HoldKind, (Token, HoldReason)>,
    /// The top image of its disk, by its name.
    pub top: Option<String>,
    /// The entry by which its record followed its images last.
    pub followed: Token,
    /// Hosts that have read them, if they must.
    pub readers: Option<BTreeSet<NodeId>>,
    /// What backups of it keep old blocks in.
    pub scratch: Vec<ScratchImage>,
}

/// What a valid entry means to the checkers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing in particular.
    Plain,
    /// The entry is void at its place.
    Void(&'static str),
    /// The host can do nothing any more by any order from before this token.
    Proved {
        /// The host.
        host: NodeId,
        /// Its writes have drained too.
        drained: bool,
    },
    /// The host said its guests of earlier lives are gone.
    Renewed {
        /// The host.
        host: NodeId,
    },
    /// The host closed a guest.
    Closed {
        /// The guest.
        guest: GuestId,
        /// The host.
        host: NodeId,
        /// Up to this epoch.
        epoch: Token,
    },
}

/// A Placed entry, and whether it was valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The guest.
    pub guest: GuestId,
    /// The host.
    pub host: NodeId,
    /// Why it is void, if it is.
    pub void: Option<&'static str>,
}

/// The auditor's state.
#[derive(Debug)]
pub struct Audit {
    /// Every decided entry, as first seen.
    pub log: Vec<LogEntry<Command>>,
    /// Hosts by node id.
    pub hosts: BTreeMap<NodeId, HostRecord>,
    /// Guests.
    pub guests: BTreeMap<GuestId, GuestRecord>,
    /// Every Placed entry.
    pub placements: BTreeMap<Token, Placement>,
    /// Target and aimed incarnation of every valid attempt.
    pub attempts: BTreeMap<Token, (NodeId, Incarnation)>,
    /// The current term and whose it is.
    pub term: Option<(Token, NodeId)>,
    /// The life that holds it.
    holder: Option<(NodeId, Incarnation)>,
    /// Locks of others that a person released.
    pub released: Vec<Lock>,
    /// The clients whose messages are published, by the number each message begins with.
    pub published: BTreeSet<u64>,
    /// The tokens of all messages.
    pub messages: BTreeSet<Token>,
    /// Fence attempts, revokes and proofs so far, per host.
    pub counts: BTreeMap<NodeId, Counts>,
    policy: ProofPolicy,
    /// Per node and life the sequences seen of it, and the highest one that is no longer told apart
    /// from a repeat.
    seen: BTreeMap<(NodeId, Incarnation), (BTreeSet<u64>, u64)>,
}

/// What befell a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Verdicts.
    pub revokes: u32,
    /// Logged attempts.
    pub attempts: u32,
    /// Proofs by lease.
    pub expired: u32,
    /// Proofs by device.
    pub fenced: u32,
}

impl Audit {
    /// An empty log under `policy`.
    #[must_use]
    pub fn new(policy: ProofPolicy) -> Audit {
        Audit {
            log: Vec::new(),
            hosts: BTreeMap::new(),
            guests: BTreeMap::new(),
            placements: BTreeMap::new(),
            attempts: BTreeMap::new(),
            term: None,
            holder: None,
            released: Vec::new(),
            published: BTreeSet::new(),
            messages: BTreeSet::new(),
            counts: BTreeMap::new(),
            policy,
            seen: BTreeMap::new(),
        }
    }

    /// The guest of this name.
    #[must_use]
    pub fn guest_named(&self, name: &str) -> Option<GuestId> {
        let found = self.guests.iter().find(|(_, g)| g.name == name);
        found.map(|(id, _)| *id)
    }

    /// Takes the next decided entry; says its token and what it means.
    pub fn take(&mut self, epoch: Epoch, entry: LogEntry<Command>) -> (Token, Finding) {
        let token = Token::new(epoch, self.log.len() as u64 + 1);
        let finding = match self.known(entry.id) {
            None => self.judge(token, &entry.body),
            Some(why) => Finding::Void(why),
        };
        self.log.push(entry);
        (token, finding)
    }

    /// Why a proposal counts for nothing whatever it says: the log holds it already, or it is the
    /// late word of an incarnation whose successor has spoken.
    fn known(&mut self, id: ProposalId) -> Option<&'static str> {
        const TOLD_APART: usize = 256;
        let host = self.hosts.get(&id.node);
        let admitted = host.map_or(0, |h| h.incarnation.counter);
        let of = |counter, random| (id.node, Incarnation { counter, random });
        let life = id.incarnation.counter;
        let later = of(life.saturating_add(1), 0)..=of(admitted, u64::MAX);
        if life < admitted && self.seen.range(later).next().is_some() {
            return Some("of an incarnation whose successor has spoken");
        }
        let (seen, floor) = self.seen.entry((id.node, id.incarnation)).or_default();
        if id.sequence <= *floor || !seen.insert(id.sequence) {
            return Some("a repeat");
        }
        if seen.len() > TOLD_APART {
            *floor = seen.pop_first().unwrap_or_default();
        }
        None
    }

    fn judge(&mut self, at: Token, entry: &Entry<Command>) -> Finding {
        use Finding::{Plain, Void};
        match entry {
            Entry::Noop | Entry::Rules { .. } => Plain,
            Entry::Away {
                node, incarnation, ..
            } => match self.hosts.get_mut(node) {
                Some(r) if r.incarnation == *incarnation => {
                    r.away = true;
                    Plain
                }
                _ => Void("not the admitted incarnation"),
            },
            Entry::Term { node, incarnation } => {
                if self.holder == Some((*node, *incarnation)) {
                    return Void("it holds the term already");
                }
                self.term = Some((at, *node));
                self.holder = Some((*node, *incarnation));
                Plain
            }
            Entry::Renew { term, .. } => match self.term {
                Some((t, _)) if t == *term => Plain,
                _ => Void("not the current term"),
            },
            Entry::Resign { term, .. } => {
                if self.term.is_some_and(|(t, _)| t == *term) {
                    (self.term, self.holder) = (None, None);
                    return Plain;
                }
                Void("not the current term")
            }
            Entry::Admit {
                node,
                incarnation,
                profile,
                emptied,
            } => {
                let alone = |(n, r): (&NodeId, &HostRecord)| {
                    n == node || r.machine.uuid != profile.machine.uuid
                };
                let alone = self.hosts.iter().all(alone);
                let holds =
                    |g: &GuestRecord| !g.closed && g.holder.is_some_and(|(h, _)| h == *node);
                let holds = self.guests.values().any(holds);
                let record = self.hosts.entry(*node).or_default();
                if incarnation.counter <= record.incarnation.counter {
                    return Void("not a newer incarnation");
                }
                if !record.attempts.is_empty() {
                    return Void("attempts on the last one are unresolved");
                }
                let same_boot = profile.boot == record.boot;
                let same_iron = profile.machine.bare
                    && profile.machine.uuid != 0
                    && profile.machine == record.machine
                    && alone;
                // What nobody can hold any more, whoever says so.
                let idle = !same_boot && !holds;
                let clean = (same_boot && *emptied) || (!same_boot && same_iron) || idle;
                if record.incarnation.counter > 0 && !record.proved && !clean {
                    if !same_boot {
                        return Void("another boot of what may be a copy");
                    }
                    if record.revoke.is_some() {
                        return Void("the last one is revoked");
                    }
                }
                let (old, proved) = (record.incarnation, record.proved);
                *record = HostRecord {
                    incarnation: *incarnation,
                    boot: profile.boot,
                    machine: profile.machine,
                    fencing: std::mem::take(&mut record.fencing),
                    room: (!profile.witness).then_some(profile.capacity.memory_mib),
                    ..HostRecord::default()
                };
                for g in self.guests.values_mut() {
                    let Some((host, by)) = g.holder else { continue };
                    if host != *node || g.closed || by.counter > old.counter {
                        continue;
                    }
                    if clean {
                        g.closed = true;
                    } else if !proved && by == old {
                        g.holder = Some((host, *incarnation));
                    }
                }
                if clean && !idle && old.counter > 0 {
                    return Finding::Renewed { host: *node };
                }
                Plain
            }
            Entry::Armed {
                host,
                incarnation,
                number,
                ..
            } => self.word(*host, *incarnation, *number, true),
            Entry::Unarmed {
                host,
                incarnation,
                number,
            } => self.word(*host, *incarnation, *number, false),
            Entry::Revoke { hosts } => {
                let mut any = false;
                for (host, incarnation, _) in hosts {
                    let Some(r) = self.hosts.get_mut(host) else {
                        continue;
                    };
                    if r.incarnation == *incarnation && r.revoke.is_none() && !r.proved {
                        r.revoke = Some(at);
                        self.counts.entry(*host).or_default().revokes += 1;
                        any = true;
                    }
                }
                if any {
                    Plain
                } else {
                    Void("nothing to revoke")
                }
            }
            Entry::Restore { host, revoke } => match self.hosts.get_mut(host) {
                Some(r) if !r.attempts.is_empty() => Void("an attempt on it may still act"),
                Some(r) if r.revoke == Some(*revoke) && !r.proved => {
                    r.revoke = None;
                    Plain
                }
                _ => Void("no such standing revoke"),
            },
            Entry::Proof {
                host,
                incarnation,
                revoke,
                proof,
            } => self.proof(*host, *incarnation, *revoke, proof),
            Entry::Attempt {
                host,
                incarnation,
                revoke,
                ..
            } => match self.hosts.get_mut(host) {
                Some(r)
                    if r.incarnation == *incarnation && r.revoke == Some(*revoke) && !r.proved =>
                {
                    r.attempts.push((at, *incarnation));
                    self.attempts.insert(at, (*host, *incarnation));
                    self.counts.entry(*host).or_default().attempts += 1;
                    Plain
                }
                _ => Void("no such standing revoke"),
            },
            Entry::AttemptEnded { host, attempt, .. } => match self.hosts.get_mut(host) {
                Some(r) => {
                    r.attempts.retain(|(t, _)| t != attempt);
                    Plain
                }
                None => Void("unknown host"),
            },
            Entry::App(command) => self.command(at, command),
        }
    }

    /// A host's word on who ends its guests; one that a later word overtook says nothing.
    fn word(
        &mut self,
        host: NodeId,
        incarnation: Incarnation,
        number: u64,
        armed: bool,
    ) -> Finding {
        match self.hosts.get_mut(&host) {
            Some(r) if r.incarnation == incarnation && number > r.word => {
                (r.word, r.armed) = (number, armed);
                Finding::Plain
            }
            _ => Finding::Void("no newer word of the admitted incarnation"),
        }
    }

    fn proof(&mut self, host: NodeId, inc: Incarnation, revoke: Token, proof: &Proof) -> Finding {
        let lease = matches!(proof, Proof::LeaseExpired);
        let Some(r) = self.hosts.get_mut(&host) else {
            return Finding::Void("unknown host");
        };
        if r.incarnation != inc || r.revoke != Some(revoke) || r.proved {
            return Finding::Void("no such standing revoke");
        }
        if lease && !r.armed {
            return Finding::Void("the incarnation attested nobody who ends its guests");
        }
        let device = matches!(proof, Proof::Fenced { .. });
        if device && self.policy == ProofPolicy::DeviceAndLease {
            return Finding::Void("a device alone proves nothing under device-and-lease");
        }
        r.proved = true;
        let counts = self.counts.entry(host).or_default();
        if lease {
            counts.expired += 1;
        } else {
            counts.fenced += 1;
        }
        for g in self.guests.values_mut() {
            if g.holder == Some((host, inc)) {
                g.closed = true;
            }
        }
        Finding::Proved {
            host,
            drained: lease,
        }
    }
}
