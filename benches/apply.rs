//! Costs of one entry at every node that applies it, and of hashing the state, by hosts and
//! guests. `apply HOSTS GUESTS` for one size.
#![allow(missing_docs)]

use quorate_fencing::{Device, Level};
use quorate_membership::apply::{Outcome, State};
use quorate_membership::entry::{
    Armed, ArmedClass, Capacity, Entry, LogEntry, Machine, Profile, ProposalId,
};
use quorate_membership::founding::{Founding, ProofPolicy};
use quorate_membership::{BootId, ClusterId, Epoch, Incarnation, NodeId, StoreId, Timing, Token};
use quorate_recovery::Guests;
use quorate_recovery::command::Command;
use quorate_recovery::guest::{Definition, GuestId, GuestSpec, Needs, Policy};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const SIZES: [(u32, u32); 3] = [(3, 30), (30, 300), (300, 3000)];
/// Entries of a kind that are timed; the median is told.
const TIMES: u32 = 201;
const VOTERS: u32 = 3;

struct Cluster {
    state: State<Guests>,
    sequence: u64,
}

impl Cluster {
    fn new(hosts: u32, guests: u32, alike: bool) -> Cluster {
        let founding = Founding {
            cluster: ClusterId(1),
            rules: 1,
            epoch: Epoch(1),
            voters: (1..=VOTERS)
                .map(|n| (NodeId(n), StoreId(n.into())))
                .collect(),
            timing: Timing::default(),
            proof: ProofPolicy::Device,
        };
        let mut cluster = Cluster {
            state: State::new(&founding),
            sequence: 0,
        };
        for host in 1..=hosts {
            let capacity = capacity(host, alike);
            cluster.applied(admit(host, capacity)).expect("admitted");
            let timing = cluster.state.cluster.timing_token;
            cluster.applied(armed(host, timing)).expect("attested");
            cluster.applied(fencing(host, 1)).expect("stated");
        }
        for number in 0..guests {
            let at = cluster.applied(add(number)).expect("room for it");
            let host = number % hosts + 1;
            cluster.applied(placed(at, host)).expect("placed");
        }
        cluster
    }

    fn applied(&mut self, body: Entry<Command>) -> Result<Token, String> {
        self.sequence += 1;
        let id = ProposalId {
            node: NodeId(1),
            incarnation: Default::default(),
            sequence: self.sequence,
        };
        match self.state.apply(&LogEntry { id, body }) {
            (at, Outcome::Applied) => Ok(at),
            (_, other) => Err(format!("{other:?}")),
        }
    }

    /// Microseconds that the median of many such entries takes.
    fn costs(&mut self, mut next: impl FnMut(u32) -> Entry<Command>) -> f64 {
        let mut took: Vec<Duration> = (0..TIMES)
            .map(|n| {
                let entry = next(n);
                let begun = Instant::now();
                let outcome = self.applied(entry);
                let took = begun.elapsed();
                outcome.expect("a valid entry");
                took
            })
            .collect();
        median(&mut took)
    }
}

fn median(took: &mut [Duration]) -> f64 {
    took.sort();
    took[took.len() / 2].as_secs_f64() * 1e6
}

fn life(counter: u64) -> Incarnation {
    Incarnation { counter, random: 7 }
}

/// Room that a host offers: all the same, or more of one thing and less of the other, so that none is the
/// largest.
fn capacity(host: u32, alike: bool) -> Capacity {
    let host = if alike { 0 } else { host };
    Capacity {
        vcpus: 1000 + host,
        memory_mib: 1_000_000 - u64::from(host),
    }
}

fn admit(host: u32, capacity: Capacity) -> Entry<Command> {
    Entry::Admit {
        node: NodeId(host),
        incarnation: life(1),
        profile: Profile {
            name: format!("h{host}"),
            store: StoreId(host.into()),
            boot: BootId(host.into()),
            witness: false,
            capacity,
            machine: Machine::default(),
        },
        emptied: true,
    }
}

fn armed(host: u32, timing: Token) -> Entry<Command> {
    Entry::Armed {
        host: NodeId(host),
        incarnation: life(1),
        number: 1,
        armed: Armed {
            class: ArmedClass::Guardian,
            reset: true,
        },
        timing,
    }
}

fn fencing(host: u32, port: u32) -> Entry<Command> {
    let device = Device {
        name: format!("bmc-h{host}"),
        agent: "fence_ipmilan".into(),
        parameters: BTreeMap::from([
            ("ip".into(), format!("10.0.{}.{}", host / 250, host % 250)),
            ("port".into(), port.to_string()),
        ]),
        class: None,
        limit_ms: 20_000,
    };
    Entry::App(Command::SetFencing {
        host: NodeId(host),
        levels: vec![Level {
            devices: vec![device],
        }],
    })
}

fn add(number: u32) -> Entry<Command> {
    Entry::App(Command::AddGuest(Box::new(GuestSpec {
        name: format!("guest-{number}"),
        definition: Definition::Command {
            argv: vec!["/usr/bin/service".into(), number.to_string()],
            env: BTreeMap::new(),
            images: Vec::new(),
        },
        needs: Needs {
            vcpus: 2,
            memory_mib: 2048,
        },
        priority: 0,
        policy: Policy::default(),
        probe: None,
    })))
}

fn placed(guest: Token, host: u32) -> Entry<Command> {
    Entry::App(Command::Placed {
        guest: GuestId(guest.0),
        previous: Token::NONE,
        host: NodeId(host),
        incarnation: life(1),
    })
}

/// Microseconds of the median `AddGuest`, and the guests that were added.
fn adding(c: &mut Cluster, guests: u32) -> (f64, Vec<Token>) {
    let (mut took, mut added) = (Vec::new(), Vec::new());
    for n in 0..TIMES {
        let entry = add(guests + n);
        let begun = Instant::now();
        let at = c.applied(entry);
        took.push(begun.elapsed());
        added.push(at.expect("room for it"));
    }
    (median(&mut took), added)
}

fn main() {
    let only: Vec<u32> = std::env::args().flat_map(|a| a.parse()).collect();
    println!(
        "| hosts | guests | Admit | SetFencing | AddGuest | the same, no host like another | Placed | hash of the state |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (hosts, guests) in SIZES {
        if !only.is_empty() && only != [hosts, guests] {
            continue;
        }
        let (differing, _) = adding(&mut Cluster::new(hosts, guests, false), guests);
        let mut c = Cluster::new(hosts, guests, true);
        let (alike, added) = adding(&mut c, guests);
        let place = c.costs(|n| placed(added[n as usize], n % hosts + 1));
        let fence = c.costs(|n| fencing(n % hosts + 1, n + 2));
        let joins = c.costs(|n| admit(hosts + n + 1, capacity(0, true)));
        let mut hashes: Vec<Duration> = (0..21)
            .map(|_| {
                let begun = Instant::now();
                std::hint::black_box(quorate_membership::codec::checksum(&c.state));
                begun.elapsed()
            })
            .collect();
        let hash = median(&mut hashes);
        println!(
            "| {hosts} | {guests} | {joins:.1} | {fence:.1} | {alike:.1} | {differing:.1} | {place:.1} | {hash:.0} |"
        );
    }
}
