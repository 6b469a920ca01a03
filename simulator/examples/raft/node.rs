//! One node of Raft (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm",
//! 2014): elections, log replication, and reads that ask a majority who leads.

use super::message::{Entry, Fact, Message, Write};
use quorate_simulator::protocol::{Ctx, Protocol};
use quorate_simulator::world::MS;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Time between two beats of a leader.
const BEAT: u64 = 50 * MS;
/// Shortest silence after which a follower stands for election; up to twice as long.
const SILENCE: u64 = 200 * MS;
/// Time between two commands, and between two reads, that a leader gets from its clients.
const CLIENT: u64 = 100 * MS;
/// Entries of one message, at most.
const BATCH: usize = 8;

const ELECTION: u64 = 0;
const HEARTBEAT: u64 = 1;
const CLIENTS: u64 = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    Follower,
    Candidate(BTreeSet<usize>),
    Leader(Leader),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Leader {
    next: Vec<usize>,
    matching: Vec<usize>,
    round: u64,
    /// Newest round that each follower answered, and when it answered last.
    answered: Vec<u64>,
    heard: Vec<u64>,
    /// Reads that wait: their number, the length to read at, the round that confirms them.
    reads: VecDeque<(u64, usize, u64)>,
    /// Lengths whose commands are to be acknowledged.
    owed: BTreeSet<usize>,
}

/// A node.
pub(crate) struct Node {
    term: u64,
    voted: Option<usize>,
    log: Vec<Entry>,
    /// Length of the own log that is durable.
    durable: usize,
    committed: usize,
    applied: usize,
    role: Role,
    /// What waits for a write: the write's number, the addressee and the message.
    waiting: VecDeque<(u64, usize, Message)>,
    /// Durable lengths by the number of the write that makes them so.
    lengths: BTreeMap<u64, usize>,
    /// The newest write, and the newest durable one.
    written: u64,
    stored: u64,
    commands: u64,
}

type C<'a> = Ctx<'a, Node>;

impl Node {
    fn fresh(ctx: &mut C<'_>) -> Node {
        let node = Node {
            term: 0,
            voted: None,
            log: Vec::new(),
            durable: 0,
            committed: 0,
            applied: 0,
            role: Role::Follower,
            waiting: VecDeque::new(),
            lengths: BTreeMap::new(),
            written: 0,
            stored: 0,
            commands: 0,
        };
        node.rest(ctx);
        ctx.set_timer(CLIENTS, CLIENT);
        node
    }

    fn rest(&self, ctx: &mut C<'_>) {
        let wait = ctx.random(SILENCE, 2 * SILENCE);
        ctx.set_timer(ELECTION, wait);
    }

    fn majority(ctx: &C<'_>) -> usize {
        ctx.nodes() / 2 + 1
    }

    fn last(&self) -> (u64, usize) {
        (self.log.last().map_or(0, |e| e.0), self.log.len())
    }

    /// Sends once everything written so far is durable.
    fn after_writes(&mut self, ctx: &mut C<'_>, to: usize, message: Message) {
        if self.written <= self.stored {
            ctx.send(to, message);
        } else {
            self.waiting.push_back((self.written, to, message));
        }
    }

    fn write_term(&mut self, ctx: &mut C<'_>) {
        self.written = ctx.persist(Write::Term(self.term, self.voted));
    }

    fn write_log(&mut self, ctx: &mut C<'_>, from: usize) {
        let entries = self.log[from..].to_vec();
        self.written = ctx.persist(Write::Log(from, entries));
        self.durable = self.durable.min(from);
        // What was on its way to this length is not the log any more.
        self.lengths.retain(|_, length| *length <= from);
        self.lengths.insert(self.written, self.log.len());
    }

    /// A newer term ends whatever this node was.
    fn follow(&mut self, ctx: &mut C<'_>, term: u64) {
        if term > self.term {
            (self.term, self.voted) = (term, None);
            self.write_term(ctx);
            self.role = Role::Follower;
            ctx.cancel_timer(HEARTBEAT);
            self.rest(ctx);
        }
    }

    fn stand(&mut self, ctx: &mut C<'_>) {
        self.term += 1;
        self.voted = Some(ctx.id());
        self.write_term(ctx);
        self.role = Role::Candidate(BTreeSet::new());
        self.ask(ctx);
        // Its own vote counts once it is durable, as anybody's.
        let message = Message::Vote {
            term: self.term,
            granted: true,
        };
        let me = ctx.id();
        self.after_writes(ctx, me, message);
    }

    fn ask(&mut self, ctx: &mut C<'_>) {
        let (term, last) = (self.term, self.last());
        for to in ctx.others() {
            self.after_writes(ctx, to, Message::Ask { term, last });
        }
        // Again until it is over: questions and answers may be lost.
        ctx.set_timer(HEARTBEAT, BEAT);
    }

    fn lead(&mut self, ctx: &mut C<'_>) {
        let n = ctx.nodes();
        self.role = Role::Leader(Leader {
            next: vec![self.log.len(); n],
            matching: vec![0; n],
            round: 0,
            answered: vec![0; n],
            heard: vec![ctx.now(); n],
            reads: VecDeque::new(),
            owed: BTreeSet::new(),
        });
        ctx.tell(Fact::Leads { term: self.term });
        self.beat(ctx);
    }

    fn beat(&mut self, ctx: &mut C<'_>) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        leader.round += 1;
        leader.heard[ctx.id()] = ctx.now();
        let heard = leader
            .heard
            .iter()
            .filter(|at| **at + 2 * SILENCE > ctx.now());
        if heard.count() < Node::majority(ctx) {
            // It leads nobody who answers: another may.
            self.role = Role::Follower;
            return self.rest(ctx);
        }
        for to in ctx.others() {
            self.append(ctx, to);
        }
        ctx.set_timer(HEARTBEAT, BEAT);
    }

    fn append(&mut self, ctx: &mut C<'_>, to: usize) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let from = leader.next[to].min(self.log.len());
        let term_before = from.checked_sub(1).map_or(0, |i| self.log[i].0);
        let entries = self.log[from..self.log.len().min(from + BATCH)].to_vec();
        let message = Message::Append {
            term: self.term,
            after: (from, term_before),
            entries,
            committed: self.committed,
            round: leader.round,
        };
        ctx.send(to, message);
    }

    /// Commits what a majority has, but only up to an entry of the own term: an entry of an older
    /// term that a majority has may still be replaced (figure 8 of the paper).
    fn commit(&mut self, ctx: &mut C<'_>) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        leader.matching[ctx.id()] = self.durable;
        let mut lengths = leader.matching.clone();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        let length = lengths[Node::majority(ctx) - 1];
        let own = length > 0 && self.log[length - 1].0 == self.term;
        if length > self.committed && (own || ctx.planted("old-term-commit")) {
            if !own {
                ctx.reached("commits an entry of an older term");
            }
            self.committed = length;
            self.apply(ctx);
        }
    }

    fn apply(&mut self, ctx: &mut C<'_>) {
        while self.applied < self.committed.min(self.log.len()) {
            let entry = self.log[self.applied];
            self.applied += 1;
            let length = self.applied;
            ctx.tell(Fact::Applied { length, entry });
            if let Role::Leader(leader) = &mut self.role
                && leader.owed.remove(&length)
            {
                ctx.tell(Fact::Acknowledged { length });
            }
        }
    }

    fn client(&mut self, ctx: &mut C<'_>) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        self.commands += 1;
        let number = self.commands * 100 + ctx.id() as u64;
        self.log.push((self.term, number));
        leader.owed.insert(self.log.len());
        // A leader that has committed nothing of its own term does not know yet what is decided.
        let ready = self.committed > 0 && self.log[self.committed - 1].0 == self.term;
        if ctx.planted("stale-read") {
            ctx.tell(Fact::Asks { read: number });
            let length = self.applied;
            ctx.tell(Fact::Read {
                read: number,
                length,
            });
        } else if ready {
            ctx.tell(Fact::Asks { read: number });
            leader
                .reads
                .push_back((number, self.committed, leader.round + 1));
        }
        self.write_log(ctx, self.log.len() - 1);
        self.beat(ctx);
    }

    /// Answers reads whose round a majority answered: nobody else led when they were asked.
    fn answer_reads(&mut self, ctx: &mut C<'_>) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        leader.answered[ctx.id()] = leader.round;
        let mut rounds = leader.answered.clone();
        rounds.sort_unstable_by(|a, b| b.cmp(a));
        let confirmed = rounds[Node::majority(ctx) - 1];
        while let Some((read, length, _)) =
            leader.reads.front().copied().filter(|r| r.2 <= confirmed)
        {
            leader.reads.pop_front();
            ctx.tell(Fact::Read { read, length });
        }
    }

    fn asked(&mut self, ctx: &mut C<'_>, from: usize, term: u64, last: (u64, usize)) {
        self.follow(ctx, term);
        let free = self.voted.is_none_or(|v| v == from);
        let granted = term == self.term && free && last >= self.last();
        if granted && self.voted.is_none() {
            self.voted = Some(from);
            if !ctx.planted("vote-not-kept") {
                self.write_term(ctx);
            }
            self.rest(ctx);
        }
        let term = self.term;
        self.after_writes(ctx, from, Message::Vote { term, granted });
    }

    fn voted_for(&mut self, ctx: &mut C<'_>, from: usize, term: u64, granted: bool) {
        self.follow(ctx, term);
        let majority = Node::majority(ctx);
        if let Role::Candidate(votes) = &mut self.role
            && granted
            && term == self.term
        {
            votes.insert(from);
            if votes.len() >= majority {
                self.lead(ctx);
            }
        }
    }

    /// A follower takes what its leader sends, if it has what comes before it. What it has beyond
    /// that stays unless it differs: an older message may come late.
    fn take(
        &mut self,
        ctx: &mut C<'_>,
        after: (usize, u64),
        entries: &[Entry],
    ) -> Result<usize, usize> {
        let (from, term_before) = after;
        if from > self.log.len() {
            return Err(self.log.len());
        }
        if from > 0 && self.log[from - 1].0 != term_before {
            return Err(from - 1);
        }
        let there = &self.log[from..];
        let same = there
            .iter()
            .zip(entries)
            .take_while(|(a, b)| a == b)
            .count();
        if same < entries.len() || ctx.planted("truncates-always") {
            self.log.truncate(from + same);
            self.log.extend_from_slice(&entries[same..]);
            self.write_log(ctx, from + same);
        }
        Ok(from + entries.len())
    }
}

impl Protocol for Node {
    type Message = Message;
    type Write = Write;
    type Fact = Fact;

    const BUGS: &'static [(&'static str, &'static str)] = &[
        ("vote-not-kept", "a vote is not written to the disk"),
        (
            "old-term-commit",
            "an entry of an older term is committed by counting",
        ),
        (
            "stale-read",
            "a leader answers reads without asking whether it still leads",
        ),
        (
            "truncates-always",
            "a follower cuts its log behind every message of the leader",
        ),
    ];

    fn start(ctx: &mut C<'_>) -> Node {
        Node::fresh(ctx)
    }

    fn restart(ctx: &mut C<'_>, disk: &[Write]) -> Node {
        let mut node = Node::fresh(ctx);
        for write in disk {
            match write {
                Write::Term(term, voted) => (node.term, node.voted) = (*term, *voted),
                Write::Log(from, entries) => {
                    node.log.truncate(*from);
                    node.log.extend_from_slice(entries);
                }
            }
        }
        node.durable = node.log.len();
        node
    }

    fn stored(&mut self, ctx: &mut C<'_>, write: u64) {
        self.stored = write;
        while let Some((number, _, _)) = self.waiting.front()
            && *number <= write
        {
            let (_, to, message) = self.waiting.pop_front().expect("looked at");
            if to == ctx.id() {
                self.message(ctx, to, message);
            } else {
                ctx.send(to, message);
            }
        }
        let later = self.lengths.split_off(&(write + 1));
        if let Some(length) = std::mem::replace(&mut self.lengths, later)
            .into_values()
            .last()
        {
            self.durable = length;
        }
        self.commit(ctx);
    }

    fn timer(&mut self, ctx: &mut C<'_>, timer: u64) {
        match timer {
            ELECTION => {
                if !matches!(self.role, Role::Leader(_)) {
                    self.stand(ctx);
                }
                self.rest(ctx);
            }
            HEARTBEAT if matches!(self.role, Role::Candidate(_)) => self.ask(ctx),
            HEARTBEAT => self.beat(ctx),
            _ => {
                self.client(ctx);
                ctx.set_timer(CLIENTS, CLIENT);
            }
        }
    }

    fn message(&mut self, ctx: &mut C<'_>, from: usize, message: Message) {
        match message {
            Message::Ask { term, last } => self.asked(ctx, from, term, last),
            Message::Vote { term, granted } => self.voted_for(ctx, from, term, granted),
            Message::Append {
                term,
                after,
                entries,
                committed,
                round,
            } => {
                self.follow(ctx, term);
                if term < self.term {
                    let result = Err(self.log.len());
                    let term = self.term;
                    return ctx.send(
                        from,
                        Message::Appended {
                            term,
                            result,
                            round,
                        },
                    );
                }
                self.role = Role::Follower;
                self.rest(ctx);
                let result = self.take(ctx, after, &entries);
                if let Ok(length) = result {
                    self.committed = self.committed.max(committed.min(length));
                    self.apply(ctx);
                }
                let message = Message::Appended {
                    term,
                    result,
                    round,
                };
                self.after_writes(ctx, from, message);
            }
            Message::Appended {
                term,
                result,
                round,
            } => {
                self.follow(ctx, term);
                let Role::Leader(leader) = &mut self.role else {
                    return;
                };
                if term < self.term {
                    return;
                }
                leader.answered[from] = leader.answered[from].max(round);
                leader.heard[from] = ctx.now();
                match result {
                    Ok(length) => {
                        leader.matching[from] = leader.matching[from].max(length);
                        leader.next[from] = leader.next[from].max(length);
                    }
                    Err(length) => leader.next[from] = length.max(leader.matching[from]),
                }
                let behind = leader.next[from] < self.log.len();
                self.commit(ctx);
                self.answer_reads(ctx);
                if behind || result.is_err() {
                    self.append(ctx, from);
                }
            }
        }
    }
}
