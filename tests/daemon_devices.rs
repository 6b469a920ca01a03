//! Fence devices are read while their hosts run: one that never said on is not relied on.

mod common;

use common::{Lab, host};
use serde_json::Value;
use std::fs;

/// What is known of the only device of a host.
fn said(status: &Value, name: &str) -> String {
    let row = &host(status, name)["devices"][0];
    row["said"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_wrong_plug_is_found_before_it_is_needed() {
    if common::skipped("a_wrong_plug_is_found_before_it_is_needed") {
        return;
    }
    let mut lab = Lab::bare(&["h1", "h2", "h3"]);
    // The plug of h3 has nothing behind it, and a parameter of h2 is misspelt.
    let switch = lab.site.switch();
    fs::write(switch.join("spare.state"), "off\n").expect("a plug");
    for (name, from, to) in [
        ("h3", "plug = \"h3\"", "plug = \"spare\""),
        ("h2", "plug = \"h2\"", "plug = \"h2\"\npower_timout = \"5\""),
    ] {
        let file = lab.site.config(name);
        let text = fs::read_to_string(&file).expect("a configuration");
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replace(from, to)).expect("written");
    }
    let file = lab.site.config("h3").display().to_string();
    let check = common::run(&["check", "--config", &file]);
    let words = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(words.contains("says that this host is off"), "{words}");

    lab.found();
    for name in ["h1", "h2", "h3"] {
        lab.site.start_daemon(name).expect("a daemon");
    }
    lab.whole("h1");
    let status = lab.wait("every device to be read", || {
        let status = lab.status("h1")?;
        let all = ["h1", "h2", "h3"].map(|h| said(&status, h));
        match all == ["on", "on", "off"] {
            true => Ok(status),
            false => Err(status.to_string()),
        }
    });
    assert!(
        status.to_string().contains("Is it the right plug?"),
        "{status}"
    );
    let alerts = lab.events("h2", &["alert"]);
    let told = |words: &str| {
        let text = |e: &Value| e["text"].as_str().is_some_and(|t| t.contains(words));
        alerts.iter().any(text)
    };
    assert!(
        told("says that this host is off while it runs"),
        "{alerts:#?}"
    );

    // By command: what is wrong makes it fail.
    let tried = lab
        .json("h1", &["host", "try", "h1", "--json"])
        .expect("good");
    assert_eq!(tried[0]["said"], "on", "{tried}");
    let why = lab.ask("h1", &["host", "try", "h2"]).expect_err("misspelt");
    assert!(why.contains("knows no parameter power_timout"), "{why}");
    let why = lab
        .ask("h1", &["host", "try", "nobody"])
        .expect_err("unknown");
    assert!(why.contains("no host is named"), "{why}");

    // The host is lost: its lease proves it, and the plug does not.
    lab.add("h1", &["g1", "g2", "g3", "g4"]);
    let guests = lab.on("h3");
    assert!(!guests.is_empty());
    let lost_at = lab.expect("h3", &guests);
    lab.power_off("h3");
    lab.moved(&guests, "h3", lost_at);
    lab.judge();
    assert!(
        lab.events("h1", &["fence"]).is_empty(),
        "no attempt was made"
    );
}
