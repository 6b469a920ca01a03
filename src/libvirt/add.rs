//! `quorate guest add` of a domain: from libvirt by name, or from a file.
//!
//! Everything that would let a guest run twice, lose writes or be unable to start elsewhere is
//! refused here, with the reason and what to do about it.

use super::link::Link;
use super::survey::{self, Found};
use crate::config::boot_service;
use quorate_recovery::domain::{Domain, LONGEST, uuid};
use quorate_recovery::guest::{Definition, GuestSpec, Policy};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use virt::sys;

/// How long libvirt may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

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
    ready(&xml, rules, &alike).map_err(|why| {
        let what = if why.contains("driver cache") || why.contains("mac address") {
            // By this way it has a place in libvirt that can be changed.
            format!("; `virsh edit {name}` changes it")
        } else {
            String::new()
        };
        format!("domain {name}: {why}{what}")
    })
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
    let domain = Domain::read(&xml).map_err(named)?;
    let alike = alike(uri, &domain)?;
    ready(&xml, rules, &alike).map_err(named)
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
    let domain = Domain::read(xml).map_err(named)?;
    let alike = alike(uri, &domain)?;
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

/// A guest of a description that nothing speaks against.
fn ready(xml: &str, rules: &Rules, alike: &[Found]) -> Result<Ready, String> {
    let domain = Domain::read(xml)?;
    let notes = judge(&domain, rules, alike)?;
    let spec = GuestSpec {
        name: domain.name.clone(),
        definition: Definition::Domain {
            xml: xml.to_owned(),
        },
        needs: domain.needs,
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
    domain.check_shared(&rules.shared).map_err(|why| {
        format!(
            "{why}; put it where every host reaches it, and name that place in `shared` of \
             [libvirt] in every host's configuration"
        )
    })?;
    for other in &rules.protected {
        if other.name == domain.name {
            return Err(format!("a guest {} is protected already", other.name));
        }
        if let Definition::Domain { xml } = &other.definition {
            // What is protected was read when it was added.
            let theirs = Domain::read(xml).map_err(|why| format!("guest {}: {why}", other.name))?;
            domain.check_against(&other.name, &theirs)?;
        }
    }
    let mut notes = domain.notes.clone();
    for one in alike {
        standing(domain, one, &mut notes)?;
    }
    Ok(notes)
}

/// What libvirt here has of the same name or UUID.
fn standing(domain: &Domain, one: &Found, notes: &mut Vec<String>) -> Result<(), String> {
    let name = &one.name;
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
