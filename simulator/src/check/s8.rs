//! S8. The accident: a fence launched at a host's last life arrives late and cuts the power of the
//! healthy host it has become, with guests on it.

use super::audit::Audit;
use super::{HostName, Violation};
use quorate_membership::{NodeId, Token};

/// A device cuts `host` for the attempt of token `attempt`.
///
/// # Errors
/// The host's admitted incarnation is newer than the one the attempt named, or the log holds no
/// such attempt though it is long enough to.
pub fn cut(now: u64, host: usize, attempt: Token, audit: &Audit) -> Result<(), Violation> {
    let node = NodeId(host as u32 + 1);
    let first = format!("a device cuts {} for attempt {attempt}", HostName(host));
    let broken = |second| {
        Err(Violation::new(
            "S8",
            now,
            format!(
                "a fence hits a life of {} it was not meant for",
                HostName(host)
            ),
            [first.clone(), second],
        ))
    };
    if attempt.index() > audit.log.len() as u64 {
        return broken("no such attempt was decided".into());
    }
    let Some((target, aimed)) = audit.attempts.get(&attempt) else {
        return broken("that entry is no valid attempt".into());
    };
    if *target != node {
        return broken(format!("the attempt names {target}"));
    }
    let admitted = audit.hosts.get(&node).map(|r| r.incarnation);
    match admitted {
        Some(now) if now.counter > aimed.counter => broken(format!(
            "incarnation {now} is admitted, the attempt named {aimed}"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests_support::{Script, inc};
    use quorate_membership::entry::{AttemptEnd, Entry, Ground};
    use std::time::Duration;

    #[test]
    fn a_late_cut_of_a_newer_life_is_found() {
        let mut log = Script::default();
        log.admit(1, 1);
        let revoke = log.push(Entry::Revoke {
            hosts: vec![(NodeId(1), inc(1), Ground::Silent)],
        });
        let attempt = log.push(Entry::Attempt {
            host: NodeId(1),
            incarnation: inc(1),
            revoke,
            level: 0,
            device: "bmc".into(),
            launch_within: Duration::from_secs(1),
            limit: Duration::from_secs(1),
        });
        cut(0, 0, attempt, &log.audit).expect("aimed at it");
        assert!(cut(0, 1, attempt, &log.audit).is_err(), "another host");
        assert!(cut(0, 0, revoke, &log.audit).is_err(), "no attempt");
        log.admit(1, 2);
        cut(0, 0, attempt, &log.audit).expect("unresolved: the next life was not admitted");
        log.push(Entry::AttemptEnded {
            host: NodeId(1),
            attempt,
            end: AttemptEnd::Unknown,
        });
        log.admit_clean(1, 3);
        assert_eq!(
            cut(0, 0, attempt, &log.audit).expect_err("late").property,
            "S8"
        );
    }
}
