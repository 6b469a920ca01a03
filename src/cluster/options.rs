//! Options of a member, checked before anything is opened.

use super::ClusterError;
use crate::net::{ClusterKey, LinkConfig, LinkKind};
use quorate_membership::{NodeId, Timing, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Fewest and most voters: two survive no loss, more than seven only slow a decision down.
const VOTERS: RangeInclusive<usize> = 3..=7;
/// The longest name.
const NAME: usize = 64;

/// Options of a member.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of this member, its own in the cluster, from 1. It belongs to one store for ever: a
    /// member whose store is gone, or that keeps none, comes back under another number.
    pub node: u32,
    /// Its name for people, its own in the cluster as well: 1 to 64 of `a-z A-Z 0-9 . _ -`.
    pub name: String,
    /// The key all members share.
    pub key: ClusterKey,
    /// The first voters, three to seven, the same at every member; the lowest of them founds the
    /// cluster.
    pub voters: Vec<u32>,
    /// The networks between the members.
    pub links: Vec<LinkConfig>,
    /// Address at which this member accepts sessions.
    pub listen: SocketAddr,
    /// Addresses at which the voters accept sessions; every other voter must be among them.
    pub sessions: BTreeMap<u32, SocketAddr>,
    /// The timing, the same at every member.
    pub timing: Timing,
    /// The highest token of an earlier cluster that anything guarded by tokens may remember;
    /// [`Token::NONE`] if there was none. A cluster that is founded anew begins above what any of its
    /// first voters names here.
    pub above: Token,
    /// Longest that joining may take; a minute is a good choice where members are started together.
    pub patience: Duration,
}

impl Options {
    /// Checks whether they can be used. Joining does this first.
    ///
    /// # Errors
    /// [`ClusterError::Options`]: the first fault, with its place, what was found and what is allowed.
    pub fn check(&self) -> Result<(), ClusterError> {
        let fault = |place: &str, why: String| Err(ClusterError::options(place, why));
        if self.node == 0 {
            return fault("node", "found 0; allowed: numbers from 1".into());
        }
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.name.is_empty() || self.name.len() > NAME || !self.name.chars().all(fine) {
            let found: String = self.name.chars().take(NAME).collect();
            return fault(
                "name",
                format!("found {found:?}; allowed: 1 to {NAME} characters of a-z A-Z 0-9 . _ -"),
            );
        }
        self.check_voters()?;
        if self.listen.port() == 0 || self.listen.ip().is_multicast() {
            let why = format!("found {}; allowed: an address with a port", self.listen);
            return fault("listen", why);
        }
        for (node, at) in &self.sessions {
            reachable(&format!("sessions[{node}]"), *at)?;
        }
        for voter in self.voters.iter().filter(|v| **v != self.node) {
            if !self.sessions.contains_key(voter) {
                let why =
                    format!("voter {voter} is missing; allowed: an address of every other voter");
                return fault("sessions", why);
            }
        }
        self.check_links()?;
        if let Err(e) = self.timing.check() {
            return fault("timing", e.to_string());
        }
        if self.patience.is_zero() {
            return fault("patience", "found 0; allowed: more than that".into());
        }
        Ok(())
    }

    fn check_voters(&self) -> Result<(), ClusterError> {
        let n = self.voters.len();
        if !VOTERS.contains(&n) {
            let (least, most) = (VOTERS.start(), VOTERS.end());
            let why = format!("found {n}; allowed: {least} to {most} numbers");
            return Err(ClusterError::options("voters", why));
        }
        for (i, voter) in self.voters.iter().enumerate() {
            let place = format!("voters[{i}]");
            if *voter == 0 {
                return Err(ClusterError::options(
                    place,
                    "found 0; allowed: numbers from 1",
                ));
            }
            if self.voters[..i].contains(voter) {
                return Err(ClusterError::options(
                    place,
                    format!("{voter} is listed twice"),
                ));
            }
        }
        Ok(())
    }

    fn check_links(&self) -> Result<(), ClusterError> {
        let n = self.links.len();
        let most = crate::net::datagram::LINKS;
        if n == 0 || n > most {
            let why = format!("found {n}; allowed: 1 to {most} links");
            return Err(ClusterError::options("links", why));
        }
        let mut names = BTreeSet::new();
        for (i, link) in self.links.iter().enumerate() {
            let place = |part: &str| format!("links[{i}].{part}");
            if link.name.is_empty() || !names.insert(&link.name) {
                let why = format!("found {:?}; allowed: a name of its own", link.name);
                return Err(ClusterError::options(place("name"), why));
            }
            match &link.kind {
                LinkKind::Multicast { group, .. } => {
                    if !group.ip().is_multicast() || group.port() == 0 {
                        let why =
                            format!("found {group}; allowed: a multicast address with a port");
                        return Err(ClusterError::options(place("kind.group"), why));
                    }
                }
                LinkKind::Unicast { bind, peers, .. } => {
                    reachable(&place("kind.bind"), *bind)?;
                    for (node, at) in peers {
                        let place = place(&format!("kind.peers[{}]", node.0));
                        if node.0 == self.node {
                            return Err(ClusterError::options(place, "that is this member itself"));
                        }
                        reachable(&place, *at)?;
                    }
                    let missing = self.other_voters().find(|v| !peers.contains_key(v));
                    if let Some(voter) = missing {
                        let why = format!(
                            "voter {} is missing; allowed: an address of every other voter",
                            voter.0
                        );
                        return Err(ClusterError::options(place("kind.peers"), why));
                    }
                }
            }
        }
        Ok(())
    }

    fn other_voters(&self) -> impl Iterator<Item = NodeId> {
        let others = self.voters.iter().filter(|v| **v != self.node);
        others.map(|v| NodeId(*v))
    }
}

/// An address that others can be told.
fn reachable(place: &str, at: SocketAddr) -> Result<(), ClusterError> {
    if at.port() == 0 || at.ip().is_unspecified() || at.ip().is_multicast() {
        let why = format!("found {at}; allowed: an address of one machine, with a port");
        return Err(ClusterError::options(place, why));
    }
    Ok(())
}
