//! Every value nodes exchange survives the wire, and nothing on it can do harm.

use proptest::prelude::*;
use quorate_membership::attest::Word;
use quorate_membership::codec::{self, DecodeError, HEADER, Kind};
use quorate_membership::consensus::{
    ElectionMessage, LogMessage, Outgoing, Replica, ReplicaConfig,
};
use quorate_membership::entry::*;
use quorate_membership::frame::*;
use quorate_membership::states::{RULES, StateWord};
use quorate_membership::store::{Image, StopRecord, Write};
use quorate_membership::vouch::{Claim, PeerRecord, Standing, Statement, Unvouched};
use quorate_membership::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Status(Vec<String>);
impl Words for Status {
    type Item = String;
}
type Command = String;

/// Encoded, decoded and the same again; then every kind of damage is noticed.
fn survives<T: Serialize + DeserializeOwned + Debug>(kind: Kind, value: &T) {
    let bytes = codec::encode(kind, value).expect("fits");
    let back: T = codec::decode(kind, &bytes).expect("our own bytes decode");
    assert_eq!(format!("{value:?}"), format!("{back:?}"));
    assert_eq!(codec::encode(kind, &back).expect("fits"), bytes);

    for cut in 0..bytes.len() {
        let expected = if cut < HEADER { HEADER } else { bytes.len() };
        let short = DecodeError::Short {
            found: cut,
            expected,
        };
        assert_eq!(refused::<T>(kind, &bytes[..cut]), short);
    }
    let mut long = bytes.clone();
    long.extend_from_slice(&[0, 0]);
    assert_eq!(refused::<T>(kind, &long), DecodeError::Rest(2));

    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let error = refused::<T>(kind, &flipped);
            let right = match at {
                0 | 1 => error == DecodeError::Magic,
                2 => error == DecodeError::Version(flipped[2]),
                3 => error == DecodeError::Kind(flipped[3], kind),
                // A wrong length leaves too few bytes, too many, or is beyond the limit.
                4..8 => matches!(
                    error,
                    DecodeError::Short { .. } | DecodeError::Rest(_) | DecodeError::Limit(..)
                ),
                _ => error == DecodeError::Checksum,
            };
            assert!(right, "bit {bit} of byte {at}: {error}");
        }
    }

    // Bytes that follow the value inside a body whose header is right.
    let mut body = bytes[HEADER..].to_vec();
    body.push(0);
    assert_eq!(
        refused::<T>(kind, &framed(&bytes[..4], &body)),
        DecodeError::Rest(1)
    );
}

fn refused<T: DeserializeOwned + Debug>(kind: Kind, bytes: &[u8]) -> DecodeError {
    codec::decode::<T>(kind, bytes).expect_err("damaged bytes")
}

/// `body` with a header made to fit.
fn framed(start: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = start.to_vec();
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn start(kind: Kind) -> Vec<u8> {
    codec::encode(kind, &()).expect("fits")[..4].to_vec()
}

const INCARNATION: Incarnation = Incarnation {
    counter: 300,
    random: u64::MAX,
};

fn founding() -> Founding {
    Founding {
        cluster: ClusterId(u128::MAX),
        rules: quorate_membership::states::RULES,
        epoch: quorate_membership::Epoch(1),
        voters: (1..=3).map(|n| (NodeId(n), StoreId(n.into()))).collect(),
        timing: Timing::default(),
        proof: ProofPolicy::DeviceAndLease,
    }
}

fn claim() -> Claim {
    Claim {
        epoch: Epoch(1),
        promise: None,
        accepted: None,
        index: 1 << 40,
    }
}

fn profile() -> Profile {
    Profile {
        name: "host α".into(),
        store: StoreId(7),
        boot: BootId(9),
        witness: true,
        capacity: Capacity {
            vcpus: 64,
            memory_mib: 1 << 40,
        },
        machine: Default::default(),
    }
}

/// One entry of every kind.
fn entries() -> Vec<LogEntry<Command>> {
    let (node, host, incarnation) = (NodeId(1), NodeId(u32::MAX), INCARNATION);
    let (term, revoke) = (Token::new(Epoch(1), 4), Token::new(Epoch(2), 1 << 40));
    let mut bodies = vec![
        Entry::Noop,
        Entry::Term { node, incarnation },
        Entry::Renew { term, number: 9 },
        Entry::Resign { term, waited: true },
        Entry::Admit {
            node,
            incarnation,
            profile: profile(),
            emptied: true,
        },
        Entry::Revoke {
            hosts: vec![
                (host, incarnation, Ground::Deaf),
                (node, Incarnation::default(), Ground::Silent),
            ],
        },
        Entry::Restore { host, revoke },
        Entry::Attempt {
            level: 1,
            host,
            incarnation,
            revoke,
            device: "bmc".into(),
            launch_within: Duration::from_millis(1_500),
            limit: Duration::from_secs(60),
        },
        Entry::App("change".into()),
    ];
    for class in [ArmedClass::Guardian, ArmedClass::Watchdog] {
        bodies.push(Entry::Armed {
            host,
            incarnation,
            number: 3,
            armed: Armed {
                class,
                reset: class == ArmedClass::Watchdog,
            },
            timing: term,
        });
    }
    bodies.push(Entry::Rules { version: 2 });
    bodies.push(Entry::Unarmed {
        host,
        incarnation,
        number: 4,
    });
    for proof in [
        Proof::LeaseExpired,
        Proof::Fenced {
            device: "bmc".into(),
            class: "power".into(),
        },
        Proof::Confirmed { by: "ada".into() },
    ] {
        bodies.push(Entry::Proof {
            host,
            incarnation,
            revoke,
            proof,
        });
    }
    for end in [
        AttemptEnd::Off,
        AttemptEnd::Failed,
        AttemptEnd::Unknown,
        AttemptEnd::NotLaunched,
    ] {
        bodies.push(Entry::AttemptEnded {
            host,
            attempt: term,
            end,
        });
    }
    for why in [Away::Stop, Away::Reboot, Away::Shutdown] {
        bodies.push(Entry::Away {
            node,
            incarnation,
            why,
        });
    }
    let named = bodies
        .into_iter()
        .zip(1..)
        .map(|(body, sequence)| LogEntry {
            id: ProposalId {
                node,
                incarnation,
                sequence,
            },
            body,
        });
    named.collect()
}

fn header() -> Header {
    Header {
        cluster: ClusterId(1),
        epoch: Epoch(1),
        from: NodeId(3),
        incarnation: INCARNATION,
        number: 77,
    }
}

fn beat() -> Beat<Status> {
    Beat {
        sequence: 5,
        hello: Some(Box::new(Hello {
            profile: profile(),
            emptied: false,
        })),
        lease_left: Duration::from_millis(29_999),
        renewed_ago: Duration::ZERO,
        timing: Token::new(Epoch(1), 1),
        word: Word {
            number: 3,
            armed: Some(Armed {
                class: ArmedClass::Watchdog,
                reset: true,
            }),
        },
        full: false,
        unheard: 0b101,
        hears: 3,
        applied: 12,
        status: Status(vec!["guest".into()]),
    }
}

/// A cluster that elects, replicates and heals; all messages it sends.
fn consensus() -> (Vec<ElectionMessage>, Vec<LogMessage<Command>>) {
    let image = |slot: u8| {
        let node = NodeId(u32::from(slot));
        Image::new(node, StoreId(1), INCARNATION, founding())
    };
    let config = |slot: u8| ReplicaConfig {
        epoch: Epoch(1),
        slot: Slot(slot),
        slots: 3,
        election_ticks: 5,
    };
    let mut replicas: Vec<Replica<Command>> = (1..=3)
        .map(|slot| Replica::new(config(slot), &image(slot)).expect("fresh image"))
        .collect();
    let (mut elections, mut logs) = (Vec::new(), Vec::new());
    let mut proposals = entries().into_iter();
    for turn in 0..120 {
        if turn > 30
            && let Some(entry) = proposals.next()
        {
            replicas[turn % 3].append(entry);
        }
        for at in 0..3 {
            replicas[at].tick();
            if turn == 80 {
                for peer in 1..=3 {
                    replicas[at].session_up(Slot(peer));
                }
            }
            if let Some(to) = turn.checked_sub(90)
                && to < 5
            {
                replicas[at].cut(to as u64, &[Slot(1), Slot(2), Slot(3)]);
            }
            let decided = replicas[at].decided();
            replicas[at].state_kept(decided);
            replicas[at].take_writes();
            let from = Slot(at as u8 + 1);
            for (to, message) in replicas[at].take_messages() {
                let peer = &mut replicas[usize::from(to.0) - 1];
                match message {
                    Outgoing::Election(m) => {
                        elections.push(m.clone());
                        let _ = peer.receive_election(from, m);
                    }
                    Outgoing::Log(m) => {
                        logs.push(m.clone());
                        peer.receive_log(from, m).expect("honest");
                    }
                }
            }
        }
    }
    let decided = entries().len() as u64;
    assert!(replicas.iter().all(|r| r.decided() == decided));
    (elections, logs)
}

fn part() -> Part<String> {
    Part {
        generation: 70_000,
        part: 2,
        parts: 300,
        unheard: 5,
        items: vec!["g1 runs".into(), String::new()],
    }
}

fn frames() -> Vec<Frame<Status>> {
    let mut bodies = vec![
        Datagram::Beat(beat()),
        Datagram::Beat(Beat {
            hello: None,
            word: Word::default(),
            full: true,
            ..beat()
        }),
        Datagram::Relayed {
            header: header(),
            beat: Box::new(beat()),
        },
        Datagram::Ack(Ack {
            host: NodeId(4),
            incarnation: INCARNATION,
            sequence: 1 << 60,
            slot: Slot(2),
            epoch: Epoch(1),
            life: 1 << 40,
            lives: vec![(Slot(1), 1 << 40)],
        }),
        Datagram::Observation(Observation {
            slot: Slot(1),
            incarnation: 300,
            blind: true,
            disk: Duration::from_millis(4),
            about: (NodeId(0), NodeId(u32::MAX)),
            silent: vec![(NodeId(1), Duration::from_secs(31))],
            durable: 1000,
            answers: vec![Answer {
                host: NodeId(2),
                revoke: Token::new(Epoch(1), 8),
                age: Duration::from_millis(7),
            }],
            state: StateWord {
                token: Token::new(Epoch(1), 9),
                hash: u32::MAX,
                rules: RULES,
            },
        }),
        Datagram::Join(Join::Seeking {
            store: StoreId(u128::MAX),
            pledged: Some(ClusterId(3)),
            floor: quorate_membership::Epoch(7),
        }),
        Datagram::Join(Join::Invite {
            cluster: ClusterId(1),
            voters: vec![NodeId(1), NodeId(2)],
        }),
        Datagram::Join(Join::Founded(Box::new(founding()))),
        Datagram::Bulletin(part()),
        Datagram::RelayedBulletin {
            header: header(),
            part: part(),
        },
    ];
    // One request and some replies are enough of the hundreds.
    let elections = consensus().0.into_iter().step_by(23);
    bodies.extend(elections.map(|message| Datagram::Election {
        to_incarnation: 300,
        message,
    }));
    let frames = bodies.into_iter().map(|body| Frame {
        to: vec![NodeId(2), NodeId(300)],
        header: header(),
        body,
    });
    frames.collect()
}

fn streams() -> Vec<Stream<Command>> {
    let epoch = Epoch(1);
    let mut streams = vec![
        Stream::Statement(Box::new(Statement {
            standing: Standing::Seeking,
            claim: claim(),
            heard: Claim::default(),
            heard_of: vec![(Slot(2), claim().log())],
            beat: (INCARNATION, 1 << 50),
            asks: true,
            vouches: Some(300),
        })),
        Stream::Superseded { life: 1 << 40 },
        Stream::Fetch { from: 1 << 40 },
        Stream::Fetched {
            claim: Box::new(claim()),
            from: 3,
            state: Some(vec![1, 2]),
            entries: entries(),
        },
        Stream::Propose(entries()),
        Stream::Follow { from: 1 << 40 },
        Stream::Feed {
            epoch,
            from: 3,
            entries: entries(),
        },
        Stream::State {
            epoch,
            applied: 20,
            bytes: (0..=255).collect(),
        },
    ];
    let mut kinds = std::collections::BTreeSet::new();
    for message in consensus().1 {
        let text = format!("{message:?}");
        let kind = text.split("msg: ").nth(1).expect("a message inside");
        let kind = kind.split('(').next().expect("its name").to_owned();
        // Two of each kind: the first ones are often empty.
        let again = format!("{kind} again");
        if kinds.insert(kind) || kinds.insert(again) {
            let lives = vec![(Slot(2), 1 << 33)];
            streams.push(Stream::Log {
                epoch,
                lives,
                message: Box::new(message),
            });
        }
    }
    for kind in ["PrepareReq", "Prepare", "Promise", "AcceptSync", "Decide"] {
        assert!(kinds.contains(kind), "{kind} is not among {kinds:?}");
    }
    for kind in ["AcceptDecide", "Accepted", "ProposalForward", "Compaction"] {
        assert!(kinds.contains(kind), "{kind} is not among {kinds:?}");
    }
    streams
}

#[test]
fn every_datagram_survives_and_every_damage_is_noticed() {
    for frame in frames() {
        survives(Kind::Frame, &frame);
    }
}

#[test]
fn every_stream_message_survives_and_every_damage_is_noticed() {
    for stream in streams() {
        survives(Kind::Stream, &stream);
    }
}

#[test]
fn every_write_survives() {
    let host = NodeId(3);
    let revoke = Token::new(Epoch(1), 5);
    let mut writes: Vec<Write<Command>> = vec![
        Write::Decided(1 << 40),
        Write::Append {
            from: 4,
            entries: entries(),
        },
        Write::Trim(9),
        Write::Rebase(9),
        Write::Snapshot {
            applied: 9,
            bytes: vec![0, 255],
        },
        Write::Stop(StopRecord {
            host,
            incarnation: INCARNATION,
            revoke,
        }),
        Write::Unstop { host, revoke },
        Write::Peer {
            node: host,
            record: PeerRecord {
                claim: claim(),
                life: 300,
                random: u64::MAX,
            },
        },
        Write::Unvouched(None),
        Write::Unvouched(Some(Unvouched {
            held: claim(),
            compared: [host].into(),
        })),
    ];
    let config = ReplicaConfig {
        epoch: Epoch(1),
        slot: Slot(1),
        slots: 3,
        election_ticks: 1,
    };
    let image = Image::new(NodeId(1), StoreId(1), INCARNATION, founding());
    let mut replica = Replica::new(config, &image).expect("fresh image");
    replica.tick();
    writes.extend(replica.take_writes());
    for write in writes {
        survives(Kind::Record, &write);
    }
}

#[test]
fn limits_hold_before_anything_is_allocated() {
    for kind in [Kind::Frame, Kind::Stream, Kind::Record, Kind::State] {
        let mut bytes = start(kind);
        bytes.extend_from_slice(&u32::MAX.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let limit = DecodeError::Limit(u32::MAX as usize, kind.limit());
        assert_eq!(refused::<Vec<u8>>(kind, &bytes), limit);
    }
    // A body that says it holds 2^63 elements.
    let body = [253, 0, 0, 0, 0, 0, 0, 0, 128, 1, 2, 3];
    let bytes = framed(&start(Kind::Stream), &body);
    let error = refused::<Vec<u64>>(Kind::Stream, &bytes);
    assert!(matches!(error, DecodeError::Body(_)), "{error}");
}

#[test]
fn kinds_do_not_pass_for_one_another() {
    let bytes = codec::encode(Kind::Frame, &1_u8).expect("fits");
    for (other, byte) in [(Kind::Stream, 1), (Kind::Record, 1), (Kind::State, 1)] {
        assert_eq!(refused::<u8>(other, &bytes), DecodeError::Kind(byte, other));
    }
}

/// Decodes everything from `bytes`; what decodes must encode to a value that decodes again.
fn decode_all(bytes: &[u8]) {
    fn one<T: Serialize + DeserializeOwned + Debug>(kind: Kind, bytes: &[u8]) {
        let Ok(value) = codec::decode::<T>(kind, bytes) else {
            return;
        };
        let again: T =
            codec::decode(kind, &codec::encode(kind, &value).expect("fits")).expect("ours");
        assert_eq!(format!("{value:?}"), format!("{again:?}"));
    }
    one::<Frame<Status>>(Kind::Frame, bytes);
    one::<Stream<Command>>(Kind::Stream, bytes);
    one::<Write<Command>>(Kind::Record, bytes);
    one::<Founding>(Kind::Record, bytes);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        decode_all(&bytes);
        for kind in [Kind::Frame, Kind::Stream, Kind::Record] {
            decode_all(&framed(&start(kind), &bytes));
        }
    }
}

#[test]
fn damaged_bodies_with_a_right_checksum_never_panic() {
    let all = frames()
        .into_iter()
        .map(|f| codec::encode(Kind::Frame, &f).expect("fits"));
    let all = all.chain(
        streams()
            .into_iter()
            .map(|s| codec::encode(Kind::Stream, &s).expect("fits")),
    );
    for bytes in all {
        let body = &bytes[HEADER..];
        for at in 0..body.len() {
            for value in [0, 1, 0x7f, 0xfb, 0xfc, 0xfd, 0xfe, 0xff] {
                let mut body = body.to_vec();
                body[at] = value;
                decode_all(&framed(&bytes[..4], &body));
            }
            decode_all(&framed(&bytes[..4], &body[..at]));
        }
    }
}
