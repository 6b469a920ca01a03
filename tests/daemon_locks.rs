//! Real daemons and the locks beside their guests' images, on a directory that all hosts reach.

mod common;

use common::Lab;
use ring::digest;
use std::path::{Path, PathBuf};

const NODES: [&str; 3] = ["h1", "h2", "h3"];
/// As `src/locks/block.rs` lays a lock out.
const BLOCK: usize = 4096;
const CLUSTER: usize = 16;
const EPOCH: usize = 40;
const RAISED: usize = 64;
const SEQUENCE: usize = 72;

fn image(lab: &Lab, guest: &str) -> PathBuf {
    lab.path().join("records").join(format!("{guest}.img"))
}

fn lock(lab: &Lab, guest: &str) -> PathBuf {
    lab.path()
        .join("records")
        .join(format!("{guest}.img.quorate-lock"))
}

/// Adds guests that name an image.
fn add(lab: &mut Lab, guests: &[&str]) {
    for guest in guests {
        let file = lab.site.guest_file(guest).expect("a guest's file");
        std::fs::write(image(lab, guest), b"data").expect("an image");
        let mut text = std::fs::read_to_string(&file).expect("readable");
        text.push_str(&format!("images = [{:?}]\n", image(lab, guest)));
        std::fs::write(&file, text).expect("written");
        lab.add_file("h1", guest, &file);
    }
    lab.settled("h1");
}

fn number(block: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"))
}

/// The newer block of a lock.
fn newest(path: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::read(path).ok()?;
    let blocks = bytes.chunks_exact(BLOCK);
    blocks
        .filter(|b| b.starts_with(b"QRTLOCK"))
        .max_by_key(|b| number(b, SEQUENCE))
        .map(<[u8]>::to_vec)
}

/// Waits until the lock of `guest` has been raised since this call.
fn raised(lab: &Lab, guest: &str) {
    let count = || newest(&lock(lab, guest)).map(|b| number(&b, RAISED));
    let before = lab.wait("a lock", || count().ok_or("none".into()));
    lab.wait(
        &format!("the lock of {guest} to be raised"),
        || match count() {
            Some(n) if n > before => Ok(()),
            other => Err(format!("{other:?} after {before}")),
        },
    );
}

/// Somebody else writes the lock: the newest block, changed, with the next sequence.
fn forge(lab: &Lab, guest: &str, change: impl FnOnce(&mut [u8])) {
    let path = lock(lab, guest);
    let mut block = newest(&path).expect("a lock");
    change(&mut block);
    let sequence = number(&block, SEQUENCE) + 1000;
    block[SEQUENCE..SEQUENCE + 8].copy_from_slice(&sequence.to_le_bytes());
    let sum = digest::digest(&digest::SHA256, &block[..BLOCK - 32]);
    block[BLOCK - 32..].copy_from_slice(sum.as_ref());
    std::fs::write(&path, [block.clone(), block].concat()).expect("written");
}

/// Waits until `guest` is held for `kind`.
fn held(lab: &Lab, by: &str, guest: &str, kind: &str) {
    lab.wait(&format!("{guest} to be held for {kind}"), || {
        let row = lab.guest(by, guest)?;
        let holds = row["holds"].as_array().into_iter().flatten();
        if holds.clone().any(|h| h["kind"] == kind) {
            Ok(())
        } else {
            Err(row.to_string())
        }
    });
}

/// Waits until `by` remembers an alert about `guest` that says this.
fn alerted(lab: &Lab, guest: &str, text: &str) {
    lab.wait(&format!("an alert about {guest}"), || {
        let nodes = lab.site.nodes().iter().filter(|n| lab.status(n).is_ok());
        let all: Vec<_> = nodes.flat_map(|n| lab.events(n, &["alert"])).collect();
        let fits = |e: &serde_json::Value| {
            e["guest"] == guest && e["text"].as_str().is_some_and(|t| t.contains(text))
        };
        if all.iter().any(fits) {
            Ok(())
        } else {
            Err(format!("{all:?}"))
        }
    });
}

fn other(than: &str) -> &'static str {
    NODES.into_iter().find(|n| *n != than).expect("another")
}

fn host_of(lab: &Lab, guest: &str) -> String {
    lab.lives()[guest].host.clone()
}

#[test]
fn a_lock_of_another_cluster_or_epoch_holds_the_guest_until_it_is_released() {
    let test = "a_lock_of_another_cluster_or_epoch_holds_the_guest_until_it_is_released";
    if common::skipped(test) {
        return;
    }
    let mut lab = Lab::new(&NODES);
    add(&mut lab, &["g1", "g2", "g3"]);
    raised(&lab, "g1");
    // A life that the log knows costs nothing.
    let host = host_of(&lab, "g1");
    let (by, there) = (other(&host), lab.on(&host));
    let after = lab.expect(&host, &there);
    lab.power_off(&host);
    lab.moved(&there, &host, after);
    lab.power_on(&host);
    lab.whole(by);
    lab.settled(by);

    // Another cluster, while the guest runs: it runs on, and is held.
    forge(&lab, "g1", |b| b[CLUSTER] ^= 0xff);
    held(&lab, by, "g1", "foreign-lock");
    lab.settled(by);
    // An epoch that this log never gave.
    forge(&lab, "g2", |b| b[EPOCH + 2] ^= 0x40);
    held(&lab, by, "g2", "unknown-lock");

    let host = host_of(&lab, "g1");
    let by = other(&host);
    lab.power_off(&host);
    let all = lab.on(&host);
    let rest: Vec<String> = all.into_iter().filter(|g| g != "g1" && g != "g2").collect();
    lab.moved(&rest, &host, quorate::demo::record::now() - 1);
    lab.silent(&["g1".to_owned()]);
    lab.wait("g1 to be shown as held", || {
        let row = lab.guest(by, "g1")?;
        if row["state"] == "held" {
            Ok(())
        } else {
            Err(row.to_string())
        }
    });
    let said = lab.ask(by, &["guest", "release", "g1"]);
    assert!(
        said.as_ref().is_ok_and(|s| s.contains("released")),
        "{said:?}"
    );
    let said = lab.ask(by, &["guest", "release", "--all-of", "unknown-lock"]);
    assert!(
        said.as_ref().is_ok_and(|s| s.contains("released")),
        "{said:?}"
    );
    let refused = lab.ask(by, &["guest", "release", "g1"]);
    assert!(refused.is_err_and(|why| why.contains("is not held")));
    lab.settled(by);
    raised(&lab, "g1");
    lab.judge();
}

#[test]
fn a_lock_that_cannot_be_read_or_hangs_bars_no_start_and_its_keeper_ends_with_the_guest() {
    let test =
        "a_lock_that_cannot_be_read_or_hangs_bars_no_start_and_its_keeper_ends_with_the_guest";
    if common::skipped(test) {
        return;
    }
    let mut lab = Lab::new(&NODES);
    // A directory where a lock should be, and a file that nobody's read of ever returns.
    std::fs::create_dir_all(lab.path().join("records")).expect("a directory");
    std::fs::create_dir(lock(&lab, "g1")).expect("a directory");
    let made = std::process::Command::new("mkfifo")
        .arg(lock(&lab, "g2"))
        .status();
    assert!(made.expect("mkfifo").success());
    add(&mut lab, &["g1", "g2", "g3"]);
    alerted(&lab, "g1", "cannot be read");
    alerted(&lab, "g1", "are not written");
    alerted(&lab, "g2", "does not answer");
    let host = host_of(&lab, "g2");
    let (by, there) = (other(&host), lab.on(&host));
    let after = lab.expect(&host, &there);
    lab.power_off(&host);
    lab.moved(&there, &host, after);
    lab.settled(by);
    lab.judge();
    // Its keeper hangs, and goes with it all the same.
    lab.ask(by, &["guest", "stop", "g2"]).expect("taken");
    lab.silent(&["g2".to_owned()]);
    lab.wait("g2 to be stopped", || {
        let row = lab.guest(by, "g2")?;
        if row["state"] == "stopped" {
            Ok(())
        } else {
            Err(row.to_string())
        }
    });
    lab.forget("g2");
    lab.settled(by);
}
