//! S6. The accident: two coordinators give orders at once, and each is right in its own view.
//!
//! A node acts within a window of its own clock. Windows are compared as they really were: when a
//! node's window changes, the stretch of time it was in force is laid beside everyone else's.

use super::{At, HostName, Violation};

/// A window in true time; empty if the end is not after the start.
type Window = (u64, u64);

#[derive(Clone, Copy, Debug, Default)]
struct Holder {
    window: Window,
    /// Since when this window is what the node goes by.
    since: u64,
}

/// Who acted when.
#[derive(Debug)]
pub struct S6 {
    now: Vec<Holder>,
    /// The last stretches in which somebody acted: node, from, to.
    past: [(usize, u64, u64); 16],
    next: usize,
}

impl S6 {
    /// For so many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> S6 {
        S6 {
            now: vec![Holder::default(); nodes],
            past: [(usize::MAX, 0, 0); 16],
            next: 0,
        }
    }

    /// From now on `node` acts within `window` (true time), or not at all.
    ///
    /// # Errors
    /// It acted at the same instant as another.
    pub fn window(
        &mut self,
        now: u64,
        node: usize,
        window: Option<Window>,
    ) -> Result<(), Violation> {
        let window = window.unwrap_or((0, 0));
        let old = self.now[node];
        let result = self.compare(now, node);
        if old.window != window {
            let (from, to) = (old.window.0.max(old.since), old.window.1.min(now));
            if from < to {
                self.past[self.next] = (node, from, to);
                self.next = (self.next + 1) % self.past.len();
            }
            self.now[node] = Holder { window, since: now };
        }
        result
    }

    fn compare(&self, now: u64, node: usize) -> Result<(), Violation> {
        let in_force = |h: &Holder| (h.window.0.max(h.since), h.window.1.min(now));
        let mine = in_force(&self.now[node]);
        if mine.0 >= mine.1 {
            return Ok(());
        }
        let present = self.now.iter().enumerate().map(|(n, h)| {
            let (from, to) = in_force(h);
            (n, from, to)
        });
        for (other, from, to) in present.chain(self.past) {
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
        let holds = |h: &Holder| h.window.0 <= now && now < h.window.1;
        self.now.iter().position(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_that_really_passed_under_both_windows_counts() {
        let mut s = S6::new(2);
        s.window(0, 0, Some((10, 50))).expect("first");
        assert_eq!((s.acting(9), s.acting(10)), (None, Some(0)));
        s.window(20, 1, Some((60, 90))).expect("later");
        // Node 0 extends its window too far, but gives it up before the other begins.
        s.window(40, 0, Some((10, 70))).expect("not yet");
        s.window(59, 0, None).expect("gave up");
        s.window(80, 1, Some((60, 100))).expect("alone");
        s.window(85, 0, Some((84, 90))).expect("not yet seen");
        let e = s.window(87, 0, None).expect_err("acted from 85 to 87");
        assert_eq!((e.property, e.at), ("S6", 85));
    }

    #[test]
    fn a_stretch_that_ended_is_still_found() {
        let mut s = S6::new(2);
        s.window(0, 0, Some((0, 30))).expect("first");
        s.window(10, 1, Some((20, 40))).expect("not yet");
        s.window(35, 0, None).expect_err("20 to 30");
        assert!(s.window(36, 1, None).is_err());
    }
}
