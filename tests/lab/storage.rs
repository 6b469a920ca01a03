//! The storage of a host hangs and its network is cut at the same moment, as when one switch carries
//! both: no signal ends what waits for it, so the guardian resets the host.

use super::cases::{fail_over, power_back};
use super::domain::Kit;
use super::lab::Lab;
use super::site::HOSTS;
use quorate::demo::DemoError;
use quorate::demo::record::now;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

pub fn play(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    let played = hangs(lab);
    // However it went: nothing may wait for ever.
    for host in HOSTS {
        let _ = fs::remove_file(flag(lab, host));
    }
    played
}

fn hangs(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    lab.begin(
        "storage",
        "a guest is added whose disk lies on storage that can hang",
    );
    for host in HOSTS {
        mount(lab, host)?;
    }
    let guest = lab.add_guest(6, Kit::BARE, "")?;
    let record = lab.runs(&guest)?;
    let victim = record.host.clone();
    let guests = lab.guests_on(&victim)?;
    lab.site.unplug_controller(&victim)?;
    lab.mark(&format!(
        "{victim}'s storage hangs, its network is cut and its controller is dead; {} run there",
        guests.join(", ")
    ));
    let file = flag(lab, &victim);
    fs::write(&file, "").map_err(|e| format!("{}: {e}", file.display()))?;
    lab.site.cable(&victim, false)?;
    lab.wait("QEMU to wait in the kernel, ended or not", || {
        let stuck = stuck(lab, &victim)?;
        stuck.then_some(()).ok_or("none does".into())
    })?;
    lab.step("stuck", now(), &format!("{guest}: no signal ends it"));
    let reset = lab.wait(&format!("{victim} to be reset"), || {
        let alive = lab.site.alive(&victim);
        (!alive).then(now).ok_or("it has power".into())
    })?;
    lab.step("reset", reset, "by its guardian: it had not ended");
    let written = lab.last(&guest)?;
    fail_over(lab, &victim, &guests, false)?;
    // The storage is back: what waited must not be done now.
    fs::remove_file(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    lab.pass(Duration::from_secs(3))?;
    let lives = lab.lives(&guest)?;
    let old = lives.iter().find(|life| life.start == record.start);
    if old.map(|life| life.last.counter) != written.map(|r| r.counter) {
        let why = format!("{guest} wrote after it had waited: {lives:?}");
        return Err(DemoError::Failed(why));
    }
    lab.step("storage is back", now(), "nothing was written late");
    lab.site.power_off(&victim)?;
    lab.site.plug_controller(&victim)?;
    power_back(lab, &victim)
}

/// While it is there, the storage of that host hangs.
fn flag(lab: &Lab<'_>, host: &str) -> PathBuf {
    lab.directory().join(format!("{host}-storage-hangs"))
}

/// Puts a file system that can hang in front of what all hosts share. It ends with its host.
fn mount(lab: &Lab<'_>, host: &str) -> Result<(), DemoError> {
    let tools = lab.setting.tools.lab.join("tools");
    let (shared, log) = (
        lab.site.shared(),
        lab.directory().join(format!("{host}-storage.log")),
    );
    let log = fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/held_fs.py");
    let mut server = lab.site.command(host, "/usr/bin/python3")?;
    server
        .arg(program)
        .args([&shared, &flag(lab, host)])
        .env("PYTHONPATH", tools.join("usr/lib/python3/dist-packages"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env(
            "FUSE_LIBRARY_PATH",
            tools.join("lib/x86_64-linux-gnu/libfuse.so.2"),
        )
        .stdin(std::process::Stdio::null())
        .stderr(log);
    let mut server = server.spawn().map_err(|e| format!("{program}: {e}"))?;
    // It ends with its host, and somebody has to take note.
    std::thread::spawn(move || server.wait());
    let path = shared.display().to_string();
    lab.wait("the file system to be mounted", || {
        let text = lab.site.run(host, &["cat", "/proc/mounts"])?;
        let there = text.lines().any(|l| {
            let mut words = l.split(' ').skip(1);
            words.next() == Some(path.as_str())
        });
        there.then_some(()).ok_or("not yet".into())
    })
}

/// Whether a task of a QEMU there waits in the kernel where no signal reaches it.
fn stuck(lab: &Lab<'_>, host: &str) -> Result<bool, String> {
    for pid in lab.site.processes(host, "qemu-system-x86")? {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let text = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            let state = text
                .rsplit(") ")
                .next()
                .and_then(|rest| rest.chars().next());
            if state == Some('D') {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
