use super::*;
use proptest::prelude::*;
use quorate_membership::frame::{Beat, Datagram, Join};
use quorate_membership::{ClusterId, Epoch, StoreId, Token};
use quorate_recovery::command::GuestStatus;
use std::time::Duration;

const ME: NodeId = NodeId(1);
const LIFE: Incarnation = Incarnation {
    counter: 3,
    random: 77,
};

fn key(byte: u8) -> ClusterKey {
    ClusterKey::from_bytes([byte; 32])
}

fn frame(from: NodeId, incarnation: Incarnation, number: u64) -> NodeFrame {
    NodeFrame {
        to: Vec::new(),
        header: Header {
            cluster: ClusterId(9),
            epoch: Epoch(1),
            from,
            incarnation,
            number,
        },
        body: Datagram::Beat(Beat {
            sequence: number,
            hello: None,
            lease_left: Duration::from_secs(3),
            renewed_ago: Duration::from_millis(5),
            timing: Token::NONE,
            word: Default::default(),
            full: false,
            unheard: 0,
            hears: 3,
            applied: 12,
            status: GuestStatus::default(),
        }),
    }
}

fn receiver() -> Opener {
    Opener::new(&key(1), NodeId(2), LIFE)
}

/// Frames have no equality of their own.
fn text(frame: &NodeFrame) -> String {
    format!("{frame:?}")
}

#[test]
fn a_sealed_frame_opens_as_it_was_also_twice() {
    let mut sealer = Sealer::new(&key(1), ME, LIFE);
    let mut opener = receiver();
    for number in [1, 2, 900] {
        let sent = frame(ME, LIFE, number);
        let bytes = sealer.seal(&sent).expect("sealed");
        for _ in 0..2 {
            let got = opener.open(&bytes).expect("opened; repeats are the core's");
            assert_eq!(text(&got), text(&sent));
        }
    }
    assert_eq!(opener.dropped(), Dropped::default());
}

#[test]
fn a_number_is_sealed_once_and_only_upwards() {
    let mut sealer = Sealer::new(&key(1), ME, LIFE);
    sealer.seal(&frame(ME, LIFE, 0)).expect("zero is a number");
    sealer.seal(&frame(ME, LIFE, 5)).expect("sealed");
    for number in [0, 4, 5] {
        assert_eq!(
            sealer.seal(&frame(ME, LIFE, number)),
            Err(SealError::Number { number, last: 5 })
        );
    }
    sealer.seal(&frame(ME, LIFE, u64::MAX)).expect("sealed");
    assert!(sealer.seal(&frame(ME, LIFE, u64::MAX)).is_err());
}

#[test]
fn a_frame_of_another_sender_is_not_sealed() {
    let mut sealer = Sealer::new(&key(1), ME, LIFE);
    let other = Incarnation { counter: 4, ..LIFE };
    for wrong in [frame(NodeId(2), LIFE, 1), frame(ME, other, 1)] {
        let refused = sealer.seal(&wrong).expect_err("refused");
        assert!(matches!(refused, SealError::Sender { .. }), "{refused}");
    }
}

#[test]
fn foreign_keys_and_own_echoes_are_refused_and_counted_apart() {
    let bytes = Sealer::new(&key(1), ME, LIFE)
        .seal(&frame(ME, LIFE, 1))
        .expect("sealed");
    let mut stranger = Opener::new(&key(2), NodeId(2), LIFE);
    assert_eq!(stranger.open(&bytes).err(), Some(Refused::ForeignKey));
    assert_eq!(stranger.dropped().foreign_key, 1);
    assert_eq!(stranger.dropped().faults(), 1);

    let mut myself = Opener::new(&key(1), ME, LIFE);
    assert_eq!(myself.open(&bytes).err(), Some(Refused::OwnEcho));
    assert_eq!(myself.dropped().own_echo, 1);
    assert_eq!(myself.dropped().faults(), 0);

    // A clone of this node is no echo: the core must hear of it.
    let clone = Incarnation {
        random: LIFE.random + 1,
        ..LIFE
    };
    let bytes = Sealer::new(&key(1), ME, clone)
        .seal(&frame(ME, clone, 1))
        .expect("sealed");
    myself.open(&bytes).expect("opened");
}

#[test]
fn each_incarnation_has_its_own_key() {
    let next = Incarnation {
        counter: 4,
        random: 78,
    };
    let first = Sealer::new(&key(1), ME, LIFE)
        .seal(&frame(ME, LIFE, 1))
        .expect("sealed");
    // The ciphertext of one life under the header of another does not open.
    let mut grafted = Sealer::new(&key(1), ME, next)
        .seal(&frame(ME, next, 1))
        .expect("sealed");
    let mut opener = receiver();
    opener.open(&grafted).expect("opened");
    opener.open(&first).expect("an older life still opens");
    opener.open(&grafted).expect("opened");
    grafted[CLEAR..].copy_from_slice(&first[CLEAR..]);
    assert_eq!(opener.open(&grafted).err(), Some(Refused::ForeignKey));
}

#[test]
fn what_is_sealed_well_but_lies_about_its_header_is_refused() {
    let mut opener = receiver();
    let key = sender_key(&root(&key(1)), ME, LIFE);
    let mut sealed_as = |header: Header, body: Vec<u8>| {
        let clear = clear_header(&header);
        let mut out = clear.to_vec();
        let mut body = body;
        key.seal_in_place_append_tag(nonce(header.number), Aad::from(clear), &mut body)
            .expect("sealed");
        out.extend_from_slice(&body);
        opener.open(&out).err()
    };
    let real = frame(ME, LIFE, 7);
    let lie = frame(ME, LIFE, 8);
    let encoded = codec::encode(Kind::Frame, &real).expect("fits");
    assert_eq!(sealed_as(real.header, encoded.clone()), None);
    assert_eq!(
        sealed_as(lie.header, encoded),
        Some(Refused::HeaderMismatch)
    );
    assert_eq!(sealed_as(real.header, vec![1; 40]), Some(Refused::Decode));
}

#[test]
fn frames_before_any_cluster_are_sealed_too() {
    let mut sent = frame(ME, LIFE, 1);
    sent.header.cluster = ClusterId::default();
    sent.body = Datagram::Join(Join::Seeking {
        store: StoreId(5),
        pledged: None,
        floor: quorate_membership::Epoch(7),
    });
    let bytes = Sealer::new(&key(1), ME, LIFE).seal(&sent).expect("sealed");
    let got = receiver().open(&bytes).expect("opened");
    assert_eq!(text(&got), text(&sent));
}

proptest! {
    #[test]
    fn a_changed_bit_anywhere_is_refused(number in any::<u64>(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut bytes = Sealer::new(&key(1), ME, LIFE).seal(&frame(ME, LIFE, number)).expect("sealed");
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let mut opener = receiver();
        let refused = opener.open(&bytes).expect_err("changed");
        let expected = match at {
            0..2 => Refused::Magic,
            2..4 => Refused::Version,
            _ => Refused::ForeignKey,
        };
        prop_assert_eq!(refused, expected);
        prop_assert_eq!(opener.dropped().faults(), 1);
    }

    #[test]
    fn a_shortened_or_lengthened_datagram_is_refused(keep in any::<prop::sample::Index>(), more in 1..40usize) {
        let bytes = Sealer::new(&key(1), ME, LIFE).seal(&frame(ME, LIFE, 1)).expect("sealed");
        let mut opener = receiver();
        prop_assert!(opener.open(&bytes[..keep.index(bytes.len())]).is_err());
        let mut longer = bytes.clone();
        longer.resize(bytes.len() + more, 0);
        prop_assert_eq!(opener.open(&longer).err(), Some(Refused::ForeignKey));
    }

    #[test]
    fn arbitrary_bytes_are_counted_and_never_panic(noise in prop::collection::vec(any::<u8>(), 0..300), framed in any::<bool>()) {
        let mut noise = noise;
        if framed && noise.len() >= 4 {
            noise[..4].copy_from_slice(&[MAGIC[0], MAGIC[1], VERSION, SUITE]);
        }
        let mut opener = receiver();
        prop_assert!(opener.open(&noise).is_err());
        prop_assert_eq!(opener.dropped().faults() + opener.dropped().own_echo, 1);
    }
}
