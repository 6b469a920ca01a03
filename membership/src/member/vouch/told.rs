//! Claims of voters that others tell of. One that holds less than it claimed to another was set
//! back, perhaps without knowing it yet: it answers, but vouches for nobody.

use super::super::Member;
use super::Vouching;
use crate::app::Application;
use crate::id::{NodeId, Slot};
use crate::mutants::planted;
use crate::time::Time;
use crate::vouch::{Claim, LogEnd, Standing, Statement};
use std::collections::BTreeMap;

/// The newest log that each voter claimed to others, by their word, and when they told of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Told(BTreeMap<NodeId, (LogEnd, Time)>);

impl Told {
    /// The newest of all.
    pub(super) fn newest(&self) -> Option<LogEnd> {
        self.0.values().map(|(end, _)| *end).max()
    }

    /// Notes what was heard of `node`; says whether it is news.
    fn raise(&mut self, now: Time, node: NodeId, end: LogEnd) -> bool {
        let news = self.0.get(&node).is_none_or(|(known, _)| end > *known);
        if news {
            self.0.insert(node, (end, now));
        }
        news
    }

    /// Time at which others told that `node` had claimed more than `claim`, if they did.
    fn above(&self, node: NodeId, claim: &Claim) -> Option<Time> {
        let (end, at) = self.0.get(&node)?;
        (*end > claim.log()).then_some(*at)
    }
}

impl<C> Vouching<C> {
    /// Says whether the answer of `node` may vouch: it is vouched for itself, and holds what it ever claimed.
    pub(super) fn may_vouch(&self, node: NodeId, answer: &Statement) -> bool {
        let forgot = self.behind.contains(&node) || self.told.above(node, &answer.claim).is_some();
        answer.standing == Standing::Vouched && (!forgot || planted("set-back-voter-vouches"))
    }
}

impl<A: Application> Member<A> {
    /// The newest log that each other voter ever claimed to this one, and that its own mark names.
    pub(super) fn heard_of(&self) -> Vec<(Slot, LogEnd)> {
        let voters = self.other_voters().into_iter();
        let claims = voters.map(|peer| (peer, self.peer(peer).claim));
        let claims = claims.chain(self.vouching.marked.map(|mark| (self.me, mark)));
        let cluster = self.cluster();
        claims
            .filter_map(|(node, claim)| Some((cluster.slot(node)?, claim.log())))
            .collect()
    }

    /// Notes what the voter `by` had heard others claim. An answer that is older than that is asked
    /// for anew; until then it vouches for nobody, but the log that it names is known to be there.
    pub(super) fn told_by(&mut self, now: Time, by: NodeId, heard_of: &[(Slot, LogEnd)]) {
        let most = self.cluster().voters.len();
        for (slot, end) in heard_of.iter().take(most) {
            let Some(node) = self.cluster().voter(*slot).filter(|node| *node != self.me) else {
                continue;
            };
            let news = self.vouching.told.raise(now, node, *end);
            let answer = self.vouching.answers.get(&node);
            if news
                && node != by
                && answer.is_some_and(|a| self.vouching.told.above(node, &a.claim).is_some())
                && !planted("set-back-voter-vouches")
            {
                self.vouching.outdated.insert(node);
                if self.sessions.contains_key(&node) {
                    self.state_to(node, None);
                }
            }
        }
    }

    /// Says whether others told just now that `peer` had claimed more than it states here: the statement may
    /// have been on its way for longer. A later one is asked for, and taken as it is.
    pub(super) fn outrun(&self, now: Time, peer: NodeId, claim: &Claim) -> bool {
        let told = self.vouching.told.above(peer, claim);
        told.is_some_and(|at| now.since(at) < self.cluster().timing.election)
            && !planted("set-back-voter-vouches")
    }
}
