//! The world, seen by a toy protocol: every node numbers its messages to its neighbour.

use super::protocol::{Input, Output, Protocol, Runner};
use super::*;

/// Sends a rising number every 10 ms both ways it can, and makes each received one durable.
#[derive(Debug)]
struct Counter {
    id: usize,
    peer: usize,
    sent: u64,
    up: bool,
    log: Vec<(u64, String)>,
    datagrams: Vec<u64>,
    stream: Vec<u64>,
    durable: Vec<u64>,
}

impl Protocol for Counter {
    type Datagram = u64;
    type Message = u64;
    type Write = u64;

    fn start(id: usize, nodes: usize, _now: u64, durable: &[u64]) -> Counter {
        Counter {
            id,
            peer: (id + 1) % nodes,
            sent: 0,
            up: false,
            log: Vec::new(),
            datagrams: Vec::new(),
            stream: Vec::new(),
            durable: durable.to_vec(),
        }
    }

    fn step(&mut self, now: u64, input: Input<Counter>, out: &mut Vec<Output<Counter>>) {
        self.log.push((now, format!("{input:?}")));
        match input {
            Input::Timer => {
                self.sent += 1;
                out.push(Output::Datagram(self.peer, self.sent));
                out.push(Output::Message(self.peer, self.sent));
                out.push(Output::Wait(now + 10 * MS));
            }
            Input::Datagram(_, n) => self.datagrams.push(n),
            Input::Message(_, n) => {
                assert!(self.up, "node {}: a message before SessionUp", self.id);
                self.stream.push(n);
                out.push(Output::Persist(n, n));
            }
            Input::SessionUp(p) if p == self.peer => {
                assert!(!self.up, "two ups in a row");
                self.up = true;
            }
            Input::SessionDown(p) if p == self.peer => {
                assert!(self.up, "two downs in a row");
                self.up = false;
            }
            Input::Durable(n) => self.durable.push(n),
            _ => {}
        }
    }
}

const LAYOUT: Layout = Layout {
    nodes: 2,
    networks: 1,
    session_networks: 1,
    session_loss: 500 * MS,
    session_open: 50 * MS,
};

fn pair(seed: u64) -> Runner<Counter> {
    let mut r = Runner::new(seed, LAYOUT);
    r.start(0);
    r.start(1);
    r
}

fn node(r: &Runner<Counter>, n: usize) -> &Counter {
    r.node(n).expect("runs")
}

#[test]
fn one_seed_one_history() {
    let run = |seed| {
        let mut r = pair(seed);
        r.world.change_link(0, 0, 1, |l| l.loss = 200_000);
        r.run(5 * SECOND, |_, _| {});
        format!("{:?}{:?}", node(&r, 0), node(&r, 1))
    };
    assert_eq!(run(4), run(4));
    assert_ne!(run(4), run(5));
}

#[test]
fn datagrams_are_lost_and_doubled_and_sessions_are_not() {
    let mut r = pair(1);
    r.world.change_link(0, 0, 1, |l| {
        l.loss = 300_000;
        l.duplicate = 300_000;
    });
    r.run(10 * SECOND, |_, _| {});
    let d = &node(&r, 1).datagrams;
    let distinct: std::collections::BTreeSet<_> = d.iter().collect();
    assert!(
        distinct.len() < 900 && distinct.len() > 500,
        "{}",
        distinct.len()
    );
    assert!(d.len() > distinct.len() + 50);
    let s = &node(&r, 1).stream;
    assert!(s.len() > 500, "{}", s.len());
    assert!(s.windows(2).all(|w| w[1] == w[0] + 1), "in order, no gap");
}

#[test]
fn a_short_cut_delays_a_session_and_a_long_one_ends_it_at_both_ends() {
    let mut r = pair(2);
    r.run(SECOND, |_, _| {});
    let cut = |r: &mut Runner<Counter>, cut| r.world.change_link(0, 0, 1, |l| l.cut = cut);
    cut(&mut r, true);
    r.run(1300 * MS, |_, _| {});
    cut(&mut r, false);
    r.run(2 * SECOND, |_, _| {});
    let s = &node(&r, 1).stream;
    assert!(
        s.windows(2).all(|w| w[1] == w[0] + 1),
        "nothing lost in 300 ms"
    );
    assert!(*s.last().expect("some") > 190);
    // One direction cut for longer: both ends lose the session.
    cut(&mut r, true);
    r.run(3 * SECOND, |_, _| {});
    assert!(!node(&r, 0).up && !node(&r, 1).up);
    cut(&mut r, false);
    r.run(4 * SECOND, |_, _| {});
    assert!(node(&r, 0).up && node(&r, 1).up);
    let s = &node(&r, 1).stream;
    let gap = s.windows(2).filter(|w| w[1] != w[0] + 1).count();
    assert_eq!(
        gap, 1,
        "what the old session held is lost, the rest is in order"
    );
}

#[test]
fn a_stopped_process_finds_every_fact_waiting_and_reads_the_time_after_it() {
    let mut r = pair(3);
    r.run(SECOND, |_, _| {});
    r.world.stop(1, 2 * SECOND);
    let before = node(&r, 1).log.len();
    r.run(2999 * MS, |_, _| {});
    assert_eq!(node(&r, 1).log.len(), before);
    r.run(3100 * MS, |_, _| {});
    let log = &node(&r, 1).log[before..];
    assert!(
        log.len() > 350,
        "200 datagrams and 200 messages: {}",
        log.len()
    );
    assert!(log.iter().all(|(at, _)| *at >= 3 * SECOND));
    let s = &node(&r, 1).stream;
    assert!(s.windows(2).all(|w| w[1] == w[0] + 1));
}

#[test]
fn a_crash_loses_the_newest_writes_only_and_the_peer_is_told() {
    let mut r = pair(4);
    r.world.disk_mut(1).delay = (100 * MS, 100 * MS);
    r.run(2 * SECOND, |_, _| {});
    let told = node(&r, 1).durable.clone();
    r.crash(1);
    r.run(2100 * MS, |_, _| {});
    assert!(!node(&r, 0).up, "the peer's session is gone");
    r.start(1);
    let kept = node(&r, 1).durable.clone();
    assert!(
        kept.starts_with(&told),
        "what was confirmed durable is there"
    );
    r.run(3 * SECOND, |_, _| {});
    assert!(node(&r, 0).up && node(&r, 1).up);
}

#[test]
fn timers_follow_the_nodes_own_clock() {
    let mut r = Runner::<Counter>::new(5, LAYOUT);
    r.world.set_clock(
        0,
        Clock {
            offset: 77,
            rate_ppb: 20_000_000,
        },
    );
    r.start(0);
    r.start(1);
    r.run(10 * SECOND, |_, _| {});
    let (fast, exact) = (node(&r, 0).sent, node(&r, 1).sent);
    assert!(
        (999..=1001).contains(&exact) && (1018..=1022).contains(&fast),
        "{exact} {fast}"
    );
}

#[test]
fn a_node_without_power_neither_sends_nor_hears_and_its_peer_notices_late() {
    let mut r = pair(6);
    r.run(SECOND, |_, _| {});
    r.world.set_reachable(1, false);
    r.crash(1);
    r.run(1400 * MS, |_, _| {});
    assert!(node(&r, 0).up, "nobody said so");
    r.run(1700 * MS, |_, _| {});
    assert!(!node(&r, 0).up);
}
