//! What clients asked and has not been answered yet.
//!
//! An answer never says more than was seen: a change that was proposed and not seen decided is
//! unknown, one that was not proposed is certainly not made.

use crate::command::Command;
use crate::contract::{NotProposed, Reply, Request};
use crate::guest::Wanted;
use crate::hold::{HoldKind, HoldReason, RELEASED, Released, ReleasedBy, Words};
use crate::machine::Guests;
use crate::mutants::planted;
use crate::planner::DISAGREE;
use quorate_membership::cluster::PROPOSALS_REMEMBERED;
use quorate_membership::entry::{CONFIRMED_BY_MAX, Entry, Ground, LogEntry, Proof, ProposalId};
use quorate_membership::{Member, Outcome, Time, Token};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// A client is answered after this many election timeouts at the latest.
const PATIENCE: u32 = 30;

/// The most bytes published in one entry; feeds and sessions are bounded by it.
pub const PUBLISHED: usize = 64 << 10;

/// Numbers of this node's proposals that may lie between its oldest request without an answer and
/// its newest. The log remembers [`PROPOSALS_REMEMBERED`] numbers of each node: a lost proposal that
/// fell out of that would be taken for a repeat when it comes again, and never be applied. The rest
/// of the window is left to what the node itself proposes meanwhile.
const IN_FLIGHT: u64 = PROPOSALS_REMEMBERED as u64 / 2;

/// Requests that may wait to be proposed.
const WAITING: usize = 4096;

/// What clients asked and has no answer yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    /// Not proposed yet, in order of arrival: no quorum is reached, or too many are in flight.
    waiting: VecDeque<Asked>,
    /// Proposed.
    pending: BTreeMap<ProposalId, Pending>,
    /// When each proposed one is looked at again: once in here, and no more.
    due: BTreeSet<(Time, ProposalId)>,
    answered: Vec<(u64, Reply)>,
}

#[derive(Clone, Debug)]
struct Asked {
    client: u64,
    body: Entry<Command>,
    done: String,
    until: Time,
}

#[derive(Clone, Debug)]
struct Pending {
    asked: Asked,
    due: Time,
}

impl Requests {
    /// Takes a request, and puts it into the log now or when that is possible; what cannot be is
    /// refused.
    pub(crate) fn take(
        &mut self,
        now: Time,
        member: &mut Member<Guests>,
        client: u64,
        request: Request,
    ) {
        let reply = match translate(now, member, request) {
            Ok((Some(body), done)) if self.waiting.len() < WAITING => {
                let until = now + patience(member.cluster().timing.election);
                self.waiting.push_back(Asked {
                    client,
                    body,
                    done,
                    until,
                });
                return self.propose(now, member);
            }
            Ok((Some(_), _)) => Reply::NotProposed(NotProposed::Crowded),
            Ok((None, text)) => Reply::Done {
                token: Token::NONE,
                text,
            },
            Err(why) => Reply::Refused(why),
        };
        self.answered.push((client, reply));
    }

    /// Proposes what waits, as far as it may.
    fn propose(&mut self, now: Time, member: &mut Member<Guests>) {
        while !self.waiting.is_empty() && self.room(member) && reached(now, member) {
            let Some(asked) = self.waiting.pop_front() else {
                return;
            };
            let id = member.propose(now, asked.body.clone());
            let due = (now + member.cluster().timing.election * 2).min(asked.until);
            self.due.insert((due, id));
            self.pending.insert(id, Pending { asked, due });
        }
    }

    fn room(&self, member: &Member<Guests>) -> bool {
        let newest = member.last_proposal();
        let oldest = self.pending.first_key_value();
        oldest.is_none_or(|(id, _)| newest - id.sequence < IN_FLIGHT)
            || planted("repeat-called-done")
    }

    /// An entry was applied: whoever asked for it is answered.
    pub(crate) fn applied(&mut self, entry: &LogEntry<Command>, token: Token, outcome: &Outcome) {
        let Some(pending) = self.pending.remove(&entry.id) else {
            return;
        };
        self.due.remove(&(pending.due, entry.id));
        let reply = match outcome {
            Outcome::Applied => Reply::Done {
                token,
                text: format!("{} (token {token})", pending.asked.done),
            },
            Outcome::Void(why) => Reply::Refused(why.clone()),
            // Its first copy was among entries that were skipped by a state handed over; whether
            // that held, or whether this one was lost and came too late, is not known here.
            Outcome::Repeat if planted("repeat-called-done") => Reply::Done {
                token,
                text: pending.asked.done,
            },
            Outcome::Repeat => Reply::Unknown,
        };
        self.answered.push((pending.asked.client, reply));
    }

    /// Proposes again, under its old name, what was not applied yet; then what has waited. Gives up
    /// what took too long.
    pub(crate) fn retry(&mut self, now: Time, member: &mut Member<Guests>) {
        let again = member.cluster().timing.election * 2;
        while let Some((at, id)) = self.due.first().copied()
            && now >= at
        {
            self.due.pop_first();
            let Some(p) = self.pending.get_mut(&id) else {
                continue;
            };
            if now < p.asked.until {
                p.due = (now + again).min(p.asked.until);
                self.due.insert((p.due, id));
                let body = p.asked.body.clone();
                member.repropose(now, LogEntry { id, body });
            } else if let Some(p) = self.pending.remove(&id) {
                let reply = if planted("unknown-told-as-unchanged") {
                    Reply::NotProposed(NotProposed::NoQuorum)
                } else {
                    Reply::Unknown
                };
                self.answered.push((p.asked.client, reply));
            }
        }
        self.propose(now, member);
        while self.waiting.front().is_some_and(|a| now >= a.until)
            && let Some(asked) = self.waiting.pop_front()
        {
            let why = if reached(now, member) {
                NotProposed::Behind
            } else {
                NotProposed::NoQuorum
            };
            self.answered.push((asked.client, Reply::NotProposed(why)));
        }
    }

    pub(crate) fn answered(&mut self) -> Vec<(u64, Reply)> {
        std::mem::take(&mut self.answered)
    }

    pub(crate) fn deadline(&self) -> Time {
        let due = self.due.first().map_or(Time::NEVER, |(at, _)| *at);
        let waiting = self.waiting.front().map_or(Time::NEVER, |a| a.until);
        due.min(waiting)
    }
}

/// Whether a quorum of voters is reached: heard, or, through one that relays, still renewing the
/// lease of this node.
fn reached(now: Time, member: &Member<Guests>) -> bool {
    member.quorate(now) || member.lease_end().is_some_and(|end| now < end)
}

/// The log entry a request asks for (none if nothing needs deciding), and the words for success.
fn translate(now: Time, member: &Member<Guests>, request: Request) -> Result<Translated, String> {
    let guest = |name: &str| {
        member
            .app()
            .named(name)
            .map(|(id, _)| id)
            .ok_or(format!("no guest is named {name:?}"))
    };
    let host = |name: &str| {
        let c = member.cluster();
        let node = c.named(name).ok_or(format!("no host is named {name:?}"))?;
        Ok::<_, String>((node, c.hosts[&node].clone()))
    };
    Ok(match request {
        Request::AddGuest(spec) => {
            spec.check()?;
            let done = format!("guest {:?} is protected", spec.name);
            (Some(Entry::App(Command::AddGuest(Box::new(spec)))), done)
        }
        Request::RemoveGuest { name } => {
            let remove = Command::RemoveGuest {
                guest: guest(&name)?,
            };
            (
                Some(Entry::App(remove)),
                format!("guest {name:?} is forgotten"),
            )
        }
        Request::AdoptGuest { name, xml } => {
            let (id, r) = member
                .app()
                .named(&name)
                .ok_or(format!("no guest is named {name:?}"))?;
            let adopt = Command::Adopt {
                guest: id,
                epoch: r.epoch,
                xml,
            };
            let done = format!("guest {name:?} is from now on as this description says");
            (Some(Entry::App(adopt)), done)
        }
        Request::StartGuest { name } => {
            let wanted = Wanted::Running;
            let set = Command::SetWanted {
                guest: guest(&name)?,
                wanted,
            };
            (Some(Entry::App(set)), format!("guest {name:?} will run"))
        }
        Request::StopGuest { name } => {
            let wanted = Wanted::Stopped;
            let set = Command::SetWanted {
                guest: guest(&name)?,
                wanted,
            };
            (Some(Entry::App(set)), format!("guest {name:?} will stop"))
        }
        Request::HoldGuest { name, by, why } => hold(member, &name, &by, &why)?,
        Request::ReleaseGuests { names, all_of, by } => release(member, &names, all_of, &by)?,
        Request::FenceHost { host: name } => {
            let (node, h) = host(&name)?;
            if h.revoke.is_some() || h.proved.is_some() {
                return Err(format!("host {name:?} is judged already"));
            }
            let hosts = vec![(node, h.incarnation, Ground::Ordered)];
            (
                Some(Entry::Revoke { hosts }),
                format!("host {name:?} is being fenced"),
            )
        }
        Request::ConfirmOff {
            host: name,
            by,
            lives,
        } => {
            let (node, h) = host(&name)?;
            if by.len() > CONFIRMED_BY_MAX {
                return Err(format!(
                    "who confirms has {} bytes; at most {CONFIRMED_BY_MAX} are kept",
                    by.len()
                ));
            }
            let heard = member.heard(now, node).map(|(heard, _)| heard.incarnation);
            let later = heard.filter(|life| life.counter > h.incarnation.counter);
            let named = later.map(|life| (h.incarnation.counter, life.counter));
            if lives != named {
                return Err(match named {
                    Some((over, later)) => format!(
                        "host {name:?} is heard as incarnation {later}, and its guests belong to \
                         incarnation {over}: confirm with --lives {over},{later} if you have seen that \
                         the machine of incarnation {over} is off or was that very machine before it \
                         booted"
                    ),
                    None => {
                        format!("host {name:?} is heard in no later incarnation: leave out --lives")
                    }
                });
            }
            let revoke = h.open_revoke().ok_or(format!(
                "host {name:?} is not lost: confirm only what the cluster waits for (see host fence)"
            ))?;
            let silent = member.silent(now, node);
            if silent < member.cluster().timing.silence() {
                return Err(format!(
                    "host {name:?} was heard {:.1} s ago: it is not off",
                    silent.as_secs_f64()
                ));
            }
            if !member.states_agree() {
                return Err(format!(
                    "{DISAGREE} here: nothing is proved on such a state; try again, on a voter"
                ));
            }
            if member.answered(node, revoke) < member.cluster().quorum() {
                return Err(format!(
                    "a quorum of voters has not answered the revoke of {name:?} here yet; \
                     try again, on a voter"
                ));
            }
            let (incarnation, proof) = (h.incarnation, Proof::Confirmed { by });
            let entry = Entry::Proof {
                host: node,
                incarnation,
                revoke,
                proof,
            };
            (Some(entry), format!("host {name:?} is confirmed off"))
        }
        Request::Leave(why) => (None, format!("going out of service: {why:?}")),
        Request::Publish { bytes } => {
            if bytes.len() > PUBLISHED {
                return Err(format!(
                    "{} bytes; at most {PUBLISHED} can be published at once",
                    bytes.len()
                ));
            }
            (
                Some(Entry::App(Command::Publish(bytes))),
                "published".into(),
            )
        }
    })
}

type Translated = (Option<Entry<Command>>, String);

fn hold(member: &Member<Guests>, name: &str, by: &str, why: &str) -> Result<Translated, String> {
    let (guest, r) = member
        .app()
        .named(name)
        .ok_or(format!("no guest is named {name:?}"))?;
    let reason = HoldReason::Operator {
        by: Words::new(by),
        why: Words::new(why),
    };
    let hold = Command::Hold {
        guest,
        epoch: r.epoch,
        reason,
    };
    Ok((
        Some(Entry::App(hold)),
        format!("guest {name:?} is held: it is started nowhere until it is released"),
    ))
}

/// The holds as this node knows them now: one that comes meanwhile is not released.
fn release(
    member: &Member<Guests>,
    names: &[String],
    all_of: Option<HoldKind>,
    by: &str,
) -> Result<Translated, String> {
    if names.is_empty() && all_of.is_none() {
        return Err("name the guests to release, or the kind of hold".into());
    }
    for name in names {
        let (_, r) = member
            .app()
            .named(name)
            .ok_or(format!("no guest is named {name:?}"))?;
        if r.held().is_none() {
            return Err(format!("guest {name:?} is not held"));
        }
    }
    let guests = member.app().guests.iter();
    let chosen = guests.filter(|(_, r)| names.is_empty() || names.contains(&r.spec.name));
    let mut holds: Vec<Released> = chosen
        .flat_map(|(guest, r)| r.holds.iter().map(move |h| (*guest, h)))
        .filter(|(_, h)| all_of.is_none_or(|kind| kind == h.reason.kind()))
        .map(|(guest, h)| Released {
            guest,
            epoch: h.epoch,
            hold: h.at,
        })
        .collect();
    let found = holds.len();
    holds.truncate(RELEASED);
    let words = match (found, holds.len()) {
        (0, _) => return Err("no guest is held for that".into()),
        (1, _) => "1 hold is released".to_owned(),
        (n, now) if now < n => format!("{now} of {n} holds are released: ask again for the rest"),
        (n, _) => format!("{n} holds are released"),
    };
    let by = ReleasedBy::Person(Words::new(by));
    Ok((Some(Entry::App(Command::Release { holds, by })), words))
}

/// How long a client may have to wait for an answer.
#[must_use]
pub fn patience(election: Duration) -> Duration {
    election * PATIENCE
}
