//! What clients asked and has not been answered yet.

use crate::command::Command;
use crate::contract::Request;
use crate::guest::Wanted;
use crate::hold::{HoldKind, HoldReason, RELEASED, Released, ReleasedBy, Words};
use crate::machine::Guests;
use quorate_membership::entry::{Entry, Ground, LogEntry, Proof, ProposalId};
use quorate_membership::{Member, Outcome, Time, Token};
use std::collections::BTreeMap;
use std::time::Duration;

/// A client is told "unknown" after this many election timeouts.
const PATIENCE: u32 = 30;

/// The most bytes published in one entry; feeds and sessions are bounded by it.
const PUBLISHED: usize = 64 << 10;

#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    pending: BTreeMap<ProposalId, Pending>,
    answered: Vec<(u64, Result<String, String>)>,
}

#[derive(Clone, Debug)]
struct Pending {
    client: u64,
    entry: LogEntry<Command>,
    done: String,
    next: Time,
    until: Time,
}

impl Requests {
    /// Puts a request into the log, or refuses it at once.
    ///
    /// # Errors
    /// Why it is refused; nothing was changed.
    pub(crate) fn take(
        &mut self,
        now: Time,
        member: &mut Member<Guests>,
        client: u64,
        request: Request,
    ) -> Result<(), String> {
        let (body, done) = translate(now, member, request)?;
        let Some(body) = body else {
            self.answered.push((client, Ok(done)));
            return Ok(());
        };
        let t = member.cluster().timing.election;
        let id = member.propose(now, body.clone());
        let entry = LogEntry { id, body };
        let pending = Pending {
            client,
            entry,
            done,
            next: now + t * 2,
            until: now + t * PATIENCE,
        };
        self.pending.insert(id, pending);
        Ok(())
    }

    /// An entry was applied: whoever asked for it is answered.
    pub(crate) fn applied(&mut self, entry: &LogEntry<Command>, token: Token, outcome: &Outcome) {
        let Some(pending) = self.pending.remove(&entry.id) else {
            return;
        };
        let result = match outcome {
            Outcome::Applied => Ok(format!("{} (token {token})", pending.done)),
            Outcome::Void(why) => Err(why.clone()),
            // The first copy was among entries skipped by a state handed over: it was decided, but
            // whether it held there is not known here, and must not be claimed.
            Outcome::Repeat => Err("decided, but not seen here whether it held: look before \
                                    asking again"
                .into()),
        };
        self.answered.push((pending.client, result));
    }

    /// Proposes again what was not applied yet, under its old name; gives up after a while.
    pub(crate) fn retry(&mut self, now: Time, member: &mut Member<Guests>) {
        let again = member.cluster().timing.election * 2;
        let mut late = Vec::new();
        for (id, p) in &mut self.pending {
            if now >= p.until {
                late.push(*id);
            } else if now >= p.next {
                p.next = now + again;
                member.repropose(now, p.entry.clone());
            }
        }
        for id in late {
            if let Some(p) = self.pending.remove(&id) {
                let why = if member.quorate(now) {
                    "no decision in time: the change may or may not still happen".to_owned()
                } else {
                    "no quorum of voters is reached: nothing can be changed now".to_owned()
                };
                self.answered.push((p.client, Err(why)));
            }
        }
    }

    pub(crate) fn answered(&mut self) -> Vec<(u64, Result<String, String>)> {
        std::mem::take(&mut self.answered)
    }

    pub(crate) fn deadline(&self) -> Time {
        self.pending
            .values()
            .map(|p| p.next.min(p.until))
            .min()
            .unwrap_or(Time::NEVER)
    }
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
