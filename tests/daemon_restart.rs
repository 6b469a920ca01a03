//! A daemon alone ends, or stands still, while its host and its guests are well.

mod common;

use common::{Lab, host};

#[test]
fn a_daemon_that_ends_or_stands_still_never_makes_two_copies() {
    if common::skipped("a_daemon_that_ends_or_stands_still_never_makes_two_copies") {
        return;
    }
    let mut lab = Lab::new(&["h1", "h2", "h3"]);
    lab.add("h1", &["g1", "g2", "g3", "g4"]);
    let before = lab.lives();
    assert!(!lab.on("h2").is_empty(), "{before:?}");

    // Killed, or told to stop, and back inside its lease: the guests never notice.
    for signal in ["KILL", "TERM"] {
        let earlier = lab.incarnation("h2");
        lab.signal("h2", signal);
        lab.back("h1", "h2", earlier);
        lab.whole("h2");
        lab.settled("h2");
        lab.go_on();
        assert_eq!(
            lab.lives(),
            before,
            "process and epoch of every guest after SIG{signal}"
        );
        lab.nobody_judged("h1");
        lab.nobody_judged("h3");
    }
    // The coordinator's daemon too, whoever that is by now.
    let leader = lab.whole("h1")["view"]["coordinator"]
        .as_str()
        .expect("a name")
        .to_owned();
    let other = if leader == "h1" { "h3" } else { "h1" };
    let earlier = lab.incarnation(&leader);
    lab.signal(&leader, "KILL");
    lab.back(other, &leader, earlier);
    lab.whole(other);
    lab.settled(other);
    lab.go_on();
    assert_eq!(
        lab.lives(),
        before,
        "process and epoch of every guest after a leader's end"
    );
    lab.nobody_judged(other);
    let findings = lab.judge();
    assert!(findings.values().all(|f| f.runs.len() == 1), "{findings:?}");

    // Held past its lease, where no power switch works: the guardian ends its guests, the others
    // wait for that and start them, and when it goes on it has nothing left to do.
    lab.break_outlet("h2");
    let guests = lab.on("h2");
    let earlier = lab.incarnation("h2");
    lab.signal("h2", "STOP");
    let held_at = lab.expect("h2", &guests);
    lab.moved(&guests, "h2", held_at);
    assert!(lab.site.alive("h2"), "its host never lost its power");
    lab.judge();
    let seen = lab.status("h1").expect("an answer");
    assert_ne!(host(&seen, "h2")["state"], "member", "{seen}");
    lab.signal("h2", "CONT");
    lab.back("h1", "h2", earlier);
    lab.whole("h2");
    lab.settled("h2");
    lab.go_on();
    let findings = lab.judge();
    for guest in &guests {
        let there = findings[guest]
            .runs
            .iter()
            .filter(|r| r.life.host == "h2" && r.last > held_at);
        assert!(there.count() <= 1, "nothing woke up on h2: {findings:?}");
        assert_eq!(findings[guest].runs.len(), 2, "{findings:?}");
    }
    // They ran on for a while, and ended before any other host began them: nobody told them to.
    for guest in &guests {
        let runs = &findings[guest].runs;
        assert!(
            runs[0].last > held_at,
            "{guest} ended before its daemon was held: {runs:?}"
        );
        assert!(runs[0].last < runs[1].first, "{runs:?}");
    }
}
