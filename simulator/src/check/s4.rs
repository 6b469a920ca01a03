//! S4. The accident: a host on which nothing is wrong loses its guests to its lease, or is judged and
//! cut, because a coordinator changed, a blip was not forgiven or a voter remembered badly.
//!
//! Judged from true links and processes alone. A host is *held* if it and a quorum of voters, itself
//! among them if it votes, have all been at work and linked both ways with each other for a stretch
//! that is longer than any lease and any stall of the log before it. A held host keeps its lease and
//! is judged by nobody but an operator.

use super::{At, HostName, Violation};

/// What is known of processes and links.
#[derive(Debug)]
pub struct S4 {
    hosts: usize,
    /// The first so many vote.
    voters: usize,
    /// Since when two hosts are linked both ways, `u64::MAX` while they are not.
    linked: Vec<u64>,
    /// Since when a daemon is at work, undisturbed; in the future while it is not.
    steady: Vec<u64>,
    /// When the log admitted the host's last incarnation.
    admitted: Vec<u64>,
}

impl S4 {
    /// For so many hosts, all linked, no daemon at work.
    #[must_use]
    pub fn new(hosts: usize, voters: usize) -> S4 {
        S4 {
            hosts,
            voters,
            linked: vec![0; hosts * hosts],
            steady: vec![u64::MAX; hosts],
            admitted: vec![u64::MAX; hosts],
        }
    }

    /// Whether `a` and `b` are linked both ways, well enough for every message.
    pub fn link(&mut self, now: u64, a: usize, b: usize, whole: bool) {
        for at in [a * self.hosts + b, b * self.hosts + a] {
            let since = &mut self.linked[at];
            *since = if whole { now.min(*since) } else { u64::MAX };
        }
    }

    /// A new life of a daemon is at work from now on.
    pub fn begins(&mut self, now: u64, host: usize) {
        self.steady[host] = now;
        self.admitted[host] = u64::MAX;
    }

    /// A daemon is not at work, or not as it should be, up to `until`.
    pub fn disturbed(&mut self, host: usize, until: u64) {
        self.steady[host] = self.steady[host].max(until);
    }

    /// The log admits a host.
    pub fn admitted(&mut self, now: u64, host: usize) {
        self.admitted[host] = now;
    }

    /// The lease of a host is over with guests on it that the log gives it.
    ///
    /// # Errors
    /// The host was held for `stretch`.
    pub fn expired(&self, now: u64, host: usize, stretch: u64) -> Result<(), Violation> {
        let what = format!("the lease of {} ends for no reason", HostName(host));
        self.reason(now, host, stretch, what)
    }

    /// A verdict on a host was decided that no operator ordered.
    ///
    /// # Errors
    /// The host was held for `stretch`.
    pub fn judged(&self, now: u64, host: usize, stretch: u64) -> Result<(), Violation> {
        let what = format!("a verdict falls on {} for no reason", HostName(host));
        self.reason(now, host, stretch, what)
    }

    fn reason(&self, now: u64, host: usize, stretch: u64, what: String) -> Result<(), Violation> {
        let since = now.saturating_sub(stretch);
        if self.admitted[host] > since {
            return Ok(());
        }
        let Some(quorum) = self.holders(host, since) else {
            return Ok(());
        };
        let names: Vec<String> = quorum.iter().map(|v| HostName(*v).to_string()).collect();
        let all = format!(
            "{} and the voters {} are at work and linked both ways with each other since {} at least",
            HostName(host),
            names.join(", "),
            At(since),
        );
        let second = format!(
            "{} is admitted since {}",
            HostName(host),
            At(self.admitted[host])
        );
        Err(Violation::new("S4", now, what, [all, second]))
    }

    /// Whether a quorum of voters has held `host` since then, and the log admitted it before.
    #[must_use]
    pub fn held(&self, host: usize, since: u64) -> bool {
        self.admitted[host] <= since && self.holders(host, since).is_some()
    }

    /// A quorum of voters that holds `host` since then, itself among them if it votes.
    fn holders(&self, host: usize, since: u64) -> Option<Vec<usize>> {
        let quorum = self.voters / 2 + 1;
        let fine = |v: usize| self.steady[v] <= since;
        let linked = |a: usize, b: usize| a == b || self.linked[a * self.hosts + b] <= since;
        if !fine(host) {
            return None;
        }
        let near: Vec<usize> = (0..self.voters)
            .filter(|v| fine(*v) && linked(host, *v))
            .collect();
        // Seven voters at most: every set of them is looked at.
        (0..1u32 << near.len())
            .filter(|set| set.count_ones() as usize == quorum)
            .map(|set| {
                let members = near.iter().enumerate();
                members
                    .filter(|(bit, _)| set >> bit & 1 == 1)
                    .map(|(_, v)| *v)
                    .collect::<Vec<usize>>()
            })
            .find(|set| {
                let whole = set.iter().all(|a| set.iter().all(|b| linked(*a, *b)));
                whole && (host >= self.voters || set.contains(&host))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five hosts, three of them voters, all admitted and at work since 10.
    fn five() -> S4 {
        let mut s = S4::new(5, 3);
        for host in 0..5 {
            s.begins(10, host);
            s.admitted(10, host);
        }
        s
    }

    #[test]
    fn a_host_that_a_quorum_holds_loses_nothing() {
        let s = five();
        for host in [1, 4] {
            s.expired(109, host, 100).expect("not long enough");
            assert_eq!(s.expired(110, host, 100).expect_err("held").property, "S4");
            s.judged(110, host, 100).expect_err("held");
        }
    }

    #[test]
    fn whatever_may_be_the_reason_excuses() {
        let cut = |pairs: &[(usize, usize)]| {
            let mut s = five();
            pairs.iter().for_each(|(a, b)| s.link(50, *a, *b, false));
            s
        };
        cut(&[(0, 1)]).expired(110, 4, 100).expect_err("h1 and h3");
        cut(&[(0, 1), (2, 1)])
            .expired(110, 4, 100)
            .expect_err("h1 and h3");
        cut(&[(0, 1), (2, 1)]).expired(110, 1, 100).expect("itself");
        cut(&[(0, 1), (2, 1), (0, 2)])
            .expired(110, 4, 100)
            .expect("no quorum");
        cut(&[(4, 1), (4, 2)])
            .expired(110, 4, 100)
            .expect("one voter");
        let mut healed = cut(&[(4, 1), (4, 2)]);
        healed.link(60, 4, 1, true);
        healed.link(70, 4, 1, true);
        healed.expired(159, 4, 100).expect("whole since 60");
        healed.expired(160, 4, 100).expect_err("whole since 60");
        let mut s = five();
        s.disturbed(4, 20);
        s.expired(119, 4, 100).expect("stopped up to 20");
        s.expired(120, 4, 100).expect_err("stopped up to 20");
        s.begins(30, 4);
        s.expired(200, 4, 100)
            .expect("this life was never admitted");
        let mut s = five();
        s.disturbed(0, 20);
        s.disturbed(1, 20);
        s.judged(119, 4, 100).expect("two voters were stopped");
    }
}
