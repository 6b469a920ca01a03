//! Voters whose applied state is altered on their disks or in memory, and what the checkers are told of them.

use super::guests::ns;
use super::host::Host;
use super::picture::mark;
use super::{Event, Sim, SimNode, nodes};
use crate::check::s17::Order;
use crate::world::{MS, SECOND};
use quorate_membership::entry::Entry;
use quorate_membership::{State, Token, codec};
use quorate_recovery::Guests;
use quorate_recovery::command::Command;
use quorate_recovery::contract::NodeWrite;
use quorate_recovery::machine::{Blame, Closed};

/// What was done to the state on a host's disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Altered {
    /// It was altered at least once in this run.
    ever: bool,
    /// What its present life started with; nothing while it started before anything was altered.
    started: Option<Box<State<Guests>>>,
    /// Whether that is not what the log makes; known as soon as the log is known so far.
    wrong: Option<bool>,
    /// How often what its present life made was altered, at its start or in memory.
    times: u32,
    /// Until then nobody can know of what was altered in memory.
    unknown_until: u64,
}

/// The state that a store holds: its snapshot, and what is decided behind it.
fn held(host: &Host) -> Option<State<Guests>> {
    let image = &host.image;
    let mut state = match &image.snapshot {
        Some((_, bytes)) => codec::decode(codec::Kind::State, bytes).ok()?,
        None => State::new(&image.founding),
    };
    let end = image.decided.min(image.trimmed + image.log.len() as u64);
    while state.cluster.applied < end {
        let at = state.cluster.applied.checked_sub(image.trimmed)?;
        state.apply(&image.log[at as usize]);
    }
    Some(state)
}

/// Where renewals of the coordinator's lease say that states are compared: one in so many.
const COMPARED: u32 = 16;

impl<N: SimNode> Sim<N> {
    /// A voter's daemon ends, and starts again from a state that is not what its log makes: a guest
    /// that runs elsewhere counts as ended there, or a number differs.
    pub(super) fn alter(&mut self, host: usize) {
        let now = self.world.now();
        if !self.hosts[host].on || host >= self.plan.voters {
            return;
        }
        let up = self.world.is_up(host);
        self.crash(host);
        let Some(mut state) = held(&self.hosts[host]) else {
            return;
        };
        let me = nodes::id(host);
        let at = Token::new(state.cluster.epoch, state.cluster.applied);
        // No two alterations make the same state.
        state.cluster.view += now / MS * 16 + host as u64;
        let elsewhere = state.app.guests.values_mut();
        let mut elsewhere = elsewhere.filter(|r| r.open() && r.host.is_some_and(|h| h != me));
        if let Some(record) = elsewhere.next() {
            record.closed = Some(Closed {
                at,
                drained: true,
                blame: Blame::Nobody,
                why: "altered".into(),
            });
        }
        let Ok(bytes) = codec::encode(codec::Kind::State, &state) else {
            return;
        };
        mark!(
            self,
            host,
            Truth,
            "its state is altered after {} entries",
            at.index()
        );
        let h = &mut self.hosts[host];
        h.image.snapshot = Some((state.cluster.applied, bytes));
        h.altered.ever = true;
        let boot = h.boot;
        if up {
            let delay = SECOND / 4;
            self.world.after(delay, Event::DaemonStart { host, boot });
        }
    }

    /// A number of what a running voter made of the log is altered in its memory. Guests stay as they are: a
    /// coordinator could give one away before states are compared again, and no rule bars that.
    pub(super) fn alter_in_memory(&mut self, host: usize) {
        let now = self.world.now();
        let Some(node) = self.nodes[host]
            .as_mut()
            .filter(|_| host < self.plan.voters)
        else {
            return;
        };
        node.alter(now / MS * 16 + host as u64);
        let after = node.applied();
        mark!(
            self,
            host,
            Truth,
            "its state is altered in memory after {after} entries"
        );
        let until = now + self.compared_within();
        let altered = &mut self.hosts[host].altered;
        altered.ever = true;
        altered.times += 1;
        altered.unknown_until = until;
        self.count_states();
    }

    /// A daemon starts: what it starts with is compared with the log.
    pub(super) fn note_state(&mut self, host: usize) {
        if !self.hosts[host].altered.ever {
            return;
        }
        let started = held(&self.hosts[host]).map(Box::new);
        let altered = &mut self.hosts[host].altered;
        (altered.started, altered.wrong, altered.times) = (started, None, 1);
        altered.unknown_until = 0;
        self.count_states();
    }

    /// What the log makes of so many entries, if they are known.
    fn truth(&self, host: usize, applied: u64) -> Option<State<Guests>> {
        let log = self.audit.log.get(..applied as usize)?;
        let mut state = State::new(&self.hosts[host].image.founding);
        log.iter().for_each(|entry| drop(state.apply(entry)));
        Some(state)
    }

    /// Whether the present life of a host's daemon started with an altered state.
    pub(super) fn altered(&mut self, host: usize) -> bool {
        let altered = &self.hosts[host].altered;
        let (known, Some(started)) = (altered.wrong, &altered.started) else {
            return false;
        };
        if let Some(wrong) = known {
            return wrong;
        }
        let truth = self.truth(host, started.cluster.applied);
        let wrong = truth.map(|truth| truth != **started);
        self.hosts[host].altered.wrong = wrong;
        wrong.unwrap_or(false)
    }

    /// Says whether a voter takes no part in the log because of its state: it has a wrong one, or had one for the
    /// second time in its life.
    pub(super) fn out_of_the_log(&mut self, host: usize) -> bool {
        let times = self.hosts[host].altered.times;
        if (self.altered(host) || times > 0) && self.differs(host) {
            return true;
        }
        let left = self.nodes[host].as_ref().is_some_and(SimNode::left_log);
        left && times > 1
    }

    /// Says whether what a host's node makes of the log now is not known to be what the log makes.
    pub(super) fn differs(&self, host: usize) -> bool {
        let Some(node) = self.nodes[host]
            .as_ref()
            .filter(|_| self.hosts[host].altered.ever)
        else {
            return false;
        };
        let truth = self.truth(host, node.applied());
        truth.is_none_or(|truth| !node.made(&truth))
    }

    /// Says whether what a host's node makes of the log now is known to be wrong.
    fn wrong(&self, host: usize) -> bool {
        let node = self.nodes[host].as_ref();
        node.is_some_and(|node| {
            let truth = self.truth(host, node.applied());
            truth.is_some_and(|truth| !node.made(&truth))
        })
    }

    /// Time in which states are compared again, and who hears of it stops.
    fn compared_within(&self) -> u64 {
        let t = &self.plan.timing;
        let renewal = t.coordinator_lease / 4 + t.election / 5;
        let patience = renewal * COMPARED + t.heartbeat * 2 + t.jitter + t.election * 4;
        ns(patience) + SECOND
    }

    /// Whether the present life of a host's daemon may not order by what it makes of the log, if that is wrong.
    fn may_not_order(&self, host: usize) -> bool {
        let altered = &self.hosts[host].altered;
        altered.times > 0 && self.world.now() >= altered.unknown_until
    }

    /// Counts the voters with the true state again.
    pub(super) fn count_states(&mut self) {
        let now = self.world.now();
        if !(0..self.plan.voters).any(|v| self.hosts[v].altered.ever) {
            return;
        }
        let good = (0..self.plan.voters).filter(|v| !self.differs(*v)).count();
        self.s17.counted(now, (good, self.plan.voters / 2 + 1));
    }

    /// Writes are on their way to a disk: proposals of orders are noted when they are first seen.
    pub(super) fn note_orders(&mut self, writes: &[NodeWrite]) {
        if !self.s17.watches() {
            return;
        }
        let now = self.world.now();
        for write in writes {
            let NodeWrite::Member(quorate_membership::store::Write::Append { entries, .. }) = write
            else {
                continue;
            };
            for entry in entries.iter().filter(|e| order(&e.body).is_some()) {
                let host = entry.id.node.0 as usize - 1;
                let present = self.hosts[host].image.incarnation == entry.id.incarnation;
                // A life may take over a right state; what it says then is right.
                let altered = present && self.may_not_order(host);
                let mut s17 = std::mem::take(&mut self.s17);
                s17.proposed(now, entry.id, || altered && self.wrong(host));
                self.s17 = s17;
            }
        }
    }

    /// An entry was decided that may be an order.
    pub(super) fn note_order(&mut self, token: Token) {
        if !self.s17.watches() {
            return;
        }
        let entry = &self.audit.log[token.index() as usize - 1];
        let (id, Some(what)) = (entry.id, order(&entry.body)) else {
            return;
        };
        let altered = self.s17.wrong(&id) || {
            // Nobody may have known what the log makes when it was proposed.
            let host = id.node.0 as usize - 1;
            let present = self.hosts[host].image.incarnation == id.incarnation;
            present && self.may_not_order(host) && self.wrong(host)
        };
        self.count_states();
        let order = Order {
            token,
            id,
            what,
            altered,
        };
        let judged = self
            .s17
            .ordered(self.world.now(), &order, self.compared_within());
        self.hold(judged);
    }
}

/// What an entry is called, if it gives a guest away or frees one of a host.
fn order(body: &Entry<Command>) -> Option<&'static str> {
    match body {
        Entry::App(Command::Placed { .. }) => Some("a placement"),
        Entry::Proof { .. } => Some("a proof"),
        Entry::Attempt { .. } => Some("a fence attempt"),
        _ => None,
    }
}
