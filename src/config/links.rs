//! The tables `[[link]]`: the networks between the nodes.

use super::error::Fault;
use super::reader::{Found, Section, expected};
use super::{Carrier, LINKS_MAX, Link, node_name};
use crate::net::{Endpoint, ZonedIp};
use quorate_membership::LinkId;
use std::net::SocketAddr;

pub(super) fn read(root: &Section<'_, '_>) -> Result<Vec<Link>, Fault> {
    let sections = root.tables("link")?;
    let mut links: Vec<Link> = Vec::new();
    for section in sections {
        if links.len() == LINKS_MAX {
            return Err(section.fault(format!("is one too many; allowed: up to {LINKS_MAX} links")));
        }
        let link = link(section, LinkId(links.len() as u8), &links)?;
        links.push(link);
    }
    root.need(
        "link",
        (!links.is_empty()).then_some(links),
        "at least one table [[link]] with name, address and group or port",
    )
}

fn link(section: Section<'_, '_>, id: LinkId, earlier: &[Link]) -> Result<Link, Fault> {
    const ADDRESS: &str = "the IP address of this host's interface on that network";
    const GROUP: &str = "a multicast group and port, like \"239.192.7.7:5405\"";
    let name = node_name(&section)?;
    let zoned = section.parsed::<ZonedIp>("address", ADDRESS)?;
    let zoned = section.need("address", zoned, ADDRESS)?;
    let mut card = zoned.value.card.clone();
    let address = Found {
        value: zoned.value.ip,
        at: zoned.at.clone(),
        key: zoned.key.clone(),
    };
    if address.value.is_multicast() || address.value.is_unspecified() {
        return Err(address.fault(expected(address.value, ADDRESS)));
    }
    let group = section.parsed::<Endpoint>("group", GROUP)?;
    let unicast = section.flag("unicast")?.unwrap_or(false);
    let port = section.number("port", 1, 65_535)?;
    let carrier = match (group, unicast, port) {
        (Some(group), false, None) => {
            let ip = group.value.at.ip;
            if !ip.is_multicast() || group.value.port == 0 {
                return Err(group.fault(expected(&group.value, GROUP)));
            }
            if ip.is_ipv4() != address.value.is_ipv4() {
                return Err(group.fault(expected(
                    &group.value,
                    "a group of the same family as `address`",
                )));
            }
            if group.value.on_this_host_only() {
                return Err(group.fault(expected(
                    &group.value,
                    "a group that leaves this host, like \"[ff02::7:7]:5405\"",
                )));
            }
            match (&card, &group.value.at.card) {
                (Some(one), Some(other)) if one != other => {
                    return Err(group.fault(expected(&group.value, "the card of `address`")));
                }
                (None, Some(named)) => card = Some(named.clone()),
                _ => {}
            }
            Carrier::Multicast(SocketAddr::new(ip, group.value.port))
        }
        (None, true, Some(port)) => Carrier::Unicast {
            port: port.value as u16,
        },
        (None, true, None) => {
            return Err(section.fault("has `unicast = true` but no `port`; needed: a UDP port"));
        }
        (None, false, _) => {
            return Err(section.fault(format!(
                "has neither `group` nor `unicast = true`; needed: {GROUP}, or unicast with a port"
            )));
        }
        (Some(group), ..) => {
            return Err(group.fault(
                "stands beside `unicast` or `port`; allowed: either `group`, or `unicast = true` \
                 and `port`",
            ));
        }
    };
    for other in earlier {
        if other.name == name.value {
            return Err(name.fault(format!("{:?} is the name of an earlier link", name.value)));
        }
        if (other.address, &other.card) == (address.value, &card) {
            return Err(address.fault(format!(
                "{} is the address of link {:?} too; two links over one interface fail together",
                address.value, other.name
            )));
        }
        if other.carrier == carrier {
            return Err(section.fault(format!(
                "has the group or port of link {:?}; each link needs its own",
                other.name
            )));
        }
    }
    section.finish()?;
    Ok(Link {
        id,
        name: name.value,
        address: address.value,
        card,
        carrier,
    })
}
