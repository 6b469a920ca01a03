//! The loop around the node: one fact at a time, the clock read after it is in hand, effects out.

use super::alarms::{Alarms, Look};
use super::api::{Chronicle, Question};
use super::asking::{Ask, Asker};
use super::foreign::Foreign;
use super::network::closed_link;
use super::waits::{committed, looked, sleep_until};
use crate::agents::{Agents, run_level};
use crate::api::{ApiAnswer, ApiRequest, EventLine, Grounds};
use crate::clock::Clock;
use crate::config::LibvirtSettings;
use crate::guardian::{Lease, PulseWatch};
use crate::net::{Links, Opener, Refused, Sealer, SessionEvent, SessionEvents, SessionHandle};
use crate::store::mark::Marker;
use crate::store::{Committed, Committer};
use quorate_membership::entry::Away;
use quorate_membership::frame::{Datagram, Frame, Header, Join};
use quorate_membership::member::Untaken;
use quorate_membership::{Founding, Incarnation, LinkId, NodeId, Time, Token};
use quorate_recovery::Node;
use quorate_recovery::contract::{
    Departure, Effect, Event, EventKind, Fact, GuestOrder, NodeFrame, NodeWrite, Request,
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;

/// Facts taken in one go before the timer is looked at again.
const BURST: usize = 64;
/// Time between two looks at the network cards.
const CARDS: Duration = Duration::from_secs(1);

/// Where durable writes go.
pub(crate) enum Durable {
    /// A redb store behind its own thread.
    Disk(Committer, mpsc::UnboundedReceiver<Committed>),
    /// Nowhere: a library member without a disk, which is a new node at each start.
    Memory,
}

/// Everything a running node holds on to.
pub(crate) struct Driver {
    pub(crate) node: Node,
    pub(crate) founding: Founding,
    pub(crate) me: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) links: Links,
    /// Who sends what this cluster's key does not open.
    pub(crate) foreign: Foreign,
    /// Nodes that a session is open with.
    pub(crate) connected: BTreeSet<NodeId>,
    pub(crate) sealer: Sealer,
    pub(crate) opener: Opener,
    pub(crate) sessions: SessionHandle,
    pub(crate) session_events: SessionEvents,
    pub(crate) durable: Durable,
    /// What marks the store outside it; nothing for a member without a disk.
    pub(crate) marker: Option<Marker>,
    /// The hypervisor's ear; a node without one runs no guests.
    pub(crate) orders: Option<mpsc::UnboundedSender<GuestOrder>>,
    pub(crate) facts: mpsc::Receiver<Fact>,
    pub(crate) tell: mpsc::Sender<Fact>,
    pub(crate) agents: Agents,
    pub(crate) lease: Option<Lease>,
    /// The lease record could not be written.
    pub(crate) unwritten: bool,
    /// The guardian's counter, where guests may run.
    pub(crate) pulse: Option<PulseWatch>,
    pub(crate) chronicle: Chronicle,
    pub(crate) watcher: Watcher,
    /// What the program that listens has not taken, where one listens to messages.
    pub(crate) untaken: Option<Box<dyn Fn() -> Untaken + Send>>,
    /// Libvirt as this host's file names it.
    pub(crate) libvirt: Option<LibvirtSettings>,
    /// Where agents of resources are looked for; `None` if this host runs none.
    pub(crate) resources: Option<Vec<std::path::PathBuf>>,
    /// What is seen on this host that may stand against the rules.
    pub(crate) looks: Option<mpsc::Receiver<Look>>,
    pub(crate) alarms: Alarms,
    /// An operator took this host out of service, not only its daemon.
    pub(crate) left: bool,
}

/// Shown every step, event and published message.
pub(crate) type Watcher = Box<dyn FnMut(&Node, Seen<'_>) + Send>;

/// What a watcher is shown.
pub(crate) enum Seen<'a> {
    /// A step is done.
    Step,
    /// An event.
    Event(&'a Event),
    /// Bytes published into the log.
    Published(Token, Vec<u8>),
    /// Notes that what was published after one token, up to another, is never shown.
    Skipped { after: Token, upto: Token },
}

/// Why the loop came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// A new incarnation must begin, above this one.
    Restart(String, u64),
    /// The node is done, in this way.
    Exit(Departure, String),
}

struct Work {
    wait: Time,
    memory: Vec<u64>,
    clients: BTreeMap<u64, Asker>,
    next_client: u64,
    ended: Option<Ended>,
    fences: tokio::task::JoinSet<()>,
}

impl Driver {
    /// Runs the node until it is done, or nobody is left who could ask it anything.
    pub(crate) async fn run(
        &mut self,
        questions: &mut mpsc::Receiver<Question>,
        asks: &mut mpsc::Receiver<Ask>,
    ) -> Ended {
        let mut work = Work {
            wait: Time::ZERO,
            memory: Vec::new(),
            clients: BTreeMap::new(),
            next_client: 1,
            ended: None,
            fences: tokio::task::JoinSet::new(),
        };
        self.step(&mut work, Fact::Timeout).await;
        let mut cards = tokio::time::interval(CARDS);
        cards.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let closed = self.links.not_open();
        let closed: Vec<String> = closed.map(|(link, why)| closed_link(link, why)).collect();
        for text in closed {
            self.tell_of_host(EventKind::Alert, text);
        }
        loop {
            if let Some(ended) = work.ended.take() {
                return ended;
            }
            if let Some(batch) = work.memory.pop() {
                work.memory.clear();
                self.step(&mut work, Fact::Persisted { batch }).await;
                continue;
            }
            let sleep = sleep_until(work.wait);
            tokio::select! {
                biased;
                // Durable writes first: others wait for what rests on them.
                done = committed(&mut self.durable) => {
                    let fact = match done {
                        Committed::Durable { batch } => Fact::Persisted { batch },
                        Committed::Failed { why } => Fact::StoreFailed { why },
                    };
                    self.step(&mut work, fact).await;
                }
                // Beats must leave on time whatever else there is to hear.
                () = sleep => self.step(&mut work, Fact::Timeout).await,
                Some(fact) = self.facts.recv() => {
                    self.step(&mut work, fact).await;
                    for _ in 0..BURST {
                        let Ok(fact) = self.facts.try_recv() else { break };
                        self.step(&mut work, fact).await;
                    }
                }
                (link, bytes, from) = self.links.recv() => {
                    self.datagram(&mut work, link, &bytes, from).await;
                }
                Some(event) = self.session_events.recv() => {
                    let fact = match event {
                        SessionEvent::Up { peer, incarnation } => {
                            self.connected.insert(peer);
                            Fact::SessionUp { peer, incarnation }
                        }
                        SessionEvent::Down { peer } => {
                            self.connected.remove(&peer);
                            Fact::SessionDown { peer }
                        }
                        SessionEvent::Message { peer, message } => Fact::Stream { peer, message },
                    };
                    self.step(&mut work, fact).await;
                }
                Some(q) = questions.recv() => self.question(&mut work, q).await,
                ask = asks.recv() => match ask {
                    Some(ask) => self.ask(&mut work, ask.request, ask.reply.map(Asker::Own)).await,
                    None => {
                        let why = "nobody holds this node any more".to_owned();
                        return Ended::Exit(Departure::Unrecorded, why);
                    }
                },
                Some(_) = work.fences.join_next() => {}
                look = looked(&mut self.looks) => self.look(look),
                _ = cards.tick() => self.look_at_cards(),
            }
        }
    }

    async fn datagram(&mut self, work: &mut Work, link: LinkId, bytes: &[u8], from: SocketAddr) {
        // What cannot be opened is counted by the opener, and shown by `status`.
        let frame = match self.opener.open(bytes) {
            Ok(frame) => frame,
            Err(why) => {
                if why == Refused::ForeignKey && self.foreign.heard(from) {
                    let text = format!("datagrams under another key are heard from {}", from.ip());
                    self.tell_of_host(EventKind::Alert, text);
                }
                return;
            }
        };
        if let Datagram::Join(join) = &frame.body {
            // A node without a cluster asks; the first record is no secret among key holders.
            if matches!(join, Join::Seeking { .. } | Join::Invite { .. }) {
                self.welcome();
            }
            return;
        }
        let header = &frame.header;
        self.foreign.life(header.from, header.incarnation, from);
        self.sessions.heard(header.from, header.incarnation);
        self.step(work, Fact::Frame { link, frame }).await;
    }

    fn welcome(&mut self) {
        let header = Header {
            cluster: self.founding.cluster,
            epoch: self.founding.epoch,
            from: self.me,
            incarnation: self.incarnation,
            number: 0,
        };
        let body = Datagram::Join(Join::Founded(Box::new(self.founding.clone())));
        let to = Vec::new();
        self.send(Frame { header, to, body });
    }

    fn send(&mut self, mut frame: NodeFrame) {
        // One sealed number, one datagram: the driver's own frames share the count of the node's.
        frame.header.number = self.sealer.next_number();
        match self.sealer.seal(&frame) {
            Ok(bytes) => self.links.send(&frame.to, &bytes),
            Err(e) => tracing::warn!("a datagram was not sent: {e}"),
        }
    }

    /// One step: the clock is read after the fact is in hand.
    async fn step(&mut self, work: &mut Work, fact: Fact) {
        // The guardian's counter is read before a beat leaves and before a renewal counts.
        let news = match &fact {
            Fact::Timeout => self.pulse.as_mut().and_then(PulseWatch::news),
            Fact::Frame { frame, .. } if matches!(frame.body, Datagram::Ack(_)) => {
                self.pulse.as_mut().and_then(PulseWatch::news)
            }
            _ => None,
        };
        let fact = match (news, fact) {
            (Some(pulse), Fact::Timeout) => Fact::Guardian(pulse),
            (Some(pulse), fact) => {
                self.take(work, Fact::Guardian(pulse)).await;
                fact
            }
            (None, fact) => fact,
        };
        self.take(work, fact).await;
    }

    async fn take(&mut self, work: &mut Work, fact: Fact) {
        let mut out = Vec::new();
        if let Some(untaken) = &self.untaken {
            self.node.set_untaken(untaken());
        }
        self.node.step(Clock.now(), fact, &mut out);
        for effect in out {
            self.carry_out(work, effect).await;
        }
        (self.watcher)(&self.node, Seen::Step);
    }

    async fn carry_out(&mut self, work: &mut Work, effect: Effect) {
        match effect {
            Effect::Persist { batch, writes } => self.persist(work, batch, writes).await,
            Effect::Datagram { frame } => self.send(frame),
            Effect::Stream { peer, message } => {
                self.sessions.send(peer, &message);
            }
            Effect::Guest(order) => {
                let number = order.order;
                let taken = self.orders.as_ref().is_some_and(|o| o.send(order).is_ok());
                if !taken {
                    let result = Err("this node runs no guests".to_owned());
                    let _ = self.tell.try_send(Fact::GuestDone {
                        order: number,
                        result,
                    });
                }
            }
            Effect::Fence(launch) => {
                let (agents, tell) = (self.agents.clone(), self.tell.clone());
                work.fences.spawn(async move {
                    let fact = run_level(&agents, launch).await;
                    let _ = tell.send(fact).await;
                });
            }
            Effect::Try(launch) => self.try_device(&mut work.fences, *launch),
            Effect::Lease { end } => {
                let Some(lease) = &mut self.lease else { return };
                let fact = match lease.extend(end) {
                    Ok(()) if !self.unwritten => return,
                    Ok(()) => Fact::LeaseWritten,
                    Err(e) => Fact::LeaseUnwritten {
                        // What stood before stands on: the guardian ends the guests in time.
                        stands: lease.end().ok(),
                        why: e.to_string(),
                    },
                };
                self.unwritten = !matches!(fact, Fact::LeaseWritten);
                let _ = self.tell.try_send(fact);
            }
            Effect::Event(event) => self.tell_event(&event),
            Effect::Copies { node, event } => self.tell_event(&self.foreign.named(node, event)),
            Effect::Published { token, bytes, .. } => {
                (self.watcher)(&self.node, Seen::Published(token, bytes));
            }
            Effect::Skipped { after, upto } => {
                (self.watcher)(&self.node, Seen::Skipped { after, upto });
            }
            Effect::Reply { client, reply } => {
                if let Some(asker) = work.clients.remove(&client) {
                    asker.tell(reply);
                }
            }
            Effect::Unmark => {
                if let Some(marker) = &self.marker
                    && let Err(e) = marker.drop_mark()
                {
                    tracing::error!("the mark of the store cannot be removed: {e}");
                }
            }
            Effect::Restart { why, above } => work.ended = Some(Ended::Restart(why, above)),
            Effect::Exit { how, why } => work.ended = Some(Ended::Exit(how, why)),
            Effect::Wait { until } => work.wait = until,
        }
    }

    fn tell_event(&mut self, event: &Event) {
        macro_rules! log_as {
            ($level:ident) => {
                tracing::$level!(
                    token = %event.token,
                    kind = ?event.kind,
                    host = event.host.as_deref().unwrap_or("-"),
                    guest = event.guest.as_deref().unwrap_or("-"),
                    "{}",
                    event.text
                )
            };
        }
        match event.kind {
            EventKind::Alert => log_as!(warn),
            _ => log_as!(info),
        }
        self.chronicle.add(EventLine::now(event));
        (self.watcher)(&self.node, Seen::Event(event));
    }

    /// Opens and closes links as their addresses come, go and move.
    fn look_at_cards(&mut self) {
        for change in self.links.look() {
            match change.closed {
                Some(why) => {
                    self.tell_of_host(EventKind::Alert, closed_link(&change.link, &why));
                }
                None => {
                    let text = format!("link {} is open", change.link);
                    self.tell_of_host(EventKind::Changed, text);
                }
            }
        }
    }

    /// An event about this host that is in no log.
    fn tell_of_host(&mut self, kind: EventKind, text: String) {
        let host = self.node.member().cluster().name(self.me);
        self.tell_event(&Event {
            token: Token::NONE,
            kind,
            host: Some(host),
            guest: None,
            text,
        });
    }

    fn look(&mut self, look: Look) {
        let found = look(&self.node);
        let host = self.node.member().cluster().name(self.me);
        for event in self.alarms.renew(&host, found) {
            self.tell_event(&event);
        }
    }

    async fn persist(&mut self, work: &mut Work, batch: u64, writes: Vec<NodeWrite>) {
        match &self.durable {
            Durable::Memory => work.memory.push(batch),
            Durable::Disk(committer, _) => {
                if let Err(e) = committer.submit(batch, writes) {
                    let _ = self.tell.try_send(Fact::StoreFailed { why: e.to_string() });
                }
            }
        }
    }

    async fn ask(&mut self, work: &mut Work, request: Request, asker: Option<Asker>) {
        let client = work.next_client;
        work.next_client += 1;
        if let Some(asker) = asker {
            work.clients.insert(client, asker);
        }
        self.step(work, Fact::Request { client, request }).await;
    }

    async fn question(&mut self, work: &mut Work, q: Question) {
        let now = Clock.now();
        let answer = match q.request {
            ApiRequest::Status => {
                let mut status = serde_json::to_value(self.node.status(now)).unwrap_or_default();
                if let Some(map) = status.as_object_mut() {
                    map.insert("links".into(), json!(self.links.counters()));
                    map.insert("not_opened".into(), json!(self.opener.dropped()));
                    map.insert("sessions".into(), json!(self.sessions.counters()));
                    map.insert("unreached".into(), json!(named(self.sessions.unreached())));
                    if let Some(remarks) = map.get_mut("remarks").and_then(|r| r.as_array_mut()) {
                        remarks.extend(self.remarks().into_iter().map(|text| json!(text)));
                    }
                }
                ApiAnswer::Ok(status)
            }
            ApiRequest::Hosts => ApiAnswer::Ok(json!(self.node.hosts(now))),
            ApiRequest::Guests => ApiAnswer::Ok(json!(self.node.guests(now))),
            ApiRequest::Why { guest } => match self.node.why(now, &guest) {
                Some(why) => ApiAnswer::Ok(json!(why)),
                None => ApiAnswer::Error(format!("no guest is named {guest:?}")),
            },
            ApiRequest::Grounds => {
                let guests = self.node.member().app().guests.values();
                ApiAnswer::Ok(json!(Grounds {
                    libvirt: self.libvirt.clone(),
                    agents: self.resources.clone(),
                    guests: guests.map(|r| r.spec.clone()).collect(),
                }))
            }
            ApiRequest::Try { host } => {
                return self.try_devices(&mut work.fences, host.as_deref(), q.answer);
            }
            ApiRequest::Events { .. } => {
                ApiAnswer::Error("events are not asked of the loop".into())
            }
            ApiRequest::Ask(request) => {
                self.left |= matches!(&request, Request::Leave(why) if *why != Away::Stop);
                return self.ask(work, request, Some(Asker::Api(q.answer))).await;
            }
        };
        let _ = q.answer.send(answer);
    }
}

fn named(unreached: BTreeMap<NodeId, String>) -> BTreeMap<String, String> {
    unreached
        .into_iter()
        .map(|(n, why)| (n.0.to_string(), why))
        .collect()
}
