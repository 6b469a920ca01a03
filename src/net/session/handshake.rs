//! How two nodes prove to each other that they hold the cluster key, and who they are.
//!
//! Both send a hello in the clear at once; both derive one key per direction from the cluster key
//! and both hellos; the first sealed record each way proves it.
//!
//! | offset | bytes | meaning |
//! |---|---|---|
//! | 0 | 2 | magic `Qs` |
//! | 2 | 1 | version |
//! | 3 | 1 | suite; 1 is ChaCha20-Poly1305 with keys by HKDF-SHA256 |
//! | 4 | 4 | node id, little endian |
//! | 8 | 8 | incarnation, counter |
//! | 16 | 8 | incarnation, random part |
//! | 24 | 32 | drawn for this session |
//!
//! Each side's random bytes are in both keys, so nothing recorded from another session opens.

use super::Closed;
use super::record::{OpenHalf, Record, SealHalf};
use quorate_membership::{Incarnation, NodeId};
use ring::aead::{CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use ring::hkdf::Prk;
use ring::rand::{SecureRandom, SystemRandom};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const MAGIC: [u8; 2] = *b"Qs";
const VERSION: u8 = 1;
const SUITE: u8 = 1;
const HELLO: usize = 56;

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It dialled, and knows whom it expects.
    Dialer {
        /// The node it dialled.
        expected: NodeId,
    },
    /// It was dialled.
    Listener,
}

/// What a handshake gives.
pub(super) struct Agreed {
    pub(super) peer: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) seal: SealHalf,
    pub(super) open: OpenHalf,
}

/// Greets the other end of `stream` and waits for its proof.
pub(super) async fn shake(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    root: &Prk,
    me: (NodeId, Incarnation),
    end: End,
    silence: Duration,
) -> Result<Agreed, Closed> {
    let mine = hello(me)?;
    stream.write_all(&mine).await.map_err(|_| Closed::Broken)?;
    let mut theirs = [0; HELLO];
    let read = tokio::time::timeout(silence, stream.read_exact(&mut theirs)).await;
    read.map_err(|_| Closed::Silent)?
        .map_err(|_| Closed::Ended)?;
    let (peer, incarnation) = read_hello(&theirs)?;
    let unexpected = match end {
        End::Dialer { expected } => peer != expected,
        // Also a mirror that sends our own hello back.
        End::Listener => peer == me.0,
    };
    if unexpected {
        return Err(Closed::UnexpectedPeer);
    }
    let (to_listener, to_dialer) = match end {
        End::Dialer { .. } => keys(root, &mine, &theirs),
        End::Listener => keys(root, &theirs, &mine),
    };
    let (seal, open) = match end {
        End::Dialer { .. } => (to_listener, to_dialer),
        End::Listener => (to_dialer, to_listener),
    };
    let (mut seal, mut open) = (SealHalf::new(seal), OpenHalf::new(open));
    let mut proof = Vec::new();
    seal.seal(&Record::Alive, &mut proof)?;
    stream.write_all(&proof).await.map_err(|_| Closed::Broken)?;
    match open.read(stream, silence).await {
        Ok(Record::Alive) => Ok(Agreed {
            peer,
            incarnation,
            seal,
            open,
        }),
        Ok(Record::Message(_)) => Err(Closed::Decode),
        Err(Closed::Damaged | Closed::TooLong) => Err(Closed::WrongKey),
        Err(why) => Err(why),
    }
}

fn hello((node, incarnation): (NodeId, Incarnation)) -> Result<[u8; HELLO], Closed> {
    let mut hello = [0; HELLO];
    hello[..2].copy_from_slice(&MAGIC);
    hello[2] = VERSION;
    hello[3] = SUITE;
    hello[4..8].copy_from_slice(&node.0.to_le_bytes());
    hello[8..16].copy_from_slice(&incarnation.counter.to_le_bytes());
    hello[16..24].copy_from_slice(&incarnation.random.to_le_bytes());
    SystemRandom::new()
        .fill(&mut hello[24..])
        .map_err(|_| Closed::Broken)?;
    Ok(hello)
}

fn read_hello(hello: &[u8; HELLO]) -> Result<(NodeId, Incarnation), Closed> {
    if hello[..2] != MAGIC {
        return Err(Closed::Magic);
    }
    if hello[2..4] != [VERSION, SUITE] {
        return Err(Closed::Version);
    }
    let long = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hello[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let node = NodeId(u32::from_le_bytes([hello[4], hello[5], hello[6], hello[7]]));
    let incarnation = Incarnation {
        counter: long(8),
        random: long(16),
    };
    Ok((node, incarnation))
}

/// The key towards the listener, and the one towards the dialer.
fn keys(root: &Prk, dialer: &[u8; HELLO], listener: &[u8; HELLO]) -> (LessSafeKey, LessSafeKey) {
    let key = |direction: &[u8]| {
        let info = [b"quorate session".as_slice(), direction, dialer, listener];
        let okm = root
            .expand(&info, &CHACHA20_POLY1305)
            .expect("32 bytes are within what HKDF-SHA256 can give");
        LessSafeKey::new(UnboundKey::from(okm))
    };
    (key(b">"), key(b"<"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ClusterKey;
    use tokio::io::duplex;

    const SILENCE: Duration = Duration::from_secs(20);

    fn root(byte: u8) -> Prk {
        ClusterKey::from_bytes([byte; 32]).purpose("test")
    }

    fn node(id: u32) -> (NodeId, Incarnation) {
        let life = Incarnation {
            counter: u64::from(id),
            random: 5,
        };
        (NodeId(id), life)
    }

    async fn meet(
        listener_key: u8,
        expected: u32,
        listener_id: u32,
    ) -> (Result<Agreed, Closed>, Result<Agreed, Closed>) {
        let (mut a, mut b) = duplex(1 << 16);
        let (dialer_root, listener_root) = (root(1), root(listener_key));
        let end = End::Dialer {
            expected: NodeId(expected),
        };
        // Each end drops its stream when it is done, as the real one does.
        let dialer = async {
            let done = shake(&mut a, &dialer_root, node(1), end, SILENCE).await;
            if done.is_err() {
                drop(a);
            }
            done
        };
        let listener = async {
            let me = node(listener_id);
            let done = shake(&mut b, &listener_root, me, End::Listener, SILENCE).await;
            if done.is_err() {
                drop(b);
            }
            done
        };
        tokio::join!(dialer, listener)
    }

    #[tokio::test]
    async fn both_ends_learn_who_the_other_is_and_share_keys() {
        let (dialer, listener) = meet(1, 2, 2).await;
        let (Ok(mut dialer), Ok(mut listener)) = (dialer, listener) else {
            panic!("no handshake");
        };
        assert_eq!((dialer.peer, dialer.incarnation), node(2));
        assert_eq!((listener.peer, listener.incarnation), node(1));
        for (from, to) in [
            (&mut dialer.seal, &mut listener.open),
            (&mut listener.seal, &mut dialer.open),
        ] {
            let mut bytes = Vec::new();
            let record = Record::Message(vec![1, 2, 3]);
            from.seal(&record, &mut bytes).expect("sealed");
            let got = to.read(&mut bytes.as_slice(), SILENCE).await;
            assert_eq!(got, Ok(record));
        }
    }

    #[tokio::test]
    async fn another_key_is_refused_by_both() {
        let (dialer, listener) = meet(2, 2, 2).await;
        assert_eq!(listener.err(), Some(Closed::WrongKey));
        assert_eq!(dialer.err(), Some(Closed::WrongKey));
    }

    #[tokio::test]
    async fn another_node_than_expected_is_refused() {
        let (dialer, _) = meet(1, 2, 3).await;
        assert_eq!(dialer.err(), Some(Closed::UnexpectedPeer));
    }

    #[tokio::test]
    async fn a_mirror_is_refused() {
        let (mut a, mut b) = duplex(1 << 16);
        let mirror = async {
            let mut bytes = [0; HELLO];
            b.read_exact(&mut bytes).await.expect("a hello");
            b.write_all(&bytes).await.expect("sent back");
        };
        let root = root(1);
        let listener = shake(&mut a, &root, node(1), End::Listener, SILENCE);
        let (done, ()) = tokio::join!(listener, mirror);
        assert_eq!(done.err(), Some(Closed::UnexpectedPeer));
    }
}
