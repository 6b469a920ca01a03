//! Shapes of networks, and trouble of links that takes several steps.

use super::action::{Action, Shape, Way, Who};
use super::{Event, Sim, SimNode};
use crate::world::{Rng, Stream};

/// Whether two places of a shape of `n` hosts are linked. A random graph is not symmetric.
fn linked(shape: Shape, n: usize, a: usize, b: usize, rng: &mut Rng) -> bool {
    let (low, high) = (a.min(b), a.max(b));
    match shape {
        Shape::Halves(first) => {
            let first = if first == 0 { n.div_ceil(2) } else { first };
            (a < first) == (b < first)
        }
        Shape::Bridge => {
            // Without the hub, the halves are as even as they can be.
            let half = 1 + (n - 1) / 2;
            low == 0 || (a < half) == (b < half)
        }
        Shape::Ring => {
            let apart = (high - low).min(n - (high - low));
            apart <= (n / 2).div_ceil(2)
        }
        Shape::Chain => high - low == 1,
        Shape::Star => low == 0,
        Shape::Random { pass, .. } => rng.chance(pass),
    }
}

/// How many hosts a shape needs to be one.
#[must_use]
pub fn least(shape: Shape) -> usize {
    match shape {
        Shape::Halves(first) => (first + 1).max(2),
        Shape::Bridge | Shape::Chain | Shape::Star => 3,
        Shape::Ring => 4,
        Shape::Random { .. } => 2,
    }
}

impl<N: SimNode> Sim<N> {
    /// Does the rest of an action later, unless everything was made whole by then.
    fn later(&mut self, delay: u64, action: Action) {
        let (calms, action) = (self.calms, Box::new(action));
        self.world.after(delay, Event::Later { calms, action });
    }

    pub(super) fn shape(&mut self, shape: Shape, first: &Who, way: Way, fence: bool) {
        let (n, first) = (self.plan.hosts, self.who(first));
        let graph = match shape {
            Shape::Random { graph, .. } => graph,
            _ => 0,
        };
        let rng = &mut Rng::new(graph, Stream::Shapes);
        for a in 0..n {
            for b in (0..n).filter(|b| *b != a) {
                let passes = linked(shape, n, a, b, rng);
                let spared = match way {
                    Way::Both => false,
                    Way::Down => a > b,
                    Way::Up => a < b,
                };
                if passes || spared {
                    continue;
                }
                let (from, to) = ((first + a) % n, (first + b) % n);
                self.links(from, to, |l| l.cut = true);
                if fence {
                    let net = self.plan.networks;
                    self.world.change_link(net, from, to, |l| l.cut = true);
                }
            }
        }
    }

    pub(super) fn clog(&mut self, who: &Who, on: bool) {
        let at = self.who(who);
        for other in 0..self.plan.hosts {
            self.links(at, other, |l| l.clogged = on);
            self.links(other, at, |l| l.clogged = on);
        }
    }

    /// Cuts now, mends half a period later, and goes on while there are times left.
    pub(super) fn flap(&mut self, who: &Who, peer: Option<&Who>, period: u64, times: u32) {
        if times == 0 {
            return;
        }
        // Whoever it was at the first cut, it is the same at the next.
        let (at, peer) = (self.who(who), peer.map(|p| self.who(p)));
        let (who, other) = (Who::Host(at), peer.map(Who::Host));
        match other.clone() {
            None => {
                self.act(&Action::Isolate(who.clone()));
                self.later(period / 2, Action::Reconnect(who.clone()));
            }
            Some(other) => {
                for (from, to) in [(&who, &other), (&other, &who)] {
                    let (from, to) = (from.clone(), to.clone());
                    let mend = Action::Mend {
                        from: from.clone(),
                        to: to.clone(),
                    };
                    let net = None;
                    self.act(&Action::Cut { from, to, net });
                    self.later(period / 2, mend);
                }
            }
        }
        let again = Action::Flap {
            who,
            peer: other,
            period,
            times: times - 1,
        };
        self.later(period, again);
    }

    /// Clogs the hosts one by one and frees them in another order (FoundationDB's name for it).
    pub(super) fn swizzle(&mut self, hosts: &[Who], every: u64, order: u64) {
        let rng = &mut Rng::new(order, Stream::Shapes);
        let mut hosts: Vec<usize> = hosts.iter().map(|w| self.who(w)).collect();
        let mut delay = 0;
        for on in [true, false] {
            for i in (1..hosts.len()).rev() {
                hosts.swap(i, rng.index(i + 1));
            }
            for host in &hosts {
                let who = Who::Host(*host);
                self.later(delay, Action::Clog { who, on });
                delay += every;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbours(shape: Shape, n: usize) -> Vec<usize> {
        let rng = &mut Rng::new(1, Stream::Shapes);
        let count = |a: usize, rng: &mut Rng| {
            let others = (0..n).filter(|b| *b != a);
            others.filter(|b| linked(shape, n, a, *b, rng)).count()
        };
        (0..n).map(|a| count(a, rng)).collect()
    }

    #[test]
    fn every_shape_is_what_its_name_says() {
        assert_eq!(neighbours(Shape::Halves(0), 5), [2, 2, 2, 1, 1]);
        assert_eq!(neighbours(Shape::Halves(1), 4), [0, 2, 2, 2]);
        assert_eq!(neighbours(Shape::Bridge, 5), [4, 2, 2, 2, 2]);
        assert_eq!(neighbours(Shape::Chain, 4), [1, 2, 2, 1]);
        assert_eq!(neighbours(Shape::Star, 4), [3, 1, 1, 1]);
        let (all, none) = (1_000_000, 0);
        assert_eq!(
            neighbours(
                Shape::Random {
                    pass: all,
                    graph: 1
                },
                3
            ),
            [2; 3]
        );
        assert_eq!(
            neighbours(
                Shape::Random {
                    pass: none,
                    graph: 1
                },
                3
            ),
            [0; 3]
        );
    }

    #[test]
    fn in_a_ring_each_sees_a_majority_and_no_two_the_same() {
        for n in 4..=8 {
            let seen = neighbours(Shape::Ring, n);
            assert!(seen.iter().all(|s| s + 1 > n / 2), "{n}: {seen:?}");
        }
        assert_eq!(neighbours(Shape::Ring, 5), [2; 5]);
    }
}
