use super::*;

const GOOD: &str = r#"<domain type='kvm'>
  <name>web1</name>
  <uuid>0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0</uuid>
  <memory unit='MiB'>512</memory>
  <vcpu>2</vcpu>
  <os><type>hvm</type><kernel>/boot/guest</kernel></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none'/>
      <source file='/shared/web1.qcow2'/>
      <backingStore type='file'><source file='/shared/base.qcow2'/><backingStore/></backingStore>
      <target dev='vda'/>
    </disk>
    <disk type='network' device='disk'>
      <driver name='qemu' cache='directsync'/>
      <source protocol='rbd' name='pool/web1'><host name='ceph1'/></source>
      <target dev='vdb'/>
    </disk>
    <disk type='file' device='cdrom'><target dev='sda'/></disk>
    <interface type='bridge'><mac address='52:54:00:aa:bb:01'/></interface>
    <interface type='bridge'><mac address='52:54:00:aa:bb:02'/></interface>
  </devices>
</domain>"#;

fn read(xml: &str) -> Domain {
    Domain::read(xml).expect("a good description")
}

/// What is said of the good one with `from` replaced.
fn refusal(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from:?} is not in it");
    let refused = Domain::read(&GOOD.replacen(from, to, 1));
    refused.expect_err("refused").to_string()
}

fn shared(dirs: &[&str]) -> Vec<String> {
    dirs.iter().map(|d| (*d).to_owned()).collect()
}

#[test]
fn a_good_one_is_read_whole() {
    let d = read(GOOD);
    assert_eq!((d.kind.as_str(), d.name.as_str()), ("kvm", "web1"));
    assert_eq!(uuid(d.uuid), "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0");
    assert_eq!((d.needs.vcpus, d.needs.memory_mib), (2, 512));
    let macs: Vec<String> = d.macs.iter().map(Mac::to_string).collect();
    assert_eq!(macs, ["52:54:00:aa:bb:01", "52:54:00:aa:bb:02"]);
    let sources: Vec<usize> = d.disks.iter().map(|d| d.sources.len()).collect();
    assert_eq!(sources, [2, 1, 0], "image and base, network, empty drive");
    let kinds: Vec<DiskKind> = d.disks.iter().map(|d| d.kind).collect();
    assert_eq!(
        kinds,
        [DiskKind::Fixed, DiskKind::Fixed, DiskKind::Removable]
    );
    assert_eq!(d.disks[1].sources[0].to_string(), "rbd:pool/web1 at ceph1");
    assert!(d.notes[0].contains("/boot/guest"), "{:?}", d.notes);
    assert_eq!(d.notes.len(), 3, "kernel and two bridges: {:?}", d.notes);
    let graphics = "<graphics type='vnc' passwd='secret'/><hostdev/></devices>";
    let more = read(&GOOD.replacen("</devices>", graphics, 1));
    assert_eq!(more.notes.len(), 5, "{:?}", more.notes);
    assert!(!more.notes.iter().any(|n| n.contains("secret")));
}

#[test]
fn what_is_no_xml_is_placed() {
    let why = refusal("</vcpu>", "</cpu>");
    assert!(why.starts_with("line 5, column "), "{why}");
    assert!(Domain::read("").is_err());
    assert!(Domain::read("<domain").is_err());
    let entity = "<!DOCTYPE d [<!ENTITY a 'b'>]><domain type='kvm'><name>&a;</name></domain>";
    assert!(Domain::read(entity).is_err(), "no document types");
    let long = format!("<domain>{}</domain>", " ".repeat(LONGEST));
    assert!(
        Domain::read(&long)
            .expect_err("long")
            .to_string()
            .contains("bytes")
    );
}

#[test]
fn elements_within_elements_without_end_are_no_crash() {
    let deep = "<a>".repeat(LONGEST / 8);
    assert!(Domain::read(&deep).is_err());
    let deep = format!("{deep}{}", "</a>".repeat(LONGEST / 8));
    assert!(Domain::read(&deep).is_err());
}

#[test]
fn what_a_guest_is_known_by_must_be_there() {
    assert!(refusal("<name>web1</name>", "").contains("no <name>"));
    assert!(refusal("<name>web1</name>", "<name/>").contains("empty"));
    assert!(refusal("<name>", "<name>a</name><name>").contains("second <name>"));
    let id = "<uuid>0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0</uuid>";
    assert!(refusal(id, "").contains("no <uuid>"));
    let why = refusal(id, "<uuid>00000000-0000-0000-0000-000000000000</uuid>");
    assert!(why.starts_with("line 3, column 3: uuid"), "{why}");
    assert!(refusal("type='kvm'", "type='lxc'").contains("lxc"));
    assert!(refusal(">512<", ">-1<").contains("memory"));
    assert!(refusal(">2<", ">0<").contains("vcpu"));
}

#[test]
fn hardware_addresses_must_be_there_and_differ() {
    let first = "<mac address='52:54:00:aa:bb:01'/>";
    assert!(refusal(first, "").contains("drawn anew"));
    assert!(refusal(first, "<mac address='52:54:00:AA:BB:02'/>").contains("second interface"));
    let why = refusal(first, "<mac address='01:00:5e:00:00:01'/>");
    assert!(why.contains("one station"), "{why}");
}

#[test]
fn no_write_waits_in_the_hosts_memory() {
    for cache in ["cache='writeback'", "cache='unsafe'", "cache='default'", ""] {
        let why = refusal("cache='none'", cache);
        assert!(why.starts_with("line 9, column 7: disk vda"), "{why}");
        assert!(why.contains("directsync"), "{why}");
    }
    assert!(refusal("cache='directsync'", "cache='writeback'").contains("vdb"));
    // What is only read has nothing to lose.
    let read_only = GOOD.replacen("cache='none'/>", "/><readonly/>", 1);
    assert!(!read(&read_only).disks[0].writable);
}

#[test]
fn sources_nobody_can_judge_are_refused() {
    let volume = "<disk type='volume' device='disk'>";
    let why = refusal("<disk type='file' device='disk'>", volume);
    assert!(why.contains("\"volume\"") && why.contains("vda"), "{why}");
    let web = GOOD.replacen("<disk type='network'", "<disk type='nvme'", 1);
    let why = Domain::read(&web).expect_err("refused").to_string();
    assert!(why.contains("vdb"), "{why}");
    let none = GOOD.replacen("<source protocol", "<origin protocol", 1);
    let none = none.replacen("</source>", "</origin>", 1);
    let why = Domain::read(&none).expect_err("refused").to_string();
    assert!(why.contains("vdb has no source"), "{why}");
}

#[test]
fn a_disk_of_one_host_is_refused_wherever_in_the_chain() {
    let d = read(GOOD);
    d.check_shared(&shared(&["/shared"])).expect("all shared");
    d.check_shared(&shared(&["/x", "/shared/"]))
        .expect("shared");
    for dirs in [&[][..], &["/share"], &["/shared/web1"], &["relative"]] {
        let why = d
            .check_shared(&shared(dirs))
            .expect_err("local")
            .to_string();
        assert!(why.starts_with("line 8, column 5: disk vda"), "{why}");
    }
    let base = GOOD.replacen("/shared/base.qcow2", "/var/lib/base.qcow2", 1);
    let why = read(&base).check_shared(&shared(&["/shared"]));
    let why = why.expect_err("local").to_string();
    assert!(why.contains("/var/lib/base.qcow2"), "{why}");
    let handed =
        "<filesystem><source dir='/srv'/><target dir='t'/><readonly/></filesystem></devices>";
    let handed = read(&GOOD.replacen("</devices>", handed, 1));
    let why = handed.check_shared(&shared(&["/shared"]));
    assert!(why.expect_err("local").to_string().contains("/srv"));
}

#[test]
fn two_guests_share_nothing_that_is_one_guests() {
    let a = read(GOOD);
    let other = |id, name, mac: &str, file, rbd| {
        let xml = GOOD
            .replacen("0f1e2d3c", id, 1)
            .replacen("<name>web1", name, 1)
            .replace("52:54:00:aa:bb", mac)
            .replacen("/shared/web1.qcow2", file, 1)
            .replacen("pool/web1", rbd, 1);
        read(&xml)
    };
    let (id, name) = ("11111111", "<name>web2");
    let (mac, file, rbd) = ("52:54:00:aa:cc", "/shared/web2.qcow2", "pool/web2");
    let refused = |b: Domain| {
        let why = a.check_against("g2", &b).expect_err("refused");
        why.to_string()
    };
    a.check_against("g2", &other(id, name, mac, file, rbd))
        .expect("nothing but the base image in common");
    assert!(refused(other("0f1e2d3c", name, mac, file, rbd)).contains("UUID"));
    assert!(refused(other(id, "<name>web1", mac, file, rbd)).contains("name web1"));
    assert!(refused(other(id, name, "52:54:00:aa:bb", file, rbd)).contains("52:54:00:aa:bb:01"));
    let why = refused(other(id, name, mac, "/shared/web1.qcow2", rbd));
    assert!(
        why.contains("/shared/web1.qcow2") && why.contains("g2"),
        "{why}"
    );
    assert!(refused(other(id, name, mac, file, "pool/web1")).contains("rbd:pool/web1"));
    let above = refused(other(id, name, mac, "/shared/base.qcow2", rbd));
    assert!(
        above.contains("base"),
        "one writes what the other builds on: {above}"
    );
}

#[test]
fn one_image_is_one_however_it_is_spelt() {
    let a = read(GOOD);
    let other = |file: &str, rbd: &str| {
        let xml = GOOD
            .replacen("0f1e2d3c", "11111111", 1)
            .replacen("<name>web1", "<name>web2", 1)
            .replace("52:54:00:aa:bb", "52:54:00:aa:cc")
            .replacen("/shared/web1.qcow2", file, 1)
            .replacen("name='pool/web1'><host name='ceph1'/>", rbd, 1);
        read(&xml)
    };
    let own = "name='pool/web2'/>".trim_end_matches("/>").to_owned() + "><host name='ceph1'/>";
    for spelt in [
        "//shared/web1.qcow2",
        "/shared/./web1.qcow2",
        "/shared/web1.qcow2/",
    ] {
        let why = a.check_against("g2", &other(spelt, &own)).expect_err(spelt);
        assert!(why.to_string().contains("/shared/web1.qcow2"), "{why}");
    }
    for servers in [
        "",
        "<host name='10.0.0.1' port='6789'/>",
        "<host name='b'/><host name='CEPH1'/>",
    ] {
        let same = format!("name='pool/web1'>{servers}");
        let b = other("/shared/web2.qcow2", &same);
        assert!(a.check_against("g2", &b).is_err(), "{servers}");
    }
    a.check_against("g2", &other("/shared/web2.qcow2", &own))
        .expect("two images");
    // Servers of NBD have a name space each, ports too.
    let nbd = |port: u16| Source::Network {
        protocol: "nbd".into(),
        name: String::new(),
        servers: vec![format!("h:{port}")],
    };
    assert!(nbd(1).same(&nbd(1)) && !nbd(1).same(&nbd(2)));
    // What a host makes of these, nobody can tell from here.
    assert!(refusal("/shared/web1", "/shared/../web1").contains("climbs"));
    assert!(refusal("/shared/web1", "web1").contains("from the root"));
    let twice = "<disk type='file'><driver cache='none'/><source file='/shared/web1.qcow2'/>\
                 <target dev='vdc'/></disk></devices>";
    let why = refusal("</devices>", twice);
    assert!(why.contains("disk vdc") && why.contains("vda"), "{why}");
}

#[test]
fn what_libvirt_could_read_otherwise_is_refused() {
    let disk = "</devices><devices><disk type='file'><driver cache='writeback'/>\
                <source file='/var/lib/x'/><target dev='vdc'/></disk></devices>";
    assert!(refusal("</devices>", disk).contains("second <devices>"));
    assert!(refusal("web1<", "we<!-- c -->b1<").contains("no comment"));
    assert!(refusal("web1<", "web1<b/><").contains("no comment"));
    assert!(refusal("0f1e2d3c-", "0f1e<!-- -->2d3c-").contains("<uuid>"));
    assert!(refusal(">512<", ">5<!-- -->12<").contains("<memory>"));
    assert!(refusal(">web1<", ">\nweb1\n<").contains("blanks"));
    assert!(refusal(">web1<", ">a/b<").contains("allows neither"));
    let driver = "cache='none'/><driver name='qemu' cache='writeback'/>";
    assert!(refusal("cache='none'/>", driver).contains("second <driver>"));
    let source = "<source file='/x'/><source file='/shared/web1.qcow2'/>";
    let why = refusal("<source file='/shared/web1.qcow2'/>", source);
    assert!(why.contains("second <source>"), "{why}");
    let space = GOOD.replacen("<domain ", "<domain xmlns='urn:x' ", 1);
    assert!(Domain::read(&space).is_err());
}

#[test]
fn memory_is_what_libvirt_counts() {
    let mib = |from: &str, to: &str| read(&GOOD.replacen(from, to, 1)).needs.memory_mib;
    let memory = "<memory unit='MiB'>512</memory>";
    assert_eq!(mib(memory, "<memory unit='gib'>1</memory>"), 1024);
    let cells = "<memory unit='MiB'>1</memory><cpu><numa><cell id='0' memory='2' unit='GiB'/>\
                 <cell id='1' memory='1048576'/></numa></cpu>";
    assert_eq!(mib(memory, cells), 3072);
    let dimm =
        "<memory model='dimm'><target><size unit='MiB'>600</size></target></memory></devices>";
    assert_eq!(mib("</devices>", dimm), 600);
    let why = refusal("<memory unit='MiB'>512", "<memory unit='MB/s'>512");
    assert!(why.contains("no amount"), "{why}");
}

#[test]
fn a_failover_pair_has_one_address_and_nobody_else_has() {
    let pair = |alias: &str, names: &str| {
        format!(
            "<interface type='network'><source network='br'/><mac address='52:54:00:aa:bb:09'/>\
             <teaming type='persistent'/><alias name='{alias}'/></interface>\
             <interface type='hostdev'><mac address='52:54:00:aa:bb:09'/>\
             <teaming type='transient' persistent='{names}'/></interface></devices>"
        )
    };
    let good = read(&GOOD.replacen("</devices>", &pair("ua-b0", "ua-b0"), 1));
    assert_eq!(good.macs.len(), 3, "the pair's address counts once");
    let why = refusal("</devices>", &pair("ua-b0", "ua-b1"));
    assert!(why.contains("second interface"), "{why}");
    let third = pair("ua-b0", "ua-b0").replace(
        "</devices>",
        "<interface type='bridge'><mac address='52:54:00:aa:bb:09'/></interface></devices>",
    );
    assert!(refusal("</devices>", &third).contains("second interface"));
}

#[test]
fn a_disc_the_guest_starts_without_may_be_on_one_host() {
    let disc = |policy: &str, device: &str| {
        let disc = format!(
            "<disk type='file' device='{device}'><driver cache='none'/>\
             <source file='/iso/a' startupPolicy='{policy}'/><target dev='sdb'/></disk></devices>"
        );
        read(&GOOD.replacen("</devices>", &disc, 1))
    };
    let dirs = shared(&["/shared"]);
    let good = disc("optional", "cdrom");
    good.check_shared(&dirs).expect("it starts without");
    assert!(
        good.remarks(&dirs)
            .iter()
            .any(|r| r.contains("empty drive"))
    );
    for (policy, device) in [
        ("requisite", "cdrom"),
        ("mandatory", "cdrom"),
        ("optional", "disk"),
        ("optional", "floppy"),
    ] {
        assert!(
            disc(policy, device).check_shared(&dirs).is_err(),
            "{policy} {device}"
        );
    }
}

#[test]
fn what_stays_behind_or_is_needed_of_a_host_is_named() {
    let dirs = shared(&["/shared"]);
    let said = |from: &str, to: &str| {
        assert!(GOOD.contains(from), "{from:?} is not in it");
        read(&GOOD.replacen(from, to, 1)).remarks(&dirs).join("\n")
    };
    let os = "<kernel>/boot/guest</kernel>";
    let nvram = |path: &str| format!("<loader>/fw</loader><nvram template='/t'>{path}</nvram>");
    assert!(said(os, &nvram("/var/a.fd")).contains("this host only"));
    assert!(said(os, &nvram("/shared/a.fd")).contains("through the host's memory"));
    assert!(said("<os>", "<os firmware='efi'>").contains("variables"));
    let end = "</devices>";
    for (device, word) in [
        (
            "<tpm model='tpm-crb'><backend type='emulator'/></tpm>",
            "empty TPM",
        ),
        ("<tpm><backend type='passthrough'/></tpm>", "TPM is handed"),
        (
            "<interface type='hostdev'><mac address='2:0:0:0:0:1'/></interface>",
            "have the like",
        ),
        (
            "<interface type='network'><source network='n7'/><mac address='2:0:0:0:0:1'/></interface>",
            "network n7",
        ),
        (
            "<interface type='bridge'><source bridge='b7'/><mac address='2:0:0:0:0:1'/></interface>",
            "bridge b7",
        ),
        (
            "<interface type='vhostuser'><source path='/run/v'/><mac address='2:0:0:0:0:1'/></interface>",
            "/run/v",
        ),
    ] {
        let text = said(end, &format!("{device}{end}"));
        assert!(text.contains(word), "{device}: {text}");
    }
    let auth =
        "<auth username='a'><secret type='ceph' uuid='11111111-2222'/></auth><source protocol";
    assert!(said("<source protocol", auth).contains("secret 11111111-2222"));
    let huge = "<memoryBacking><hugepages/></memoryBacking><vcpu>";
    assert!(said("<vcpu>", huge).contains("huge pages"));
    // Firmware variables are a guest's own like a disk.
    let of = |name: &str| {
        let xml = GOOD.replacen(os, &nvram(name), 1);
        read(
            &xml.replace("52:54", "52:55")
                .replace("web1", "web2")
                .replace("0f1e2d3c", "11111111")
                .replace("rbd' name='pool/web1", "x"),
        )
    };
    let one = read(&GOOD.replacen(os, &nvram("/shared/a.fd"), 1));
    assert!(one.check_against("g2", &of("/shared/a.fd")).is_err());
}

#[test]
fn nothing_writes_for_a_guest_that_outlives_its_lease() {
    let end = "</devices>";
    for (device, word) in [
        (
            "<filesystem><driver type='virtiofs'/><source dir='/shared/d'/><target dir='t'/><readonly/></filesystem>",
            "virtiofs",
        ),
        (
            "<filesystem><source dir='/shared/d'/><target dir='t'/></filesystem>",
            "<readonly/>",
        ),
        (
            "<disk type='vhostuser'><source type='unix' path='/run/q'/><target dev='vdx'/></disk>",
            "lease does not end",
        ),
        (
            "<tpm><backend type='emulator'><source type='dir' path='/shared/t'/></backend></tpm>",
            "swtpm",
        ),
        (
            "<memory model='nvdimm'><source><path>/shared/n</path></source><target><size unit='MiB'>1</size></target></memory>",
            "nvdimm",
        ),
    ] {
        let why = refusal(end, &format!("{device}{end}"));
        assert!(why.contains(word), "{device}: {why}");
    }
    let helped = "<source file='/shared/web1.qcow2'><reservations managed='yes'/></source>";
    let why = refusal("<source file='/shared/web1.qcow2'/>", helped);
    assert!(why.contains("helper process"), "{why}");
    let why = refusal("<target dev='vda'/>", "<target dev='vda'/><transient/>");
    assert!(why.contains("throws its writes away"), "{why}");
    let data = "<source file='/shared/web1.qcow2'><dataStore type='file'><source file='/loc/d'/></dataStore></source>";
    let d = read(&GOOD.replacen("<source file='/shared/web1.qcow2'/>", data, 1));
    assert!(
        d.check_shared(&shared(&["/shared"])).is_err(),
        "a data file is an image too"
    );
}

#[test]
fn damaged_descriptions_are_refused_or_read_but_never_a_panic() {
    for at in (0..GOOD.len()).filter(|at| GOOD.is_char_boundary(*at)) {
        for put in ["", "<", "'", "\u{0}", "é"] {
            let text = format!("{}{put}{}", &GOOD[..at], &GOOD[at + 1..]);
            if let Ok(domain) = Domain::read(&text) {
                assert!(domain.uuid != 0 && !domain.name.is_empty());
                assert!(domain.macs.len() <= 2, "{at} {put:?}");
            }
        }
        assert!(Domain::read(&GOOD[..at]).is_err(), "cut short at {at}");
    }
}

#[test]
fn a_guest_and_its_domain_have_one_name() {
    use crate::guest::{Definition, GuestSpec, Policy};
    let spec = |name: &str, xml: &str| GuestSpec {
        name: name.to_owned(),
        definition: Definition::Domain {
            xml: xml.to_owned(),
        },
        needs: Needs::default(),
        priority: 0,
        policy: Policy::default(),
        probe: None,
    };
    assert_eq!(spec("web1", GOOD).check(), Ok(()));
    for name in [
        "Windows Server 2022",
        "веб-сервер",
        "db(prod)",
        &"a".repeat(65),
    ] {
        let xml = GOOD.replacen("<name>web1", &format!("<name>{name}"), 1);
        assert_eq!(spec(name, &xml).check(), Ok(()), "{name}");
    }
    for name in [
        "a;b",
        "$(x)",
        "-rf",
        "a  b",
        "a\u{202e}b",
        "e\u{301}",
        "a&amp;b",
    ] {
        let xml = GOOD.replacen("<name>web1", &format!("<name>{name}"), 1);
        let why = spec(&name.replace("&amp;", "&"), &xml).check();
        assert!(why.expect_err(name).contains("domrename"), "{name}");
    }
    assert_eq!(quoted("web1"), "web1");
    assert_eq!(quoted("it's a"), r"'it'\''s a'");
    let why = spec("web2", GOOD).check().expect_err("another name");
    assert!(
        why.contains("\"web1\"") && why.contains("\"web2\""),
        "{why}"
    );
    let why = spec("web1", "<domain>").check().expect_err("no XML");
    assert!(why.contains("definition.domain.xml: line 1"), "{why}");
}
