//! Networks made of directed links.

use super::rng::Rng;

/// How one direction between two nodes behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Nothing passes.
    pub cut: bool,
    /// Classes that do not pass, one bit each.
    pub blocked: u32,
    /// Datagrams lost, per million.
    pub loss: u32,
    /// Datagrams delivered twice, per million.
    pub duplicate: u32,
    /// Shortest delay in nanoseconds.
    pub base: u64,
    /// Added uniformly, from zero.
    pub jitter: u64,
    /// Datagrams that take a long way, per million.
    pub long: u32,
    /// The longest such way, in nanoseconds.
    pub long_max: u64,
}

impl Default for Link {
    /// A healthy local network.
    fn default() -> Link {
        Link {
            cut: false,
            blocked: 0,
            loss: 0,
            duplicate: 0,
            base: 100_000,
            jitter: 400_000,
            long: 0,
            long_max: 0,
        }
    }
}

impl Link {
    /// Whether a message of `class` passes now.
    #[must_use]
    pub fn passes(&self, class: u8) -> bool {
        !self.cut && self.blocked & (1 << class) == 0
    }

    /// The delay of one message.
    pub fn delay(&self, rng: &mut Rng) -> u64 {
        let mut delay = self.base + rng.range(0, self.jitter);
        if rng.chance(self.long) {
            delay += rng.range(0, self.long_max);
        }
        delay
    }
}

/// Every directed link of every network.
#[derive(Clone, Debug)]
pub struct Net {
    nodes: usize,
    links: Vec<Link>,
}

impl Net {
    /// `networks` networks of `nodes` nodes, all links healthy.
    #[must_use]
    pub fn new(networks: usize, nodes: usize) -> Net {
        Net {
            nodes,
            links: vec![Link::default(); networks * nodes * nodes],
        }
    }

    /// The link of network `net` from one node to another.
    #[must_use]
    pub fn link(&self, net: usize, from: usize, to: usize) -> &Link {
        &self.links[(net * self.nodes + from) * self.nodes + to]
    }

    /// The same, to change it.
    pub fn link_mut(&mut self, net: usize, from: usize, to: usize) -> &mut Link {
        &mut self.links[(net * self.nodes + from) * self.nodes + to]
    }
}
