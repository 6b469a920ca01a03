//! Directed graphs of a few nodes, each once up to relabelling.
//!
//! A graph is a bit set over the ordered pairs of different nodes. The one that stands for all its
//! relabellings is the least of them. Counting up through all bit sets and ticking off every
//! relabelling of each new one finds them without comparing any two graphs.

use std::fmt;

/// The least and the most nodes of an atlas: below two there is nothing to cut, and above five
/// there are 1,540,944 graphs.
pub const NODES: (usize, usize) = (2, 5);

/// How many graphs and how many cases there are of so many nodes: digraphs and rooted digraphs on
/// unlabelled nodes (Harary and Palmer, Graphical Enumeration, 1973).
pub const COUNTED: [(usize, usize, usize); 4] =
    [(2, 3, 4), (3, 16, 36), (4, 218, 752), (5, 9608, 45_960)];

/// A directed graph. A node always reaches itself; that is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Graph {
    nodes: u8,
    bits: u32,
}

impl Graph {
    /// A graph of so many nodes from its bit set, if it has no bit too many.
    #[must_use]
    pub fn new(nodes: usize, bits: u32) -> Option<Graph> {
        let fits = (NODES.0..=NODES.1).contains(&nodes);
        let graph = Graph {
            nodes: nodes as u8,
            bits,
        };
        (fits && bits >> graph.links() == 0).then_some(graph)
    }

    /// How many nodes it has.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.nodes.into()
    }

    /// How many links there can be.
    fn links(&self) -> u32 {
        u32::from(self.nodes) * (u32::from(self.nodes) - 1)
    }

    /// The bit of the link between two different nodes.
    fn bit(&self, from: usize, to: usize) -> u32 {
        let place = from * (self.nodes() - 1) + to - usize::from(to > from);
        1 << place
    }

    /// Whether messages pass from one node to another.
    #[must_use]
    pub fn passes(&self, from: usize, to: usize) -> bool {
        from == to || self.bits & self.bit(from, to) != 0
    }

    /// Whether messages pass both ways.
    #[must_use]
    pub fn linked(&self, a: usize, b: usize) -> bool {
        self.passes(a, b) && self.passes(b, a)
    }

    /// The same graph with node `i` called `names[i]`.
    #[must_use]
    pub fn renamed(&self, names: &[usize]) -> Graph {
        let mut bits = 0;
        for from in 0..self.nodes() {
            for to in (0..self.nodes()).filter(|to| *to != from) {
                if self.passes(from, to) {
                    bits |= self.bit(names[from], names[to]);
                }
            }
        }
        Graph {
            nodes: self.nodes,
            bits,
        }
    }

    /// One node of every set of nodes that relabellings of the graph onto itself exchange: the
    /// least of each.
    #[must_use]
    pub fn different_nodes(&self, orders: &[Vec<usize>]) -> Vec<usize> {
        let same: Vec<&Vec<usize>> = orders
            .iter()
            .filter(|names| self.renamed(names) == *self)
            .collect();
        (0..self.nodes())
            .filter(|node| same.iter().all(|names| names[*node] >= *node))
            .collect()
    }
}

/// The links that are there: `h1=h2` both ways, `h1>h3` one way only.
impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        for a in 0..self.nodes() {
            for b in a + 1..self.nodes() {
                let (x, y) = (a + 1, b + 1);
                match (self.passes(a, b), self.passes(b, a)) {
                    (true, true) => words.push(format!("h{x}=h{y}")),
                    (true, false) => words.push(format!("h{x}>h{y}")),
                    (false, true) => words.push(format!("h{y}>h{x}")),
                    (false, false) => {}
                }
            }
        }
        if words.is_empty() {
            return f.write_str("no links");
        }
        f.write_str(&words.join(" "))
    }
}

/// Every order of `0..nodes`, in lexical order.
#[must_use]
pub fn orders(nodes: usize) -> Vec<Vec<usize>> {
    let mut done: Vec<Vec<usize>> = vec![Vec::new()];
    for _ in 0..nodes {
        let mut longer = Vec::new();
        for order in &done {
            for next in (0..nodes).filter(|n| !order.contains(n)) {
                let mut order = order.clone();
                order.push(next);
                longer.push(order);
            }
        }
        done = longer;
    }
    done
}

/// Every graph of so many nodes once, each the least of its relabellings, in rising order.
#[must_use]
pub fn graphs(nodes: usize) -> Vec<Graph> {
    let Some(empty) = Graph::new(nodes, 0) else {
        return Vec::new();
    };
    // Where each link goes under each order: renaming a graph is then a few table look-ups.
    let single = |bit: u32| Graph {
        nodes: empty.nodes,
        bits: 1 << bit,
    };
    let moved: Vec<Vec<u32>> = orders(nodes)
        .iter()
        .map(|names| {
            (0..empty.links())
                .map(|b| single(b).renamed(names).bits)
                .collect()
        })
        .collect();
    let mut seen = vec![false; 1 << empty.links()];
    let mut found = Vec::new();
    for bits in 0..1u32 << empty.links() {
        if seen[bits as usize] {
            continue;
        }
        found.push(Graph { bits, ..empty });
        for table in &moved {
            let mut image = 0;
            let mut left = bits;
            while left != 0 {
                image |= table[left.trailing_zeros() as usize];
                left &= left - 1;
            }
            seen[image as usize] = true;
        }
    }
    found
}

/// A graph and where the leader is when it comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// The links that stay.
    pub graph: Graph,
    /// The node that leads before.
    pub leader: usize,
}

/// Every graph of so many nodes with every place of the leader, once up to relabelling.
#[must_use]
pub fn cases(nodes: usize) -> Vec<Case> {
    let orders = orders(nodes);
    let all = graphs(nodes).into_iter();
    all.flat_map(|graph| {
        let leaders = graph.different_nodes(&orders).into_iter();
        leaders.map(move |leader| Case { graph, leader })
    })
    .collect()
}

/// Whether cases are all there are of their size.
///
/// # Errors
/// How many graphs and cases there are, and how many there should be.
pub fn complete(cases: &[Case]) -> Result<(), String> {
    let nodes = cases.first().map_or(0, |c| c.graph.nodes());
    let graphs = cases.chunk_by(|a, b| a.graph == b.graph).count();
    let found = (nodes, graphs, cases.len());
    if COUNTED.contains(&found) {
        return Ok(());
    }
    Err(format!(
        "{} graphs and {} cases of {nodes} nodes, but there are {COUNTED:?} (nodes, graphs, cases)",
        found.1, found.2
    ))
}

/// The name of a case: nodes, links in hexadecimal, leader from 1; `5-1f03a-2`.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.graph.nodes;
        write!(f, "{nodes}-{:x}-{}", self.graph.bits, self.leader + 1)
    }
}

impl std::str::FromStr for Case {
    type Err = String;

    /// Any graph and leader, whether it stands for its relabellings or is one of them.
    fn from_str(text: &str) -> Result<Case, String> {
        let bad = || {
            format!(
                "{text:?} is no case of an atlas; one looks like 4-a3f-2: \
                 {} to {} nodes, links in hexadecimal, the leader from 1",
                NODES.0, NODES.1
            )
        };
        let mut parts = text.split('-');
        let (Some(nodes), Some(bits), Some(leader), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let nodes: usize = nodes.parse().map_err(|_| bad())?;
        let bits = u32::from_str_radix(bits, 16).map_err(|_| bad())?;
        let leader: usize = leader.parse().map_err(|_| bad())?;
        let graph = Graph::new(nodes, bits).ok_or_else(bad)?;
        if !(1..=nodes).contains(&leader) {
            return Err(bad());
        }
        Ok(Case {
            graph,
            leader: leader - 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_as_combinatorics_says() {
        for (nodes, graphs_of, cases_of) in COUNTED {
            let all = cases(nodes);
            assert_eq!(
                (graphs(nodes).len(), all.len()),
                (graphs_of, cases_of),
                "{nodes}"
            );
            assert_eq!(complete(&all), Ok(()));
            assert!(complete(&all[1..]).is_err());
        }
        assert_eq!(orders(4).len(), 24);
        assert!(graphs(6).is_empty() && complete(&[]).is_err());
    }

    #[test]
    fn a_graph_is_the_least_of_its_relabellings() {
        let orders = orders(4);
        for graph in graphs(4) {
            for names in &orders {
                assert!(graph.renamed(names) >= graph, "{graph:?} {names:?}");
            }
        }
    }

    #[test]
    fn no_two_cases_are_the_same_under_another_name() {
        let orders = orders(3);
        let all = cases(3);
        for (i, a) in all.iter().enumerate() {
            for b in &all[i + 1..] {
                let same = |names: &Vec<usize>| {
                    a.graph.renamed(names) == b.graph && names[a.leader] == b.leader
                };
                assert!(!orders.iter().any(same), "{a} is {b}");
            }
        }
    }

    #[test]
    fn a_name_gives_the_case_back_and_nonsense_is_refused() {
        for case in cases(4) {
            assert_eq!(case.to_string().parse(), Ok(case));
        }
        for bad in [
            "", "4", "4-0", "4-0-5", "4-0-0", "4-1000-1", "6-0-1", "4-x-1", "4-0-1-1",
        ] {
            assert!(bad.parse::<Case>().is_err(), "{bad}");
        }
    }

    #[test]
    fn links_are_drawn_by_their_direction() {
        let mut bits = 0;
        let empty = Graph::new(3, 0).expect("three nodes");
        for (from, to) in [(0, 1), (1, 0), (2, 0)] {
            bits |= empty.bit(from, to);
        }
        let graph = Graph::new(3, bits).expect("six links at most");
        assert_eq!(graph.to_string(), "h1=h2 h3>h1");
        assert!(graph.linked(0, 1) && !graph.linked(0, 2) && graph.passes(2, 0));
        assert_eq!(empty.to_string(), "no links");
    }
}
