//! Sealing of datagrams, so that only holders of the cluster key can speak.
//!
//! A sealed datagram is a clear header of 32 bytes, then the ciphertext of the encoded frame,
//! then a tag of 16 bytes. The header is authenticated with the rest.
//!
//! | offset | bytes | meaning |
//! |---|---|---|
//! | 0 | 2 | magic `Qd` |
//! | 2 | 1 | version |
//! | 3 | 1 | suite; 1 is ChaCha20-Poly1305 with keys by HKDF-SHA256 |
//! | 4 | 4 | sender's node id, little endian |
//! | 8 | 8 | sender's incarnation, counter |
//! | 16 | 8 | sender's incarnation, random part |
//! | 24 | 8 | the frame's number; also the nonce |
//!
//! Every incarnation seals with a key of its own, and a number is sealed once: the same bytes go
//! out on every link. So no pair of key and nonce is ever used for two plaintexts. The core's
//! replay window throws repeats away; opening does not.

use crate::net::key::ClusterKey;
use quorate_membership::codec::{self, Kind};
use quorate_membership::frame::Header;
use quorate_membership::{Incarnation, NodeId};
use quorate_recovery::contract::NodeFrame;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use serde::Serialize;
use std::collections::BTreeMap;

const MAGIC: [u8; 2] = *b"Qd";
const VERSION: u8 = 1;
const SUITE: u8 = 1;
/// Length of the clear header in bytes.
pub const CLEAR: usize = 32;
/// What sealing adds to an encoded frame, in bytes: clear header and tag.
pub const OVERHEAD: usize = CLEAR + 16;
const _: () = assert!(OVERHEAD == codec::SEALING);
/// Senders whose key is kept ready. More are opened too, at the price of deriving it anew.
const KEPT: usize = 1024;

/// Why a frame was not sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The number would repeat a nonce.
    #[error("frame number {number} is not above {last}, the last one sealed")]
    Number {
        /// The frame's number.
        number: u64,
        /// The last number sealed.
        last: u64,
    },
    /// The frame names another sender than the sealer's.
    #[error("frame of {found} sealed as {expected}")]
    Sender {
        /// Node and incarnation in the frame.
        found: String,
        /// Node and incarnation of the sealer.
        expected: String,
    },
    /// The frame fits no datagram; nothing was sealed.
    #[error(transparent)]
    TooLong(#[from] codec::TooLong),
    /// The cipher refused; nothing was sealed.
    #[error("the cipher refused a frame")]
    Cipher,
}

/// Why a datagram was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Shorter than header and tag.
    #[error("shorter than any sealed datagram")]
    Short,
    /// Not ours.
    #[error("not a datagram of quorate")]
    Magic,
    /// Sealed by another version or suite.
    #[error("sealed by another version")]
    Version,
    /// Not sealed with this cluster's key, or changed on the way.
    #[error("sealed with another key, or damaged")]
    ForeignKey,
    /// Sealed well, but what is inside is no frame.
    #[error("does not hold a frame this version understands")]
    Decode,
    /// The sealed header names another sender or number than the clear one.
    #[error("clear and sealed header differ")]
    HeaderMismatch,
    /// This very incarnation sent it; multicast loops back.
    #[error("sent by this node itself")]
    OwnEcho,
}

/// Datagrams not opened, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// [`Refused::Short`].
    pub short: u64,
    /// [`Refused::Magic`].
    pub magic: u64,
    /// [`Refused::Version`].
    pub version: u64,
    /// [`Refused::ForeignKey`].
    pub foreign_key: u64,
    /// [`Refused::Decode`].
    pub decode: u64,
    /// [`Refused::HeaderMismatch`].
    pub header_mismatch: u64,
    /// [`Refused::OwnEcho`]; expected with multicast, no fault.
    pub own_echo: u64,
}

impl Dropped {
    fn count(&mut self, why: Refused) {
        *match why {
            Refused::Short => &mut self.short,
            Refused::Magic => &mut self.magic,
            Refused::Version => &mut self.version,
            Refused::ForeignKey => &mut self.foreign_key,
            Refused::Decode => &mut self.decode,
            Refused::HeaderMismatch => &mut self.header_mismatch,
            Refused::OwnEcho => &mut self.own_echo,
        } += 1;
    }

    /// All that may be a fault: everything but echoes.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.short
            + self.magic
            + self.version
            + self.foreign_key
            + self.decode
            + self.header_mismatch
    }
}

/// Seals the datagrams of one incarnation. There must be one sealer per incarnation: the random
/// part of an incarnation is drawn for it, and that is what makes its key its own.
pub struct Sealer {
    key: LessSafeKey,
    node: NodeId,
    incarnation: Incarnation,
    last: Option<u64>,
}

impl Sealer {
    /// A sealer for `node` in this `incarnation`.
    #[must_use]
    pub fn new(key: &ClusterKey, node: NodeId, incarnation: Incarnation) -> Sealer {
        Sealer {
            key: sender_key(&root(key), node, incarnation),
            node,
            incarnation,
            last: None,
        }
    }

    /// The same, with every number up to `last` spent: another sealer of this incarnation used them.
    #[must_use]
    pub fn after(mut self, last: u64) -> Sealer {
        self.last = Some(last);
        self
    }

    /// The number the next frame should carry.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.last.map_or(1, |last| last + 1)
    }

    /// The bytes of `frame` for every link.
    ///
    /// # Errors
    /// The number is not above the last one sealed, the frame names another sender, or it fits no
    /// datagram. The frame must not be sent.
    pub fn seal(&mut self, frame: &NodeFrame) -> Result<Vec<u8>, SealError> {
        let header = &frame.header;
        if (header.from, header.incarnation) != (self.node, self.incarnation) {
            let name = |n: NodeId, i: Incarnation| format!("{n}, incarnation {i}");
            return Err(SealError::Sender {
                found: name(header.from, header.incarnation),
                expected: name(self.node, self.incarnation),
            });
        }
        let number = header.number;
        if let Some(last) = self.last
            && number <= last
        {
            return Err(SealError::Number { number, last });
        }
        // Spent from here on, whatever happens below.
        self.last = Some(number);
        let body = codec::encode(Kind::Frame, frame)?;
        let clear = clear_header(header);
        let mut out = Vec::with_capacity(OVERHEAD + body.len());
        out.extend_from_slice(&clear);
        out.extend_from_slice(&body);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(number), Aad::from(clear), &mut out[CLEAR..])
            .map_err(|_| SealError::Cipher)?;
        out.extend_from_slice(tag.as_ref());
        Ok(out)
    }
}

/// Opens the datagrams of all senders, and counts those it refuses.
pub struct Opener {
    root: hkdf::Prk,
    me: NodeId,
    incarnation: Incarnation,
    /// The key of each sender's latest incarnation that proved itself.
    keys: BTreeMap<NodeId, (Incarnation, LessSafeKey)>,
    dropped: Dropped,
}

impl Opener {
    /// An opener at node `me`, whose own frames of this `incarnation` are echoes.
    #[must_use]
    pub fn new(key: &ClusterKey, me: NodeId, incarnation: Incarnation) -> Opener {
        Opener {
            root: root(key),
            me,
            incarnation,
            keys: BTreeMap::new(),
            dropped: Dropped::default(),
        }
    }

    /// What was refused so far.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// The frame in `datagram`, sent by whom its header says.
    ///
    /// # Errors
    /// Why it is none; counted. No bytes can make this panic.
    pub fn open(&mut self, datagram: &[u8]) -> Result<NodeFrame, Refused> {
        self.try_open(datagram)
            .inspect_err(|why| self.dropped.count(*why))
    }

    fn try_open(&mut self, datagram: &[u8]) -> Result<NodeFrame, Refused> {
        if datagram.len() < OVERHEAD {
            return Err(Refused::Short);
        }
        let Some((clear, sealed)) = datagram.split_first_chunk::<CLEAR>() else {
            return Err(Refused::Short);
        };
        if clear[..2] != MAGIC {
            return Err(Refused::Magic);
        }
        if clear[2..4] != [VERSION, SUITE] {
            return Err(Refused::Version);
        }
        let (node, incarnation, number) = read_clear(clear);
        if (node, incarnation) == (self.me, self.incarnation) {
            return Err(Refused::OwnEcho);
        }
        let fresh;
        let key = match self.keys.get(&node) {
            Some((kept, key)) if *kept == incarnation => key,
            _ => {
                fresh = sender_key(&self.root, node, incarnation);
                &fresh
            }
        };
        let mut body = sealed.to_vec();
        let plain = key
            .open_in_place(nonce(number), Aad::from(clear), &mut body)
            .map_err(|_| Refused::ForeignKey)?;
        let frame: NodeFrame = codec::decode(Kind::Frame, plain).map_err(|_| Refused::Decode)?;
        let inner = &frame.header;
        if (inner.from, inner.incarnation, inner.number) != (node, incarnation, number) {
            return Err(Refused::HeaderMismatch);
        }
        // Kept only for senders that proved to hold the key, so strangers cannot fill the map.
        let known = self.keys.get(&node);
        let newer = known.is_none_or(|(kept, _)| *kept != incarnation);
        if newer && (known.is_some() || self.keys.len() < KEPT) {
            let key = sender_key(&self.root, node, incarnation);
            self.keys.insert(node, (incarnation, key));
        }
        Ok(frame)
    }
}

fn root(key: &ClusterKey) -> hkdf::Prk {
    key.purpose("quorate datagram 1")
}

/// The key of one sender's incarnation; as good as random for everyone without the cluster key.
fn sender_key(root: &hkdf::Prk, node: NodeId, incarnation: Incarnation) -> LessSafeKey {
    let info = [
        b"quorate datagram".as_slice(),
        &node.0.to_le_bytes(),
        &incarnation.counter.to_le_bytes(),
        &incarnation.random.to_le_bytes(),
    ];
    let okm = root
        .expand(&info, &CHACHA20_POLY1305)
        .expect("32 bytes are within what HKDF-SHA256 can give");
    LessSafeKey::new(UnboundKey::from(okm))
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn clear_header(header: &Header) -> [u8; CLEAR] {
    let mut clear = [0; CLEAR];
    clear[..2].copy_from_slice(&MAGIC);
    clear[2] = VERSION;
    clear[3] = SUITE;
    clear[4..8].copy_from_slice(&header.from.0.to_le_bytes());
    clear[8..16].copy_from_slice(&header.incarnation.counter.to_le_bytes());
    clear[16..24].copy_from_slice(&header.incarnation.random.to_le_bytes());
    clear[24..].copy_from_slice(&header.number.to_le_bytes());
    clear
}

fn read_clear(clear: &[u8; CLEAR]) -> (NodeId, Incarnation, u64) {
    let long = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&clear[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let node = u32::from_le_bytes([clear[4], clear[5], clear[6], clear[7]]);
    let incarnation = Incarnation {
        counter: long(8),
        random: long(16),
    };
    (NodeId(node), incarnation, long(24))
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
