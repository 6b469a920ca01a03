//! Where datagrams come from: those of other clusters, or of hosts with a wrong key file, and those of
//! each life of a node, of which there should be one.

use quorate_membership::{Incarnation, NodeId};
use quorate_recovery::contract::Event;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Addresses told apart; further ones are only counted by the opener.
const ADDRESSES: usize = 8;

/// Nodes whose addresses are kept, and addresses of one node: two lives on several links.
const NODES: usize = 4096;
const LIVES: usize = 8;

/// How many datagrams that another key sealed came from where, and where the lives of nodes speak from.
#[derive(Debug, Default)]
pub(crate) struct Foreign {
    counts: BTreeMap<IpAddr, u64>,
    /// The last heard at the end.
    lives: BTreeMap<NodeId, Vec<(Incarnation, SocketAddr)>>,
}

impl Foreign {
    /// One more from `from`; true if it is the first from there.
    pub(crate) fn heard(&mut self, from: SocketAddr) -> bool {
        let known = self.counts.len();
        match self.counts.get_mut(&from.ip()) {
            Some(count) => *count += 1,
            None if known < ADDRESSES => {
                self.counts.insert(from.ip(), 1);
                return true;
            }
            None => {}
        }
        false
    }

    /// A datagram of that life of `node` came from `from`.
    pub(crate) fn life(&mut self, node: NodeId, life: Incarnation, from: SocketAddr) {
        if self.lives.len() >= NODES && !self.lives.contains_key(&node) {
            return;
        }
        let lives = self.lives.entry(node).or_default();
        match lives.iter().position(|l| *l == (life, from)) {
            Some(at) if at + 1 == lives.len() => return,
            Some(at) => drop(lives.remove(at)),
            None if lives.len() == LIVES => drop(lives.remove(0)),
            None => {}
        }
        lives.push((life, from));
    }

    /// An event of copies of `node`, with the addresses that its lives are heard from.
    pub(crate) fn named(&self, node: NodeId, mut event: Event) -> Event {
        event.text.push_str(&self.lives_of(node));
        event
    }

    /// Where the last two lives of `node` speak from, in words to go behind others; none if nothing
    /// was heard of it.
    pub(crate) fn lives_of(&self, node: NodeId) -> String {
        let all = self.lives.get(&node).map_or(&[][..], Vec::as_slice);
        let mut newest: Vec<Incarnation> = Vec::new();
        for (life, _) in all.iter().rev() {
            if newest.len() < 2 && !newest.contains(life) {
                newest.push(*life);
            }
        }
        newest.sort_by_key(|life| life.counter);
        let one = |life: &Incarnation| {
            let from = all.iter().filter(|(l, _)| l == life);
            let from: Vec<String> = from.map(|(_, from)| from.to_string()).collect();
            format!("; incarnation {life} is heard from {}", from.join(" and "))
        };
        newest.iter().map(one).collect()
    }

    /// What is to be said of each address, with what to do.
    pub(crate) fn words(&self) -> impl Iterator<Item = String> {
        self.counts.iter().map(|(from, count)| {
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

    #[test]
    fn both_lives_of_a_node_are_told_with_their_addresses() {
        let mut foreign = Foreign::default();
        let life = |counter, random| Incarnation { counter, random };
        let at = |host: u8| SocketAddr::from(([10, 0, 0, host], 7400));
        assert_eq!(foreign.lives_of(NodeId(1)), "");
        foreign.life(NodeId(1), life(4, 1), at(9));
        foreign.life(NodeId(1), life(5, 1), at(1));
        foreign.life(NodeId(1), life(5, 2), at(2));
        for _ in 0..100 {
            foreign.life(NodeId(1), life(5, 1), at(1));
            foreign.life(NodeId(1), life(5, 1), at(3));
        }
        let told = foreign.lives_of(NodeId(1));
        assert!(!told.contains("10.0.0.9"), "{told}");
        for host in 1..=3 {
            assert!(told.contains(&at(host).to_string()), "{told}");
        }
        // Bounded, whatever comes.
        (0..200).for_each(|n| foreign.life(NodeId(1), life(n, 0), at(1)));
        assert_eq!(foreign.lives[&NodeId(1)].len(), LIVES);
    }
}
