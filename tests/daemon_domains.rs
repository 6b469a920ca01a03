//! Daemons and domains where libvirt is away, or where the build or the file has none: whoever
//! cannot run a domain says why, and nobody else's guests feel it.

mod common;

use common::Lab;
use quorate::api::{self, ApiRequest};
use quorate_recovery::contract::Request;
use quorate_recovery::guest::GuestSpec;

fn domain() -> GuestSpec {
    let text = "name = \"web1\"\n[definition.domain]\nxml = '''<domain type='kvm'>\
                <name>web1</name><uuid>0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0</uuid>\
                <memory unit='MiB'>32</memory></domain>'''\n[needs]\nvcpus = 1\nmemory_mib = 32\n";
    toml::from_str(text).expect("a description")
}

/// The reasons `by` remembers why something could not be created.
fn refusals(lab: &Lab, by: &str) -> Vec<String> {
    let alerts = lab.events(by, &["alert"]).into_iter();
    let texts = alerts.filter_map(|e| Some(e["text"].as_str()?.to_owned()));
    texts
        .filter(|t| t.starts_with("could not be created"))
        .collect()
}

/// Asks for a domain and waits until some host has refused to create it.
fn tried(lab: &Lab, said: &str) {
    let request = ApiRequest::Ask(Request::AddGuest(domain()));
    lab.wait("a domain to be taken", || {
        api::ask(&lab.site.socket("h1"), &request, common::PATIENCE).map_err(|e| e.to_string())
    });
    lab.wait("its creation to be tried", || {
        let nodes = lab.site.nodes().iter();
        let all: Vec<String> = nodes.flat_map(|n| refusals(lab, n)).collect();
        if all.iter().any(|t| t.contains(said)) {
            Ok(())
        } else {
            Err(format!("{all:?}"))
        }
    });
}

#[test]
fn a_host_without_libvirt_refuses_domains_with_the_reason_and_runs_the_rest() {
    if common::skipped("a_host_without_libvirt_refuses_domains_with_the_reason_and_runs_the_rest") {
        return;
    }
    let mut lab = Lab::new(&["h1", "h2", "h3"]);
    lab.add("h1", &["g1", "g2"]);
    let before = lab.lives();
    tried(&lab, "this host runs no domains: its ");
    lab.settled("h1");
    lab.go_on();
    assert_eq!(lab.lives(), before);
    lab.nobody_judged("h1");
    let grounds = api::ask(
        &lab.site.socket("h2"),
        &ApiRequest::Grounds,
        common::PATIENCE,
    );
    let grounds = grounds.expect("an answer");
    assert!(grounds["libvirt"].is_null(), "{grounds}");
    assert_eq!(grounds["guests"].as_array().map(Vec::len), Some(3));
    lab.judge();
}

/// Waits until `by` says that its libvirt does not answer.
#[cfg(feature = "libvirt")]
fn blind(lab: &Lab, by: &str) {
    lab.wait(&format!("{by} to say that it is blind"), || {
        let remarks = lab.status(by)?["remarks"].to_string();
        if remarks.contains("does not answer: libvirt: ") {
            Ok(())
        } else {
            Err(remarks)
        }
    });
}

#[cfg(feature = "libvirt")]
#[test]
fn daemons_start_and_keep_their_guests_while_libvirt_is_away() {
    use std::io::Write;
    let test = "daemons_start_and_keep_their_guests_while_libvirt_is_away";
    if common::skipped(test) {
        return;
    }
    let nodes = ["h1", "h2", "h3"];
    let mut lab = Lab::bare(&nodes);
    let table = "\n[libvirt]\nuri = \"qemu+unix:///system?socket=/nonexistent/libvirt\"\n";
    for name in ["h1", "h2"] {
        let file = std::fs::File::options()
            .append(true)
            .open(lab.site.config(name));
        let mut file = file.expect("a configuration");
        file.write_all(table.as_bytes()).expect("written");
    }
    lab.found();
    for name in nodes {
        lab.site.start_daemon(name).expect("a daemon");
    }
    lab.whole("h1");
    blind(&lab, "h2");
    // A host that is blind to domains runs guests of other kinds as every host does.
    lab.add("h1", &["g1", "g2", "g3"]);
    assert!(!lab.on("h2").is_empty(), "{:?}", lab.lives());
    let earlier = lab.incarnation("h2");
    let before = lab.lives();
    lab.signal("h2", "KILL");
    lab.back("h1", "h2", earlier);
    lab.settled("h1");
    assert_eq!(lab.lives(), before, "nobody else is touched");
    blind(&lab, "h2");
    tried(&lab, "this host runs no domains: its ");
    lab.settled("h1");
    lab.nobody_judged("h1");
    let life = lab.lives()["g1"].clone();
    let stop = lab.ask("h1", &["guest", "stop", "g1"]);
    stop.expect("taken");
    lab.silent(&["g1".to_owned()]);
    lab.wait("g1 to be stopped", || {
        let row = lab.guest("h1", "g1")?;
        if row["state"] == "stopped" {
            Ok(())
        } else {
            Err(row.to_string())
        }
    });
    lab.ask("h1", &["guest", "start", "g1"]).expect("taken");
    lab.settled("h1");
    assert_ne!(lab.lives()["g1"].epoch, life.epoch);
    lab.judge();
}
