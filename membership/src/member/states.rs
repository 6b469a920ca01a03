//! What a member does with what the voters say of their states (reading 19).

use super::duties::{TOLD, kind};
use super::{Member, Output};
use crate::app::Application;
use crate::apply::State;
use crate::codec;
use crate::consensus::{Command, Replica};
use crate::frame::Stream;
use crate::id::{NodeId, Token};
use crate::mutants::planted;
use crate::states::{Agreement, RULES, Said, StateWord, compared_at};
use crate::time::Time;
use crate::vouch::Standing;

/// A voter that has so many decided entries still to apply hashes no state on its way, ...
const BEHIND: u64 = 4096;
/// ... and one that starts not even with so few: it shall be there soon.
const BEHIND_AT_START: u64 = 64;

/// The voters' states, and what follows from them here.
#[derive(Debug)]
pub(super) struct States<C: Command> {
    said: Said,
    agreement: Agreement,
    /// Since when no quorum is known to have made the same.
    divided: Option<Time>,
    left: Option<Left<C>>,
    /// It has taken part again since it left the log: the next time it stays out for this life.
    again: bool,
}

impl<C: Command> Default for States<C> {
    fn default() -> States<C> {
        States {
            said: Said::default(),
            agreement: Agreement::default(),
            divided: None,
            left: None,
            again: false,
        }
    }
}

/// Why this node has left the log.
#[derive(Debug)]
struct Left<C: Command> {
    why: String,
    /// The voters whose state is the right one; none where no state will help.
    right: Vec<NodeId>,
    /// Their state was taken over.
    whole: bool,
    /// Its part in the log, which is as right as before: only the state is not. Nothing where it stays out
    /// for this life.
    aside: Option<Replica<C>>,
}

impl<A: Application> Member<A> {
    /// What the voters are known to have made of the log.
    #[must_use]
    pub fn agreement(&self) -> &Agreement {
        &self.states.agreement
    }

    /// Whether orders may rest on the state of this voter: in the present term a quorum made the
    /// same of the log, this voter among them, and nothing newer says otherwise.
    #[must_use]
    pub fn states_agree(&self) -> bool {
        if planted("states-not-compared") {
            return true;
        }
        let term = self.state.cluster.term.map_or(Token::NONE, |t| t.token);
        self.states.left.is_none()
            && match &self.states.agreement {
                Agreement::Agreed { at, agree, .. } => *at >= term && agree.contains(&self.me),
                Agreement::Divided { .. } | Agreement::Unknown => planted("divided-goes-on"),
            }
    }

    /// Whether what was applied here is known to be wrong, or to be by rules that this build does not
    /// know: nothing may be started by it.
    #[must_use]
    pub fn state_in_doubt(&self) -> bool {
        self.states.left.as_ref().is_some_and(|left| !left.whole)
    }

    /// Whether this node has left the log, until it has a right state or for this life: its state was another
    /// than that of a quorum, or it does not know the rules.
    #[must_use]
    pub fn left_log(&self) -> bool {
        self.states.left.is_some()
    }

    /// Changes what this node made of the log, as a broken memory would: for fault injection alone.
    #[doc(hidden)]
    pub fn alter_state(&mut self, change: impl FnOnce(&mut State<A>)) {
        change(&mut self.state);
    }

    /// What an operator should know of the voters' states, in words.
    #[must_use]
    pub fn states_remark(&self) -> Option<String> {
        if let Some(left) = &self.states.left {
            let state = match (left.whole, left.right.is_empty()) {
                (true, _) => {
                    "it follows another voter with a right state, and stays out of the log until its \
                     daemon is restarted, for it has left it twice: its memory or disk is bad"
                }
                (false, false) => "it waits for a right state",
                (false, true) => "it starts no guest",
            };
            return Some(format!("this node has left the log: {}; {state}", left.why));
        }
        match &self.states.agreement {
            Agreement::Divided { at, groups } => Some(self.divided(*at, groups)),
            Agreement::Agreed { at, agree, differ } if !differ.is_empty() => {
                Some(self.differing(*at, differ, agree))
            }
            Agreement::Agreed { .. } | Agreement::Unknown => None,
        }
    }

    /// A renewal of the coordinator's lease was applied: states may be compared after it.
    pub(super) fn renewed(&mut self, now: Time, token: Token, number: u64, replayed: bool) {
        if !compared_at(number) || self.grantor.is_none() {
            return;
        }
        let applied = self.state.cluster.applied;
        let decided = self.replica.as_ref().map_or(applied, |r| r.decided());
        let most = if replayed { BEHIND_AT_START } else { BEHIND };
        if decided.saturating_sub(applied) > most {
            return;
        }
        let word = StateWord {
            token,
            hash: codec::checksum(&self.state),
            rules: self.state.cluster.rules,
        };
        self.states.said.take(self.me, word);
        self.compare(now);
        if !replayed {
            self.report(now);
        }
    }

    /// What this voter says of its state.
    pub(super) fn state_word(&self) -> StateWord {
        self.states.said.newest(self.me)
    }

    /// Another voter said what it made of the log.
    pub(super) fn state_heard(&mut self, now: Time, from: NodeId, word: StateWord) {
        if self.states.said.newest(from) != word {
            self.states.said.take(from, word);
            self.compare(now);
        }
    }

    fn compare(&mut self, now: Time) {
        let cluster = &self.state.cluster;
        let voters: Vec<NodeId> = cluster.voters.iter().map(|(v, _)| *v).collect();
        self.states.agreement = self.states.said.judge(&voters, cluster.quorum());
        match self.states.agreement.clone() {
            Agreement::Agreed { at, agree, differ } => {
                if differ.contains(&self.me) && self.states.left.is_none() {
                    let why = self.differing(at, &[self.me], &agree);
                    self.leave_log(why, agree.clone());
                }
                let me = self.me;
                for node in differ.into_iter().filter(|n| *n != me) {
                    if self.cool(now, kind::DIFFERS, node.0.into(), TOLD) {
                        let text = self.differing(at, &[node], &agree);
                        self.output.push(Output::Alert { node, text });
                    }
                }
            }
            Agreement::Divided { .. } | Agreement::Unknown => {}
        }
    }

    /// Says that no quorum made the same, once that is not for want of words on their way.
    pub(super) fn tell_divided(&mut self, now: Time) {
        let Agreement::Divided { at, groups } = &self.states.agreement else {
            self.states.divided = None;
            return;
        };
        let t = &self.state.cluster.timing;
        let patience = t.heartbeat * 2 + t.jitter;
        let since = *self.states.divided.get_or_insert(now);
        if now.since(since) < patience {
            return;
        }
        let text = self.divided(*at, groups);
        if self.cool(now, kind::DIFFERS, 0, TOLD) {
            let node = self.me;
            self.output.push(Output::Alert { node, text });
        }
    }

    /// Takes no part in the log until a voter in `right` has given it its state; without such voters, or
    /// the second time, for the rest of this life. Leases are acknowledged as before.
    fn leave_log(&mut self, why: String, right: Vec<NodeId>) {
        let aside = self.replica.take().filter(|_| {
            let for_life = right.is_empty() || self.states.again;
            !for_life && !planted("out-of-the-log-for-life")
        });
        self.office.left_log(self.last_step);
        self.feeds.clear();
        self.following = None;
        let text = format!("this node leaves the log: {why}");
        self.output.push(Output::Alert {
            node: self.me,
            text,
        });
        self.states.left = Some(Left {
            why,
            right,
            whole: false,
            aside,
        });
    }

    /// Whether this build knows the rules by which the log is applied from here on; if not, it goes
    /// no further.
    pub(super) fn rules_known(&mut self) -> bool {
        let cluster = &self.state.cluster;
        if cluster.rules <= RULES {
            return true;
        }
        if self.states.left.is_none() {
            let why = format!(
                "behind entry {} it is applied by rules of version {}, and this build knows those up \
                 to {RULES}: install the version of the other nodes",
                Token::new(cluster.epoch, cluster.applied),
                cluster.rules
            );
            self.leave_log(why, Vec::new());
        }
        false
    }

    /// Whether the state applied here may be handed to others: a quorum made the same.
    pub(super) fn state_trusted(&self) -> bool {
        planted("states-not-compared")
            || matches!(&self.states.agreement, Agreement::Agreed { agree, .. } if agree.contains(&self.me))
    }

    /// Answers whether the state applied here may be handed to a voter that was left behind: a quorum
    /// made the same; or nobody compared it with theirs, and the log has stood still for so long that no
    /// comparison will come without that voter.
    pub(super) fn may_hand_over(&self, now: Time) -> bool {
        let patience = self.cluster().timing.election * 2;
        let still = now.since(self.progress.1) >= patience;
        let uncompared = match &self.states.agreement {
            Agreement::Unknown => true,
            // It took its state over behind the entry after which they compared theirs.
            Agreement::Agreed { differ, .. } => {
                !differ.contains(&self.me) && !planted("state-handed-on-only-once-compared")
            }
            Agreement::Divided { .. } => false,
        };
        self.state_trusted() || uncompared && still && !self.left_log()
    }

    /// The voters that this node may follow now; the others have no right state for it.
    pub(super) fn followable(&self, voters: Vec<NodeId>) -> Vec<NodeId> {
        let Some(left) = self.states.left.as_ref().filter(|left| !left.whole) else {
            return voters;
        };
        let right = voters.into_iter();
        right.filter(|v| left.right.contains(v)).collect()
    }

    /// What this node asks the voter that it begins to follow for.
    pub(super) fn asks_to_follow(&self) -> Stream<A::Command> {
        if self.state_in_doubt() {
            return Stream::Whole;
        }
        let from = self.state.cluster.applied;
        Stream::Follow { from }
    }

    /// A right state was taken over: this voter takes part in the log again, once in a life. Until states
    /// are compared again nothing is ordered by what it knows.
    pub(super) fn state_is_whole(&mut self) {
        let Some(left) = &mut self.states.left else {
            return;
        };
        left.whole = true;
        let sound = self.voter_failed.is_none();
        let Some(mut replica) = left.aside.take().filter(|_| sound) else {
            return;
        };
        replica.hold();
        for (slot, life) in self.lives_vouched() {
            replica.vouched(slot, life);
        }
        for (peer, life) in &self.sessions {
            if let Some(slot) = self.state.cluster.slot(*peer) {
                replica.speaks(slot, life.counter);
            }
        }
        let promise = replica.claim().promise;
        self.replica = Some(replica);
        (self.states.left, self.states.again) = (None, true);
        self.states.said.forget(self.me);
        self.states.agreement = Agreement::Unknown;
        self.following = None;
        self.vouching.asks_anew();
        if self.vouching.standing != Standing::Seeking && !self.adopt(promise, None) {
            return;
        }
        let text = "this node has taken over a right state and takes part in the log again; if it \
                    leaves it once more, its memory or disk is bad";
        self.alert(self.me, text.to_owned());
    }

    fn differing(&self, at: Token, differ: &[NodeId], agree: &[NodeId]) -> String {
        format!(
            "the state of {} after entry {at} is not that of {}, which are a quorum",
            self.names(differ),
            self.names(agree)
        )
    }

    fn divided(&self, at: Token, groups: &[Vec<NodeId>]) -> String {
        let groups: Vec<String> = groups.iter().map(|g| self.names(g)).collect();
        format!(
            "voters made different states of the log up to entry {at}, and no quorum the same: no guest \
             is placed and no host proved over until one does; leases go on. On different sides are: {}",
            groups.join("; ")
        )
    }

    fn names(&self, nodes: &[NodeId]) -> String {
        let names: Vec<String> = nodes.iter().map(|n| self.state.cluster.name(*n)).collect();
        names.join(", ")
    }
}
