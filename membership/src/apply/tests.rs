//! The rules of the log, one by one, without clocks or messages.

use super::{Outcome, State};
use crate::app::{Application, Ended};
use crate::cluster::{Cluster, HostState, Proposals};
use crate::entry::{
    Armed, ArmedClass, AttemptEnd, CONFIRMED_BY_MAX, Capacity, Entry, Ground, LogEntry, Machine,
    Profile, Proof, ProposalId,
};
use crate::founding::{Founding, ProofPolicy};
use crate::id::{BootId, ClusterId, Incarnation, NodeId, StoreId, Token};
use crate::timing::Timing;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Remembers what it was told of hosts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Witnessed {
    ended: Vec<(u32, u64, bool)>,
    taken_over: Vec<(u32, u64, u64)>,
}

impl Application for Witnessed {
    type Command = ();
    type Status = ();

    fn apply(&mut self, _: Token, _: &Cluster, _: &()) -> Result<(), String> {
        Ok(())
    }

    fn ended(&mut self, _: Token, host: NodeId, last: Incarnation, how: Ended) {
        self.ended.push((host.0, last.counter, how == Ended::Lease));
    }

    fn holds(&self, _: NodeId) -> bool {
        true
    }

    fn taken_over(&mut self, _: Token, host: NodeId, from: Incarnation, to: Incarnation) {
        self.taken_over.push((host.0, from.counter, to.counter));
    }
}

const fn life(counter: u64) -> Incarnation {
    Incarnation { counter, random: 1 }
}

const GUARDIAN: Armed = Armed {
    class: ArmedClass::Guardian,
    reset: false,
};

struct Log {
    state: State<Witnessed>,
    sequence: u64,
}

impl Log {
    fn new(proof: ProofPolicy) -> Log {
        let founding = Founding {
            cluster: ClusterId(1),
            rules: crate::states::RULES,
            epoch: crate::id::Epoch(1),
            voters: (1..=3).map(|n| (NodeId(n), StoreId(n.into()))).collect(),
            timing: Timing::fast(),
            proof,
        };
        Log {
            state: State::new(&founding),
            sequence: 0,
        }
    }

    fn put(&mut self, body: Entry<()>) -> (Token, Outcome) {
        self.sequence += 1;
        let id = ProposalId {
            node: NodeId(1),
            incarnation: life(1),
            sequence: self.sequence,
        };
        self.state.apply(&LogEntry { id, body })
    }

    fn applied(&mut self, body: Entry<()>) -> Token {
        let words = format!("{body:?}");
        let (token, outcome) = self.put(body);
        assert_eq!(outcome, Outcome::Applied, "{words}");
        token
    }

    fn void(&mut self, body: Entry<()>) -> String {
        let before = self.state.clone();
        let words = format!("{body:?}");
        let (_, outcome) = self.put(body);
        let Outcome::Void(why) = outcome else {
            panic!("{words}: {outcome:?}")
        };
        let mut after = self.state.clone();
        after.cluster.applied = before.cluster.applied;
        after.cluster.proposals = before.cluster.proposals.clone();
        assert_eq!(after, before, "a void entry changes nothing");
        why
    }

    fn admit(&mut self, node: u32, counter: u64, boot: u128, emptied: bool) -> Entry<()> {
        let profile = Profile {
            name: format!("h{node}"),
            store: StoreId(node.into()),
            boot: BootId(boot),
            witness: false,
            capacity: Capacity::default(),
            machine: Machine {
                uuid: node.into(),
                cards: 1,
                bare: true,
            },
        };
        Entry::Admit {
            node: NodeId(node),
            incarnation: life(counter),
            profile,
            emptied,
        }
    }

    /// Host 4 in its first life, armed if asked for.
    fn host(&mut self, armed: bool) {
        let admit = self.admit(4, 1, 10, false);
        self.applied(admit);
        if armed {
            let timing = self.state.cluster.timing_token;
            self.applied(Entry::Armed {
                host: NodeId(4),
                incarnation: life(1),
                number: 1,
                armed: GUARDIAN,
                timing,
            });
        }
    }

    fn revoke(&mut self) -> Token {
        self.applied(Entry::Revoke {
            hosts: vec![(NodeId(4), life(1), Ground::Silent)],
        })
    }

    fn proof(revoke: Token, proof: Proof) -> Entry<()> {
        Entry::Proof {
            host: NodeId(4),
            incarnation: life(1),
            revoke,
            proof,
        }
    }

    fn term(&mut self, node: u32) -> Token {
        self.applied(Entry::Term {
            node: NodeId(node),
            incarnation: life(1),
        })
    }

    fn waived(&self) -> bool {
        self.state.cluster.term.expect("a term").waived
    }
}

fn off() -> Proof {
    Proof::Fenced {
        device: "bmc".into(),
        class: "power".into(),
    }
}

#[test]
fn only_a_resigner_whose_own_wait_was_over_spares_its_successor_the_wait() {
    let mut log = Log::new(ProofPolicy::Device);
    log.term(1);
    assert!(log.waived(), "nobody was before the first");
    let b = log.term(2);
    assert!(!log.waived(), "1 may still act");
    // 2 resigns at once: it never waited for 1, so neither may 3 go without.
    log.applied(Entry::Resign {
        term: b,
        waited: false,
    });
    let c = log.term(3);
    assert!(!log.waived());
    log.applied(Entry::Resign {
        term: c,
        waited: true,
    });
    log.term(1);
    assert!(log.waived());
    log.term(2);
    assert!(!log.waived(), "spared once, not for ever");
}

#[test]
fn who_confirms_takes_no_more_of_the_state_than_is_kept() {
    let mut log = Log::new(ProofPolicy::Device);
    log.host(true);
    let revoke = log.revoke();
    let by = |bytes| Proof::Confirmed {
        by: "x".repeat(bytes),
    };
    let why = log.void(Log::proof(revoke, by(CONFIRMED_BY_MAX + 1)));
    assert!(why.contains("bytes"), "{why}");
    log.applied(Log::proof(revoke, by(CONFIRMED_BY_MAX)));
}

#[test]
fn a_renewal_counts_only_under_the_term_that_is_current_at_its_place() {
    let mut log = Log::new(ProofPolicy::Device);
    let a = log.term(1);
    log.applied(Entry::Renew { term: a, number: 1 });
    let b = log.term(2);
    log.void(Entry::Renew { term: a, number: 2 });
    log.applied(Entry::Renew { term: b, number: 1 });
}

#[test]
fn a_restart_takes_over_unless_its_last_life_is_revoked() {
    let mut log = Log::new(ProofPolicy::Device);
    log.host(true);
    let second = log.admit(4, 2, 10, false);
    log.applied(second);
    assert_eq!(log.state.app.taken_over, vec![(4, 1, 2)]);
    log.applied(Entry::Revoke {
        hosts: vec![(NodeId(4), life(2), Ground::Deaf)],
    });
    let third = log.admit(4, 3, 10, false);
    assert!(log.void(third).contains("revoked"));
    // Its word that it has ended everything, or a new boot, holds even then (V4).
    let emptied = log.admit(4, 3, 10, true);
    log.applied(emptied);
    assert_eq!(log.state.app.ended, vec![(4, 2, false)]);
    assert_eq!(
        log.state.cluster.hosts[&NodeId(4)].armed,
        None,
        "each life attests anew"
    );
}

#[test]
fn a_word_stands_until_a_later_one_whatever_order_they_are_entered_in() {
    let mut log = Log::new(ProofPolicy::Device);
    log.host(true);
    let unarmed = |number| Entry::Unarmed {
        host: NodeId(4),
        incarnation: life(1),
        number,
    };
    let timing = log.state.cluster.timing_token;
    let armed = |number| Entry::Armed {
        host: NodeId(4),
        incarnation: life(1),
        number,
        armed: GUARDIAN,
        timing,
    };
    log.applied(unarmed(2));
    assert_eq!(log.state.cluster.hosts[&NodeId(4)].armed, None);
    assert!(!log.state.cluster.hosts[&NodeId(4)].usable());
    for old in [armed(1), armed(2), unarmed(2)] {
        assert!(log.void(old).contains("not above 2"));
    }
    let revoke = log.revoke();
    let lease = Entry::Proof {
        host: NodeId(4),
        incarnation: life(1),
        revoke,
        proof: Proof::LeaseExpired,
    };
    assert!(log.void(lease.clone()).contains("nobody was attested"));
    log.applied(armed(3));
    assert!(log.void(unarmed(2)).contains("not above 3"));
    log.applied(lease);
}

#[test]
fn a_life_is_admitted_only_when_every_attempt_on_the_last_one_is_resolved() {
    let mut log = Log::new(ProofPolicy::Device);
    log.host(true);
    let revoke = log.revoke();
    let attempt = log.applied(Entry::Attempt {
        host: NodeId(4),
        incarnation: life(1),
        revoke,
        level: 0,
        device: "bmc".into(),
        launch_within: Duration::from_secs(1),
        limit: Duration::from_secs(5),
    });
    let booted = log.admit(4, 2, 11, false);
    assert!(log.void(booted.clone()).contains("attempt"));
    let host = NodeId(4);
    let restored = log.void(Entry::Restore { host, revoke });
    assert!(restored.contains("may still act"), "{restored}");
    let end = AttemptEnd::Unknown;
    log.applied(Entry::AttemptEnded {
        host: NodeId(4),
        attempt,
        end,
    });
    log.applied(booted);
    assert_eq!(log.state.app.ended, vec![(4, 1, false)]);
}

#[test]
fn a_proof_names_the_standing_revoke_and_a_lease_proves_only_an_attested_life() {
    let mut log = Log::new(ProofPolicy::Device);
    log.host(false);
    let first = log.revoke();
    assert!(
        log.void(Log::proof(first, Proof::LeaseExpired))
            .contains("attested")
    );
    log.applied(Entry::Restore {
        host: NodeId(4),
        revoke: first,
    });
    log.void(Log::proof(first, off()));
    let second = log.revoke();
    log.void(Log::proof(first, off()));
    log.applied(Log::proof(second, off()));
    assert_eq!(
        log.state.cluster.hosts[&NodeId(4)].state(),
        HostState::Fenced
    );
    log.void(Log::proof(second, off()));
    log.void(Entry::Restore {
        host: NodeId(4),
        revoke: second,
    });
    assert_eq!(log.state.app.ended, vec![(4, 1, false)]);
}

#[test]
fn under_device_and_lease_a_device_alone_proves_nothing() {
    let mut log = Log::new(ProofPolicy::DeviceAndLease);
    log.host(true);
    let revoke = log.revoke();
    log.void(Log::proof(revoke, off()));
    log.applied(Log::proof(revoke, Proof::LeaseExpired));
    assert_eq!(log.state.app.ended, vec![(4, 1, true)]);
}

#[test]
fn another_store_or_name_is_refused_and_so_is_a_lower_life() {
    let mut log = Log::new(ProofPolicy::Device);
    log.host(true);
    let mut other = log.admit(4, 2, 11, true);
    if let Entry::Admit { profile, .. } = &mut other {
        profile.store = StoreId(99);
    }
    assert!(log.void(other).contains("store"));
    let same = log.admit(4, 1, 11, true);
    assert!(log.void(same).contains("not above"));
    let mut named = log.admit(5, 1, 10, false);
    if let Entry::Admit { profile, .. } = &mut named {
        profile.name = "h4".into();
    }
    assert!(log.void(named).contains("belongs to"));
    let mut voter = log.admit(2, 1, 10, false);
    if let Entry::Admit { profile, .. } = &mut voter {
        profile.store = StoreId(99);
    }
    assert!(
        log.void(voter).contains("votes"),
        "a replaced disk does not vote"
    );
}

#[test]
fn a_proposal_is_applied_once_and_never_after_its_successor_life_was_admitted_and_spoke() {
    use Outcome::{Applied, Repeat};
    let mut proposals = Proposals::default();
    let mut put = |admitted, of: (u64, u64), sequence| match proposals.fresh(
        life(admitted),
        Incarnation {
            counter: of.0,
            random: of.1,
        },
        sequence,
    ) {
        true => Applied,
        false => Repeat,
    };
    for (admitted, of, sequence, expected) in [
        (1, (1, 1), 1, Applied),
        (1, (1, 1), 1, Repeat),
        (1, (1, 1), 3, Applied),
        (1, (1, 1), 2, Applied),
        (1, (2, 1), 1, Applied),
        // The later life is not admitted, nor is a copy's.
        (1, (9, 1), 1, Applied),
        (1, (1, 1), 4, Applied),
        // Another of the same number says something else by the same name.
        (1, (1, 2), 1, Applied),
        (1, (1, 0), 1, Applied),
        (1, (1, 1), 4, Repeat),
        (2, (2, 1), 1, Repeat),
        (2, (2, 1), 2, Applied),
        (2, (1, 1), 5, Repeat),
        (2, (9, 1), 1, Repeat),
        (2, (2, 1), 3, Applied),
    ] {
        assert_eq!(put(admitted, of, sequence), expected, "{of:?} {sequence}");
    }
    // However many copies come as far as the log, the admitted life is told apart.
    for copy in 10..100 {
        assert_eq!(put(2, (copy, 1), 1), Applied, "{copy}");
        assert_eq!(put(2, (2, copy), 1), Applied, "{copy}");
        assert_eq!(put(2, (2, 0), copy), Applied, "{copy}");
    }
    assert_eq!(put(2, (2, 1), 3), Repeat);
    assert_eq!(put(2, (2, 1), 4), Applied);
}

/// The admission with another machine behind it.
fn on(mut admit: Entry<()>, machine: Machine) -> Entry<()> {
    if let Entry::Admit { profile, .. } = &mut admit {
        profile.machine = machine;
    }
    admit
}

#[test]
fn another_boot_frees_guests_only_on_the_same_bare_machine() {
    let bare = Machine {
        uuid: 4,
        cards: 1,
        bare: true,
    };
    let copies = [
        Machine {
            bare: false,
            ..bare
        },
        Machine { uuid: 5, ..bare },
        Machine { cards: 2, ..bare },
    ];
    for machine in copies {
        let mut log = Log::new(ProofPolicy::Device);
        log.host(true);
        // Whatever it says of itself: anybody with its disk can say it.
        let why = log.admit(4, 2, 11, true);
        let why = log.void(on(why, machine));
        assert!(why.contains("proved over"), "{machine:?}: {why}");
        let revoke = log.revoke();
        log.applied(Log::proof(revoke, Proof::LeaseExpired));
        let again = log.admit(4, 2, 11, true);
        log.applied(on(again, machine));
        assert!(log.state.app.taken_over.is_empty());
    }
    let mut log = Log::new(ProofPolicy::Device);
    log.host(true);
    let same = log.admit(4, 2, 11, false);
    log.applied(same);
    assert_eq!(
        log.state.app.ended.len(),
        1,
        "the very machine: gone at once"
    );
}

#[test]
fn a_machine_that_two_hosts_name_is_no_ground() {
    let mut log = Log::new(ProofPolicy::Device);
    let shared = Machine {
        uuid: 9,
        cards: 1,
        bare: true,
    };
    for node in [4, 5] {
        let admit = log.admit(node, 1, 10, false);
        log.applied(on(admit, shared));
    }
    let again = log.admit(4, 2, 11, false);
    log.void(on(again, shared));
}
