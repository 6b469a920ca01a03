//! The bytes of a lock: two blocks of one size, written in turns, so that a torn write leaves the
//! one before whole.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `QRTLOCK` and a zero byte |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | host |
//! | 16 | 16 | cluster |
//! | 32 | 8 | guest |
//! | 40 | 8 | epoch |
//! | 48 | 8, 8 | the host's incarnation: counter, random |
//! | 64 | 8 | times raised |
//! | 72 | 8 | sequence: one more than the highest in either block |
//! | 512 | up to 512 | words for people, ended by a zero byte |
//! | 4064 | 32 | SHA-256 of all before |
//!
//! Numbers are little-endian, everything else is zero.

use quorate_membership::{ClusterId, Incarnation, NodeId, Token};
use quorate_recovery::guest::GuestId;
use quorate_recovery::lock::{Life, Lock};
use ring::digest;

/// One block; storage writes it whole or, torn, not so that it checks out.
pub(crate) const BLOCK: usize = 4096;
/// A lock file.
pub(crate) const FILE: usize = 2 * BLOCK;
const MAGIC: &[u8; 8] = b"QRTLOCK\0";
const VERSION: u32 = 1;
const WORDS: std::ops::Range<usize> = 512..1024;
const SUM: usize = BLOCK - 32;

/// What a lock file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing was ever written.
    Nothing,
    /// The newest block that checks out, and its sequence.
    Lock(Lock, u64),
    /// Something is there and neither block checks out.
    Damaged(&'static str),
}

/// A block as bytes.
pub(crate) fn encode(lock: &Lock, sequence: u64, words: &str) -> Vec<u8> {
    let mut b = vec![0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| b[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, MAGIC);
    put(8, &VERSION.to_le_bytes());
    put(12, &lock.life.host.0.to_le_bytes());
    put(16, &lock.cluster.0.to_le_bytes());
    put(32, &lock.guest.0.to_le_bytes());
    put(40, &lock.life.epoch.0.to_le_bytes());
    put(48, &lock.life.incarnation.counter.to_le_bytes());
    put(56, &lock.life.incarnation.random.to_le_bytes());
    put(64, &lock.raised.to_le_bytes());
    put(72, &sequence.to_le_bytes());
    let words = words.as_bytes();
    put(WORDS.start, &words[..words.len().min(WORDS.len() - 1)]);
    let sum = digest::digest(&digest::SHA256, &b[..SUM]);
    b[SUM..].copy_from_slice(sum.as_ref());
    b
}

/// A block from bytes: `Ok(None)` if all are zero.
fn decode(b: &[u8]) -> Result<Option<(Lock, u64)>, &'static str> {
    if b.iter().all(|b| *b == 0) {
        return Ok(None);
    }
    if b.len() != BLOCK || &b[..8] != MAGIC {
        return Err("it is no lock of Quorate");
    }
    if digest::digest(&digest::SHA256, &b[..SUM]).as_ref() != &b[SUM..] {
        return Err("its checksum is wrong");
    }
    let u32_at = |at: usize| u32::from_le_bytes(array(b, at));
    let u64_at = |at: usize| u64::from_le_bytes(array(b, at));
    if u32_at(8) != VERSION {
        return Err("it is of another version");
    }
    let lock = Lock {
        cluster: ClusterId(u128::from_le_bytes(array(b, 16))),
        guest: GuestId(u64_at(32)),
        life: Life {
            epoch: Token(u64_at(40)),
            host: NodeId(u32_at(12)),
            incarnation: Incarnation {
                counter: u64_at(48),
                random: u64_at(56),
            },
        },
        raised: u64_at(64),
    };
    Ok(Some((lock, u64_at(72))))
}

fn array<const N: usize>(b: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&b[at..at + N]);
    out
}

/// What a lock file of any size says; never panics.
pub(crate) fn read(bytes: &[u8]) -> Content {
    let mut newest = None;
    let mut damage = None;
    for block in bytes.chunks(BLOCK).take(2) {
        match decode(block) {
            Ok(None) => {}
            Ok(Some((lock, sequence))) => {
                if newest.as_ref().is_none_or(|(_, s)| *s < sequence) {
                    newest = Some((lock, sequence));
                }
            }
            Err(why) => damage = Some(why),
        }
    }
    match (newest, damage) {
        (Some((lock, sequence)), _) => Content::Lock(lock, sequence),
        (None, Some(why)) => Content::Damaged(why),
        (None, None) => Content::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(raised: u64) -> Lock {
        Lock {
            cluster: ClusterId(0x0102_0304),
            guest: GuestId(5),
            life: Life {
                epoch: Token::new(quorate_membership::Epoch(1), 77),
                host: NodeId(3),
                incarnation: Incarnation {
                    counter: 4,
                    random: 9,
                },
            },
            raised,
        }
    }

    #[test]
    fn the_newer_of_two_blocks_counts_and_a_torn_one_does_not() {
        let mut file = encode(&lock(7), 8, "web on h3");
        file.extend(encode(&lock(8), 9, "web on h3"));
        assert_eq!(read(&file), Content::Lock(lock(8), 9));
        file[BLOCK + 2000] ^= 1;
        assert_eq!(read(&file), Content::Lock(lock(7), 8));
        file[100] ^= 1;
        assert_eq!(read(&file), Content::Damaged("its checksum is wrong"));
    }

    #[test]
    fn whatever_the_bytes_are_nothing_panics() {
        assert_eq!(read(&[]), Content::Nothing);
        assert_eq!(read(&[0; FILE]), Content::Nothing);
        for size in [1, 7, 8, 100, BLOCK - 1, BLOCK, BLOCK + 1, FILE, 3 * FILE] {
            assert_ne!(read(&vec![0x51; size]), Content::Nothing, "{size}");
        }
        let whole = encode(&lock(1), 1, &"ä".repeat(2000));
        for cut in [0, 8, 12, 72, 600, 4064, 4095] {
            let found = read(&whole[..cut]);
            assert!(!matches!(found, Content::Lock(..)), "{cut}: {found:?}");
        }
    }
}
