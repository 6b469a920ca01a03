//! The bytes on the wire and on disk, as `WIRE.md` writes them down. A change of format fails here.

#[path = "wire_support/small.rs"]
mod small;
mod wire_support;

use quorate::guardian::records::{self, GuestRecord, IntentRecord, LeaseRecord};
use quorate::guardian::slots;
use quorate::net::{ClusterKey, Opener, Sealer};
use quorate_fencing::{Device, Level, ProofClass};
use quorate_membership::codec::{self, Kind};
use quorate_membership::consensus::{ElectionMessage, LogMessage, Round};
use quorate_membership::entry::{
    Armed, ArmedClass, AttemptEnd, Away, Capacity, Entry, Ground, LogEntry, Profile, Proof,
};
use quorate_membership::frame::{Datagram, Hello, Join, Stream};
use quorate_membership::store::StopRecord;
use quorate_membership::vouch::{Claim, Standing, Statement};
use quorate_membership::{
    BootId, ClusterId, Epoch, Founding, Incarnation, NodeId, ProofPolicy, StoreId, Time, Timing,
};
use quorate_recovery::command::{Closure, Command};
use quorate_recovery::contract::{NodeFrame, NodeStream};
use quorate_recovery::executor::GuestPromise;
use quorate_recovery::guest::{
    Definition, GuestId, GuestSpec, Needs, OnHang, OnShutdown, Policy, Wanted,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;
use wire_support::{
    LIFE, ack, beat, bulletin, entry, frame, header, invite, observation, placed, token,
};

fn encode<T: Serialize>(kind: Kind, value: &T) -> Vec<u8> {
    codec::encode(kind, value).expect("fits")
}

fn wire_md() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/WIRE.md");
    std::fs::read_to_string(path).expect("WIRE.md")
}

/// `WIRE.md` without any white space: long hex is broken into lines there.
fn wire_md_dense() -> String {
    wire_md().split_whitespace().collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

/// The bytes are these, and `WIRE.md` shows them.
fn golden(name: &str, bytes: &[u8], expected: &str) {
    let expected: String = expected.split_whitespace().collect();
    assert_eq!(hex(bytes), expected, "{name}: the format changed");
    assert!(
        wire_md_dense().contains(&expected),
        "{name}: WIRE.md does not show these bytes"
    );
}

fn failed() -> Closure {
    let how = String::new();
    Closure::Failed { how, ran_ms: 0 }
}

#[test]
fn datagrams_have_these_bytes() {
    for (name, body, expected) in [
        ("beat", Datagram::Beat(beat()), BEAT),
        ("ack", Datagram::Ack(ack()), ACK),
        (
            "observation",
            Datagram::Observation(observation()),
            OBSERVATION,
        ),
        ("invite", Datagram::Join(invite()), INVITE),
        ("bulletin", Datagram::Bulletin(bulletin()), BULLETIN),
    ] {
        let bytes = encode(Kind::Frame, &frame(body));
        golden(name, &bytes, expected);
        let back: NodeFrame = codec::decode(Kind::Frame, &bytes).expect("a frame");
        assert_eq!(encode(Kind::Frame, &back), bytes, "{name}");
    }
}

#[test]
fn a_proposal_on_a_session_has_these_bytes() {
    let message: NodeStream = Stream::Propose(vec![entry(3, Entry::App(placed()))]);
    let bytes = encode(Kind::Stream, &message);
    golden("propose", &bytes, PROPOSE);
    let back: NodeStream = codec::decode(Kind::Stream, &bytes).expect("a message");
    assert_eq!(encode(Kind::Stream, &back), bytes);
}

#[test]
fn a_sealed_datagram_has_these_bytes() {
    let key = ClusterKey::from_bytes([0x42; 32]);
    let frame = frame(Datagram::Ack(ack()));
    let bytes = Sealer::new(&key, NodeId(2), LIFE)
        .seal(&frame)
        .expect("sealed");
    golden("sealed ack", &bytes, SEALED);
    // Everybody else who holds the key opens it, and finds what was sealed.
    let mut opener = Opener::new(&key, NodeId(1), Incarnation::default());
    let opened = opener.open(&bytes).expect("opened");
    assert_eq!(encode(Kind::Frame, &opened), encode(Kind::Frame, &frame));
}

#[test]
fn records_of_the_run_directory_have_these_bytes() {
    let lease = LeaseRecord {
        boot: BootId(0xabcd),
        incarnation: LIFE,
        end: Time(123_456_789_012),
    };
    let guest = GuestRecord {
        guest: GuestId(token(5).0),
        epoch: token(9),
        boot: BootId(0xabcd),
        draw: 11,
        pgid: 4321,
        start: 987_654,
    };
    let intent = IntentRecord {
        guest: GuestId(token(5).0),
        epoch: token(9),
        boot: BootId(0xabcd),
        name: "web".into(),
        host: "h1".into(),
        argv: vec!["/bin/sleep".into(), "60".into()],
        env: BTreeMap::from([("LANG".into(), "C".into())]),
    };
    let page = wire_md();
    for (name, bytes) in [
        ("lease", slots::encode(21, &lease)),
        ("guest", records::encode(&guest)),
        ("intent", records::encode(&intent)),
    ] {
        let text = String::from_utf8(bytes).expect("text");
        assert!(
            page.contains(&text),
            "{name}: WIRE.md does not show\n{text}"
        );
    }
    golden("lease", &slots::encode(21, &lease), LEASE);
}

#[test]
fn records_of_the_store_have_these_bytes() {
    let stop = StopRecord {
        host: NodeId(5),
        incarnation: LIFE,
        revoke: token(70),
    };
    let promise = GuestPromise {
        promised: token(12),
        closed: token(9),
    };
    let round: Round = from_json(json!({"config_id": 1, "n": 3, "priority": 0, "pid": 2}));
    golden("stop", &encode(Kind::Record, &stop), STOP);
    golden("promise", &encode(Kind::Record, &promise), PROMISE);
    golden("round", &encode(Kind::Record, &round), ROUND);
    golden(
        "entry",
        &encode(Kind::Record, &entry(300_000, renew(300_000))),
        RENEWAL,
    );
}

fn renew(number: u64) -> Entry<Command> {
    Entry::Renew {
        term: token(42),
        number,
    }
}

/// What `ARCHITECTURE.md` reckons with: how fast renewals alone make the log grow.
#[test]
fn a_renewal_takes_as_many_bytes_as_the_limits_reckon() {
    let bytes = encode(Kind::Record, &entry(300_000, renew(300_000))).len() - codec::HEADER;
    let line = format!("a renewal takes {bytes} bytes");
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/ARCHITECTURE.md");
    let page = std::fs::read_to_string(page).expect("ARCHITECTURE.md");
    assert!(page.contains(&line), "ARCHITECTURE.md does not say: {line}");
    let kept = size_of::<LogEntry<Command>>();
    let line = format!("in memory, at {kept} bytes");
    assert!(page.contains(&line), "ARCHITECTURE.md does not say: {line}");
}

fn from_json<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("of that shape")
}

/// Values of every variant of an enum, in order: each begins with its number, and `WIRE.md` has
/// them in a table below `heading`.
fn variants<T: Serialize>(heading: &str, values: &[(&str, T)]) {
    let page = wire_md();
    let section = page
        .split(&format!("\n{heading}\n"))
        .nth(1)
        .unwrap_or_else(|| panic!("WIRE.md has no {heading:?}"));
    let table: Vec<&str> = section
        .lines()
        .skip_while(|line| !line.starts_with("| "))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .collect();
    assert_eq!(table.len(), values.len(), "rows under {heading:?}");
    for (number, ((name, value), row)) in values.iter().zip(table).enumerate() {
        let bytes = encode(Kind::Record, value);
        let tag = usize::from(bytes[codec::HEADER]);
        assert_eq!(tag, number, "{heading}: {name}");
        let cells = format!("| {number} | `{name}` |");
        assert!(
            row.starts_with(&cells),
            "{heading}: {cells} but found {row}"
        );
    }
}

#[test]
fn datagrams_are_numbered_as_the_page_says() {
    let request = json!({"from": 1, "to": 2, "msg": {"Request": {"round": 7}}});
    let election: ElectionMessage = from_json(request);
    variants(
        "### Datagram",
        &[
            ("Beat", Datagram::Beat(beat())),
            (
                "Relayed",
                Datagram::Relayed {
                    header: header(1),
                    beat: Box::new(beat()),
                },
            ),
            ("Ack", Datagram::Ack(ack())),
            ("Observation", Datagram::Observation(observation())),
            (
                "Election",
                Datagram::Election {
                    to_incarnation: 7,
                    message: election,
                },
            ),
            ("Join", Datagram::Join(invite())),
            ("Bulletin", Datagram::Bulletin(bulletin())),
            (
                "RelayedBulletin",
                Datagram::RelayedBulletin {
                    header: header(1),
                    part: bulletin(),
                },
            ),
        ],
    );
    let founding = Founding {
        cluster: ClusterId(9),
        rules: quorate_membership::states::RULES,
        epoch: quorate_membership::Epoch(1),
        voters: vec![(NodeId(1), StoreId(1))],
        timing: Timing::fast(),
        proof: ProofPolicy::Device,
    };
    variants(
        "### Join",
        &[
            (
                "Seeking",
                Join::Seeking {
                    store: StoreId(1),
                    pledged: None,
                    floor: quorate_membership::Epoch(7),
                },
            ),
            ("Invite", invite()),
            ("Founded", Join::Founded(Box::new(founding))),
        ],
    );
}

#[test]
fn session_messages_are_numbered_as_the_page_says() {
    let log =
        |msg: Value| -> LogMessage<Command> { from_json(json!({"from": 1, "to": 2, "msg": msg})) };
    let n = json!({"config_id": 1, "n": 3, "priority": 0, "pid": 1});
    let accepted = log(json!({"Accepted": {"n": n, "accepted_idx": 9}}));
    let statement = Statement {
        standing: Standing::Vouched,
        claim: Claim::default(),
        heard: Claim::default(),
        heard_of: Vec::new(),
        beat: (LIFE, 3),
        asks: false,
        vouches: None,
    };
    variants::<NodeStream>(
        "### Stream",
        &[
            (
                "Log",
                Stream::Log {
                    epoch: Epoch(1),
                    lives: Vec::new(),
                    message: Box::new(accepted),
                },
            ),
            ("Propose", Stream::Propose(Vec::new())),
            ("Follow", Stream::Follow { from: 3 }),
            (
                "Feed",
                Stream::Feed {
                    epoch: Epoch(1),
                    from: 3,
                    entries: Vec::new(),
                },
            ),
            (
                "State",
                Stream::State {
                    epoch: Epoch(1),
                    applied: 3,
                    bytes: vec![1],
                },
            ),
            ("Datagram", Stream::Datagram(vec![1, 2])),
            ("Statement", Stream::Statement(Box::new(statement))),
            ("Fetch", Stream::Fetch { from: 3 }),
            (
                "Fetched",
                Stream::Fetched {
                    claim: Box::new(Claim::default()),
                    from: 3,
                    state: None,
                    entries: Vec::new(),
                },
            ),
            ("Superseded", Stream::Superseded { life: 5 }),
            ("Whole", Stream::Whole),
            ("Cut", Stream::Cut { first: 5, bytes: 9 }),
            ("NoState", Stream::NoState),
            ("LeftLog", Stream::LeftLog),
        ],
    );
    let seq = json!({"session": 1, "counter": 2});
    let sync = json!({"decided_snapshot": null, "suffix": [], "sync_idx": 4, "stopsign": null});
    let next = json!({"configuration_id": 2, "nodes": [1, 2, 3], "flexible_quorum": null});
    let stop = json!({"next_config": next, "metadata": null});
    let kinds = [
        ("PrepareReq", json!({"n": n})),
        (
            "Prepare",
            json!({"n": n, "decided_idx": 1, "n_accepted": n, "accepted_idx": 2}),
        ),
        (
            "Promise",
            json!({"n": n, "n_accepted": n, "decided_idx": 1, "accepted_idx": 2, "log_sync": null}),
        ),
        (
            "AcceptSync",
            json!({"n": n, "seq_num": seq, "decided_idx": 1, "log_sync": sync}),
        ),
        (
            "AcceptDecide",
            json!({"n": n, "seq_num": seq, "decided_idx": 1, "entries": []}),
        ),
        ("Accepted", json!({"n": n, "accepted_idx": 9})),
        ("NotAccepted", json!({"n": n})),
        ("Decide", json!({"n": n, "seq_num": seq, "decided_idx": 1})),
        ("ProposalForward", json!([])),
        ("Compaction", json!({"Trim": 1024})),
        (
            "AcceptStopSign",
            json!({"n": n, "seq_num": seq, "ss": stop}),
        ),
        ("ForwardStopSign", stop.clone()),
    ];
    // Its number stands behind the two bytes of sender and addressee.
    let page = wire_md();
    for (number, (name, fields)) in kinds.into_iter().enumerate() {
        let message = log(json!({ name: fields }));
        let bytes = encode(Kind::Stream, &message);
        assert_eq!(usize::from(bytes[codec::HEADER + 2]), number, "{name}");
        let row = format!("| {number} | `{name}` |");
        assert!(page.contains(&row), "WIRE.md lacks the row {row}");
    }
}

#[test]
fn entries_and_commands_are_numbered_as_the_page_says() {
    let (host, incarnation) = (NodeId(4), LIFE);
    let profile = Profile {
        name: "h4".into(),
        store: StoreId(4),
        boot: BootId(4),
        witness: false,
        capacity: Capacity::default(),
        machine: Default::default(),
    };
    let hello = Hello {
        profile: profile.clone(),
        emptied: true,
    };
    assert_eq!(
        encode(Kind::Record, &hello).last(),
        Some(&1),
        "emptied comes last"
    );
    variants::<Entry<Command>>(
        "### Entry",
        &[
            ("Noop", Entry::Noop),
            (
                "Term",
                Entry::Term {
                    node: host,
                    incarnation,
                },
            ),
            ("Renew", renew(1)),
            (
                "Resign",
                Entry::Resign {
                    term: token(42),
                    waited: true,
                },
            ),
            (
                "Admit",
                Entry::Admit {
                    node: host,
                    incarnation,
                    profile,
                    emptied: false,
                },
            ),
            (
                "Armed",
                Entry::Armed {
                    host,
                    incarnation,
                    number: 1,
                    armed: Armed {
                        class: ArmedClass::Watchdog,
                        reset: true,
                    },
                    timing: token(0),
                },
            ),
            (
                "Revoke",
                Entry::Revoke {
                    hosts: vec![(host, incarnation, Ground::Ordered)],
                },
            ),
            (
                "Restore",
                Entry::Restore {
                    host,
                    revoke: token(70),
                },
            ),
            (
                "Proof",
                Entry::Proof {
                    host,
                    incarnation,
                    revoke: token(70),
                    proof: Proof::LeaseExpired,
                },
            ),
            (
                "Attempt",
                Entry::Attempt {
                    host,
                    incarnation,
                    revoke: token(70),
                    level: 0,
                    device: "bmc".into(),
                    launch_within: Duration::from_secs(1),
                    limit: Duration::from_secs(20),
                },
            ),
            (
                "AttemptEnded",
                Entry::AttemptEnded {
                    host,
                    attempt: token(71),
                    end: AttemptEnd::NotLaunched,
                },
            ),
            (
                "Away",
                Entry::Away {
                    node: host,
                    incarnation,
                    why: Away::Shutdown,
                },
            ),
            ("App", Entry::App(placed())),
            (
                "Unarmed",
                Entry::Unarmed {
                    host,
                    incarnation,
                    number: 2,
                },
            ),
            ("Rules", Entry::Rules { version: 2 }),
        ],
    );
    let guest = GuestId(token(5).0);
    let spec = GuestSpec {
        name: "web".into(),
        definition: Definition::Command {
            argv: vec!["/bin/sleep".into()],
            env: BTreeMap::new(),
            images: Vec::new(),
        },
        needs: Needs::default(),
        priority: -1,
        policy: Policy::default(),
        probe: None,
    };
    let device = Device {
        name: "bmc".into(),
        agent: "fence_ipmilan".into(),
        parameters: BTreeMap::new(),
        class: Some(ProofClass::Power),
        limit_ms: 20_000,
    };
    let mut commands = vec![
        ("AddGuest", Command::AddGuest(Box::new(spec))),
        ("RemoveGuest", Command::RemoveGuest { guest }),
        (
            "SetWanted",
            Command::SetWanted {
                guest,
                wanted: Wanted::Stopped,
            },
        ),
        ("Placed", placed()),
        (
            "Closed",
            Command::Closed {
                guest,
                epoch: token(9),
                host,
                incarnation: Incarnation::default(),
                why: Closure::Told,
            },
        ),
        (
            "SetFencing",
            Command::SetFencing {
                host,
                levels: vec![Level {
                    devices: vec![device],
                }],
            },
        ),
        ("Publish", Command::Publish(vec![1, 2, 3])),
    ];
    commands.extend(wire_support::holds());
    commands.extend(wire_support::images());
    commands.push(wire_support::locked());
    commands.push(wire_support::tried());
    commands.push(wire_support::scratch());
    variants("### Command", &commands);
}

// Format version 1. Each of these stands in WIRE.md as well.
const BEAT: &str = "\
    517201014800000043dbd6d6feffeeddccbbaa99887766554433221100010207fd8877665544332211fbe8030000 \
    fb2c01001ffc0065cd1d00fc0065cd1dfd000000000000010001010001000403fb9210000001";
const BULLETIN: &str = "\
    517201014e00000071083465feffeeddccbbaa99887766554433221100010207fd8877665544332211fbe8030006 \
    060002040200fd0500000000000100fd09000000000001000201fd0600000000000100fd0c00000000000100";
const ACK: &str = "\
    51720101380000007d751235feffeeddccbbaa99887766554433221100010207fd8877665544332211fbe8030002 \
    0207fd8877665544332211fb2c010301040101fb2c01";
const OBSERVATION: &str = "\
    51720101580000008fbe5d16feffeeddccbbaa99887766554433221100010207fd8877665544332211fbe8030003 \
    03040000fc00093d0000fcffffffff01050900fb00080105fd460000000000010001fc80b2e60efd410000000000 \
    0100fc4433221101";
const INVITE: &str = "\
    5172010128000000e277b16cfeffeeddccbbaa99887766554433221100010207fd8877665544332211fbe8030005 \
    010903010203";
const PROPOSE: &str = "\
    517201022d0000008b41de5901010407fd8877665544332211030c03fd0500000000000100fd0900000000000100 \
    0407fd8877665544332211";
const SEALED: &str = "\
    516401010200000007000000000000008877665544332211e8030000000000003426e05df37c8c15a288b8122111 \
    19b6da02221fe07c01ca32c51bf2dd96823d11dad830d25422383467f619fa56ba077d551afdacb7ed4dcf1ec4b1 \
    bee03596f9cd2874b2192f08bb54ca320d81eeed7b5f5227";
const LEASE: &str = "\
    71756f72617465206c65617365203120666430353239323237326636663161306636646436636134393134616664 \
    33630a7b2273657175656e6365223a32312c227265636f7264223a7b22626f6f74223a34333938312c22696e6361 \
    726e6174696f6e223a7b22636f756e746572223a372c2272616e646f6d223a313233343630353631363433363530 \
    383535327d2c22656e64223a3132333435363738393031327d7d0a";
const STOP: &str = "\
    5172010314000000ef9be9de0507fd8877665544332211fd4600000000000100";
const PROMISE: &str = "\
    517201031200000059cbc8c6fd0c00000000000100fd0900000000000100";
const ROUND: &str = "51720103040000000c67b07501030002";
const RENEWAL: &str = "\
    517201031f000000bfadae740407fd8877665544332211fce093040002fd2a00000000000100fce0930400";
