//! The lease beat of this node.

use super::Member;
use crate::app::Application;
use crate::frame::{Ack, Beat, Datagram, Hello};
use crate::time::Time;

impl<A: Application> Member<A> {
    /// Sends the lease beat, and the parts of the bulletin that are due with it.
    pub(super) fn beat(&mut self, now: Time) {
        let t = self.cluster().timing.clone();
        (self.last_beat, self.next_beat) = (now, now + t.heartbeat);
        self.beat_sequence += 1;
        self.attest.judge(now, &t);
        self.lease.sending(now, self.beat_sequence, &t);
        let hello = || Hello {
            profile: self.profile.clone(),
            emptied: self.emptied,
        };
        let hello = (!self.admitted() && self.presentable).then(|| Box::new(hello()));
        let slots = self.cluster().voters.len();
        let beat = Beat {
            sequence: self.beat_sequence,
            hello,
            lease_left: self.lease.left(now),
            renewed_ago: self.lease.renewed_ago(now),
            timing: self.cluster().timing_token,
            word: self.attest.word(),
            full: self.voter_failed.is_some(),
            unheard: self.lease.unheard(now, slots, t.heartbeat + t.jitter),
            hears: self.hears(now),
            applied: self.cluster().applied,
            status: self.status.clone(),
        };
        self.hear_own(now, &beat);
        let unheard = beat.unheard;
        self.send(Vec::new(), Datagram::Beat(beat), false);
        for part in self.bulletin.due(unheard) {
            self.send(Vec::new(), Datagram::Bulletin(part), false);
        }
    }

    /// One bit per slot of the voters that this node has heard lately.
    fn hears(&self, now: Time) -> u8 {
        let window = self.cluster().timing.heartbeat + self.cluster().timing.jitter;
        let voters = self.cluster().voters.iter().take(8).enumerate();
        voters
            .filter(|(_, (v, _))| {
                let heard = self.ears.get(*v).is_some() && self.ears.silent(now, *v) <= window;
                *v == self.me || heard
            })
            .fold(0, |bits, (slot, _)| bits | 1 << slot)
    }

    /// A voter is a host too: it hears its own beat, and its own acknowledgement counts as one.
    fn hear_own(&mut self, now: Time, beat: &Beat<A::Status>) {
        let (me, incarnation) = (self.me, self.incarnation);
        let admitted = Some(incarnation);
        self.ears.hear(now, me, incarnation, beat.clone(), admitted);
        let (may_grant, lives) = (self.may_grant(), self.lives_vouched());
        let Some(grantor) = self.grantor.as_mut().filter(|_| may_grant) else {
            return;
        };
        let cluster = &self.state.cluster;
        let Some(slot) = cluster.slot(me) else { return };
        if grantor.may_acknowledge(cluster, me, incarnation, beat.timing) {
            grantor.acknowledge(now, me);
            let (sequence, epoch) = (beat.sequence, cluster.epoch);
            self.acknowledged(
                now,
                me,
                Ack {
                    host: me,
                    incarnation,
                    sequence,
                    slot,
                    epoch,
                    life: incarnation.counter,
                    lives,
                },
            );
        }
    }
}
