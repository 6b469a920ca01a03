//! The alphabet of the sweep, and every word of it up to relabelling.
//!
//! Nodes are roles: node 0 is the host that leads when the first fault comes, the others are alike
//! but for their names and random numbers. So schedules that differ only by a renaming of the others
//! are run once, as the least of them.

use crate::cluster::action::{Action, DeviceMode, Who};
use crate::world::{MS, SECOND};
use std::fmt;

/// How long a daemon is away after a crash: a quick supervisor.
const RESTART: u64 = 300 * MS;
/// How long a daemon stands still: past its host's lease in the fast profile, and short of G.
const PAUSE: u64 = 5 * SECOND;
/// How long a host has no power: it is back before its last lease is proved over.
const POWER: u64 = 4 * SECOND;

/// One fault, by roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Nothing passes from one node to another.
    Cut(usize, usize),
    /// Nothing passes between two nodes; the lower one first.
    Split(usize, usize),
    /// All links of a node are cut.
    Isolate(usize),
    /// Its daemon ends and comes back quickly.
    Crash(usize),
    /// Its daemon stands still for longer than a lease; its guests go on.
    Pause(usize),
    /// It loses power for a while.
    PowerOff(usize),
    /// Its fence device answers no more.
    NoDevice(usize),
    /// Every link passes again.
    Heal,
}

impl Fault {
    /// Every fault of so many nodes.
    #[must_use]
    pub fn all(nodes: usize) -> Vec<Fault> {
        let pairs = || (0..nodes).flat_map(move |a| (0..nodes).map(move |b| (a, b)));
        let cuts = pairs()
            .filter(|(a, b)| a != b)
            .map(|(a, b)| Fault::Cut(a, b));
        let splits = pairs()
            .filter(|(a, b)| a < b)
            .map(|(a, b)| Fault::Split(a, b));
        let mut all: Vec<Fault> = cuts.chain(splits).collect();
        for of in [
            Fault::Isolate,
            Fault::Crash,
            Fault::Pause,
            Fault::PowerOff,
            Fault::NoDevice,
        ] {
            all.extend((0..nodes).map(of));
        }
        all.push(Fault::Heal);
        all
    }

    /// The same with node `i` called `names[i]`.
    #[must_use]
    pub fn renamed(self, names: &[usize]) -> Fault {
        match self {
            Fault::Cut(a, b) => Fault::Cut(names[a], names[b]),
            Fault::Split(a, b) => {
                let (a, b) = (names[a], names[b]);
                Fault::Split(a.min(b), a.max(b))
            }
            Fault::Isolate(a) => Fault::Isolate(names[a]),
            Fault::Crash(a) => Fault::Crash(names[a]),
            Fault::Pause(a) => Fault::Pause(names[a]),
            Fault::PowerOff(a) => Fault::PowerOff(names[a]),
            Fault::NoDevice(a) => Fault::NoDevice(names[a]),
            Fault::Heal => Fault::Heal,
        }
    }

    /// What is done, where node `i` is the host `i`.
    #[must_use]
    pub fn actions(self) -> Vec<Action> {
        let host = Who::Host;
        let cut = |a: usize, b: usize| Action::Cut {
            from: host(a),
            to: host(b),
            net: None,
        };
        match self {
            Fault::Cut(a, b) => vec![cut(a, b)],
            Fault::Split(a, b) => vec![cut(a, b), cut(b, a)],
            Fault::Isolate(a) => vec![Action::Isolate(host(a))],
            Fault::Crash(a) => vec![Action::Crash {
                who: host(a),
                restart: Some(RESTART),
            }],
            Fault::Pause(a) => vec![Action::Stop {
                who: host(a),
                length: PAUSE,
            }],
            Fault::PowerOff(a) => vec![Action::PowerOff {
                who: host(a),
                back: Some(POWER),
            }],
            Fault::NoDevice(a) => vec![Action::Device {
                who: host(a),
                mode: DeviceMode::Gone,
            }],
            Fault::Heal => vec![Action::Heal],
        }
    }
}

/// Nodes as hosts are called: from 1.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Cut(a, b) => write!(f, "cut h{}>h{}", a + 1, b + 1),
            Fault::Split(a, b) => write!(f, "cut h{}=h{}", a + 1, b + 1),
            Fault::Isolate(a) => write!(f, "isolate h{}", a + 1),
            Fault::Crash(a) => write!(f, "crash h{}", a + 1),
            Fault::Pause(a) => write!(f, "pause h{}", a + 1),
            Fault::PowerOff(a) => write!(f, "power off h{}", a + 1),
            Fault::NoDevice(a) => write!(f, "no device h{}", a + 1),
            Fault::Heal => write!(f, "heal"),
        }
    }
}

/// Every schedule of one to `most` faults on so many nodes, once up to a renaming of all nodes but
/// the first; short ones first. None begins with a healing: nothing is broken yet.
#[must_use]
pub fn schedules(nodes: usize, most: usize) -> Vec<Vec<Fault>> {
    let all = Fault::all(nodes);
    let names: Vec<Vec<usize>> = crate::atlas::graph::orders(nodes)
        .into_iter()
        .filter(|order| order.first() == Some(&0))
        .collect();
    let least = |schedule: &Vec<Fault>| {
        names.iter().all(|names| {
            let other = schedule.iter().map(|f| f.renamed(names));
            other.ge(schedule.iter().copied())
        })
    };
    let mut found = Vec::new();
    let mut words: Vec<Vec<Fault>> = vec![Vec::new()];
    for _ in 0..most {
        let mut longer = Vec::new();
        for word in &words {
            for fault in &all {
                if word.is_empty() && *fault == Fault::Heal {
                    continue;
                }
                let mut word = word.clone();
                word.push(*fault);
                longer.push(word);
            }
        }
        found.extend(longer.iter().filter(|w| least(w)).cloned());
        words = longer;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_stand_for_all_their_renamings() {
        assert_eq!(Fault::all(3).len(), 25);
        // All words, and those that a renaming of h2 and h3 leaves alone, count half: it leaves
        // alone the five faults of h1 alone, the healing, and cutting h2 and h3 from each other.
        let words = [24, 24 * 25, 24 * 25 * 25];
        let alone = [6, 6 * 7, 6 * 7 * 7];
        let mut sum = 0;
        for most in 1..=3 {
            sum += usize::midpoint(words[most - 1], alone[most - 1]);
            assert_eq!(schedules(3, most).len(), sum);
        }
        assert_eq!(sum, 7983);
        let all = schedules(3, 2);
        for (i, a) in all.iter().enumerate() {
            let other: Vec<Fault> = a.iter().map(|f| f.renamed(&[0, 2, 1])).collect();
            assert!(!all[..i].contains(&other), "{a:?} twice");
            assert!(&other == a || !all.contains(&other), "{a:?} twice");
        }
        assert!(all.iter().all(|w| w[0] != Fault::Heal));
    }
}
