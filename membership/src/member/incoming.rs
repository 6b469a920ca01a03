//! What comes in from other nodes.

use super::duties::kind;
use super::superseded::unheeded;
use super::windows::{Doubles, Windows};
use super::{Member, Output};
use crate::app::Application;
use crate::bulletin::{Part, Told};
use crate::frame::{Ack, Beat, Datagram, Frame, Header, Observation, Words};
use crate::id::{Incarnation, NodeId, StoreId};
use crate::mutants::planted;
use crate::replay::ReplayWindow;
use crate::time::Time;

impl<A: Application> Member<A> {
    /// A datagram came in; its sender is authenticated.
    pub fn frame(&mut self, now: Time, frame: Frame<A::Status>) {
        let header = frame.header;
        if header.from == self.me {
            // Our own multicast, or somebody who uses our number.
            if header.incarnation != self.incarnation {
                self.other_self(now, header.incarnation);
            }
            return;
        }
        if header.cluster != self.cluster().id {
            return self.count("other cluster");
        }
        self.by_link.insert(header.from, now);
        let addressed = frame.to.is_empty() || frame.to.contains(&self.me);
        if !addressed && !planted("overheard-acted-on") {
            return;
        }
        // Before the window, which would take a clone's frames for repeats of the original's.
        if self.refused(now, header.from, header.incarnation) {
            return self.count("set back or cloned");
        }
        let admitted = self.admitted_life(header.from);
        self.forget_only_heard(now, header.from, header.incarnation);
        let windows = self.windows.entry(header.from).or_default();
        if !windows.fresh(now, (header.incarnation, header.number), admitted) {
            return self.count("repeat or older incarnation");
        }
        self.note_life(now, header.from, header.incarnation);
        self.said(now, header, frame.body);
    }

    /// Takes in what a datagram says, once its sender is known to be whom it names.
    pub(super) fn said(&mut self, now: Time, header: Header, body: Datagram<A::Status>) {
        let votes = matches!(
            body,
            Datagram::Observation(_) | Datagram::Election { .. } | Datagram::Ack(_)
        );
        if votes && header.incarnation.counter < self.vouched_life(header.from) {
            // A later life of it votes; as a host it may still be the one that is admitted.
            if !unheeded() {
                self.tell_superseded(now, header.from, self.vouched_life(header.from));
            }
            return self.count("vote of an earlier incarnation");
        }
        match body {
            Datagram::Beat(beat) => self.beat_heard(now, header, beat, None),
            Datagram::Relayed {
                header: original,
                beat,
            } => {
                if self.relay_fits(now, &header, &original) {
                    self.beat_heard(now, original, *beat, Some(header.from));
                }
            }
            Datagram::Bulletin(part) => self.bulletin_heard(&header, part, false),
            Datagram::RelayedBulletin {
                header: original,
                part,
            } => {
                if self.relay_fits(now, &header, &original) {
                    self.bulletin_heard(&original, part, true);
                }
            }
            Datagram::Ack(ack) => self.acknowledged(now, header.from, ack),
            Datagram::Observation(report) => self.reported(now, header, report),
            Datagram::Election {
                to_incarnation,
                message,
            } => {
                // On a multicast link everybody hears what is said to one.
                if self.cluster().slot(self.me) != Some(message.to()) {
                    return;
                }
                let slot = self.cluster().slot(header.from);
                let parted = slot.is_some() && self.without_log(now, header.from);
                let (Some(slot), Some(replica)) = (slot, &mut self.replica) else {
                    return self.count("election outside the voters");
                };
                if header.epoch != self.state.cluster.epoch {
                    return self.count("election of another epoch");
                }
                if to_incarnation != 0 && to_incarnation != self.incarnation.counter {
                    return self.count("election for an older incarnation");
                }
                if parted {
                    return self.count("election without a session");
                }
                if replica.receive_election(slot, message).is_err() {
                    self.count("election message refused");
                }
                self.settle(now);
            }
            Datagram::Join(_) => {}
        }
    }

    /// Whether what another node passed on may be looked at.
    fn relay_fits(&mut self, now: Time, by: &Header, original: &Header) -> bool {
        let refused = if self.cluster().slot(by.from).is_none() {
            "relayed by no voter"
        } else if original.cluster != self.cluster().id || original.from == self.me {
            "relayed frame of no use"
        } else if self.refused(now, original.from, original.incarnation) {
            "set back or cloned"
        } else {
            return true;
        };
        self.count(refused);
        false
    }

    /// A part of a bulletin came. It is passed on like a beat.
    fn bulletin_heard(
        &mut self,
        by: &Header,
        part: Part<<A::Status as Words>::Item>,
        relayed: bool,
    ) {
        let unheard = part.unheard;
        let pass_on = (!relayed && unheard != 0).then(|| part.clone());
        let told = self.told.entry(by.from).or_insert_with(Told::nothing);
        told.hear(by.incarnation, part);
        if let Some(part) = pass_on {
            let header = *by;
            self.relay(by.from, unheard, Datagram::RelayedBulletin { header, part });
        }
    }

    /// Passes something of `from` on to the voters that it says it does not reach.
    fn relay(&mut self, from: NodeId, unheard: u8, body: Datagram<A::Status>) {
        if self.grantor.is_none() || planted("beats-not-relayed") {
            return;
        }
        let to: Vec<NodeId> = (1u8..=8)
            .filter(|s| unheard >> (s - 1) & 1 == 1)
            .filter_map(|s| self.state.cluster.voter(crate::id::Slot(s)))
            .filter(|v| *v != self.me && *v != from)
            .collect();
        if !to.is_empty() {
            self.send(to, body, false);
        }
    }

    /// Whether this life of a peer is heard no more: lower than the admitted one (its store was set
    /// back), or the same number twice (it was cloned). Only what is
    /// decided raises the bar, never a hello: anybody with a copy of the store can say one.
    pub(super) fn refused(&mut self, now: Time, peer: NodeId, life: Incarnation) -> bool {
        let admitted = self.admitted_life(peer);
        if life.counter < admitted.counter {
            return true;
        }
        if life.counter > admitted.counter || life == admitted {
            return false;
        }
        let lease = self.state.cluster.timing.lease;
        if self.cool(now, kind::TWICE, peer.0.into(), lease) {
            let text = format!(
                "{} runs twice: two nodes use incarnation {life} of one store; replace it",
                self.state.cluster.name(peer)
            );
            self.output.push(Output::Copies { node: peer, text });
        }
        true
    }

    fn beat_heard(&mut self, now: Time, by: Header, beat: Beat<A::Status>, via: Option<NodeId>) {
        if let Some(hello) = &beat.hello
            && let Some(store) = self.store_of(by.from)
            && store != hello.profile.store
        {
            let text = format!(
                "{} speaks from store {}, but was admitted from store {store}: refused",
                by.from, hello.profile.store
            );
            self.count("another store under a known node id");
            if self.cool(
                now,
                kind::TWICE,
                by.from.0.into(),
                self.state.cluster.timing.lease,
            ) {
                self.output.push(Output::Copies {
                    node: by.from,
                    text,
                });
            }
            return;
        }
        let (sequence, timing, unheard) = (beat.sequence, beat.timing, beat.unheard);
        // Whoever does not hear it asks for it through us.
        let relayed = (via.is_none() && unheard != 0).then(|| Box::new(beat.clone()));
        let record = self.state.cluster.hosts.get(&by.from);
        let admitted = record.map(|h| h.incarnation);
        self.ears.hear(now, by.from, by.incarnation, beat, admitted);
        let (may_grant, lives) = (self.may_grant(), self.lives_vouched());
        let Some(grantor) = self.grantor.as_mut().filter(|_| may_grant) else {
            return;
        };
        let cluster = &self.state.cluster;
        let Some(slot) = cluster.slot(self.me) else {
            return;
        };
        if grantor.may_acknowledge(cluster, by.from, by.incarnation, timing) {
            grantor.acknowledge(now, by.from);
            let ack = Ack {
                host: by.from,
                incarnation: by.incarnation,
                sequence,
                slot,
                epoch: cluster.epoch,
                life: self.incarnation.counter,
                lives,
            };
            // At once, resting on no write; to the relay as well, if there is one: the way back to the
            // host may be cut where the way to the relay is not, and the other way round.
            let to = [Some(by.from), via].into_iter().flatten().collect();
            self.send(to, Datagram::Ack(ack), false);
        }
        if let Some(beat) = relayed {
            self.relay(by.from, unheard, Datagram::Relayed { header: by, beat });
        }
    }

    pub(super) fn acknowledged(&mut self, now: Time, from: NodeId, ack: Ack) {
        if ack.host != self.me {
            // A voter that does not reach the host sent it through us.
            if self.grantor.is_some() && self.cluster().voter(ack.slot) == Some(from) {
                self.send(vec![ack.host], Datagram::Ack(ack), false);
            }
            return;
        }
        if (ack.incarnation != self.incarnation && !planted("answer-to-an-earlier-life"))
            || ack.epoch != self.cluster().epoch
            || self.cluster().slot(from).is_none()
        {
            return self.count("acknowledgement of no use");
        }
        // Counted only after our own Admit is applied, and what we inherited is settled.
        let counts = self.admitted() && self.countable;
        if !counts && !planted("unadmitted-acknowledged") {
            return;
        }
        let cluster = &self.state.cluster;
        let record = cluster.hosts.get(&self.me);
        let bound = self.attest.bound(record, &cluster.timing);
        let terms = (cluster.quorum(), bound);
        let over = self.lease.left(now).is_zero();
        if let Some(end) = self.lease.acknowledged(now, &ack, terms, &cluster.timing) {
            self.output.push(Output::Lease(end));
            if over {
                // The others may count on this host again: they hear it with the next beat.
                self.hurry_beat(now);
            }
        }
    }

    fn reported(&mut self, now: Time, header: Header, report: Observation) {
        if self.cluster().slot(header.from) != Some(report.slot)
            || header.epoch != self.cluster().epoch
        {
            return self.count("report outside the epoch's voters");
        }
        self.state_heard(now, header.from, report.state);
        self.reports.report(now, header.from, report);
    }

    /// The store that `node` is known by: of the first record, or of its Admit.
    fn store_of(&self, node: NodeId) -> Option<StoreId> {
        let cluster = &self.state.cluster;
        let voter = cluster.voters.iter().find(|(n, _)| *n == node);
        let admitted = cluster.hosts.get(&node).map(|h| h.profile.store);
        voter.map(|(_, store)| *store).or(admitted)
    }

    pub(super) fn admitted_life(&self, node: NodeId) -> Incarnation {
        let host = self.state.cluster.hosts.get(&node);
        host.map(|h| h.incarnation).unwrap_or_default()
    }

    /// A life of `node` that was only heard, never admitted, stands above no other any more once it has
    /// been silent for T_d: it was a copy that is gone, or a start that came to nothing.
    fn forget_only_heard(&mut self, now: Time, node: NodeId, life: Incarnation) {
        let Some(windows) = self.windows.get(&node) else {
            return;
        };
        let (newest, admitted) = (windows.newer.incarnation(), self.admitted_life(node));
        // Of that life: the admitted one may be heard by sessions, which no window bars.
        let heard = match planted("only-heard-life-is-kept-beside-sessions") {
            true => self.ears.silent_since(node),
            false => self.ears.life_silent_since(node, newest).max(windows.heard),
        };
        let gone = now.since(heard) >= self.cluster().timing.silence();
        if !gone || [life, admitted].contains(&newest) || planted("only-heard-life-is-kept") {
            return;
        }
        let before = windows.older;
        let kept = before.incarnation() == admitted;
        let newer = if kept {
            before
        } else {
            ReplayWindow::default()
        };
        let older = ReplayWindow::default();
        let windows = Windows {
            newer,
            older,
            heard: now,
        };
        self.windows.insert(node, windows);
        self.ears.forget_newest(node);
        self.told.remove(&node);
        self.doubles.remove(&node);
    }

    /// A life of `node` is heard: a new one, or an older one beside it.
    fn note_life(&mut self, now: Time, node: NodeId, life: Incarnation) {
        let newest = self.windows.get(&node).map(|w| w.newer.incarnation());
        let newest = newest.unwrap_or_default();
        let fresh = Doubles {
            newer: newest,
            older: None,
        };
        let d = self.doubles.entry(node).or_insert(fresh);
        if d.newer != newest {
            *d = fresh;
        }
        if life != newest {
            d.older = Some((life, now));
        }
    }

    /// Another machine speaks as this node. An earlier life of our own may still be on its way; a
    /// later one, or another of the same number, is a copy of this host.
    fn other_self(&mut self, now: Time, life: Incarnation) {
        self.count("own node id used by another store");
        if life.counter < self.incarnation.counter {
            return;
        }
        self.copied = Some(now);
        let lease = self.state.cluster.timing.lease;
        if self.cool(now, kind::TWICE, self.me.0.into(), lease) {
            let text = format!(
                "this host runs twice: another machine speaks as it, incarnation {life}; this is \
                 incarnation {}. No guest is started here meanwhile",
                self.incarnation
            );
            self.output.push(Output::Copies {
                node: self.me,
                text,
            });
        }
    }
}
