//! What a guest is made of changes past the cluster.

use crate::rig::{Rig, domain};
use quorate_membership::NodeId;
use quorate_recovery::contract::{EventKind, Fact, Request};
use quorate_recovery::domain::Source;
use quorate_recovery::domain::layout::{Layout, Plate, Top};
use quorate_recovery::guest::Definition;
use quorate_recovery::images::{PATH, SCRATCH_MAX, ScratchImage, Stamp};
use quorate_recovery::observation::Cause;

fn running() -> (Rig, NodeId) {
    let mut rig = Rig::new(3);
    rig.run(3_000);
    rig.ask(1, Request::AddGuest(domain("a", 1, "a.raw")))
        .expect("added");
    rig.run(5_000);
    let host = rig.running("a")[0];
    (rig, host)
}

fn other(host: NodeId) -> u32 {
    if host == NodeId(1) { 2 } else { 1 }
}

/// The parts of the record of `a`.
fn record(rig: &Rig, on: u32) -> Layout {
    let app = rig.node(on).member().app();
    let (_, r) = app.named("a").expect("protected");
    let Definition::Domain { xml } = &r.spec.definition else {
        panic!("no domain");
    };
    Layout::read(xml).expect("readable")
}

/// Its host sees it made like this; images at these paths are there.
fn seen(rig: &mut Rig, host: NodeId, layout: Layout, there: &[&str]) {
    backed_up(rig, host, layout, there, None);
}

/// The same, and these images of backups.
fn backed_up(
    rig: &mut Rig,
    host: NodeId,
    layout: Layout,
    there: &[&str],
    scratch: Option<Vec<ScratchImage>>,
) {
    let (guest, epoch) = (rig.id("a"), rig.epoch("a"));
    let stamp = |path: &&str| {
        let stamp = Stamp {
            inode: 7,
            written_ns: 1,
        };
        ((*path).to_owned(), stamp)
    };
    let machine = Fact::Machine {
        guest,
        epoch,
        layout: Box::new(layout),
        stamps: there.iter().map(stamp).collect(),
        scratch,
    };
    rig.post(host, machine);
    rig.run(2_000);
}

/// The record with another top image.
fn with(record: &Layout, path: &str, job: bool) -> Layout {
    let mut layout = record.clone();
    let top = Top {
        source: Source::Path(path.into()),
        device: false,
        format: "qcow2".into(),
    };
    let plate = Plate {
        top: Some(top),
        job,
    };
    let disk = layout.disks.keys().next().expect("a disk").clone();
    layout.disks.insert(disk, plate);
    layout
}

fn kinds(rig: &Rig, on: u32) -> Vec<&'static str> {
    let row = rig.node(on).guests(rig.now()).remove(0);
    row.holds.iter().map(|h| h.kind).collect()
}

#[test]
fn a_record_follows_its_image_and_only_who_has_read_it_takes_the_guest() {
    let (mut rig, host) = running();
    let on = other(host);
    let before = record(&rig, on);
    let new = with(&before, "/shared/a.1", false);
    seen(
        &mut rig,
        host,
        new.clone(),
        &["/shared/a.raw", "/shared/a.1"],
    );
    assert_eq!(record(&rig, on).disks, new.disks);
    assert!(kinds(&rig, on).is_empty());
    rig.power_off(host);
    rig.run(40_000);
    assert!(rig.running("a").is_empty(), "nobody has read its image");
    let guest = rig.id("a");
    let followed = rig.node(on).member().app().guests[&guest].images.followed;
    rig.post(NodeId(on), Fact::ImagesRead { guest, followed });
    rig.run(5_000);
    assert_eq!(rig.running("a"), [NodeId(on)]);
    let left = &rig.node(on).member().app().guests[&guest].images.left;
    assert_eq!(left[0].path, "/shared/a.raw");
}

#[test]
fn the_locks_of_a_guest_that_runs_follow_it_to_its_new_image() {
    let (mut rig, host) = running();
    let (base, top) = ("/shared/a.raw".to_owned(), "/shared/a.1".to_owned());
    let left = rig.locks[&base].expect("a lock");
    let new = with(&record(&rig, other(host)), &top, false);
    seen(&mut rig, host, new, &[&base, &top]);
    let lock = rig.locks[&top].expect("a lock");
    assert_eq!(lock.life, left.life, "of the life that goes on");
    assert_eq!(rig.locks[&base], Some(left), "what it left keeps its lock");
    // A description that a person gives is followed as well.
    let adopted = "/shared/a.2".to_owned();
    let Definition::Domain { xml } = domain("a", 1, "a.2").definition else {
        panic!("no domain");
    };
    let adopt = Request::AdoptGuest {
        name: "a".into(),
        xml,
    };
    rig.ask(other(host), adopt).expect("taken over");
    rig.run(2_000);
    assert_eq!(rig.running("a"), [host]);
    assert_eq!(rig.locks[&adopted].map(|l| l.life), Some(left.life));
}

#[test]
fn the_log_has_the_images_of_backups_as_their_host_told_last() {
    let (mut rig, host) = running();
    let on = other(host);
    let before = record(&rig, on);
    let guest = rig.id("a");
    let image = |path: String| ScratchImage {
        path,
        inode: 9,
        made_ns: 1,
    };
    let known = |rig: &Rig| {
        rig.node(on).member().app().guests[&guest]
            .images
            .scratch
            .clone()
    };
    let one = vec![image("/shared/a.1".into())];
    backed_up(&mut rig, host, before.clone(), &[], Some(one.clone()));
    assert_eq!(known(&rig), one);
    assert!(kinds(&rig, on).is_empty());
    seen(&mut rig, host, before.clone(), &[]);
    assert_eq!(known(&rig), one, "nobody could look");
    // No more and no longer than the log takes.
    let mut many: Vec<ScratchImage> = (0..2 * SCRATCH_MAX).map(|n| image(n.to_string())).collect();
    many.insert(0, image("x".repeat(PATH + 1)));
    backed_up(&mut rig, host, before.clone(), &[], Some(many.clone()));
    assert_eq!(known(&rig), many[1..=SCRATCH_MAX]);
    backed_up(&mut rig, host, before.clone(), &[], Some(one.clone()));
    // One that the guest writes to itself is none.
    let new = with(&before, "/shared/a.1", false);
    seen(&mut rig, host, new, &["/shared/a.raw", "/shared/a.1"]);
    assert!(known(&rig).is_empty());
}

#[test]
fn a_record_follows_though_those_who_add_guests_have_used_up_their_space() {
    let (mut rig, host) = running();
    let on = other(host);
    let mut size = 60_000;
    for n in 0.. {
        assert!(n < 1000, "nothing bounds them");
        let mut more = crate::rig::guest(&format!("f{n}"));
        more.definition = Definition::Command {
            argv: vec!["/bin/true".into(), "a".repeat(size)],
            env: Default::default(),
            images: Vec::new(),
        };
        more.needs.memory_mib = 1;
        match rig.ask(on, Request::AddGuest(more)) {
            Ok(_) => {}
            Err(_) if size > 10 => size /= 2,
            Err(why) => {
                assert!(why.contains("bytes"), "{why}");
                break;
            }
        }
    }
    let path = format!("/shared/{}.1", "a".repeat(200));
    let new = with(&record(&rig, on), &path, false);
    seen(&mut rig, host, new.clone(), &["/shared/a.raw", &path]);
    assert_eq!(record(&rig, on).disks, new.disks);
    assert!(kinds(&rig, on).is_empty());
}

#[test]
fn a_record_that_cannot_follow_holds_its_guest() {
    let (mut rig, host) = running();
    let on = other(host);
    rig.ask(1, Request::AddGuest(domain("b", 2, "b.raw")))
        .expect("added");
    rig.run(5_000);
    let new = with(&record(&rig, on), "/shared/b.raw", false);
    seen(&mut rig, host, new, &["/shared/a.raw", "/shared/b.raw"]);
    assert_eq!(kinds(&rig, on), ["drift"]);
    rig.power_off(host);
    rig.run(40_000);
    assert!(
        rig.running("a").is_empty(),
        "not from the image that it left"
    );
}

#[test]
fn what_harms_no_disk_is_told_once_and_holds_nothing() {
    let (mut rig, host) = running();
    let on = other(host);
    let before = record(&rig, on);
    let mut live = before.clone();
    assert!(live.minor.insert("network card 52:54:00:00:00:01".into()));
    let told = |rig: &Rig| -> Vec<String> {
        let alerts = rig.heard(EventKind::Alert).into_iter();
        let about = alerts.filter(|text| text.contains("harms no disk"));
        about.map(str::to_owned).collect()
    };
    for _ in 0..2 {
        seen(&mut rig, host, live.clone(), &[]);
        let told = told(&rig);
        let [one] = told.as_slice() else {
            panic!("{told:?}");
        };
        assert!(one.contains("network card"), "{one}");
    }
    assert!(kinds(&rig, on).is_empty());
    seen(&mut rig, host, before, &[]);
    seen(&mut rig, host, live, &[]);
    assert_eq!(told(&rig).len(), 2, "plugged in once more");
}

#[test]
fn a_block_job_holds_a_guest_until_it_is_over() {
    let (mut rig, host) = running();
    let on = other(host);
    let before = record(&rig, on);
    seen(&mut rig, host, with(&before, "/shared/a.raw", true), &[]);
    assert_eq!(kinds(&rig, on), ["new-top"]);
    seen(&mut rig, host, before, &[]);
    assert!(kinds(&rig, on).is_empty());
    assert_eq!(rig.running("a"), [host], "it runs on all the while");
}

#[test]
fn what_cannot_be_followed_holds_the_guest_until_a_person_takes_it_over() {
    let (mut rig, host) = running();
    let on = other(host);
    let before = record(&rig, on);
    // Nobody found the image.
    let strange = with(&before, "/shared/a.1", false);
    seen(&mut rig, host, strange, &[]);
    assert_eq!(kinds(&rig, on), ["drift"]);
    let mut more = before.clone();
    more.disks.insert("vdz".into(), Plate::default());
    seen(&mut rig, host, more, &[]);
    assert_eq!(kinds(&rig, on), ["drift"]);
    rig.crash_guest("a");
    rig.run(5_000);
    assert!(rig.running("a").is_empty(), "not on its own host either");
    let Definition::Domain { xml } = domain("a", 1, "a.2").definition else {
        panic!("no domain");
    };
    let adopt = |name: &str, xml: &str| Request::AdoptGuest {
        name: name.into(),
        xml: xml.into(),
    };
    assert!(rig.ask(on, adopt("b", &xml)).is_err());
    assert!(rig.ask(on, adopt("a", "<domain/>")).is_err());
    rig.ask(on, adopt("a", &xml)).expect("taken over");
    rig.run(5_000);
    assert_eq!(rig.running("a"), [host]);
    assert!(kinds(&rig, on).is_empty());
}

#[test]
fn a_guest_that_is_brought_here_by_hand_is_ended_and_that_is_told() {
    let (mut rig, host) = running();
    let there = NodeId(other(host));
    let (guest, epoch) = (rig.id("a"), rig.epoch("a"));
    rig.late_creation(there, guest, epoch);
    rig.poll(there);
    rig.run(2_000);
    assert_eq!(rig.running("a"), [host]);
    let told = rig.heard(EventKind::Ended);
    assert!(told.iter().any(|text| text.contains("by hand")), "{told:?}");
}

#[test]
fn a_guest_taken_away_by_hand_is_held_and_started_nowhere() {
    let (mut rig, host) = running();
    rig.guest_ends("a", Cause::Taken);
    rig.run(20_000);
    assert!(rig.running("a").is_empty());
    let on = other(host);
    assert_eq!(kinds(&rig, on), ["by-hand"]);
    rig.power_off(host);
    rig.run(40_000);
    assert!(rig.running("a").is_empty());
}
