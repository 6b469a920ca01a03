//! A reset on trial: an operator sees whether this host can reset itself, before it has to.

use super::records::{self, Entry, GuardianState, Record, RunDir};
use super::reset::Reach;
use crate::clock::{self, Clock};
use quorate_membership::{BootId, Time};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the reason of the reset says.
pub(super) const WHY: &str = "none is here: an operator tries the reset (host drill)";
/// How long the order stands.
const STANDS: Duration = Duration::from_secs(5);
/// How much longer the reset itself may take.
const TAKES: Duration = Duration::from_secs(5);

/// The order. Lies in `drill`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Drill {
    boot: BootId,
    not_after: Time,
}

impl Record for Drill {
    const KIND: &'static str = "drill";
}

impl Drill {
    fn path(run: &RunDir) -> PathBuf {
        run.path().join("drill")
    }

    /// Whether one is ordered now. What cannot be read orders nothing.
    pub(super) fn wanted(run: &RunDir, boot: BootId, now: Time) -> bool {
        let order = records::read::<Drill>(&Drill::path(run)).ok().flatten();
        order.is_some_and(|o| o.boot == boot && now <= o.not_after)
    }
}

/// Why no trial was made, or what came of it.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The host is not empty, or nothing could be reset: nothing was done.
    #[error("{0}; nothing was done")]
    Refused(String),
    /// It was ordered, and this host is still there.
    #[error("this host was told to reset itself and is still there: {0}")]
    Failed(String),
}

/// What a trial on this host would reset.
///
/// # Errors
/// A guest, a start or a lease is there, there is no guardian, or it cannot reset anything.
pub fn drill_reach(run_dir: &Path, boot_id_file: &Path) -> Result<Reach, DrillError> {
    let refused = |e: std::io::Error| DrillError::Refused(e.to_string());
    let run = RunDir::open(run_dir).map_err(refused)?;
    let boot = clock::boot_id(boot_id_file).map_err(refused)?;
    for (path, entry) in run.entries().map_err(refused)? {
        if matches!(entry, Entry::Guest(..) | Entry::Intent(..)) {
            let path = path.display();
            return Err(DrillError::Refused(format!(
                "{path}: a guest is on this host"
            )));
        }
    }
    if run.lease_end(boot).is_ok_and(|end| Clock.now() < end) {
        return Err(DrillError::Refused(
            "this host has a lease: take it out of service first (quorate host leave)".into(),
        ));
    }
    let state =
        records::read::<GuardianState>(&run.guardian_state()).map_err(DrillError::Refused)?;
    let Some(state) = state.filter(|s| s.boot == boot) else {
        return Err(DrillError::Refused("there is no guardian".into()));
    };
    match state.reach {
        Reach::Nothing(why) => Err(DrillError::Refused(format!("it can reset nothing: {why}"))),
        reach => Ok(reach),
    }
}

/// Has this host reset by its guardian. Comes back only if that failed.
///
/// # Errors
/// See [`DrillError`].
pub fn drill(run_dir: &Path, boot_id_file: &Path) -> Result<std::convert::Infallible, DrillError> {
    drill_reach(run_dir, boot_id_file)?;
    let refused = |e: std::io::Error| DrillError::Refused(e.to_string());
    let run = RunDir::open(run_dir).map_err(refused)?;
    let boot = clock::boot_id(boot_id_file).map_err(refused)?;
    let not_after = Clock.now() + STANDS;
    let order = Drill { boot, not_after };
    records::write(&Drill::path(&run), &order).map_err(refused)?;
    while Clock.now() < not_after + TAKES {
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = records::remove(&Drill::path(&run));
    let state = records::read::<GuardianState>(&run.guardian_state());
    let alarm = state.ok().flatten().and_then(|s| s.alarm);
    Err(DrillError::Failed(
        alarm.unwrap_or_else(|| "its guardian says nothing".into()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_membership::Token;
    use quorate_recovery::guest::GuestId;

    #[test]
    fn a_host_that_is_not_empty_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let boot_id = Path::new(clock::BOOT_ID_FILE);
        let run = RunDir::create(dir.path()).expect("made");
        let why = |run: &RunDir| {
            let refused = drill(run.path(), boot_id).expect_err("refused");
            assert!(matches!(refused, DrillError::Refused(_)), "{refused}");
            refused.to_string()
        };
        assert!(why(&run).contains("no guardian"));
        let boot = clock::boot_id(boot_id).expect("Linux");
        let life = quorate_membership::Incarnation::default();
        let mut lease = super::super::Lease::new(run.clone(), boot, life);
        lease
            .extend(Clock.now() + Duration::from_secs(3600))
            .expect("a lease");
        assert!(why(&run).contains("host leave"));
        std::fs::write(run.guest(GuestId(1), Token(2)), "").expect("written");
        assert!(why(&run).contains("a guest is on this host"));
        assert!(!Drill::path(&run).exists(), "nothing was ordered");
    }

    #[test]
    fn an_order_stands_for_its_time_and_boot() {
        let dir = tempfile::tempdir().expect("a directory");
        let run = RunDir::create(dir.path()).expect("made");
        let wanted = |boot, now| Drill::wanted(&run, BootId(boot), Time(now));
        assert!(!wanted(1, 0));
        let order = Drill {
            boot: BootId(1),
            not_after: Time(9),
        };
        records::write(&Drill::path(&run), &order).expect("written");
        assert!(wanted(1, 9));
        assert!(!wanted(1, 10) && !wanted(2, 9));
        std::fs::write(Drill::path(&run), "?").expect("written");
        assert!(!wanted(1, 9));
    }
}
