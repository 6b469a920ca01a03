//! What the replicated state refuses to hold, and what it costs to judge a guest.

use quorate_fencing::{Device, Level};
use quorate_membership::cluster::Host;
use quorate_membership::entry::{Capacity, Profile};
use quorate_membership::{
    Application, BootId, Cluster, ClusterId, Epoch, Founding, Incarnation, NodeId, StoreId, Timing,
    Token,
};
use quorate_recovery::Guests;
use quorate_recovery::command::Command;
use quorate_recovery::guest::{Definition, GuestSpec, Needs, Wanted};

fn cluster(hosts: u32) -> Cluster {
    let founding = Founding {
        cluster: ClusterId(1),
        rules: quorate_membership::states::RULES,
        epoch: quorate_membership::Epoch(1),
        voters: vec![(NodeId(1), StoreId(1))],
        timing: Timing::fast(),
        proof: Default::default(),
    };
    let mut cluster = Cluster::new(&founding);
    for i in 1..=hosts {
        let life = Incarnation {
            counter: 1,
            random: 1,
        };
        let host = Host {
            profile: Profile {
                name: format!("h{i}"),
                store: StoreId(i.into()),
                boot: BootId(1),
                witness: false,
                capacity: Capacity {
                    vcpus: 64,
                    memory_mib: 262_144,
                },
                machine: Default::default(),
            },
            incarnation: life,
            admitted: at(1),
            armed: None,
            word: 0,
            revoke: None,
            proved: None,
            attempts: Default::default(),
            tried: Vec::new(),
            last_attempt: None,
            away: None,
        };
        cluster.hosts.insert(NodeId(i), host);
    }
    cluster
}

fn at(index: u64) -> Token {
    Token::new(Epoch(1), index)
}

fn spec(i: u64, argument: usize) -> GuestSpec {
    GuestSpec {
        name: format!("g{i}"),
        definition: Definition::Command {
            argv: vec!["/bin/true".into(), "a".repeat(argument)],
            env: Default::default(),
            images: Vec::new(),
        },
        needs: Needs {
            vcpus: 2,
            memory_mib: 4096,
        },
        priority: 0,
        policy: Default::default(),
        probe: None,
    }
}

fn add(guests: &mut Guests, cluster: &Cluster, i: u64, argument: usize) -> Result<(), String> {
    let add = Command::AddGuest(Box::new(spec(i, argument)));
    guests.apply(at(10 + i), cluster, &add)
}

#[test]
fn descriptions_of_all_guests_together_are_bounded_and_what_is_there_goes_on() {
    let cluster = cluster(0);
    let mut guests = Guests::default();
    let mut i = 0;
    let why = loop {
        match add(&mut guests, &cluster, i, 60_000) {
            Ok(()) => i += 1,
            Err(why) => break why,
        }
        assert!(i < 1000, "nothing bounds them");
    };
    assert!(why.contains("bytes"), "{why}");
    let state = quorate_membership::codec::encode(quorate_membership::codec::Kind::State, &guests)
        .expect("fits");
    assert!(state.len() < 16 << 20, "{} bytes", state.len());
    // Paths of images count as well.
    let mut long = spec(5000, 0);
    let images = (0..64).map(|n| format!("/{n:02}{}", "a".repeat(4000)));
    long.definition = Definition::Command {
        argv: vec!["/bin/true".into()],
        env: Default::default(),
        images: images.collect(),
    };
    let add = Command::AddGuest(Box::new(long));
    let why = guests.apply(at(4999), &cluster, &add);
    assert!(why.expect_err("no space for it").contains("bytes"));
    // Only what clients add is refused.
    let (guest, _) = guests.named("g0").expect("there");
    let wanted = Wanted::Stopped;
    let stop = Command::SetWanted { guest, wanted };
    guests.apply(at(5000), &cluster, &stop).expect("stopped");
}

#[test]
fn fence_levels_of_a_host_are_bounded() {
    let mut guests = Guests::default();
    let level = |length: usize| Level {
        devices: vec![Device {
            name: "bmc".into(),
            agent: "fence_ipmilan".into(),
            parameters: [("ip".to_owned(), "a".repeat(length))].into(),
            class: None,
            limit_ms: 20_000,
        }],
    };
    let set = |levels| Command::SetFencing {
        host: NodeId(1),
        levels,
    };
    let fine = set(vec![level(4000)]);
    guests.apply(at(1), &cluster(1), &fine).expect("fits");
    let long = set(vec![level(8000), level(8000), level(8000)]);
    let why = guests
        .apply(at(2), &cluster(1), &long)
        .expect_err("too long");
    assert!(why.contains("bytes"), "{why}");
}

/// Hosts of one size are judged once, not each: three hundred of them, in the time of one.
#[test]
fn a_guest_is_judged_in_a_cluster_of_hundreds() {
    let big = cluster(300);
    let mut guests = Guests::default();
    let none = cluster(0);
    for i in 0..3000 {
        add(&mut guests, &none, i, 8).expect("added");
    }
    add(&mut guests, &big, 3000, 8).expect("accepted");
    // Sixty-four to a host by memory, thirty-two by CPUs: what does not fit beside a loss is refused.
    let small = cluster(2);
    let mut guests = Guests::default();
    for i in 0..32 {
        add(&mut guests, &small, i, 8).expect("accepted");
    }
    let why = add(&mut guests, &small, 32, 8).expect_err("one host holds no more");
    assert!(why.contains("if h1 were lost"), "{why}");
}
