//! Bytes and messages nobody honest would send: no panic, and a refusal changes nothing.

use super::guard::{stand, state};
use super::harness::{Random, config, entry};
use crate::codec::{self, DecodeError, Kind};
use crate::consensus::{ElectionMessage, LogMessage, Replica};
use crate::entry::LogEntry;
use crate::id::Slot;
use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::messages::ballot_leader_election::*;
use omnipaxos::messages::sequence_paxos::*;
use omnipaxos::storage::{NoSnapshot, SnapshotType};
use omnipaxos::util::{LogSync, SequenceNumber};
use proptest::prelude::*;

/// Numbers where mistakes live: around zero, around our log, around every limit.
fn number(r: &mut Random) -> u64 {
    match r.below(12) {
        0..8 => r.below(9) as u64,
        8 => 10_000_000 + r.below(20) as u64,
        9 => u64::from(u32::MAX) - r.below(3) as u64,
        10 => u64::MAX - r.below(3) as u64,
        _ => r.next(),
    }
}

fn ballot(r: &mut Random, promise: Ballot) -> Ballot {
    if r.percent(8) {
        return Ballot::default();
    }
    let mut b = promise;
    if r.percent(60) {
        b.pid = 1 + r.below(3) as u64;
    }
    if r.percent(40) {
        b.n = r.below(6) as u32;
    }
    if r.percent(3) {
        b.n = number(r) as u32;
    }
    if r.percent(3) {
        b.pid = number(r);
    }
    if r.percent(3) {
        b.config_id = number(r) as u32;
    }
    if r.percent(3) {
        b.priority = number(r) as u32;
    }
    b
}

fn sync(r: &mut Random) -> LogSync<LogEntry<u64>> {
    LogSync {
        decided_snapshot: r.percent(5).then_some(SnapshotType::Delta(NoSnapshot)),
        suffix: (0..r.below(5) as u64).map(entry).collect(),
        sync_idx: number(r) as usize,
        stopsign: None,
    }
}

fn sequence(r: &mut Random) -> SequenceNumber {
    let session = number(r);
    SequenceNumber {
        session,
        counter: number(r),
    }
}

fn log_message(r: &mut Random, promise: Ballot) -> PaxosMsg<LogEntry<u64>> {
    let n = ballot(r, promise);
    match r.below(10) {
        0 => PaxosMsg::PrepareReq(PrepareReq { n }),
        1 => PaxosMsg::Prepare(Prepare {
            n,
            decided_idx: number(r) as usize,
            n_accepted: ballot(r, promise),
            accepted_idx: number(r) as usize,
        }),
        2 => PaxosMsg::Promise(Promise {
            n,
            n_accepted: ballot(r, promise),
            decided_idx: number(r) as usize,
            accepted_idx: number(r) as usize,
            log_sync: r.percent(50).then(|| sync(r)),
        }),
        3 => PaxosMsg::AcceptSync(AcceptSync {
            n,
            seq_num: sequence(r),
            decided_idx: number(r) as usize,
            log_sync: sync(r),
        }),
        4 => PaxosMsg::AcceptDecide(AcceptDecide {
            n,
            seq_num: sequence(r),
            decided_idx: number(r) as usize,
            entries: (0..r.below(4) as u64).map(entry).collect(),
        }),
        5 => PaxosMsg::Accepted(Accepted {
            n,
            accepted_idx: number(r) as usize,
        }),
        6 => PaxosMsg::NotAccepted(NotAccepted { n }),
        7 => PaxosMsg::Decide(Decide {
            n,
            seq_num: sequence(r),
            decided_idx: number(r) as usize,
        }),
        8 => PaxosMsg::ProposalForward((0..r.below(3) as u64).map(entry).collect()),
        _ if r.percent(70) => PaxosMsg::Compaction(Compaction::Trim(number(r) as usize)),
        _ => PaxosMsg::Compaction(Compaction::Snapshot(None)),
    }
}

fn election_message(r: &mut Random, promise: Ballot) -> HeartbeatMsg {
    if r.percent(20) {
        return HeartbeatMsg::Request(HeartbeatRequest {
            round: number(r) as u32,
        });
    }
    HeartbeatMsg::Reply(HeartbeatReply {
        round: number(r) as u32,
        ballot: ballot(r, promise),
        leader: ballot(r, promise),
        happy: r.percent(50),
    })
}

fn attack(seed: u64) {
    let (mut net, leader, follower, _) = stand();
    let mut r = Random(seed);
    let target = if r.percent(50) { leader } else { follower };
    if r.percent(30) {
        net.crash(target, 0);
        net.restart(target);
    }
    let mut image = net.node(target).image.clone();
    let replica = net.replica(target);
    let _ = (replica.take_writes(), replica.take_messages());
    for _ in 0..40 {
        let promise = image.promise.expect("promised").0;
        let from = if r.percent(97) {
            1 + r.below(3) as u8
        } else {
            number(&mut r) as u8
        };
        let named = |r: &mut Random, slot: u8| {
            if r.percent(98) {
                u64::from(slot)
            } else {
                number(r)
            }
        };
        let (named_from, to) = (named(&mut r, from), named(&mut r, target));
        let before = state(replica);
        let result = if r.percent(80) {
            let msg = log_message(&mut r, promise);
            let message = PaxosMessage {
                from: named_from,
                to,
                msg,
            };
            replica.receive_log(Slot(from), LogMessage(message))
        } else {
            let msg = election_message(&mut r, promise);
            let message = BLEMessage {
                from: named_from,
                to,
                msg,
            };
            replica.receive_election(Slot(from), ElectionMessage(message))
        };
        if result.is_err() {
            assert_eq!(state(replica), before);
        }
        if r.percent(30) {
            replica.tick();
        }
        if r.percent(5) {
            replica.session_up(Slot(from));
        }
        for write in replica.take_writes() {
            image.apply(&write).expect("writes continue the image");
        }
        let _ = replica.take_messages();
        assert!(replica.decided() >= 5, "decisions are not undone");
        let start: Vec<u64> = replica
            .read_decided(replica.first(), (5 - replica.first().min(5)) as usize)
            .iter()
            .map(|e| e.id.sequence)
            .collect();
        let expected: Vec<u64> = (replica.first() + 1..=5).collect();
        assert_eq!(start, expected, "nor changed");
    }
    Replica::new(config(target, 3), &image).expect("the store is as good as before");
}

#[test]
fn forged_messages_of_members_never_panic_nor_undo_decisions() {
    for seed in 0..400 {
        attack(seed);
    }
}

/// `body` behind a header that fits it.
fn framed(body: &[u8]) -> Vec<u8> {
    // Encoded bytes are their length and themselves; the header of the same body is ours to make.
    let mut bytes = b"Qr".to_vec();
    bytes.push(codec::VERSION);
    bytes.push(2);
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn receive_bytes(bytes: &[u8]) -> (bool, bool) {
    let (mut net, _, follower, _) = stand();
    let replica = net.replica(follower);
    let log: Result<LogMessage<u64>, DecodeError> = codec::decode(Kind::Stream, bytes);
    let election: Result<ElectionMessage, DecodeError> = codec::decode(Kind::Stream, bytes);
    let decoded = (log.is_ok(), election.is_ok());
    for from in 1..=3 {
        let before = state(replica);
        if let Ok(message) = log.clone()
            && replica.receive_log(Slot(from), message).is_err()
        {
            assert_eq!(state(replica), before);
        }
        let before = state(replica);
        if let Ok(message) = election.clone()
            && replica.receive_election(Slot(from), message).is_err()
        {
            assert_eq!(state(replica), before);
        }
    }
    decoded
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..64)) {
        receive_bytes(&body);
        receive_bytes(&framed(&body));
    }

    #[test]
    fn changed_messages_never_panic(seed: u64, at in 0_usize..64, change in 1_u8..) {
        let mut r = Random(seed);
        let round = Ballot::with(1, 1, 0, 1);
        let msg = log_message(&mut r, round);
        let message = LogMessage(PaxosMessage { from: 1, to: 2, msg });
        let bytes = codec::encode(Kind::Stream, &message).expect("short");
        prop_assert!(receive_bytes(&bytes).0);
        let mut body = bytes[codec::HEADER..].to_vec();
        let at = at % body.len();
        body[at] ^= change;
        receive_bytes(&framed(&body));
    }
}
