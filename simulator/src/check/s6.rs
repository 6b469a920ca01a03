//! S6. The accident: two coordinators give orders at once, and each is right in its own view.
//!
//! A node acts from the step in which it could first give an order until the end of its window,
//! on its own clock. Stretches are compared as they really were: a window that a node gave up
//! before its end counts only up to then.

use super::{At, HostName, Violation};

/// A stretch of true time; empty if the end is not after the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stretch {
    from: u64,
    until: u64,
}

/// Who acted when.
#[derive(Debug)]
pub struct S6 {
    now: Vec<Stretch>,
    /// The last stretches in which somebody acted, by node.
    past: [(usize, Stretch); 16],
    next: usize,
}

impl S6 {
    /// For so many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> S6 {
        S6 {
            now: vec![Stretch::default(); nodes],
            past: [(usize::MAX, Stretch::default()); 16],
            next: 0,
        }
    }

    /// `node` could give orders from now until `until` (true time), or cannot.
    ///
    /// # Errors
    /// It acted at the same instant as another.
    #[inline]
    pub fn acts(&mut self, now: u64, node: usize, until: Option<u64>) -> Result<(), Violation> {
        let old = self.now[node];
        if until.is_none() && old.until == 0 {
            return Ok(());
        }
        let result = self.compare(now, node);
        self.now[node] = match until {
            Some(until) if now <= old.until => Stretch {
                from: old.from,
                until,
            },
            other => {
                let was = Stretch {
                    from: old.from,
                    until: old.until.min(now),
                };
                if was.from < was.until {
                    self.past[self.next] = (node, was);
                    self.next = (self.next + 1) % self.past.len();
                }
                other.map_or(Stretch::default(), |until| Stretch { from: now, until })
            }
        };
        result
    }

    fn compare(&self, now: u64, node: usize) -> Result<(), Violation> {
        let up_to_now = |s: &Stretch| (s.from, s.until.min(now));
        let mine = up_to_now(&self.now[node]);
        if mine.0 >= mine.1 {
            return Ok(());
        }
        let present = self.now.iter().enumerate();
        let past = self.past.iter().map(|(n, s)| (*n, s));
        // Most were over before this one began.
        let late = |s: &Stretch| s.until > mine.0;
        for (other, stretch) in present.chain(past).filter(|(_, s)| late(s)) {
            let (from, to) = up_to_now(stretch);
            let (both_from, both_to) = (mine.0.max(from), mine.1.min(to));
            if other != node && both_from < both_to {
                return Err(Violation::new(
                    "S6",
                    both_from,
                    "two coordinators act at once".into(),
                    [
                        format!(
                            "{} acts from {} to {}",
                            HostName(node),
                            At(mine.0),
                            At(mine.1)
                        ),
                        format!("{} acts from {} to {}", HostName(other), At(from), At(to)),
                    ],
                ));
            }
        }
        Ok(())
    }

    /// Who acts now, if anybody.
    #[must_use]
    pub fn acting(&self, now: u64) -> Option<usize> {
        let holds = |s: &Stretch| s.from <= now && now < s.until;
        self.now.iter().position(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_given_up_before_its_end_counts_only_up_to_then() {
        let mut s = S6::new(2);
        s.acts(10, 0, Some(50)).expect("first");
        assert_eq!(
            (s.acting(9), s.acting(10), s.acting(50)),
            (None, Some(0), None)
        );
        s.acts(40, 0, Some(80)).expect("goes on");
        s.acts(60, 0, None).expect("gives up");
        s.acts(61, 1, Some(90)).expect("alone");
        s.acts(100, 1, None).expect("was alone");
        s.acts(101, 0, Some(110)).expect("again");
    }

    #[test]
    fn an_overlap_is_found_whoever_is_looked_at() {
        let mut s = S6::new(2);
        s.acts(0, 0, Some(30)).expect("first");
        s.acts(20, 1, Some(40)).expect("not yet any time together");
        let e = s.acts(25, 1, Some(45)).expect_err("20 to 25");
        assert_eq!((e.property, e.at), ("S6", 20));
        let mut s = S6::new(2);
        s.acts(0, 0, Some(30)).expect("first");
        s.acts(29, 1, Some(40)).expect("not yet any time together");
        s.acts(35, 0, None).expect_err("29 to 30");
        s.acts(36, 1, None)
            .expect_err("found from the other side too");
    }
}
