//! The world, seen by a toy protocol: every node numbers its messages to its neighbour.

use super::*;
use crate::protocol::{Ctx, Protocol, Runner};

/// Sends a rising number every 10 ms both ways it can, and makes each received one durable.
#[derive(Debug)]
struct Counter {
    peer: usize,
    sent: u64,
    up: bool,
    log: Vec<(u64, String)>,
    datagrams: Vec<u64>,
    stream: Vec<u64>,
    durable: Vec<u64>,
}

#[derive(Clone, Debug)]
enum Number {
    Datagram(u64),
    Stream(u64),
}

impl Protocol for Counter {
    type Message = Number;
    type Write = u64;
    type Fact = ();
    const SESSIONS: bool = true;

    fn start(ctx: &mut Ctx<'_, Counter>) -> Counter {
        ctx.set_timer(0, 1);
        Counter {
            peer: (ctx.id() + 1) % ctx.nodes(),
            sent: 0,
            up: false,
            log: Vec::new(),
            datagrams: Vec::new(),
            stream: Vec::new(),
            durable: Vec::new(),
        }
    }

    fn restart(ctx: &mut Ctx<'_, Counter>, disk: &[u64]) -> Counter {
        let durable = disk.to_vec();
        Counter {
            durable,
            ..Counter::start(ctx)
        }
    }

    fn timer(&mut self, ctx: &mut Ctx<'_, Counter>, _timer: u64) {
        self.log.push((ctx.now(), "timer".into()));
        self.sent += 1;
        ctx.send(self.peer, Number::Datagram(self.sent));
        ctx.stream(self.peer, Number::Stream(self.sent));
        ctx.set_timer(0, 10 * MS);
    }

    fn message(&mut self, ctx: &mut Ctx<'_, Counter>, _from: usize, message: Number) {
        self.log.push((ctx.now(), format!("{message:?}")));
        match message {
            Number::Datagram(n) => self.datagrams.push(n),
            Number::Stream(n) => {
                assert!(self.up, "node {}: a message before its session", ctx.id());
                self.stream.push(n);
                ctx.persist(n);
            }
        }
    }

    fn stored(&mut self, _ctx: &mut Ctx<'_, Counter>, write: u64) {
        self.durable.push(write);
    }

    fn connected(&mut self, _ctx: &mut Ctx<'_, Counter>, _peer: usize) {
        assert!(!self.up, "two ups in a row");
        self.up = true;
    }

    fn disconnected(&mut self, _ctx: &mut Ctx<'_, Counter>, _peer: usize) {
        assert!(self.up, "two downs in a row");
        self.up = false;
    }
}

fn pair(seed: u64) -> Runner<Counter> {
    let mut r = Runner::new(seed, 2, None);
    r.start(0);
    r.start(1);
    r
}

fn run(r: &mut Runner<Counter>, until: u64) {
    while r.next(until).is_some() {}
}

fn node(r: &Runner<Counter>, n: usize) -> &Counter {
    r.node(n).expect("runs")
}

#[test]
fn one_seed_one_history() {
    let history = |seed| {
        let mut r = pair(seed);
        r.world.change_link(0, 0, 1, |l| l.loss = 200_000);
        run(&mut r, 5 * SECOND);
        format!("{:?}{:?}", node(&r, 0), node(&r, 1))
    };
    assert_eq!(history(4), history(4));
    assert_ne!(history(4), history(5));
}

#[test]
fn datagrams_are_lost_and_doubled_and_sessions_are_not() {
    let mut r = pair(1);
    r.world.change_link(0, 0, 1, |l| {
        l.loss = 300_000;
        l.duplicate = 300_000;
    });
    run(&mut r, 10 * SECOND);
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
    run(&mut r, SECOND);
    let cut = |r: &mut Runner<Counter>, cut| r.world.change_link(0, 0, 1, |l| l.cut = cut);
    cut(&mut r, true);
    run(&mut r, 1300 * MS);
    cut(&mut r, false);
    run(&mut r, 2 * SECOND);
    let s = &node(&r, 1).stream;
    assert!(
        s.windows(2).all(|w| w[1] == w[0] + 1),
        "nothing lost in 300 ms"
    );
    assert!(*s.last().expect("some") > 190);
    // One direction cut for longer: both ends lose the session.
    cut(&mut r, true);
    run(&mut r, 3 * SECOND);
    assert!(!node(&r, 0).up && !node(&r, 1).up);
    cut(&mut r, false);
    run(&mut r, 4 * SECOND);
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
    run(&mut r, SECOND);
    r.world.stop(1, 2 * SECOND);
    let before = node(&r, 1).log.len();
    let start = r.world.reading(1) - r.world.now();
    run(&mut r, 2900 * MS);
    assert_eq!(node(&r, 1).log.len(), before);
    run(&mut r, 3100 * MS);
    let log = &node(&r, 1).log[before..];
    assert!(
        log.len() > 350,
        "200 datagrams and 200 messages: {}",
        log.len()
    );
    assert!(log.iter().all(|(at, _)| *at - start >= 2900 * MS));
    let s = &node(&r, 1).stream;
    assert!(s.windows(2).all(|w| w[1] == w[0] + 1));
}

#[test]
fn a_crash_loses_the_newest_writes_only_and_the_peer_is_told() {
    let mut r = pair(4);
    r.world.disk_mut(1).delay = (100 * MS, 100 * MS);
    run(&mut r, 2 * SECOND);
    let (told, given) = (node(&r, 1).durable.len(), node(&r, 1).stream.clone());
    r.crash(1);
    run(&mut r, 2100 * MS);
    assert!(!node(&r, 0).up, "the peer's session is gone");
    r.start(1);
    let kept = node(&r, 1).durable.clone();
    assert!(
        told > 10 && kept.len() >= told,
        "what was confirmed durable is there"
    );
    assert!(given.starts_with(&kept), "in order");
    run(&mut r, 3 * SECOND);
    assert!(node(&r, 0).up && node(&r, 1).up);
}

#[test]
fn timers_follow_the_nodes_own_clock() {
    let mut r = Runner::<Counter>::new(5, 2, None);
    r.world.set_clock(
        0,
        Clock {
            offset: 77,
            rate_ppb: 20_000_000,
        },
    );
    r.start(0);
    r.start(1);
    run(&mut r, 10 * SECOND);
    let (fast, exact) = (node(&r, 0).sent, node(&r, 1).sent);
    assert!(
        (999..=1001).contains(&exact) && (1018..=1022).contains(&fast),
        "{exact} {fast}"
    );
}

#[test]
fn a_node_without_power_neither_sends_nor_hears_and_its_peer_notices_late() {
    let mut r = pair(6);
    run(&mut r, SECOND);
    r.world.set_reachable(1, false);
    r.crash(1);
    run(&mut r, 1400 * MS);
    assert!(node(&r, 0).up, "nobody said so");
    run(&mut r, 1700 * MS);
    assert!(!node(&r, 0).up);
}

#[test]
fn a_stall_that_is_ended_leaves_nothing_waiting() {
    let mut r = pair(1);
    r.world.disk_mut(0).stall(10 * SECOND);
    (1001..1004).for_each(|n| r.world.persist(0, 0, n, n));
    run(&mut r, SECOND);
    assert!(node(&r, 0).durable.is_empty());
    let waiting = r.world.disk(0).waiting();
    r.world.disk_goes_on(0);
    run(&mut r, 2 * SECOND);
    let durable = node(&r, 0).durable.clone();
    assert_eq!(durable[..3], [1001, 1002, 1003], "in order");
    assert!(durable.len() >= waiting, "{waiting}: {durable:?}");
}
