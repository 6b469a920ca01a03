//! The guardian of a host is killed: alone, with its program replaced by one that does nothing, and
//! together with its daemon. Another takes office, and no guest feels it. Then it freezes; its host takes
//! its attestation back, so that nothing is started elsewhere by the end of a lease that nobody enforces,
//! and only the device's word counts.

use super::cases::{fail_over, other_host, power_back};
use super::group;
use super::lab::{Lab, Starts};
use super::site::{WITNESS, kill};
use quorate::demo::DemoError;
use quorate::demo::record::now;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// The guests are watched for so long after the lease is over for certain.
const LONGER: Duration = Duration::from_secs(5);

pub fn play(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    let (victim, guests) = other_host(lab)?;
    lab.begin(
        "guardian",
        &format!(
            "{victim}'s guardian is killed with {} on it",
            guests.join(", ")
        ),
    );
    let before = lab.starts()?;
    let first = in_office(lab, &victim, &[])?;
    end(&first)?;
    let second = in_office(lab, &victim, &first)?;
    lab.step("replaced", now(), "by another, which its daemon started");
    let third = program_replaced(lab, &victim, &second)?;
    let both = "it is killed again, and its daemon at the same moment";
    lab.mark(both);
    end(&third)?;
    lab.site.signal(&victim, "daemon", "KILL")?;
    in_office(lab, &victim, &third)?;
    lab.wait("the daemon to answer", || lab.status(&victim).map(|_| ()))?;
    lab.renewed(&victim)?;
    lab.follow(&victim)?;
    lab.settled()?;
    same(lab, &before)?;
    lab.step("lease renewed", now(), "no guest was started anew");
    let Some(frozen) = freeze(lab, &victim)? else {
        lab.step("skipped", now(), "no control group of its own to freeze");
        return Ok(());
    };
    let played = stands_still(lab, &victim, &guests, &before);
    // However that went: it goes on, or went with its host.
    let _ = fs::write(frozen.join("cgroup.freeze"), "0");
    played?;
    power_back(lab, &victim)
}

/// An upgrade went wrong: where the program was lies one that does nothing. The daemon that runs starts
/// a guardian of its own program, whatever became of the file. Gives the one that took office.
fn program_replaced(lab: &mut Lab<'_>, host: &str, before: &[u32]) -> Result<Vec<u32>, DemoError> {
    let program = lab.setting.tools.exe.display().to_string();
    lab.mark("its program is replaced by one that does nothing, and it is killed");
    let words = ["/bin/mount", "--bind", "/bin/false", &program];
    lab.site.run(host, &words)?;
    let next = end(before).and_then(|()| in_office(lab, host, before));
    lab.site.run(host, &["/bin/umount", &program])?;
    lab.step(
        "replaced",
        now(),
        "by one of the program that its daemon runs",
    );
    next
}

/// The guardian stands still, then its daemon too, then the cable is pulled; the device comes last.
fn stands_still(
    lab: &mut Lab<'_>,
    victim: &str,
    guests: &[String],
    before: &Starts,
) -> Result<(), DemoError> {
    lab.mark(&format!("{victim}'s guardian is frozen"));
    let words = format!("{victim}: no guardian ends its guests");
    lab.wait("the log to know that nobody ends its guests", || {
        let remarks = lab.status(WITNESS)?.remarks;
        let said = remarks.iter().any(|r| r.contains(&words));
        said.then_some(())
            .ok_or_else(|| format!("remarks: {remarks:?}"))
    })?;
    lab.step("attestation taken back", now(), "its guests go on");
    lab.renewed(victim)?;
    same(lab, before)?;
    lab.site.unplug_controller(victim)?;
    lab.mark(&format!(
        "its daemon stands still, its network is cut and its controller is dead; {} run there",
        guests.join(", ")
    ));
    lab.site.signal(victim, "daemon", "STOP")?;
    lab.site.cable(victim, false)?;
    lab.host_event("verdict", victim)?;
    lab.wait("its lease to be over for certain", || {
        let status = lab.status(WITNESS)?;
        let mut all = status.view.members.iter();
        let row = all.find(|m| m.name == victim);
        let over = row.is_some_and(|m| m.state == "lost" && m.says("certain in 0.0 s"));
        over.then_some(()).ok_or_else(|| format!("{row:?}"))
    })?;
    lab.pass(LONGER)?;
    same(lab, before)?;
    lab.step(
        "nothing started elsewhere",
        now(),
        "they write there on, for nobody ended them",
    );
    lab.site.plug_controller(victim)?;
    fail_over(lab, victim, guests, true)
}

/// Waits until guardians are in office that are none of these.
fn in_office(lab: &Lab<'_>, host: &str, before: &[u32]) -> Result<Vec<u32>, DemoError> {
    lab.wait("a guardian in office", || {
        let there = lab.site.processes(host, "quorate-guardia")?;
        let others = !there.is_empty() && !there.iter().any(|pid| before.contains(pid));
        others
            .then(|| there.clone())
            .ok_or_else(|| format!("processes {there:?}"))
    })
}

fn end(processes: &[u32]) -> Result<(), DemoError> {
    for pid in processes {
        kill(*pid)?;
    }
    Ok(())
}

/// Puts the guardian of a host into a group that stands still; gives that, if groups can be had.
fn freeze(lab: &Lab<'_>, host: &str) -> Result<Option<PathBuf>, DemoError> {
    let Some(own) = group::of(host).filter(|path| path.is_dir()) else {
        return Ok(None);
    };
    let frozen = group::make(&Some(own.join("frozen")));
    for pid in in_office(lab, host, &[])? {
        let procs = frozen.join("cgroup.procs");
        fs::write(&procs, pid.to_string()).map_err(|e| format!("{}: {e}", procs.display()))?;
    }
    let freezer = frozen.join("cgroup.freeze");
    fs::write(&freezer, "1").map_err(|e| format!("{}: {e}", freezer.display()))?;
    Ok(Some(frozen))
}

/// No guest was started anew.
fn same(lab: &Lab<'_>, before: &Starts) -> Result<(), DemoError> {
    let after = lab.starts()?;
    if after == *before {
        return Ok(());
    }
    let why = format!("a guest was started anew: {before:?}, now {after:?}");
    Err(DemoError::Failed(why))
}
