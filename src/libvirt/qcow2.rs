//! The header of an image of QEMU's qcow2 format, as far as it says what lies below. Source: QEMU's
//! docs/interop/qcow2.txt.

/// So much of an image is read: the header, its extensions, and the name of what lies below, which
/// all stand in the first cluster.
pub(super) const HEAD: usize = 65_536;
/// The longest name the format allows, in bytes.
const NAME_MAX: usize = 1023;

/// What an image's first bytes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// No image of this format; whatever it is, it names nothing below.
    Other,
    /// An image of this format, with the name of what lies below if anything does.
    Qcow2(Option<String>),
    /// It begins like one and does not go on like one.
    Damaged(&'static str),
}

/// Reads the first bytes of an image, at most [`HEAD`] of them.
pub(super) fn head(bytes: &[u8]) -> Head {
    if bytes.get(..4) != Some(b"QFI\xfb") {
        return Head::Other;
    }
    let (Some(version), Some(at), Some(length)) = (
        number(bytes, 4, 4),
        number(bytes, 8, 8),
        number(bytes, 16, 4),
    ) else {
        return Head::Damaged("it is shorter than its header");
    };
    if !matches!(version, 2 | 3) {
        return Head::Damaged("its version is neither 2 nor 3");
    }
    if at == 0 {
        return Head::Qcow2(None);
    }
    let name = usize::try_from(at).ok().zip(usize::try_from(length).ok());
    let name = name.filter(|(_, length)| (1..=NAME_MAX).contains(length));
    let name = name.and_then(|(at, length)| bytes.get(at..at.checked_add(length)?));
    match name.map(std::str::from_utf8) {
        Some(Ok(name)) => Head::Qcow2(Some(name.to_owned())),
        Some(Err(_)) => Head::Damaged("the name of the image below is no text"),
        None => Head::Damaged("the name of the image below lies outside its header"),
    }
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let digits = bytes.get(at..at + length)?;
    Some(digits.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An image's first bytes with that name below.
    pub(crate) fn image(below: &str) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..4].copy_from_slice(b"QFI\xfb");
        bytes[7] = 3;
        if !below.is_empty() {
            bytes[14..16].copy_from_slice(&[1, 4]);
            bytes[16..20].copy_from_slice(&(below.len() as u32).to_be_bytes());
            bytes[260..260 + below.len()].copy_from_slice(below.as_bytes());
        }
        bytes
    }

    #[test]
    fn the_name_of_the_image_below_is_read() {
        assert_eq!(head(&image("")), Head::Qcow2(None));
        assert_eq!(head(&image("/s/a")), Head::Qcow2(Some("/s/a".into())));
        assert_eq!(head(b""), Head::Other);
        assert_eq!(head(b"raw data"), Head::Other);
    }

    #[test]
    fn damaged_headers_are_seen_and_never_a_panic() {
        let good = image("base.raw");
        for cut in 0..good.len() {
            let _ = head(&good[..cut]);
        }
        assert!(matches!(head(&good[..10]), Head::Damaged(_)));
        for at in 4..20 {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = head(&bad);
            }
        }
        let mut far = good.clone();
        far[8..16].fill(0xff);
        assert!(matches!(head(&far), Head::Damaged(_)));
        let mut long = good.clone();
        long[16..20].fill(0xff);
        assert!(matches!(head(&long), Head::Damaged(_)));
        let mut version = good;
        version[7] = 9;
        assert!(matches!(head(&version), Head::Damaged(_)));
    }
}
