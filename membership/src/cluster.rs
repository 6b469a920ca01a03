//! The replicated state of the membership: the same at every node after the same entries.

use crate::entry::{Armed, AttemptEnd, Away, Ground, Profile, Proof};
use crate::founding::{Founding, ProofPolicy};
use crate::id::{ClusterId, Epoch, Incarnation, NodeId, Slot, StoreId, Token};
use crate::mutants::planted;
use crate::timing::Timing;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Who is in and who leads, as decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// The cluster's name.
    pub id: ClusterId,
    /// The version of the rules by which the log is applied from here on.
    pub rules: u16,
    /// The current epoch.
    pub epoch: Epoch,
    /// Its voters, slot 1 first.
    pub voters: Vec<(NodeId, StoreId)>,
    /// The timing every node runs.
    pub timing: Timing,
    /// Token of the timing values; what hosts attest.
    pub timing_token: Token,
    /// What counts as proof.
    pub proof: ProofPolicy,
    /// The current term, if any.
    pub term: Option<Term>,
    /// Nobody holds a term that could still be acted on: the next holder need not wait.
    pub clear: bool,
    /// Every node that was ever admitted.
    pub hosts: BTreeMap<NodeId, Host>,
    /// Rises with every change of members, states or coordinator.
    pub view: u64,
    /// Entries applied in this epoch.
    pub applied: u64,
    pub(crate) proposals: BTreeMap<NodeId, Proposals>,
}

/// A term of the coordinator role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// Whose it is.
    pub node: NodeId,
    /// The incarnation it belongs to (V9).
    pub incarnation: Incarnation,
    /// Token of the Term entry: the term itself.
    pub token: Token,
    /// No earlier coordinator can still act, so the wait G_c is not needed.
    pub waived: bool,
}

/// What is decided about one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// What it is.
    pub profile: Profile,
    /// Its admitted incarnation.
    pub incarnation: Incarnation,
    /// Token of its Admit.
    pub admitted: Token,
    /// Who ends its guests at lease end, as it attested last.
    pub armed: Option<Armed>,
    /// Number of that word; 0 before the first of this incarnation.
    pub word: u64,
    /// Token and ground of the standing revoke.
    pub revoke: Option<(Token, Ground)>,
    /// How it is known that the incarnation can do nothing any more.
    pub proved: Option<Proof>,
    /// Fence attempts on it that may still have an effect.
    pub attempts: BTreeMap<Token, Attempt>,
    /// Attempts that ended, newest last; forgotten at the next Admit.
    pub tried: Vec<(Attempt, AttemptEnd)>,
    /// The newest fence attempt on any incarnation of it; the brake counts from the log.
    pub last_attempt: Option<Token>,
    /// Out of service by an operator's will.
    pub away: Option<Away>,
}

/// A fence attempt in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Token of its entry.
    pub token: Token,
    /// The incarnation aimed at.
    pub incarnation: Incarnation,
    /// The revoke it rests on.
    pub revoke: Token,
    /// Place of the level among the host's levels, from 0.
    pub level: u8,
    /// Names of the devices.
    pub device: String,
    /// Launch ends this long after the proposal.
    pub launch_within: Duration,
    /// The device acts this long after launch at most.
    pub limit: Duration,
}

/// What a node is to the rest of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostState {
    /// In service.
    Member,
    /// Taken out by an operator.
    Away,
    /// Judged lost; not yet proved.
    Lost,
    /// Proved to do nothing any more.
    Fenced,
}

impl Host {
    /// What it is to the rest of the cluster.
    #[must_use]
    pub fn state(&self) -> HostState {
        match (&self.proved, self.revoke, self.away) {
            (Some(_), _, _) => HostState::Fenced,
            (None, Some(_), _) => HostState::Lost,
            (None, None, Some(_)) => HostState::Away,
            (None, None, None) => HostState::Member,
        }
    }

    /// Token of the standing, unproved revoke.
    #[must_use]
    pub fn open_revoke(&self) -> Option<Token> {
        if self.proved.is_some() {
            None
        } else {
            self.revoke.map(|(token, _)| token)
        }
    }

    /// Whether guests may be given to it.
    #[must_use]
    pub fn usable(&self) -> bool {
        self.state() == HostState::Member && self.armed.is_some() && !self.profile.witness
    }
}

/// Numbers of a node's proposals that the log remembers as applied; one below all of them counts as
/// applied too.
pub const PROPOSALS_REMEMBERED: usize = 256;

/// Lives of one node whose proposals the log tells apart. A life takes a start of the daemon, or of a
/// copy, that came as far as the log.
const LIVES_REMEMBERED: usize = 8;

/// Proposals of one node already applied, by its lives. One that was never admitted
/// takes nothing away from the one that is: anybody with a copy of a store can live above it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proposals(BTreeMap<Incarnation, Numbers>);

/// Numbers of the proposals of one life: those seen, and the highest that are no longer told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Numbers {
    floor: u64,
    seen: BTreeSet<u64>,
}

impl Proposals {
    /// Remembers (life, sequence) and gives whether it is new. A life counts for nothing more once a later one
    /// has spoken that is, or was before, the `admitted` one.
    pub(crate) fn fresh(
        &mut self,
        admitted: Incarnation,
        life: Incarnation,
        sequence: u64,
    ) -> bool {
        let counted = if planted("heard-life-outranks-in-the-log") {
            u64::MAX
        } else {
            admitted.counter
        };
        let until = Incarnation {
            counter: counted,
            random: u64::MAX,
        };
        let spoken = self.0.range(..=until).next_back();
        let spoken = spoken.map(|(life, _)| life.counter);
        if spoken.is_some_and(|spoken| life.counter < spoken) {
            return false;
        }
        let numbers = self.0.entry(life).or_default();
        if sequence <= numbers.floor || !numbers.seen.insert(sequence) {
            return false;
        }
        while numbers.seen.len() > PROPOSALS_REMEMBERED {
            if let Some(lowest) = numbers.seen.pop_first() {
                numbers.floor = lowest;
            }
        }
        // What a spoken life has replaced is refused unseen.
        let spoken = spoken.max(Some(life.counter).filter(|life| *life <= counted));
        self.0
            .retain(|of, _| spoken.is_none_or(|spoken| of.counter >= spoken));
        while self.0.len() > LIVES_REMEMBERED {
            // Not the one that counts, or the newest that did.
            let kept = |of: &Incarnation| match self.0.contains_key(&admitted) {
                true => *of == admitted,
                false => Some(of.counter) == spoken,
            };
            let others = || self.0.keys().copied();
            let oldest = others().find(|of| !kept(of)).or_else(|| others().next());
            oldest.map(|oldest| self.0.remove(&oldest));
        }
        true
    }
}

impl Cluster {
    /// The state before the first entry.
    #[must_use]
    pub fn new(founding: &Founding) -> Cluster {
        Cluster {
            id: founding.cluster,
            rules: founding.rules,
            epoch: founding.epoch,
            voters: founding.voters.clone(),
            timing: founding.timing.clone(),
            timing_token: Token::new(founding.epoch, 0),
            proof: founding.proof,
            term: None,
            clear: true,
            hosts: BTreeMap::new(),
            view: 0,
            applied: 0,
            proposals: BTreeMap::new(),
        }
    }

    /// Token of the last entry applied.
    #[must_use]
    pub fn at(&self) -> Token {
        Token::new(self.epoch, self.applied)
    }

    /// Votes needed for a decision.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.voters.len() / 2 + usize::from(!planted("half-is-a-quorum"))
    }

    /// The slot `node` votes in.
    #[must_use]
    pub fn slot(&self, node: NodeId) -> Option<Slot> {
        let at = self.voters.iter().position(|(n, _)| *n == node)?;
        u8::try_from(at + 1).ok().map(Slot)
    }

    /// The voter in `slot`.
    #[must_use]
    pub fn voter(&self, slot: Slot) -> Option<NodeId> {
        self.voters
            .get(usize::from(slot.0).checked_sub(1)?)
            .map(|(n, _)| *n)
    }

    /// Whether `incarnation` is the admitted one of `node`.
    #[must_use]
    pub fn admitted(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.hosts
            .get(&node)
            .is_some_and(|h| h.incarnation == incarnation)
    }

    /// The node of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<NodeId> {
        self.hosts
            .iter()
            .find(|(_, h)| h.profile.name == name)
            .map(|(n, _)| *n)
    }

    /// The name of `node`, or its number if it was never admitted.
    #[must_use]
    pub fn name(&self, node: NodeId) -> String {
        self.hosts
            .get(&node)
            .map_or_else(|| node.to_string(), |h| h.profile.name.clone())
    }

    /// The current view, for people and users of the library.
    #[must_use]
    pub fn view(&self) -> View {
        let members = self
            .hosts
            .iter()
            .map(|(node, h)| ViewMember {
                node: *node,
                name: h.profile.name.clone(),
                state: h.state(),
                witness: h.profile.witness,
                voter: self.slot(*node).is_some(),
            })
            .collect();
        View {
            number: self.view,
            epoch: self.epoch,
            members,
            coordinator: self.term.map(|t| t.node),
        }
    }
}

/// A decided view: every node goes through the same ones in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its number.
    pub number: u64,
    /// The epoch it was decided in.
    pub epoch: Epoch,
    /// Every node known, in order of node id.
    pub members: Vec<ViewMember>,
    /// Whose term it is.
    pub coordinator: Option<NodeId>,
}

/// One node of a view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewMember {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: HostState,
    /// Votes but never runs guests.
    pub witness: bool,
    /// Votes.
    pub voter: bool,
}
