//! A voter whose state was altered on its disk: the others notice, it leaves the log before it orders
//! anything, and votes again with the state of the others; its host goes on (reading 19).

mod common;

use common::{Lab, host};
use quorate::store::Store;
use quorate_membership::codec::{self, Kind};
use quorate_membership::store::Write;
use quorate_membership::{State, Token};
use quorate_recovery::Guests;
use quorate_recovery::contract::NodeWrite;
use quorate_recovery::machine::{Blame, Closed};
use std::fs;

/// Changes what the voter on a machine without power made of the log: there, every guest counts as
/// ended.
fn alter(lab: &Lab, name: &str) {
    let own = lab.path().join(name);
    let machine = fs::read_to_string(own.join("machine-id")).expect("a machine id");
    let path = own.join("state/store.redb");
    let mut store = Store::open(&path, machine.trim()).expect("opened");
    let image = store.load().expect("read").member.expect("a member");
    let mut state: State<Guests> = match &image.snapshot {
        Some((_, bytes)) => codec::decode(Kind::State, bytes).expect("a state"),
        None => State::new(&image.founding),
    };
    while state.cluster.applied < image.decided {
        let at = state.cluster.applied - image.trimmed;
        state.apply(&image.log[usize::try_from(at).expect("small")]);
    }
    let applied = state.cluster.applied;
    for record in state.app.guests.values_mut() {
        record.closed = Some(Closed {
            at: Token::new(state.cluster.epoch, applied),
            drained: true,
            blame: Blame::Nobody,
            why: "altered".into(),
        });
    }
    let bytes = codec::encode(Kind::State, &state).expect("fits");
    let write = NodeWrite::Member(Write::Snapshot { applied, bytes });
    store.commit(&[write]).expect("written");
}

#[test]
fn a_voter_whose_state_was_altered_takes_a_right_one_over_and_votes_again() {
    let test = "a_voter_whose_state_was_altered_takes_a_right_one_over_and_votes_again";
    if common::skipped(test) {
        return;
    }
    let mut lab = Lab::new(&["h1", "h2", "h3"]);
    lab.add("h1", &["g1", "g2", "g3"]);
    let there = lab.on("h3");
    let after = lab.expect("h3", &there);
    lab.power_off("h3");
    lab.moved(&there, "h3", after);
    alter(&lab, "h3");
    lab.power_on("h3");
    lab.wait(
        "h3 to have left the log and to vote again, and all to say why",
        || {
            let status = lab.status("h3")?;
            let said = |node: &str, parts: &[&str]| {
                let text =
                    |e: &serde_json::Value| e["text"].as_str().unwrap_or_default().to_owned();
                let texts = lab.events(node, &["alert"]);
                let all = |t: &String| parts.iter().all(|part| t.contains(part));
                texts.iter().map(text).any(|t| all(&t))
            };
            let left = ["the state of h3 after", "h1, h2"];
            let named = ["h1", "h2", "h3"].into_iter().all(|n| said(n, &left));
            let again = said("h3", &["takes part in the log again"]);
            if named && again && status["states"]["verdict"] == "agreed" {
                Ok(())
            } else {
                Err(status.to_string())
            }
        },
    );
    // It has a right state, under its lease.
    lab.wait("h3 to know what runs", || {
        let status = lab.status("h3")?;
        let known = ["g1", "g2", "g3"].iter().all(|g| {
            lab.guest("h3", g)
                .is_ok_and(|row| row["state"] == "running")
        });
        let leased = status["lease_left"].as_f64().is_some_and(|left| left > 0.0);
        if known && leased && host(&status, "h3")["state"] == "member" {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    lab.settled("h3");
    // Its vote counts: another voter may go.
    let there = lab.on("h2");
    let after = lab.expect("h2", &there);
    lab.power_off("h2");
    lab.moved(&there, "h2", after);
    lab.settled("h3");
    lab.judge();
}
