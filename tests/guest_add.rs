//! `quorate guest add` as a new user meets it: the real program, against a daemon that takes note
//! of what it is asked, and libvirt's mock hypervisor.

mod common;

use common::{PROGRAM, ended, file};
use quorate::api::{ApiRequest, Grounds};
use quorate_recovery::contract::Request;
use quorate_recovery::guest::GuestSpec;
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;

/// A socket that answers like a daemon and changes nothing.
struct Stub {
    dir: tempfile::TempDir,
    asked: Receiver<Request>,
    serving: Option<JoinHandle<()>>,
}

impl Stub {
    fn new(grounds: Grounds) -> Stub {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join("sock")).expect("a socket");
        let (tell, asked) = mpsc::channel();
        let serving = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let mut line = String::new();
                let mut reader = BufReader::new(&stream);
                reader.read_line(&mut line).expect("a line");
                let Ok(request) = serde_json::from_str::<ApiRequest>(&line) else {
                    // The end of the test says nothing.
                    return;
                };
                let answer = match request {
                    ApiRequest::Grounds => json!({ "ok": grounds }),
                    ApiRequest::Ask(request) => {
                        tell.send(request).expect("a test that listens");
                        json!({ "ok": "it is protected" })
                    }
                    other => json!({ "error": format!("not expected: {other:?}") }),
                };
                writeln!(&stream, "{answer}").expect("a client that listens");
            }
        });
        Stub {
            dir,
            asked,
            serving: Some(serving),
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, name: &str, text: &str) -> String {
        file(self.path(), name, text).display().to_string()
    }

    fn add(&self, args: &[&str]) -> Output {
        let child = Command::new(PROGRAM)
            .args(["guest", "add", "--socket"])
            .arg(self.path().join("sock"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        ended(child.expect("the program runs"))
    }

    /// The guest the daemon was asked for.
    #[track_caller]
    fn added(&self, args: &[&str]) -> GuestSpec {
        let out = self.add(args);
        assert_eq!(out.status.code(), Some(0), "{out:?}");
        match self.asked.try_recv() {
            Ok(Request::AddGuest(spec)) => spec,
            other => panic!("not asked for a guest: {other:?}"),
        }
    }

    /// What is said of a refusal; the daemon must not have been asked for anything.
    #[track_caller]
    fn refused(&self, args: &[&str]) -> String {
        let out = self.add(args);
        assert_eq!(out.status.code(), Some(2), "{out:?}");
        assert!(out.stdout.is_empty(), "{out:?}");
        assert!(self.asked.try_recv().is_err(), "the daemon was asked");
        String::from_utf8(out.stderr).expect("UTF-8")
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        if let Ok(mut stream) = UnixStream::connect(self.path().join("sock")) {
            let _ = writeln!(stream);
        }
        let _ = self.serving.take().map(JoinHandle::join);
    }
}

fn nothing() -> Grounds {
    Grounds {
        libvirt: None,
        agents: None,
        guests: Vec::new(),
    }
}

const COMMAND: &str = "name = \"web\"\n[definition.command]\nargv = [\"/bin/true\"]\n\
                       [needs]\nvcpus = 2\nmemory_mib = 64\n";

#[test]
fn what_is_said_beside_a_description_is_taken_instead() {
    let stub = Stub::new(nothing());
    let web = stub.write("web.toml", COMMAND);
    let plain = stub.added(&[&web]);
    assert_eq!((plain.priority, plain.needs.vcpus), (0, 2));
    let with = stub.write(
        "with.toml",
        "priority = 5\n[needs]\nmemory_mib = 256\n[policy]\nrestarts_here = 7\n\
         [probe]\nargv = [\"/bin/true\"]\n",
    );
    let spec = stub.added(&[&web, "--with", &with]);
    assert_eq!(spec.priority, 5);
    assert_eq!((spec.needs.vcpus, spec.needs.memory_mib), (2, 256));
    assert_eq!(spec.policy.restarts_here, 7);
    assert!(spec.probe.is_some());
    let spec = stub.added(&[&web, "--with", &with, "--priority", "-3"]);
    assert_eq!(spec.priority, -3);

    let bad = stub.write("bad.toml", "priority = 5\nneedz = 1\n");
    let why = stub.refused(&[&web, "--with", &bad]);
    assert!(why.contains("bad.toml:2:1: "), "{why}");
    let none = stub.write("none.toml", "[needs]\nvcpus = 0\n");
    let why = stub.refused(&[&web, "--with", &none]);
    assert!(why.contains("needs: vcpus"), "{why}");
    for args in [&[][..], &[&web, "--domain", "web"], &["--xml", &web, &web]] {
        stub.refused(args);
    }
}

#[test]
fn a_dry_run_prints_a_description_that_can_be_added_and_changes_nothing() {
    let stub = Stub::new(nothing());
    let web = stub.write("web.toml", COMMAND);
    let out = stub.add(&[&web, "--priority", "3", "--dry-run"]);
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    assert!(stub.asked.try_recv().is_err(), "the daemon was asked");
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    let again = stub.write("again.toml", &text);
    assert_eq!(stub.added(&[&again]).priority, 3);
}

#[test]
fn the_agent_of_a_resource_is_asked_before_it_is_protected() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let agents = dir.path().join("resource.d");
    std::fs::create_dir_all(agents.join("test")).expect("made");
    let agent = |name: &str, text: &str| {
        let path = agents.join("test").join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
    };
    let xml = "<resource-agent name=\"a\"><parameters><parameter name=\"ip\" required=\"1\"/>\
               </parameters><actions/></resource-agent>";
    agent("good", &format!("#!/bin/sh\necho '{xml}'\n"));
    agent(
        "noisy",
        &format!("#!/bin/sh\necho 'warning: no locale'\necho '{xml}'\n"),
    );
    agent("broken", "#!/bin/sh\necho 'lost my library' >&2\nexit 5\n");
    let stub = Stub::new(Grounds {
        agents: Some(vec![agents.clone()]),
        ..nothing()
    });
    let resource = |kind: &str, parameters: &str| {
        let text = format!(
            "name = \"r\"\n[definition.ocf]\nagent = \"ocf:test:{kind}\"\n\
             [definition.ocf.parameters]\n{parameters}"
        );
        stub.write("r.toml", &text)
    };
    let good = resource("good", "ip = \"10.0.0.1\"\n");
    assert_eq!(stub.added(&[&good]).name, "r");
    let out = stub.add(&[&resource("good", "ip = \"1\"\nnik = \"x\"\n"), "--dry-run"]);
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    let said = String::from_utf8(out.stderr).expect("UTF-8");
    assert!(said.contains("does not name the parameter nik"), "{said}");
    for (kind, parameters, words) in [
        ("good", "", "needs the parameter ip"),
        ("noisy", "ip = \"1\"\n", "it begins \"warning: no locale"),
        ("broken", "ip = \"1\"\n", "lost my library"),
        ("typo", "ip = \"1\"\n", "no executable file"),
    ] {
        let why = stub.refused(&[&resource(kind, parameters)]);
        assert!(why.contains(words), "{kind}: {why}");
    }
}

#[cfg(not(feature = "libvirt"))]
#[test]
fn a_build_without_libvirt_says_so() {
    let stub = Stub::new(nothing());
    let xml = stub.write("web1.xml", "<domain/>");
    let spec = stub.write(
        "web1.toml",
        "name = \"web1\"\n[definition.domain]\nxml = '''<domain type='kvm'><name>web1</name>\
         <uuid>0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0</uuid><memory>65536</memory></domain>'''\n",
    );
    for args in [&["--domain", "web1"][..], &["--xml", &xml], &[&spec]] {
        let why = stub.refused(args);
        assert!(why.contains("build with --features libvirt"), "{why}");
    }
}

#[cfg(feature = "libvirt")]
#[allow(dead_code, reason = "shared with other tests")]
#[path = "libvirt_support/mod.rs"]
mod libvirt_support;

#[cfg(feature = "libvirt")]
mod domains {
    use super::*;
    use quorate::config::LibvirtSettings;
    use quorate_recovery::guest::{Definition, Needs};

    const MOCK: &str = "test:///default";

    fn here(shared: &[&str]) -> Grounds {
        Grounds {
            libvirt: Some(LibvirtSettings {
                uri: MOCK.into(),
                shared: shared.iter().map(|s| (*s).to_owned()).collect(),
            }),
            agents: None,
            guests: Vec::new(),
        }
    }

    fn xml(kind: &str, name: &str, number: u8, disk: &str) -> String {
        format!(
            "<domain type='{kind}'>\n  <name>{name}</name>\n  \
             <uuid>0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1{number:02x}</uuid>\n  \
             <memory unit='MiB'>512</memory>\n  <vcpu>2</vcpu>\n  <os><type>hvm</type></os>\n  \
             <devices>\n    <disk type='file' device='disk'>\n      \
             <driver name='qemu' type='qcow2' cache='none'/>\n      <source file='{disk}'/>\n      \
             <target dev='vda'/>\n    </disk>\n  </devices>\n</domain>\n"
        )
    }

    #[test]
    fn a_file_of_xml_is_taken_as_it_is_with_the_needs_it_states() {
        let stub = Stub::new(here(&["/var/lib/shared"]));
        let text = xml("kvm", "web1", 1, "/var/lib/shared/web1.qcow2");
        let good = stub.write("web1.xml", &text);
        let spec = stub.added(&["--xml", &good, "--priority", "10"]);
        assert_eq!((spec.name.as_str(), spec.priority), ("web1", 10));
        let qemu = 192 + 2 * 8 + 2;
        assert_eq!((spec.needs.vcpus, spec.needs.memory_mib), (2, 512 + qemu));
        assert_eq!(spec.definition, Definition::Domain { xml: text });
        // What a dry run prints is a description like any other, judged the same way.
        let out = stub.add(&["--xml", &good, "--dry-run"]);
        assert_eq!(out.status.code(), Some(0), "{out:?}");
        let printed = String::from_utf8(out.stdout).expect("UTF-8");
        let toml = stub.write("web1.toml", &printed);
        assert_eq!(stub.added(&[&toml]).definition, spec.definition);
        let elsewhere = printed.replace("/var/lib/shared/", "/srv/here/");
        let toml = stub.write("local.toml", &elsewhere);
        let why = stub.refused(&[&toml]);
        assert!(
            why.contains("/srv/here/web1.qcow2 is on this host only"),
            "{why}"
        );
    }

    #[test]
    fn a_bad_file_is_named_with_line_and_column() {
        let stub = Stub::new(here(&["/var/lib/shared"]));
        let good = xml("kvm", "web1", 1, "/var/lib/shared/web1.qcow2");
        for (from, to, said) in [
            ("</vcpu>", "</cpu>", "bad.xml: line 5, column "),
            ("<domain type='kvm'>", "<domain type='lxc'>", "kvm and qemu"),
            ("<memory unit='MiB'>512</memory>", "", "has no <memory>"),
            ("cache='none'", "cache='writeback'", "\"directsync\""),
            (
                "<domain type",
                "<!DOCTYPE d []><domain type",
                "bad.xml: line 1",
            ),
        ] {
            assert!(good.contains(from), "{from}");
            let bad = stub.write("bad.xml", &good.replacen(from, to, 1));
            let why = stub.refused(&["--xml", &bad]);
            assert!(why.contains(said), "{from}: {why}");
            assert!(why.contains("bad.xml: "), "{from}: {why}");
        }
        let why = stub.refused(&["--xml", "/nonexistent/x.xml"]);
        assert!(why.contains("/nonexistent/x.xml: "), "{why}");
    }

    #[test]
    fn a_disk_of_this_host_alone_is_refused_with_what_to_do() {
        for shared in [&[][..], &["/var/lib/shared"]] {
            let stub = Stub::new(here(shared));
            let local = xml("kvm", "web1", 1, "/var/lib/libvirt/images/web1.qcow2");
            let local = stub.write("web1.xml", &local);
            let why = stub.refused(&["--xml", &local]);
            assert!(
                why.contains("images/web1.qcow2 is on this host only"),
                "{why}"
            );
            assert!(why.contains("`shared` of [libvirt]"), "{why}");
        }
    }

    #[test]
    fn what_another_guest_has_is_refused_with_its_name() {
        let mut grounds = here(&["/s"]);
        let mut db: GuestSpec = toml::from_str(&COMMAND.replacen("web", "db", 1)).expect("good");
        db.definition = Definition::Domain {
            xml: xml("kvm", "db", 9, "/s/db.qcow2"),
        };
        grounds.guests.push(db);
        let stub = Stub::new(grounds);
        for (text, said) in [
            (
                xml("kvm", "web1", 9, "/s/web1.qcow2"),
                "guest db has its UUID",
            ),
            (
                xml("kvm", "web1", 1, "/s/db.qcow2"),
                "guest db has /s/db.qcow2",
            ),
            (
                xml("kvm", "db", 1, "/s/web1.qcow2"),
                "a guest db is protected",
            ),
        ] {
            let file = stub.write("web1.xml", &text);
            let why = stub.refused(&["--xml", &file]);
            assert!(why.contains(said), "{why}");
        }
    }

    /// A mock libvirt that knows one domain, in this state; 1 runs, 5 is off.
    fn mock(dir: &Path, state: u8) -> String {
        let domain = xml("test", "web1", 1, "/s/web1.qcow2");
        let space = "xmlns:test='http://libvirt.org/schemas/domain/test/1.0'";
        let domain = domain.replacen(
            "<domain type='test'>",
            &format!("<domain type='test' {space}>"),
            1,
        );
        let state = format!("<test:runstate>{state}</test:runstate></domain>");
        let domain = domain.replacen("</domain>", &state, 1);
        let path = file(dir, "node.xml", &format!("<node>{domain}</node>"));
        format!("test://{}", path.display())
    }

    #[test]
    fn a_domain_by_name_is_taken_when_it_is_off() {
        let stub = Stub::new(here(&["/s"]));
        let off = mock(stub.path(), 5);
        let out = stub.add(&["--domain", "web1", "--connect", &off, "--dry-run"]);
        assert_eq!(out.status.code(), Some(0), "{out:?}");
        let text = String::from_utf8(out.stdout).expect("UTF-8");
        let spec: GuestSpec = toml::from_str(&text).expect("a description");
        assert_eq!(
            (spec.name.as_str(), spec.needs.memory_mib),
            ("web1", 512 + 210)
        );
        let notes = String::from_utf8(out.stderr).expect("UTF-8");
        assert!(notes.contains("note: its definition stays"), "{notes}");
        // The mock runs nothing, so nothing of it is protected.
        let why = stub.refused(&["--domain", "web1", "--connect", &off]);
        assert!(why.contains("mock hypervisor"), "{why}");

        let why = stub.refused(&["--domain", "web2", "--connect", &off]);
        assert!(why.contains("knows no domain \"web2\""), "{why}");
        assert!(why.contains("virsh list --all"), "{why}");
        let runs = mock(stub.path(), 1);
        let why = stub.refused(&["--domain", "web1", "--connect", &runs, "--dry-run"]);
        assert!(why.contains("`virsh shutdown web1`"), "{why}");
        let why = stub.refused(&[
            "--domain",
            "web1",
            "--connect",
            "qemu+unix:///system?socket=/nonexistent",
        ]);
        assert!(why.contains("/nonexistent"), "{why}");
    }

    #[test]
    fn a_host_that_runs_no_domains_says_what_it_cannot_look_at() {
        let stub = Stub::new(nothing());
        let why = stub.refused(&["--domain", "web1"]);
        assert!(why.contains("has no [libvirt]"), "{why}");
        assert!(why.contains("--connect URI"), "{why}");
        let text = xml("kvm", "web1", 1, "/s/web1.qcow2").replace("type='file'", "type='network'");
        let text = text.replace(
            "<source file='/s/web1.qcow2'/>",
            "<source protocol='rbd' name='p/web1'/>",
        );
        let file = stub.write("web1.xml", &text);
        let out = stub.add(&["--xml", &file]);
        assert_eq!(out.status.code(), Some(0), "{out:?}");
        let notes = String::from_utf8(out.stderr).expect("UTF-8");
        assert!(notes.contains("note: no libvirt was asked"), "{notes}");
    }

    /// A real libvirtd, as an operator's: a domain he defined, set up to start at boot, ran.
    #[test]
    fn a_domain_of_a_real_libvirt_by_name() {
        let Some(house) = libvirt_support::House::build("a_domain_of_a_real_libvirt_by_name")
        else {
            return;
        };
        let spec = house.spec();
        let Definition::Domain { xml } = &spec.definition else {
            panic!("a domain: {spec:?}");
        };
        let shared = house.disk();
        let shared = shared.parent().expect("a directory").display().to_string();
        let mut grounds = here(&[&shared]);
        if let Some(libvirt) = &mut grounds.libvirt {
            libvirt.uri = house.uri();
        }
        let stub = Stub::new(grounds);
        let file = stub.write("domain.xml", xml);
        let virsh = |args: &[&str]| assert!(house.virsh(args).is_some(), "virsh {args:?}");
        virsh(&["define", &file]);
        let name = spec.name.as_str();
        virsh(&["autostart", name]);
        let why = stub.refused(&["--domain", name]);
        assert!(
            why.contains(&format!("`virsh autostart --disable {name}`")),
            "{why}"
        );
        let why = stub.refused(&["--xml", &file]);
        assert!(why.contains("autostart is set"), "{why}");
        virsh(&["autostart", "--disable", name]);
        virsh(&["start", "--paused", name]);
        let why = stub.refused(&["--domain", name]);
        assert!(why.contains("it runs here now"), "{why}");
        virsh(&["destroy", name]);
        let added = stub.added(&["--domain", name]);
        assert_eq!(
            (added.name, added.needs),
            (
                spec.name.clone(),
                Needs {
                    vcpus: 1,
                    // What QEMU itself takes is added.
                    memory_mib: 232
                }
            )
        );
        virsh(&["undefine", name]);
        let why = stub.refused(&["--domain", name]);
        assert!(why.contains("knows no domain"), "{why}");
        // Away: it cannot be told whether it runs, so nothing is added.
        let mut house = house;
        house.restart_libvirtd(|| {
            stub.refused(&["--xml", &file]);
        });
        assert_eq!(stub.added(&["--xml", &file]).name, spec.name);
    }
}
