//! Power goes for all, or for so many that no quorum is left, and comes back.

mod common;

use common::Lab;
use quorate::demo::record;

const NODES: [&str; 3] = ["h1", "h2", "h3"];

#[test]
fn without_a_quorum_nothing_is_commanded_and_after_an_outage_everything_runs_once() {
    if common::skipped(
        "without_a_quorum_nothing_is_commanded_and_after_an_outage_everything_runs_once",
    ) {
        return;
    }
    let mut lab = Lab::new(&NODES);
    lab.add("h1", &["g1", "g2", "g3"]);

    // All power lost and back.
    for name in NODES {
        lab.power_off(name);
    }
    let off_at = record::now();
    for name in NODES {
        lab.power_on(name);
    }
    lab.whole("h1");
    lab.settled("h1");
    lab.go_on();
    for (guest, finding) in lab.judge() {
        assert_eq!(
            finding.runs.len(),
            2,
            "{guest}: once before and once after: {finding:?}"
        );
        assert!(
            finding.runs[0].last < off_at && finding.runs[1].first > off_at,
            "{finding:?}"
        );
    }

    // Two of three voters gone: the third can tell nobody anything, and its own guests end.
    let here = lab.on("h2");
    assert!(!here.is_empty(), "{:?}", lab.lives());
    let before = lab
        .events("h2", &["verdict", "fence", "proof", "placed"])
        .len();
    lab.power_off("h1");
    lab.power_off("h3");
    let status = lab.wait("h2 to say that it is alone", || {
        let status = lab.status("h2")?;
        if status["quorate"] == false {
            Ok(status)
        } else {
            Err(status.to_string())
        }
    });
    let remarks = status["remarks"].to_string();
    assert!(
        remarks.contains("no quorum") && remarks.contains("2 of 3 voters"),
        "{status}"
    );
    let words = lab.ask("h2", &["status"]).expect("words");
    assert!(
        words.contains("NOT reached") && words.contains("no quorum"),
        "{words}"
    );
    lab.silent(&here);
    let ended_at = record::now();
    // While its lease lasts it may still be reached through a relay, and what it proposes then may
    // still happen.
    lab.wait("the lease of h2 to be over", || {
        let status = lab.status("h2")?;
        match status["lease_left"].as_f64() {
            Some(left) if left <= 0.0 => Ok(()),
            _ => Err(status.to_string()),
        }
    });
    let spec = lab
        .site
        .guest_file("g9")
        .expect("a file")
        .display()
        .to_string();
    let refused = lab
        .ask("h2", &["guest", "add", &spec])
        .expect_err("nobody can decide it");
    assert!(
        refused.contains("no quorum of voters is reached"),
        "{refused}"
    );
    // By then the others would have been judged and fenced, if anybody could.
    let after = lab.events("h2", &["verdict", "fence", "proof", "placed"]);
    assert_eq!(after.len(), before, "nothing was commanded: {after:#?}");
    let status = lab.status("h2").expect("an answer");
    assert_eq!(status["quorate"], false, "{status}");

    // One of them returns: that is a quorum, and everything runs. Then the other.
    lab.power_on("h1");
    lab.moved(&here, "-", ended_at);
    lab.power_on("h3");
    lab.whole("h2");
    lab.settled("h2");
    lab.go_on();
    lab.judge();
    assert!(
        lab.guest("h2", "g9").expect("an answer").is_null(),
        "g9 was refused"
    );
}
