//! The storage of a host hangs and its network is cut at the same moment, as when one switch carries
//! both: no signal ends what waits for it, so the guardian resets the host. So it does where looking
//! through the processes hangs as well, on a program that is no guest at all.

use super::cases::{fail_over, other_host, power_back};
use super::domain::Kit;
use super::lab::Lab;
use super::site::HOSTS;
use quorate::demo::DemoError;
use quorate::demo::record::now;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub fn play(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    let played = hangs(lab);
    let_go(lab);
    played
}

/// A program beside the guests, whose address space is locked, is in the way of every look through the
/// processes of its host.
pub fn stranger(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    let played = locked(lab);
    let_go(lab);
    played
}

/// However a case went: nothing may wait for ever.
fn let_go(lab: &Lab<'_>) {
    for host in HOSTS {
        let _ = fs::remove_file(flag(lab, host));
    }
}

fn locked(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    let (victim, guests) = other_host(lab)?;
    lab.begin(
        "stranger",
        &format!("on {victim} a program beside the guests maps a file of storage that can hang"),
    );
    let directory = lab.directory().join("mapped");
    fs::create_dir_all(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    mount(lab, &victim, &directory, &["cached"])?;
    let file = directory.join("mapped");
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/mapped.py");
    let mut stranger = lab.site.command(&victim, "/usr/bin/python3")?;
    stranger
        .arg(program)
        .args([&file, &flag(lab, &victim)])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped());
    let mut stranger = stranger.spawn().map_err(|e| format!("{program}: {e}"))?;
    let mut word = [0; 6];
    let pipe = stranger
        .stdout
        .as_mut()
        .ok_or_else(|| "no pipe".to_owned())?;
    std::io::Read::read_exact(pipe, &mut word).map_err(|e| format!("{program}: {e}"))?;
    std::thread::spawn(move || stranger.wait());
    lab.site.unplug_controller(&victim)?;
    lab.mark(&format!(
        "{victim}'s storage hangs, its network is cut and its controller is dead; {} run there",
        guests.join(", ")
    ));
    let hangs = flag(lab, &victim);
    fs::write(&hangs, "").map_err(|e| format!("{}: {e}", hangs.display()))?;
    lab.wait("the program to wait in the kernel", || {
        let stuck = stuck(lab, &victim, "python3")?;
        stuck.then_some(()).ok_or("it does not".into())
    })?;
    lab.step("stuck", now(), "its command line cannot be read");
    lab.site.cable(&victim, false)?;
    // Its guests are ended first, or it is reset: what hangs counts as a guest that is left.
    fail_over(lab, &victim, &guests, false)?;
    let how = if lab.site.alive(&victim) {
        "has power"
    } else {
        "was reset"
    };
    lab.step("fail-over", now(), &format!("{victim} {how}"));
    fs::remove_file(&hangs).map_err(|e| format!("{}: {e}", hangs.display()))?;
    // Also one that was reset: what is left of it goes.
    lab.site.power_off(&victim)?;
    lab.site.plug_controller(&victim)?;
    power_back(lab, &victim)
}

fn hangs(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    lab.begin(
        "storage",
        "a guest is added whose disk lies on storage that can hang",
    );
    for host in HOSTS {
        mount(lab, host, &lab.site.shared(), &[])?;
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
        let stuck = stuck(lab, &victim, "qemu-system-x86")?;
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

/// Puts a file system that can hang in front of a directory. It ends with its host.
fn mount(lab: &Lab<'_>, host: &str, directory: &Path, how: &[&str]) -> Result<(), DemoError> {
    let tools = lab.setting.tools.lab.join("tools");
    let log = lab.directory().join(format!("{host}-storage.log"));
    let log = fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/held_fs.py");
    let mut server = lab.site.command(host, "/usr/bin/python3")?;
    server
        .arg(program)
        .args([directory, &flag(lab, host)])
        .args(how)
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
    let path = directory.display().to_string();
    lab.wait("the file system to be mounted", || {
        let text = lab.site.run(host, &["cat", "/proc/mounts"])?;
        let there = text.lines().any(|l| {
            let mut words = l.split(' ').skip(1);
            words.next() == Some(path.as_str())
        });
        there.then_some(()).ok_or("not yet".into())
    })
}

/// Looks whether a task of a program there waits in the kernel where no signal reaches it.
fn stuck(lab: &Lab<'_>, host: &str, called: &str) -> Result<bool, String> {
    for pid in lab.site.processes(host, called)? {
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
