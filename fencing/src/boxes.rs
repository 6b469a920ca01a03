//! Devices that are reached through one box: a switched power strip, a chassis, a management card.
//!
//! Many boxes let one session in at a time, and refuse the next login. So devices of one box are
//! asked one after another, within a level and across attempts on different hosts.

use crate::agent::folded;
use crate::class::{Device, Level, ProofClass};
use std::collections::BTreeMap;
use std::time::Duration;

/// Parameters that name the outlet, and so differ between devices of one box.
const OUTLET: [&str; 4] = ["port", "plug", "nodename", "switch_group"];
/// Parameters that say where a box is.
const ADDRESS: [&str; 5] = ["ip", "ipaddr", "ip_address", "host", "hostname"];

/// The address a device is reached at, as one spelling; `None` if it names none.
fn address(device: &Device) -> Option<String> {
    let named = |key: &str| {
        let found = device.parameters.iter().find(|(n, _)| folded(n) == *key);
        found.map(|(_, value)| spelt(value))
    };
    ADDRESS.iter().find_map(|key| named(key))
}

/// One address in one spelling: numbers as they are printed, names in small letters.
fn spelt(text: &str) -> String {
    let bare = text.trim().trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<core::net::IpAddr>() {
        Ok(ip) => ip.to_canonical().to_string(),
        Err(_) => bare.trim_end_matches('.').to_ascii_lowercase(),
    }
}

/// What a device says besides its outlet.
fn rest(device: &Device) -> BTreeMap<String, &str> {
    let all = device.parameters.iter();
    all.map(|(n, v)| (folded(n), v.as_str()))
        .filter(|(n, _)| !OUTLET.contains(&n.as_str()))
        .collect()
}

/// Whether two devices are reached through one box: they name one address, or none and are alike
/// but for the outlet. What only judges the surroundings is reached through none.
#[must_use]
pub fn one_box(a: &Device, b: &Device) -> bool {
    let judges = |d: &Device| d.class() == Ok(ProofClass::Veto);
    if judges(a) || judges(b) {
        return false;
    }
    match (address(a), address(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => a.agent == b.agent && rest(a) == rest(b),
        _ => false,
    }
}

/// Whether two levels, of different hosts, name an address in common: their attempts are made one
/// after the other. Devices that name none are not counted: who they speak to may let many in.
#[must_use]
pub fn share_a_box(a: &Level, b: &Level) -> bool {
    a.devices.iter().any(|d| {
        let mut others = b.devices.iter();
        address(d).is_some() && others.any(|other| one_box(d, other))
    })
}

/// What tells the outlet of a device from all others, in one spelling; `None` if nothing does: it is
/// not of class power, or goes by the host's name. Two hosts that state one outlet are a mistake: an
/// off of it proves nothing about one of them.
#[must_use]
pub fn outlet(device: &Device) -> Option<String> {
    let named = |n: &str| matches!(folded(n).as_str(), "port" | "plug");
    let plug = device.parameters.iter().find(|(n, _)| named(n));
    let plug = plug.map(|(_, value)| value.as_str());
    let address = address(device);
    let known = address.is_some() || plug.is_some();
    if device.class() != Ok(ProofClass::Power) || !known {
        return None;
    }
    Some(match address {
        Some(at) => format!("{at} {plug:?}"),
        None => format!("{} {:?} {plug:?}", device.agent, rest(device)),
    })
}

/// For each device of a level that acts, the places of those that go before it in its box.
pub(crate) fn queues(level: &Level) -> Vec<Vec<usize>> {
    let devices = &level.devices;
    let before = |place: usize| {
        let earlier = 0..place;
        let same = earlier.filter(|&e| one_box(&devices[e], &devices[place]));
        same.collect()
    };
    (0..devices.len()).map(before).collect()
}

/// How long the devices of a level that act may take, boxes beside each other. Where several outlets
/// must be off at once, half as much again is for the second look at them.
pub(crate) fn longest(level: &Level) -> Duration {
    let queues = queues(level);
    let devices = &level.devices;
    let acts = |place: &usize| devices[*place].class() != Ok(ProofClass::Veto);
    let sum = |place: usize| {
        let before: Duration = queues[place].iter().map(|&e| devices[e].limit()).sum();
        before.saturating_add(devices[place].limit())
    };
    let sums = (0..devices.len()).filter(acts).map(sum);
    let once = sums.max().unwrap_or_default();
    let power = devices
        .iter()
        .filter(|d| d.class() == Ok(ProofClass::Power));
    match power.count() {
        0 | 1 => once,
        _ => once.saturating_add(once / 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(agent: &str, parameters: &[(&str, &str)]) -> Device {
        let parameters = parameters.iter();
        Device {
            name: "d".into(),
            agent: agent.into(),
            parameters: parameters
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            class: None,
            limit_ms: 20_000,
        }
    }

    #[test]
    fn one_address_is_one_box_however_it_is_spelt() {
        let apc = |ip: &str| device("fence_apc", &[("ip", ip), ("plug", "1")]);
        let snmp = device("fence_apc_snmp", &[("ipaddr", "10.0.0.1"), ("port", "2")]);
        assert!(one_box(&apc("10.0.0.1"), &snmp));
        assert!(one_box(&apc("::ffff:10.0.0.1"), &snmp));
        assert!(one_box(&apc("[fd00::1]"), &apc("fd00:0::1")));
        assert!(one_box(&apc("PDU-1.example."), &apc("pdu-1.example")));
        assert!(!one_box(&apc("10.0.0.2"), &snmp));
    }

    #[test]
    fn without_an_address_all_but_the_outlet_must_agree() {
        let xvm = |more: &[(&str, &str)]| device("fence_xvm", more);
        assert!(one_box(&xvm(&[("port", "a")]), &xvm(&[("plug", "b")])));
        let keyed = xvm(&[("port", "b"), ("key_file", "/k")]);
        assert!(!one_box(&xvm(&[("port", "a")]), &keyed));
        let ping = device("fence_heuristics_ping", &[]);
        assert!(!one_box(&ping, &ping), "it is no box");
        let level = |device: &Device| Level {
            devices: vec![device.clone()],
        };
        assert!(!share_a_box(&level(&keyed), &level(&keyed)));
        let ipmi = device("fence_ipmilan", &[("ip", "10.0.0.1")]);
        assert!(share_a_box(&level(&ipmi), &level(&ipmi)));
    }

    #[test]
    fn the_same_outlet_of_two_hosts_is_found() {
        let same = |a: &Device, b: &Device| outlet(a).is_some() && outlet(a) == outlet(b);
        let apc = |plug: &str| device("fence_apc", &[("ip", "10.0.0.1"), ("plug", plug)]);
        assert!(same(&apc("1"), &apc("1")));
        assert!(!same(&apc("1"), &apc("2")));
        let old = device("fence_apc", &[("ipaddr", "10.0.0.1"), ("port", "1")]);
        assert!(same(&apc("1"), &old));
        let ipmi = |ip: &str| device("fence_ipmilan", &[("ip", ip)]);
        assert!(same(&ipmi("10.0.0.1"), &ipmi("10.0.0.1")));
        assert!(!same(&ipmi("10.0.0.1"), &ipmi("10.0.0.2")));
        let dump = device("fence_kdump", &[]);
        assert!(!same(&dump, &dump), "it goes by the host's name");
    }
}
