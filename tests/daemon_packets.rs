//! A host whose port of the switch carries smaller packets than all cards believe: what is above vanishes
//! without a word, beats pass. It follows the log all the same.

mod common;

use common::{Lab, PROGRAM};
use std::collections::BTreeSet;

/// The packet that every IPv6 network must carry whole.
const PACKET_BYTES: u32 = 1_280;

/// Writes the description of a guest that no packet holds, of half a host.
fn large(lab: &Lab, guest: &str) -> std::path::PathBuf {
    let path = lab.path().join(format!("{guest}.toml"));
    let record = lab.site.record(guest).display().to_string();
    let text = format!(
        "name = {guest:?}\n\n[needs]\nvcpus = 2\nmemory_mib = 64\n\n\
         [definition.command]\nargv = [{PROGRAM:?}, \"demo-guest\", {record:?}, {:?}]\n",
        "x".repeat(8_000)
    );
    std::fs::write(&path, text).expect("a guest's file");
    path
}

#[test]
fn a_host_behind_a_port_that_drops_large_packets_gets_the_log_and_runs_its_guests() {
    let test = "a_host_behind_a_port_that_drops_large_packets_gets_the_log_and_runs_its_guests";
    if common::skipped(test) {
        return;
    }
    let hosts = ["h1", "h2", "h3"];
    let mut lab = Lab::bare(&hosts);
    for (host, bytes) in [("h1", 1_500), ("h2", 1_500), ("h3", PACKET_BYTES)] {
        lab.site.narrow(host, bytes).expect("a port");
    }
    lab.begin(&hosts);
    // Each goes to the host with the most room.
    for guest in ["g1", "g2", "g3"] {
        let file = large(&lab, guest);
        lab.add_file("h1", guest, &file);
    }
    lab.settled("h1");
    let lives = lab.lives();
    let on: BTreeSet<&str> = lives.values().map(|life| &*life.host).collect();
    assert_eq!(on, BTreeSet::from(hosts), "{lives:?}");
    lab.nobody_judged("h1");
    lab.judge();
}
