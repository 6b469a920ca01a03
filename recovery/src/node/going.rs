//! How a life of the node ends: taken out of service, or proved to be over.

use super::Node;
use crate::contract::Departure;
use crate::mutants::planted;
use crate::planner::kind;
use quorate_membership::Time;
use quorate_membership::entry::{Away, Entry};

impl Node {
    /// A proof about this very life of ours: everything is ended, and a new life begins (V3). Read
    /// off the state, because the entry itself may have been skipped by a state handed over.
    pub(super) fn begin_anew(&mut self) {
        let (me, life) = (self.member.me(), self.member.incarnation());
        let proved = self
            .member
            .cluster()
            .hosts
            .get(&me)
            .is_some_and(|h| h.incarnation == life && h.proved.is_some());
        if proved && !self.restarted && !planted("proved-life-goes-on") {
            self.restarted = true;
            let above = match planted("named-life-not-heeded") {
                true => 0,
                false => self.member.above(),
            };
            self.restart = Some(("this incarnation was proved ended".to_owned(), above));
        }
    }

    /// Going out of service: first the log knows, then the guests end, then the coordinator's role is
    /// another's, then the node ends.
    pub(super) fn leave(&mut self, now: Time) {
        if self.exit.is_some() {
            return;
        }
        let Some((why, since)) = self.leaving else {
            return;
        };
        let retry = self.member.cluster().timing.election * 2;
        // A stop alone must not outlast the daemon's own lease; an orderly leave may take its time.
        let t = &self.member.cluster().timing;
        let patience = if why == Away::Stop {
            t.election * 5
        } else {
            t.lease * 2
        };
        let me = self.member.me();
        let away = self
            .member
            .cluster()
            .hosts
            .get(&me)
            .is_some_and(|h| h.away.is_some());
        let empty =
            why == Away::Stop || (self.executor.idle() && !self.member.app().holds_open(me));
        if self.member.admitted() && !away && self.member.cool(now, kind::AWAY, 0, retry) {
            let incarnation = self.member.incarnation();
            self.member.propose(
                now,
                Entry::Away {
                    node: me,
                    incarnation,
                    why,
                },
            );
        }
        let late = now.since(since) >= patience;
        // A life that was never admitted has nothing to tell the cluster, but still guests to end.
        let unknown = !self.member.admitted() && (why == Away::Stop || self.executor.idle());
        let settled = (away && empty) || unknown;
        // A coordinator that only vanished would leave its successor to wait out its whole lease.
        let resigned = settled && self.member.resign(now);
        let hasty = settled && planted("gone-before-resigned");
        if resigned || late || hasty {
            self.exit = Some(if settled {
                (Departure::Recorded, format!("out of service: {why:?}"))
            } else {
                let why = match (empty, self.executor.idle()) {
                    (true, _) => "no quorum answered, or the disk of this node did not, in time",
                    (false, false) => "a guest of this host did not end in time",
                    (false, true) => "the end of a guest of this host was not recorded in time",
                };
                let text = format!("left without the cluster's word: {why}");
                (Departure::Unrecorded, text)
            });
        }
    }
}
