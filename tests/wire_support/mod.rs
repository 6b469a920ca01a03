//! The values whose bytes `WIRE.md` shows.

use quorate_membership::attest::Word;
use quorate_membership::entry::{Armed, ArmedClass, Entry, LogEntry, ProposalId};
use quorate_membership::frame::{
    Ack, Answer, Beat, Datagram, Frame, Header, Join, Observation, Part,
};
use quorate_membership::states::StateWord;
use quorate_membership::{ClusterId, Epoch, Incarnation, NodeId, Slot, Token};
use quorate_recovery::command::{Closure, Command, GuestStatus, GuestWord};
use quorate_recovery::contract::NodeFrame;
use quorate_recovery::domain::Source;
use quorate_recovery::domain::layout::Top;
use quorate_recovery::guest::GuestId;
use quorate_recovery::hold::{HoldReason, ReleasedBy, Words};
use quorate_recovery::images::{Life, NewTop, ScratchImage};
use std::time::Duration;

pub(crate) const LIFE: Incarnation = Incarnation {
    counter: 7,
    random: 0x1122_3344_5566_7788,
};

pub(crate) fn header(number: u64) -> Header {
    Header {
        cluster: ClusterId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        epoch: Epoch(1),
        from: NodeId(2),
        incarnation: LIFE,
        number,
    }
}

pub(crate) fn token(index: u64) -> Token {
    Token::new(Epoch(1), index)
}

pub(crate) fn beat() -> Beat<GuestStatus> {
    Beat {
        sequence: 300,
        hello: None,
        lease_left: Duration::from_millis(31_500),
        renewed_ago: Duration::from_millis(500),
        timing: token(0),
        word: Word {
            number: 1,
            armed: Some(Armed {
                class: ArmedClass::Guardian,
                reset: true,
            }),
        },
        full: false,
        unheard: 0b100,
        hears: 3,
        applied: 4242,
        status: GuestStatus {
            running: 1,
            ..GuestStatus::default()
        },
    }
}

pub(crate) fn bulletin() -> Part<GuestWord> {
    Part {
        generation: 6,
        part: 0,
        parts: 2,
        unheard: 0b100,
        items: vec![
            GuestWord::Closed(GuestId(token(5).0), token(9), Closure::LeaseEnded),
            GuestWord::Running(GuestId(token(6).0), token(12)),
        ],
    }
}

pub(crate) fn ack() -> Ack {
    Ack {
        host: NodeId(2),
        incarnation: LIFE,
        sequence: 300,
        slot: Slot(3),
        epoch: Epoch(1),
        life: 4,
        lives: vec![(Slot(1), 300)],
    }
}

pub(crate) fn observation() -> Observation {
    Observation {
        slot: Slot(3),
        incarnation: 4,
        blind: false,
        disk: Duration::from_millis(4),
        about: (NodeId(0), NodeId(u32::MAX)),
        silent: vec![(NodeId(5), Duration::from_secs(9))],
        durable: 2048,
        answers: vec![Answer {
            host: NodeId(5),
            revoke: token(70),
            age: Duration::from_millis(1250),
        }],
        state: StateWord {
            token: token(65),
            hash: 0x1122_3344,
            rules: 1,
        },
    }
}

pub(crate) fn invite() -> Join {
    Join::Invite {
        cluster: ClusterId(9),
        voters: vec![NodeId(1), NodeId(2), NodeId(3)],
    }
}

pub(crate) fn entry(sequence: u64, body: Entry<Command>) -> LogEntry<Command> {
    let id = ProposalId {
        node: NodeId(4),
        incarnation: LIFE,
        sequence,
    };
    LogEntry { id, body }
}

pub(crate) fn placed() -> Command {
    Command::Placed {
        guest: GuestId(token(5).0),
        previous: token(9),
        host: NodeId(4),
        incarnation: LIFE,
    }
}

pub(crate) fn frame(body: Datagram<GuestStatus>) -> NodeFrame {
    Frame {
        header: header(1000),
        to: Vec::new(),
        body,
    }
}

pub(crate) fn holds() -> [(&'static str, Command); 2] {
    let hold = Command::Hold {
        guest: GuestId(token(5).0),
        epoch: token(9),
        reason: HoldReason::ByHand(Words::new("moved")),
    };
    let release = Command::Release {
        holds: Vec::new(),
        by: ReleasedBy::Host(NodeId(4)),
    };
    [("Hold", hold), ("Release", release)]
}

pub(crate) fn locked() -> (&'static str, Command) {
    let locked = Command::Locked {
        host: NodeId(4),
        guests: vec![(GuestId(token(5).0), token(9))],
    };
    ("Locked", locked)
}

pub(crate) fn tried() -> (&'static str, Command) {
    let tried = Command::Tried {
        host: NodeId(4),
        incarnation: LIFE,
        stated: token(9),
        device: "bmc".into(),
        on: true,
    };
    ("Tried", tried)
}

/// After `Tried`: it came later.
pub(crate) fn scratch() -> (&'static str, Command) {
    let scratch = Command::Scratch {
        guest: GuestId(token(5).0),
        life: Life {
            epoch: token(9),
            host: NodeId(2),
            incarnation: LIFE,
        },
        images: vec![ScratchImage {
            path: "/s/a.backup".into(),
            inode: 13,
            made_ns: 14,
        }],
    };
    ("Scratch", scratch)
}

pub(crate) fn sources() -> [(&'static str, Source); 2] {
    let network = Source::Network {
        protocol: "rbd".into(),
        name: "p/a".into(),
        servers: Vec::new(),
    };
    [("Path", Source::Path("/s/a".into())), ("Network", network)]
}

pub(crate) fn images() -> [(&'static str, Command); 3] {
    let guest = GuestId(token(5).0);
    let follow = Command::Follow {
        guest,
        life: Life {
            epoch: token(9),
            host: NodeId(2),
            incarnation: LIFE,
        },
        tops: vec![NewTop {
            disk: "vda".into(),
            top: Top {
                source: Source::Path("/s/a.1".into()),
                device: false,
                format: "qcow2".into(),
            },
            inode: 12,
        }],
        left: Vec::new(),
        over: true,
    };
    let reads = Command::Reads {
        guest,
        followed: token(10),
        host: NodeId(3),
    };
    let adopt = Command::Adopt {
        guest,
        epoch: token(9),
        xml: "<domain/>".into(),
    };
    [("Follow", follow), ("Reads", reads), ("Adopt", adopt)]
}

pub(crate) fn hold_reasons() -> [(&'static str, HoldReason); 7] {
    let words = Words::default;
    let operator = HoldReason::Operator {
        by: words(),
        why: words(),
    };
    [
        ("ForeignLock", HoldReason::ForeignLock(Vec::new())),
        ("UnknownLock", HoldReason::UnknownLock(Vec::new())),
        ("Drift", HoldReason::Drift(words())),
        ("NewTop", HoldReason::NewTop(words())),
        ("Backing", HoldReason::Backing(words())),
        ("ByHand", HoldReason::ByHand(words())),
        ("Operator", operator),
    ]
}

pub(crate) fn released_by() -> [(&'static str, ReleasedBy); 2] {
    [
        ("Person", ReleasedBy::Person(Words::default())),
        ("Host", ReleasedBy::Host(NodeId(1))),
    ]
}
