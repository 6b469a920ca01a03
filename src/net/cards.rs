//! The network cards of this machine and the addresses on them, as the kernel lists them.

use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Linux' numbers (`linux/netlink.h`, `linux/rtnetlink.h`, `linux/if_addr.h`).
const AF_NETLINK: i32 = 16;
const NETLINK_ROUTE: i32 = 0;
const DONE: u16 = 3;
const ERROR: u16 = 2;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const REQUEST_DUMP: u16 = 0x301;
const ATTRIBUTE_ADDRESS: u16 = 1;
const ATTRIBUTE_LOCAL: u16 = 2;
const TENTATIVE_OR_REFUSED: u8 = 0x40 | 0x08;
/// Index of the loopback card in every network namespace.
const LOOPBACK: u32 = 1;
/// The kernel answers at once; this only keeps a fault of ours from waiting for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// One address on one card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The address.
    pub(crate) address: IpAddr,
    /// Index of the card.
    pub(crate) card: u32,
    /// Whether it may be used: not one that is still being checked for a duplicate (IPv6), or was
    /// found to be one.
    pub(crate) usable: bool,
}

/// Every address of this machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cards(Vec<Entry>);

impl Cards {
    /// Asks the kernel.
    ///
    /// # Errors
    /// It gives no socket, or no answer that is understood.
    pub(crate) fn read() -> io::Result<Cards> {
        let socket = Socket::new(
            Domain::from(AF_NETLINK),
            Type::RAW,
            Some(Protocol::from(NETLINK_ROUTE)),
        )?;
        socket.set_read_timeout(Some(PATIENCE))?;
        // Header (length, type, flags, number, sender), then a message that asks for all families.
        let mut request = Vec::with_capacity(24);
        request.extend_from_slice(&24_u32.to_ne_bytes());
        request.extend_from_slice(&GET_ADDRESS.to_ne_bytes());
        request.extend_from_slice(&REQUEST_DUMP.to_ne_bytes());
        request.extend_from_slice(&[0; 16]);
        socket.send(&request)?;
        let mut cards = Cards::default();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = (&socket).read(&mut buffer)?;
            if length == 0 || cards.take(&buffer[..length])? {
                return Ok(cards);
            }
        }
    }

    /// Takes the messages of one answer; says whether it was the last one.
    fn take(&mut self, mut bytes: &[u8]) -> io::Result<bool> {
        while let Some((header, _)) = bytes.split_at_checked(16) {
            let length = word(header, 0) as usize;
            let Some(message) = bytes.get(16..length) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            match half(header, 4) {
                DONE => return Ok(true),
                ERROR => {
                    let code = message.get(..4).map_or(0, |_| word(message, 0));
                    return Err(io::Error::from_raw_os_error((code as i32).saturating_neg()));
                }
                NEW_ADDRESS => self.0.extend(entry(message)),
                _ => {}
            }
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        }
        Ok(false)
    }

    /// The card that has `address`, and whether the address may be used there. With `on`, only that
    /// card counts.
    pub(crate) fn find(&self, address: IpAddr, on: Option<u32>) -> Option<(u32, bool)> {
        let fits = |e: &&Entry| e.address == address && on.is_none_or(|card| card == e.card);
        let found = self.0.iter().find(fits).map(|e| (e.card, e.usable));
        // The whole of 127.0.0.0/8 belongs to it, listed or not.
        found.or((address.is_loopback() && on.is_none()).then_some((LOOPBACK, true)))
    }
}

/// The index of the card of this name.
///
/// # Errors
/// There is none.
pub(crate) fn index(name: &str) -> io::Result<u32> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    Ok(rustix::net::netdevice::name_to_index(&socket, name)?)
}

/// One address of a message `ifaddrmsg` with its attributes.
fn entry(message: &[u8]) -> Option<Entry> {
    let (head, mut rest) = message.split_at_checked(8)?;
    let flags = head[2];
    let card = word(head, 4);
    let mut address = None;
    while let Some(header) = rest.get(..4) {
        let length = usize::from(half(header, 0));
        let value = rest.get(4..length)?;
        let read = match value.len() {
            4 => <[u8; 4]>::try_from(value).map(|b| IpAddr::V4(Ipv4Addr::from(b))),
            16 => <[u8; 16]>::try_from(value).map(|b| IpAddr::V6(Ipv6Addr::from(b))),
            _ => value.try_into().map(|b: [u8; 4]| IpAddr::V4(b.into())),
        };
        match half(header, 2) {
            // On a point-to-point card the other one is the other end's.
            ATTRIBUTE_LOCAL => address = read.ok(),
            ATTRIBUTE_ADDRESS if address.is_none() => address = read.ok(),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Some(Entry {
        address: address?,
        card,
        usable: flags & TENTATIVE_OR_REFUSED == 0,
    })
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let part = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    part.map_or(0, u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> u16 {
    let part = bytes.get(at..at + 2).and_then(|b| b.try_into().ok());
    part.map_or(0, u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_card_is_found_with_every_address_of_its_range() {
        let cards = Cards::read().expect("a list");
        for address in ["127.0.0.1", "127.0.0.2", "127.9.9.9"] {
            let address = address.parse().expect("an address");
            assert_eq!(cards.find(address, None), Some((LOOPBACK, true)));
        }
        assert_eq!(index("lo").expect("a card"), LOOPBACK);
        let nobody = "192.0.2.77".parse().expect("an address");
        assert_eq!(cards.find(nobody, None), None);
        assert!(index("no-such-card").is_err());
    }

    #[test]
    fn damaged_answers_are_refused_or_empty_and_never_panic() {
        let mut good = vec![44, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        good.extend([10, 64, 0x40, 0, 7, 0, 0, 0, 20, 0, 1, 0]);
        good.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        let mut cards = Cards::default();
        assert!(!cards.take(&good).expect("understood"));
        let address = "fe80::1".parse().expect("an address");
        assert_eq!(cards.find(address, None), Some((7, false)));
        assert_eq!(cards.find(address, Some(8)), None);
        for cut in 0..good.len() {
            let _ = Cards::default().take(&good[..cut]);
        }
        for at in 0..good.len() {
            for value in [0, 1, 3, 255] {
                let mut damaged = good.clone();
                damaged[at] = value;
                let _ = Cards::default().take(&damaged);
            }
        }
    }
}
