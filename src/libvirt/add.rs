//! `quorate guest add` of a domain: from libvirt by name, or from a file.
//!
//! Everything that would let a guest run twice, lose writes or be unable to start elsewhere is
//! refused here, with the reason and what to do about it.

use super::images::Images;
use super::link::{Kind, Link};
use super::reading;
use super::survey::{self, Found};
use crate::config::boot_service;
use quorate_recovery::domain::{Domain, LONGEST, Refusal, quoted, uuid};
use quorate_recovery::guest::{Definition, GuestSpec, Needs, Policy};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use virt::sys;

/// How long libvirt may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// QEMU's own memory beside the guest's, in MiB: once, for each virtual CPU, and for each so many
/// MiB of the guest's memory. A few hundred MiB are usual; a host that is filled to its last MiB
/// ends guests for want of memory.
const QEMU_MIB: u64 = 192;
const QEMU_MIB_PER_CPU: u64 = 8;
const QEMU_SHARE: u64 = 256;

/// What a new guest is judged by.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Directories and devices that every host reaches, as the operator declared them.
    pub shared: Vec<String>,
    /// The guests that are protected already.
    pub protected: Vec<GuestSpec>,
}

/// A guest that may be added.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// What to ask the cluster for.
    pub spec: GuestSpec,
    /// What the operator should know although nothing is refused for it.
    pub notes: Vec<String>,
}

/// A domain that the libvirt at `uri` knows.
///
/// # Errors
/// libvirt does not answer, it knows no such domain, or the domain cannot be protected: the
/// reason, and what to do.
pub fn from_domain(uri: &str, name: &str, rules: &Rules) -> Result<Ready, String> {
    let wanted = name.to_owned();
    let found = link(uri).call(PATIENCE, move |c| {
        let Some(domain) = survey::named(c, &wanted)? else {
            return Ok(None);
        };
        // As it would be started anew, not as it was changed since it started.
        let flags = sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE;
        let xml = domain.xml_desc(flags)?;
        let id = domain.uuid()?.as_u128();
        Ok(Some((xml, survey::alike(c, &wanted, id)?)))
    });
    let found = found.map_err(|f| f.why)?;
    boot_service(uri, Path::new("/")).map_or(Ok(()), Err)?;
    let Some((xml, alike)) = found else {
        return Err(format!(
            "{uri} knows no domain {name:?}; `virsh list --all` shows those it knows"
        ));
    };
    let read = Domain::read(&xml).map_err(|why| {
        // By this way it has a place in libvirt that can be changed.
        let edit = format!("; `virsh edit {}` changes it", quoted(name));
        let edit = if why.editable { edit } else { String::new() };
        format!("domain {name}: {why}{edit}")
    })?;
    ready(&xml, read, Some(uri), rules, &alike).map_err(|why| format!("domain {name}: {why}"))
}

/// The domain of a guest as it runs now in the libvirt at `uri`, changes since its start included.
///
/// # Errors
/// libvirt does not answer, no such domain runs there, or what runs cannot be protected.
pub fn from_running(uri: &str, name: &str, rules: &Rules) -> Result<Ready, String> {
    let wanted = name.to_owned();
    let found = link(uri).call(PATIENCE, move |c| {
        let Some(domain) = survey::named(c, &wanted)? else {
            return Ok(None);
        };
        if survey::activity(&domain)?.is_none() {
            return Ok(None);
        }
        // What a new start would need of what runs: no process numbers, no names given at random.
        let flags = sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE;
        Ok(Some(domain.xml_desc(flags)?))
    });
    let xml = found.map_err(|f| f.why)?.ok_or_else(|| {
        format!("{uri} runs no domain {name:?}: ask on the host where the guest runs")
    })?;
    let named = |why: String| format!("domain {name}: {why}");
    let read = Domain::read(&xml).map_err(|why| named(why.into()))?;
    ready(&xml, read, Some(uri), rules, &[]).map_err(named)
}

/// A description in a file. With a `uri`, the libvirt there is asked whether it runs or would
/// start such a domain itself.
///
/// # Errors
/// The file cannot be read, or the domain cannot be protected: file, line, column, the reason.
pub fn from_file(path: &Path, uri: Option<&str>, rules: &Rules) -> Result<Ready, String> {
    let named = |why: String| format!("{}: {why}", path.display());
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST as u64 + 1).read_to_end(&mut bytes))
        .map_err(|e| named(e.to_string()))?;
    let xml = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let line = 1 + e.as_bytes()[..at].iter().filter(|b| **b == b'\n').count();
        named(format!("line {line}: not UTF-8"))
    })?;
    let domain = Domain::read(&xml).map_err(|why| named(why.into()))?;
    let alike = alike(uri, &domain)?;
    reading::agrees(&xml, &domain).map_err(named)?;
    ready(&xml, domain, uri, rules, &alike).map_err(named)
}

/// A guest's own description that has a domain in it, judged like any other domain: what the
/// operator should know. With a `uri`, as in [`from_file`].
///
/// # Errors
/// It cannot be protected: the reason.
pub fn from_spec(
    spec: &GuestSpec,
    uri: Option<&str>,
    rules: &Rules,
) -> Result<Vec<String>, String> {
    spec.check()?;
    let Definition::Domain { xml } = &spec.definition else {
        return Ok(Vec::new());
    };
    let named = |why: String| format!("definition.domain.xml: {why}");
    let domain = Domain::read(xml).map_err(|why| named(why.into()))?;
    let alike = alike(uri, &domain)?;
    reading::agrees(xml, &domain).map_err(named)?;
    judge(&domain, rules, &alike).map_err(named)
}

/// What libvirt here has of the same name or UUID, if it is to be asked.
fn alike(uri: Option<&str>, domain: &Domain) -> Result<Vec<Found>, String> {
    let Some(uri) = uri else {
        return Ok(Vec::new());
    };
    let (name, id) = (domain.name.clone(), domain.uuid);
    let asked = link(uri).call(PATIENCE, move |c| survey::alike(c, &name, id));
    boot_service(uri, Path::new("/")).map_or(Ok(()), Err)?;
    asked.map_err(|f| f.why)
}

fn link(uri: &str) -> Link {
    // Nobody listens for events here.
    let (events, _) = mpsc::channel();
    Link::new(uri, events)
}

/// A guest of a description that nothing speaks against. The machine it names is written by its
/// full name, as the libvirt at `uri` has it.
fn ready(
    xml: &str,
    domain: Domain,
    uri: Option<&str>,
    rules: &Rules,
    alike: &[Found],
) -> Result<Ready, String> {
    let mut notes = judge(&domain, rules, alike)?;
    let mut xml = xml.to_owned();
    if let Some(uri) = uri {
        let link = link(uri);
        if link.kind() == Kind::Qemu {
            match reading::resolved(&link, &xml) {
                Ok(resolved) => xml = resolved,
                Err(f) => notes.push(format!(
                    "the machine's full name is not known, so a host with another QEMU may give \
                     the guest other devices: {}",
                    f.why
                )),
            }
        }
    }
    let qemu = QEMU_MIB
        + QEMU_MIB_PER_CPU * u64::from(domain.needs.vcpus)
        + domain.needs.memory_mib / QEMU_SHARE;
    let needs = Needs {
        memory_mib: domain.needs.memory_mib.saturating_add(qemu),
        ..domain.needs
    };
    notes.push(format!(
        "it is counted with {} MiB: {} MiB of its own and {qemu} MiB for QEMU; `[needs]` of a file \
         given by --with says otherwise",
        needs.memory_mib, domain.needs.memory_mib
    ));
    let spec = GuestSpec {
        name: domain.name,
        definition: Definition::Domain { xml },
        needs,
        priority: 0,
        policy: Policy::default(),
        probe: None,
    };
    spec.check()?;
    Ok(Ready { spec, notes })
}

/// Judges a domain and what libvirt here has of the same name or UUID: what the operator should
/// know.
fn judge(domain: &Domain, rules: &Rules, alike: &[Found]) -> Result<Vec<String>, String> {
    domain.check_shared(&rules.shared).map_err(|why: Refusal| {
        format!(
            "{why}; put it where every host reaches it, and name that place in `shared` of \
             [libvirt] in every host's configuration"
        )
    })?;
    let mut others = Vec::new();
    for other in &rules.protected {
        if other.name == domain.name {
            return Err(format!("a guest {} is protected already", other.name));
        }
        if let Definition::Domain { xml } = &other.definition {
            // What is protected was read when it was added.
            let theirs = Domain::read(xml).map_err(|why| format!("guest {}: {why}", other.name))?;
            others.push((&other.name, theirs));
        }
    }
    let images = Images::of(others.iter().map(|(_, d)| d).chain([domain]))?;
    for (name, theirs) in &others {
        domain.check_beside(name, theirs, &|a, b| images.same(a, b))?;
    }
    let mut notes = domain.remarks(&rules.shared);
    for one in alike {
        standing(domain, one, &mut notes)?;
    }
    Ok(notes)
}

/// What libvirt here has of the same name or UUID.
fn standing(domain: &Domain, one: &Found, notes: &mut Vec<String>) -> Result<(), String> {
    let name = quoted(&one.name);
    if one.uuid != domain.uuid || one.name != domain.name {
        return Err(format!(
            "libvirt here has {name} with UUID {}: name and UUID must both be the same or both differ",
            uuid(one.uuid)
        ));
    }
    if one.autostart {
        return Err(format!(
            "autostart is set: libvirt would start it by itself when this host boots, even while it \
             runs elsewhere; `virsh autostart --disable {name}`"
        ));
    }
    if let Some(tag) = &one.tag {
        return Err(format!(
            "it runs as {} of cluster {} already",
            tag.guest, tag.cluster
        ));
    }
    if one.activity.is_some() {
        return Err(format!(
            "it runs here now, and only the cluster may start it: `virsh shutdown {name}` first"
        ));
    }
    if one.saved {
        return Err(format!(
            "libvirt saved its memory here and would go on from there: `virsh start {name}` and shut \
             it down, or `virsh managedsave-remove {name}`"
        ));
    }
    notes.push(format!(
        "its definition stays in libvirt here, but changes to it count only when it is added anew; \
         it must not be started by hand: `virsh undefine {name}` removes it"
    ));
    Ok(())
}
