//! Voters that made something else of the log than the others (reading 19).

use crate::rig::{self, Rig};
use quorate_membership::NodeId;
use quorate_membership::states::{Agreement, RULES};
use quorate_recovery::contract::{EventKind, Request};

fn running() -> Rig {
    let mut rig = Rig::new(3);
    rig.run(3_000);
    rig.ask(1, Request::AddGuest(rig::guest("g")))
        .expect("added");
    rig.run(3_000);
    rig
}

/// A voter that is not coordinator.
fn other(rig: &Rig) -> NodeId {
    NodeId(1 + rig.coordinator().0 % 3)
}

fn differing(rig: &Rig, at: u32) -> Vec<String> {
    rig.node(at).status(rig.now()).states.differ
}

#[test]
fn voters_agree_and_say_after_which_entry() {
    let rig = running();
    for n in 1..=3 {
        let node = rig.node(n);
        let Agreement::Agreed { agree, differ, .. } = node.member().agreement() else {
            panic!("{:?}", node.member().agreement());
        };
        assert!(agree.contains(&NodeId(n)) && differ.is_empty());
        let states = node.status(rig.now()).states;
        assert_eq!((states.verdict, states.rules), ("agreed", RULES));
    }
}

/// Starts the daemon of a voter with a state that was altered, and runs on.
fn start_altered(rig: &mut Rig, odd: NodeId) {
    rig.kill_daemon(odd);
    rig.alter(odd, |state| state.cluster.view += 1000);
    rig.start_daemon(odd);
    rig.said.clear();
    rig.run(8_000);
}

#[test]
fn a_voter_with_another_state_leaves_the_log_until_it_has_a_right_one() {
    let mut rig = running();
    let odd = other(&rig);
    start_altered(&mut rig, odd);
    // It took the state of the others over, and votes again.
    let member = rig.node(odd.0).member();
    assert!(!member.left_log() && member.states_agree());
    assert_eq!(member.app(), rig.any().member().app());
    assert_eq!(member.view(), rig.node(1 + odd.0 % 3).member().view());
    let lease = member.lease_end().expect("a lease");
    assert!(lease > rig.now(), "its lease goes on");
    // Everybody said so, with the names of both.
    let me = format!("h{}", odd.0);
    let others: Vec<String> = (1..=3)
        .filter(|n| *n != odd.0)
        .map(|n| format!("h{n}"))
        .collect();
    let all = format!("the state of {me} after entry");
    let alerts = rig.heard(EventKind::Alert);
    let said = alerts.iter().filter(|t| {
        t.contains(&all) && t.contains(&format!("is not that of {}", others.join(", ")))
    });
    assert!(said.count() >= 3, "{alerts:?}");
    let again = |t: &&&str| t.contains("takes part in the log again");
    assert_eq!(alerts.iter().filter(again).count(), 1, "{alerts:?}");
    assert!((1..=3).all(|n| differing(&rig, n).is_empty()));
    // Its vote counts: with it another voter may go.
    let gone = NodeId(1 + odd.0 % 3);
    rig.kill_daemon(gone);
    rig.run(8_000);
    rig.ask(odd.0, Request::AddGuest(rig::guest("h")))
        .expect("added");
}

#[test]
fn a_voter_that_leaves_the_log_twice_in_one_life_stays_out() {
    let mut rig = running();
    let odd = NodeId(3);
    // Twice the two others together make something else than before: it is the odd one each time.
    for change in [1000, -1000] {
        for n in [1, 2] {
            rig.kill_daemon(NodeId(n));
            rig.alter(NodeId(n), |state| {
                state.cluster.view = state.cluster.view.wrapping_add_signed(change);
            });
        }
        rig.said.clear();
        rig.start_daemon(NodeId(1));
        rig.start_daemon(NodeId(2));
        rig.run(8_000);
    }
    let node = rig.node(odd.0);
    assert!(node.member().left_log() && !node.member().state_in_doubt());
    let status = node.status(rig.now());
    let told = |r: &String| r.contains("has left it twice");
    assert!(status.remarks.iter().any(told), "{:?}", status.remarks);
    // From its next start on it votes again.
    rig.kill_daemon(odd);
    rig.start_daemon(odd);
    rig.run(8_000);
    assert!(!rig.node(odd.0).member().left_log());
    assert!((1..=3).all(|n| differing(&rig, n).is_empty()));
}

#[test]
fn where_no_quorum_has_one_state_nothing_is_placed_and_leases_go_on() {
    let mut rig = running();
    for n in [1, 2] {
        rig.kill_daemon(NodeId(n));
        rig.alter(NodeId(n), |state| state.cluster.view += u64::from(n) * 1000);
        rig.start_daemon(NodeId(n));
        rig.run(200);
    }
    rig.run(8_000);
    for n in 1..=3 {
        let status = rig.node(n).status(rig.now());
        assert_eq!(status.states.verdict, "divided", "{status:?}");
        let told = status.remarks.iter().any(|r| r.contains("leases go on"));
        assert!(told, "{:?}", status.remarks);
        let lease = rig.node(n).member().lease_end().expect("a lease");
        assert!(lease > rig.now());
    }
    assert_eq!(rig.running("g").len(), 1, "what runs goes on");
    rig.ask(3, Request::AddGuest(rig::guest("h")))
        .expect("the log goes on");
    rig.run(5_000);
    assert!(rig.running("h").is_empty());
    let waits = rig.coordinator().0;
    let rows = rig.node(waits).guests(rig.now());
    let why = rows.iter().find(|g| g.name == "h").expect("known");
    let why = why.reason.clone().unwrap_or_default();
    assert!(why.contains("made the same of the log"), "{why}");
}

#[test]
fn a_node_that_does_not_know_the_rules_applies_nothing_more() {
    let mut rig = running();
    let odd = other(&rig);
    rig.kill_daemon(odd);
    rig.alter(odd, |state| state.cluster.rules = RULES + 1);
    rig.start_daemon(odd);
    let applied = rig.node(odd.0).member().cluster().applied;
    rig.run(5_000);
    let node = rig.node(odd.0);
    assert_eq!(node.member().cluster().applied, applied);
    assert!(node.member().left_log() && node.member().state_in_doubt());
    let status = node.status(rig.now());
    assert_eq!(status.states.verdict, "left");
    let told = |r: &String| r.contains("install the version of the other nodes");
    assert!(status.remarks.iter().any(told), "{:?}", status.remarks);
}
