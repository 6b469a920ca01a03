//! A perfect little world for whole nodes.

use quorate_membership::attest::Pulse;
use quorate_membership::entry::{Armed, ArmedClass, Capacity, Profile};
use quorate_membership::store::Image;
use quorate_membership::vouch::Freshness;
use quorate_membership::{
    BootId, ClusterId, Founding, Incarnation, LinkId, NodeId, State, StoreId, Time, Timing, Token,
    codec,
};
use quorate_recovery::command::Command;
use quorate_recovery::contract::{
    Effect, Event, EventKind, Fact, GuestAction, GuestOrder, GuestSeen, NodeWrite, Reply, Request,
};
use quorate_recovery::executor::GuestPromise;
use quorate_recovery::guest::{Definition, GuestId, GuestSpec};
use quorate_recovery::hold::{HoldKind, HoldReason, Words};
use quorate_recovery::kinds::GuestKinds;
use quorate_recovery::lock::{Found, Lock, LockReading};
use quorate_recovery::observation::{Cause, GuestEvent, Held, HostHealth, Observation};
use quorate_recovery::{Guests, Node, Setup};
use std::collections::BTreeMap;

pub(crate) fn guest(name: &str) -> GuestSpec {
    GuestSpec {
        name: name.into(),
        definition: Definition::Command {
            argv: vec!["/bin/true".into()],
            env: BTreeMap::new(),
            images: Vec::new(),
        },
        needs: Default::default(),
        priority: 0,
        policy: Default::default(),
        probe: None,
    }
}

/// A command with an image.
pub(crate) fn with_image(name: &str) -> GuestSpec {
    GuestSpec {
        definition: Definition::Command {
            argv: vec!["/bin/true".into()],
            env: BTreeMap::new(),
            images: vec![format!("/shared/{name}")],
        },
        ..guest(name)
    }
}

/// A domain with one disk, under `/shared`.
pub(crate) fn domain(name: &str, number: u8, disk: &str) -> GuestSpec {
    let xml = format!(
        "<domain type='kvm'><name>{name}</name>\
         <uuid>0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1{number:02x}</uuid>\
         <memory unit='MiB'>64</memory><devices>\
         <disk type='file'><driver cache='none'/><source file='/shared/{disk}'/>\
         <target dev='vda'/></disk></devices></domain>"
    );
    GuestSpec {
        definition: Definition::Domain { xml },
        ..guest(name)
    }
}

struct Machine {
    node: Option<Node>,
    image: Image<Command>,
    promises: BTreeMap<GuestId, GuestPromise>,
    boot: u128,
    lease: Option<Time>,
    procs: BTreeMap<GuestId, (Token, bool)>,
    wake: Time,
}

pub(crate) struct Rig {
    now: Time,
    machines: BTreeMap<NodeId, Machine>,
    queue: BTreeMap<(Time, u64), (NodeId, Fact)>,
    number: u64,
    replies: BTreeMap<u64, Reply>,
    starts: BTreeMap<GuestId, usize>,
    /// What was done with guests besides creating, holding and ending them.
    pub(crate) done: Vec<&'static str>,
    /// What nodes said.
    pub(crate) said: Vec<Event>,
    /// What stands beside each guest's image; an inner `None` cannot be read or written.
    pub(crate) locks: BTreeMap<String, Option<Lock>>,
    /// Whether a hypervisor resets when told to, and answers probes.
    pub(crate) resets: bool,
    pub(crate) probes: bool,
    /// Hosts that bear another name than theirs.
    pub(crate) names: BTreeMap<NodeId, &'static str>,
    /// A guest that no hypervisor can end.
    pub(crate) never_ends: Option<GuestId>,
    /// A host that no message of a session reaches.
    pub(crate) no_log: Option<NodeId>,
}

impl Rig {
    pub(crate) fn new(n: u32) -> Rig {
        let founding = Founding {
            cluster: ClusterId(7),
            rules: quorate_membership::states::RULES,
            epoch: quorate_membership::Epoch(1),
            voters: (1..=n).map(|i| (NodeId(i), StoreId(i.into()))).collect(),
            timing: Timing::fast(),
            proof: Default::default(),
        };
        let machines = (1..=n)
            .map(|i| {
                let inc = Incarnation {
                    counter: 0,
                    random: 0,
                };
                let image = Image::new(NodeId(i), StoreId(i.into()), inc, founding.clone());
                let m = Machine {
                    node: None,
                    image,
                    promises: BTreeMap::new(),
                    boot: 1,
                    lease: None,
                    procs: BTreeMap::new(),
                    wake: Time::ZERO,
                };
                (NodeId(i), m)
            })
            .collect();
        let mut rig = Rig {
            now: Time::from_millis(1_000_000),
            machines,
            queue: BTreeMap::new(),
            number: 0,
            replies: BTreeMap::new(),
            starts: BTreeMap::new(),
            done: Vec::new(),
            said: Vec::new(),
            locks: BTreeMap::new(),
            resets: false,
            probes: false,
            names: BTreeMap::new(),
            never_ends: None,
            no_log: None,
        };
        for i in 1..=n {
            rig.start_daemon(NodeId(i));
        }
        rig
    }

    pub(crate) fn now(&self) -> Time {
        self.now
    }

    pub(crate) fn node(&self, n: u32) -> &Node {
        self.machines[&NodeId(n)].node.as_ref().expect("up")
    }

    pub(crate) fn any(&self) -> &Node {
        self.machines
            .values()
            .find_map(|m| m.node.as_ref())
            .expect("one is up")
    }

    pub(crate) fn coordinator(&self) -> NodeId {
        self.any()
            .member()
            .cluster()
            .term
            .expect("a coordinator")
            .node
    }

    pub(crate) fn id(&self, name: &str) -> GuestId {
        self.any().member().app().named(name).expect("exists").0
    }

    pub(crate) fn epoch(&self, name: &str) -> Token {
        self.any()
            .member()
            .app()
            .named(name)
            .expect("exists")
            .1
            .epoch
    }

    pub(crate) fn starts(&self, name: &str) -> usize {
        self.starts.get(&self.id(name)).copied().unwrap_or(0)
    }

    pub(crate) fn running(&self, name: &str) -> Vec<NodeId> {
        let id = self.id(name);
        let runs = |m: &Machine| m.procs.get(&id).is_some_and(|(_, held)| !held);
        self.machines
            .iter()
            .filter(|(_, m)| runs(m))
            .map(|(n, _)| *n)
            .collect()
    }

    pub(crate) fn guests_on(&self, host: NodeId) -> Vec<String> {
        let app = self.any().member().app();
        self.machines[&host]
            .procs
            .keys()
            .map(|g| app.guests[g].spec.name.clone())
            .collect()
    }

    pub(crate) fn start_daemon(&mut self, n: NodeId) {
        let now = self.now;
        let peers: Vec<NodeId> = self
            .machines
            .iter()
            .filter(|(p, m)| **p != n && m.node.is_some())
            .map(|(p, _)| *p)
            .collect();
        let m = self.machines.get_mut(&n).expect("known");
        m.image.incarnation = Incarnation {
            counter: m.image.incarnation.counter + 1,
            random: u64::from(n.0),
        };
        let setup = Setup {
            image: m.image.clone(),
            promises: m.promises.clone(),
            profile: Profile {
                name: self
                    .names
                    .get(&n)
                    .map_or_else(|| format!("h{}", n.0), |name| (*name).to_owned()),
                store: m.image.store,
                boot: BootId(m.boot),
                witness: false,
                capacity: Capacity {
                    vcpus: 128,
                    memory_mib: 65_536,
                },
                machine: quorate_membership::entry::Machine {
                    uuid: n.0.into(),
                    cards: 1,
                    bare: true,
                },
            },
            inherited_lease: m.lease,
            guarded: true,
            present: m
                .procs
                .iter()
                .map(|(g, (e, held))| GuestSeen {
                    guest: *g,
                    epoch: *e,
                    paused: *held,
                })
                .collect(),
            fencing: Vec::new(),
            freshness: Freshness {
                mark: Some(m.image.claim()),
                waits: false,
            },
            snapshot_every: 32,
            log_limit: quorate_membership::member::LOG_LIMIT,
            links: vec!["net".into()],
        };
        m.node = Some(Node::new(now, setup).expect("starts"));
        m.wake = now;
        for p in peers {
            for (at, peer) in [(n, p), (p, n)] {
                let incarnation = self.machines[&peer].image.incarnation;
                self.post(at, Fact::SessionUp { peer, incarnation });
            }
        }
        self.post(n, Fact::Timeout);
    }

    pub(crate) fn kill_daemon(&mut self, n: NodeId) {
        self.machines.get_mut(&n).expect("known").node = None;
        self.queue.retain(|_, (to, _)| *to != n);
        let peers: Vec<NodeId> = self.machines.keys().copied().filter(|p| *p != n).collect();
        for p in peers {
            self.post(p, Fact::SessionDown { peer: n });
        }
    }

    /// Changes the state on a machine's disk: what its log made up to the last decided entry.
    pub(crate) fn alter(&mut self, n: NodeId, change: impl FnOnce(&mut State<Guests>)) {
        let image = &mut self.machines.get_mut(&n).expect("known").image;
        let mut state: State<Guests> = match &image.snapshot {
            Some((_, bytes)) => codec::decode(codec::Kind::State, bytes).expect("a state"),
            None => State::new(&image.founding),
        };
        while state.cluster.applied < image.decided {
            let at = state.cluster.applied - image.trimmed;
            state.apply(&image.log[usize::try_from(at).expect("small")]);
        }
        change(&mut state);
        let bytes = codec::encode(codec::Kind::State, &state).expect("fits");
        image.snapshot = Some((state.cluster.applied, bytes));
    }

    pub(crate) fn power_off(&mut self, n: NodeId) {
        self.kill_daemon(n);
        let m = self.machines.get_mut(&n).expect("known");
        m.procs.clear();
        m.lease = None;
        m.boot += 1;
    }

    pub(crate) fn power_on(&mut self, n: NodeId) {
        self.start_daemon(n);
    }

    pub(crate) fn crash_guest(&mut self, name: &str) {
        self.guest_ends(name, Cause::Died);
    }

    pub(crate) fn guest_ends(&mut self, name: &str, cause: Cause) {
        let id = self.id(name);
        let host = self.running(name)[0];
        let m = self.machines.get_mut(&host).expect("known");
        let (epoch, _) = m.procs.remove(&id).expect("runs");
        self.post(
            host,
            Fact::GuestGone {
                guest: id,
                epoch,
                how: "ended".into(),
                cause,
            },
        );
    }

    /// A monitor sees something of a guest, on whichever host has it.
    pub(crate) fn see(&mut self, name: &str, seen: Observation) {
        let guest = self.id(name);
        let found = self.machines.iter();
        let at = found.filter_map(|(n, m)| Some((*n, m.procs.get(&guest)?.0)));
        for (host, epoch) in at.collect::<Vec<_>>() {
            let seen = seen.clone();
            self.post(host, Fact::Observed { guest, epoch, seen });
        }
    }

    /// The host that runs the guest sees a reason to hold it.
    pub(crate) fn hold(&mut self, name: &str, reason: HoldReason) {
        self.hold_under(name, self.epoch(name), reason);
    }

    /// It sees that the reason has passed.
    pub(crate) fn hold_passes(&mut self, name: &str, kind: HoldKind) {
        let (guest, epoch) = (self.id(name), self.epoch(name));
        let host = self.running(name)[0];
        self.post(host, Fact::HoldPassed { guest, epoch, kind });
    }

    pub(crate) fn hold_under(&mut self, name: &str, epoch: Token, reason: HoldReason) {
        let guest = self.id(name);
        let host = self.running(name)[0];
        let hold = Fact::Hold {
            guest,
            epoch,
            reason,
        };
        self.post(host, hold);
    }

    pub(crate) fn host_sees(&mut self, n: u32, health: HostHealth) {
        self.post(NodeId(n), Fact::HostObserved(health));
    }

    /// A host's hypervisor does not answer a poll.
    pub(crate) fn blind(&mut self, host: NodeId) {
        self.blind_to(host, GuestKinds::ALL);
    }

    /// Guests of these kinds cannot be seen on a host.
    pub(crate) fn blind_to(&mut self, host: NodeId, kinds: GuestKinds) {
        let fact = Fact::HypervisorBlind {
            kinds,
            seen: None,
            why: "no answer".to_owned(),
        };
        self.post(host, fact);
    }

    /// Somebody holds the guest, or lets it go on.
    pub(crate) fn by_hand(&mut self, name: &str, held: Option<Held>) {
        let guest = self.id(name);
        for m in self.machines.values_mut() {
            if let Some(p) = m.procs.get_mut(&guest) {
                p.1 = held.is_some();
            }
        }
        let event = held.map_or(GuestEvent::Continued, GuestEvent::Held);
        self.see(name, Observation::Event(event));
    }

    /// What any node said of health, in order.
    pub(crate) fn heard(&self, kind: EventKind) -> Vec<&str> {
        let of = self.said.iter().filter(|e| e.kind == kind);
        of.map(|e| e.text.as_str()).collect()
    }

    /// The guest's process is held, and then gone without a word: its end was ordered by an
    /// earlier life of the daemon.
    pub(crate) fn hold_and_lose(&mut self, name: &str) -> NodeId {
        let id = self.id(name);
        let host = self.running(name)[0];
        self.kill_daemon(host);
        let m = self.machines.get_mut(&host).expect("known");
        m.procs.get_mut(&id).expect("runs").1 = true;
        self.start_daemon(host);
        let m = self.machines.get_mut(&host).expect("known");
        m.procs.remove(&id);
        host
    }

    /// A creation of an earlier life comes to its end: a process of that guest, held.
    pub(crate) fn late_creation(&mut self, host: NodeId, guest: GuestId, epoch: Token) {
        let m = self.machines.get_mut(&host).expect("known");
        m.procs.insert(guest, (epoch, true));
        self.poll(host);
    }

    /// One complete poll of a host's hypervisor.
    pub(crate) fn poll(&mut self, host: NodeId) {
        let seen = self.machines[&host]
            .procs
            .iter()
            .map(|(g, (e, held))| GuestSeen {
                guest: *g,
                epoch: *e,
                paused: *held,
            })
            .collect();
        self.post(host, Fact::Guests { seen });
    }

    pub(crate) fn ask(&mut self, n: u32, request: Request) -> Result<String, String> {
        self.number += 1;
        let client = self.number;
        self.post(NodeId(n), Fact::Request { client, request });
        for _ in 0..200 {
            self.run(100);
            if let Some(reply) = self.replies.remove(&client) {
                return in_words(reply);
            }
        }
        Err("no reply at all".into())
    }

    /// As [`Rig::ask`], with the kind of the answer, waited for up to 100 s.
    pub(crate) fn ask_long(&mut self, n: u32, request: Request) -> Reply {
        self.number += 1;
        let client = self.number;
        self.post(NodeId(n), Fact::Request { client, request });
        for _ in 0..1000 {
            self.run(100);
            if let Some(reply) = self.replies.remove(&client) {
                return reply;
            }
        }
        panic!("no reply at all");
    }

    /// Asks one node many times in the same millisecond.
    pub(crate) fn ask_many(&mut self, n: u32, times: u64, request: fn() -> Request) -> Vec<Reply> {
        let first = self.number + 1;
        for client in (first..).step_by(2).take(times as usize) {
            self.number = client;
            let request = request();
            self.post(NodeId(n), Fact::Request { client, request });
        }
        self.run(20_000);
        let clients = (first..).step_by(2).take(times as usize);
        clients
            .filter_map(|client| self.replies.remove(&client))
            .collect()
    }

    /// Asks two nodes in the same millisecond.
    pub(crate) fn ask_at_once(&mut self, both: [(u32, Request); 2]) -> Vec<Result<String, String>> {
        let clients = both.map(|(n, request)| {
            self.number += 1;
            let client = self.number;
            self.post(NodeId(n), Fact::Request { client, request });
            client
        });
        self.run(20_000);
        let answers = clients.map(|client| self.replies.remove(&client));
        answers.map(|a| in_words(a.expect("a reply"))).into()
    }

    pub(crate) fn post(&mut self, to: NodeId, fact: Fact) {
        self.number += 1;
        let at = self.now + std::time::Duration::from_millis(1);
        self.queue.insert((at, self.number), (to, fact));
    }

    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now + std::time::Duration::from_millis(ms);
        loop {
            let next = self.queue.keys().next().map(|(t, _)| *t);
            let timer = self
                .machines
                .iter()
                .filter(|(_, m)| m.node.is_some())
                .map(|(n, m)| (m.wake, *n))
                .min();
            let at = next
                .unwrap_or(Time::NEVER)
                .min(timer.map_or(Time::NEVER, |(t, _)| t));
            if at > end {
                self.now = end;
                self.guardians();
                return;
            }
            self.now = self.now.max(at);
            self.guardians();
            if next.is_some_and(|t| t <= at) {
                let (_, (to, fact)) = self.queue.pop_first().expect("there is one");
                self.step(to, fact);
            } else if let Some((_, n)) = timer {
                let pulse = Pulse {
                    armed: Armed {
                        class: ArmedClass::Guardian,
                        reset: true,
                    },
                    count: self.now.0,
                    at: self.now,
                    third_start: None,
                };
                self.step(n, Fact::Guardian(Some(pulse)));
            }
        }
    }

    /// Whoever still runs guests past the lease end has them ended.
    fn guardians(&mut self) {
        for m in self.machines.values_mut() {
            if m.lease.is_none_or(|end| self.now >= end) {
                m.procs.clear();
            }
        }
    }

    fn step(&mut self, n: NodeId, fact: Fact) {
        let mut out = Vec::new();
        let m = self.machines.get_mut(&n).expect("known");
        let Some(node) = m.node.as_mut() else { return };
        node.step(self.now, fact, &mut out);
        assert!(
            matches!(out.last(), Some(Effect::Wait { .. })),
            "Wait comes last"
        );
        let everyone: Vec<NodeId> = self.machines.keys().copied().collect();
        for effect in out {
            match effect {
                Effect::Persist { batch, writes } => {
                    let m = self.machines.get_mut(&n).expect("known");
                    for w in writes {
                        match w {
                            NodeWrite::Member(w) => m.image.apply(&w).expect("fits"),
                            NodeWrite::Executor(w) => {
                                match w.promise {
                                    Some(p) => m.promises.insert(w.guest, p),
                                    None => m.promises.remove(&w.guest),
                                };
                            }
                        }
                    }
                    self.post(n, Fact::Persisted { batch });
                }
                Effect::Datagram { frame } => {
                    // One network by multicast: everybody hears everything.
                    for t in everyone.clone() {
                        let (link, frame) = (LinkId(0), frame.clone());
                        self.post(t, Fact::Frame { link, frame });
                    }
                }
                Effect::Stream { peer, message } => {
                    if self.machines[&peer].node.is_some() && self.no_log != Some(peer) {
                        self.post(peer, Fact::Stream { peer: n, message });
                    }
                }
                Effect::Guest(order) => self.order(n, order),
                Effect::Fence(f) => panic!("no devices here: {f:?}"),
                Effect::Try(t) => panic!("no devices here: {t:?}"),
                Effect::Lease { end } => {
                    self.machines.get_mut(&n).expect("known").lease = Some(end);
                }
                Effect::Event(e) | Effect::Copies { event: e, .. } => self.said.push(e),
                Effect::Published { .. } | Effect::Skipped { .. } => {}
                Effect::Reply { client, reply } => {
                    self.replies.insert(client, reply);
                }
                Effect::Unmark => {}
                Effect::Restart { .. } => {
                    self.kill_daemon(n);
                    self.start_daemon(n);
                    return;
                }
                Effect::Exit { .. } => return self.kill_daemon(n),
                Effect::Wait { until } => {
                    self.machines.get_mut(&n).expect("known").wake = until;
                }
            }
        }
    }

    fn order(&mut self, n: NodeId, order: GuestOrder) {
        let now = self.now;
        let m = self.machines.get_mut(&n).expect("known");
        let late = order.not_after.is_some_and(|t| now >= t);
        let result = match order.action {
            _ if late => Err("too late".to_owned()),
            GuestAction::Create(_) if m.procs.contains_key(&order.guest) => {
                panic!("created twice: {}", order.guest)
            }
            GuestAction::Create(_) => {
                m.procs.insert(order.guest, (order.epoch, true));
                *self.starts.entry(order.guest).or_default() += 1;
                Ok(())
            }
            GuestAction::Continue | GuestAction::Pause => match m.procs.get_mut(&order.guest) {
                Some((_, held)) => {
                    *held = order.action == GuestAction::Pause;
                    if !*held {
                        self.done.push("continue");
                    }
                    Ok(())
                }
                None => Err("no such process".into()),
            },
            GuestAction::ReadLocks(images) => {
                let found = match self.locks.get(&images[0].path) {
                    None => Found::Nothing,
                    Some(None) => Found::Unreadable(Words::new("no answer")),
                    Some(Some(lock)) => Found::Lock(*lock),
                };
                let readings = images.iter().map(|image| LockReading {
                    image: Words::new(&image.path),
                    found: found.clone(),
                });
                let (order, readings) = (order.order, readings.collect());
                return self.post(n, Fact::LocksRead { order, readings });
            }
            GuestAction::WriteLocks(plan) => match self.locks.get(&plan.images[0].path) {
                Some(None) => Err("no answer".into()),
                _ => {
                    let kept = self.locks.values().flatten();
                    let kept = kept.into_iter().any(|l| l.life == plan.lock.life);
                    assert!(kept || m.procs[&order.guest].1, "locked before it goes on");
                    let path = plan.images[0].path.clone();
                    self.locks.insert(path, Some(plan.lock));
                    Ok(())
                }
            },
            GuestAction::Capture { .. } => {
                self.done.push("capture");
                Err("a process has none".into())
            }
            GuestAction::Probe(_) => {
                self.done.push("probe");
                if !self.probes {
                    return;
                }
                Err("could not be run".into())
            }
            GuestAction::Reset => {
                self.done.push("reset");
                let why = "a process has none".to_owned();
                self.resets.then_some(()).ok_or(why)
            }
            GuestAction::End if self.never_ends == Some(order.guest) => return,
            GuestAction::End => {
                self.done.push("end");
                m.procs.remove(&order.guest);
                Ok(())
            }
        };
        self.post(
            n,
            Fact::GuestDone {
                order: order.order,
                result,
            },
        );
    }
}

fn in_words(reply: Reply) -> Result<String, String> {
    match reply {
        Reply::Done { text, .. } => Ok(text),
        other => Err(other.to_string()),
    }
}
