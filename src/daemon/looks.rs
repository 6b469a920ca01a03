//! Looks at libvirt for what stands against the rules, now and then.

use super::alarms::{Alarm, Look};
use crate::libvirt::alarms::{Place, Protected, judge};
use crate::libvirt::{Found, Libvirt};
use quorate_recovery::Node;
use quorate_recovery::guest::Wanted;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);

/// Where is looked, and whose domains are meant.
pub(super) struct Round {
    pub(super) uri: String,
    pub(super) cluster: String,
}

impl Round {
    /// Looks until nobody wants to know. A look that cannot be made says nothing: what stood
    /// before stands on.
    pub(super) async fn run(self, libvirt: Libvirt, tell: mpsc::Sender<Look>) {
        let mut next = interval(EVERY);
        next.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            next.tick().await;
            let asked = libvirt.clone();
            let seen = tokio::task::spawn_blocking(move || {
                let found = asked.survey()?;
                // After the survey: one of ours that started meanwhile is no stranger.
                Ok::<_, String>((found, asked.own()?))
            });
            let (found, own) = match seen.await {
                Ok(Ok(seen)) => seen,
                Ok(Err(why)) => {
                    tracing::debug!("no look at libvirt's domains: {why}");
                    continue;
                }
                Err(_) => continue,
            };
            let (uri, cluster) = (self.uri.clone(), self.cluster.clone());
            let look: Look = Box::new(move |node| judged(node, &uri, &cluster, &found, &own));
            if tell.send(look).await.is_err() {
                return;
            }
        }
    }
}

fn judged(
    node: &Node,
    uri: &str,
    cluster: &str,
    found: &[Found],
    own: &BTreeSet<u128>,
) -> Vec<Alarm> {
    let member = node.member();
    let names: Vec<_> = member
        .app()
        .guests
        .values()
        .map(|r| (r, r.host.map(|h| (h, member.cluster().name(h)))))
        .collect();
    let protected: Vec<Protected<'_>> = names
        .iter()
        .map(|(record, host)| Protected {
            spec: &record.spec,
            place: match host {
                Some((host, _)) if record.open() && *host == member.me() => Place::Here,
                Some((_, name)) if record.open() => Place::There(name),
                _ if record.wanted == Wanted::Running => Place::Waits,
                _ => Place::Stopped,
            },
        })
        .collect();
    let strange = judge(uri, cluster, &protected, found, &|id| own.contains(&id));
    strange
        .into_iter()
        .map(|s| Alarm {
            key: s.key,
            guest: s.guest,
            text: s.text,
        })
        .collect()
}
