//! A cluster in one process: durable images, ordered sessions, unreliable datagrams.

use crate::consensus::{ElectionMessage, LogMessage, Outgoing, Refused, Replica, ReplicaConfig};
use crate::entry::{Entry, LogEntry, ProposalId};
use crate::founding::{Founding, ProofPolicy};
use crate::id::{ClusterId, Epoch, Incarnation, NodeId, Slot, StoreId};
use crate::store::{Image, Write};
use crate::timing::Timing;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(super) const EPOCH: Epoch = Epoch(1);
pub(super) const ELECTION_TICKS: u32 = 5;

/// SplitMix64: small, seeded, the same everywhere.
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }
}

pub(super) fn config(slot: u8, slots: u8) -> ReplicaConfig {
    ReplicaConfig {
        epoch: EPOCH,
        slot: Slot(slot),
        slots,
        election_ticks: ELECTION_TICKS,
    }
}

pub(super) fn image(slot: u8, slots: u8) -> Image<u64> {
    let store = |slot: u8| StoreId(100 + u128::from(slot));
    let founding = Founding {
        cluster: ClusterId(1),
        rules: crate::states::RULES,
        epoch: crate::id::Epoch(1),
        voters: (1..=slots)
            .map(|s| (NodeId(u32::from(s)), store(s)))
            .collect(),
        timing: Timing::default(),
        proof: ProofPolicy::Device,
    };
    Image::new(
        NodeId(u32::from(slot)),
        store(slot),
        Incarnation {
            counter: 1,
            random: 1,
        },
        founding,
    )
}

pub(super) fn entry(value: u64) -> LogEntry<u64> {
    LogEntry {
        id: ProposalId {
            node: NodeId(1),
            incarnation: Default::default(),
            sequence: value,
        },
        body: Entry::App(value),
    }
}

/// What one turn of a node made, until its writes are durable.
struct Staged {
    writes: Vec<Write<u64>>,
    messages: Vec<(Slot, Outgoing<u64>)>,
}

pub(super) struct Node {
    pub(super) image: Image<u64>,
    /// None while it is down.
    pub(super) replica: Option<Replica<u64>>,
    pub(super) paused: bool,
    staged: VecDeque<Staged>,
    /// Decided entries compared so far in this life.
    checked: u64,
}

pub(super) struct Net {
    pub(super) slots: u8,
    pub(super) nodes: Vec<Node>,
    sessions: BTreeSet<(u8, u8)>,
    queues: BTreeMap<(u8, u8), VecDeque<LogMessage<u64>>>,
    datagrams: Vec<(u8, u8, ElectionMessage)>,
    /// Everything decided anywhere, in order.
    pub(super) chosen: Vec<LogEntry<u64>>,
    /// A digest of everything sent, for comparing two runs.
    pub(super) sent: Vec<String>,
    pub(super) record: bool,
    pub(super) trims: usize,
    proposed: u64,
}

fn pair(a: u8, b: u8) -> (u8, u8) {
    (a.min(b), a.max(b))
}

impl Net {
    pub(super) fn new(slots: u8) -> Net {
        let nodes = (1..=slots)
            .map(|slot| {
                let image = image(slot, slots);
                Node {
                    replica: Some(Replica::new(config(slot, slots), &image).expect("fresh image")),
                    image,
                    paused: false,
                    staged: VecDeque::new(),
                    checked: 0,
                }
            })
            .collect();
        let mut net = Net {
            slots,
            nodes,
            sessions: BTreeSet::new(),
            queues: BTreeMap::new(),
            datagrams: Vec::new(),
            chosen: Vec::new(),
            sent: Vec::new(),
            record: false,
            trims: 0,
            proposed: 0,
        };
        net.connect_all();
        net
    }

    pub(super) fn node(&mut self, slot: u8) -> &mut Node {
        &mut self.nodes[usize::from(slot) - 1]
    }

    pub(super) fn replica(&mut self, slot: u8) -> &mut Replica<u64> {
        self.node(slot).replica.as_mut().expect("node is up")
    }

    fn awake(&self, slot: u8) -> bool {
        let node = &self.nodes[usize::from(slot) - 1];
        node.replica.is_some() && !node.paused
    }

    pub(super) fn leader(&self) -> Option<u8> {
        (1..=self.slots).find(|s| {
            let node = &self.nodes[usize::from(*s) - 1];
            !node.paused && node.replica.as_ref().is_some_and(Replica::leads)
        })
    }

    pub(super) fn propose(&mut self, slot: u8) -> bool {
        if !self.awake(slot) {
            return false;
        }
        self.proposed += 1;
        let entry = entry(self.proposed);
        self.replica(slot).append(entry)
    }

    pub(super) fn tick(&mut self, slot: u8) {
        if self.awake(slot) {
            self.replica(slot).tick();
        }
    }

    /// Takes what a node has made and waits for its disk.
    pub(super) fn stage(&mut self, slot: u8) {
        let node = self.node(slot);
        let Some(replica) = &mut node.replica else {
            return;
        };
        let writes = replica.take_writes();
        let messages = replica.take_messages();
        if !writes.is_empty() || !messages.is_empty() {
            node.staged.push_back(Staged { writes, messages });
        }
        self.check(slot);
    }

    /// The oldest staged batch becomes durable; then its messages leave if `send`.
    fn persist(&mut self, slot: u8, send: bool) -> bool {
        let node = self.node(slot);
        let Some(staged) = node.staged.pop_front() else {
            return false;
        };
        for write in &staged.writes {
            node.image.apply(write).expect("writes continue the image");
        }
        if !send {
            return true;
        }
        for (to, message) in staged.messages {
            if self.record {
                self.sent.push(format!("{slot} {to:?} {message:?}"));
            }
            match message {
                Outgoing::Log(m) => {
                    if self.sessions.contains(&pair(slot, to.0)) {
                        self.queues.entry((slot, to.0)).or_default().push_back(m);
                    }
                }
                Outgoing::Election(m) => self.datagrams.push((slot, to.0, m)),
            }
        }
        true
    }

    pub(super) fn persist_one(&mut self, slot: u8) -> bool {
        self.persist(slot, true)
    }

    /// One node's turn with a fast disk.
    pub(super) fn turn(&mut self, slot: u8) {
        self.stage(slot);
        while self.persist(slot, true) {}
    }

    fn check(&mut self, slot: u8) {
        let node = &mut self.nodes[usize::from(slot) - 1];
        let Some(replica) = &node.replica else {
            return;
        };
        let from = node.checked.max(replica.first());
        let entries = replica.read_decided(from, usize::MAX);
        let decided = replica.decided();
        assert_eq!(
            from + entries.len() as u64,
            decided.max(from),
            "all readable"
        );
        for (index, entry) in (from..).zip(entries) {
            match self.chosen.get(index as usize) {
                Some(chosen) => assert_eq!(*chosen, entry, "slot {slot} index {index}"),
                None => {
                    assert_eq!(self.chosen.len() as u64, index, "no hole");
                    self.chosen.push(entry);
                }
            }
        }
        node.checked = decided.max(from);
    }

    /// Delivers the oldest message on the session `from` → `to`.
    pub(super) fn deliver(&mut self, from: u8, to: u8) -> bool {
        if !self.awake(to) {
            return false;
        }
        let Some(message) = self.queues.entry((from, to)).or_default().pop_front() else {
            return false;
        };
        let told = format!("{message:?}");
        match self.replica(to).receive_log(Slot(from), message) {
            // Two leaders at once: the older one's trim is not obeyed.
            Ok(()) | Err(Refused::Trim) => {}
            // The late answer to a repeated promise; the next one is on its way.
            Err(Refused::Index) if told.contains("AcceptSync(") => {}
            Err(refused) => panic!("{to} refused {told}: {refused}\n{:?}", self.replica(to)),
        }
        true
    }

    /// Delivers some datagram; `keep` leaves a copy behind.
    pub(super) fn deliver_datagram(&mut self, at: usize, keep: bool) {
        let (from, to, message) = self.datagrams[at].clone();
        if !keep {
            self.datagrams.swap_remove(at);
        }
        if !self.awake(to) {
            return;
        }
        match self.replica(to).receive_election(Slot(from), message) {
            Ok(()) | Err(Refused::LateReply | Refused::RepeatedReply) => {}
            Err(refused) => panic!("{to} refused a datagram of {from}: {refused}"),
        }
    }

    pub(super) fn datagrams(&self) -> usize {
        self.datagrams.len()
    }

    pub(super) fn lose_datagram(&mut self, at: usize) {
        self.datagrams.swap_remove(at);
    }

    pub(super) fn queued(&self) -> Vec<(u8, u8)> {
        let mut some = Vec::new();
        for (link, queue) in &self.queues {
            if !queue.is_empty() && self.awake(link.1) {
                some.push(*link);
            }
        }
        some
    }

    pub(super) fn disconnect(&mut self, a: u8, b: u8) {
        self.sessions.remove(&pair(a, b));
        self.queues.remove(&(a, b));
        self.queues.remove(&(b, a));
    }

    pub(super) fn connect(&mut self, a: u8, b: u8) {
        if a == b || !self.awake(a) || !self.awake(b) || !self.sessions.insert(pair(a, b)) {
            return;
        }
        self.replica(a).session_up(Slot(b));
        self.replica(b).session_up(Slot(a));
    }

    pub(super) fn connect_all(&mut self) {
        for a in 1..=self.slots {
            for b in a + 1..=self.slots {
                self.connect(a, b);
            }
        }
    }

    /// Power is cut: `durable` of the staged batches reached the disk, no message of them left.
    pub(super) fn crash(&mut self, slot: u8, durable: usize) {
        for _ in 0..durable {
            self.persist(slot, false);
        }
        for other in 1..=self.slots {
            self.disconnect(slot, other);
        }
        self.datagrams
            .retain(|(from, to, _)| *from != slot && *to != slot);
        let node = self.node(slot);
        node.staged.clear();
        node.replica = None;
        node.paused = false;
    }

    pub(super) fn staged(&self, slot: u8) -> usize {
        self.nodes[usize::from(slot) - 1].staged.len()
    }

    pub(super) fn restart(&mut self, slot: u8) {
        let slots = self.slots;
        let node = self.node(slot);
        if node.replica.is_some() {
            return;
        }
        let replica = Replica::new(config(slot, slots), &node.image).expect("own image");
        node.checked = replica.first();
        node.replica = Some(replica);
    }

    /// The leader trims as far as every voter, down or not, has decided durably.
    pub(super) fn trim(&mut self) {
        let to = self.durable();
        for node in &mut self.nodes {
            if let Some(replica) = &mut node.replica {
                replica.state_kept(node.image.decided);
            }
        }
        if let Some(leader) = self.leader() {
            let first = self.replica(leader).first();
            let all: Vec<Slot> = (1..=self.slots).map(Slot).collect();
            if to > first && self.replica(leader).cut(to, &all) {
                self.trims += 1;
            }
        }
    }

    pub(super) fn durable(&self) -> u64 {
        let all = self.nodes.iter().map(|n| n.image.decided);
        all.min().expect("voters")
    }

    /// Everything that is under way happens, without ticks.
    pub(super) fn settle(&mut self) {
        loop {
            for slot in 1..=self.slots {
                self.turn(slot);
            }
            let queued = self.queued();
            if queued.is_empty() && self.datagrams.is_empty() {
                return;
            }
            for (from, to) in queued {
                while self.deliver(from, to) {}
            }
            while !self.datagrams.is_empty() {
                self.deliver_datagram(0, false);
            }
        }
    }

    pub(super) fn run(&mut self, ticks: u32) {
        for _ in 0..ticks {
            for slot in 1..=self.slots {
                self.tick(slot);
            }
            self.settle();
        }
    }

    /// Everything works again; every node must reach all that was ever decided, and more.
    pub(super) fn heal(&mut self) {
        for slot in 1..=self.slots {
            self.restart(slot);
            self.node(slot).paused = false;
        }
        self.connect_all();
        let goal = self.chosen.len() as u64 + 3;
        for tick in 0..400 {
            if tick % 20 == 0
                && let Some(leader) = self.leader()
            {
                self.propose(leader);
            }
            self.run(1);
            let mut all = self.nodes.iter().filter_map(|n| n.replica.as_ref());
            if all.all(|r| r.decided() >= goal && !r.undecided()) {
                return;
            }
        }
        panic!("no agreement after everything healed: {:?}", {
            let all: Vec<_> = self.nodes.iter().map(|n| &n.replica).collect();
            all
        });
    }
}

impl Net {
    /// A copy of the newest message on the session `from` → `to`.
    pub(super) fn peek(&self, from: u8, to: u8) -> LogMessage<u64> {
        let queue = &self.queues[&(from, to)];
        queue.back().expect("something is queued").clone()
    }

    /// What a session carries is lost although it stands: what sessions never do.
    pub(super) fn drop_queue(&mut self, from: u8, to: u8) {
        self.queues.remove(&(from, to));
    }
}

impl Net {
    /// Delivers every datagram twice where `link` is true; the others are lost.
    pub(super) fn deliver_doubled(&mut self, link: impl Fn(u8, u8) -> bool) {
        for (from, to, message) in std::mem::take(&mut self.datagrams) {
            if !link(from, to) {
                continue;
            }
            for _ in 0..2 {
                let message = message.clone();
                match self.replica(to).receive_election(Slot(from), message) {
                    Ok(()) | Err(Refused::LateReply | Refused::RepeatedReply) => {}
                    Err(refused) => panic!("{to} refused a datagram of {from}: {refused}"),
                }
            }
        }
    }
}
