//! Copies of hosts and of stores: a host that was cloned runs no guest twice, whether its original is
//! reached or not, and a voter whose store was put back loses nothing that was acknowledged.

mod common;

use common::{Lab, PROGRAM, host};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Copies a folder of plain files.
fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

/// Copies the store of a host whose daemon stands still meanwhile, as a snapshot of its disk would.
fn snapshot(lab: &Lab, name: &str, to: &Path) {
    lab.signal(name, "STOP");
    copied(&lab.path().join(name).join("state"), to);
    lab.signal(name, "CONT");
}

/// A daemon that is ended with the test, by the end of the host it runs on.
struct Clone {
    daemon: Child,
    log: PathBuf,
}

impl Drop for Clone {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        if std::thread::panicking() {
            let text = fs::read(&self.log).unwrap_or_default();
            eprintln!("--- the copy\n{}", String::from_utf8_lossy(&text));
        }
    }
}

/// Starts a copy of `original`, disk, file and machine id, on the machine of `spare`: the next boot
/// of `original`, as far as its frames say.
fn start_copy(lab: &Lab, original: &str, spare: &str) -> Clone {
    let own = lab.path().join("copy");
    snapshot(lab, original, &own.join("state"));
    let id = lab.path().join(original).join("machine-id");
    fs::copy(id, own.join("machine-id")).expect("copied");
    fs::write(
        own.join("boot-id"),
        "0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0\n",
    )
    .expect("written");
    let text = fs::read_to_string(lab.site.config(original)).expect("a configuration");
    let address = |name: &str| {
        let text = fs::read_to_string(lab.site.config(name)).expect("a configuration");
        let line = text.lines().find_map(|l| l.strip_prefix("listen = \""));
        let address = line.and_then(|l| l.split(':').next());
        address.expect("an address").to_owned()
    };
    let (there, here) = (address(original), address(spare));
    let folder = |name: &str| lab.path().join(name).display().to_string();
    // The original's folder is the copy's, its address is the spare machine's; nobody is at the
    // one that the spare machine had.
    let text = text
        .replace(&format!("{here}:"), "10.77.0.99:")
        .replace(&there, &here)
        .replace(
            &format!("{}/", folder(original)),
            &format!("{}/", folder("copy")),
        )
        .replace(
            &lab.site.socket(original).display().to_string(),
            &own.join("sock").display().to_string(),
        )
        .replace(
            &own.join("run").display().to_string(),
            &lab.path()
                .join(spare)
                .join("run/copy")
                .display()
                .to_string(),
        );
    let file = own.join("quorate.toml");
    fs::write(&file, text).expect("written");
    let log = own.join("log");
    let out = fs::File::create(&log).expect("a log");
    let daemon = lab
        .site
        .program(spare, PROGRAM)
        .expect("power")
        .args(["daemon", "--config"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(out)
        .spawn()
        .expect("started");
    Clone { daemon, log }
}

#[test]
fn a_copy_of_a_host_makes_no_second_copy_of_its_guests() {
    let test = "a_copy_of_a_host_makes_no_second_copy_of_its_guests";
    if common::skipped(test) {
        return;
    }
    let mut lab = Lab::new(&["h1", "h2", "h3", "h4", "h5"]);
    // A machine to spare: it keeps its power, and no daemon runs there.
    lab.ask("h5", &["host", "leave"]).expect("left");
    lab.add("h1", &["g1", "g2", "g3", "g4"]);
    let here = lab.on("h2");
    assert!(!here.is_empty(), "{:?}", lab.lives());
    let before = lab.lives();

    // Beside its original: nobody is judged, every guest goes on, and it is said.
    let copy = start_copy(&lab, "h2", "h5");
    lab.wait("somebody to say that h2 runs twice", || {
        let nodes = ["h1", "h2", "h3", "h4"];
        let remarks = nodes.map(|n| {
            let status = lab.status(n)?;
            let events = lab.events(n, &["alert"]);
            Ok::<_, String>(format!("{} {events:?}", status["remarks"]))
        });
        let all: Vec<String> = remarks.into_iter().flatten().collect();
        if all.iter().any(|r| r.contains("runs twice")) {
            Ok(())
        } else {
            Err(format!("{all:?}"))
        }
    });
    for _ in 0..4 {
        lab.go_on();
    }
    assert_eq!(lab.lives(), before, "every guest goes on where it was");
    lab.nobody_judged("h1");

    // Its original is cut off: the copy's frames are no sign of it, and nothing of it is free
    // before its lease is over.
    lab.site.cable("h2", false).expect("unplugged");
    lab.wait("h2 to be proved", || {
        let proofs = lab.events("h1", &["proof"]);
        let of = proofs.iter().any(|e| e["host"] == "h2");
        if of {
            Ok(())
        } else {
            Err(format!("{proofs:?}"))
        }
    });
    lab.wait("the guests of h2 to have new lives", || {
        let lives = lab.lives();
        let new = here.iter().all(|g| lives[g].epoch != before[g].epoch);
        if new {
            Ok(())
        } else {
            Err(format!("{lives:?}"))
        }
    });
    lab.go_on();
    // And when it is reached again.
    lab.site.cable("h2", true).expect("plugged");
    for _ in 0..3 {
        lab.go_on();
    }
    lab.judge();
    drop(copy);
    lab.go_on();
    lab.judge();
}

#[test]
fn a_voter_whose_store_was_put_back_loses_nothing_that_was_acknowledged() {
    let test = "a_voter_whose_store_was_put_back_loses_nothing_that_was_acknowledged";
    if common::skipped(test) {
        return;
    }
    let mut lab = Lab::new(&["h1", "h2", "h3"]);
    let kept = lab.path().join("kept");
    snapshot(&lab, "h3", &kept);
    lab.add("h1", &["g1", "g2", "g3"]);
    let there = lab.on("h3");
    let after = lab.expect("h3", &there);
    lab.power_off("h3");
    lab.moved(&there, "h3", after);
    let state = lab.path().join("h3/state");
    fs::remove_dir_all(&state).expect("removed");
    copied(&kept, &state);
    lab.power_on("h3");
    lab.wait("somebody to say that h3's store was set back", || {
        let nodes = ["h1", "h2", "h3"].into_iter();
        let all: Vec<_> = nodes
            .filter(|n| lab.status(n).is_ok())
            .flat_map(|n| lab.events(n, &["alert"]))
            .collect();
        let said =
            |e: &serde_json::Value| e["text"].as_str().is_some_and(|t| t.contains("set back"));
        if all.iter().any(said) {
            Ok(())
        } else {
            Err(format!("{all:?}"))
        }
    });
    // It catches up from the others and is one of them again, with everything that was decided.
    lab.wait("h3 to know every guest and to be a member", || {
        let status = lab.status("h3")?;
        let known = ["g1", "g2", "g3"].iter().all(|g| {
            lab.guest("h3", g)
                .is_ok_and(|row| row["state"] == "running")
        });
        let member = host(&status, "h3")["state"] == "member";
        let votes = !status["remarks"].to_string().contains("does not vote");
        if known && member && votes && status["quorate"] == true {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    lab.settled("h3");
    // A quorum with it decides, and nothing that was decided before is gone.
    let there = lab.on("h2");
    let after = lab.expect("h2", &there);
    lab.power_off("h2");
    lab.moved(&there, "h2", after);
    lab.settled("h3");
    lab.judge();
}

#[test]
fn a_life_with_the_number_of_an_earlier_one_promises_nothing_in_its_name() {
    let test = "a_life_with_the_number_of_an_earlier_one_promises_nothing_in_its_name";
    if common::skipped(test) {
        return;
    }
    let mut lab = Lab::new(&["h1", "h2", "h3"]);
    let kept = lab.path().join("kept");
    snapshot(&lab, "h1", &kept);
    let first = lab.incarnation("h1");
    lab.signal("h1", "KILL");
    lab.back("h2", "h1", first);
    // What this life proposes is numbered from its beginning.
    lab.add("h1", &["g1", "g2", "g3"]);
    // Its store is put back to before it began: the next life takes its number, and numbers alike.
    lab.signal("h1", "STOP");
    let state = lab.path().join("h1/state");
    fs::rename(&state, lab.path().join("h1/before")).expect("moved");
    copied(&kept, &state);
    lab.signal("h1", "KILL");
    // Others refuse it for the life they know, so it may be cut off before it has a number of its own.
    let mut taken: Vec<&str> = Vec::new();
    lab.wait("h1 to take three guests, or to be cut off", || {
        for guest in ["g4", "g5", "g6"] {
            let file = lab.site.guest_file(guest).map_err(|e| e.to_string())?;
            let file = file.display().to_string();
            if !taken.contains(&guest) && lab.ask("h1", &["guest", "add", &file]).is_ok() {
                taken.push(guest);
            }
        }
        if taken.len() == 3 || !lab.events("h2", &["proof"]).is_empty() {
            Ok(())
        } else {
            Err(format!("taken so far: {taken:?}"))
        }
    });
    // What it took stands in the log, so the other voters have it.
    for guest in taken {
        lab.wait("h2 to know the guest that h1 took", || {
            match lab.guest("h2", guest)? {
                serde_json::Value::Null => Err(format!("{guest} is not known")),
                known => Ok(known),
            }
        });
    }
    lab.judge();
}
