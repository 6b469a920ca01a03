//! How nodes without a cluster come to one: the founding of a cluster, and the joining of one.
//!
//! The founder calls the first voters it was given. Each durably pledges its vote to one cluster
//! and tells its store; only when *all* stores are known does the founder write the first record,
//! durably before anybody hears of it. A founder has pledged its own vote too, so two founders
//! that name each other both stop at the other's pledge, and neither founds anything (C14).

use crate::founding::{Founding, ProofPolicy};
use crate::frame::Join;
use crate::id::{ClusterId, Epoch, NodeId, StoreId};
use crate::mutants::planted;
use crate::states::RULES;
use crate::time::Time;
use crate::timing::Timing;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Time between two calls.
const PERIOD: Duration = Duration::from_millis(200);
/// A node that has the record goes on telling it for this long, for those that missed it.
const LINGER: Duration = Duration::from_secs(1);

/// The last epoch that a token has room for.
const EPOCHS: u32 = (1 << 16) - 1;

/// What a founder was told.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name of the cluster to be.
    pub cluster: ClusterId,
    /// Its first voters, the founder among them.
    pub voters: Vec<NodeId>,
    /// The timing of all nodes.
    pub timing: Timing,
    /// What counts as proof.
    pub proof: ProofPolicy,
}

/// One node on its way into a cluster.
#[derive(Clone, Debug)]
pub struct Handshake {
    me: NodeId,
    store: StoreId,
    pledged: Option<ClusterId>,
    /// The highest epoch of any cluster that this node, or a voter that was heard, knows of.
    floor: Epoch,
    plan: Option<Plan>,
    stores: BTreeMap<NodeId, StoreId>,
    founding: Option<(Founding, Time)>,
    confirmed: BTreeSet<NodeId>,
    next: Time,
}

/// Something to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make the pledge durable before anything else is sent.
    Pledge(ClusterId),
    /// Make the first record durable before anything else is sent.
    Found(Box<Founding>),
    /// Send to everyone.
    Send(Join),
    /// It is done; the cluster is this one.
    Done,
    /// It cannot go on, for this reason.
    Refuse(String),
}

impl Handshake {
    /// A founder with a `plan`, or a joiner without one. `floor` is the highest epoch of any cluster
    /// that this node knows of: whoever guards something by tokens may have seen tokens of it.
    #[must_use]
    pub fn new(
        now: Time,
        (me, store): (NodeId, StoreId),
        pledged: Option<ClusterId>,
        floor: Epoch,
        plan: Option<Plan>,
    ) -> Handshake {
        Handshake {
            me,
            store,
            pledged,
            floor,
            plan,
            stores: BTreeMap::from([(me, store)]),
            founding: None,
            confirmed: BTreeSet::from([me]),
            next: now,
        }
    }

    /// Voters whose store, or whose confirmation of the first record, is still waited for.
    #[must_use]
    pub fn missing(&self) -> Vec<NodeId> {
        let Some(plan) = &self.plan else {
            return Vec::new();
        };
        let have = |v: &NodeId| match self.founding {
            Some(_) => self.confirmed.contains(v),
            None => self.stores.contains_key(v),
        };
        plan.voters.iter().copied().filter(|v| !have(v)).collect()
    }

    /// When [`Handshake::tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.next
    }

    /// Says again what there is to say.
    pub fn tick(&mut self, now: Time) -> Vec<Step> {
        if now < self.next {
            return Vec::new();
        }
        self.next = now + PERIOD;
        if let Some((founding, since)) = &self.founding {
            let told = Step::Send(Join::Founded(Box::new(founding.clone())));
            let over = self.missing().is_empty() && now.since(*since) >= LINGER;
            return if over {
                vec![told, Step::Done]
            } else {
                vec![told]
            };
        }
        let mut steps = Vec::new();
        if let Some(plan) = &self.plan {
            if self.pledged.is_none() {
                self.pledged = Some(plan.cluster);
                steps.push(Step::Pledge(plan.cluster));
            }
            let (cluster, voters) = (plan.cluster, plan.voters.clone());
            steps.push(Step::Send(Join::Invite { cluster, voters }));
        } else {
            steps.push(Step::Send(Join::Seeking {
                store: self.store,
                pledged: self.pledged,
                floor: self.floor,
            }));
        }
        steps
    }

    /// Something came from `from`.
    pub fn heard(&mut self, now: Time, from: NodeId, join: &Join) -> Vec<Step> {
        match join {
            Join::Invite { cluster, voters } => self.invited(*cluster, voters),
            Join::Seeking {
                store,
                pledged,
                floor,
            } => self.sought(now, from, *store, *pledged, *floor),
            Join::Founded(founding) => self.founded(now, from, founding),
        }
    }

    fn invited(&mut self, cluster: ClusterId, voters: &[NodeId]) -> Vec<Step> {
        if !voters.contains(&self.me) || self.founding.is_some() {
            return Vec::new();
        }
        match self.pledged {
            Some(other) if other != cluster => {
                // The founder hears of it by our next call, and stops.
                if self.plan.is_some() {
                    return vec![Step::Refuse(format!(
                        "another node founds cluster {cluster} with this one as a voter: only \
                         one may run `cluster init`"
                    ))];
                }
                Vec::new()
            }
            Some(_) => Vec::new(),
            None => {
                self.pledged = Some(cluster);
                let seeking = Join::Seeking {
                    store: self.store,
                    pledged: self.pledged,
                    floor: self.floor,
                };
                vec![Step::Pledge(cluster), Step::Send(seeking)]
            }
        }
    }

    fn sought(
        &mut self,
        now: Time,
        from: NodeId,
        store: StoreId,
        pledged: Option<ClusterId>,
        floor: Epoch,
    ) -> Vec<Step> {
        if let Some((founding, _)) = &self.founding {
            return vec![Step::Send(Join::Founded(Box::new(founding.clone())))];
        }
        let Some(plan) = &self.plan else {
            return Vec::new();
        };
        if !plan.voters.contains(&from) {
            return Vec::new();
        }
        match pledged {
            None => return Vec::new(),
            Some(other) if other != plan.cluster => {
                return vec![Step::Refuse(format!(
                    "{from} has pledged its vote to cluster {other}: that cluster was founded \
                     first, or its store is left over from it"
                ))];
            }
            Some(_) => {}
        }
        let known = *self.stores.entry(from).or_insert(store);
        if known != store {
            return vec![Step::Refuse(format!(
                "two nodes call themselves {from}: stores {known} and {store}"
            ))];
        }
        self.floor = self.floor.max(floor);
        if !self.missing().is_empty() {
            return Vec::new();
        }
        if self.floor.0 >= EPOCHS {
            return vec![Step::Refuse(format!(
                "a voter knows of epoch {} of an earlier cluster, and {EPOCHS} is the last one: there \
                 are no tokens above its own",
                self.floor.0
            ))];
        }
        let floor = if planted("floor-not-taken") {
            Epoch(0)
        } else {
            self.floor
        };
        let founding = Founding {
            cluster: plan.cluster,
            rules: RULES,
            epoch: Epoch(floor.0 + 1),
            voters: plan.voters.iter().map(|v| (*v, self.stores[v])).collect(),
            timing: plan.timing.clone(),
            proof: plan.proof,
        };
        self.founding = Some((founding.clone(), now));
        self.next = now;
        vec![Step::Found(Box::new(founding))]
    }

    fn founded(&mut self, now: Time, from: NodeId, founding: &Founding) -> Vec<Step> {
        if let Some((ours, _)) = &self.founding {
            if ours == founding {
                self.confirmed.insert(from);
            }
            return Vec::new();
        }
        if self
            .plan
            .as_ref()
            .is_some_and(|p| p.cluster != founding.cluster)
        {
            return vec![Step::Refuse(format!(
                "cluster {} exists already on this network under this key; a host joins it by \
                 `quorate join`, a first voter whose disk is gone under a new id",
                founding.cluster
            ))];
        }
        if self.pledged.is_some_and(|p| p != founding.cluster) {
            return vec![Step::Refuse(format!(
                "this store has pledged its vote to another cluster than {}",
                founding.cluster
            ))];
        }
        if founding.epoch.0 == 0 || founding.epoch.0 > EPOCHS {
            return vec![Step::Refuse(format!(
                "cluster {} begins with epoch {}: 1 to {EPOCHS} are possible",
                founding.cluster, founding.epoch.0
            ))];
        }
        if founding.rules > RULES {
            return vec![Step::Refuse(format!(
                "cluster {} applies its log by rules of version {}, and this build knows those up to \
                 {RULES}: install the version of the other nodes",
                founding.cluster, founding.rules
            ))];
        }
        if let Some((_, store)) = founding.voters.iter().find(|(n, _)| *n == self.me)
            && *store != self.store
        {
            return vec![Step::Refuse(format!(
                "in cluster {} {} votes from store {store}, and this one is {}: a node whose \
                 disk is gone is a new node and needs a new id",
                founding.cluster, self.me, self.store
            ))];
        }
        self.founding = Some((founding.clone(), now));
        self.next = now;
        vec![Step::Found(Box::new(founding.clone()))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(cluster: u128) -> Plan {
        Plan {
            cluster: ClusterId(cluster),
            voters: vec![NodeId(1), NodeId(2), NodeId(3)],
            timing: Timing::fast(),
            proof: ProofPolicy::Device,
        }
    }

    fn node(id: u32, plan: Option<Plan>) -> Handshake {
        knowing(id, 0, plan)
    }

    /// A node that belonged to clusters with so many epochs.
    fn knowing(id: u32, floor: u32, plan: Option<Plan>) -> Handshake {
        let me = (NodeId(id), StoreId(u128::from(id) * 11));
        Handshake::new(Time::ZERO, me, None, Epoch(floor), plan)
    }

    /// Runs everybody, delivering everything but what `lost` says, until all are done or refused.
    fn run(nodes: &mut [Handshake], lost: impl Fn(u32, usize) -> bool) -> Vec<Vec<Step>> {
        let mut kept: Vec<Vec<Step>> = vec![Vec::new(); nodes.len()];
        for round in 0..40u32 {
            let now = Time::from_millis(u64::from(round) * 100);
            let mut air: Vec<(usize, Step)> = Vec::new();
            for (i, n) in nodes.iter_mut().enumerate() {
                air.extend(n.tick(now).into_iter().map(|s| (i, s)));
            }
            while let Some((i, step)) = air.pop() {
                if let Step::Send(join) = &step {
                    let from = nodes[i].me;
                    for (j, node) in nodes.iter_mut().enumerate() {
                        if j != i && !lost(round, j) {
                            let steps = node.heard(now, from, join);
                            air.extend(steps.into_iter().map(|s| (j, s)));
                        }
                    }
                }
                kept[i].push(step);
            }
        }
        kept
    }

    fn record(steps: &[Step]) -> Option<&Founding> {
        steps.iter().find_map(|s| {
            if let Step::Found(f) = s {
                Some(&**f)
            } else {
                None
            }
        })
    }

    #[test]
    fn all_end_with_one_record_that_names_every_store() {
        for lossy in [false, true] {
            let mut nodes = [
                node(1, Some(plan(9))),
                node(2, None),
                node(3, None),
                node(4, None),
            ];
            let kept = run(&mut nodes, |round, to| {
                lossy && (round as usize + to).is_multiple_of(3)
            });
            let first = record(&kept[0]).expect("founded").clone();
            assert_eq!(first.voters[1], (NodeId(2), StoreId(22)));
            for steps in &kept {
                assert_eq!(record(steps), Some(&first));
            }
            assert!(kept[0].contains(&Step::Done));
            // A voter pledges before it tells its store; a follower pledges nothing.
            assert!(
                kept[1]
                    .iter()
                    .any(|s| matches!(s, Step::Pledge(c) if c.0 == 9))
            );
            assert!(!kept[3].iter().any(|s| matches!(s, Step::Pledge(_))));
        }
    }

    #[test]
    fn a_cluster_begins_above_what_any_first_voter_knows_of() {
        for (floors, first) in [([0, 0, 0], 1), ([4, 0, 2], 5), ([0, 65_534, 9], 65_535)] {
            let mut nodes = [
                knowing(1, floors[0], Some(plan(9))),
                knowing(2, floors[1], None),
                knowing(3, floors[2], None),
            ];
            let kept = run(&mut nodes, |_, _| false);
            for steps in &kept {
                assert_eq!(record(steps).expect("founded").epoch, Epoch(first));
            }
        }
        let mut nodes = [
            knowing(1, 65_535, Some(plan(9))),
            node(2, None),
            node(3, None),
        ];
        let kept = run(&mut nodes, |_, _| false);
        let told = |s: &Step| matches!(s, Step::Refuse(why) if why.contains("65535"));
        assert!(record(&kept[0]).is_none() && kept[0].iter().any(told));
    }

    #[test]
    fn rules_that_this_build_does_not_know_are_not_joined() {
        let mut nodes = [node(1, Some(plan(9))), node(2, None), node(3, None)];
        let kept = run(&mut nodes, |_, _| false);
        let mut founding = record(&kept[0]).expect("founded").clone();
        founding.rules = RULES + 1;
        let steps = node(4, None).heard(Time::ZERO, NodeId(1), &Join::Founded(Box::new(founding)));
        let told = |s: &Step| matches!(s, Step::Refuse(why) if why.contains("rules of version"));
        assert!(steps.iter().any(told), "{steps:?}");
    }

    #[test]
    fn nothing_is_founded_while_a_voter_is_missing() {
        let mut nodes = [node(1, Some(plan(9))), node(2, None)];
        let kept = run(&mut nodes, |_, _| false);
        assert!(kept.iter().all(|steps| record(steps).is_none()));
        assert_eq!(nodes[0].missing(), vec![NodeId(3)]);
    }

    #[test]
    fn two_founders_found_nothing_and_say_so() {
        let mut nodes = [
            node(1, Some(plan(8))),
            node(2, Some(plan(9))),
            node(3, None),
        ];
        let kept = run(&mut nodes, |_, _| false);
        assert!(kept.iter().all(|steps| record(steps).is_none()));
        let refused = |steps: &Vec<Step>| steps.iter().any(|s| matches!(s, Step::Refuse(_)));
        assert!(refused(&kept[0]) && refused(&kept[1]));
    }

    #[test]
    fn a_replaced_disk_is_told_that_it_is_a_new_node() {
        let mut nodes = [node(1, Some(plan(9))), node(2, None), node(3, None)];
        let kept = run(&mut nodes, |_, _| false);
        let founding = record(&kept[0]).expect("founded").clone();
        let lost = (NodeId(2), StoreId(999));
        let mut again = Handshake::new(Time::ZERO, lost, None, Epoch(0), None);
        let steps = again.heard(Time::ZERO, NodeId(1), &Join::Founded(Box::new(founding)));
        assert!(
            matches!(&steps[..], [Step::Refuse(why)] if why.contains("new id")),
            "{steps:?}"
        );
    }
}
