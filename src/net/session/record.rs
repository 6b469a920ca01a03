//! Records of a session: a length, then a sealed kind and body.
//!
//! | offset | bytes | meaning |
//! |---|---|---|
//! | 0 | 4 | length of what follows, little endian; authenticated |
//! | 4 | 1 | sealed: kind; 0 is a sign of life, 1 a message |
//! | 5 | n | sealed: the body |
//! | 5 + n | 16 | tag |
//!
//! Each direction has its own key and counts its records from 0; the count is the nonce. A record
//! left out, repeated or moved therefore does not open.

use super::Closed;
use quorate_membership::codec::{self, Kind};
use ring::aead::{Aad, LessSafeKey, Nonce};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};

const ALIVE: u8 = 0;
const MESSAGE: u8 = 1;
const TAG: usize = 16;
const LENGTH: usize = 4;
/// Read at once; a wrong length reserves no more than this before bytes came.
const CHUNK: usize = 64 << 10;

/// What a record says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// The sender lives.
    Alive,
    /// One encoded message.
    Message(Vec<u8>),
}

/// The longest sealed part of a record.
fn limit() -> usize {
    1 + codec::HEADER + Kind::Stream.limit() + TAG
}

/// Seals the records of one direction.
pub(super) struct SealHalf {
    key: LessSafeKey,
    next: u64,
}

impl SealHalf {
    pub(super) fn new(key: LessSafeKey) -> SealHalf {
        SealHalf { key, next: 0 }
    }

    /// Appends a record to `out`.
    pub(super) fn seal(&mut self, record: &Record, out: &mut Vec<u8>) -> Result<(), Closed> {
        let (kind, body): (u8, &[u8]) = match record {
            Record::Alive => (ALIVE, &[]),
            Record::Message(body) => (MESSAGE, body),
        };
        let length = 1 + body.len() + TAG;
        if length > limit() {
            return Err(Closed::TooLong);
        }
        let clear = (length as u32).to_le_bytes();
        out.extend_from_slice(&clear);
        let start = out.len();
        out.push(kind);
        out.extend_from_slice(body);
        let nonce = count(&mut self.next)?;
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(clear), &mut out[start..])
            .map_err(|_| Closed::Damaged)?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }
}

/// Reads and opens the records of one direction.
pub(super) struct OpenHalf {
    key: LessSafeKey,
    next: u64,
}

impl OpenHalf {
    pub(super) fn new(key: LessSafeKey) -> OpenHalf {
        OpenHalf { key, next: 0 }
    }

    /// The next record, unless nothing at all comes for `silence`.
    pub(super) async fn read(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        silence: Duration,
    ) -> Result<Record, Closed> {
        let mut clear = [0; LENGTH];
        let mut bytes = Vec::new();
        fill(from, &mut bytes, LENGTH, silence).await?;
        clear.copy_from_slice(&bytes);
        let length = u32::from_le_bytes(clear) as usize;
        if length > limit() {
            return Err(Closed::TooLong);
        }
        if length < 1 + TAG {
            return Err(Closed::Damaged);
        }
        bytes.clear();
        fill(from, &mut bytes, length, silence).await?;
        let nonce = count(&mut self.next)?;
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(clear), &mut bytes)
            .map_err(|_| Closed::Damaged)?;
        let length = plain.len();
        bytes.truncate(length);
        match bytes.split_first() {
            Some((&ALIVE, [])) => Ok(Record::Alive),
            Some((&MESSAGE, body)) => Ok(Record::Message(body.to_vec())),
            _ => Err(Closed::Decode),
        }
    }
}

fn count(next: &mut u64) -> Result<Nonce, Closed> {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&next.to_le_bytes());
    // A nonce is never used twice: the session ends before the count could wrap.
    *next = next.checked_add(1).ok_or(Closed::Damaged)?;
    Ok(Nonce::assume_unique_for_key(bytes))
}

/// Reads until `bytes` holds `length` of them.
async fn fill(
    from: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
    length: usize,
    silence: Duration,
) -> Result<(), Closed> {
    while bytes.len() < length {
        let start = bytes.len();
        bytes.resize(length.min(start + CHUNK), 0);
        let read = tokio::time::timeout(silence, from.read(&mut bytes[start..])).await;
        let read = read
            .map_err(|_| Closed::Silent)?
            .map_err(|_| Closed::Broken)?;
        if read == 0 {
            return Err(Closed::Ended);
        }
        bytes.truncate(start + read);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ring::aead::{CHACHA20_POLY1305, UnboundKey};

    const SILENCE: Duration = Duration::from_secs(20);

    fn key() -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[3; 32]).expect("32 bytes"))
    }

    fn records() -> Vec<Record> {
        vec![
            Record::Alive,
            Record::Message(vec![1; 100_000]),
            Record::Message(Vec::new()),
            Record::Alive,
        ]
    }

    fn sealed(records: &[Record]) -> Vec<u8> {
        let mut half = SealHalf::new(key());
        let mut out = Vec::new();
        for record in records {
            half.seal(record, &mut out).expect("sealed");
        }
        out
    }

    /// The records in `bytes` and why there are no more.
    fn opened(mut bytes: &[u8]) -> (Vec<Record>, Closed) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut half = OpenHalf::new(key());
            let mut got = Vec::new();
            loop {
                match half.read(&mut bytes, SILENCE).await {
                    Ok(record) => got.push(record),
                    Err(why) => return (got, why),
                }
            }
        })
    }

    #[test]
    fn records_come_back_in_order() {
        assert_eq!(opened(&sealed(&records())), (records(), Closed::Ended));
    }

    #[test]
    fn a_record_left_out_or_repeated_ends_the_session() {
        let alive = sealed(&[Record::Alive]);
        let twice = [alive.clone(), alive.clone()].concat();
        assert_eq!(opened(&twice), (vec![Record::Alive], Closed::Damaged));
        let both = sealed(&[Record::Alive, Record::Alive]);
        assert_eq!(opened(&both[alive.len()..]), (vec![], Closed::Damaged));
    }

    #[test]
    fn lengths_out_of_bounds_are_refused_before_reading_on() {
        assert_eq!(opened(&[255; 8]), (vec![], Closed::TooLong));
        assert_eq!(opened(&[16, 0, 0, 0, 1]), (vec![], Closed::Damaged));
        let mut half = SealHalf::new(key());
        let long = Record::Message(vec![0; limit()]);
        assert_eq!(half.seal(&long, &mut Vec::new()), Err(Closed::TooLong));
    }

    proptest! {
        #[test]
        fn a_changed_bit_is_never_taken_for_a_record(at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let whole = [Record::Alive, Record::Message(vec![9; 50]), Record::Alive];
            let mut bytes = sealed(&whole);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let (got, _) = opened(&bytes);
            prop_assert!(got.len() < whole.len() && got[..] == whole[..got.len()]);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (got, _) = opened(&bytes);
            prop_assert!(got.is_empty());
        }
    }
}
