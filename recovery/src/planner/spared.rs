//! Why a lost host is not cut by a device, or not yet: something faster or milder proves as much, or
//! nothing that a device says would prove anything.
//!
//! Whatever a device is held back for must be able to come. A lease that nobody is attested to enforce
//! proves nothing when it is over, and a life that is heard is not always admitted.

use super::stranded;
use crate::machine::Guests;
use crate::mutants::planted;
use quorate_membership::cluster::Attempt;
use quorate_membership::entry::{AttemptEnd, Away, Ground};
use quorate_membership::{Host, Member, NodeId, ProofPolicy, Time, Token};
use std::time::Duration;

/// Says why the host is not to be cut now, if it is not.
pub(super) fn spared(
    now: Time,
    member: &Member<Guests>,
    host: NodeId,
    record: &Host,
    revoke: Token,
) -> Result<(), String> {
    if record.away == Some(Away::Stop) && lease_comes(now, member, host, record) {
        return Err("its daemon was stopped by an operator: only its lease is waited for".into());
    }
    if member.cluster().proof == ProofPolicy::DeviceAndLease {
        proves_something(record, revoke)?;
    }
    let ordered = matches!(record.revoke, Some((_, Ground::Ordered)));
    if !ordered && !member.app().holds_open(host) && !planted("empty-host-is-cut") {
        return Err("no guest can run on it: there is nothing that a device could prove".into());
    }
    if member.app().fencing.get(&host).is_none_or(Vec::is_empty) {
        return Err("it has no fence device: only its lease is left".into());
    }
    if member.answered(host, revoke) < member.cluster().quorum() {
        return Err("waiting for a quorum of voters to answer the revoke".into());
    }
    heard(now, member, host, record)
}

/// Whether its lease proves something when it is over, or is not over yet. What is waited for with a
/// lease that proves nothing has that long, and no longer.
fn lease_comes(now: Time, member: &Member<Guests>, host: NodeId, record: &Host) -> bool {
    record.armed.is_some()
        || member.lease_remaining(now, host) != Some(Duration::ZERO)
        || planted("lease-of-the-unarmed-waited-for")
}

/// Refuses an attempt that could prove nothing under `device-and-lease`.
fn proves_something(record: &Host, revoke: Token) -> Result<(), String> {
    if planted("cut-though-it-proves-nothing") {
        return Ok(());
    }
    if record.armed.is_none() {
        return Err(
            "under device-and-lease a device alone proves nothing, and nobody is attested to end its \
             guests with its lease: a person must confirm that it is off"
                .into(),
        );
    }
    let off = |(a, end): &(Attempt, AttemptEnd)| {
        a.revoke == revoke && a.incarnation == record.incarnation && *end == AttemptEnd::Off
    };
    if record.tried.iter().any(off) {
        return Err("a device has said off: under device-and-lease its lease is left".into());
    }
    Ok(())
}

/// A cut of a host that is heard would hit a machine that may end or give back its guests itself.
fn heard(now: Time, member: &Member<Guests>, host: NodeId, record: &Host) -> Result<(), String> {
    let Some((heard, silent)) = member.heard(now, host) else {
        return Ok(());
    };
    if silent >= member.cluster().timing.heartbeat * 2 {
        return Ok(());
    }
    let next = heard.incarnation > record.incarnation;
    let comes = lease_comes(now, member, host, record) || member.would_admit(host);
    if next && comes && member.admissible(host) {
        return Err("its next incarnation is heard: it is admitted first".into());
    }
    // The cut would hit the machine that is up again: after a power failure of the whole site,
    // every one of them. The lease of its last life proves as much and cuts nothing (V6).
    if next && record.armed.is_some() && !planted("next-life-is-cut") {
        return Err("its next incarnation is heard: the last lease is waited for".into());
    }
    // Its own word or its lease is faster and cuts nothing (V6).
    if !next && record.armed.is_some() && heard.beat.lease_left.is_zero() {
        return Err("it is heard, and says that its lease is over".into());
    }
    let deaf = matches!(record.revoke, Some((_, Ground::Deaf)));
    let idle = stranded::stranded(now, member, host) || deaf && stranded::idle(now, member, host);
    if record.armed.is_some() && idle {
        return Err("it is heard and runs no guest: its lease is left".into());
    }
    Ok(())
}
