//! Every reason of refusal, and that a refused message changes nothing.

use super::harness::{Net, entry};
use crate::consensus::{ElectionMessage, LogMessage, Outgoing, Refused, Replica};
use crate::entry::LogEntry;
use crate::id::Slot;
use omnipaxos::ClusterConfig;
use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::messages::ballot_leader_election::{
    BLEMessage, HeartbeatMsg, HeartbeatReply, HeartbeatRequest,
};
use omnipaxos::messages::sequence_paxos::*;
use omnipaxos::storage::{NoSnapshot, SnapshotType, StopSign};
use omnipaxos::util::{LogSync, SequenceNumber};

type Msg = PaxosMsg<LogEntry<u64>>;

/// A cluster with five entries, of which two are trimmed; its leader, one follower, its round.
pub(super) fn stand() -> (Net, u8, u8, Ballot) {
    let mut net = Net::new(3);
    net.run(30);
    let leader = net.leader().expect("a leader");
    for _ in 0..5 {
        net.propose(leader);
    }
    net.settle();
    for slot in 1..=3 {
        net.replica(slot).state_kept(2);
    }
    assert!(net.replica(leader).cut(2, &[Slot(1), Slot(2), Slot(3)]));
    net.settle();
    let round = net.node(leader).image.promise.expect("promised").0;
    (net, leader, leader % 3 + 1, round)
}

/// Everything of a replica that a message could change.
pub(super) fn state(replica: &mut Replica<u64>) -> String {
    let writes = replica.take_writes();
    let messages = replica.take_messages();
    let log = replica.read_decided(replica.first(), usize::MAX);
    format!("{replica:?} {writes:?} {messages:?} {log:?}")
}

#[track_caller]
fn refused(net: &mut Net, from: u8, to: u8, msg: Msg, reason: Refused) {
    let message = PaxosMessage {
        from: u64::from(from),
        to: u64::from(to),
        msg,
    };
    refused_as(net, from, to, LogMessage(message), reason);
}

#[track_caller]
fn refused_as(net: &mut Net, from: u8, to: u8, message: LogMessage<u64>, reason: Refused) {
    let replica = net.replica(to);
    // The first look takes what is still to be sent.
    state(replica);
    let before = state(replica);
    assert_eq!(replica.receive_log(Slot(from), message), Err(reason));
    assert_eq!(state(replica), before);
}

fn sequence(session: u64, counter: u64) -> SequenceNumber {
    SequenceNumber { session, counter }
}

fn decide(n: Ballot, decided_idx: usize) -> Msg {
    PaxosMsg::Decide(Decide {
        n,
        seq_num: sequence(1, 2),
        decided_idx,
    })
}

fn log_sync(sync_idx: usize, entries: u64) -> LogSync<LogEntry<u64>> {
    LogSync {
        decided_snapshot: None,
        suffix: (0..entries).map(entry).collect(),
        sync_idx,
        stopsign: None,
    }
}

fn accept_sync(n: Ballot, decided_idx: usize, log_sync: LogSync<LogEntry<u64>>) -> Msg {
    PaxosMsg::AcceptSync(AcceptSync {
        n,
        seq_num: sequence(1, 1),
        decided_idx,
        log_sync,
    })
}

fn stop_sign() -> StopSign {
    StopSign::with(
        ClusterConfig {
            configuration_id: 2,
            nodes: vec![1, 2, 3],
            flexible_quorum: None,
        },
        None,
    )
}

#[test]
fn sender_and_addressee_must_be_who_they_are() {
    let (mut net, leader, follower, n) = stand();
    let other = follower % 3 + 1;
    let message = |from: u64, to: u64| {
        LogMessage(PaxosMessage {
            from,
            to,
            msg: decide(n, 5),
        })
    };
    let (l, f, o) = (u64::from(leader), u64::from(follower), u64::from(other));
    refused_as(&mut net, other, follower, message(l, f), Refused::Sender);
    refused_as(
        &mut net,
        leader,
        follower,
        message(l, o),
        Refused::Addressee,
    );
    refused_as(
        &mut net,
        leader,
        follower,
        message(l, 0),
        Refused::Addressee,
    );
    for stranger in [0, 4, 77, 255, follower] {
        let m = message(u64::from(stranger), f);
        refused_as(&mut net, stranger, follower, m, Refused::Member);
    }
}

#[test]
fn rounds_must_be_of_this_epoch_and_of_the_sender() {
    let (mut net, leader, follower, n) = stand();
    let other = follower % 3 + 1;
    let mut wrong = Vec::new();
    for change in [
        |b: &mut Ballot| b.config_id = 2,
        |b: &mut Ballot| b.config_id = 0,
        |b: &mut Ballot| b.pid = 0,
        |b: &mut Ballot| b.pid = 4,
        |b: &mut Ballot| b.priority = 1,
        |b: &mut Ballot| *b = Ballot::default(),
    ] {
        let mut ballot = n;
        change(&mut ballot);
        wrong.push(ballot);
    }
    for bad in wrong {
        refused(&mut net, leader, follower, decide(bad, 5), Refused::Round);
        let m = PaxosMsg::NotAccepted(NotAccepted { n: bad });
        refused(&mut net, follower, leader, m, Refused::Round);
        if bad != Ballot::default() {
            let m = PaxosMsg::PrepareReq(PrepareReq { n: bad });
            refused(&mut net, follower, leader, m, Refused::Round);
        }
    }
    // The leader's round in another voter's mouth, and an answer to another's round.
    refused(&mut net, other, follower, decide(n, 5), Refused::Round);
    let mut theirs = n;
    theirs.pid = u64::from(other);
    let m = PaxosMsg::Accepted(Accepted {
        n: theirs,
        accepted_idx: 5,
    });
    refused(&mut net, follower, leader, m, Refused::Round);

    let prepare = |step: u32, pid: u8| {
        let mut n = n;
        n.n = n.n.saturating_add(step);
        n.pid = u64::from(pid);
        PaxosMsg::Prepare(Prepare {
            n,
            decided_idx: 5,
            n_accepted: n,
            accepted_idx: 5,
        })
    };
    for step in [1_000_001, u32::MAX] {
        let m = prepare(step, other);
        refused(&mut net, other, follower, m, Refused::RoundStep);
    }
    // Even by the largest steps no one gets to where counting on would overflow.
    let mut refusal = Ok(());
    for step in 1..6_000 {
        let message = PaxosMessage {
            from: u64::from(other),
            to: u64::from(follower),
            msg: prepare(1_000_000_u32.saturating_mul(step), other),
        };
        refusal = net
            .replica(follower)
            .receive_log(Slot(other), LogMessage(message));
        if refusal.is_err() {
            break;
        }
    }
    assert_eq!(refusal, Err(Refused::RoundStep));
    for _ in 0..60 {
        net.tick(follower);
        net.turn(follower);
    }
}

#[test]
fn indexes_must_fit_what_is_known() {
    let (mut net, leader, follower, n) = stand();
    let far = 20_000_000;
    let accept = |n, accepted_idx| PaxosMsg::Accepted(Accepted { n, accepted_idx });
    refused(&mut net, leader, follower, decide(n, far), Refused::Window);
    refused(
        &mut net,
        leader,
        follower,
        decide(n, usize::MAX),
        Refused::Window,
    );
    refused(&mut net, follower, leader, accept(n, far), Refused::Window);
    // Nobody accepts in the leader's round what the leader does not have.
    refused(&mut net, follower, leader, accept(n, 6), Refused::Index);

    let mut higher = n;
    higher.n += 1;
    higher.pid = u64::from(follower);
    let prepare = |decided_idx, n_accepted, accepted_idx| {
        PaxosMsg::Prepare(Prepare {
            n: higher,
            decided_idx,
            n_accepted,
            accepted_idx,
        })
    };
    for (m, reason) in [
        (prepare(6, n, 5), Refused::Index),
        (prepare(5, n, far), Refused::Window),
        (prepare(6, Ballot::default(), 6), Refused::Index),
        // It lacks what all voters had: its store was lost.
        (prepare(0, Ballot::default(), 0), Refused::Cut),
        (prepare(1, n, 5), Refused::Cut),
    ] {
        refused(&mut net, follower, leader, m, reason);
    }

    let promise = |decided_idx, accepted_idx, log_sync| {
        PaxosMsg::Promise(Promise {
            n,
            n_accepted: n,
            decided_idx,
            accepted_idx,
            log_sync,
        })
    };
    for (m, reason) in [
        (promise(6, 5, None), Refused::Index),
        (promise(5, 6, None), Refused::Index),
        (promise(1, 5, None), Refused::Cut),
        (promise(5, 5, Some(log_sync(5, 2))), Refused::Index),
        (promise(5, far, None), Refused::Window),
        (
            promise(5, 5, Some(log_sync(usize::MAX, 2))),
            Refused::Window,
        ),
    ] {
        refused(&mut net, follower, leader, m, reason);
    }
}

#[test]
fn log_syncs_must_neither_undo_decisions_nor_leave_holes() {
    let (mut net, leader, follower, n) = stand();
    // The follower has accepted a sixth entry that is not decided, or its answer is lost; it is
    // in the prepare phase and waits for the leader's log sync.
    net.propose(leader);
    net.turn(leader);
    while net.deliver(leader, follower) {}
    net.turn(follower);
    net.disconnect(leader, follower);
    net.connect(leader, follower);
    net.turn(follower);
    while net.deliver(follower, leader) {}
    net.turn(leader);
    while net.deliver(leader, follower) {}
    net.turn(follower);
    for (m, reason) in [
        (accept_sync(n, 5, log_sync(4, 3)), Refused::Index),
        (accept_sync(n, 5, log_sync(7, 1)), Refused::Index),
        (accept_sync(n, 5, log_sync(5, 0)), Refused::Index),
        (accept_sync(n, 7, log_sync(5, 1)), Refused::Index),
        (accept_sync(n, 5, log_sync(20_000_000, 1)), Refused::Window),
        (accept_sync(n, 5, log_sync(usize::MAX, 1)), Refused::Window),
    ] {
        refused(&mut net, leader, follower, m, reason);
    }
    net.settle();
    net.propose(leader);
    net.settle();
    assert_eq!(
        net.replica(follower).decided(),
        7,
        "the honest one was taken"
    );
}

#[test]
fn while_preparing_only_the_determined_answer_counts() {
    let (mut net, leader, follower, _) = stand();
    // Both followers are out of reach; after a restart the leader prepares a new round.
    let other = follower % 3 + 1;
    net.crash(leader, 0);
    net.node(other).paused = true;
    net.restart(leader);
    net.connect(leader, follower);
    let mut steps = 0;
    let n = loop {
        for slot in [leader, follower] {
            net.tick(slot);
            net.turn(slot);
        }
        while net.datagrams() > 0 {
            net.deliver_datagram(0, false);
        }
        let candidate = [leader, follower].into_iter().find_map(|s| {
            let promise = net.node(s).image.promise.expect("promised").0;
            let waits = promise.pid == u64::from(s) && promise.n > 1;
            waits.then_some((s, promise))
        });
        if let Some(found) = candidate {
            break found;
        }
        steps += 1;
        assert!(steps < 200, "an election");
    };
    let (candidate, n) = n;
    let voter = if candidate == leader {
        follower
    } else {
        leader
    };
    let accepted = net
        .node(candidate)
        .image
        .accepted_round
        .expect("accepted")
        .0;
    let promise = |n_accepted, decided_idx, accepted_idx, log_sync| {
        PaxosMsg::Promise(Promise {
            n,
            n_accepted,
            decided_idx,
            accepted_idx,
            log_sync,
        })
    };
    let mut older = accepted;
    older.n -= 1;
    for m in [
        // It claims more than it sends.
        promise(accepted, 5, 9, None),
        promise(n, 5, 5, None),
        // What it sends begins below what is decided, or behind our log.
        promise(accepted, 5, 6, Some(log_sync(4, 2))),
        promise(accepted, 5, 7, Some(log_sync(6, 1))),
        promise(n, 5, 7, Some(log_sync(3, 4))),
        // It sends what nobody lacks, or decided what nobody accepted.
        promise(older, 5, 6, Some(log_sync(5, 1))),
        promise(older, 9, 9, None),
    ] {
        refused(&mut net, voter, candidate, m, Refused::Index);
    }
    net.node(other).paused = false;
    net.heal();
}

#[test]
fn sequences_begin_and_go_on_as_leaders_count() {
    let (mut net, leader, follower, n) = stand();
    for (session, counter) in [(0, 1), (1, 0), (1, 2), (1, u64::MAX)] {
        let m = PaxosMsg::AcceptSync(AcceptSync {
            n,
            seq_num: sequence(session, counter),
            decided_idx: 5,
            log_sync: log_sync(5, 0),
        });
        refused(&mut net, leader, follower, m, Refused::Sequence);
    }
    for (session, counter) in [(0, 2), (1, 0), (1, 1)] {
        let seq_num = sequence(session, counter);
        let m = PaxosMsg::Decide(Decide {
            n,
            seq_num,
            decided_idx: 5,
        });
        refused(&mut net, leader, follower, m, Refused::Sequence);
        let m = PaxosMsg::AcceptDecide(AcceptDecide {
            n,
            seq_num,
            decided_idx: 5,
            entries: vec![entry(9)],
        });
        refused(&mut net, leader, follower, m, Refused::Sequence);
    }
}

#[test]
fn compaction_is_the_leaders_and_only_trims_what_is_decided() {
    let (mut net, leader, follower, _) = stand();
    let other = follower % 3 + 1;
    let trim = |to| PaxosMsg::Compaction(Compaction::Trim(to));
    refused(&mut net, other, follower, trim(3), Refused::Trim);
    refused(&mut net, leader, follower, trim(6), Refused::Trim);
    refused(&mut net, leader, follower, trim(usize::MAX), Refused::Trim);
    refused(&mut net, follower, leader, trim(3), Refused::Trim);
    for at in [None, Some(3)] {
        let m = PaxosMsg::Compaction(Compaction::Snapshot(at));
        refused(&mut net, leader, follower, m, Refused::Snapshot);
    }
}

#[test]
fn library_snapshots_and_stop_signs_stay_out() {
    let (mut net, leader, follower, n) = stand();
    let mut with_snapshot = log_sync(5, 1);
    with_snapshot.decided_snapshot = Some(SnapshotType::Complete(NoSnapshot));
    let mut with_stop = log_sync(5, 1);
    with_stop.stopsign = Some(stop_sign());
    for (sync, reason) in [
        (with_snapshot, Refused::Snapshot),
        (with_stop, Refused::StopSign),
    ] {
        let m = accept_sync(n, 5, sync.clone());
        refused(&mut net, leader, follower, m, reason);
        let m = PaxosMsg::Promise(Promise {
            n,
            n_accepted: n,
            decided_idx: 5,
            accepted_idx: 6,
            log_sync: Some(sync),
        });
        refused(&mut net, follower, leader, m, reason);
    }
    let m = PaxosMsg::AcceptStopSign(AcceptStopSign {
        n,
        seq_num: sequence(1, 7),
        ss: stop_sign(),
    });
    refused(&mut net, leader, follower, m, Refused::StopSign);
    let m = PaxosMsg::ForwardStopSign(stop_sign());
    refused(&mut net, follower, leader, m, Refused::StopSign);
}

#[test]
fn forwarded_proposals_do_not_pile_up_without_a_leader() {
    let mut net = Net::new(3);
    let message = |count| {
        LogMessage(PaxosMessage {
            from: 2,
            to: 1,
            msg: PaxosMsg::ProposalForward((0..count).map(entry).collect()),
        })
    };
    assert_eq!(net.replica(1).receive_log(Slot(2), message(1000)), Ok(()));
    refused_as(&mut net, 2, 1, message(1000), Refused::Full);
    // They are not lost by it: the first thousand is decided when there is a leader.
    net.run(40);
    assert_eq!(net.chosen.len(), 1000);
    assert_eq!(net.replica(1).receive_log(Slot(2), message(1000)), Ok(()));
}

#[test]
fn heartbeat_replies_count_once_and_in_their_round_only() {
    let (mut net, leader, follower, n) = stand();
    // The round under way is the one the replica asks in next.
    let round = loop {
        net.tick(leader);
        net.stage(leader);
        let replica = net.replica(leader);
        let _ = replica.take_writes();
        replica.tick();
        let asked = replica
            .take_messages()
            .into_iter()
            .find_map(|(_, m)| match m {
                Outgoing::Election(ElectionMessage(BLEMessage {
                    msg: HeartbeatMsg::Request(HeartbeatRequest { round }),
                    ..
                })) => Some(round),
                _ => None,
            });
        if let Some(round) = asked {
            break round;
        }
    };
    let mut own = n;
    own.pid = u64::from(follower);
    let reply = |round, ballot, leader_ballot| {
        ElectionMessage(BLEMessage {
            from: u64::from(follower),
            to: u64::from(leader),
            msg: HeartbeatMsg::Reply(HeartbeatReply {
                round,
                ballot,
                leader: leader_ballot,
                happy: true,
            }),
        })
    };
    let mut foreign = own;
    foreign.config_id = 2;
    let mut far = n;
    far.n = u32::MAX;
    let replica = net.replica(leader);
    for (message, reason) in [
        (reply(round - 1, own, n), Refused::LateReply),
        (reply(round + 1, own, n), Refused::LateReply),
        (reply(round, n, n), Refused::Round),
        (reply(round, foreign, n), Refused::Round),
        (reply(round, own, foreign), Refused::Round),
        (reply(round, own, Ballot::default()), Refused::Round),
        (reply(round, own, far), Refused::RoundStep),
    ] {
        let before = state(replica);
        let told = format!("{message:?}");
        let got = replica.receive_election(Slot(follower), message);
        assert_eq!(got, Err(reason), "{told}");
        assert_eq!(state(replica), before);
    }
    let got = replica.receive_election(Slot(follower), reply(round, own, n));
    assert_eq!(got, Ok(()));
    let got = replica.receive_election(Slot(follower), reply(round, own, n));
    assert_eq!(got, Err(Refused::RepeatedReply));
    let got = replica.receive_election(Slot(leader), reply(round, own, n));
    assert_eq!(got, Err(Refused::Member));
}

#[test]
fn repeated_replies_keep_no_leader_without_a_quorum() {
    // Only one voter, not the leader, still reaches all: it must take over, though every datagram
    // comes twice and the leader so hears as many replies as a quorum would give.
    let mut net = Net::new(5);
    net.run(30);
    let leader = net.leader().expect("a leader");
    let hub = leader % 5 + 1;
    for a in 1..=5 {
        for b in (1..=5).filter(|b| a != hub && *b != hub) {
            net.disconnect(a, b);
        }
    }
    for _ in 0..100 {
        for slot in 1..=5 {
            net.tick(slot);
            net.turn(slot);
        }
        for (from, to) in net.queued() {
            while net.deliver(from, to) {}
        }
        // Requests first, then their replies, twice each.
        for _ in 0..2 {
            net.deliver_doubled(|from, to| from == hub || to == hub);
            (1..=5).for_each(|slot| net.turn(slot));
        }
    }
    assert!(net.replica(hub).leads());
    net.propose(hub);
    for _ in 0..4 {
        (1..=5).for_each(|slot| net.turn(slot));
        for (from, to) in net.queued() {
            while net.deliver(from, to) {}
        }
    }
    for slot in 1..=5 {
        assert_eq!(net.replica(slot).decided(), 1, "slot {slot}");
    }
}
