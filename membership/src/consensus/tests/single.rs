//! One rule at a time.

use super::harness::{Net, config, entry, image};
use crate::consensus::{NewerLog, Outgoing, Replica, ReplicaConfig, Round};
use crate::id::{Epoch, Slot};
use crate::store::Write;

fn elected(slots: u8) -> (Net, u8) {
    let mut net = Net::new(slots);
    net.run(30);
    let leader = net.leader().expect("a leader within six election rounds");
    (net, leader)
}

fn follower_of(leader: u8) -> u8 {
    if leader == 1 { 2 } else { 1 }
}

#[test]
fn replicas_can_move_between_threads() {
    fn send<T: Send>() {}
    send::<Replica<u64>>();
}

#[test]
fn a_cluster_elects_and_decides() {
    let (mut net, leader) = elected(3);
    assert!(net.propose(leader));
    assert!(net.propose(follower_of(leader)));
    net.settle();
    assert_eq!(net.chosen.len(), 2);
    for slot in 1..=3 {
        let replica = net.replica(slot);
        assert_eq!(replica.decided(), 2);
        assert_eq!(replica.leader_hint(), Some(Slot(leader)));
        assert_eq!(replica.leads(), slot == leader);
        assert!(!replica.undecided());
    }
}

#[test]
fn reading_is_bounded_and_needs_no_whole_log() {
    let (mut net, leader) = elected(3);
    for _ in 0..10 {
        net.propose(leader);
    }
    net.settle();
    let replica = net.replica(leader);
    let read = |from, max| -> Vec<u64> {
        let entries = replica.read_decided(from, max);
        entries.iter().map(|e| e.id.sequence).collect()
    };
    assert_eq!(read(0, 3), [1, 2, 3]);
    assert_eq!(read(8, 100), [9, 10]);
    assert_eq!(read(10, 1), [0; 0]);
    assert_eq!(read(u64::MAX, usize::MAX), [0; 0]);
    assert_eq!(read(4, 0), [0; 0]);
}

#[test]
fn entries_at_one_disk_only_are_not_decided() {
    let (mut net, leader) = elected(3);
    for slot in 1..=3 {
        net.disconnect(leader, slot);
    }
    assert!(net.propose(leader));
    net.settle();
    assert!(net.replica(leader).undecided());
    assert_eq!(net.replica(leader).decided(), 0);
    // It may still believe that it leads: that is evidence of nothing.
    assert!(net.replica(leader).leads());
}

#[test]
fn a_lost_tail_heals_with_the_next_session() {
    let (mut net, leader) = elected(3);
    assert!(net.propose(leader));
    net.turn(leader);
    // The only copies are on the wire, and both sessions break.
    for slot in (1..=3).filter(|s| *s != leader) {
        net.disconnect(leader, slot);
    }
    net.connect_all();
    // No tick and no further entry: the sessions alone must do it.
    net.settle();
    for slot in 1..=3 {
        assert_eq!(net.replica(slot).decided(), 1, "slot {slot}");
    }
}

#[test]
fn without_a_new_session_only_the_next_entry_heals_a_lost_tail() {
    // Why sessions and no-ops are demanded: the library itself repeats nothing. Less than the rounds
    // after which the leader gives way, since the next one brings the others up to date.
    let (mut net, leader) = elected(3);
    assert!(net.propose(leader));
    net.turn(leader);
    for slot in (1..=3).filter(|s| *s != leader) {
        net.drop_queue(leader, slot);
    }
    net.run(40);
    assert!(net.replica(leader).undecided());
    assert_eq!(net.replica(leader).decided(), 0);
    net.propose(leader);
    net.settle();
    assert_eq!(net.replica(leader).decided(), 2);
}

#[test]
fn a_voter_that_promised_a_failed_candidate_comes_back() {
    let (mut net, leader) = elected(3);
    net.propose(leader);
    net.settle();
    // A third voter, cut off, promises itself a higher round and restarts.
    let third = follower_of(leader);
    for slot in 1..=3 {
        net.disconnect(third, slot);
    }
    let mut round = net.node(third).image.promise.expect("promised").0;
    round.n += 3;
    round.pid = u64::from(third);
    net.node(third).image.promise = Some(Round(round));
    net.crash(third, 0);
    net.restart(third);
    net.connect_all();
    // Long enough for the library to move if it did by itself, too short for us.
    net.run(30);
    net.propose(leader);
    net.settle();
    assert_eq!(net.replica(leader).decided(), 2);
    assert_eq!(net.replica(third).decided(), 1);
    net.run(60);
    assert_eq!(net.leader(), Some(leader), "nobody else had to take over");
    assert_eq!(net.replica(third).decided(), 2);
    assert_eq!(net.replica(third).leader_hint(), Some(Slot(leader)));
    // And the leader comes to rest again.
    let promise = format!("{:?}", net.node(leader).image.promise);
    net.run(200);
    assert_eq!(format!("{:?}", net.node(leader).image.promise), promise);
}

#[test]
fn a_crash_forgets_what_was_not_durable_and_nothing_else() {
    let (mut net, leader) = elected(3);
    net.propose(leader);
    net.settle();
    net.propose(leader);
    net.stage(leader);
    net.crash(leader, 0);
    net.restart(leader);
    assert_eq!(net.replica(leader).decided(), 1);
    assert!(!net.replica(leader).undecided());
    assert!(
        !net.replica(leader).leads(),
        "a restarted leader must be elected anew"
    );
    net.heal();
    assert_eq!(net.chosen[0], entry(1));
    assert_ne!(net.chosen[1], entry(2), "the second entry was on no disk");
}

#[test]
fn trimming_keeps_what_an_absent_voter_lacks() {
    let (mut net, leader) = elected(3);
    let absent = follower_of(leader);
    for _ in 0..5 {
        net.propose(leader);
        net.settle();
    }
    net.crash(absent, 0);
    for _ in 0..5 {
        net.propose(leader);
        net.settle();
    }
    assert_eq!(net.durable(), 5);
    net.trim();
    net.settle();
    assert_eq!(net.replica(leader).first(), 5);
    assert!(net.replica(leader).read_decided(4, 9).is_empty(), "trimmed");
    assert_eq!(net.replica(leader).read_decided(5, 9).len(), 5);
    net.heal();
    assert!(net.replica(absent).decided() > 10);
    net.trim();
    net.settle();
    for slot in 1..=3 {
        assert!(net.replica(slot).first() > 10, "slot {slot} trims too");
        let (first, trimmed) = (net.replica(slot).first(), net.node(slot).image.trimmed);
        assert_eq!(first, trimmed, "and durably");
    }
    // A trimmed image is as good as the one before.
    net.crash(leader, 0);
    net.heal();
}

#[test]
fn only_a_leader_trims_and_only_what_is_decided() {
    let (mut net, leader) = elected(3);
    net.propose(leader);
    net.settle();
    for slot in 1..=3 {
        net.replica(slot).state_kept(2);
    }
    assert!(!net.replica(follower_of(leader)).cut(1, &[]));
    assert!(!net.replica(leader).cut(2, &[]));
    assert_eq!(net.replica(leader).first(), 0);
    assert!(net.replica(leader).cut(1, &[]));
    assert_eq!(net.replica(leader).first(), 1);
}

#[test]
fn who_was_left_behind_takes_the_newer_log_over_and_drops_no_newer_one_of_its_own() {
    let (mut net, first) = elected(3);
    let then = follower_of(first);
    for _ in 0..5 {
        net.propose(first);
        net.settle();
    }
    net.crash(first, 0);
    net.run(200);
    for _ in 0..3 {
        net.propose(then);
        net.settle();
    }
    net.restart(first);
    let log_of = |net: &mut Net, slot, from| NewerLog {
        round: net.replica(slot).claim().accepted.expect("a round"),
        from,
        rebase: true,
        entries: net.replica(slot).read_accepted(from, usize::MAX),
    };
    let (older, newer) = (log_of(&mut net, first, 3), log_of(&mut net, then, 3));
    assert!(older.round < newer.round);
    let taken = net.replica(first).after_cut(newer.clone()).expect("newer");
    assert_eq!((taken.round, &taken.entries), (newer.round, &newer.entries));
    let kept = net.replica(then).after_cut(older).expect("its own");
    assert_eq!((kept.round, &kept.entries), (newer.round, &newer.entries));
    let beyond = NewerLog {
        round: log_of(&mut net, first, 3).round,
        from: 1000,
        rebase: true,
        entries: Vec::new(),
    };
    assert!(net.replica(then).after_cut(beyond).is_none());
}

#[test]
fn a_leader_cuts_what_an_absent_voter_lacks_and_no_voter_cuts_beyond_its_own_state() {
    let (mut net, leader) = elected(3);
    let absent = follower_of(leader);
    let other = (1..=3)
        .find(|s| *s != leader && *s != absent)
        .expect("a third");
    net.crash(absent, 0);
    for _ in 0..6 {
        net.propose(leader);
        net.settle();
    }
    assert!(!net.replica(leader).cut(4, &[Slot(other)]), "no state");
    net.replica(leader).state_kept(5);
    assert!(!net.replica(leader).cut(6, &[]), "beyond the state");
    let before = net.replica(leader).bytes_from(0);
    assert!(net.replica(leader).cut(4, &[Slot(other)]));
    assert_eq!(net.replica(leader).first(), 4);
    let after = net.replica(leader).bytes_from(0);
    assert!(0 < after && after < before);
    assert_eq!(after, net.replica(leader).bytes_from(4));
    net.settle();
    assert_eq!(net.replica(other).first(), 0, "it has no such state");
    net.replica(other).state_kept(6);
    assert!(net.replica(leader).cut(5, &[Slot(other)]));
    net.settle();
    assert_eq!(net.replica(other).first(), 5);
}

#[test]
fn a_repeated_promise_leaves_no_hole_in_the_log() {
    // The library would add the second entry to the message in front of the log sync.
    let (mut net, leader) = elected(3);
    let follower = follower_of(leader);
    net.disconnect(leader, follower);
    net.connect(leader, follower);
    // Request and prepare go through; the promise is kept and given twice.
    net.turn(follower);
    while net.deliver(follower, leader) {}
    net.turn(leader);
    while net.deliver(leader, follower) {}
    net.stage(follower);
    net.persist_one(follower);
    let promise = net.peek(follower, leader);
    assert!(format!("{promise:?}").contains("Promise"));
    while net.deliver(follower, leader) {}
    net.turn(leader);
    // The log sync is lost on the way, the follower still waits for it.
    net.drop_queue(leader, follower);
    net.propose(leader);
    net.replica(leader)
        .receive_log(Slot(follower), promise)
        .expect("a repeated promise is honest");
    net.propose(leader);
    net.settle();
    net.propose(leader);
    net.settle();
    net.run(60);
    net.heal();
}

#[test]
fn proposals_without_a_leader_are_bounded() {
    let image = image(1, 3);
    let mut replica = Replica::new(config(1, 3), &image).expect("fresh image");
    let taken = (0..5_000).filter(|n| replica.append(entry(*n))).count();
    assert!((1..5_000).contains(&taken), "{taken}");
}

#[test]
fn a_fresh_replica_writes_nothing_and_empty_appends_are_free() {
    let image = image(1, 3);
    let mut replica = Replica::new(config(1, 3), &image).expect("fresh image");
    assert!(replica.take_writes().is_empty());
    // Followers that only hear decisions again write no empty appends.
    let (mut net, leader) = elected(3);
    net.propose(leader);
    net.settle();
    for slot in 1..=3 {
        net.node(slot).replica = None;
        net.restart(slot);
        let writes = net.replica(slot).take_writes();
        assert!(writes.is_empty(), "{writes:?}");
    }
}

#[test]
fn consecutive_appends_become_one_write() {
    let (mut net, leader) = elected(3);
    for n in 0..4 {
        assert!(net.replica(leader).append(entry(n)));
    }
    let writes = net.replica(leader).take_writes();
    let [Write::Append { from: 0, entries }] = writes.as_slice() else {
        panic!("{writes:?}");
    };
    assert_eq!(entries.len(), 4);
    let messages = net.replica(leader).take_messages();
    let logs = messages
        .iter()
        .filter(|(_, m)| matches!(m, Outgoing::Log(_)));
    assert_eq!(logs.count(), 2, "one message per follower");
}

#[test]
#[should_panic(expected = "messages taken before the writes")]
fn messages_cannot_overtake_their_writes() {
    let (mut net, leader) = elected(3);
    net.replica(leader).append(entry(1));
    net.replica(leader).take_messages();
}

#[test]
fn impossible_configurations_and_damaged_images_are_refused() {
    let refused = |config: ReplicaConfig| {
        Replica::new(config, &image(1, 3)).expect_err("impossible configuration")
    };
    let mut zero = config(1, 3);
    zero.election_ticks = 0;
    refused(zero);
    let mut zero = config(1, 3);
    zero.epoch = Epoch(0);
    refused(zero);
    refused(config(0, 3));
    refused(config(4, 3));
    refused(config(1, 1));

    let (mut net, leader) = elected(3);
    net.propose(leader);
    net.settle();
    let good = net.node(leader).image.clone();
    let damaged = |change: &dyn Fn(&mut crate::store::Image<u64>)| {
        let mut image = good.clone();
        change(&mut image);
        Replica::new(config(leader, 3), &image).expect_err("damaged image")
    };
    assert!(damaged(&|i| i.decided = 2).contains("log ends at index 1"));
    assert!(damaged(&|i| i.accepted_round = None).contains("no accepted round"));
    assert!(damaged(&|i| i.promise = None).contains("above its promise"));
    let mut other = config(leader, 3);
    other.epoch = Epoch(2);
    let text = Replica::new(other, &good).expect_err("another epoch");
    assert!(text.contains("none of this epoch"), "{text}");
}
