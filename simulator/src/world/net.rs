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
    /// What is sent is held, and comes in one burst when this ends.
    pub clogged: bool,
    /// Bytes of the largest message that passes; 0 if all do. A larger one vanishes, as behind a
    /// link whose packet size is smaller than both ends think.
    pub largest: u32,
    /// Datagrams that the next one overtakes, per million.
    pub reorder: u32,
    /// Nanoseconds each message takes for itself, one after the other; 0 if they do not wait.
    pub gap: u64,
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
            clogged: false,
            largest: 0,
            reorder: 0,
            gap: 0,
        }
    }
}

impl Link {
    /// Whether a message of `class` passes now.
    #[must_use]
    pub fn passes(&self, class: u8) -> bool {
        !self.cut && self.blocked & (1 << class) == 0
    }

    /// Whether a message of so many bytes passes.
    #[must_use]
    pub fn carries(&self, size: impl FnOnce() -> u32) -> bool {
        self.largest == 0 || size() <= self.largest
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
    /// When each link has sent what waits for its rate, in true time.
    free: Vec<u64>,
}

/// What waits longer than this for a link's rate is dropped, as by a router's full queue.
pub const LONGEST_QUEUE: u64 = 2_000_000_000;

impl Net {
    /// `networks` networks of `nodes` nodes, all links healthy.
    #[must_use]
    pub fn new(networks: usize, nodes: usize) -> Net {
        Net {
            nodes,
            links: vec![Link::default(); networks * nodes * nodes],
            free: vec![0; networks * nodes * nodes],
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

    /// When a message that is ready at `at` leaves the queue of its link.
    pub fn queue(&mut self, net: usize, from: usize, to: usize, at: u64) -> u64 {
        let i = (net * self.nodes + from) * self.nodes + to;
        let gap = self.links[i].gap;
        if gap == 0 {
            return at;
        }
        let leaves = self.free[i].max(at) + gap;
        if leaves - at <= LONGEST_QUEUE {
            self.free[i] = leaves;
        }
        leaves
    }
}
