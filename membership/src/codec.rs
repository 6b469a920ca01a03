//! Bytes on the wire and on disk. The only place that names bincode.
//!
//! Every value is framed by a hand-written header of twelve bytes, then its body:
//!
//! | offset | bytes | meaning |
//! |---|---|---|
//! | 0 | 2 | magic `Qr` |
//! | 2 | 1 | version of the format |
//! | 3 | 1 | kind of value |
//! | 4 | 4 | length of the body, little endian |
//! | 8 | 4 | CRC-32 of the body, little endian |
//!
//! A body is decoded only if all of these fit, never beyond the limit of its kind, and must use
//! every byte. Integers are variable-length; enum variants are only ever appended.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Version of the format; one number for wire and disk.
pub const VERSION: u8 = 1;
/// Length of the header in bytes.
pub const HEADER: usize = 12;
const MAGIC: [u8; 2] = *b"Qr";

/// Kinds of values, each with its own limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A datagram.
    Frame,
    /// A message on a session.
    Stream,
    /// A value in the store.
    Record,
    /// A whole replicated state.
    State,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Frame => 1,
            Kind::Stream => 2,
            Kind::Record => 3,
            Kind::State => 4,
        }
    }

    /// The longest body that is looked at, in bytes.
    #[must_use]
    pub fn limit(self) -> usize {
        match self {
            Kind::Frame => 60_000,
            Kind::Stream | Kind::Record => 16 << 20,
            Kind::State => 64 << 20,
        }
    }
}

/// Why bytes are not a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than a header, or than the header says.
    #[error("cut short: {found} bytes of {expected}")]
    Short {
        /// Bytes there are.
        found: usize,
        /// Bytes there should be.
        expected: usize,
    },
    /// Not ours.
    #[error("does not begin with the magic bytes `Qr`")]
    Magic,
    /// Another format.
    #[error("format version {0}; this build reads version {VERSION}")]
    Version(u8),
    /// Another kind of value.
    #[error("value of kind {0}, expected {1:?}")]
    Kind(u8, Kind),
    /// Longer than this kind may be.
    #[error("body of {0} bytes is above the limit of {1}")]
    Limit(usize, usize),
    /// Bytes were changed.
    #[error("checksum does not match")]
    Checksum,
    /// The body is no such value.
    #[error("body does not decode: {0}")]
    Body(String),
    /// Bytes follow the value.
    #[error("{0} bytes follow the value")]
    Rest(usize),
}

/// The bytes of `value`.
///
/// # Panics
/// If the value is longer than its kind's limit; every sender bounds what it collects. Where it
/// cannot, there is [`try_encode`].
pub fn encode<T: Serialize>(kind: Kind, value: &T) -> Vec<u8> {
    match try_encode(kind, value) {
        Some(bytes) => bytes,
        None => panic!("a {kind:?} is above its limit of {} bytes", kind.limit()),
    }
}

/// The bytes of `value`; none if it is longer than its kind's limit.
pub fn try_encode<T: Serialize>(kind: Kind, value: &T) -> Option<Vec<u8>> {
    let body = match bincode::serde::encode_to_vec(value, bincode::config::standard()) {
        Ok(body) => body,
        Err(e) => panic!("our own types always encode: {e}"),
    };
    if body.len() > kind.limit() {
        return None;
    }
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    out.push(kind.byte());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    out.extend_from_slice(&body);
    Some(out)
}

/// The value in `bytes`, all of them.
///
/// # Errors
/// What is wrong with the bytes; nothing in them can make this panic or allocate without bound.
pub fn decode<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T, DecodeError> {
    let Some((header, body)) = bytes.split_at_checked(HEADER) else {
        return Err(DecodeError::Short {
            found: bytes.len(),
            expected: HEADER,
        });
    };
    if header[..2] != MAGIC {
        return Err(DecodeError::Magic);
    }
    if header[2] != VERSION {
        return Err(DecodeError::Version(header[2]));
    }
    if header[3] != kind.byte() {
        return Err(DecodeError::Kind(header[3], kind));
    }
    let word = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let length = word(4) as usize;
    if length > kind.limit() {
        return Err(DecodeError::Limit(length, kind.limit()));
    }
    if body.len() < length {
        return Err(DecodeError::Short {
            found: bytes.len(),
            expected: HEADER + length,
        });
    }
    if body.len() > length {
        return Err(DecodeError::Rest(body.len() - length));
    }
    if crc32fast::hash(body) != word(8) {
        return Err(DecodeError::Checksum);
    }
    let config = bincode::config::standard().with_limit::<{ 64 << 20 }>();
    let (value, used) = bincode::serde::decode_from_slice(body, config)
        .map_err(|e| DecodeError::Body(e.to_string()))?;
    if used != body.len() {
        return Err(DecodeError::Rest(body.len() - used));
    }
    Ok(value)
}
