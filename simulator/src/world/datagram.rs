//! Datagrams on their way: lost, doubled, held, overtaken, in a queue.

use super::{Item, Types, World, net};

/// Datagrams a clogged link holds; the rest is dropped.
const CLOG: usize = 64;

/// A datagram that waits for its link: network, sender, receiver.
pub(super) struct Held<T: Types> {
    pub(super) path: (u8, u16, u16),
    message: T::Datagram,
}

impl<T: Types> World<T> {
    /// Sends a datagram that leaves `delay` nanoseconds from now.
    pub fn datagram(
        &mut self,
        net: usize,
        from: usize,
        to: usize,
        class: u8,
        delay: u64,
        message: T::Datagram,
    ) where
        T::Datagram: Clone,
    {
        let link = *self.net.link(net, from, to);
        if !link.passes(class) || !self.reachable[from] || self.network_rng.chance(link.loss) {
            return;
        }
        if !link.carries(|| T::datagram_size(&message)) {
            return;
        }
        let ready = self.now + delay;
        let leaves = self.net.queue(net, from, to, ready);
        if leaves - ready > net::LONGEST_QUEUE {
            return;
        }
        let path = (net as u8, from as u16, to as u16);
        if link.clogged {
            let same = self.held.iter().filter(|h| h.path == path);
            if same.count() < CLOG {
                self.held.push(Held { path, message });
            }
            return;
        }
        if self.network_rng.chance(link.duplicate) {
            let at = leaves + link.delay(&mut self.network_rng);
            self.fly(path, at, message.clone());
        }
        let waiting = self.overtaken.iter().position(|h| h.path == path);
        if waiting.is_none() && self.network_rng.chance(link.reorder) {
            self.overtaken.push(Held { path, message });
            return;
        }
        let at = leaves + link.delay(&mut self.network_rng);
        self.fly(path, at, message);
        if let Some(waiting) = waiting {
            let late = self.overtaken.remove(waiting);
            self.fly(path, at + 1, late.message);
        }
    }

    /// A datagram arrives at `at`.
    fn fly(&mut self, (net, from, to): (u8, u16, u16), at: u64, message: T::Datagram) {
        let item = Item::Datagram {
            to,
            from,
            net,
            message,
        };
        self.queue.push(at, item);
    }

    /// A clogged link is free: all it held comes at once, unless nothing passes there any more.
    pub(super) fn burst(&mut self, path: (u8, u16, u16)) {
        let link = *self.net.link(path.0.into(), path.1.into(), path.2.into());
        let (free, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|h| h.path == path);
        self.held = held;
        let free: Vec<Held<T>> = free;
        for h in free.into_iter().filter(|_| !link.cut) {
            let at = self.now + link.delay(&mut self.network_rng);
            self.fly(path, at, h.message);
        }
    }
}
