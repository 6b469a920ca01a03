//! Samples of writes for tests, drawn by chance from a seed, and what a store must then hold.

use super::LoadedImage;
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use quorate_membership::consensus::Round;
use quorate_membership::entry::{Entry, LogEntry, ProposalId};
use quorate_membership::store::{Image, StopRecord, Write};
use quorate_membership::vouch::{Claim, PeerRecord};
use quorate_membership::{ClusterId, Founding, Incarnation, NodeId, StoreId, Timing, Token};
use quorate_recovery::command::Command;
use quorate_recovery::contract::NodeWrite;
use quorate_recovery::executor::{ExecutorWrite, GuestPromise};
use quorate_recovery::guest::GuestId;
use std::collections::BTreeMap;

pub(super) fn founding(node: NodeId, store: StoreId) -> Founding {
    Founding {
        cluster: ClusterId(77),
        rules: quorate_membership::states::RULES,
        epoch: quorate_membership::Epoch(1),
        voters: vec![
            (node, store),
            (NodeId(2), StoreId(2)),
            (NodeId(3), StoreId(3)),
        ],
        timing: Timing::fast(),
        proof: quorate_membership::ProofPolicy::DeviceAndLease,
    }
}

/// What a store holds, kept in memory.
#[derive(Clone)]
pub(super) struct Model {
    pub(super) member: Image<Command>,
    pub(super) promises: BTreeMap<GuestId, GuestPromise>,
}

impl Model {
    pub(super) fn new(node: NodeId, store: StoreId) -> Model {
        let life = Incarnation::default();
        Model {
            member: Image::new(node, store, life, founding(node, store)),
            promises: BTreeMap::new(),
        }
    }

    pub(super) fn apply(&mut self, batch: &[NodeWrite]) {
        for write in batch {
            match write {
                NodeWrite::Member(write) => self.member.apply(write).expect("it fits"),
                NodeWrite::Executor(write) => {
                    match write.promise {
                        Some(promise) => self.promises.insert(write.guest, promise),
                        None => self.promises.remove(&write.guest),
                    };
                }
            }
        }
    }

    /// All but the incarnation, in words that are the same if the content is.
    pub(super) fn text(&self) -> String {
        let mut member = self.member.clone();
        member.incarnation = Incarnation::default();
        member.stops.sort_by_key(|s| (s.host, s.revoke));
        format!("{member:?} {:?}", self.promises)
    }
}

impl From<LoadedImage> for Model {
    fn from(image: LoadedImage) -> Model {
        Model {
            member: image.member.expect("founded"),
            promises: image.promises,
        }
    }
}

/// Draws batches that fit one after the other.
pub(super) struct Source {
    random: TestRng,
    trimmed: u64,
    length: u64,
    number: u64,
}

impl Source {
    pub(super) fn new(seed: u64) -> Source {
        let mut wide = [1; 32];
        wide[..8].copy_from_slice(&seed.to_le_bytes());
        Source {
            random: TestRng::from_seed(RngAlgorithm::ChaCha, &wide),
            trimmed: 0,
            length: 0,
            number: 0,
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random.next_u64() % limit
    }

    fn round(&mut self) -> Round {
        let n = self.below(1 << 30);
        let ballot = serde_json::json!({"config_id": 1, "n": n, "priority": 0, "pid": 2});
        serde_json::from_value(ballot).expect("a round")
    }

    pub(super) fn entry(&mut self) -> LogEntry<Command> {
        self.number += 1;
        let length = self.below(300) as usize;
        LogEntry {
            id: ProposalId {
                node: NodeId(1),
                incarnation: Incarnation {
                    counter: 1,
                    random: 1,
                },
                sequence: self.number,
            },
            body: Entry::App(Command::Publish(vec![self.number as u8; length])),
        }
    }

    fn write(&mut self) -> NodeWrite {
        let member = match self.below(12) {
            0 => Write::Promise(self.round()),
            1 => Write::AcceptedRound(self.round()),
            2 => Write::Decided(self.length),
            3..=5 => {
                let (kept, count) = (self.length - self.trimmed, self.below(4));
                // Mostly at the end, sometimes cutting off what was not decided.
                let back = self.below(3).min(kept) * self.below(2);
                let from = self.length - back;
                self.length = from + count;
                let entries = (0..count).map(|_| self.entry()).collect();
                Write::Append { from, entries }
            }
            6 => {
                let kept = self.length - self.trimmed;
                let to = self.trimmed + self.below(kept + 1);
                self.trimmed = self.trimmed.max(to);
                Write::Trim(to)
            }
            7 => {
                let size = self.below(20_000) as usize;
                Write::Snapshot {
                    applied: self.length,
                    bytes: vec![size as u8; size],
                }
            }
            8 => Write::Stop(StopRecord {
                host: NodeId(self.below(4) as u32),
                incarnation: Incarnation {
                    counter: self.below(9),
                    random: self.below(9),
                },
                revoke: Token(self.below(3)),
            }),
            9 => Write::Unstop {
                host: NodeId(self.below(4) as u32),
                revoke: Token(self.below(3)),
            },
            10 => Write::Peer {
                node: NodeId(self.below(5) as u32),
                record: PeerRecord {
                    claim: Claim {
                        index: self.below(99),
                        ..Claim::default()
                    },
                    life: self.below(99),
                    random: self.below(99),
                },
            },
            _ => {
                let promise = GuestPromise {
                    promised: Token(self.below(50)),
                    closed: Token(self.below(50)),
                };
                return NodeWrite::Executor(ExecutorWrite {
                    guest: GuestId(self.below(4)),
                    promise: (self.below(4) > 0).then_some(promise),
                });
            }
        };
        NodeWrite::Member(member)
    }

    pub(super) fn batch(&mut self) -> Vec<NodeWrite> {
        let count = 1 + self.below(5);
        (0..count).map(|_| self.write()).collect()
    }
}
