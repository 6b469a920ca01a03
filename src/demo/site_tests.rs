//! The files of the demo are files an operator could have written.

use super::*;
use crate::config::{Config, report};

#[test]
fn every_host_of_the_demo_has_a_file_that_check_accepts() {
    if super::super::rack::tests::skipped("every_host_of_the_demo_has_a_file_that_check_accepts") {
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    // Any program will do as an agent here; it is not run.
    let site = Site::build(
        dir.path(),
        Path::new("/bin/true"),
        Path::new("/bin/sh"),
        &NODES,
    )
    .expect("site");
    for name in NODES {
        let config = Config::load(&site.config(name)).expect("config");
        assert_eq!(
            (config.name.as_str(), config.witness),
            (name, name == WITNESS)
        );
        assert_eq!(config.peers.len(), NODES.len() - 1);
        assert!(report(&config).promises.iter().all(|p| p.holds()));
        assert!(site.alive(name));
    }
    let guest = fs::read_to_string(site.guest_file("g1").expect("guest")).expect("file");
    let guest: quorate_recovery::guest::GuestSpec = toml::from_str(&guest).expect("a guest");
    guest.check().expect("a guest a host could run");
}

#[test]
fn the_switch_says_off_only_when_the_host_is_gone_and_a_broken_outlet_does_nothing() {
    if super::super::rack::tests::skipped(
        "the_switch_says_off_only_when_the_host_is_gone_and_a_broken_outlet_does_nothing",
    ) {
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let site = Site::build(
        dir.path(),
        Path::new("/bin/true"),
        Path::new("/bin/sh"),
        &NODES,
    )
    .expect("site");
    let site = std::sync::Arc::new(site);
    let at = |file: &str| site.switch().join(file);
    let order = |plug: &str, word: &str| {
        fs::write(at("new"), word).expect("command");
        fs::rename(at("new"), at(&format!("{plug}.cmd"))).expect("command");
    };
    let state = |plug: &str| fs::read_to_string(at(&format!("{plug}.state"))).expect("state");
    // A command from before the switch runs is dropped, not carried out late.
    order("h3", "off");
    let _switch = switch::Switch::start(std::sync::Arc::clone(&site));
    switch::break_outlet(&site.switch(), "h2").expect("break");
    order("h2", "off");
    order("h1", "off");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while state("h1") != "off\n" {
        assert!(std::time::Instant::now() < deadline, "h1 is not off");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(!site.alive("h1") && !at("h1.cmd").exists());
    assert!(site.alive("h2") && at("h2.cmd").exists() && state("h2") == "on\n");
    assert!(site.alive("h3") && state("h3") == "on\n");
}
