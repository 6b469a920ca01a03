//! Decided entries in words.

use super::Node;
use crate::command::{Closure, Command};
use crate::contract::{Effect, Event, EventKind};
use crate::guest::{GuestId, Wanted};
use crate::hold::ReleasedBy;
use quorate_membership::entry::{Entry, Ground, Proof};
use quorate_membership::{NodeId, Time, Token};

impl Node {
    pub(super) fn event(
        &self,
        token: Token,
        kind: EventKind,
        host: Option<NodeId>,
        guest: Option<GuestId>,
        text: String,
    ) -> Event {
        let host = host.map(|h| self.member.cluster().name(h));
        let guest = guest.map(|g| {
            let known = self.member.app().guests.get(&g);
            known.map_or_else(|| g.to_string(), |r| r.spec.name.clone())
        });
        Event {
            token,
            kind,
            host,
            guest,
            text,
        }
    }

    /// The other hosts that are heard in any way, by a link or a session.
    pub(super) fn heard_hosts(&self, now: Time) -> Vec<NodeId> {
        let m = &self.member;
        let window = m.cluster().timing.silence();
        let heard = |n: &&NodeId| **n != m.me() && m.silent(now, **n) < window;
        let members = m.cluster().hosts.iter().filter(|(_, h)| h.usable());
        members.map(|(n, _)| n).filter(heard).copied().collect()
    }

    /// Tells of links that fell silent or are well again.
    pub(super) fn judge_links(&mut self, now: Time, out: &mut Vec<Effect>) {
        let t = &self.member.cluster().timing;
        let (period, window) = (t.heartbeat, t.silence());
        let mut links = std::mem::take(&mut self.links);
        for change in links.changes(now, period, window, || self.heard_hosts(now)) {
            let text = match self.names(&change.silent.into_iter().collect::<Vec<_>>()) {
                names if names.is_empty() => {
                    format!("link {} brings everything again", change.link)
                }
                names => format!(
                    "link {} brings nothing from {names} any more; they are heard another way",
                    change.link
                ),
            };
            let me = Some(self.member.me());
            let event = self.event(Token::NONE, EventKind::Alert, me, None, text);
            out.push(Effect::Event(event));
        }
        self.links = links;
    }

    pub(super) fn names(&self, nodes: &[NodeId]) -> String {
        let name = |n: &NodeId| self.member.cluster().name(*n);
        nodes.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// An entry that was applied, in words; nothing for those that only keep the log moving.
    pub(super) fn describe(&self, at: Token, entry: &Entry<Command>) -> Option<Event> {
        use EventKind as K;
        let event = |kind, host, guest, text: String| Some(self.event(at, kind, host, guest, text));
        let view = self.member.cluster().view;
        match entry {
            Entry::Noop | Entry::Renew { .. } => None,
            Entry::Term { node, .. } => event(
                K::Coordinator,
                Some(*node),
                None,
                format!("coordinator of view {view}"),
            ),
            Entry::Resign { .. } => event(
                K::Coordinator,
                None,
                None,
                "the coordinator gave up its term".into(),
            ),
            Entry::Admit {
                node, incarnation, ..
            } => {
                let text = format!("admitted as incarnation {incarnation}, view {view}");
                event(K::View, Some(*node), None, text)
            }
            Entry::Armed { host, armed, .. } => {
                let reset = if armed.reset { "" } else { ", no reset" };
                let text = format!("attests {:?} behind its lease{reset}", armed.class);
                event(K::View, Some(*host), None, text)
            }
            Entry::Unarmed { host, .. } => event(
                K::Alert,
                Some(*host),
                None,
                "takes its attestation back: no guardian ends its guests, so the end of its lease \
                 proves nothing, and it is given no new ones"
                    .into(),
            ),
            Entry::Revoke { hosts } => {
                let names: Vec<String> = hosts
                    .iter()
                    .map(|(h, i, ground)| {
                        let why = match ground {
                            Ground::Silent => "a quorum reports silence",
                            Ground::Deaf => "it gets no answer or no log",
                            Ground::Ordered => "an operator ordered it",
                        };
                        format!("{} incarnation {i} ({why})", self.member.cluster().name(*h))
                    })
                    .collect();
                let text = format!("lost: {}; view {view}", names.join(", "));
                event(K::Verdict, hosts.first().map(|(h, ..)| *h), None, text)
            }
            Entry::Rules { version } => event(
                K::View,
                None,
                None,
                format!("from here on the log is applied by rules of version {version}"),
            ),
            Entry::Restore { host, .. } => event(
                K::Restored,
                Some(*host),
                None,
                format!("heard again, view {view}"),
            ),
            Entry::Proof { host, proof, .. } => {
                let text = match proof {
                    Proof::LeaseExpired => "its lease is over for certain".to_owned(),
                    Proof::Fenced { device, class } => {
                        format!("observed off by {device} (class {class})")
                    }
                    Proof::Confirmed { by } => format!("confirmed off by {by}"),
                };
                event(K::Proof, Some(*host), None, text)
            }
            Entry::Attempt {
                host,
                device,
                level,
                ..
            } => {
                let text = format!("fence level {} by {device}", level + 1);
                event(K::Fence, Some(*host), None, text)
            }
            Entry::AttemptEnded { host, attempt, end } => event(
                K::Fence,
                Some(*host),
                None,
                format!("attempt {attempt}: {end:?}"),
            ),
            Entry::Away { node, why, .. } => event(
                K::View,
                Some(*node),
                None,
                format!("taken out of service: {why:?}"),
            ),
            Entry::App(command) => self.describe_command(at, command),
        }
    }

    fn describe_command(&self, at: Token, command: &Command) -> Option<Event> {
        use EventKind as K;
        let event = |kind, host, guest, text: String| Some(self.event(at, kind, host, guest, text));
        match command {
            Command::AddGuest(_) => event(
                K::Changed,
                None,
                Some(GuestId(at.0)),
                "protected from here on".into(),
            ),
            Command::RemoveGuest { guest } => {
                event(K::Changed, None, Some(*guest), "protected no more".into())
            }
            Command::SetWanted { guest, wanted } => {
                let wanted = match wanted {
                    Wanted::Running => "running",
                    Wanted::Stopped => "stopped",
                };
                event(K::Changed, None, Some(*guest), format!("wanted {wanted}"))
            }
            Command::Placed { guest, host, .. } => {
                event(K::Placed, Some(*host), Some(*guest), format!("epoch {at}"))
            }
            Command::Closed {
                guest,
                host,
                epoch,
                why,
                ..
            } => {
                let kind = match why {
                    Closure::Taken(_) => K::Alert,
                    _ => K::Ended,
                };
                let text = match why {
                    Closure::Taken(words) => format!(
                        "taken in hand past this cluster, and held: {words}; `quorate guest \
                         release` lets the cluster start it again, once nobody else runs it"
                    ),
                    _ => format!("closed up to epoch {epoch}: {why:?}"),
                };
                event(kind, Some(*host), Some(*guest), text)
            }
            Command::Tried {
                host, device, on, ..
            } => match on {
                true => {
                    let text = format!("fence device {device} reads on: relied on from here");
                    event(K::Changed, Some(*host), None, text)
                }
                false => event(
                    K::Alert,
                    Some(*host),
                    None,
                    format!(
                        "fence device {device} says that this host is off while it runs: it is not \
                         relied on. Is it the right plug?"
                    ),
                ),
            },
            Command::SetFencing { host, levels } => {
                let text = format!("{} fence levels stated", levels.len());
                event(K::Changed, Some(*host), None, text)
            }
            Command::Publish(bytes) => {
                event(K::Published, None, None, format!("{} bytes", bytes.len()))
            }
            Command::Hold { guest, reason, .. } => {
                let text = format!("held until it is released ({}): {reason}", reason.kind());
                event(K::Alert, None, Some(*guest), text)
            }
            Command::Follow {
                guest, life, tops, ..
            } => {
                let tops: Vec<String> = tops
                    .iter()
                    .map(|t| format!("{} is {}", t.disk, t.top.source))
                    .collect();
                let text = format!(
                    "its images changed while it ran, and its record follows: {}; only hosts that \
                     have read them can take it",
                    tops.join(", ")
                );
                event(K::Alert, Some(life.host), Some(*guest), text)
            }
            Command::Scratch {
                guest,
                life,
                images,
            } => {
                let paths: Vec<&str> = images.iter().map(|s| s.path.as_str()).collect();
                let text = if paths.is_empty() {
                    "no scratch image of a backup lies beside its images".to_owned()
                } else {
                    format!(
                        "a backup keeps old blocks in {}, which a start does not wait for",
                        paths.join(", ")
                    )
                };
                event(K::Changed, Some(life.host), Some(*guest), text)
            }
            Command::Reads { guest, host, .. } => {
                let text = "has read its images and can take it".to_owned();
                event(K::Changed, Some(*host), Some(*guest), text)
            }
            Command::Adopt { guest, .. } => {
                let text = "has a new description by a person's word".to_owned();
                event(K::Changed, None, Some(*guest), text)
            }
            Command::Locked { .. } => None,
            Command::Release { holds, by } => {
                let one = holds.first().filter(|_| holds.len() == 1);
                let who = match by {
                    ReleasedBy::Person(words) => words.to_string(),
                    ReleasedBy::Host(host) => self.member.cluster().name(*host),
                };
                let text = format!("{} holds are released by {who}", holds.len());
                event(K::Changed, None, one.map(|r| r.guest), text)
            }
        }
    }
}
