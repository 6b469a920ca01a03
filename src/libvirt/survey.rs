//! What libvirt says of its domains.

use super::link::{Failure, is};
use super::tag::{NAMESPACE, Tag};
use virt::connect::Connect;
use virt::domain::{Domain, DomainState, DomainStateEnum};
use virt::error::{Error, ErrorNumber};
use virt::sys;

/// A domain as libvirt shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: u128,
    /// Whether it runs, and how; `None` for one that is only defined.
    pub activity: Option<Activity>,
    /// Whose it is; `None` if it is not protected by anybody.
    pub tag: Option<Tag>,
    /// Its definition stays when it stops.
    pub persistent: bool,
    /// libvirt would start it by itself when the host boots.
    pub autostart: bool,
    /// libvirt saved its memory and would go on from there at its next start.
    pub saved: bool,
}

/// What an active domain does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Its vCPUs run, or sleep because the guest wants it.
    Runs,
    /// Its vCPUs are held.
    Held,
    /// Its kernel panicked and what is left was kept for inspection.
    Panicked,
}

/// A domain that vanished while it was asked is no error: it is gone.
fn there<T>(result: Result<T, Error>) -> Result<Option<T>, Failure> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if is(&e, ErrorNumber::NoDomain) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// What an active domain does; `None` if it is not active.
///
/// The crate's `state` drops libvirt's error and gives a state nobody knows; that is no answer.
pub(super) fn activity(domain: &Domain) -> Result<Option<Activity>, Failure> {
    match there(domain.state())? {
        None => Ok(None),
        Some((DomainStateEnum::Known(state), _)) => Ok(match state {
            DomainState::Shutoff => None,
            DomainState::Paused => Some(Activity::Held),
            DomainState::Crashed => Some(Activity::Panicked),
            DomainState::NoState
            | DomainState::Running
            | DomainState::Blocked
            | DomainState::Shutdown
            | DomainState::PMSuspended => Some(Activity::Runs),
        }),
        Some((DomainStateEnum::Unknown(_), _)) => match domain.is_active() {
            Ok(true) => Err(Failure::no("libvirt does not know the domain's state")),
            Ok(false) => Ok(None),
            Err(e) if is(&e, ErrorNumber::NoDomain) => Ok(None),
            Err(e) => Err(e.into()),
        },
    }
}

/// Whose a domain is; `None` if it is nobody's, or gone.
pub(super) fn tag(domain: &Domain) -> Result<Option<Tag>, Failure> {
    Ok(owner(domain)?.flatten())
}

/// Whose a domain is, if it is still there. One that is gone meanwhile is not nobody's: it would
/// look like one that somebody else started.
fn owner(domain: &Domain) -> Result<Option<Option<Tag>>, Failure> {
    let kind = sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed();
    match domain.metadata(kind, Some(NAMESPACE), sys::VIR_DOMAIN_AFFECT_CURRENT) {
        Ok(xml) => Ok(Some(match Tag::read(&xml) {
            // A domain made from the description of a protected one carries the tag of that.
            Ok(tag) if !tag.is_of(domain.uuid()?.as_u128()) => None,
            Ok(tag) => Some(tag),
            // Written by hand or by a later release. If it is ours, registry and marks show it;
            // one bad tag must not hide every other guest.
            Err(why) => {
                tracing::warn!("domain {}: {why}", domain.name().unwrap_or_default());
                None
            }
        })),
        Err(e) if is(&e, ErrorNumber::NoDomainMetadata) => Ok(Some(None)),
        Err(e) if is(&e, ErrorNumber::NoDomain) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Everything of one domain; `None` if it is gone meanwhile.
fn look(domain: &Domain) -> Result<Option<Found>, Failure> {
    let activity = activity(domain)?;
    let Some(persistent) = there(domain.is_persistent())? else {
        return Ok(None);
    };
    if activity.is_none() && !persistent {
        return Ok(None);
    }
    // A transient domain has no autostart and no saved memory, and some hypervisors say so by
    // an error.
    let (autostart, saved) = if persistent {
        let autostart = there(domain.autostart())?.unwrap_or(false);
        (autostart, domain.has_managed_save(0).unwrap_or(false))
    } else {
        (false, false)
    };
    let Some(tag) = owner(domain)? else {
        return Ok(None);
    };
    Ok(Some(Found {
        name: domain.name()?,
        uuid: domain.uuid()?.as_u128(),
        activity,
        tag,
        persistent,
        autostart,
        saved,
    }))
}

/// Every domain, active or only defined.
pub(super) fn survey(connect: &Connect) -> Result<Vec<Found>, Failure> {
    let mut all = Vec::new();
    for domain in connect.list_all_domains(0)? {
        all.extend(look(&domain)?);
    }
    Ok(all)
}

/// A domain by name or by UUID.
pub(super) fn named(connect: &Connect, name: &str) -> Result<Option<Domain>, Failure> {
    there(connect.lookup_domain_by_name(name))
}

/// A domain by UUID.
pub(super) fn numbered(connect: &Connect, uuid: u128) -> Result<Option<Domain>, Failure> {
    let text = quorate_recovery::domain::uuid(uuid);
    there(connect.lookup_domain_by_uuid_string(&text))
}

/// The domains that have this name or this UUID: none, one, or two.
pub(super) fn alike(connect: &Connect, name: &str, uuid: u128) -> Result<Vec<Found>, Failure> {
    let mut found: Vec<Found> = Vec::new();
    for domain in [named(connect, name)?, numbered(connect, uuid)?]
        .into_iter()
        .flatten()
    {
        if let Some(one) = look(&domain)?
            && !found.contains(&one)
        {
            found.push(one);
        }
    }
    Ok(found)
}

/// Every active domain that this cluster protects. All of them, or an error.
pub(super) fn tagged(
    connect: &Connect,
    cluster: &str,
) -> Result<Vec<(Domain, Tag, Activity)>, Failure> {
    let mut all = Vec::new();
    for domain in connect.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE)? {
        let Some(tag) = tag(&domain)?.filter(|t| t.cluster == cluster) else {
            continue;
        };
        if let Some(activity) = activity(&domain)? {
            all.push((domain, tag, activity));
        }
    }
    Ok(all)
}
