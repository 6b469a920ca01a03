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
/// No datagram is longer than this many bytes, sealed: it fits the smallest packet that every network
/// must carry whole (1,280 bytes of IPv6, less 48 of headers), so none ever travels as fragments.
pub const DATAGRAM: usize = 1232;
/// What sealing adds to a datagram: a clear header of 32 bytes and a tag of 16.
pub const SEALING: usize = 48;
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
            Kind::Frame => DATAGRAM - SEALING - HEADER,
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

/// A value is longer than its kind may be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {kind:?} of {found} bytes is above the limit of {}", kind.limit())]
pub struct TooLong {
    /// The kind of value.
    pub kind: Kind,
    /// Bytes of its body.
    pub found: usize,
}

/// The bytes of the body of `value`, without its header.
fn body<T: Serialize>(value: &T) -> Vec<u8> {
    match bincode::serde::encode_to_vec(value, bincode::config::standard()) {
        Ok(body) => body,
        Err(e) => panic!("our own types always encode: {e}"),
    }
}

/// Bytes of the body of `value`; nothing is kept of them.
pub fn length<T: Serialize>(value: &T) -> u64 {
    let mut length = bincode::enc::write::SizeWriter::default();
    if let Err(e) =
        bincode::serde::encode_into_writer(value, &mut length, bincode::config::standard())
    {
        panic!("our own types always encode: {e}");
    }
    length.bytes_written as u64
}

/// The length of the body of `value`; none if it is longer than its kind may be.
pub fn size<T: Serialize>(kind: Kind, value: &T) -> Option<usize> {
    Some(body(value).len()).filter(|n| *n <= kind.limit())
}

/// CRC-32 (ISO-HDLC) of the body of `value`, of which no bytes are kept. Nobody chooses values in order
/// to make two of them look the same: members trust each other.
pub fn checksum<T: Serialize>(value: &T) -> u32 {
    let mut sum = Checksum(crc32fast::Hasher::new());
    let config = bincode::config::standard();
    if let Err(e) = bincode::serde::encode_into_writer(value, &mut sum, config) {
        panic!("our own types always encode: {e}");
    }
    sum.0.finalize()
}

struct Checksum(crc32fast::Hasher);

impl bincode::enc::write::Writer for Checksum {
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.update(bytes);
        Ok(())
    }
}

/// The bytes of `value`.
///
/// # Errors
/// The value is longer than its kind may be.
pub fn encode<T: Serialize>(kind: Kind, value: &T) -> Result<Vec<u8>, TooLong> {
    let body = body(value);
    if body.len() > kind.limit() {
        let found = body.len();
        return Err(TooLong { kind, found });
    }
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    out.push(kind.byte());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    out.extend_from_slice(&body);
    Ok(out)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What `WIRE.md` says of it.
    #[test]
    fn a_checksum_is_that_of_the_bytes_and_tells_near_values_apart() {
        assert_eq!(
            checksum(b"123456789"),
            0xcbf4_3926,
            "the check value of the CRC"
        );
        for length in 0..40u8 {
            let value: Vec<u8> = (0..length).collect();
            assert_eq!(checksum(&value), crc32fast::hash(&body(&value)), "{length}");
        }
        let near = [vec![0u64, 0], vec![0], vec![0, 1], vec![1, 0], Vec::new()];
        let sums: std::collections::BTreeSet<u32> = near.iter().map(checksum).collect();
        assert_eq!(sums.len(), near.len());
    }
}
