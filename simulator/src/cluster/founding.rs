//! The founding of the cluster, by the hosts' own handshakes on a perfect network.

use super::Plan;
use super::nodes::id;
use quorate_membership::frame::Join;
use quorate_membership::handshake::{Handshake, Plan as Founder, Step};
use quorate_membership::states::RULES;
use quorate_membership::{ClusterId, Epoch, Founding, StoreId, Time};
use std::collections::VecDeque;
use std::time::Duration;

/// Calls after which every first voter has answered.
const CALLS: u32 = 8;

/// The first record: the first host founds the cluster, and one voter, named by the seed, has belonged to
/// clusters with as many epochs as the plan says.
pub(super) fn found(plan: &Plan, cluster: ClusterId, stores: &[StoreId]) -> Founding {
    // A handshake is between two at least.
    if plan.voters == 1 {
        return Founding {
            cluster,
            rules: RULES,
            epoch: Epoch(plan.founded + 1),
            voters: vec![(id(0), stores[0])],
            timing: plan.timing.clone(),
            proof: plan.proof,
        };
    }
    let voters = 0..plan.voters;
    let before = (plan.seed % plan.voters as u64) as usize;
    let mut hosts: Vec<Handshake> = voters
        .clone()
        .map(|host| {
            let floor = if host == before { plan.founded } else { 0 };
            let founder = Founder {
                cluster,
                voters: voters.clone().map(id).collect(),
                timing: plan.timing.clone(),
                proof: plan.proof,
            };
            let founder = (host == 0).then_some(founder);
            let me = (id(host), stores[host]);
            Handshake::new(Time::ZERO, me, None, Epoch(floor), founder)
        })
        .collect();
    for call in 0..CALLS {
        let now = Time::ZERO + Duration::from_secs(1) * call;
        let mut said: VecDeque<(usize, Join)> = VecDeque::new();
        let take = |from: usize, steps: Vec<Step>, said: &mut VecDeque<_>| {
            let mut record = None;
            for step in steps {
                match step {
                    Step::Send(join) => said.push_back((from, join)),
                    Step::Found(founding) => record = Some(*founding),
                    Step::Refuse(why) => panic!("a founding without a fault: {why}"),
                    Step::Pledge(_) | Step::Done => {}
                }
            }
            record
        };
        for host in voters.clone() {
            let steps = hosts[host].tick(now);
            take(host, steps, &mut said);
        }
        while let Some((from, join)) = said.pop_front() {
            for host in voters.clone().filter(|h| *h != from) {
                let steps = hosts[host].heard(now, id(from), &join);
                if let Some(founding) = take(host, steps, &mut said) {
                    return founding;
                }
            }
        }
    }
    panic!("no cluster was founded")
}
