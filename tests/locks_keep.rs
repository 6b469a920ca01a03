//! The locks of a guest that runs, kept by a process of its own while its images change.

mod guardian_support;

use guardian_support::*;
use quorate::guardian::processes::Process;
use quorate::hypervisor::Driver;
use quorate::locks::{Locks, Placing};
use quorate_membership::{ClusterId, Incarnation, NodeId};
use quorate_recovery::guest::GuestId;
use quorate_recovery::lock::{Life, Lock, LockPlan, LockedImage};
use std::fs;
use std::path::{Path, PathBuf};

/// As `src/locks/block.rs` lays a lock out.
const BLOCK: usize = 4096;
const GUEST: usize = 32;
const RAISED: usize = 64;
const SEQUENCE: usize = 72;

fn plan(lab: &Lab, guest: GuestId, images: &[&str]) -> LockPlan {
    LockPlan {
        lock: Lock {
            cluster: ClusterId(7),
            guest,
            life: Life {
                epoch: E,
                host: NodeId(1),
                incarnation: Incarnation {
                    counter: 1,
                    random: 1,
                },
            },
            raised: 0,
        },
        name: "guest".into(),
        images: images
            .iter()
            .map(|name| LockedImage {
                path: lab.file(name).display().to_string(),
                shareable: false,
            })
            .collect(),
    }
}

fn locks(lab: &Lab) -> Locks {
    Locks {
        program: PROGRAM.into(),
        run: lab.run.clone(),
        boot: lab.boot,
        placing: Placing::default(),
        host: "here".into(),
    }
}

fn lock(lab: &Lab, image: &str) -> PathBuf {
    lab.file(&format!("{image}.quorate-lock"))
}

/// A number in the newer block of a lock.
fn number(path: &Path, at: usize) -> Option<u64> {
    let bytes = fs::read(path).ok()?;
    let of =
        |b: &[u8], at: usize| u64::from_le_bytes(b[at..at + 8].try_into().expect("eight bytes"));
    let blocks = bytes.chunks_exact(BLOCK);
    let newest = blocks.filter(|b| b.starts_with(b"QRTLOCK"));
    let newest = newest.max_by_key(|b| of(b, SEQUENCE))?;
    Some(of(newest, at))
}

/// Processes that keep locks in this run directory.
fn keepers(lab: &Lab) -> Vec<Process> {
    let keeps = |p: &Process| {
        let line = fs::read(format!("/proc/{}/cmdline", p.pid)).unwrap_or_default();
        line.split(|b| *b == 0).any(|word| word == b"lock-keep")
    };
    lab.marked().into_iter().filter(keeps).collect()
}

#[test]
fn the_locks_of_a_guest_follow_it_to_other_images() {
    let lab = Lab::new();
    lab.long_lease();
    let driver = lab.driver();
    for image in ["base", "top", "taken"] {
        fs::write(lab.file(image), b"data").expect("an image");
    }
    let other = GuestId(G.0 + 1);
    lab.start(&driver, other, E);
    let locks = locks(&lab);
    locks
        .keep(&plan(&lab, other, &["taken"]), &gate())
        .expect("kept");
    driver.end(other, E, &gate()).expect("ended");
    eventually("its keeper to end with it", || keepers(&lab).is_empty());

    lab.start(&driver, G, E);
    locks
        .keep(&plan(&lab, G, &["base"]), &gate())
        .expect("kept");
    let first = keepers(&lab);
    assert_eq!(first.len(), 1);
    locks
        .keep(&plan(&lab, G, &["base"]), &gate())
        .expect("the same again");
    assert_eq!(keepers(&lab), first, "is kept already");

    // It writes to another image now, and to one beside which another's lock stands.
    locks
        .keep(&plan(&lab, G, &["top", "taken"]), &gate())
        .expect("kept");
    assert_eq!(number(&lock(&lab, "top"), GUEST), Some(G.0));
    assert_eq!(
        number(&lock(&lab, "taken"), GUEST),
        Some(other.0),
        "nobody had read it"
    );
    let states = locks.states();
    let [(guest, _, state)] = states.as_slice() else {
        panic!("{states:?}");
    };
    assert_eq!((*guest, state.met.len()), (G, 1));
    eventually("the keeper before to end", || {
        keepers(&lab).iter().all(|p| !first.contains(p)) && keepers(&lab).len() == 1
    });
    let left = number(&lock(&lab, "base"), RAISED);
    let raised = number(&lock(&lab, "top"), RAISED);
    eventually("the new lock to be raised", || {
        number(&lock(&lab, "top"), RAISED) > raised
    });
    assert_eq!(
        number(&lock(&lab, "base"), RAISED),
        left,
        "what it left stays as it was"
    );
    assert_eq!(number(&lock(&lab, "base"), GUEST), Some(G.0));

    // Back again: the count goes on.
    locks
        .keep(&plan(&lab, G, &["base"]), &gate())
        .expect("kept");
    assert!(number(&lock(&lab, "base"), RAISED) > left);
    driver.end(G, E, &gate()).expect("ended");
    eventually("nothing to be left", || lab.marked().is_empty());
}
