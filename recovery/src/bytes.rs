//! Bytes that are encoded as one piece: serde takes a `Vec<u8>` for a list, and writes it byte by byte.
//! The encoded form is the same.

use serde::de::{SeqAccess, Visitor};
use serde::{Deserializer, Serializer};
use std::fmt;

/// Room that is made for a list whose length was only claimed, in bytes.
const CLAIMED: usize = 4096;

pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bytes(bytes)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    from.deserialize_byte_buf(Bytes)
}

struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = Vec::with_capacity(list.size_hint().unwrap_or(0).min(CLAIMED));
        while let Some(byte) = list.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use crate::command::Command;
    use quorate_membership::codec::{Kind, decode, encode};
    use serde::Serialize;

    #[derive(Serialize)]
    enum Listed {
        #[allow(dead_code)]
        A,
        Publish(Vec<u8>),
    }

    #[test]
    fn bytes_are_encoded_as_the_list_of_them_was() {
        for length in [0_usize, 1, 250, 251, 65_536] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
            let command = Command::Publish(bytes.clone());
            let one = encode(Kind::Record, &command).expect("short enough");
            let listed = encode(Kind::Record, &Listed::Publish(bytes)).expect("short enough");
            // Behind the header, which has a checksum, and the number of the variant.
            assert_eq!(one[13..], listed[13..], "{length} bytes");
            assert_eq!(
                decode::<Command>(Kind::Record, &one).expect("decodes"),
                command
            );
        }
    }

    #[test]
    fn bytes_of_other_formats_are_lists_as_before() {
        let text = serde_json::to_string(&Command::Publish(vec![1, 2])).expect("text");
        assert_eq!(text, r#"{"Publish":[1,2]}"#);
        let back: Command = serde_json::from_str(&text).expect("read");
        assert_eq!(back, Command::Publish(vec![1, 2]));
    }
}
