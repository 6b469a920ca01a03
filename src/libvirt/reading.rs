//! What libvirt itself makes of a description, compared with what was read here.
//!
//! The reader of the mock hypervisor that libvirt carries in every process is the one that all its
//! hypervisors share, so a description is judged on the side and nothing is defined anywhere else.

use super::link::{Failure, Link};
use super::survey;
use quorate_recovery::domain::{Domain, Source};
use roxmltree::Document;
use std::time::Duration;
use virt::sys;

/// libvirt's mock hypervisor, within this process.
const MOCK: &str = "test:///default";
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Compares what libvirt reads with what was read here. `Ok(false)` if the mock hypervisor cannot
/// take such a domain: nothing follows.
///
/// # Errors
/// libvirt reads something else, or reads something that is refused: what.
pub(super) fn agrees(xml: &str, domain: &Domain) -> Result<bool, String> {
    let Some(text) = retyped(xml) else {
        return Ok(false);
    };
    let (name, id) = (domain.name.clone(), domain.uuid);
    let link = Link::deaf(MOCK, 1);
    let read = link.call(PATIENCE, move |c| {
        if !survey::alike(c, &name, id)?.is_empty() {
            // The mock is what the operator named: its own domain is left alone.
            return Ok(None);
        }
        let Ok(defined) = c.define_domain_xml(&text) else {
            return Ok(None);
        };
        let flags = sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE;
        let said = defined.xml_desc(flags);
        defined.undefine()?;
        Ok(Some(said?))
    });
    let Ok(Some(said)) = read else {
        return Ok(false);
    };
    let theirs = Domain::read(&said)
        .map_err(|why| format!("libvirt reads it otherwise, and as libvirt reads it: {why}"))?;
    let differs = |what: &str| {
        Err(format!(
            "libvirt reads another {what} than is written here at first sight; `virsh define` and \
             `virsh dumpxml --inactive` show how"
        ))
    };
    if theirs.name != domain.name {
        return differs("name");
    }
    if theirs.uuid != domain.uuid {
        return differs("UUID");
    }
    if theirs.macs != domain.macs {
        return differs("hardware address");
    }
    if theirs.needs.vcpus > domain.needs.vcpus || theirs.needs.memory_mib > domain.needs.memory_mib
    {
        return differs("amount of memory or number of processors");
    }
    // Settings of its own are filled in; what the guest reads and writes is compared.
    let images = |d: &Domain| {
        let images = d.disks.iter();
        let images = images.map(|d| (d.target.clone(), d.sources.clone(), d.writable, d.shareable));
        let mut images: Vec<(String, Vec<Source>, bool, bool)> = images.collect();
        images.sort();
        images
    };
    if images(&theirs) != images(domain) {
        return differs("set of disks");
    }
    Ok(true)
}

/// The description for the mock hypervisor.
fn retyped(xml: &str) -> Option<String> {
    let doc = Document::parse(xml).ok()?;
    let root = doc.root_element();
    let range = root.attribute_node("type")?.range_value();
    let mut text = xml.to_owned();
    text.replace_range(range, "test");
    Some(text)
}

/// The description with its machine's name resolved: `pc` and `q35` mean another machine in each
/// release of QEMU, and a guest would find other devices on a host with another one.
pub(super) fn resolved(link: &Link, xml: &str) -> Result<String, Failure> {
    let Some((kind, arch, machine)) = machine(xml) else {
        return Ok(xml.to_owned());
    };
    let asked = (kind, arch, machine.clone());
    let said = link.call(PATIENCE, move |c| {
        let (kind, arch, machine) = asked;
        Ok(c.domain_capabilities(None, arch.as_deref(), machine.as_deref(), Some(&kind), 0)?)
    })?;
    let unclear = || Failure::no("libvirt's capabilities name no machine");
    let doc = Document::parse(&said).map_err(|_| unclear())?;
    let found = doc.root_element().children();
    let found = found
        .filter(|n| n.has_tag_name("machine"))
        .find_map(|n| n.text());
    let canonical = found.ok_or_else(unclear)?;
    if machine.as_deref() == Some(canonical) {
        return Ok(xml.to_owned());
    }
    Ok(with_machine(xml, canonical).unwrap_or_else(|| xml.to_owned()))
}

/// Hypervisor, architecture and machine of a description.
fn machine(xml: &str) -> Option<(String, Option<String>, Option<String>)> {
    let doc = Document::parse(xml).ok()?;
    let root = doc.root_element();
    let os = root.children().find(|n| n.has_tag_name("os"))?;
    let kind = os.children().find(|n| n.has_tag_name("type"))?;
    let of = |name: &str| kind.attribute(name).map(str::to_owned);
    Some((
        root.attribute("type")?.to_owned(),
        of("arch"),
        of("machine"),
    ))
}

/// The same description with another machine.
fn with_machine(xml: &str, machine: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if machine.is_empty() || !machine.chars().all(plain) {
        return None;
    }
    let doc = Document::parse(xml).ok()?;
    let os = doc
        .root_element()
        .children()
        .find(|n| n.has_tag_name("os"))?;
    let kind = os.children().find(|n| n.has_tag_name("type"))?;
    let mut text = xml.to_owned();
    match kind.attribute_node("machine") {
        Some(old) => text.replace_range(old.range_value(), machine),
        None => {
            let at = kind.range().start + "<type".len();
            text.insert_str(at, &format!(" machine='{machine}'"));
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xml(devices: &str) -> String {
        format!(
            "<domain type='kvm'><name>side</name><uuid>5ee5ee5e-1111-2222-3333-444444444444</uuid>\
             <memory unit='MiB'>64</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>\
             <devices>{devices}</devices></domain>"
        )
    }

    const DISK: &str = "<disk type='file' device='disk'><driver name='qemu' cache='none'/>\
                        <source file='/s//a'/><target dev='vda'/></disk>";

    #[test]
    fn what_libvirt_reads_is_compared() {
        let text = xml(DISK);
        let read = Domain::read(&text).expect("good");
        assert_eq!(agrees(&text, &read), Ok(true));
        let mut other = read.clone();
        other.disks[0].writable = false;
        assert!(
            agrees(&text, &other)
                .expect_err("another")
                .contains("disks")
        );
        let mut other = read.clone();
        other.needs.memory_mib = 1;
        assert!(agrees(&text, &other).expect_err("less").contains("memory"));
        let mut other = read;
        other.name = "x".into();
        assert!(agrees(&text, &other).expect_err("another").contains("name"));
    }

    #[test]
    fn a_machine_is_written_by_its_full_name() {
        let text = xml(DISK);
        let new = with_machine(&text, "pc-q35-7.2").expect("changed");
        assert_eq!(new, text.replace("'q35'", "'pc-q35-7.2'"));
        let bare = text.replace(" machine='q35'", "");
        assert!(with_machine(&bare, "pc-q35-7.2").is_some_and(|t| machine(&t).is_some()));
        assert_eq!(with_machine(&text, "a' b='"), None);
    }
}
