//! Applying the log: what each entry needs to hold at its place, and what it changes.

use crate::app::{Application, Ended};
use crate::cluster::{Attempt, Cluster, Host, Term};
use crate::entry::{Armed, CONFIRMED_BY_MAX, Entry, LogEntry, Profile, Proof};
use crate::founding::{Founding, ProofPolicy};
use crate::id::{Incarnation, NodeId, Token};
use crate::mutants::planted;
use serde::{Deserialize, Serialize};

/// The whole replicated state: membership and the application in one log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "A: Application", deserialize = "A: Application"))]
pub struct State<A> {
    /// The membership.
    pub cluster: Cluster,
    /// The application.
    pub app: A,
}

/// What became of an entry at its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It changed the state.
    Applied,
    /// It did not hold and changed nothing.
    Void(String),
    /// The same proposal stands further up; nothing changed.
    Repeat,
}

/// Effect of an admission on the node's last incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// There was none.
    First,
    /// It is over by the host's word, which holds: its guests are free.
    Ends,
    /// It was proved over before.
    AfterProof,
    /// Its guests go on under the new one.
    TakesOver,
}

/// Why an incarnation is not admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAdmitted {
    /// In words.
    pub why: String,
    /// It may be a copy of a host that still runs: an operator should know.
    pub copy: bool,
    /// Nothing that time brings will change it: an operator has to.
    pub lasting: bool,
}

type Judged = Result<(), String>;

/// The most ended attempts of one incarnation that are kept: enough to tell the rounds of its levels.
const TRIED: usize = 64;

impl<A: Application> State<A> {
    /// The state before the first entry.
    #[must_use]
    pub fn new(founding: &Founding) -> State<A> {
        State {
            cluster: Cluster::new(founding),
            app: A::default(),
        }
    }

    /// Applies the next entry; gives its token and what became of it.
    pub fn apply(&mut self, entry: &LogEntry<A::Command>) -> (Token, Outcome) {
        self.cluster.applied += 1;
        let at = Token::new(self.cluster.epoch, self.cluster.applied);
        let id = entry.id;
        let host = self.cluster.hosts.get(&id.node);
        let admitted = host.map_or(Incarnation::default(), |h| h.incarnation);
        let proposals = self.cluster.proposals.entry(id.node).or_default();
        let fresh = proposals.fresh(admitted, id.incarnation, id.sequence);
        if !fresh && !planted("repeat-applied") {
            return (at, Outcome::Repeat);
        }
        let judged = self.judge(at, &entry.body);
        if judged.is_ok() && changes_view(&entry.body) {
            self.cluster.view += 1;
        }
        (at, judged.map_or_else(Outcome::Void, |()| Outcome::Applied))
    }

    fn judge(&mut self, at: Token, entry: &Entry<A::Command>) -> Judged {
        match entry {
            Entry::Noop => Ok(()),
            Entry::Term { node, incarnation } => self.term(at, *node, *incarnation),
            Entry::Renew { .. } if planted("renew-under-old-term") => Ok(()),
            Entry::Renew { term, .. } => self.current_term(*term),
            Entry::Resign { term, waited } => {
                self.current_term(*term)?;
                self.cluster.term = None;
                self.cluster.clear = *waited;
                Ok(())
            }
            Entry::Admit {
                node,
                incarnation,
                profile,
                emptied,
            } => self.admit(at, *node, *incarnation, profile, *emptied),
            Entry::Armed {
                host,
                incarnation,
                number,
                armed,
                timing,
            } => {
                if *timing != self.cluster.timing_token {
                    return Err(format!("attests timing {timing}, not the current one"));
                }
                self.word(*host, *incarnation, *number, Some(*armed))
            }
            Entry::Revoke { hosts } => {
                let mut any = Err("no host of it can be revoked".to_owned());
                for (host, incarnation, ground) in hosts {
                    if let Ok(h) = self.current(*host, *incarnation)
                        && h.revoke.is_none()
                        && h.proved.is_none()
                    {
                        h.revoke = Some((at, *ground));
                        any = Ok(());
                        if planted("verdict-is-proof") {
                            self.app.ended(at, *host, *incarnation, Ended::Lease);
                        }
                    }
                }
                any
            }
            Entry::Restore { host, revoke } => {
                let h = self.host(*host)?;
                if h.open_revoke() != Some(*revoke) {
                    return Err("that revoke does not stand unproved".into());
                }
                if !h.attempts.is_empty() {
                    return Err("a fence attempt on it may still act".into());
                }
                h.revoke = None;
                Ok(())
            }
            Entry::Proof {
                host,
                incarnation,
                revoke,
                proof,
            } => self.proof(at, *host, *incarnation, *revoke, proof),
            Entry::Attempt {
                host,
                incarnation,
                revoke,
                level,
                device,
                launch_within,
                limit,
            } => {
                let h = self.current(*host, *incarnation)?;
                if h.open_revoke() != Some(*revoke) {
                    return Err("no standing revoke of that token".into());
                }
                let attempt = Attempt {
                    token: at,
                    incarnation: *incarnation,
                    revoke: *revoke,
                    level: *level,
                    device: device.clone(),
                    launch_within: *launch_within,
                    limit: *limit,
                };
                h.last_attempt = Some(at);
                h.attempts.insert(at, attempt);
                Ok(())
            }
            Entry::AttemptEnded { host, attempt, end } => {
                let h = self.host(*host)?;
                let attempt = h
                    .attempts
                    .remove(attempt)
                    .ok_or("no such attempt is open")?;
                h.tried.push((attempt, *end));
                if h.tried.len() > TRIED {
                    h.tried.remove(0);
                }
                Ok(())
            }
            Entry::Away {
                node,
                incarnation,
                why,
            } => {
                let h = self.current(*node, *incarnation)?;
                h.away = Some(*why);
                Ok(())
            }
            Entry::App(command) => self.app.apply(at, &self.cluster, command),
            Entry::Unarmed {
                host,
                incarnation,
                number,
            } => self.word(*host, *incarnation, *number, None),
            Entry::Rules { version } if *version > self.cluster.rules => {
                self.cluster.rules = *version;
                Ok(())
            }
            Entry::Rules { version } => Err(format!(
                "rules of version {version} are not above those of version {}",
                self.cluster.rules
            )),
        }
    }

    /// Words are numbered by the host that says them: one that comes late is void, so that none
    /// takes back what was said after it.
    fn word(
        &mut self,
        host: NodeId,
        incarnation: Incarnation,
        number: u64,
        armed: Option<Armed>,
    ) -> Judged {
        let h = self.current(host, incarnation)?;
        if number <= h.word && !(armed.is_some() && planted("old-armed-word-counts")) {
            return Err(format!("word {number} is not above {}", h.word));
        }
        h.word = h.word.max(number);
        if armed.is_some() || !planted("armed-never-taken-back") {
            h.armed = armed;
        }
        Ok(())
    }

    fn host(&mut self, node: NodeId) -> Result<&mut Host, String> {
        self.cluster
            .hosts
            .get_mut(&node)
            .ok_or_else(|| format!("{node} was never admitted"))
    }

    fn current(&mut self, node: NodeId, incarnation: Incarnation) -> Result<&mut Host, String> {
        let h = self.host(node)?;
        if h.incarnation == incarnation {
            Ok(h)
        } else {
            Err(format!(
                "incarnation {incarnation} of {node} is not the admitted one"
            ))
        }
    }

    fn current_term(&self, term: Token) -> Judged {
        match self.cluster.term {
            Some(t) if t.token == term => Ok(()),
            _ => Err(format!("term {term} is not current")),
        }
    }

    /// A Term belongs to one incarnation of its node (V9). The wait of its holder is waived where
    /// no earlier term could still be acted on: at the very first, and after a Resign by one whose
    /// own wait was over. One that resigns before that knows nothing of who acted before it.
    fn term(&mut self, at: Token, node: NodeId, incarnation: Incarnation) -> Judged {
        if self.cluster.slot(node).is_none() {
            return Err(format!("{node} is no voter"));
        }
        if self
            .cluster
            .hosts
            .get(&node)
            .is_some_and(|h| h.incarnation > incarnation)
        {
            return Err(format!("incarnation {incarnation} of {node} is over"));
        }
        let held = self.cluster.term.map(|t| (t.node, t.incarnation));
        if held == Some((node, incarnation)) {
            return Err(format!("{node} holds the term already"));
        }
        let waived = std::mem::take(&mut self.cluster.clear);
        self.cluster.term = Some(Term {
            node,
            incarnation,
            token: at,
            waived,
        });
        Ok(())
    }

    /// What the admission of a new incarnation of `node` does to its last one, if it is valid now.
    /// Admission ends the last incarnation and takes its guests over, unless that is revoked. The
    /// host's own word ends them even then (V4): *emptied* within one boot, or a new boot of the same
    /// bare machine. Anybody with a copy of its disk can say hello after another boot, so elsewhere
    /// the lease of the last incarnation must be proved over first, unless that holds no guest.
    ///
    /// # Errors
    /// Why it is void.
    pub fn admission(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        profile: &Profile,
        emptied: bool,
    ) -> Result<Admission, NotAdmitted> {
        let refused = |why: String, lasting: bool| {
            let copy = false;
            Err(NotAdmitted { why, copy, lasting })
        };
        let void = |why: String| refused(why, false);
        let lasting = |why: String| refused(why, true);
        let cluster = &self.cluster;
        if let Some((_, store)) = cluster.voters.iter().find(|(n, _)| *n == node)
            && *store != profile.store
        {
            return lasting(format!(
                "store {} is not the one that votes for {node}",
                profile.store
            ));
        }
        let mut others = cluster.hosts.iter().filter(|(n, _)| **n != node);
        if let Some((other, _)) = others.find(|(_, h)| h.profile.name == profile.name) {
            return lasting(format!("the name {:?} belongs to {other}", profile.name));
        }
        let Some(old) = cluster.hosts.get(&node) else {
            return Ok(Admission::First);
        };
        if old.profile.store != profile.store {
            return lasting(format!(
                "{node} is store {}, not {}",
                old.profile.store, profile.store
            ));
        }
        if incarnation.counter <= old.incarnation.counter {
            return void(format!(
                "incarnation {incarnation} is not above {}",
                old.incarnation
            ));
        }
        if !old.attempts.is_empty() && !planted("admit-over-attempt") {
            return void("a fence attempt on its last incarnation is not resolved".into());
        }
        let same_boot = old.profile.boot == profile.boot;
        let word = if planted("boot-id-believed-from-a-clone") {
            emptied || !same_boot
        } else if same_boot {
            emptied
        } else {
            self.same_bare_machine(node, &old.profile, profile)
        };
        if word {
            return Ok(Admission::Ends);
        }
        if old.proved.is_some() {
            return Ok(Admission::AfterProof);
        }
        if !same_boot {
            if !self.app.holds(node) {
                return Ok(Admission::Ends);
            }
            return Err(NotAdmitted {
                why: format!(
                    "it booted anew on a machine that may be a copy, and its incarnation {} holds \
                     guests: that one's lease must be proved over first",
                    old.incarnation
                ),
                copy: true,
                lasting: false,
            });
        }
        if old.open_revoke().is_some() && !planted("admit-over-revoke") {
            return void("its last incarnation is revoked and not proved".into());
        }
        Ok(Admission::TakesOver)
    }

    /// Whether a new boot is one of the very machine that ran the last incarnation: nothing of that
    /// can be running any more.
    fn same_bare_machine(&self, node: NodeId, old: &Profile, new: &Profile) -> bool {
        let mut others = self.cluster.hosts.iter().filter(|(n, _)| **n != node);
        let machine = new.machine;
        machine.bare
            && machine.uuid != 0
            && machine == old.machine
            && !others.any(|(_, h)| h.profile.machine.uuid == machine.uuid)
    }

    fn admit(
        &mut self,
        at: Token,
        node: NodeId,
        incarnation: Incarnation,
        profile: &Profile,
        emptied: bool,
    ) -> Judged {
        let admission = self
            .admission(node, incarnation, profile, emptied)
            .map_err(|e| e.why)?;
        let old = self.cluster.hosts.get(&node);
        let last = old.map(|old| old.incarnation);
        let fresh = Host {
            profile: profile.clone(),
            incarnation,
            admitted: at,
            armed: None,
            word: 0,
            revoke: None,
            proved: None,
            attempts: Default::default(),
            tried: Vec::new(),
            last_attempt: old.and_then(|old| old.last_attempt),
            away: None,
        };
        self.cluster.hosts.insert(node, fresh);
        if let Some(last) = last {
            match admission {
                Admission::Ends => self.app.ended(at, node, last, Ended::Otherwise),
                Admission::TakesOver => self.app.taken_over(at, node, last, incarnation),
                Admission::First | Admission::AfterProof => {}
            }
        }
        Ok(())
    }

    /// A proof names the standing revoke, so that none survives a Restore. An expired lease is
    /// proof only of an incarnation that attested who ends its guests at lease end.
    fn proof(
        &mut self,
        at: Token,
        host: NodeId,
        incarnation: Incarnation,
        revoke: Token,
        proof: &Proof,
    ) -> Judged {
        let policy = self.cluster.proof;
        let h = self.current(host, incarnation)?;
        if h.open_revoke() != Some(revoke) {
            return Err(format!("revoke {revoke} does not stand unproved"));
        }
        let how = match proof {
            Proof::LeaseExpired if h.armed.is_none() && !planted("unarmed-lease-proves") => {
                return Err("nobody was attested to end its guests at lease end".into());
            }
            Proof::LeaseExpired => Ended::Lease,
            Proof::Fenced { .. } if policy == ProofPolicy::DeviceAndLease => {
                return Err("under device-and-lease a device alone proves nothing".into());
            }
            Proof::Confirmed { by } if by.len() > CONFIRMED_BY_MAX => {
                return Err(format!("who confirms has at most {CONFIRMED_BY_MAX} bytes"));
            }
            Proof::Fenced { .. } | Proof::Confirmed { .. } => Ended::Otherwise,
        };
        h.proved = Some(proof.clone());
        self.app.ended(at, host, incarnation, how);
        Ok(())
    }
}

fn changes_view<C>(entry: &Entry<C>) -> bool {
    matches!(
        entry,
        Entry::Term { .. }
            | Entry::Resign { .. }
            | Entry::Admit { .. }
            | Entry::Revoke { .. }
            | Entry::Restore { .. }
            | Entry::Proof { .. }
            | Entry::Away { .. }
    )
}

#[cfg(test)]
mod tests;
