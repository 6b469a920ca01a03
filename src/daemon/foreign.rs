//! Datagrams of other clusters, or of hosts with a wrong key file: who sends them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Addresses told apart; further ones are only counted by the opener.
const ADDRESSES: usize = 8;

/// How many datagrams that another key sealed came from where.
#[derive(Debug, Default)]
pub(crate) struct Foreign(BTreeMap<IpAddr, u64>);

impl Foreign {
    /// One more from `from`; true if it is the first from there.
    pub(crate) fn heard(&mut self, from: SocketAddr) -> bool {
        let known = self.0.len();
        match self.0.get_mut(&from.ip()) {
            Some(count) => *count += 1,
            None if known < ADDRESSES => {
                self.0.insert(from.ip(), 1);
                return true;
            }
            None => {}
        }
        false
    }

    /// What is to be said of each address, with what to do.
    pub(crate) fn words(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(from, count)| {
            format!(
                "{count} datagrams under another key were heard from {from}: its key_file differs from \
                 this node's, or it belongs to another cluster and needs another group or port"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_told_with_its_count_and_their_number_is_bounded() {
        let mut foreign = Foreign::default();
        let from = |n: u8| SocketAddr::from(([10, 0, 0, n], 5405));
        assert!(foreign.heard(from(1)));
        assert!(!foreign.heard(from(1)));
        for n in 2..100 {
            foreign.heard(from(n));
        }
        let words: Vec<String> = foreign.words().collect();
        assert_eq!(words.len(), ADDRESSES);
        assert!(words[0].starts_with("2 datagrams"), "{}", words[0]);
        assert!(words[0].contains("10.0.0.1"), "{}", words[0]);
    }
}
