//! The driver against libvirt's own mock hypervisor, which lives in this process.

use crate::clock::{self, Clock};
use crate::guardian::records::RunDir;
use crate::hypervisor::{Driver, Gate, Gone, Notice};
use crate::libvirt::add::{self, Rules};
use crate::libvirt::{Activity, Libvirt, Settings, Stopped, What};
use quorate_membership::{Time, Token};
use quorate_recovery::contract::GuestSeen;
use quorate_recovery::guest::{Definition, GuestId, GuestSpec, Needs, Policy};
use quorate_recovery::observation::{Cause, GuestEvent, Held, Observation, Sample};
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
            evidence: Some(dir.join("evidence")),
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
    loop {
        if let Notice::Gone(gone) = told.blocking_recv().expect("the watch goes on") {
            return gone;
        }
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
    assert_eq!(gone.cause, Cause::Died, "by hand");
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
    let gone = heard(&mut told);
    assert_eq!((gone.epoch, gone.cause), (Token(9), Cause::ShutDown));
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
fn what_is_done_to_a_guest_by_hand_is_told() {
    let lab = Lab::new(111);
    let (tell, mut told) = mpsc::unbounded_channel();
    lab.driver.watch(tell).expect("watches");
    let give_up = Clock.now() + Duration::from_secs(30);
    while !lab.driver.inner.link.listens() {
        assert!(Clock.now() < give_up, "no events");
        std::thread::sleep(Duration::from_millis(5));
    }
    lab.create(E).expect("created");
    lab.driver.resume(lab.guest, E, &gate()).expect("runs");
    lab.by_hand(|d| d.suspend().map(|_| ()));
    lab.by_hand(|d| d.resume().map(|_| ()));
    lab.by_hand(|d| d.destroy());
    let mut mine = Vec::new();
    let end = loop {
        match told.blocking_recv().expect("the watch goes on") {
            Notice::Seen(guest, epoch, Observation::Event(event)) => {
                assert_eq!((guest, epoch), (lab.guest, E));
                mine.push(event);
            }
            Notice::Seen(..) | Notice::Hold(..) => panic!("no event"),
            Notice::Gone(gone) => break gone,
        }
    };
    assert_eq!(end.cause, Cause::Died);
    let tail = [GuestEvent::Held(Held::Told), GuestEvent::Continued];
    assert!(mine.ends_with(&tail), "{mine:?}");
}

#[test]
fn samples_say_what_the_hypervisor_knows() {
    let lab = Lab::new(112);
    let sample = || -> Option<Sample> {
        let mut all = lab.driver.sample().expect("the mock answers");
        assert!(all.len() <= 1);
        let (guest, epoch, sample) = all.pop()?;
        assert_eq!((guest, epoch), (lab.guest, E));
        Some(sample)
    };
    assert_eq!(sample(), None);
    lab.create(E).expect("created");
    assert_eq!(sample().expect("there").held, Some(Held::Told));
    lab.driver.resume(lab.guest, E, &gate()).expect("runs");
    let one = sample().expect("there");
    assert_eq!((one.held, one.vcpus), (None, 1));
    assert!(one.at <= Clock.now() && one.at > Time::ZERO);
    lab.by_hand(|d| d.destroy());
    assert_eq!(sample(), None, "an end is not told by a sample");
    assert_eq!(lab.driver.list(), Ok(vec![]));
    assert_eq!(lab.driver.answering(), Ok(()));
}

#[test]
fn remedies_that_cannot_be_say_so() {
    let lab = Lab::new(113);
    let driver = &lab.driver;
    let captured = |lab: &Lab| {
        let place = lab.dir.path().join("evidence");
        let of = std::fs::read_dir(place.join(format!("{}-{:016x}", lab.name(), lab.guest.0)));
        of.map_or(0, Iterator::count)
    };
    assert!(driver.reset(lab.guest, E, &gate()).is_err(), "not there");
    assert!(driver.capture(lab.guest, E, "x", &gate()).is_err());
    lab.create(E).expect("created");
    let why = driver.reset(lab.guest, E, &gate()).expect_err("held");
    assert!(why.contains("held"), "{why}");
    driver.resume(lab.guest, E, &gate()).expect("runs");
    driver
        .capture(lab.guest, E, "a test", &gate())
        .expect("kept");
    assert_eq!(captured(&lab), 1);
    let late = Gate::new(Some(Time(1)), Clock.now() + Duration::from_secs(20));
    assert_eq!(driver.reset(lab.guest, E, &late), Err("too late".into()));
    assert!(driver.capture(lab.guest, E, "x", &late).is_err());
    assert_eq!(captured(&lab), 1);
    let probe = quorate_recovery::guest::Probe {
        argv: vec!["/bin/true".into()],
        every_ms: 1000,
        limit_ms: 1000,
        failures: 1,
    };
    let ran = driver.probe(lab.guest, E, &probe, &gate());
    assert!(ran.is_err(), "no agent: nothing follows; {ran:?}");
    driver.end(lab.guest, E, &gate()).expect("ended");
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
        evidence: None,
    })
    .expect("libvirt may be away");
    let why = driver.list().expect_err("blind");
    assert!(why.contains("/nonexistent/socket"), "{why}");
    assert!(driver.survey().is_err());
    let why = driver.answering().expect_err("blind");
    assert!(why.contains("/nonexistent/socket"), "{why}");
    assert_eq!(driver.sample(), Ok(vec![]), "nothing was started");
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
            memory_mib: 64 + 200
        }
    );
    assert_eq!(ready.spec.check(), Ok(()));
    assert_eq!(ready.notes.len(), 2, "{:?}", ready.notes);

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
