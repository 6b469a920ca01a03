//! A guardian that is gone or stands still, on hosts whose daemons fail after it.

mod common;

use common::Lab;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

/// The guardian's process of the host whose run directory this is, seen from here.
fn guardian(run_dir: &Path) -> Option<i32> {
    let wanted = format!("\0--run-dir\0{}\0", run_dir.display());
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let mut ids = processes.filter_map(|p| p.file_name().to_str()?.parse::<i32>().ok());
    ids.find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.contains("\0guardian\0") && line.contains(&wanted)
    })
}

#[test]
fn a_host_without_guardian_says_so_and_its_lease_proves_nothing() {
    if common::skipped("a_host_without_guardian_says_so_and_its_lease_proves_nothing") {
        return;
    }
    let mut lab = Lab::new(&["h1", "h2", "h3"]);
    lab.add("h1", &["g1", "g2", "g3"]);
    let here = lab.on("h2");
    assert!(!here.is_empty(), "{:?}", lab.lives());
    let before = lab.lives();
    let run_dir = lab.path().join("h2/run");

    // Killed, and no other can take office: the lock of the office is held by somebody.
    let pid = guardian(&run_dir).expect("in office");
    let lock = format!("/proc/{pid}/root{}/guardian.lock", run_dir.display());
    let lock = File::options().write(true).open(&lock);
    let Ok(lock) = lock else {
        println!("skipped: the files of a namespace cannot be reached from here");
        return;
    };
    // The daemon starts the next one within milliseconds: whoever is faster has the lock.
    lab.wait("the office to be taken", || {
        if let Some(pid) = guardian(&run_dir).and_then(Pid::from_raw) {
            kill_process(pid, Signal::KILL).map_err(|e| e.to_string())?;
        }
        let give_up = Instant::now() + Duration::from_millis(100);
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(e) if Instant::now() >= give_up => return Err(e.to_string()),
                Err(_) => std::hint::spin_loop(),
            }
        }
    });
    for by in ["h1", "h2", "h3"] {
        lab.wait(&format!("{by} to say that h2 has no guardian"), || {
            let remarks = lab.status(by)?["remarks"].to_string();
            let said = remarks.contains("h2: no guardian ends its guests");
            if said { Ok(()) } else { Err(remarks) }
        });
    }
    // The guests go on for longer than a lease: it is renewed, since the log knows.
    for _ in 0..3 {
        lab.go_on();
    }
    assert_eq!(lab.lives(), before, "every guest goes on");
    lab.nobody_judged("h1");

    // Its daemon stands still, and no device can end it: nothing is proved when G has passed.
    lab.break_outlet("h2");
    lab.signal("h2", "STOP");
    lab.wait("its lease to be over for certain", || {
        let status = lab.status("h1")?;
        let row = common::host(&status, "h2");
        let reason = row["reason"].as_str().unwrap_or_default();
        if row["state"] == "lost" && reason.contains("certain in 0.0 s") {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    lab.go_on();
    assert_eq!(
        lab.lives(),
        before,
        "they run there still, and nowhere else"
    );
    assert!(lab.events("h1", &["proof"]).is_empty());

    // The office is free again, and the daemon goes on: it is itself again, or its guests are.
    let earlier = lab.incarnation("h1");
    drop(lock);
    lab.signal("h2", "CONT");
    lab.settled("h1");
    lab.go_on();
    lab.judge();
    assert_eq!(lab.incarnation("h1"), earlier);
}
