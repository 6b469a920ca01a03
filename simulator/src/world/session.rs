//! Sessions: one ordered, reliable stream per pair of nodes, as TCP gives it.
//!
//! A session survives a short cut (what was sent meanwhile arrives late), dies of a long one at
//! both ends with everything it held, and is opened anew afterwards. Each end learns of the new
//! session before any message of it.

use super::rng::Rng;
use super::{Happening, Item, Link, MS, SESSION_CLASS, Types, World};
use crate::record::Loss;
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down,
    Opening,
    Up,
}

#[derive(Debug)]
enum Slot<M> {
    Down,
    Up,
    /// With the entry of its sending.
    Message(M, u32),
}

/// One pair; end and direction 0 belong to the lower node (direction 0 goes *to* the higher).
#[derive(Debug)]
struct Pair<M> {
    number: u32,
    state: State,
    /// Nothing passes since then.
    blocked_since: Option<u64>,
    /// A message too large for the link is sent again and again, and everything waits behind it.
    stuck: bool,
    queues: [VecDeque<Slot<M>>; 2],
    /// Arrivals that came due while the pair was blocked.
    stalled: [u32; 2],
    /// When the newest message of each direction arrives: order is kept.
    last: [u64; 2],
    /// Number of the session each end was told is up; 0 for none.
    told: [u32; 2],
}

#[derive(Debug)]
pub(super) struct Sessions<M> {
    nodes: usize,
    pairs: Vec<Pair<M>>,
}

impl<M> Sessions<M> {
    pub(super) fn new(nodes: usize) -> Sessions<M> {
        let pairs = (0..nodes * nodes)
            .map(|_| Pair {
                number: 0,
                state: State::Down,
                blocked_since: None,
                stuck: false,
                queues: [VecDeque::new(), VecDeque::new()],
                stalled: [0; 2],
                last: [0; 2],
                told: [0; 2],
            })
            .collect();
        Sessions { nodes, pairs }
    }

    fn pair(&mut self, a: usize, b: usize) -> &mut Pair<M> {
        &mut self.pairs[a.min(b) * self.nodes + a.max(b)]
    }

    fn is_stuck(&self, a: usize, b: usize) -> bool {
        self.pairs[a.min(b) * self.nodes + a.max(b)].stuck
    }

    /// `node` is told that its session `number` to `peer` is gone; false if it knows already.
    pub(super) fn forget(&mut self, node: usize, peer: usize, number: u32) -> bool {
        let end = usize::from(node > peer);
        let told = &mut self.pair(node, peer).told[end];
        let fresh = *told == number && number != 0;
        if fresh {
            *told = 0;
        }
        fresh
    }
}

impl<T: Types> World<T> {
    /// Sends on the session to `to`, `delay` nanoseconds from now. False, and the message is lost,
    /// if the sender has none.
    pub fn stream(&mut self, from: usize, to: usize, delay: u64, message: T::Message) -> bool {
        let dir = usize::from(from > to);
        let step = self.sends(from, to, || T::message_text(&message));
        let pair = self.sessions.pair(from, to);
        if pair.state != State::Up || pair.told[dir] != pair.number {
            self.sent(step, Some((Loss::NoSession, None)));
            return false;
        }
        let link = self.session_link(from, to).1;
        let carried = link.carries(|| T::message_size(&message));
        let pair = self.sessions.pair(from, to);
        pair.queues[dir].push_back(Slot::Message(message, self.queue.cause));
        pair.stuck |= !carried;
        self.plan_arrival(from, to, delay);
        if !carried {
            self.refresh_pair(from, to);
        }
        self.sent(step, None);
        true
    }

    /// The network a session uses in this direction, and its link.
    fn session_link(&self, from: usize, to: usize) -> (usize, Link) {
        let mut best = (0, *self.net.link(0, from, to));
        for net in 1..self.layout.session_networks {
            let link = self.net.link(net, from, to);
            if best.1.cut && !link.cut {
                best = (net, *link);
            }
        }
        best
    }

    /// Whether both ends have been told of the same open session.
    #[must_use]
    pub fn in_session(&mut self, a: usize, b: usize) -> bool {
        let pair = self.sessions.pair(a, b);
        pair.state == State::Up && pair.told == [pair.number; 2]
    }

    /// The network has become whole: what is on its way, and would be sent again only after a
    /// timeout that doubled while it was not, is sent again now.
    pub fn hasten(&mut self) {
        for a in 0..self.layout.nodes {
            for b in a + 1..self.layout.nodes {
                let now = self.now;
                let pair = self.sessions.pair(a, b);
                if pair.state != State::Up || pair.blocked_since.is_some() {
                    continue;
                }
                pair.last = [now; 2];
                let waiting = [pair.queues[0].len(), pair.queues[1].len()];
                for (dir, count) in waiting.into_iter().enumerate() {
                    let (from, to) = if dir == 0 { (a, b) } else { (b, a) };
                    (0..count).for_each(|_| self.plan_arrival(from, to, 0));
                }
            }
        }
    }

    fn plan_arrival(&mut self, from: usize, to: usize, delay: u64) {
        let (net, best) = self.session_link(from, to);
        let ready = self.now + delay;
        let waits = self.net.queue(net, from, to, ready) - ready;
        let mut rng = self.chance_of_session(from, to);
        let mut travel = delay + waits + best.delay(&mut rng);
        // A lost packet is sent again after a retransmission timeout that doubles.
        let mut again = 200 * MS;
        while rng.chance(best.loss.min(900_000)) && again < 4000 * MS {
            travel += again;
            again *= 2;
        }
        let dir = usize::from(from > to);
        let pair = self.sessions.pair(from, to);
        let at = (self.now + travel).max(pair.last[dir] + 1);
        pair.last[dir] = at;
        let session = pair.number;
        self.queue.push(
            at,
            Item::Arrive {
                from: from as u16,
                to: to as u16,
                session,
            },
        );
    }

    /// The random numbers of the next step of the session in this direction.
    fn chance_of_session(&mut self, from: usize, to: usize) -> Rng {
        let n = self.layout.nodes;
        self.network
            .next((self.layout.networks * n + from) * n + to)
    }

    fn pair_passes(&self, a: usize, b: usize) -> bool {
        self.reachable[a]
            && self.reachable[b]
            && self.processes[a].up
            && self.processes[b].up
            && !self.sessions.is_stuck(a, b)
            && (0..self.layout.session_networks).any(|net| {
                let whole = |l: &Link| l.passes(SESSION_CLASS) && !l.clogged;
                whole(self.net.link(net, a, b)) && whole(self.net.link(net, b, a))
            })
    }

    pub(super) fn refresh_node(&mut self, node: usize) {
        for peer in 0..self.layout.nodes {
            if peer != node {
                self.refresh_pair(node, peer);
            }
        }
    }

    pub(super) fn refresh_pair(&mut self, a: usize, b: usize) {
        if a == b {
            return;
        }
        let (a, b) = (a.min(b), a.max(b));
        let passes = self.pair_passes(a, b);
        let (now, loss) = (self.now, self.layout.session_loss);
        let pair = self.sessions.pair(a, b);
        let (a16, b16) = (a as u16, b as u16);
        match (pair.state, passes) {
            (State::Up, false) if pair.blocked_since.is_none() => {
                pair.blocked_since = Some(now);
                let session = pair.number;
                self.queue.push(
                    now + loss,
                    Item::SessionCheck {
                        a: a16,
                        b: b16,
                        session,
                    },
                );
            }
            (State::Up, true) if pair.blocked_since.is_some() => {
                pair.blocked_since = None;
                let stalled = std::mem::take(&mut pair.stalled);
                for (dir, count) in stalled.into_iter().enumerate() {
                    let (from, to) = if dir == 0 { (a, b) } else { (b, a) };
                    (0..count).for_each(|_| self.plan_arrival(from, to, 0));
                }
            }
            (State::Down, true) => {
                pair.state = State::Opening;
                pair.number += 1;
                let session = pair.number;
                let longest = self.layout.session_open.max(MS);
                let delay = self.chance_of_session(a, b).range(MS, longest);
                self.queue.push(
                    now + delay,
                    Item::SessionOpen {
                        a: a16,
                        b: b16,
                        session,
                    },
                );
            }
            (State::Opening, false) => {
                pair.state = State::Down;
                pair.number += 1;
            }
            _ => {}
        }
    }

    pub(super) fn session_open(&mut self, a: usize, b: usize, session: u32) {
        let pair = self.sessions.pair(a, b);
        if pair.number != session || pair.state != State::Opening {
            return;
        }
        pair.state = State::Up;
        pair.blocked_since = None;
        for dir in 0..2 {
            let (from, to) = if dir == 0 { (a, b) } else { (b, a) };
            let pair = self.sessions.pair(a, b);
            // The receiver of direction 0 is end 1.
            let stale = pair.told[1 - dir] != 0;
            if stale {
                pair.queues[dir].push_back(Slot::Down);
            }
            pair.queues[dir].push_back(Slot::Up);
            (0..=usize::from(stale)).for_each(|_| self.plan_arrival(from, to, 0));
        }
        self.refresh_pair(a, b);
    }

    pub(super) fn session_check(&mut self, a: usize, b: usize, session: u32) {
        let (now, loss) = (self.now, self.layout.session_loss);
        let pair = self.sessions.pair(a, b);
        let Some(since) = pair.blocked_since else {
            return;
        };
        if pair.number != session || pair.state != State::Up {
            return;
        }
        if since + loss > now {
            // Blocked anew since this check was planned.
            let (a, b) = (a as u16, b as u16);
            self.queue
                .push(since + loss, Item::SessionCheck { a, b, session });
            return;
        }
        self.close(a, b, [Some(0), Some(0)]);
    }

    /// Ends the session of two nodes, if they have one; both ends learn of it.
    pub fn end_session(&mut self, a: usize, b: usize) {
        if self.sessions.pair(a, b).state == State::Up {
            self.close(a, b, [Some(0), Some(0)]);
        }
    }

    /// Ends a session; each end is told after the delay given, if it is.
    fn close(&mut self, a: usize, b: usize, tell: [Option<u64>; 2]) {
        let (a, b) = (a.min(b), a.max(b));
        let pair = self.sessions.pair(a, b);
        pair.state = State::Down;
        pair.number += 1;
        pair.blocked_since = None;
        pair.stuck = false;
        pair.stalled = [0; 2];
        // What the next session carries does not wait for what this one lost.
        pair.last = [0; 2];
        let held = pair.queues.each_mut().map(std::mem::take);
        let told = pair.told;
        for slot in held.iter().flatten() {
            if let Slot::Message(_, sent) = slot {
                self.loses(*sent, Loss::NoSession, None);
            }
        }
        for end in 0..2 {
            let (node, peer) = if end == 0 { (a, b) } else { (b, a) };
            if let (Some(delay), true) = (tell[end], told[end] != 0) {
                let notice = self.chance_of_session(peer, node).range(0, 10 * MS);
                let at = self.now + delay + notice;
                let (node, peer) = (node as u16, peer as u16);
                let session = told[end];
                self.queue.push(
                    at,
                    Item::SessionGone {
                        node,
                        peer,
                        session,
                    },
                );
            }
        }
        self.refresh_pair(a, b);
    }

    pub(super) fn sessions_of_crashed(&mut self, node: usize) {
        for peer in 0..self.layout.nodes {
            if peer == node {
                continue;
            }
            let end = usize::from(node > peer);
            let loss = self.layout.session_loss;
            let connected = self.reachable[node]
                && (0..self.layout.session_networks).any(|k| !self.net.link(k, node, peer).cut);
            let pair = self.sessions.pair(node, peer);
            pair.told[end] = 0;
            // The kernel of a crashed process says so; that of a machine without power does not.
            let mut tell = [None; 2];
            tell[1 - end] = Some(if connected { 0 } else { loss });
            self.close(node, peer, tell);
        }
    }

    pub(super) fn arrive(&mut self, from: usize, to: usize, session: u32) -> Option<Happening<T>> {
        let dir = usize::from(from > to);
        let pair = self.sessions.pair(from, to);
        if pair.number != session || pair.state != State::Up {
            return None;
        }
        if pair.blocked_since.is_some() {
            pair.stalled[dir] += 1;
            return None;
        }
        let (node, peer) = (to, from);
        match pair.queues[dir].pop_front()? {
            Slot::Down => {
                pair.told[1 - dir] = 0;
                self.offer(node, Happening::SessionDown { node, peer })
            }
            Slot::Up => {
                pair.told[1 - dir] = session;
                self.offer(node, Happening::SessionUp { node, peer })
            }
            Slot::Message(message, sent) => {
                self.queue.cause = sent;
                self.offer(node, Happening::Message { to, from, message })
            }
        }
    }
}
