//! Links and sessions: as the configuration names them, and what is to be said of them.

use super::driver::Driver;
use crate::config::{Carrier, Config};
use crate::net::{Endpoint, Interface, LinkConfig, LinkKind};
use quorate_membership::{HostState, NodeId};
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

impl Driver {
    /// Remarks on this host's part of the network, for an operator.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut out: Vec<String> = self.alarms.standing().map(str::to_owned).collect();
        let closed = self.links.not_open();
        out.extend(closed.map(|(link, why)| closed_link(link, why)));
        out.extend(self.foreign.words());
        out.extend(
            self.sessions
                .not_listening()
                .map(|why| format!("no session can come in: {why}")),
        );
        let unreached = self.sessions.unreached();
        let cluster = self.node.member().cluster();
        for (voter, _) in &cluster.voters {
            let member = cluster
                .hosts
                .get(voter)
                .is_some_and(|h| h.state() == HostState::Member);
            if *voter == self.me || !member || self.connected.contains(voter) {
                continue;
            }
            let why = unreached.get(voter).map_or("", String::as_str);
            out.push(format!(
                "no session with {}{}{why}: the log does not pass between the two; is TCP blocked?",
                cluster.name(*voter),
                if why.is_empty() { "" } else { ": " },
            ));
        }
        let dropped = crate::log::dropped();
        if dropped > 0 {
            out.push(format!(
                "{dropped} lines of the daemon's log were dropped: its reader does not keep up, or \
                 its disk is full"
            ));
        }
        out
    }
}

/// Says that a link is not open, and why.
pub(super) fn closed_link(link: &str, why: &str) -> String {
    format!("link {link} is closed, and is opened as soon as it can be: {why}")
}
