//! What a record of our cluster says: words for messages, facts and events, marks and bands.

use super::host::Proc;
use super::{Event, Local, Sim, SimNode};
use crate::record::{Names, Sort};
use quorate_membership::entry::{Entry, LogEntry, ProposalId};
use quorate_membership::frame::{Datagram, Stream};
use quorate_membership::store::Write;
use quorate_membership::{NodeId, Token};
use quorate_recovery::command::Command;
use quorate_recovery::contract::{Fact, GuestAction, GuestOrder, NodeFrame, NodeStream, NodeWrite};

/// Marks something on the lane of a host, in words found only if a record is made.
macro_rules! mark {
    ($sim:expr, $host:expr, $sort:ident, $($arg:tt)*) => {
        if $sim.world.is_recording() {
            let text = format!($($arg)*);
            $sim.world.mark($host as u32, crate::record::Sort::$sort, &text);
        }
    };
}
pub(super) use mark;

/// Hosts are `h1` and so on; the last network leads to the fence devices.
pub(super) fn names(hosts: usize, networks: usize) -> Names {
    let mut names = Names::numbered("h", hosts, networks);
    names.networks.push("fence network".into());
    names
}

fn host(node: NodeId) -> String {
    format!("h{}", node.0)
}

pub(super) fn datagram(frame: &NodeFrame) -> String {
    match &frame.body {
        Datagram::Beat(beat) => format!("beat {}", beat.sequence),
        Datagram::Relayed { header, beat } => {
            format!("relayed beat {} of {}", beat.sequence, host(header.from))
        }
        Datagram::Ack(ack) => format!("ack of beat {} of {}", ack.sequence, host(ack.host)),
        Datagram::Observation(_) => "observation".into(),
        Datagram::Election { .. } => "election".into(),
        Datagram::Join(_) => "join".into(),
        Datagram::Bulletin(part) | Datagram::RelayedBulletin { part, .. } => {
            format!("bulletin, part {} of {}", part.part + 1, part.parts)
        }
    }
}

pub(super) fn stream(message: &NodeStream) -> String {
    match message {
        Stream::Log { message, .. } => {
            // The library's name of the message is all that people need.
            let all = format!("{message:?}");
            let name = all.split("msg: ").nth(1).unwrap_or_default();
            let end = name.find(|c: char| !c.is_alphanumeric());
            format!("log {}", &name[..end.unwrap_or(name.len())])
        }
        Stream::Propose(entries) => {
            let kinds: Vec<String> = entries.iter().map(|e| first_word(&e.body)).collect();
            format!("propose {}", kinds.join(", "))
        }
        Stream::Follow { from } => format!("follow from {}", from + 1),
        Stream::Whole => "asks for a right state".into(),
        Stream::Feed { from, entries, .. } => {
            format!("feed {} to {}", from + 1, from + entries.len() as u64)
        }
        Stream::Datagram(_) => "datagram by session".into(),
        Stream::State { applied, .. } => format!("state up to {applied}"),
        Stream::Statement(s) => match (s.asks, s.vouches) {
            (_, Some(life)) => format!("vouches for incarnation {life}, itself {:?}", s.standing),
            (true, None) => "asks to be vouched for".into(),
            (false, None) => "statement".into(),
        },
        Stream::Superseded { life } => format!("refused: incarnation {life} was admitted"),
        Stream::Cut { first, .. } => format!("cut before {}", first + 1),
        Stream::NoState => "has no state to give".into(),
        Stream::LeftLog => "has left the log".into(),
        Stream::Fetch { from } => format!("fetch from {}", from + 1),
        Stream::Fetched { from, entries, .. } => {
            format!("fetched {} to {}", from + 1, from + entries.len() as u64)
        }
    }
}

fn proposal(id: &ProposalId) -> String {
    let (node, incarnation, sequence) = (id.node.0, id.incarnation, id.sequence);
    format!("proposal h{node} {incarnation} {sequence}")
}

/// An entry of the log for people.
fn entry_words(entry: &Entry<Command>) -> String {
    match entry {
        Entry::Term { node, .. } => format!("Term of {}", host(*node)),
        Entry::Resign { term, .. } => format!("Resign term {term}"),
        Entry::Admit {
            node,
            incarnation,
            emptied,
            ..
        } => {
            let emptied = if *emptied { ", emptied" } else { "" };
            format!("Admit {} incarnation {incarnation}{emptied}", host(*node))
        }
        Entry::Armed {
            host: h,
            incarnation,
            number,
            armed,
            ..
        } => {
            let class = armed.class;
            format!(
                "Armed {} incarnation {incarnation} word {number}: {class:?}",
                host(*h)
            )
        }
        Entry::Rules { version } => format!("Rules {version}"),
        Entry::Unarmed {
            host: h,
            incarnation,
            number,
        } => format!(
            "Unarmed {} incarnation {incarnation} word {number}",
            host(*h)
        ),
        Entry::Revoke { hosts } => {
            let one = |(h, incarnation, ground): &(NodeId, _, _)| {
                let incarnation: &quorate_membership::Incarnation = incarnation;
                let ground: &quorate_membership::entry::Ground = ground;
                format!("{} incarnation {incarnation} ({ground:?})", host(*h))
            };
            let all: Vec<String> = hosts.iter().map(one).collect();
            format!("Revoke {}", all.join(", "))
        }
        Entry::Restore { host: h, revoke } => format!("Restore {}, revoke {revoke}", host(*h)),
        Entry::Proof {
            host: h,
            incarnation,
            revoke,
            proof,
        } => {
            let h = host(*h);
            format!("Proof {h} incarnation {incarnation}, revoke {revoke}: {proof:?}")
        }
        Entry::Attempt {
            host: h,
            incarnation,
            revoke,
            device,
            ..
        } => {
            let h = host(*h);
            format!("Attempt at {h} incarnation {incarnation}, revoke {revoke}, by {device}")
        }
        Entry::AttemptEnded {
            host: h,
            attempt,
            end,
        } => format!("AttemptEnded at {}, attempt {attempt}: {end:?}", host(*h)),
        Entry::App(command) => match command {
            Command::AddGuest(spec) => format!("AddGuest {}", spec.name),
            Command::RemoveGuest { guest } => format!("RemoveGuest {guest}"),
            Command::SetWanted { guest, wanted } => format!("SetWanted {guest}: {wanted:?}"),
            Command::Placed {
                guest,
                previous,
                host: h,
                incarnation,
            } => {
                let h = host(*h);
                format!("Placed {guest} on {h} incarnation {incarnation}, after epoch {previous}")
            }
            Command::Closed {
                guest,
                epoch,
                host: h,
                why,
                ..
            } => format!("Closed {guest} epoch {epoch} by {}: {why:?}", host(*h)),
            Command::Tried {
                host: h,
                device,
                on,
                ..
            } => {
                let said = if *on { "on" } else { "off" };
                format!("Tried: {device} of {} says {said}", host(*h))
            }
            Command::SetFencing { host: h, levels } => {
                format!("SetFencing of {}, {} levels", host(*h), levels.len())
            }
            other => format!("{other:?}"),
        },
        other => format!("{other:?}"),
    }
}

fn first_word(entry: &Entry<Command>) -> String {
    let all = match entry {
        Entry::App(command) => format!("{command:?}"),
        entry => format!("{entry:?}"),
    };
    let end = all.find(|c: char| !c.is_alphanumeric());
    all[..end.unwrap_or(all.len())].to_owned()
}

pub(super) fn local(local: &Local) -> String {
    match local {
        Local::Fact(fact) => match &**fact {
            Fact::Persisted { batch } => format!("learns that batch {batch} is durable"),
            Fact::StoreFailed { .. } => "learns that its store fails".into(),
            Fact::Guests { seen } => format!("sees {} guests", seen.len()),
            Fact::HypervisorBlind { .. } => "sees nothing: the hypervisor is silent".into(),
            Fact::GuestGone { guest, .. } => format!("sees that {guest} is gone"),
            Fact::GuestDone { order, result } => {
                let how = if result.is_ok() { "done" } else { "not done" };
                format!("order {order} is {how}")
            }
            Fact::FenceDone { attempt, end, .. } => format!("attempt {attempt} ended: {end:?}"),
            Fact::Request { request, .. } => {
                let all = format!("{request:?}");
                let end = all.find(|c: char| !c.is_alphanumeric());
                format!("is asked: {}", &all[..end.unwrap_or(all.len())])
            }
            Fact::Observed { guest, .. } => format!("looks at {guest}"),
            _ => "learns something of its machine".into(),
        },
        Local::Order(order) => format!("takes up: {}", OrderLine(order)),
        Local::Launch(launch) => format!("launches attempt {}", launch.attempt),
        Local::Try(launch) => format!("reads device {} of {}", launch.device.name, launch.name),
        Local::FenceWake(_) => "looks after a fence level".into(),
        Local::AgentEnded { .. } => "a fence agent has ended".into(),
        Local::Lease(_) => "tells its guardian the lease end".into(),
    }
}

pub(super) fn event(event: &Event) -> (Option<usize>, String) {
    let (host, text) = match event {
        Event::DaemonStart { host, .. } => (host, "its daemon is started"),
        Event::PowerOn { host, .. } => (host, "power comes back"),
        Event::Thaw { host, .. } => (host, "its freeze is over"),
        Event::Guardian { host, .. } => (host, "its guardian looks at the lease"),
        Event::Killed { host, .. } => (host, "the guardian's kill is done"),
        Event::Left { host, .. } => (host, "its guardian looks what is left"),
        Event::Reset { host, .. } => (host, "its guardian resets it"),
        Event::GoesOn { host, .. } => (host, "what hung comes back"),
        Event::FeedLook { host, .. } => (host, "the watchdog's feeder looks"),
        Event::Feed { host, .. } => (host, "feeds the watchdog"),
        Event::GuardianBack { host, .. } => (host, "its guardian is back"),
        Event::Watchdog { host, .. } => (host, "its watchdog's time is over"),
        Event::Poll { host } => (host, "polls the hypervisor"),
        Event::Look { host } => (host, "looks at its guests"),
        Event::Created { host, .. } => (host, "a creation ends"),
        Event::Act { host, order, .. } => {
            return (Some(*host), format!("carries out: {}", OrderLine(order)));
        }
        Event::Ended { host, guest, .. } => return (Some(*host), format!("{guest} has ended")),
        Event::FenceAct { host, .. } => (host, "its fence device acts"),
        Event::Clients => return (None, "clients ask".into()),
        Event::Action(_) => return (None, "the next action of the plan".into()),
        Event::Expect(_) => return (None, "an expectation is judged".into()),
        _ => return (None, String::new()),
    };
    (Some(*host), text.to_owned())
}

/// A guest order in one line.
pub(super) struct OrderLine<'a>(pub(super) &'a GuestOrder);

impl std::fmt::Display for OrderLine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let o = self.0;
        let verb = match o.action {
            GuestAction::Create(_) => "create",
            GuestAction::Continue => "continue",
            GuestAction::Pause => "pause",
            GuestAction::End => "end",
            GuestAction::Reset => "reset",
            GuestAction::Capture { .. } => "capture",
            GuestAction::Probe(_) => "probe",
            GuestAction::ReadLocks(_) => "read locks of",
            GuestAction::WriteLocks(_) => "write locks of",
        };
        let (guest, epoch, order) = (o.guest, o.epoch, o.order);
        write!(f, "{verb} {guest} epoch {epoch} (order {order})")
    }
}

impl<N: SimNode> Sim<N> {
    /// The lane of a guest on a host.
    fn guest_lane(&mut self, host: usize, p: &Proc) -> u32 {
        let name = self.audit.guests.get(&p.guest);
        let name = name.map_or("guest", |g| g.name.as_str());
        let name = format!("{name} ({})", p.guest);
        self.world.lane(host, &name)
    }

    /// Draws how a guest's process stands now.
    pub(super) fn draw_guest(&mut self, host: usize, at: usize) {
        if !self.world.is_recording() {
            return;
        }
        let p = self.hosts[host].procs[at];
        let lane = self.guest_lane(host, &p);
        let how = if p.writing { "runs" } else { "held" };
        self.world.band(lane, "guest", how, u64::MAX);
    }

    /// Draws that what a guest wrote last lands until then.
    pub(super) fn draw_drain(&mut self, host: usize, at: usize, until: u64) {
        if self.world.is_recording() {
            let p = self.hosts[host].procs[at];
            let lane = self.guest_lane(host, &p);
            self.world
                .band(lane, "drains", "its last writes land", until);
        }
    }

    /// Draws that a guest's process is gone.
    pub(super) fn draw_gone(&mut self, host: usize, at: usize) {
        if self.world.is_recording() {
            let p = self.hosts[host].procs[at];
            let lane = self.guest_lane(host, &p);
            self.world.end_band(lane, "guest");
        }
    }

    /// Draws until when a host may give orders as coordinator (true time), if it may.
    pub(super) fn draw_acting(&mut self, host: usize, until: Option<u64>) {
        const NAME: &str = "coordinator";
        if let Some(until) = until {
            if !self.world.holds(host as u32, NAME) {
                mark!(self, host, Order, "may give orders as coordinator");
            }
            self.world.band(host as u32, NAME, "", until);
        } else {
            self.world.end_band(host as u32, NAME);
        }
    }

    /// Facts about a host's lease name the end that voters granted: this step granted it.
    pub(super) fn note_lease(&mut self, host: usize) {
        if self.world.is_recording() {
            let ends = [self.s3.bound(host), self.s3.certain(host)];
            for end in ends.map(|end| end.to_string()) {
                if self.world.newly(&end) {
                    self.world.note(end);
                }
            }
        }
    }

    /// Entries that a node writes or hands on and that are its own are asked for by this step.
    pub(super) fn note_proposals<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a LogEntry<Command>>,
    ) {
        for entry in entries {
            let note = proposal(&entry.id);
            if self.world.newly(&note) {
                self.world.note(note);
            }
        }
    }

    /// The same for what a step makes durable.
    pub(super) fn note_writes(&mut self, writes: &[NodeWrite]) {
        if self.world.is_recording() {
            for write in writes {
                if let NodeWrite::Member(Write::Append { entries, .. }) = write {
                    self.note_proposals(entries.iter());
                }
            }
        }
    }

    /// Draws what a valid entry of the log makes of hosts.
    pub(super) fn draw_entry(&mut self, token: Token) {
        if !self.world.is_recording() {
            return;
        }
        let lane = |node: NodeId| node.0 - 1;
        let last = u64::MAX;
        match &self.audit.log[token.index() as usize - 1].body {
            Entry::Term { node, .. } => {
                let (holder, text) = (lane(*node), format!("term {token}"));
                (0..self.plan.hosts).for_each(|h| self.world.end_band(h as u32, "term"));
                self.world.band(holder, "term", &text, last);
            }
            Entry::Resign { .. } => {
                (0..self.plan.hosts).for_each(|h| self.world.end_band(h as u32, "term"));
            }
            Entry::Revoke { hosts } => {
                for (node, incarnation, _) in hosts {
                    let record = self.audit.hosts.get(node);
                    if record.is_some_and(|r| r.incarnation == *incarnation) {
                        let text = format!("judged lost by entry {token}");
                        self.world.band(lane(*node), "judged", &text, last);
                    }
                }
            }
            Entry::Proof { host, .. } => {
                let text = format!("proved ended by entry {token}");
                self.world.band(lane(*host), "judged", &text, last);
            }
            Entry::Restore { host, .. } => self.world.end_band(lane(*host), "judged"),
            Entry::Admit { node, .. } => self.world.end_band(lane(*node), "judged"),
            _ => {}
        }
    }

    /// Draws that a host has lost power.
    pub(super) fn draw_off(&mut self, host: usize) {
        for at in 0..self.hosts[host].procs.len() {
            self.draw_gone(host, at);
        }
        self.world.end_band(host as u32, "lease");
    }

    /// Marks an entry of the log where it is first seen as decided.
    pub(super) fn mark_entry(&mut self, host: usize, token: Token, void: Option<&str>) {
        let body = &self.audit.log[token.index() as usize - 1].body;
        if self.world.is_recording() && !matches!(body, Entry::Renew { .. } | Entry::Noop) {
            let body = entry_words(body);
            let void = void.map_or(String::new(), |why| format!(" VOID: {why}"));
            let text = format!("LOG {token} {body}{void}");
            let asked = proposal(&self.audit.log[token.index() as usize - 1].id);
            let lane = host as u32;
            self.world.mark_asked(lane, Sort::Decided, &text, &asked);
        }
    }
}
