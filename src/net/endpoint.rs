//! Addresses as people write them, with the card where an address alone does not name one:
//! `10.0.0.1:5406`, `[fd00::1]:5406`, `[fe80::1%eth0]:5406`.

use super::cards;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

/// The longest name of a card in bytes.
const NAME_MAX: usize = 15;

/// An IP address, and the card it belongs to if it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZonedIp {
    /// The address.
    pub ip: IpAddr,
    /// Name of the card; only an address of one link (`fe80::/10`, `ff02::/16`) has one.
    pub card: Option<String>,
}

/// Where somebody listens: an address with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub at: ZonedIp,
    /// The port.
    pub port: u16,
}

/// Text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address")]
pub struct NoAddress;

/// Whether an address means something else on each card.
#[must_use]
pub fn of_one_link(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local() || group_scope(ip) == Some(2),
    }
}

/// How far an IPv6 group reaches: 1 this card, 2 its link, 5 the site (RFC 4291).
pub(crate) fn group_scope(ip: Ipv6Addr) -> Option<u8> {
    let [first, second, ..] = ip.octets();
    (first == 0xff).then_some(second & 0x0f)
}

impl ZonedIp {
    /// Whether it means something else on each card, and none is named.
    #[must_use]
    pub fn lacks_card(&self) -> bool {
        self.card.is_none() && of_one_link(self.ip)
    }
}

impl FromStr for ZonedIp {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<ZonedIp, NoAddress> {
        let (ip, card) = match text.split_once('%') {
            Some((ip, card)) => (ip, Some(card)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| NoAddress)?;
        let named = |card: &str| {
            let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '%' | '[' | ']');
            !card.is_empty() && card.len() <= NAME_MAX && card.chars().all(plain)
        };
        if card.is_some_and(|card| !named(card) || !of_one_link(ip)) {
            return Err(NoAddress);
        }
        Ok(ZonedIp {
            ip,
            card: card.map(str::to_owned),
        })
    }
}

impl fmt::Display for ZonedIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.card {
            Some(card) => write!(f, "{}%{card}", self.ip),
            None => self.ip.fmt(f),
        }
    }
}

impl Endpoint {
    /// The address for the system, with the index that its card has now.
    ///
    /// # Errors
    /// There is no card of that name.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        match (&self.at.card, self.at.ip) {
            (Some(card), IpAddr::V6(ip)) => {
                let index = cards::index(card)
                    .map_err(|e| io::Error::new(e.kind(), format!("card {card}: {e}")))?;
                Ok(SocketAddrV6::new(ip, self.port, 0, index).into())
            }
            (_, ip) => Ok(SocketAddr::new(ip, self.port)),
        }
    }
}

impl Endpoint {
    /// Whether it is a group that never leaves the card (`ff01::/16`).
    #[must_use]
    pub fn on_this_host_only(&self) -> bool {
        matches!(self.at.ip, IpAddr::V6(ip) if matches!(group_scope(ip), Some(0 | 1)))
    }
}

impl FromStr for Endpoint {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Endpoint, NoAddress> {
        let (at, port) = text.rsplit_once(':').ok_or(NoAddress)?;
        let port = port.parse().map_err(|_| NoAddress)?;
        let inner = at.strip_prefix('[').and_then(|at| at.strip_suffix(']'));
        let at: ZonedIp = inner.unwrap_or(at).parse()?;
        if at.ip.is_ipv6() != inner.is_some() {
            return Err(NoAddress);
        }
        Ok(Endpoint { at, port })
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Endpoint {
        Endpoint {
            at: ZonedIp {
                ip: address.ip(),
                card: None,
            },
            port: address.port(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at.ip {
            IpAddr::V4(_) => write!(f, "{}:{}", self.at, self.port),
            IpAddr::V6(_) => write!(f, "[{}]:{}", self.at, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_written_back() {
        for text in [
            "10.0.0.1:5406",
            "[fd00::1]:5406",
            "[fe80::7:1%eth0]:5406",
            "[ff02::dada:1%br0.7]:1",
        ] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!(endpoint.to_string(), text);
        }
        for text in [
            "",
            "10.0.0.1",
            "10.0.0.1%eth0:5406",
            "[10.0.0.1]:5406",
            "fd00::1:5406",
            "[fd00::1%eth0]:5406",
            "[fe80::1%]:5406",
            "[fe80::1%a/b]:5406",
            "[fe80::1%sixteen-letters-]:1",
            "[fe80::1%eth0]:65536",
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(NoAddress), "{text}");
        }
    }

    #[test]
    fn an_address_of_one_link_needs_its_card_and_gets_its_index() {
        let bare: Endpoint = "[fe80::1]:7".parse().expect("an address");
        assert!(bare.at.lacks_card());
        let named: Endpoint = "[fe80::1%lo]:7".parse().expect("an address");
        assert!(!named.at.lacks_card());
        let SocketAddr::V6(address) = named.resolve().expect("a card") else {
            panic!("IPv6");
        };
        assert_eq!(address.scope_id(), 1);
        let nowhere: Endpoint = "[fe80::1%nowhere0]:7".parse().expect("an address");
        let why = nowhere.resolve().expect_err("no such card").to_string();
        assert!(why.contains("nowhere0"), "{why}");
    }
}
