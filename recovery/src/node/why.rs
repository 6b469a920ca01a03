//! Why a guest is where it is: what the log decided about it and its hosts, and what this node saw.

use super::Node;
use crate::command::Command;
use crate::contract::{Event, EventKind};
use crate::guest::GuestId;
use crate::machine::Guests;
use quorate_membership::entry::Entry;
use quorate_membership::{NodeId, Time, Token};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Steps kept of one guest; older ones are in the logs of the daemon.
const STEPS: usize = 32;

/// The chain that ends in where a guest is now.
#[derive(Clone, Debug, Serialize)]
pub struct Why {
    /// The guest's name.
    pub guest: String,
    /// As `guests` shows it.
    pub state: &'static str,
    /// Where it belongs.
    pub host: Option<String>,
    /// Why it is where it is, if that needs words.
    pub reason: Option<String>,
    /// What led there, oldest first.
    pub steps: Vec<WhyStep>,
}

/// One step of the chain.
#[derive(Clone, Debug, Serialize)]
pub struct WhyStep {
    /// Seconds ago by this node's clock; absent for what it learnt from its log at its start.
    pub ago: Option<f64>,
    /// Token of the log entry; absent for what only this node saw.
    pub token: Option<String>,
    /// What kind of step.
    pub kind: EventKind,
    /// The host it is about.
    pub host: Option<String>,
    /// In words.
    pub text: String,
}

#[derive(Debug)]
struct Step {
    at: Option<Time>,
    event: Event,
}

/// What is remembered of every guest. A step about a host is kept once, whatever it holds.
#[derive(Debug, Default)]
pub(super) struct Stories {
    guests: BTreeMap<GuestId, VecDeque<Arc<Step>>>,
}

impl Stories {
    fn add(&mut self, guest: GuestId, step: &Arc<Step>) {
        let story = self.guests.entry(guest).or_default();
        if story.len() == STEPS {
            story.pop_front();
        }
        story.push_back(Arc::clone(step));
    }
}

/// The hosts an entry says something about that may end or move guests.
fn hosts_of(entry: &Entry<Command>) -> Vec<NodeId> {
    match entry {
        Entry::Revoke { hosts } => hosts.iter().map(|(h, ..)| *h).collect(),
        Entry::Restore { host, .. }
        | Entry::Proof { host, .. }
        | Entry::Attempt { host, .. }
        | Entry::AttemptEnded { host, .. } => vec![*host],
        Entry::Away { node, .. } => vec![*node],
        _ => Vec::new(),
    }
}

fn guests_of(at: Token, command: &Command) -> Vec<GuestId> {
    match command {
        Command::AddGuest(_) => vec![GuestId(at.0)],
        Command::SetWanted { guest, .. }
        | Command::Placed { guest, .. }
        | Command::Closed { guest, .. }
        | Command::Hold { guest, .. }
        | Command::Follow { guest, .. }
        | Command::Reads { guest, .. }
        | Command::Scratch { guest, .. }
        | Command::Adopt { guest, .. } => vec![*guest],
        Command::Release { holds, .. } => {
            let mut guests: Vec<GuestId> = holds.iter().map(|r| r.guest).collect();
            guests.dedup();
            guests
        }
        Command::RemoveGuest { .. }
        | Command::SetFencing { .. }
        | Command::Tried { .. }
        | Command::Publish(_)
        | Command::Locked { .. } => Vec::new(),
    }
}

/// Guests that `host` holds, or held until the entry at `at`.
fn held(guests: &Guests, host: NodeId, at: Token) -> Vec<GuestId> {
    let held = guests.guests.iter().filter(|(_, r)| {
        r.host == Some(host) && r.closed.as_ref().is_none_or(|closed| closed.at >= at)
    });
    held.map(|(g, _)| *g).collect()
}

impl Node {
    /// Remembers an applied entry. `at`: when, if it was not read back after a start.
    pub(super) fn remember(&mut self, at: Option<Time>, token: Token, entry: &Entry<Command>) {
        if let Entry::App(Command::RemoveGuest { guest }) = entry {
            self.stories.guests.remove(guest);
            return;
        }
        let app = self.member.app();
        let mut about: Vec<GuestId> = match entry {
            Entry::App(command) => guests_of(token, command),
            _ => Vec::new(),
        };
        for host in hosts_of(entry) {
            about.extend(held(app, host, token));
        }
        if about.is_empty() {
            return;
        }
        let Some(event) = self.describe(token, entry) else {
            return;
        };
        let step = Arc::new(Step { at, event });
        about
            .iter()
            .for_each(|guest| self.stories.add(*guest, &step));
    }

    /// Remembers what only this node saw.
    pub(super) fn remember_seen(&mut self, now: Time, event: &Event) {
        let seen_here = matches!(event.kind, EventKind::Started | EventKind::Ended);
        if event.token != Token::NONE && !seen_here {
            return;
        }
        let app = self.member.app();
        let about = match (&event.guest, &event.host) {
            (Some(name), _) => app.named(name).map(|(g, _)| g).into_iter().collect(),
            (None, Some(host)) => {
                let hosts = &self.member.cluster().hosts;
                let known = hosts.iter().find(|(_, h)| h.profile.name == *host);
                known.map_or_else(Vec::new, |(n, _)| {
                    app.on(*n).map(|(guest, _)| guest).collect()
                })
            }
            (None, None) => Vec::new(),
        };
        let step = Arc::new(Step {
            at: Some(now),
            event: event.clone(),
        });
        for guest in about {
            // An applied entry was remembered already.
            let last = self.stories.guests.get(&guest).and_then(VecDeque::back);
            if last.is_none_or(|l| l.event != step.event) {
                self.stories.add(guest, &step);
            }
        }
    }

    /// Why the guest of that name is where it is, as far as this node knows.
    #[must_use]
    pub fn why(&self, now: Time, name: &str) -> Option<Why> {
        let (guest, _) = self.member.app().named(name)?;
        let row = self.guests(now).into_iter().find(|r| r.name == name)?;
        let story = self.stories.guests.get(&guest);
        let steps = story.into_iter().flatten().map(|step| WhyStep {
            ago: step.at.map(|at| now.since(at).as_secs_f64()),
            token: (step.event.token != Token::NONE).then(|| step.event.token.to_string()),
            kind: step.event.kind,
            host: step.event.host.clone(),
            text: step.event.text.clone(),
        });
        Some(Why {
            guest: row.name,
            state: row.state,
            host: row.host,
            reason: row.reason,
            steps: steps.collect(),
        })
    }
}
