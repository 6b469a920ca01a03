//! Power lost at every single operation on the disk, and disks that fail.

use super::disk::{Disk, Loss};
use super::sample::{Model, Source, founding};
use super::*;
use quorate_membership::store::Write;
use quorate_recovery::contract::NodeWrite;
use std::sync::mpsc::channel;
use std::time::Duration;

const MACHINE: &str = "machine-1";

fn path() -> &'static Path {
    Path::new("test")
}

fn identity() -> NodeIdentity {
    NodeIdentity {
        node: NodeId(1),
        name: "alpha".to_owned(),
        store: StoreId(1),
    }
}

fn open(disk: &Disk) -> Result<Store, StoreError> {
    Store::open_on(disk.clone(), path(), MACHINE)
}

/// A founded store, closed in good order.
fn founded() -> Disk {
    let disk = Disk::default();
    let me = identity();
    create_on(disk.clone(), path(), MACHINE, &me).expect("made");
    let mut store = open(&disk).expect("opens");
    store
        .set_founding(&founding(me.node, me.store))
        .expect("founded");
    drop(store);
    disk.copy()
}

fn model() -> Model {
    Model::new(identity().node, identity().store)
}

fn content(disk: &Disk) -> (Incarnation, String) {
    let store = open(disk).expect("a store survives any loss of power");
    let image = store.load().expect("loads");
    (store.incarnation(), Model::from(image).text())
}

/// Opens the store and commits until the power goes: the life reached, and the batches that were
/// acknowledged as durable.
fn live(disk: &Disk, batches: &[Vec<NodeWrite>]) -> (Option<Incarnation>, usize) {
    let Ok(mut store) = open(disk) else {
        return (None, 0);
    };
    let life = Some(store.incarnation());
    for (done, batch) in batches.iter().enumerate() {
        if store.commit(batch).is_err() {
            assert!(matches!(store.commit(batch), Err(StoreError::Ended { .. })));
            assert!(matches!(store.load(), Err(StoreError::Ended { .. })));
            return (life, done);
        }
    }
    (life, batches.len())
}

#[test]
fn what_was_acknowledged_survives_power_lost_at_any_operation() {
    for seed in 0..2 {
        let start = founded();
        let mut source = Source::new(seed);
        let batches: Vec<_> = (0..10).map(|_| source.batch()).collect();
        let mut states = vec![model()];
        for batch in &batches {
            let mut next = states[states.len() - 1].clone();
            next.apply(batch);
            states.push(next);
        }
        let texts: Vec<String> = states.iter().map(Model::text).collect();

        let whole = start.copy();
        assert_eq!(live(&whole, &batches).1, batches.len());
        let total = whole.operations();
        assert!(total > 100, "{total} operations are too few to mean much");
        for operations in 0..=total {
            let disk = start.copy();
            disk.power_for(operations);
            let (life, acknowledged) = live(&disk, &batches);
            for loss in [
                Loss::All,
                Loss::None,
                Loss::Random(operations),
                Loss::Random(operations + 1_000_000),
            ] {
                let found = disk.after_power_loss(loss);
                let (next, text) = content(&found);
                let allowed = &texts[acknowledged..texts.len().min(acknowledged + 2)];
                assert!(
                    allowed.contains(&text),
                    "seed {seed}, power for {operations}, {loss:?}: after {acknowledged} \
                     acknowledged batches the store is none of the states allowed: {text}"
                );
                let floor = life.map_or(1, |life| life.counter);
                assert!(next.counter > floor, "{next:?} after {life:?}");
            }
        }
    }
}

#[test]
fn every_life_is_higher_than_the_last_and_drawn_anew() {
    let disk = founded();
    let lives: Vec<Incarnation> = (0..5)
        .map(|_| open(&disk).expect("opens").incarnation())
        .collect();
    assert!(lives.windows(2).all(|w| w[0].counter + 1 == w[1].counter));
    assert!(lives.windows(2).all(|w| w[0].random != w[1].random));
}

#[test]
fn long_histories_come_back_as_they_were_at_every_prefix() {
    for seed in 10..16 {
        let disk = founded();
        let mut source = Source::new(seed);
        let mut expected = model();
        for _ in 0..12 {
            let mut store = open(&disk).expect("opens");
            for _ in 0..3 {
                let batch = source.batch();
                store.commit(&batch).expect("durable");
                expected.apply(&batch);
                let now = Model::from(store.load().expect("loads"));
                assert_eq!(now.text(), expected.text());
            }
            drop(store);
            assert_eq!(content(&disk).1, expected.text());
        }
    }
}

#[test]
fn a_write_that_does_not_fit_ends_the_store_and_changes_nothing() {
    use quorate_membership::store::Write;
    let mut source = Source::new(1);
    let gap = Write::Append {
        from: 5,
        entries: vec![source.entry()],
    };
    for wrong in [gap, Write::Trim(1)] {
        let disk = founded();
        let mut store = open(&disk).expect("opens");
        let batch = [
            NodeWrite::Member(Write::Decided(3)),
            NodeWrite::Member(wrong),
        ];
        let refused = store.commit(&batch).expect_err("refused");
        assert!(matches!(refused, StoreError::Misfit { .. }), "{refused}");
        let ended = store.commit(&[]).expect_err("ended").to_string();
        assert!(ended.contains("does not fit"), "{ended}");
        drop(store);
        assert_eq!(content(&disk).1, model().text());
    }
}

#[test]
fn batches_that_wait_for_the_disk_become_durable_together() {
    let disk = founded();
    let store = open(&disk).expect("opens");
    let mut source = Source::new(3);
    let batches: Vec<_> = (0..50).map(|_| source.batch()).collect();
    let mut expected = model();
    batches.iter().for_each(|batch| expected.apply(batch));

    disk.hold(true);
    let (reports, received) = channel();
    let committer = Committer::start(store, move |report| {
        reports.send(report).expect("the test listens");
    })
    .expect("starts");
    let syncs = disk.syncs();
    let mut numbered = (1..).zip(batches);
    let (number, batch) = numbered.next().expect("fifty");
    committer.submit(number, batch).expect("taken");
    disk.wait_for_held_sync();
    for (number, batch) in numbered {
        committer.submit(number, batch).expect("taken");
    }
    assert!(received.try_recv().is_err(), "nothing is durable yet");
    disk.hold(false);
    assert_eq!(received.recv(), Ok(Committed::Durable { batch: 1 }));
    assert_eq!(received.recv(), Ok(Committed::Durable { batch: 50 }));
    assert!(disk.syncs() - syncs <= 4, "{} syncs", disk.syncs() - syncs);
    assert!(committer.finish(Duration::from_secs(60)), "it is well");
    let store = open(&disk).expect("it was closed");
    let now = Model::from(store.load().expect("loads"));
    assert_eq!(now.text(), expected.text());
}

#[test]
fn a_failing_disk_is_reported_once_and_nothing_is_taken_after_it() {
    let disk = founded();
    let store = open(&disk).expect("opens");
    let mut source = Source::new(4);
    let (reports, received) = channel();
    let committer = Committer::start(store, move |report| {
        reports.send(report).expect("the test listens");
    })
    .expect("starts");
    committer.submit(1, source.batch()).expect("taken");
    assert_eq!(received.recv(), Ok(Committed::Durable { batch: 1 }));
    disk.power_for(0);
    committer.submit(2, source.batch()).expect("taken");
    let report = received.recv().expect("a report");
    assert!(matches!(report, Committed::Failed { .. }), "{report:?}");
    // The channel closes when the thread has ended.
    assert!(received.recv().is_err());
    let refused = committer.submit(3, source.batch());
    assert_eq!(refused, Err(Stalled { ended: true }));
}

#[test]
fn a_disk_far_behind_makes_submitting_fail_instead_of_waiting() {
    let disk = founded();
    let store = open(&disk).expect("opens");
    disk.hold(true);
    let committer = Committer::start(store, |_| {}).expect("starts");
    let snapshot = |bytes: usize| {
        let bytes = vec![0; bytes];
        vec![NodeWrite::Member(Write::Snapshot { applied: 0, bytes })]
    };
    // Many batches are no reason, bytes are.
    (1..20_000).for_each(|batch| committer.submit(batch, Vec::new()).expect("taken"));
    let stalled = (0..9).find_map(|n| committer.submit(20_000 + n, snapshot(8 << 20)).err());
    assert_eq!(stalled, Some(Stalled { ended: false }));
    // What is reported durable has no holes: a small one is not taken after that either.
    let later = committer.submit(20_009, Vec::new());
    assert_eq!(later, Err(Stalled { ended: false }));
    disk.hold(false);
    assert!(committer.finish(Duration::from_secs(60)));
}

#[tokio::test]
async fn an_async_loop_hears_of_durable_batches() {
    let disk = founded();
    let store = open(&disk).expect("opens");
    let (committer, mut reports) = Committer::channel(store).expect("starts");
    committer.submit(7, Source::new(5).batch()).expect("taken");
    assert_eq!(reports.recv().await, Some(Committed::Durable { batch: 7 }));
    drop(committer);
    assert_eq!(reports.recv().await, None);
}
