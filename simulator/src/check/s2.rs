//! S2. The accident: a guest is started because its host *seemed* gone. A start rests on an entry
//! that places the guest there, decided before, and valid at its place: the previous epoch closed
//! by its host's word or proved ended under the standing revoke.

use super::audit::Audit;
use super::{HostName, Violation};
use quorate_membership::{NodeId, Token};
use quorate_recovery::guest::GuestId;

/// Starts that rest on an entry the auditor has not yet seen.
#[derive(Debug, Default)]
pub struct S2 {
    open: Vec<Start>,
}

#[derive(Clone, Copy, Debug)]
struct Start {
    at: u64,
    host: usize,
    guest: GuestId,
    epoch: Token,
}

impl S2 {
    /// `host` is ordered to create `guest` under `epoch`.
    ///
    /// # Errors
    /// No valid entry places it there.
    pub fn starts(
        &mut self,
        now: u64,
        host: usize,
        guest: GuestId,
        epoch: Token,
        audit: &Audit,
    ) -> Result<(), Violation> {
        let start = Start {
            at: now,
            host,
            guest,
            epoch,
        };
        if epoch.index() > audit.log.len() as u64 {
            // A node may apply an entry a moment before any disk says that it is decided.
            self.open.push(start);
            return Ok(());
        }
        judge(start, audit)
    }

    /// The auditor has seen more of the log.
    ///
    /// # Errors
    /// A start rests on an entry that does not carry it.
    pub fn grown(&mut self, audit: &Audit) -> Result<(), Violation> {
        if self.open.is_empty() {
            return Ok(());
        }
        let length = audit.log.len() as u64;
        let mut result = Ok(());
        self.open.retain(|s| {
            let known = s.epoch.index() <= length;
            if known && result.is_ok() {
                result = judge(*s, audit);
            }
            !known
        });
        result
    }

    /// The run is over.
    ///
    /// # Errors
    /// A start rests on an entry that was never decided, `grace` nanoseconds later.
    pub fn end(&self, now: u64, grace: u64) -> Result<(), Violation> {
        match self.open.iter().find(|s| s.at + grace < now) {
            Some(s) => Err(broken(s, "that entry was never decided".into())),
            None => Ok(()),
        }
    }
}

fn judge(s: Start, audit: &Audit) -> Result<(), Violation> {
    match audit.placements.get(&s.epoch) {
        Some(p) if p.guest == s.guest && p.host == NodeId(s.host as u32 + 1) => match p.void {
            None => Ok(()),
            Some(why) => Err(broken(&s, format!("that entry is void: {why}"))),
        },
        _ => Err(broken(&s, "that entry places nothing there".into())),
    }
}

fn broken(s: &Start, second: String) -> Violation {
    Violation::new(
        "S2",
        s.at,
        format!("{} started without ground", s.guest),
        [
            format!("{} creates it under epoch {}", HostName(s.host), s.epoch),
            second,
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests_support::{Script, inc};
    use quorate_membership::entry::{Entry, Ground, Proof};
    use quorate_recovery::command::Command;

    #[test]
    fn only_a_valid_placement_carries_a_start() {
        let mut log = Script::default();
        log.admit(1, 1);
        log.admit(2, 1);
        for host in [1, 2] {
            log.push(Entry::Armed {
                host: NodeId(host),
                incarnation: inc(1),
                number: 1,
                armed: quorate_membership::entry::Armed {
                    class: quorate_membership::entry::ArmedClass::Guardian,
                    reset: false,
                },
                timing: Token::NONE,
            });
        }
        let g = log.add_guest("g1");
        let place = |g, previous, host| {
            Entry::App(Command::Placed {
                guest: g,
                previous,
                host: NodeId(host),
                incarnation: inc(1),
            })
        };
        let first = log.push(place(g, Token::NONE, 1));
        let mut s = S2::default();
        s.starts(1, 0, g, first, &log.audit).expect("placed");
        assert!(s.starts(1, 1, g, first, &log.audit).is_err(), "not there");
        let early = log.push(place(g, first, 2));
        let e = s.starts(2, 1, g, early, &log.audit).expect_err("open");
        assert!(e.facts[1].contains("open"), "{e}");
        // Before the auditor has seen the entry the start waits for it.
        let coming = Token::new(early.epoch(), early.index() + 3);
        s.starts(3, 1, g, coming, &log.audit).expect("waits");
        assert!(s.end(10, 5).is_err(), "and not for ever");
        let revoke = log.push(Entry::Revoke {
            hosts: vec![(NodeId(1), inc(1), Ground::Silent)],
        });
        log.push(Entry::Proof {
            host: NodeId(1),
            incarnation: inc(1),
            revoke,
            proof: Proof::LeaseExpired,
        });
        assert_eq!(log.push(place(g, first, 2)), coming);
        s.grown(&log.audit).expect("proved");
        s.end(10, 5).expect("settled");
    }
}
