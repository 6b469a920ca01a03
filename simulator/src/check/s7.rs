//! S7. The accidents: a minority that lost sight of the others cuts their power, or a false alarm cuts
//! that of the whole cluster.

use super::{HostName, Violation};
use quorate_fencing::brake::{WINDOW, limit};
use quorate_membership::Token;
use std::collections::BTreeMap;

/// What devices did.
#[derive(Debug, Default)]
pub struct S7 {
    /// When each host was last cut.
    cut: BTreeMap<usize, u64>,
}

impl S7 {
    /// A device cuts `host`, one of `hosts`, for `attempt`, whose entry is on the disks of `holders`
    /// of `voters` voters.
    ///
    /// # Errors
    /// The holders are no quorum, or more hosts were cut in the brake's window than it allows where
    /// any one may be lost.
    pub fn cut(
        &mut self,
        now: u64,
        (host, hosts): (usize, usize),
        attempt: Token,
        (holders, voters): (usize, usize),
    ) -> Result<(), Violation> {
        let first = format!("a device cuts {} for attempt {attempt}", HostName(host));
        if holders < voters / 2 + 1 {
            return Err(Violation::new(
                "S7",
                now,
                "a minority cuts a host".into(),
                [
                    first,
                    format!("{holders} of {voters} voters have that entry on their disks"),
                ],
            ));
        }
        self.cut.insert(host, now);
        let window = WINDOW.as_nanos() as u64;
        let within = |at: &&u64| now - **at <= window;
        let used = self.cut.values().filter(within).count();
        let most = limit(u32::try_from(hosts).unwrap_or(u32::MAX), 1) as usize;
        if used <= most {
            return Ok(());
        }
        Err(Violation::new(
            "S7",
            now,
            "devices cut more hosts than the brake allows".into(),
            [
                first,
                format!("it is host {used} within {WINDOW:?}; of {hosts} at most {most} may be"),
            ],
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_membership::Epoch;

    #[test]
    fn a_minority_and_one_host_too_many_are_found() {
        let attempt = Token::new(Epoch(1), 9);
        let mut s = S7::default();
        s.cut(1, (0, 8), attempt, (2, 3)).expect("the first");
        s.cut(2, (0, 8), attempt, (3, 3)).expect("the same again");
        s.cut(3, (1, 8), attempt, (2, 3)).expect("two of eight");
        let third = s
            .cut(4, (2, 8), attempt, (2, 3))
            .expect_err("three of eight");
        assert!(third.what.contains("brake"), "{third}");
        let mut s = S7::default();
        s.cut(4, (0, 8), attempt, (1, 3)).expect_err("one of three");
        s.cut(5, (0, 8), attempt, (2, 3)).expect("two of three");
        s.cut(6, (1, 8), attempt, (2, 3)).expect("the second");
        let later = 6 + WINDOW.as_nanos() as u64;
        s.cut(later, (2, 8), attempt, (2, 3))
            .expect("the first is out of the window");
    }
}
