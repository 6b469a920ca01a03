//! What comes in from other nodes.

use super::{Member, Output};
use crate::app::Application;
use crate::bulletin::{Part, Told};
use crate::frame::{Ack, Beat, Datagram, Frame, Header, Observation, Words};
use crate::id::NodeId;
use crate::mutants::planted;
use crate::store::Write;
use crate::time::Time;

impl<A: Application> Member<A> {
    /// A datagram came in; its sender is authenticated.
    pub fn frame(&mut self, now: Time, frame: Frame<A::Status>) {
        let header = frame.header;
        if header.from == self.me {
            // Our own multicast, or somebody who uses our number.
            if header.incarnation != self.incarnation {
                self.count("own node id used by another store");
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
        if self.set_back(now, &header) {
            return self.count("set back or cloned");
        }
        if !self
            .windows
            .entry(header.from)
            .or_default()
            .fresh(header.incarnation, header.number)
        {
            return self.count("repeat or older incarnation");
        }
        self.said(now, header, frame.body);
    }

    /// Takes in what a datagram says, once its sender is known to be whom it names.
    pub(super) fn said(&mut self, now: Time, header: Header, body: Datagram<A::Status>) {
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
        } else if self.set_back(now, original) {
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

    /// A peer that comes back lower than last seen, or twice with one counter, was set back or
    /// cloned; it is heard no more until an operator replaces it.
    pub(super) fn set_back(&mut self, now: Time, header: &Header) -> bool {
        let Some((seen, _)) = self.seen.get(&header.from) else {
            return false;
        };
        let (seen, life) = (*seen, header.incarnation);
        if life.counter > seen.counter || life == seen {
            return false;
        }
        let lease = self.state.cluster.timing.lease;
        if life.counter == seen.counter && self.cool(now, 0, header.from.0.into(), lease) {
            let text = format!(
                "{} runs twice: two nodes use incarnation {life} of one store; replace it",
                header.from
            );
            self.output.push(Output::Alert {
                node: header.from,
                text,
            });
        }
        true
    }

    fn beat_heard(&mut self, now: Time, by: Header, beat: Beat<A::Status>, via: Option<NodeId>) {
        if let Some(hello) = &beat.hello {
            if let Some((_, store)) = self.seen.get(&by.from)
                && *store != hello.profile.store
            {
                let text = format!(
                    "{} speaks from store {}, but was admitted from store {store}: refused",
                    by.from, hello.profile.store
                );
                self.count("another store under a known node id");
                if self.cool(now, 0, by.from.0.into(), self.state.cluster.timing.lease) {
                    self.output.push(Output::Alert {
                        node: by.from,
                        text,
                    });
                }
                return;
            }
            let seen = (by.incarnation, hello.profile.store);
            if self.seen.get(&by.from) != Some(&seen) {
                self.seen.insert(by.from, seen);
                let (node, incarnation, store) = (by.from, by.incarnation, hello.profile.store);
                self.output.push(Output::Write(Write::Seen {
                    node,
                    incarnation,
                    store,
                }));
            }
        }
        let (sequence, timing, unheard) = (beat.sequence, beat.timing, beat.unheard);
        // Whoever does not hear it asks for it through us.
        let relayed = (via.is_none() && unheard != 0).then(|| Box::new(beat.clone()));
        self.ears.hear(now, by.from, by.incarnation, beat);
        let Some(grantor) = &mut self.grantor else {
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
        let (quorum, cluster) = (self.cluster().quorum(), &self.state.cluster);
        let over = self.lease.left(now).is_zero();
        if let Some(end) = self.lease.acknowledged(now, &ack, quorum, &cluster.timing) {
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
        self.reports.report(now, header.from, report);
    }
}
