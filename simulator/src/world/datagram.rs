//! Datagrams on their way: lost, doubled, held, overtaken, in a queue.

use super::rng::Rng;
use super::{Item, Types, World, net};
use crate::record::Loss;

/// Datagrams a clogged link holds; the rest is dropped.
const CLOG: usize = 64;

/// A datagram that waits for its link: network, sender, receiver.
pub(super) struct Held<T: Types> {
    pub(super) path: (u8, u16, u16),
    message: T::Datagram,
    /// What caused it, for the record.
    cause: u32,
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
        let mut rng = self.chance_of(net, from, to);
        let step = self.sends(from, to, || T::datagram_text(&message));
        let lost = if !link.passes(class) {
            Some(Loss::Cut)
        } else if !self.reachable[from] {
            Some(Loss::SenderOff)
        } else if rng.chance(link.loss) {
            Some(Loss::Chance)
        } else {
            (!link.carries(|| T::datagram_size(&message))).then_some(Loss::Large)
        };
        if let Some(why) = lost {
            return self.sent(step, Some((why, Some(net))));
        }
        let ready = self.now + delay;
        let leaves = self.net.queue(net, from, to, ready);
        if leaves - ready > net::LONGEST_QUEUE {
            return self.sent(step, Some((Loss::Full, Some(net))));
        }
        let path = (net as u8, from as u16, to as u16);
        if link.clogged {
            let same = self.held.iter().filter(|h| h.path == path);
            if same.count() >= CLOG {
                return self.sent(step, Some((Loss::Full, Some(net))));
            }
            let cause = self.queue.cause;
            self.held.push(Held {
                path,
                message,
                cause,
            });
            return self.sent(step, None);
        }
        if rng.chance(link.duplicate) {
            let at = leaves + link.delay(&mut rng);
            self.fly(path, at, message.clone());
        }
        let waiting = self.overtaken.iter().position(|h| h.path == path);
        if waiting.is_none() && rng.chance(link.reorder) {
            let cause = self.queue.cause;
            self.overtaken.push(Held {
                path,
                message,
                cause,
            });
            return self.sent(step, None);
        }
        let at = leaves + link.delay(&mut rng);
        self.fly(path, at, message);
        if let Some(waiting) = waiting {
            let late = self.overtaken.remove(waiting);
            let cause = std::mem::replace(&mut self.queue.cause, late.cause);
            self.fly(path, at + 1, late.message);
            self.queue.cause = cause;
        }
        self.sent(step, None);
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

    /// The random numbers of the next datagram on this link.
    fn chance_of(&mut self, net: usize, from: usize, to: usize) -> Rng {
        let n = self.layout.nodes;
        self.network.next((net * n + from) * n + to)
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
            let mut rng = self.chance_of(path.0.into(), path.1.into(), path.2.into());
            let at = self.now + link.delay(&mut rng);
            let cause = std::mem::replace(&mut self.queue.cause, h.cause);
            self.fly(path, at, h.message);
            self.queue.cause = cause;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Happening, Layout, MS, SECOND, Types, World};

    /// Datagrams and messages are numbers, and as large as the number.
    struct Numbers;

    impl Types for Numbers {
        type Datagram = u32;
        type Message = u32;
        type Write = ();
        type Local = ();
        type Event = ();

        fn datagram_size(n: &u32) -> u32 {
            *n
        }

        fn message_size(n: &u32) -> u32 {
            *n
        }
    }

    fn world() -> World<Numbers> {
        let layout = Layout {
            nodes: 2,
            networks: 1,
            session_networks: 1,
            session_loss: SECOND,
            session_open: 100 * MS,
        };
        let mut world = World::new(1, layout);
        (0..2).for_each(|node| world.start(node));
        world
    }

    /// What node 1 hears up to `limit`: true time and number.
    fn heard(world: &mut World<Numbers>, limit: u64) -> Vec<(u64, u32)> {
        let mut all = Vec::new();
        while let Some(h) = world.next(limit) {
            if let Happening::Datagram { to: 1, message, .. } = h {
                all.push((world.now(), message));
            }
        }
        all
    }

    #[test]
    fn a_clogged_link_holds_everything_and_gives_it_back_in_one_burst() {
        let mut w = world();
        w.change_link(0, 0, 1, |l| l.clogged = true);
        (1..=100).for_each(|n| w.datagram(0, 0, 1, 0, 0, n));
        assert!(heard(&mut w, SECOND).is_empty());
        let before = w.now();
        w.change_link(0, 0, 1, |l| l.clogged = false);
        let burst = heard(&mut w, 2 * SECOND);
        assert_eq!(burst.len(), super::CLOG);
        assert!(burst.iter().all(|(at, _)| at - before < MS), "{burst:?}");
        w.change_link(0, 0, 1, |l| l.clogged = true);
        w.datagram(0, 0, 1, 0, 0, 7);
        w.change_link(0, 0, 1, |l| (l.clogged, l.cut) = (false, true));
        assert!(
            heard(&mut w, 3 * SECOND).is_empty(),
            "a cut link has no burst"
        );
    }

    #[test]
    fn large_datagrams_vanish_and_small_ones_pass() {
        let mut w = world();
        w.change_link(0, 0, 1, |l| l.largest = 10);
        [5, 10, 11, 50]
            .into_iter()
            .for_each(|n| w.datagram(0, 0, 1, 0, 0, n));
        let mut passed: Vec<u32> = heard(&mut w, SECOND).iter().map(|h| h.1).collect();
        passed.sort_unstable();
        assert_eq!(passed, [5, 10]);
    }

    #[test]
    fn a_large_message_stops_its_session_until_that_is_given_up_and_opened_again() {
        let mut w = world();
        w.set_reachable(0, true);
        let _ = heard(&mut w, SECOND);
        assert!(w.in_session(0, 1));
        w.change_link(0, 0, 1, |l| l.largest = 10);
        assert!(w.stream(0, 1, 0, 50));
        assert!(w.stream(0, 1, 0, 3));
        let (mut downs, mut messages) = (0, 0);
        while let Some(h) = w.next(5 * SECOND) {
            downs += u32::from(matches!(h, Happening::SessionDown { .. }));
            messages += u32::from(matches!(h, Happening::Message { .. }));
        }
        assert_eq!((downs, messages), (2, 0));
        assert!(w.in_session(0, 1), "small messages have a session again");
    }

    #[test]
    fn a_rate_makes_messages_wait_and_drops_what_waits_too_long() {
        let mut w = world();
        w.change_link(0, 0, 1, |l| (l.gap, l.jitter) = (100 * MS, 0));
        (1..=50).for_each(|n| w.datagram(0, 0, 1, 0, 0, n));
        let got = heard(&mut w, 10 * SECOND);
        assert_eq!(got.len(), 20, "two seconds of queue");
        assert!(got.windows(2).all(|p| p[1].0 - p[0].0 == 100 * MS));
    }

    #[test]
    fn an_overtaken_datagram_comes_right_after_the_next_one() {
        let mut w = world();
        w.change_link(0, 0, 1, |l| (l.reorder, l.jitter) = (1_000_000, 0));
        (1..=4).for_each(|n| w.datagram(0, 0, 1, 0, 0, n));
        let order: Vec<u32> = heard(&mut w, SECOND).iter().map(|h| h.1).collect();
        assert_eq!(order.len(), 4);
        assert!(order[0] == 2 && order.contains(&1), "{order:?}");
    }
}
