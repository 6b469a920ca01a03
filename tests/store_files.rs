//! The store as a file: made once, on one machine, opened by one process, and never trusted when
//! damaged.

use proptest::prelude::*;
use quorate::store::{LoadedImage, Store, StoreError};
use quorate_membership::store::Write;
use quorate_membership::{ClusterId, Founding, NodeId, ProofPolicy, StoreId, Timing, Token};
use quorate_recovery::contract::NodeWrite;
use quorate_recovery::executor::{ExecutorWrite, GuestPromise};
use quorate_recovery::guest::GuestId;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const MACHINE: &str = "4d3a6f0c";

fn made() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("node.store");
    Store::create(&path, MACHINE, NodeId(1), "alpha").expect("made");
    (dir, path)
}

fn refused(path: &Path, machine: &str) -> StoreError {
    match Store::open(path, machine) {
        Ok(_) => panic!("opened"),
        Err(e) => e,
    }
}

fn founding(cluster: u128, store: StoreId) -> Founding {
    Founding {
        cluster: ClusterId(cluster),
        rules: quorate_membership::states::RULES,
        epoch: quorate_membership::Epoch(1),
        voters: vec![(NodeId(1), store), (NodeId(2), StoreId(2))],
        timing: Timing::default(),
        proof: ProofPolicy::Device,
    }
}

#[test]
fn a_store_is_made_once_for_one_node_and_only_its_owner_can_read_it() {
    let (dir, path) = made();
    let store = Store::open(&path, MACHINE).expect("opens");
    let me = store.identity().clone();
    assert_eq!((me.node, me.name.as_str()), (NodeId(1), "alpha"));
    drop(store);
    let again = Store::create(&path, MACHINE, NodeId(2), "beta").expect_err("refused");
    assert!(matches!(again, StoreError::Exists { .. }), "{again}");
    let store = Store::open(&path, MACHINE).expect("opens");
    assert_eq!(*store.identity(), me, "it was left as it is");
    let meta = std::fs::metadata(&path).expect("there");
    assert_eq!(meta.mode() & 0o7777, 0o600);
    let names: Vec<_> = std::fs::read_dir(dir.path()).expect("read").collect();
    assert_eq!(names.len(), 1, "no draft stays behind: {names:?}");

    let other = dir.path().join("other.store");
    let second = Store::create(&other, MACHINE, NodeId(2), "beta").expect("made");
    assert_ne!(second.store, me.store);
}

#[test]
fn two_that_make_the_same_store_at_once_make_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("node.store");
    let made: Vec<_> = std::thread::scope(|scope| {
        let makers: Vec<_> = (1..=4)
            .map(|id| {
                let path = &path;
                scope.spawn(move || Store::create(path, MACHINE, NodeId(id), "x"))
            })
            .collect();
        let made = makers.into_iter().map(|m| m.join().expect("no panic"));
        made.collect()
    });
    let won: Vec<_> = made.iter().flatten().collect();
    assert_eq!(won.len(), 1, "{made:?}");
    let store = Store::open(&path, MACHINE).expect("opens");
    assert_eq!(store.identity(), won[0]);
}

#[test]
fn a_missing_store_is_not_made_by_opening_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("node.store");
    let said = refused(&path, MACHINE).to_string();
    for part in ["node.store", "quorate cluster init", "quorate join"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert!(!path.exists());
    std::fs::write(&path, b"").expect("written");
    assert!(refused(&path, MACHINE).to_string().contains("is empty"));
    assert_eq!(std::fs::metadata(&path).expect("there").len(), 0);
}

#[test]
fn a_copy_on_another_machine_is_refused_and_its_incarnation_left_alone() {
    let (dir, path) = made();
    let first = Store::open(&path, MACHINE).expect("opens").incarnation();
    let copy = dir.path().join("copy.store");
    std::fs::copy(&path, &copy).expect("copied");
    let said = refused(&copy, "another").to_string();
    assert!(
        said.contains("this store was made on another machine: cloned?"),
        "{said}"
    );
    let next = Store::open(&path, MACHINE).expect("opens").incarnation();
    assert_eq!(next.counter, first.counter + 1);
    assert_ne!(next.random, first.random);
}

#[test]
fn an_open_store_cannot_be_opened_again() {
    let (_dir, path) = made();
    let store = Store::open(&path, MACHINE).expect("opens");
    let twice = refused(&path, MACHINE);
    assert!(matches!(twice, StoreError::Locked { .. }), "{twice}");
    drop(store);
    Store::open(&path, MACHINE).expect("opens again");
}

#[test]
fn the_pledge_and_the_founding_are_given_once() {
    let (_dir, path) = made();
    let mut store = Store::open(&path, MACHINE).expect("opens");
    let me = store.identity().store;
    let none = store.load().expect("loads");
    assert!(none.pledge.is_none() && none.founding.is_none() && none.member.is_none());

    store.set_pledge(ClusterId(7)).expect("pledged");
    store.set_pledge(ClusterId(7)).expect("the same again");
    let other = store.set_pledge(ClusterId(8)).expect_err("refused");
    assert!(matches!(other, StoreError::OtherCluster { .. }), "{other}");
    let other = store.set_founding(&founding(8, me)).expect_err("refused");
    assert!(matches!(other, StoreError::OtherCluster { .. }), "{other}");
    let gone = store.set_founding(&founding(7, StoreId(99)));
    let gone = gone.expect_err("the founding counts on another store");
    assert!(matches!(gone, StoreError::OtherStore { .. }), "{gone}");

    store.set_founding(&founding(7, me)).expect("founded");
    store
        .set_founding(&founding(7, me))
        .expect("the same again");
    let mut differs = founding(7, me);
    differs.proof = ProofPolicy::DeviceAndLease;
    let other = store.set_founding(&differs).expect_err("refused");
    assert!(matches!(other, StoreError::OtherFounding { .. }), "{other}");
    drop(store);

    // None of the refusals ended the store or changed it.
    let store = Store::open(&path, MACHINE).expect("opens");
    let image = store.load().expect("loads");
    assert_eq!(image.pledge, Some(ClusterId(7)));
    assert_eq!(image.founding, Some(founding(7, me)));
    let member = image.member.expect("founded");
    assert_eq!((member.node, member.store), (NodeId(1), me));
    assert_eq!(member.incarnation, store.incarnation());
    assert_eq!(image.incarnation, store.incarnation());
}

#[test]
fn a_founded_store_is_not_pledged_to_another_cluster() {
    let (_dir, path) = made();
    let mut store = Store::open(&path, MACHINE).expect("opens");
    let me = store.identity().store;
    store.set_founding(&founding(7, me)).expect("founded");
    let other = store.set_pledge(ClusterId(8)).expect_err("refused");
    assert!(matches!(other, StoreError::OtherCluster { .. }), "{other}");
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("node.store");
    let text = b"nothing of ours\n".repeat(1000);
    std::fs::write(&path, &text).expect("written");
    let said = refused(&path, MACHINE).to_string();
    assert!(said.contains("node.store"), "{said}");
    assert_eq!(std::fs::read(&path).expect("read"), text);
}

/// A store with some content, as bytes.
fn filled() -> Vec<u8> {
    let (_dir, path) = made();
    let mut store = Store::open(&path, MACHINE).expect("opens");
    let me = store.identity().store;
    store.set_founding(&founding(7, me)).expect("founded");
    for guest in 0..20 {
        let promise = GuestPromise {
            promised: Token(guest),
            closed: Token(1),
        };
        let write = ExecutorWrite {
            guest: GuestId(guest),
            promise: Some(promise),
        };
        let batch = [
            NodeWrite::Executor(write),
            NodeWrite::Member(Write::Decided(guest)),
        ];
        store.commit(&batch).expect("durable");
    }
    drop(store);
    std::fs::read(&path).expect("read")
}

fn words(image: &LoadedImage) -> String {
    let mut image = image.clone();
    image.incarnation = Default::default();
    if let Some(member) = &mut image.member {
        member.incarnation = Default::default();
    }
    format!("{image:?}")
}

#[test]
fn a_byte_that_rotted_is_noticed_or_was_not_in_use() {
    let bytes = filled();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("node.store");
    std::fs::write(&path, &bytes).expect("written");
    let whole = Store::open(&path, MACHINE).expect("opens");
    let whole = words(&whole.load().expect("loads"));
    let mut noticed = 0;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let places = (any::<prop::sample::Index>(), 1..=255u8);
    for _ in 0..500 {
        use proptest::strategy::ValueTree;
        let (at, flip) = places.new_tree(&mut runner).expect("a place").current();
        // Where content lives; the rest of the file is room to grow.
        let used = bytes.iter().rposition(|b| *b != 0).expect("not empty");
        let at = at.index(used + 1);
        let mut rotten = bytes.clone();
        rotten[at] ^= flip;
        std::fs::write(&path, &rotten).expect("written");
        match Store::open(&path, MACHINE).and_then(|store| store.load()) {
            Err(_) => noticed += 1,
            Ok(image) => assert_eq!(words(&image), whole, "byte {at} changed by {flip}"),
        }
    }
    assert!(noticed > 0, "no damage was ever noticed");
}
