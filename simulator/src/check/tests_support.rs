//! Hand-made logs for the checkers' own tests.

use super::audit::Audit;
use quorate_membership::entry::{Capacity, Entry, LogEntry, Profile, ProposalId};
use quorate_membership::store::Image;
use quorate_membership::{
    BootId, Epoch, Founding, Incarnation, NodeId, ProofPolicy, StoreId, Timing, Token,
};
use quorate_recovery::command::Command;
use quorate_recovery::guest::{Definition, GuestId, GuestSpec};

pub(super) fn inc(counter: u64) -> Incarnation {
    Incarnation { counter, random: 7 }
}

pub(super) fn entry(node: u32, sequence: u64, body: Entry<Command>) -> LogEntry<Command> {
    let id = ProposalId {
        node: NodeId(node),
        incarnation: inc(1),
        sequence,
    };
    LogEntry { id, body }
}

pub(super) fn image(node: u32) -> Image<Command> {
    let founding = Founding {
        cluster: Default::default(),
        rules: quorate_membership::states::RULES,
        epoch: quorate_membership::Epoch(1),
        voters: Vec::new(),
        timing: Timing::fast(),
        proof: ProofPolicy::Device,
    };
    Image::new(NodeId(node), StoreId(node.into()), inc(1), founding)
}

/// Memory of each host: as much as eight guests need.
const ROOM_MIB: u64 = 8 * 128;

pub(super) struct Script {
    pub(super) audit: Audit,
    sequence: u64,
}

impl Default for Script {
    fn default() -> Script {
        Script {
            audit: Audit::new(ProofPolicy::Device),
            sequence: 0,
        }
    }
}

impl Script {
    pub(super) fn push(&mut self, body: Entry<Command>) -> Token {
        self.sequence += 1;
        let e = entry(1, self.sequence, body);
        self.audit.take(Epoch(1), e).0
    }

    pub(super) fn admit(&mut self, node: u32, counter: u64) -> Token {
        self.admit_from(node, counter, 1)
    }

    /// With a boot of its own.
    pub(super) fn admit_clean(&mut self, node: u32, counter: u64) -> Token {
        self.admit_from(node, counter, 1000 + u128::from(counter))
    }

    fn admit_from(&mut self, node: u32, counter: u64, boot: u128) -> Token {
        self.push(Entry::Admit {
            node: NodeId(node),
            incarnation: inc(counter),
            profile: Profile {
                name: format!("h{node}"),
                store: StoreId(node.into()),
                boot: BootId(boot),
                witness: false,
                capacity: Capacity {
                    memory_mib: ROOM_MIB,
                    vcpus: 64,
                },
                machine: Default::default(),
            },
            emptied: false,
        })
    }

    pub(super) fn add_guest(&mut self, name: &str) -> GuestId {
        let at = self.push(Entry::App(Command::AddGuest(Box::new(GuestSpec {
            name: name.into(),
            definition: Definition::Command {
                argv: vec!["x".into()],
                env: Default::default(),
                images: Vec::new(),
            },
            needs: Default::default(),
            priority: 0,
            policy: Default::default(),
            probe: None,
        }))));
        GuestId(at.0)
    }
}
