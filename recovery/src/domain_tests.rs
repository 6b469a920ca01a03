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
    Domain::read(&GOOD.replacen(from, to, 1)).expect_err("refused")
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
    assert_eq!(d.disks[1].sources[0].to_string(), "rbd:pool/web1 at ceph1");
    assert_eq!(d.notes.len(), 1, "{:?}", d.notes);
    assert!(d.notes[0].contains("/boot/guest"));
    let graphics = "<graphics type='vnc' passwd='secret'/><hostdev/></devices>";
    let more = read(&GOOD.replacen("</devices>", graphics, 1));
    assert_eq!(more.notes.len(), 3, "{:?}", more.notes);
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
    assert!(Domain::read(&long).expect_err("long").contains("bytes"));
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
    assert!(Domain::read(&web).expect_err("refused").contains("vdb"));
    let none = GOOD.replacen("<source protocol", "<origin protocol", 1);
    let none = none.replacen("</source>", "</origin>", 1);
    let why = Domain::read(&none).expect_err("refused");
    assert!(why.contains("vdb has no source"), "{why}");
}

#[test]
fn a_disk_of_one_host_is_refused_wherever_in_the_chain() {
    let d = read(GOOD);
    d.check_shared(&shared(&["/shared"])).expect("all shared");
    d.check_shared(&shared(&["/x", "/shared/"]))
        .expect("shared");
    for dirs in [&[][..], &["/share"], &["/shared/web1"], &["relative"]] {
        let why = d.check_shared(&shared(dirs)).expect_err("local");
        assert!(why.starts_with("line 8, column 5: disk vda"), "{why}");
    }
    let base = GOOD.replacen("/shared/base.qcow2", "/var/lib/base.qcow2", 1);
    let why = read(&base).check_shared(&shared(&["/shared"]));
    assert!(why.expect_err("local").contains("/var/lib/base.qcow2"));
    let climbs = GOOD.replacen("/shared/web1", "/shared/../root/web1", 1);
    assert!(read(&climbs).check_shared(&shared(&["/shared"])).is_err());
    let handed = "<filesystem><source dir='/srv'/><target dir='t'/></filesystem></devices>";
    let handed = read(&GOOD.replacen("</devices>", handed, 1));
    let why = handed.check_shared(&shared(&["/shared"]));
    assert!(why.expect_err("local").contains("/srv"));
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
    let refused = |b: Domain| a.check_against("g2", &b).expect_err("refused");
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
    let why = spec("web2", GOOD).check().expect_err("another name");
    assert!(
        why.contains("\"web1\"") && why.contains("\"web2\""),
        "{why}"
    );
    let why = spec("web1", "<domain>").check().expect_err("no XML");
    assert!(why.contains("definition.domain.xml: line 1"), "{why}");
}
