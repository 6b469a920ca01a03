//! Damage inside the tables is named by table and key.

use super::super::sample::{Source, founding};
use super::super::{Store, builder};
use super::*;
use quorate_membership::Token;
use quorate_recovery::executor::ExecutorWrite;
use redb::Database;
use std::path::{Path, PathBuf};

/// A store with a row in every table, closed.
fn filled() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("node.store");
    let me = Store::create(&path, "m", NodeId(1), "alpha").expect("made");
    let mut store = Store::open(&path, "m").expect("opens");
    store
        .set_founding(&founding(me.node, me.store))
        .expect("founded");
    let mut source = Source::new(1);
    let entries = (0..4).map(|_| source.entry()).collect();
    let stop = StopRecord {
        host: NodeId(2),
        incarnation: Incarnation::default(),
        revoke: Token(9),
    };
    let batch = [
        NodeWrite::Member(Write::Append { from: 0, entries }),
        NodeWrite::Member(Write::Decided(3)),
        NodeWrite::Member(Write::Trim(1)),
        NodeWrite::Member(Write::Snapshot {
            applied: 1,
            bytes: vec![1, 2],
        }),
        NodeWrite::Member(Write::Stop(stop)),
        NodeWrite::Member(Write::Peer {
            node: NodeId(3),
            record: quorate_membership::vouch::PeerRecord::default(),
        }),
        NodeWrite::Executor(ExecutorWrite {
            guest: GuestId(5),
            promise: Some(GuestPromise::default()),
        }),
    ];
    store.commit(&batch).expect("durable");
    (dir, path)
}

fn meddle(path: &Path, change: impl FnOnce(&WriteTransaction)) {
    let db: Database = builder().open(path).expect("opens");
    let txn = db.begin_write().expect("begins");
    change(&txn);
    txn.commit().expect("durable");
}

/// What opening and loading the store says.
fn complaint(path: &Path) -> String {
    match Store::open(path, "m").and_then(|store| store.load()) {
        Ok(_) => panic!("the damage went unnoticed"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn an_undecodable_value_is_named_by_table_and_key() {
    let noise: &[u8] = b"not a record";
    type Change = fn(&WriteTransaction, &[u8]);
    let cases: [(&str, &str, Change); 9] = [
        ("meta", "identity", |t, v| {
            t.open_table(META)
                .expect("open")
                .insert("identity", v)
                .expect("put");
        }),
        ("meta", "founding", |t, v| {
            t.open_table(META)
                .expect("open")
                .insert("founding", v)
                .expect("put");
        }),
        ("paxos", "promise", |t, v| {
            t.open_table(PAXOS)
                .expect("open")
                .insert("promise", v)
                .expect("put");
        }),
        ("paxos", "trimmed", |t, v| {
            t.open_table(PAXOS)
                .expect("open")
                .insert("trimmed", v)
                .expect("put");
        }),
        ("log", "2", |t, v| {
            t.open_table(LOG).expect("open").insert(2, v).expect("put");
        }),
        ("snapshot", "state", |t, _| {
            let mut table = t.open_table(SNAPSHOT).expect("open");
            table.insert("state", [1, 2, 3].as_slice()).expect("put");
        }),
        ("stops", "2, 9", |t, v| {
            t.open_table(STOPS)
                .expect("open")
                .insert((2, 9), v)
                .expect("put");
        }),
        ("peers", "3", |t, v| {
            t.open_table(PEERS)
                .expect("open")
                .insert(3, v)
                .expect("put");
        }),
        ("guests", "5", |t, v| {
            t.open_table(GUESTS)
                .expect("open")
                .insert(5, v)
                .expect("put");
        }),
    ];
    for (table, key, change) in cases {
        let (_dir, path) = filled();
        meddle(&path, |txn| change(txn, noise));
        let said = complaint(&path);
        let place = format!("table `{table}`, key `{key}`");
        assert!(said.contains(&place), "{place}: {said}");
        assert!(said.contains("node.store"), "{said}");
    }
}

#[test]
fn a_gap_in_the_log_is_named() {
    for missing in [1, 2] {
        let (_dir, path) = filled();
        meddle(&path, |txn| {
            let mut log = txn.open_table(LOG).expect("open");
            assert!(log.remove(missing).expect("removed").is_some());
        });
        let said = complaint(&path);
        assert!(said.contains("table `log`"), "{said}");
        assert!(
            said.contains(&format!("expected entry {missing}")),
            "{said}"
        );
    }
}

#[test]
fn a_missing_table_or_row_is_named() {
    let (_dir, path) = filled();
    meddle(&path, |txn| {
        assert!(txn.delete_table(STOPS).expect("deleted"))
    });
    assert!(complaint(&path).contains("table `stops`"));
    let (_dir, path) = filled();
    meddle(&path, |txn| {
        let mut meta = txn.open_table(META).expect("open");
        assert!(meta.remove("machine").expect("removed").is_some());
    });
    assert!(complaint(&path).contains("table `meta`, key `machine`: is missing"));
}

#[test]
fn a_promise_under_another_key_is_refused() {
    let (_dir, path) = filled();
    meddle(&path, |txn| {
        let mut stops = txn.open_table(STOPS).expect("open");
        let promise = |row: Option<redb::AccessGuard<'_, &[u8]>>| row.map(|r| r.value().to_vec());
        let value = promise(stops.get((2, 9)).expect("read")).expect("there");
        stops.insert((4, 9), value.as_slice()).expect("put");
    });
    assert!(complaint(&path).contains("table `stops`, key `4, 9`"));
}

#[test]
fn another_format_is_refused_before_anything_is_read() {
    for (bytes, named) in [
        (vec![2, 0, 0, 0], "format 2;"),
        (vec![1], "format unknown;"),
    ] {
        let (_dir, path) = filled();
        meddle(&path, |txn| {
            let mut meta = txn.open_table(META).expect("open");
            meta.insert("format", bytes.as_slice()).expect("put");
        });
        let said = complaint(&path);
        assert!(said.contains(named), "{said}");
    }
}
