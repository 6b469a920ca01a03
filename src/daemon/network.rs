//! Links and sessions as the configuration names them.

use crate::config::{Carrier, Config};
use crate::net::{Endpoint, Interface, LinkConfig, LinkKind};
use quorate_membership::NodeId;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The links of a configuration.
pub(crate) fn links(config: &Config) -> Vec<LinkConfig> {
    config
        .links
        .iter()
        .map(|link| {
            let kind = match link.carrier {
                Carrier::Multicast(group) => LinkKind::Multicast {
                    interface: match &link.card {
                        Some(card) => Interface::Name(card.clone()),
                        None => Interface::Address(link.address),
                    },
                    group,
                    ttl: 1,
                    // Several nodes on one machine hear each other only with it; a node drops its
                    // own echo by its sender.
                    loopback: true,
                },
                Carrier::Unicast { port } => LinkKind::Unicast {
                    bind: SocketAddr::new(link.address, port),
                    card: link.card.clone(),
                    peers: config
                        .peers
                        .iter()
                        .filter_map(|p| {
                            let address = *p.addresses.get(usize::from(link.id.0))?;
                            Some((p.node, SocketAddr::new(address, port)))
                        })
                        .collect(),
                },
            };
            LinkConfig {
                name: link.name.clone(),
                kind,
            }
        })
        .collect()
}

/// Where every other node accepts sessions.
pub(crate) fn sessions(config: &Config) -> BTreeMap<NodeId, Endpoint> {
    let peers = config.peers.iter();
    peers.map(|p| (p.node, p.session.clone())).collect()
}
