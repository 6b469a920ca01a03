//! The driver against libvirt's own mock hypervisor, which lives in this process.

use crate::clock::{self, Clock};
use crate::guardian::records::RunDir;
use crate::hypervisor::{Driver, Gate, Gone, Notice};
use crate::libvirt::add::{self, Rules};
use crate::libvirt::{Activity, Libvirt, Settings, Stopped, What};
use quorate_membership::{Time, Token};
use quorate_recovery::contract::GuestSeen;
use quorate_recovery::guest::{Definition, GuestId, GuestSpec, Needs, Policy};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

const URI: &str = "test:///default";
const E: Token = Token(5);

/// A run directory and a driver of its own; the mock's domains are everybody's, so each test
/// has its own cluster, name and UUID.
struct Lab {
    dir: tempfile::TempDir,
    driver: Libvirt,
    guest: GuestId,
}

impl Lab {
    fn new(number: u64) -> Lab {
        let dir = tempfile::tempdir().expect("a directory");
        RunDir::create(&dir.path().join("run")).expect("made");
        let driver = Lab::open(dir.path(), number);
        let guest = GuestId(number);
        Lab { dir, driver, guest }
    }

    fn open(dir: &Path, number: u64) -> Libvirt {
        Libvirt::new(Settings {
            uri: URI.to_owned(),
            run: RunDir::open(&dir.join("run")).expect("there"),
            boot: clock::boot_id(Path::new(clock::BOOT_ID_FILE)).expect("Linux"),
            host: "here".to_owned(),
            cluster: format!("cluster {number}"),
        })
        .expect("a driver")
    }

    fn name(&self) -> String {
        format!("g{}", self.guest.0)
    }

    fn xml(&self) -> String {
        let (name, n) = (self.name(), self.guest.0);
        format!(
            "<domain type='test'>\n<name>{name}</name>\n\
             <uuid>11111111-2222-3333-4444-{n:012x}</uuid>\n<memory unit='MiB'>64</memory>\n\
             <vcpu>1</vcpu>\n<os><type>hvm</type></os>\n</domain>\n"
        )
    }

    fn spec(&self) -> GuestSpec {
        GuestSpec {
            name: self.name(),
            definition: Definition::Domain { xml: self.xml() },
            needs: Needs::default(),
            priority: 0,
            policy: Policy::default(),
            probe: None,
        }
    }

    fn create(&self, epoch: Token) -> Result<(), String> {
        self.driver.create(self.guest, epoch, &self.spec(), &gate())
    }

    fn list(&self) -> Vec<GuestSeen> {
        self.driver.list().expect("the mock answers")
    }

    fn seen(&self, epoch: Token, paused: bool) -> Vec<GuestSeen> {
        let guest = self.guest;
        vec![GuestSeen {
            guest,
            epoch,
            paused,
        }]
    }

    fn registry(&self) -> usize {
        let files = std::fs::read_dir(self.dir.path().join("run/guests"));
        files.expect("listed").count()
    }

    /// What an operator does with the domain, by its name.
    fn by_hand(&self, act: impl Fn(&virt::domain::Domain) -> Result<(), virt::error::Error>) {
        let connect = virt::connect::Connect::open(Some(URI)).expect("the mock");
        let domain = connect.lookup_domain_by_name(&self.name());
        act(&domain.expect("there")).expect("done");
    }
}

fn gate() -> Gate {
    Gate::new(None, Clock.now() + Duration::from_secs(20))
}

#[test]
fn a_life_from_creation_to_its_end() {
    let lab = Lab::new(101);
    lab.create(E).expect("created");
    assert_eq!(lab.list(), lab.seen(E, true), "created held");
    lab.create(E).expect("the same life, held, is that guest");
    lab.driver.resume(lab.guest, E, &gate()).expect("runs");
    assert_eq!(lab.list(), lab.seen(E, false));
    lab.driver.pause(lab.guest, E, &gate()).expect("held");
    assert_eq!(lab.list(), lab.seen(E, true));
    lab.driver.end(lab.guest, E, &gate()).expect("ended");
    assert_eq!(lab.list(), []);
    assert_eq!(lab.registry(), 0, "nothing of it is left");
    lab.driver.end(lab.guest, E, &gate()).expect("still gone");
    let why = lab.driver.resume(lab.guest, E, &gate());
    assert!(why.expect_err("gone").contains("not on this host"));
}

#[test]
fn nothing_starts_beside_what_runs() {
    let lab = Lab::new(102);
    lab.create(E).expect("created");
    lab.driver.resume(lab.guest, E, &gate()).expect("runs");
    for epoch in [Token(4), E, Token(6)] {
        let why = lab.create(epoch).expect_err("refused");
        assert!(why.contains("runs here as guest"), "{why}");
    }
    assert_eq!(lab.list(), lab.seen(E, false), "it was left alone");
    lab.driver
        .end(lab.guest, Token(4), &gate())
        .expect("nothing so old");
    assert_eq!(
        lab.list(),
        lab.seen(E, false),
        "ends only its epoch and older"
    );
    lab.driver.end(lab.guest, Token(6), &gate()).expect("ended");
    assert_eq!(lab.list(), []);
}

#[test]
fn a_copy_started_by_hand_is_refused_and_never_ended() {
    let lab = Lab::new(103);
    let connect = virt::connect::Connect::open(Some(URI)).expect("the mock");
    let domain = connect.create_domain_xml(&lab.xml(), 0).expect("by hand");
    let why = lab.create(E).expect_err("refused");
    assert!(why.contains("started by somebody else"), "{why}");
    lab.driver.end(lab.guest, E, &gate()).expect("none of ours");
    assert_eq!(domain.is_active(), Ok(true));
    let found = lab.driver.survey().expect("the mock answers");
    let copy = found.iter().find(|f| f.name == lab.name()).expect("shown");
    assert_eq!((copy.activity, &copy.tag), (Some(Activity::Runs), &None));
    domain.destroy().expect("gone");
    // The same name under another UUID.
    let other = lab.xml().replacen("11111111", "99999999", 1);
    let domain = connect.create_domain_xml(&other, 0).expect("by hand");
    assert!(lab.create(E).is_err());
    domain.destroy().expect("gone");
    lab.create(E).expect("free now");
    lab.driver.end(lab.guest, E, &gate()).expect("ended");
}

#[test]
fn too_late_is_not_at_all() {
    let lab = Lab::new(104);
    let late = Gate::new(Some(Time(1)), Clock.now() + Duration::from_secs(20));
    let created = lab.driver.create(lab.guest, E, &lab.spec(), &late);
    assert_eq!(created, Err("too late".to_owned()));
    assert_eq!((lab.list(), lab.registry()), (vec![], 0));
    lab.create(E).expect("created");
    let why = lab.driver.resume(lab.guest, E, &late);
    assert_eq!(why, Err("too late".to_owned()));
    assert_eq!(lab.list(), lab.seen(E, true), "held as before");
    lab.driver.end(lab.guest, E, &gate()).expect("ended");
}

#[test]
fn what_libvirt_refuses_leaves_nothing() {
    let lab = Lab::new(105);
    let mut spec = lab.spec();
    // Read by nobody here, refused by libvirt.
    let xml = lab
        .xml()
        .replacen("<vcpu>", "<vcpu placement='nowhere'>", 1);
    spec.definition = Definition::Domain { xml };
    let why = lab.driver.create(lab.guest, E, &spec, &gate());
    assert!(why.expect_err("refused").contains("libvirt"));
    assert_eq!((lab.list(), lab.registry()), (vec![], 0));
    lab.create(E).expect("the next is free to start");
    lab.driver.end(lab.guest, E, &gate()).expect("ended");
}

#[test]
fn a_daemon_that_comes_back_finds_its_guests() {
    let lab = Lab::new(106);
    lab.create(E).expect("created");
    lab.driver.resume(lab.guest, E, &gate()).expect("runs");
    let next = Lab::open(lab.dir.path(), 106);
    assert_eq!(next.list().expect("answers"), lab.seen(E, false));
    let foreign = Lab::new(107);
    assert_eq!(
        foreign.list(),
        [],
        "another cluster's guests are none of ours"
    );
    next.end(lab.guest, E, &gate()).expect("ended");
    assert_eq!(next.list().expect("answers"), []);
}

fn heard(told: &mut mpsc::UnboundedReceiver<Notice>) -> Gone {
    match told.blocking_recv().expect("the watch goes on") {
        Notice::Gone(gone) => gone,
        Notice::Seen(..) => panic!("not gone"),
    }
}

#[test]
fn ends_nobody_ordered_are_told_with_their_reason() {
    let lab = Lab::new(108);
    let (tell, mut told) = mpsc::unbounded_channel();
    let (hear, mut events) = mpsc::unbounded_channel();
    lab.driver.watch(tell).expect("watches");
    assert!(
        lab.driver.watch(mpsc::unbounded_channel().0).is_err(),
        "once"
    );
    lab.driver.listen(hear);
    let give_up = Clock.now() + Duration::from_secs(30);
    while !lab.driver.inner.link.listens() {
        assert!(Clock.now() < give_up, "no events");
        std::thread::sleep(Duration::from_millis(5));
    }
    lab.create(E).expect("created");
    lab.driver.resume(lab.guest, E, &gate()).expect("runs");
    lab.by_hand(|d| d.destroy());
    let gone = heard(&mut told);
    assert_eq!((gone.guest, gone.epoch), (lab.guest, E));
    assert_eq!(gone.how, Stopped::Destroyed.words());
    assert_eq!((lab.list(), lab.registry()), (vec![], 0));
    // Every domain's events are heard; those of this one in their order.
    let id = 0x1111_1111_2222_3333_4444_0000_0000_0000 | u128::from(lab.guest.0);
    let mut mine = Vec::new();
    while !mine.contains(&What::Stopped(Stopped::Destroyed)) {
        let event = events.blocking_recv().expect("events");
        if event.uuid == id {
            mine.push(event.what);
        }
    }
    let at = |what: &What| mine.iter().position(|w| w == what);
    let (started, resumed) = (at(&What::Started), at(&What::Resumed));
    assert!(started.is_some() && started < resumed, "{mine:?}");
    // The next life under the same number is told of too.
    lab.create(Token(9)).expect("created");
    lab.by_hand(|d| d.shutdown());
    assert_eq!(heard(&mut told).epoch, Token(9));
    // One that was ordered is answered, not told of.
    lab.create(Token(10)).expect("created");
    lab.driver
        .end(lab.guest, Token(10), &gate())
        .expect("ended");
    lab.create(Token(11)).expect("created");
    lab.by_hand(|d| d.destroy());
    assert_eq!(heard(&mut told).epoch, Token(11));
}

#[test]
fn a_libvirt_that_is_away_is_blindness_not_emptiness() {
    let dir = tempfile::tempdir().expect("a directory");
    let driver = Libvirt::new(Settings {
        uri: "qemu+unix:///system?socket=/nonexistent/socket".to_owned(),
        run: RunDir::create(&dir.path().join("run")).expect("made"),
        boot: clock::boot_id(Path::new(clock::BOOT_ID_FILE)).expect("Linux"),
        host: "here".to_owned(),
        cluster: "away".to_owned(),
    })
    .expect("libvirt may be away");
    let why = driver.list().expect_err("blind");
    assert!(why.contains("/nonexistent/socket"), "{why}");
    assert!(driver.survey().is_err());
    let lab = Lab::new(109);
    let why = driver.create(lab.guest, E, &lab.spec(), &gate());
    assert!(why.is_err());
    assert_eq!(
        std::fs::read_dir(dir.path().join("run/guests"))
            .expect("listed")
            .count(),
        0
    );
    // Nothing was ever started here, and processes show that nothing is.
    driver
        .end(lab.guest, E, &gate())
        .expect("gone, whatever libvirt does");
}

#[test]
fn adding_says_what_a_new_user_needs_to_hear() {
    let lab = Lab::new(110);
    let name = lab.name();
    let rules = Rules::default();
    let from_domain = || add::from_domain(URI, &name, &rules);
    let why = from_domain().expect_err("unknown");
    assert!(why.contains("knows no domain"), "{why}");

    let connect = virt::connect::Connect::open(Some(URI)).expect("the mock");
    let domain = connect.define_domain_xml(&lab.xml()).expect("defined");
    let ready = from_domain().expect("may be added");
    assert_eq!(ready.spec.name, name);
    assert_eq!(
        ready.spec.needs,
        Needs {
            vcpus: 1,
            memory_mib: 64
        }
    );
    assert_eq!(ready.spec.check(), Ok(()));
    assert_eq!(ready.notes.len(), 1, "{:?}", ready.notes);

    domain.set_autostart(true).expect("set");
    let why = from_domain().expect_err("autostart");
    assert!(why.contains("virsh autostart --disable"), "{why}");
    let why = lab.create(E).expect_err("and no start beside it");
    assert!(why.contains("virsh autostart --disable"), "{why}");
    domain.set_autostart(false).expect("unset");

    domain.create().expect("started by hand");
    let why = from_domain().expect_err("runs");
    assert!(why.contains("virsh shutdown"), "{why}");
    domain.destroy().expect("ended");

    // What was added by name starts from its description, and its definition stays.
    let spec = ready.spec.clone();
    lab.driver
        .create(lab.guest, E, &spec, &gate())
        .expect("created");
    assert_eq!(lab.list(), lab.seen(E, true));
    lab.driver.end(lab.guest, E, &gate()).expect("ended");
    domain.undefine().expect("forgotten");

    let protected = Rules {
        protected: vec![spec],
        ..Rules::default()
    };
    let file = lab.dir.path().join("guest.xml");
    let from_file = |xml: &str, rules: &Rules| {
        std::fs::write(&file, xml).expect("written");
        add::from_file(&file, Some(URI), rules)
    };
    assert!(from_file(&lab.xml(), &rules).is_ok());
    let why = from_file(&lab.xml(), &protected).expect_err("twice");
    assert!(why.contains("protected already"), "{why}");
    let other = lab.xml().replacen("<name>g", "<name>h", 1);
    let why = from_file(&other, &protected).expect_err("same UUID");
    assert!(why.contains("UUID 11111111-2222-3333-4444-"), "{why}");
    let bad = lab.xml().replacen("</vcpu>", "</cpu>", 1);
    let why = from_file(&bad, &rules).expect_err("no XML");
    assert!(why.contains("guest.xml: line 5, column "), "{why}");
    let disk = "<devices><disk type='file'><driver cache='none'/><source file='/var/a.img'/>\
                <target dev='vda'/></disk></devices></domain>";
    let local = lab.xml().replacen("</domain>", disk, 1);
    let why = from_file(&local, &rules).expect_err("local disk");
    assert!(
        why.contains("disk vda: /var/a.img is on this host only"),
        "{why}"
    );
    let shared = Rules {
        shared: vec!["/var".to_owned()],
        ..Rules::default()
    };
    assert!(from_file(&local, &shared).is_ok());
    let cached = local.replacen("'none'", "'writeback'", 1);
    let why = from_file(&cached, &shared).expect_err("host cache");
    assert!(why.contains("directsync"), "{why}");
    assert!(add::from_file(Path::new("/nonexistent/x.xml"), None, &rules).is_err());
}
