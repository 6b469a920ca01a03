//! Looks at libvirt for what stands against the rules, now and then.

use super::alarms::{Alarm, Look};
use crate::libvirt::alarms::{Place, Protected, judge};
use crate::libvirt::drift::{Here, Wanted as Watched};
use crate::libvirt::{Event, Found, Libvirt, What};
use quorate_recovery::Node;
use quorate_recovery::contract::Fact;
use quorate_recovery::guest::{Definition, Wanted};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);
/// After an event that may have changed what a guest is made of: whatever belongs to it comes with it.
const SETTLES: Duration = Duration::from_millis(50);

/// Where is looked, and whose domains are meant.
pub(super) struct Round {
    pub(super) uri: String,
    pub(super) cluster: String,
    /// What every host reaches, in the operator's word.
    pub(super) shared: Vec<String>,
    /// Where what was seen of guests is told.
    pub(super) facts: mpsc::Sender<Fact>,
}

impl Round {
    /// Looks until nobody wants to know. A look that cannot be made says nothing: what stood
    /// before stands on.
    pub(super) async fn run(self, libvirt: Libvirt, tell: mpsc::Sender<Look>) {
        let mut next = interval(EVERY);
        next.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (event, mut events) = mpsc::unbounded_channel();
        libvirt.listen(event);
        loop {
            tokio::select! {
                _ = next.tick() => {}
                Some(event) = events.recv() => {
                    if !changes(&event) {
                        continue;
                    }
                    tokio::time::sleep(SETTLES).await;
                    while events.try_recv().is_ok() {}
                }
            }
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
            let (back, watched) = oneshot::channel();
            let look: Look = Box::new(move |node| {
                let _ = back.send(watch(node));
                judged(node, &uri, &cluster, &found, &own)
            });
            if tell.send(look).await.is_err() {
                return;
            }
            let Ok(watched) = watched.await else { return };
            let (asked, shared) = (libvirt.clone(), self.shared.clone());
            let seen = tokio::task::spawn_blocking(move || asked.drift(watched, &shared));
            for fact in seen.await.unwrap_or_default() {
                if self.facts.send(fact).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Whether an event may have changed what a guest is made of.
fn changes(event: &Event) -> bool {
    matches!(
        event.what,
        What::BlockJob | What::Resumed | What::Suspended(_)
    )
}

/// What the log says that this host should look at.
fn watch(node: &Node) -> Watched {
    let member = node.member();
    let me = member.me();
    let mut watched = Watched::default();
    for (id, r) in &member.app().guests {
        let Definition::Domain { xml } = &r.spec.definition else {
            continue;
        };
        if r.open() && r.host == Some(me) {
            watched.here.push(Here {
                guest: *id,
                epoch: r.epoch,
                xml: xml.clone(),
                scratch: r.images.scratch.clone(),
            });
        }
        if !r.images.read_by(me) {
            let images = &r.images;
            watched
                .unread
                .push((*id, images.followed, images.tops.clone()));
        }
    }
    watched
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
