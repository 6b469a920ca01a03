//! L1. The accident: everything is healed and a guest stays down for ever.

use super::audit::Audit;
use super::s1::S1;
use super::{At, HostName, Violation};
use quorate_recovery::guest::Wanted;

/// At the end of a run: every guest that is wanted running runs.
///
/// # Errors
/// One does not.
pub fn end(now: u64, healed: u64, audit: &Audit, writers: &S1) -> Result<(), Violation> {
    for (id, g) in &audit.guests {
        // A guest that is held waits for a person.
        let excused = g.wanted != Wanted::Running || !g.holds.is_empty();
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
