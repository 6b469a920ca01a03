//! What must and what must not work over links that stay as they are, from the links alone.
//!
//! A pure function of the true graph, written from the design and not from the code under test.
//! "Both ways" below means that messages pass in both directions between two voters.
//!
//! * **Availability is a matter of two-way links only** (L2). Consensus travels on sessions, and a
//!   session needs both directions; a heartbeat of an election counts by its answer. So the log moves
//!   if, and only if, some voter is linked both ways to so many others that with itself they are a
//!   quorum: that one can lead, whoever leads at first. One-way links help nobody to decide, and
//!   nor do relays: only beats and acknowledgements are relayed.
//! * **A host keeps its lease without any leader**: acknowledgements rest on no log. A voter
//!   acknowledges a host if the beat comes to it and its answer comes back, each straight or through
//!   one other voter: the one that passed the beat on takes the answer back as well. The host is a
//!   voter here, and acknowledges itself. A quorum of acknowledgements keeps the lease; fewer never
//!   renew it again.
//! * **A host that keeps its lease is not revoked.** Whoever acknowledges it hears it, and those who do
//!   not are fewer than a quorum.

/// What the links allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// A voter that is linked both ways to a quorum, itself counted: then somebody must act as
    /// coordinator. Without one nobody may, once the leases are over.
    pub hub: Option<usize>,
    /// For each voter whether it must keep its host lease; the others must lose it.
    pub keeps: Vec<bool>,
}

/// How many of `voters` are a quorum.
#[must_use]
pub fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// What must come of it if of `voters` voters, all of them hosts and all alive, only those pass
/// messages for which `passes(from, to)` holds.
#[must_use]
pub fn forecast(voters: usize, passes: impl Fn(usize, usize) -> bool) -> Forecast {
    let quorum = quorum(voters);
    let linked = |a: usize, b: usize| passes(a, b) && passes(b, a);
    let near = |v: usize| (0..voters).filter(|o| *o == v || linked(v, *o)).count();
    let acknowledges = |by: usize, host: usize| {
        let straight = passes(host, by) && passes(by, host);
        let relayed = |via: usize| {
            let there = passes(host, via) && passes(via, by);
            let back = passes(by, host) || passes(by, via) && passes(via, host);
            there && back
        };
        by == host || straight || (0..voters).any(|via| via != by && via != host && relayed(via))
    };
    let renewed = |host: usize| {
        let by = (0..voters).filter(|by| acknowledges(*by, host));
        by.count() >= quorum
    };
    Forecast {
        hub: (0..voters).find(|v| near(*v) >= quorum),
        keeps: (0..voters).map(renewed).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Links as pairs of node numbers from 1; `=` is both ways.
    fn of(voters: usize, links: &str) -> Forecast {
        let mut there = Vec::new();
        for link in links.split_whitespace() {
            let both = link.contains('=');
            let (a, b) = link.split_once(['=', '>']).expect("a link");
            let (a, b) = (
                a.parse::<usize>().expect("a"),
                b.parse::<usize>().expect("b"),
            );
            there.push((a - 1, b - 1));
            if both {
                there.push((b - 1, a - 1));
            }
        }
        forecast(voters, |a, b| there.contains(&(a, b)))
    }

    #[test]
    fn a_chain_and_a_star_work_and_everybody_keeps_a_lease() {
        let chain = of(3, "1=2 2=3");
        assert_eq!((chain.hub, chain.keeps), (Some(0), vec![true; 3]));
        let star = of(5, "3=1 3=2 3=4 3=5");
        assert_eq!((star.hub, star.keeps), (Some(2), vec![true; 5]));
    }

    #[test]
    fn a_ring_of_one_way_links_reaches_everybody_and_decides_nothing() {
        let ring = of(3, "1>2 2>3 3>1");
        assert_eq!(ring.hub, None);
        // The beat of h1 comes to h2; the answer would have to go back through who brought it.
        assert_eq!(ring.keeps, [true; 3], "h1>h2>h3 and h3>h1");
        let ring = of(5, "1>2 2>3 3>4 4>5 5>1");
        assert_eq!((ring.hub, ring.keeps), (None, vec![false; 5]));
    }

    #[test]
    fn a_pair_of_three_works_and_the_third_loses_its_lease() {
        for links in ["1=2", "1=2 3>1 3>2", "1=2 1>3 2>3"] {
            let pair = of(3, links);
            assert_eq!(pair.hub, Some(0));
            assert_eq!(pair.keeps, [true, true, false], "{links}");
        }
    }

    #[test]
    fn a_path_without_a_hub_decides_nothing_though_leases_go_on() {
        // Everybody is linked to two at most; a quorum of five is three, itself counted.
        assert!(of(5, "1=2 2=3 3=4 4=5").hub.is_some());
        // Of seven it is four.
        let long = of(7, "1=2 2=3 3=4 4=5 5=6 6=7 7=1");
        assert_eq!((long.hub, long.keeps), (None, vec![true; 7]));
    }

    #[test]
    fn half_of_an_even_number_is_no_quorum() {
        let halves = of(4, "1=2 3=4");
        assert_eq!((halves.hub, halves.keeps), (None, vec![false; 4]));
        assert_eq!((quorum(2), quorum(3), quorum(4), quorum(5)), (2, 2, 3, 3));
    }
}
