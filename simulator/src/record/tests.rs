//! The record of a world in which a toy protocol lives.

use super::*;
use crate::world::{Happening, Layout, MS, SECOND, Types, World};

#[derive(Debug)]
struct Toy;

impl Types for Toy {
    type Datagram = u64;
    type Message = u64;
    type Write = u64;
    type Local = u64;
    type Event = usize;

    fn datagram_text(n: &u64) -> String {
        format!("ping {n}")
    }

    fn event_text(node: &usize) -> (Option<usize>, String) {
        (Some(*node), "is poked".into())
    }
}

/// Every node pings the next one every 10 ms by datagram and on the session, writes down what it
/// receives, and is told when that is durable.
struct Ring {
    world: World<Toy>,
    nodes: usize,
    log: Vec<String>,
}

fn ring(nodes: usize, seed: u64, recorded: bool) -> Ring {
    let layout = Layout {
        nodes,
        networks: 1,
        session_networks: 1,
        session_loss: 500 * MS,
        session_open: 50 * MS,
    };
    let mut world = World::new(seed, layout);
    if recorded {
        world.record(Names::numbered("n", nodes, 1));
    }
    for node in 0..nodes {
        world.start(node);
        let now = world.reading(node);
        world.wait(node, now);
    }
    Ring {
        world,
        nodes,
        log: Vec::new(),
    }
}

impl Ring {
    fn run(&mut self, until: u64) {
        while let Some(h) = self.world.next(until) {
            self.log.push(format!("{} {h:?}", self.world.now()));
            match h {
                Happening::Timer { node } => {
                    let to = (node + 1) % self.nodes;
                    let now = self.world.reading(node);
                    self.world.datagram(0, node, to, 0, 0, now);
                    self.world.stream(node, to, 0, now);
                    self.world.wait(node, now + 10 * MS);
                }
                Happening::Datagram { to, message, .. } => {
                    self.world.persist(to, 0, message, message);
                }
                Happening::Stored { node, batch, .. } => self.world.tell(node, 0, batch),
                Happening::Event(node) => self.world.datagram(0, node, 0, 0, 0, 7),
                _ => {}
            }
        }
    }

    fn cut(&mut self, from: usize, to: usize, cut: bool) {
        self.world.change_link(0, from, to, |l| l.cut = cut);
    }

    fn cut_both(&mut self, a: usize, b: usize) {
        self.cut(a, b, true);
        self.cut(b, a, true);
    }

    fn record(mut self) -> Record {
        self.world.take_record().expect("it was recording")
    }
}

fn of_kind(record: &Record, kind: Kind) -> Vec<&Entry> {
    record.entries.iter().filter(|e| e.kind == kind).collect()
}

#[test]
fn a_record_changes_nothing() {
    let story = |recorded| {
        let mut ring = ring(3, 4, recorded);
        ring.run(SECOND);
        ring.world.fault(0, "n1 is cut from n2", None);
        ring.cut_both(0, 1);
        ring.world.stop(2, SECOND / 4);
        ring.run(2 * SECOND);
        ring.world.crash(1);
        ring.run(3 * SECOND);
        assert_eq!(ring.world.is_recording(), recorded);
        ring.log
    };
    let (quiet, loud) = (story(false), story(true));
    assert!(quiet.len() > 1000);
    assert_eq!(quiet, loud);
}

#[test]
fn everything_is_caused_by_what_came_before() {
    let mut ring = ring(3, 5, true);
    ring.run(SECOND);
    let record = ring.record();
    assert_eq!(record.entries[0].kind, Kind::Begin);
    for (i, e) in record.entries.iter().enumerate().skip(1) {
        let cause = record.entry(e.cause);
        assert!((e.cause as usize) < i && cause.at <= e.at);
        match e.kind {
            Kind::Received => {
                assert_eq!((cause.kind, cause.lane), (Kind::Sent, e.peer));
                assert_eq!((cause.peer, cause.text), (e.lane, e.text));
            }
            Kind::Sent => assert_eq!((cause.kind, cause.lane), (Kind::Timer, e.lane)),
            Kind::Timer if cause.kind != Kind::Begin => {
                assert_eq!((cause.kind, cause.lane), (Kind::Timer, e.lane));
            }
            Kind::Stored => assert_eq!((cause.kind, cause.lane), (Kind::Received, e.lane)),
            Kind::Local => assert_eq!((cause.kind, cause.lane), (Kind::Stored, e.lane)),
            _ => {}
        }
    }
    for kind in [Kind::Received, Kind::Stored, Kind::Local, Kind::SessionUp] {
        assert!(!of_kind(&record, kind).is_empty(), "{kind:?}");
    }
    let pings = of_kind(&record, Kind::Received);
    assert!(
        pings
            .iter()
            .any(|e| record.words(e).starts_with("receives ping "))
    );
}

#[test]
fn a_lost_message_names_who_took_it() {
    let mut ring = ring(2, 6, true);
    ring.run(SECOND);
    ring.world.fault(0, "links lose half", None);
    ring.world.change_link(0, 0, 1, |l| l.loss = 500_000);
    ring.run(2 * SECOND);
    ring.world.fault(1, "n2 no longer hears n1", None);
    ring.cut(0, 1, true);
    ring.run(3 * SECOND);
    ring.world.fault(2, "it hears again", None);
    ring.cut(0, 1, false);
    ring.run(4 * SECOND);
    ring.world.crash(1);
    ring.run(5 * SECOND);
    let record = ring.record();
    let faults = faults(&record);
    let spans: Vec<_> = faults.iter().map(|f| (f.number, f.from, f.until)).collect();
    // The noise goes on under the cut and after it; the mending ends nothing of it.
    let end = record.ended;
    assert_eq!(spans[0], (0, faults[0].from, end));
    assert_eq!((spans[1].0, spans[1].2), (1, faults[2].from));
    assert_eq!((spans[2].0, spans[2].2), (2, faults[2].from));
    let mut by = std::collections::BTreeMap::new();
    for e in of_kind(&record, Kind::Lost) {
        if e.lane == 0 && record.text(e.text).starts_with("ping") {
            let fault = story::fault_of(&record, e.because).map(|f| record.entry(f).value);
            *by.entry((e.value, fault)).or_insert(0) += 1;
        }
    }
    assert!(by[&(Loss::Chance as u32, Some(0))] > 50, "{by:?}");
    assert!(by[&(Loss::Cut as u32, Some(1))] > 90, "{by:?}");
    assert!(by[&(Loss::Down as u32, None)] > 20, "{by:?}");
    assert_eq!(by.len(), 3, "{by:?}");
}

#[test]
fn what_waits_for_a_stopped_process_arrives_when_it_goes_on() {
    let mut ring = ring(2, 7, true);
    ring.run(SECOND);
    ring.world.stop(1, SECOND);
    ring.run(3 * SECOND);
    let record = ring.record();
    let slow = record.entries.iter().filter(|e| {
        e.kind == Kind::Received && e.lane == 1 && e.at - record.entry(e.cause).at > SECOND / 2
    });
    assert!(slow.count() > 40);
    let stopped: Vec<&Band> = record
        .bands
        .iter()
        .filter(|b| b.name == "stopped")
        .collect();
    assert_eq!(stopped.len(), 1);
    assert_eq!(stopped[0].until - stopped[0].from, SECOND);
}

/// What is said of four nodes after this was done to them.
fn said(change: impl FnOnce(&mut Ring)) -> String {
    let mut ring = ring(4, 8, true);
    ring.run(SECOND);
    change(&mut ring);
    ring.run(2 * SECOND);
    sentences(&ring.record()).remove(0)
}

#[test]
fn a_sentence_says_who_was_cut_from_whom() {
    let whole = said(|_| {});
    assert_eq!(whole, "No link between nodes was cut.");
    let one = said(|r| (1..4).for_each(|o| r.cut_both(0, o)));
    assert!(one.ends_with("on, n1 was cut off from everybody."), "{one}");
    let halves = said(|r| {
        for (a, b) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
            r.cut_both(a, b);
        }
    });
    let two = "{n1, n2} and {n3, n4} were cut off from each other.";
    assert!(halves.ends_with(two), "{halves}");
    let deaf = said(|r| (1..4).for_each(|o| r.cut(o, 0, true)));
    assert!(
        deaf.contains("n1 heard nobody, though it was heard"),
        "{deaf}"
    );
    let bridge = said(|r| {
        r.cut_both(0, 3);
        r.cut(1, 2, true);
    });
    let both = "n1 and n4 were cut off from each other; n3 did not hear n2.";
    assert!(bridge.ends_with(both), "{bridge}");
    let none = said(|r| {
        for a in 0..4 {
            (a + 1..4).for_each(|b| r.cut_both(a, b));
        }
    });
    assert!(
        none.ends_with("every node was cut off from every other."),
        "{none}"
    );
}

#[test]
fn an_explanation_follows_both_facts_back() {
    let mut ring = ring(3, 9, true);
    ring.run(SECOND);
    ring.world.fault(0, "n3 is poked", None);
    ring.world.after(5 * MS, 2);
    ring.run(SECOND + 4 * MS);
    ring.world.fault(1, "n2 is cut off", None);
    ring.cut_both(1, 0);
    ring.cut_both(1, 2);
    // The poke makes node 3 send a ping 7, and its arrival is what one fact speaks of.
    while let Some(h) = ring.world.next(2 * SECOND) {
        if let Happening::Event(node) = h {
            ring.world.datagram(0, node, 0, 0, 0, 7);
        }
        if let Happening::Datagram {
            to: 0, message: 7, ..
        } = h
        {
            break;
        }
    }
    ring.world.mark(0, Sort::Truth, "has the ping 7");
    ring.world.note("9.25".into());
    let facts = [
        "n1 has it now".into(),
        "it must come before 9.25 of its clock".into(),
    ];
    ring.world.broken("P1", "n1 has what it must not", &facts);
    let record = ring.record();
    let why = explain(&record).expect("a promise is broken");
    let kinds = why.chains.each_ref().map(|chain| {
        let hops = chain.hops.iter().map(|h| record.entry(h.entry).kind);
        hops.collect::<Vec<Kind>>()
    });
    assert_eq!(kinds[0], [Kind::Mark, Kind::Received, Kind::Fault]);
    assert_eq!(kinds[1], [Kind::Received, Kind::Fault]);
    let first = record.entry(why.chains[0].hops[0].entry);
    assert_eq!(record.words(first), "has the ping 7");
    let first = &why.lying[0];
    assert_eq!(
        (first.fault.number, first.how.as_str()),
        (0, "it is a step of the chain")
    );
    let story = sentences(&record);
    assert!(
        story[0].ends_with("n2 was cut off from everybody."),
        "{story:?}"
    );
    assert!(
        story.iter().any(|s| s.contains(", P1 broke: ")),
        "{story:?}"
    );
}

#[test]
fn runs_part_where_they_first_differ() {
    let run = |seed, cut: bool| {
        let mut ring = ring(2, seed, true);
        ring.run(SECOND);
        if cut {
            ring.world.fault(0, "cut", None);
            ring.cut(0, 1, true);
        }
        ring.run(2 * SECOND);
        ring.record()
    };
    assert_eq!(compare(&run(3, false), &run(3, false)), None);
    let (a, b) = (run(3, false), run(3, true));
    let parting = compare(&a, &b).expect("they differ");
    assert_eq!(b.entries[parting.entry].kind, Kind::Fault);
    assert_eq!(
        a.entries[..parting.entry].len(),
        b.entries[..parting.entry].len()
    );
    assert!(compare(&run(3, false), &run(4, false)).is_some());
}

#[test]
fn a_run_that_panics_leaves_its_record_behind() {
    let facts = || ["it never panics".into(), "it did".into()];
    assert_eq!(left_behind("nothing yet", &facts()), None);
    let run = std::panic::catch_unwind(|| {
        let mut ring = ring(2, 3, true);
        ring.run(SECOND);
        panic!("on purpose");
    });
    assert!(run.is_err());
    let record = left_behind("a node panicked", &facts()).expect("what it did");
    let broken = record.broken.as_ref().expect("a broken promise");
    assert_eq!(
        (broken.property.as_str(), record.entry(broken.entry).kind),
        ("panic", Kind::Broken)
    );
    assert!(record.entries.len() > 100 && explain(&record).is_some());
    assert_eq!(left_behind("taken", &facts()), None);
}
