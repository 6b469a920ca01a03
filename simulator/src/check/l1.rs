//! L1. The accident: a guest stays down though a majority and a host that could run it are whole: for
//! longer than its bound, while faults go on elsewhere; or for ever, when everything was healed.

use super::audit::Audit;
use super::holds::locks;
use super::s1::S1;
use super::s15::S15;
use super::{At, HostName, Violation};
use quorate_membership::Timing;
use quorate_recovery::guest::{GuestId, Wanted};
use quorate_recovery::hold::HoldReason;
use std::collections::BTreeMap;
use std::time::Duration;

/// A try on a host that cannot run a guest costs so much: three creations, their ends, the word in
/// the log and the wait for writes.
const TRY: Duration = Duration::from_secs(8);

/// How long a guest may be down with nothing happening to it or its last host, a majority and a host
/// that could run it whole all the time, and so many hosts there that cannot: the bound of the lease,
/// after T_d for a host that lives and does not do what it was given, and the start itself.
#[must_use]
pub fn bound(t: &Timing, bad: u32) -> Duration {
    let notice = t.silence() + t.worst_case_lease();
    notice + t.drain_wait() * 2 + t.kill + Duration::from_secs(3) + TRY * bad
}

/// When what is promised of each guest began to count.
#[derive(Debug)]
pub struct Clocks {
    /// When something was last done to a host, by the plan or by the cluster.
    hosts: Vec<u64>,
    /// When a guest was last wanted, stopped, or hit by something of its own.
    guests: BTreeMap<GuestId, u64>,
}

impl Clocks {
    /// For so many hosts.
    #[must_use]
    pub fn new(hosts: usize) -> Clocks {
        Clocks {
            hosts: vec![0; hosts],
            guests: BTreeMap::new(),
        }
    }

    /// Something is done to a host, up to `until`.
    pub fn host(&mut self, until: u64, host: usize) {
        self.hosts[host] = self.hosts[host].max(until);
    }

    /// Something is done to all hosts.
    pub fn all(&mut self, now: u64) {
        self.hosts.fill(now);
    }

    /// Something is done to a guest, up to `until`.
    pub fn guest(&mut self, until: u64, guest: GuestId) {
        let since = self.guests.entry(guest).or_default();
        *since = until.max(*since);
    }

    /// Since when nothing has happened to a guest and the host it was last given to.
    #[must_use]
    pub fn since(&self, guest: GuestId, holder: Option<usize>) -> u64 {
        let own = self.guests.get(&guest).copied().unwrap_or(0);
        holder.map_or(own, |host| own.max(self.hosts[host]))
    }
}

/// A guest is down for longer than it may be.
#[must_use]
pub fn late(now: u64, (name, since): (&str, u64), able: usize, bound: Duration) -> Violation {
    Violation::new(
        "L1",
        now,
        format!("guest {name} is down for longer than {bound:?}"),
        [
            format!(
                "nothing has happened to it or to its last host since {}",
                At(since)
            ),
            format!(
                "{} could run it, and is linked with a majority, all that time",
                HostName(able)
            ),
        ],
    )
}

/// At the end of a run: every guest that is wanted running runs.
///
/// # Errors
/// One does not.
pub fn end(
    now: u64,
    healed: u64,
    audit: &Audit,
    writers: &S1,
    images: &S15,
) -> Result<(), Violation> {
    for (id, g) in &audit.guests {
        // A guest that is held for a reason that is there waits for a person.
        let grounded = |(_, reason): &(_, HoldReason)| {
            let locks = locks(reason).map(|seen| seen.iter().map(|s| s.lock).collect::<Vec<_>>());
            locks.is_none_or(|locks| images.grounded(*id, &locks))
        };
        let excused = g.wanted != Wanted::Running || g.holds.values().any(grounded);
        if excused || writers.writer(*id).is_some() {
            continue;
        }
        let place = match g.holder {
            Some((host, inc)) => {
                let open = if g.closed { "closed" } else { "open" };
                let name = HostName(host.0 as usize - 1);
                let record = audit.hosts.get(&host);
                let revoked = record.and_then(|r| r.revoke);
                let proved = record.is_some_and(|r| r.proved);
                format!(
                    "its record: epoch {} on {name} incarnation {inc}, {open}; the host: incarnation {}, revoke {revoked:?}, proved {proved}",
                    g.epoch,
                    record.map(|r| r.incarnation.counter).unwrap_or(0),
                )
            }
            None => "it was never placed".into(),
        };
        return Err(Violation::new(
            "L1",
            now,
            format!("guest {} runs nowhere", g.name),
            [
                format!("everything was healed at {} and it should run", At(healed)),
                place,
            ],
        ));
    }
    Ok(())
}
