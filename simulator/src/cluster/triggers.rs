//! Triggers: what is done when something happens, however late or early that is.
//!
//! Most failures of several steps need them in one order only (Alquraan et al., OSDI 2018); a fixed
//! time hits that order by luck, a condition by design.

use super::action::Action;
use super::{Event, Sim, SimNode};
use quorate_membership::entry::Entry;
use quorate_membership::{NodeId, Token};
use quorate_recovery::command::Command;
use quorate_recovery::guest::GuestId;

/// Something that happens in truth or in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// A term of a node that did not have the last one is decided.
    CoordinatorChanges,
    /// Any term is decided.
    TermBegins,
    /// A verdict on a host is decided.
    Verdict,
    /// A proof that a host is ended is decided.
    Proof,
    /// A guest is placed on a host.
    Placed,
    /// A daemon launches a fence attempt at a host.
    FenceAttempt,
    /// A device cuts a host.
    FenceCuts,
    /// A host loses its power, for whatever reason.
    PowerLost,
    /// A daemon starts.
    DaemonStarts,
    /// A guest can write from now on.
    GuestStarts,
    /// A guest can write no more.
    GuestStops,
    /// A guardian finds the lease over and begins to end guests.
    LeaseExpires,
}

/// One action and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// What it waits for.
    pub when: When,
    /// Only about this host, if one is named.
    pub host: Option<usize>,
    /// Only about this guest, if one is named.
    pub guest: Option<usize>,
    /// It counts from this true time on.
    pub after: u64,
    /// And up to this one.
    pub before: u64,
    /// The first occurrence that counts, from 1.
    pub nth: u32,
    /// How often it is done, once for each occurrence.
    pub times: u32,
    /// Nanoseconds from the occurrence to the action.
    pub delay: u64,
    /// What is done. [`Who::That`](super::action::Who::That) is the host it happened to.
    pub action: Action,
}

/// How far a trigger has come.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    seen: u32,
    done: u32,
}

/// What has happened so far, as far as a trigger or an expectation asks.
#[derive(Debug)]
pub(super) struct Watch {
    progress: Vec<Progress>,
    /// The host that the condition of the trigger under way was about.
    pub(super) that: usize,
    /// True times at which somebody else became coordinator, and at which terms began.
    pub(super) changes: Vec<u64>,
    pub(super) terms: Vec<u64>,
    /// The host of the newest term.
    term_of: Option<usize>,
}

impl Watch {
    pub(super) fn new(triggers: usize) -> Watch {
        Watch {
            progress: vec![Progress::default(); triggers],
            that: 0,
            changes: Vec::new(),
            terms: Vec::new(),
            term_of: None,
        }
    }
}

impl<N: SimNode> Sim<N> {
    /// Something happened: triggers that wait for it go off. Their actions come after everything
    /// that belongs to this instant.
    pub(super) fn notice(&mut self, when: When, host: Option<usize>, guest: Option<GuestId>) {
        let now = self.world.now();
        if self.watch.progress.is_empty() {
            return;
        }
        let guest = guest.and_then(|g| self.index_of(g));
        for number in 0..self.watch.progress.len() {
            let t = &self.plan.triggers[number];
            if t.when != when
                || !(t.after..=t.before).contains(&now)
                || t.host.is_some_and(|h| Some(h) != host)
                || t.guest.is_some_and(|g| Some(g) != guest)
            {
                continue;
            }
            let progress = &mut self.watch.progress[number];
            progress.seen += 1;
            if progress.seen >= t.nth && progress.done < t.times {
                progress.done += 1;
                let that = host.unwrap_or(0);
                self.world.after(t.delay, Event::Trigger { number, that });
            }
        }
    }

    /// Triggers that have gone off at least once.
    pub(super) fn triggered(&self) -> u64 {
        let progress = self.watch.progress.iter();
        progress.filter(|p| p.done > 0).count() as u64
    }

    pub(super) fn trigger(&mut self, number: usize, that: usize) {
        let action = self.plan.triggers[number].action.clone();
        self.watch.that = that;
        let faults = self.plan.timeline.len();
        self.perform(faults + number, &action);
    }

    /// Triggers that wait for what a valid entry says go off.
    pub(super) fn decided(&mut self, token: Token) {
        let host = |node: NodeId| node.0 as usize - 1;
        match &self.audit.log[token.index() as usize - 1].body {
            Entry::Term { node, .. } => {
                let node = host(*node);
                self.term_begins(node);
            }
            Entry::Revoke { hosts } => {
                let lost: Vec<usize> = hosts.iter().map(|(node, ..)| host(*node)).collect();
                for at in lost {
                    self.notice(When::Verdict, Some(at), None);
                }
            }
            Entry::Proof { host: node, .. } => {
                let at = host(*node);
                self.notice(When::Proof, Some(at), None);
            }
            Entry::App(Command::Placed {
                guest, host: node, ..
            }) => {
                let (guest, at) = (*guest, host(*node));
                self.notice(When::Placed, Some(at), Some(guest));
            }
            _ => {}
        }
    }

    /// A term was decided.
    fn term_begins(&mut self, host: usize) {
        let now = self.world.now();
        self.watch.terms.push(now);
        self.notice(When::TermBegins, Some(host), None);
        if self.watch.term_of.replace(host) != Some(host) {
            self.watch.changes.push(now);
            self.notice(When::CoordinatorChanges, Some(host), None);
        }
    }
}
