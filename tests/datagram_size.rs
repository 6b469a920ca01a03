//! The sizes of what travels: no datagram needs an IP fragment, however large its fields are, and a
//! token is one integer.

use quorate_membership::attest::Word;
use quorate_membership::codec::{self, Kind};
use quorate_membership::consensus::ElectionMessage;
use quorate_membership::entry::{Armed, ArmedClass, Capacity, Machine, Profile};
use quorate_membership::frame::{Beat, Datagram, Header, Hello, Join};
use quorate_membership::{
    BootId, ClusterId, Epoch, Founding, Incarnation, NodeId, ProofPolicy, StoreId, Timing, Token,
};
use quorate_recovery::command::GuestStatus;
use quorate_recovery::contract::NodeFrame;
use quorate_recovery::kinds::GuestKinds;
use serde_json::json;
use std::time::Duration;

/// The largest of each kind, by every field, still travels unfragmented; so does a relayed one.
#[test]
fn every_datagram_fits_the_smallest_packet_of_any_network() {
    let most = header_at_most();
    let beat = Beat {
        sequence: u64::MAX,
        hello: Some(Box::new(Hello {
            profile: Profile {
                name: "n".repeat(63),
                store: StoreId(u128::MAX),
                boot: BootId(u128::MAX),
                witness: true,
                capacity: Capacity {
                    vcpus: u32::MAX,
                    memory_mib: u64::MAX,
                },
                machine: Machine {
                    uuid: u128::MAX,
                    cards: u64::MAX,
                    bare: true,
                },
            },
            emptied: true,
        })),
        lease_left: Duration::MAX,
        renewed_ago: Duration::MAX,
        timing: Token(u64::MAX),
        applied: u64::MAX,
        word: Word {
            number: u64::MAX,
            armed: Some(Armed {
                class: ArmedClass::Watchdog,
                reset: true,
            }),
        },
        full: false,
        unheard: u8::MAX,
        hears: u8::MAX,
        status: GuestStatus {
            blind: GuestKinds::ALL,
            unfit: true,
            running: u32::MAX,
        },
    };
    let founding = Founding {
        cluster: ClusterId(u128::MAX),
        rules: quorate_membership::states::RULES,
        epoch: quorate_membership::Epoch(1),
        voters: (1..=7)
            .map(|n| (NodeId(u32::MAX - n), StoreId(u128::MAX)))
            .collect(),
        timing: Timing::default(),
        proof: ProofPolicy::DeviceAndLease,
    };
    let ballot = json!({"config_id": u32::MAX, "n": u32::MAX, "priority": u32::MAX, "pid": 7});
    let reply = json!({"round": u32::MAX, "ballot": ballot, "leader": ballot, "happy": true});
    let message = json!({"from": 7, "to": 6, "msg": {"Reply": reply}});
    let relayed = Box::new(beat.clone());
    for body in [
        Datagram::Beat(beat),
        Datagram::Relayed {
            header: most,
            beat: relayed,
        },
        Datagram::Join(Join::Founded(Box::new(founding))),
        Datagram::Election {
            to_incarnation: u64::MAX,
            message: serde_json::from_value::<ElectionMessage>(message)
                .expect("an election message"),
        },
    ] {
        let to = (1..=8).map(|n| NodeId(u32::MAX - n)).collect();
        let frame = NodeFrame {
            header: most,
            to,
            body,
        };
        let bytes = codec::encode(Kind::Frame, &frame).expect("fits");
        assert!(bytes.len() + codec::SEALING <= 700, "{}", bytes.len());
    }
}

fn header_at_most() -> Header {
    let incarnation = Incarnation {
        counter: u64::MAX,
        random: u64::MAX,
    };
    Header {
        cluster: ClusterId(u128::MAX),
        epoch: Epoch(u32::MAX),
        from: NodeId(u32::MAX),
        incarnation,
        number: u64::MAX,
    }
}

#[test]
fn a_token_is_packed_this_way() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/WIRE.md");
    let page = std::fs::read_to_string(page).expect("WIRE.md");
    for (epoch, index, expected) in [
        (1, 1, "0001000000000001"),
        (3, 4242, "0003000000001092"),
        (65_535, (1 << 48) - 1, "ffffffffffffffff"),
    ] {
        let token = Token::new(Epoch(epoch), index);
        assert_eq!(format!("{:016x}", token.0), expected);
        let row = format!("| `{token}` | `{expected}` |");
        assert!(page.contains(&row), "WIRE.md lacks the row {row}");
    }
}
