//! One number that stands for a whole run: equal runs have equal hashes.

/// FNV-1a over 64-bit words, finished with a mixer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunHash(u64);

impl Default for RunHash {
    fn default() -> RunHash {
        RunHash(0xCBF2_9CE4_8422_2325)
    }
}

impl RunHash {
    /// Takes one number in.
    #[inline]
    pub fn add(&mut self, word: u64) {
        // One multiplication per word instead of one per byte; the rotation carries high bits down.
        self.0 = (self.0 ^ word)
            .wrapping_mul(0x0000_0100_0000_01B3)
            .rotate_left(23);
    }

    /// Takes a text in.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Takes bytes in.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.add(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }

    /// The hash of all that was taken in.
    #[must_use]
    pub fn finish(self) -> u64 {
        let z = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z ^ (z >> 29)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_length_count() {
        let of = |words: &[u64]| {
            let mut h = RunHash::default();
            words.iter().for_each(|w| h.add(*w));
            h.finish()
        };
        assert_ne!(of(&[1, 2]), of(&[2, 1]));
        assert_ne!(of(&[0]), of(&[0, 0]));
        assert_eq!(of(&[5, 9]), of(&[5, 9]));
        let (mut a, mut b) = (RunHash::default(), RunHash::default());
        a.text("ab");
        a.text("c");
        b.text("a");
        b.text("bc");
        assert_ne!(a, b);
    }
}
