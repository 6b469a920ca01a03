//! What operators do on purpose: leave, stop, start, remove, fence; and a guest that cannot run.

mod common;

use common::{Lab, file, host};
use quorate::demo::record;

#[test]
fn an_operators_wishes_are_told_apart_from_failures() {
    if common::skipped("an_operators_wishes_are_told_apart_from_failures") {
        return;
    }
    let mut lab = Lab::new(&["h1", "h2", "h3"]);
    lab.add("h1", &["g1", "g2", "g3"]);
    guests(&mut lab);
    crashing(&lab);
    leave(&mut lab);
    fence(&mut lab);
    lab.go_on();
    lab.judge();
}

/// Stop, start, add again, remove.
fn guests(lab: &mut Lab) {
    let stopped = vec!["g3".to_owned()];
    let earlier = lab.lives()["g3"].clone();
    let refused = lab
        .ask("h2", &["guest", "remove", "g3"])
        .expect_err("it runs");
    assert!(refused.contains("stop"), "{refused}");
    let spec = lab
        .site
        .guest_file("g3")
        .expect("a file")
        .display()
        .to_string();
    let refused = lab
        .ask("h1", &["guest", "add", &spec])
        .expect_err("it exists");
    assert!(
        refused.contains("exists") && refused.contains("g3"),
        "{refused}"
    );
    lab.ask("h2", &["guest", "stop", "g3"]).expect("stops");
    wait_state(lab, "g3", "stopped");
    lab.silent(&stopped);
    lab.ask("h3", &["guest", "start", "g3"]).expect("starts");
    lab.settled("h1");
    assert_ne!(lab.lives()["g3"], earlier, "a new life");
    lab.ask("h1", &["guest", "stop", "g3"]).expect("stops");
    wait_state(lab, "g3", "stopped");
    lab.ask("h1", &["guest", "remove", "g3"])
        .expect("is forgotten");
    assert!(lab.guest("h1", "g3").expect("an answer").is_null());
    let refused = lab
        .ask("h1", &["guest", "start", "g3"])
        .expect_err("it is gone");
    assert!(refused.contains("no guest is named \"g3\""), "{refused}");
    lab.silent(&stopped);
    lab.forget("g3");
    lab.nobody_judged("h1");
}

/// A guest whose command ends at once is tried again here, then elsewhere, and says why it waits.
fn crashing(lab: &Lab) {
    let spec = "name = \"bad\"\n[definition.command]\nargv = [\"/bin/false\"]\n\
                [policy]\nrestarts_here = 1\nwindow_ms = 60000\nretry_ms = 20000\n";
    let spec = file(lab.path(), "bad.toml", spec).display().to_string();
    lab.ask("h1", &["guest", "add", &spec]).expect("is taken");
    let by_bad = |by: &str, kind: &str| {
        let mut events = lab.events(by, &[kind]);
        events.retain(|e| e["guest"] == "bad");
        events
    };
    let hosts = lab.wait("the bad guest to have been given to two hosts", || {
        let placed = by_bad("h1", "placed");
        let mut hosts: Vec<String> = placed
            .iter()
            .filter_map(|e| e["host"].as_str().map(str::to_owned))
            .collect();
        hosts.dedup();
        if hosts.len() >= 2 {
            Ok(hosts)
        } else {
            Err(format!("{placed:#?}"))
        }
    });
    assert_ne!(hosts[0], hosts[1], "elsewhere");
    // The budget is one restart: on the first host it ended twice, under one epoch.
    let ends = by_bad(&hosts[0], "ended");
    let ends = ends
        .iter()
        .filter(|e| e["host"] == hosts[0] && e["text"] == "exit status: 1");
    let tokens: Vec<String> = ends.map(|e| e["token"].to_string()).collect();
    assert!(tokens.len() >= 2, "{tokens:?}");
    assert_eq!(tokens[0], tokens[1], "one epoch, two processes");
    lab.wait("the reason to be shown", || {
        let row = lab.guest("h1", "bad")?;
        let told = row["reason"].as_str().is_some_and(|r| r.contains("exit"));
        let failed = row["failures"].as_u64() >= Some(2);
        if told && failed {
            Ok(())
        } else {
            Err(row.to_string())
        }
    });
    lab.ask("h1", &["guest", "stop", "bad"]).expect("stops");
    wait_state(lab, "bad", "stopped");
    lab.ask("h1", &["guest", "remove", "bad"])
        .expect("is forgotten");
    lab.nobody_judged("h1");
}

/// A host that leaves hands its guests over; nobody is judged, and it comes back by being started.
fn leave(lab: &mut Lab) {
    let guests = lab.on("h2");
    assert!(!guests.is_empty(), "{:?}", lab.lives());
    let earlier = lab.incarnation("h2");
    let left_at = lab.expect("h2", &guests);
    let said = lab.ask("h2", &["host", "leave"]).expect("leaves");
    assert!(said.contains("out of service"), "{said}");
    // The command came back, so its guests have ended there: nothing is written from h2 any more.
    let back_at = record::now();
    lab.moved(&guests, "h2", left_at);
    lab.wait("h2 to have left", || {
        let status = lab.status("h1")?;
        if host(&status, "h2")["state"] == "left" {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    lab.settled("h1");
    lab.nobody_judged("h1");
    lab.nobody_judged("h3");
    for (guest, finding) in lab.judge() {
        let late = finding
            .runs
            .iter()
            .find(|r| r.life.host == "h2" && r.last > back_at);
        assert!(
            late.is_none(),
            "{guest} ran on after the leave was reported: {late:?}"
        );
    }
    let gone = lab
        .ask("h2", &["status"])
        .expect_err("its supervisor does not start it again");
    assert!(gone.contains("no daemon answers"), "{gone}");
    lab.site.start_daemon("h2").expect("a daemon");
    lab.back("h1", "h2", earlier);
    lab.whole("h2");
    lab.nobody_judged("h1");
}

/// A host that is heard cannot be confirmed off; one that is fenced by command is really cut.
fn fence(lab: &mut Lab) {
    let victim = "h3";
    let guests = lab.on(victim);
    let refused = lab
        .ask("h1", &["host", "confirm-off", "--yes", victim])
        .expect_err("it lives");
    assert!(refused.contains("is not lost"), "{refused}");
    let refused = lab
        .ask("h1", &["host", "fence", "nobody"])
        .expect_err("there is none");
    assert!(refused.contains("no host is named \"nobody\""), "{refused}");
    // With a broken switch it lives on for a while, lost and heard: still no confirmation.
    lab.break_outlet(victim);
    let judged = lab.incarnation(victim);
    let fenced_at = lab.expect(victim, &guests);
    lab.ask("h1", &["host", "fence", victim])
        .expect("is fenced");
    let refused = lab
        .ask("h1", &["host", "confirm-off", "--yes", victim])
        .expect_err("it lives");
    assert!(refused.contains("was heard"), "{refused}");
    lab.moved(&guests, victim, fenced_at);
    let kinds = lab.events("h1", &["verdict"]);
    assert!(kinds.iter().any(|e| e["host"] == victim), "{kinds:#?}");
    // Not cut, only judged: it comes back as a new incarnation.
    lab.back("h1", victim, judged);
    lab.settled("h1");
}

fn wait_state(lab: &Lab, guest: &str, state: &str) {
    lab.wait(&format!("{guest} to be {state}"), || {
        let row = lab.guest("h1", guest)?;
        if row["state"] == state {
            Ok(())
        } else {
            Err(row.to_string())
        }
    });
}
