//! Logs that were claimed and that no voter holds any more. Stores of several voters that were set back
//! to before the same change have lost it; whoever heard one of them claim it knows that it was there.

use super::super::duties::kind;
use super::super::{Member, Output};
use crate::app::Application;
use crate::consensus::Replica;
use crate::mutants::planted;
use crate::time::Time;

impl<A: Application> Member<A> {
    /// Tells in an alert that all voters together, who may vouch for each other, lack what one of them
    /// once claimed; says whether this one refuses to go on without it.
    pub(super) fn lost_together(&mut self, now: Time) -> bool {
        if !self.known_lost() {
            return false;
        }
        self.tell_lost(now);
        self.vouching.waits && !planted("all-together-forget")
    }

    /// Says whether a log was claimed that is newer than what any voter holds, all of them having answered.
    fn known_lost(&self) -> bool {
        let v = &self.vouching;
        let own = self.replica.as_ref().map(Replica::claim);
        let held = v.answers.values().map(|a| a.claim).chain(own);
        let held = held.map(|claim| claim.log()).max();
        // What a voter claimed to this one since it answered is no sign of anything.
        let behind = v.behind.iter().map(|peer| self.peer(*peer).claim.log());
        let heard = v.answers.values().map(|a| a.heard.log());
        let marked = v.marked.map(|claim| claim.log());
        let claimed = behind.chain(heard).chain(marked);
        claimed.chain(v.told.newest()).max() > held
    }

    fn tell_lost(&mut self, now: Time) {
        let lease = self.cluster().timing.lease;
        if !self.cool(now, kind::LOST, 0, lease) {
            return;
        }
        let then = if self.vouching.waits {
            "this node does not vote; without `unvouched = \"wait\"` it goes on with what is left"
        } else {
            "the cluster goes on with what is left"
        };
        let text = format!(
            "stores of several voters were set back: no voter holds all that one of them had said it \
             held, so changes that were confirmed may be lost; {then}"
        );
        self.output.push(Output::Alert {
            node: self.me,
            text,
        });
    }
}
