//! The last resort on a real kernel: a small QEMU guest is the machine that its guardian resets.
//!
//! Needs `QUORATE_QEMU` and `QUORATE_GUEST` (`docs/domains.md`), like the tests of libvirt. Nothing
//! outside that guest can be reset: it has a kernel, a watchdog and a `/proc/sysrq-trigger` of its own.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_quorate");
/// A slow machine boots the guest in a minute; only a broken test waits longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// What the machine does after its boot. `record FILE KIND JSON` writes a record of the run
/// directory, `guardian` starts one by hand as its unit would.
const INIT: &str = r#"#!/bin/sh
export PATH=/bin:/sbin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
for m in /mod/*-watchdog.ko /mod/*-i6300esb.ko; do insmod $m; done
mkdir -p /run/q/guests /var
echo 00000000-0000-0000-0000-00000000abcd >/run/boot-id
record() {
    sum=$(printf '%s' "$3" | busybox sha256sum | cut -c1-32)
    printf 'quorate %s 1 %s\n%s\n' "$2" "$sum" "$3" >"$1"
}
guardian() {
    quorate guardian --detached --unit --run-dir /run/q --boot-id-file /run/boot-id \
        --note /var/reset "$@" &
    guardian=$!
    while [ ! -f /run/q/guardian.state ]; do usleep 20000; done
}
limits() {
    record /run/q/limits limits "{\"boot\":43981,\"daemon\":0,\"kill_ms\":$1,\"watchdog_ms\":$2,\"drain_ms\":100}"
}
# A thread of the kernel as a guest: no signal ends it.
unkillable() {
    start=$(cut -d' ' -f22 /proc/2/stat)
    record /run/q/guests/0000000000000007-0001000000000009 guest \
        "{\"guest\":7,\"epoch\":281474976710665,\"boot\":43981,\"draw\":11,\"pgid\":2,\"start\":$start}"
}
fed() {
    limits 1000 2000
    guardian --watchdog /dev/watchdog
    until grep -q timeout_ms /run/q/guardian.state; do usleep 50000; done
    cat /run/q/guardian.state
    echo "test: armed"
    sleep 7
    echo "test: fed for more than three time-outs"
}
echo "test: booted"
"#;

struct Kit {
    qemu: PathBuf,
    guest: PathBuf,
}

fn kit(test: &str) -> Option<Kit> {
    let of = |name| std::env::var_os(name).map(PathBuf::from);
    match (of("QUORATE_QEMU"), of("QUORATE_GUEST")) {
        (Some(qemu), Some(guest)) => Some(Kit { qemu, guest }),
        _ => {
            eprintln!("{test}: skipped: QUORATE_QEMU and QUORATE_GUEST are not set");
            None
        }
    }
}

/// A file of an archive that the kernel unpacks at its boot (cpio, "newc").
fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, data: &[u8]) {
    let fields = [
        archive.len() as u32 + 1,
        mode,
        0,
        0,
        1,
        0,
        data.len() as u32,
        0,
        0,
        0,
        0,
        name.len() as u32 + 1,
        0,
    ];
    archive.extend(b"070701");
    for field in fields {
        archive.extend(format!("{field:08x}").bytes());
    }
    archive.extend(name.bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(data);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// The lab guest's archive, and behind it the program with its libraries, and `init`.
fn initrd(kit: &Kit, dir: &Path, init: &str) -> PathBuf {
    let mut archive = fs::read(kit.guest.join("initrd")).expect("the lab's guest");
    archive.resize(archive.len().next_multiple_of(512), 0);
    let mut ours = Vec::new();
    let ldd = Command::new("ldd").arg(PROGRAM).output().expect("ldd");
    let text = String::from_utf8_lossy(&ldd.stdout).into_owned();
    let words = text.split_whitespace().filter(|w| w.starts_with('/'));
    let mut files: Vec<(String, PathBuf)> = words
        .map(|w| (w.trim_start_matches('/').to_owned(), PathBuf::from(w)))
        .collect();
    let program = dir.join("quorate");
    fs::copy(PROGRAM, &program).expect("copied");
    // Only to be unpacked sooner.
    let _ = Command::new("strip").arg(&program).status();
    files.push(("bin/quorate".into(), program));
    let mut dirs = std::collections::BTreeSet::new();
    for (name, _) in &files {
        let parents = Path::new(name).ancestors().skip(1);
        dirs.extend(parents.map(|p| p.display().to_string()));
    }
    for dir in dirs.iter().filter(|d| !d.is_empty()) {
        entry(&mut ours, dir, 0o040_755, b"");
    }
    for (name, path) in &files {
        let bytes = fs::read(path).expect("a file of the program");
        entry(&mut ours, name, 0o100_755, &bytes);
    }
    entry(&mut ours, "try", 0o100_755, init.as_bytes());
    entry(&mut ours, "TRAILER!!!", 0, b"");
    archive.extend(ours);
    let path = dir.join("initrd");
    fs::write(&path, archive).expect("written");
    path
}

struct Machine {
    qemu: Child,
    console: PathBuf,
    _dir: tempfile::TempDir,
}

impl Machine {
    /// `script` is what it does after [`INIT`]; it ends with the machine switched off.
    fn boot(kit: &Kit, script: &str) -> Machine {
        let dir = tempfile::tempdir().expect("a directory");
        let init = format!("{INIT}{script}\necho \"test: survived\"\npoweroff -f\n");
        let initrd = initrd(kit, dir.path(), &init);
        let console = dir.path().join("console");
        let log = fs::File::create(dir.path().join("qemu")).expect("a file");
        let qemu = Command::new(&kit.qemu)
            .args([
                "-M", "q35", "-m", "512", "-display", "none", "-monitor", "none",
            ])
            .args(["-no-reboot", "-nodefaults", "-device", "i6300esb"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-kernel")
            .arg(kit.guest.join("vmlinux"))
            .arg("-initrd")
            .arg(initrd)
            .arg("-append")
            .arg("console=ttyS0 mitigations=off nokaslr panic=0 rdinit=/try loglevel=6")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("QEMU");
        Machine {
            qemu,
            console,
            _dir: dir,
        }
    }

    /// Waits until the machine was reset or switched off; gives what its console showed.
    fn ended(mut self) -> String {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let text = fs::read(&self.console).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            if self.qemu.try_wait().expect("asked").is_some() {
                let text = fs::read(&self.console).unwrap_or_default();
                return String::from_utf8_lossy(&text).into_owned();
            }
            assert!(Instant::now() < give_up, "it goes on for ever:\n{text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        let _ = std::io::stderr().flush();
    }
}

fn shows(console: &str, words: &[&str]) {
    for word in words {
        assert!(console.contains(word), "{word:?} is missing in\n{console}");
    }
}

#[test]
fn a_guest_that_no_signal_ends_resets_the_machine_past_all_drivers() {
    let test = "a_guest_that_no_signal_ends_resets_the_machine_past_all_drivers";
    let Some(kit) = kit(test) else { return };
    let script = "limits 1000 2000\nunkillable\nguardian\ncat /run/q/guardian.state\nsleep 30\n";
    let console = Machine::boot(&kit, script).ended();
    shows(
        &console,
        &[
            "test: booted",
            "\"sysrq\":true",
            "process 2 of",
            "the guests did not end with their lease",
            "sysrq: Resetting",
        ],
    );
    assert!(!console.contains("test: survived"), "{console}");
}

#[test]
fn without_sysrq_the_machine_is_reset_by_a_system_call() {
    let test = "without_sysrq_the_machine_is_reset_by_a_system_call";
    let Some(kit) = kit(test) else { return };
    // What is written to the trigger goes nowhere.
    let script = "mount -o bind /dev/null /proc/sysrq-trigger\nlimits 1000 2000\nunkillable\n\
                  guardian\nsleep 30\n";
    let console = Machine::boot(&kit, script).ended();
    shows(&console, &["test: booted", "reboot: Restarting system"]);
    assert!(!console.contains("sysrq: Resetting"), "{console}");
    assert!(!console.contains("test: survived"), "{console}");
}

#[test]
fn a_guardian_that_is_stopped_no_more_feeds_the_watchdog() {
    let test = "a_guardian_that_is_stopped_no_more_feeds_the_watchdog";
    let Some(kit) = kit(test) else { return };
    let script = "fed\nkill -STOP $guardian\necho \"test: stopped\"\nsleep 30\n";
    let console = Machine::boot(&kit, script).ended();
    shows(
        &console,
        &[
            "\"timeout_ms\":2000",
            "test: fed for more than three time-outs",
            "test: stopped",
        ],
    );
    assert!(!console.contains("test: survived"), "{console}");
    assert!(
        !console.contains("Resetting") && !console.contains("Restarting"),
        "{console}"
    );
}

#[test]
fn a_guardian_with_no_guest_closes_the_watchdog_when_it_is_told_to_go() {
    let test = "a_guardian_with_no_guest_closes_the_watchdog_when_it_is_told_to_go";
    let Some(kit) = kit(test) else { return };
    let script = "fed\nkill -TERM $guardian\nwait $guardian\necho \"test: gone $?\"\nsleep 7\n";
    let console = Machine::boot(&kit, script).ended();
    shows(&console, &["test: gone 0", "test: survived"]);
    assert!(!console.contains("watchdog did not stop"), "{console}");
}

#[test]
fn a_guest_that_is_left_is_not_fed_for() {
    let test = "a_guest_that_is_left_is_not_fed_for";
    let Some(kit) = kit(test) else { return };
    // Neither way of a reset works; K is long, so that the watchdog comes first.
    let script = "fed\nlimits 60000 2000\nunkillable\nsleep 30\n";
    let console = Machine::boot(&kit, script).ended();
    shows(&console, &["test: fed for more than three time-outs"]);
    assert!(!console.contains("test: survived"), "{console}");
    assert!(
        !console.contains("Resetting") && !console.contains("Restarting"),
        "{console}"
    );
}
