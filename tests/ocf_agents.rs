//! Debian's own agents, unchanged: `resource-agents` must be installed.

mod guardian_support;
mod ocf_support;

use guardian_support::{E, G, eventually, gate};
use ocf_support::*;
use quorate::hypervisor::{Driver, Notice};
use quorate::ocf::Ocf;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use tokio::sync::mpsc;

fn parameters(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
}

/// Through a whole life: nothing, there, held, there, taken away by somebody, told.
fn whole_life(
    driver: &Ocf,
    spec: &quorate_recovery::guest::GuestSpec,
    there: &dyn Fn() -> bool,
    take: &dyn Fn(),
) {
    let (tell, mut told) = mpsc::unbounded_channel();
    driver.watch(tell).expect("watched");
    for note in driver.notes(spec).expect("known") {
        println!("{note}");
    }
    driver.create(G, E, spec, &gate()).expect("created");
    assert!(!there());
    driver.resume(G, E, &gate()).expect("runs");
    assert!(there());
    driver.pause(G, E, &gate()).expect("held");
    assert!(!there());
    driver.resume(G, E, &gate()).expect("runs");
    assert!(there());
    take();
    eventually(
        "it is told",
        || matches!(told.try_recv(), Ok(Notice::Gone(g)) if g.guest == G),
    );
    driver.create(G, E, spec, &gate()).expect("created again");
    driver.resume(G, E, &gate()).expect("runs");
    driver.end(G, E, &gate()).expect("ended");
    assert!(!there());
    assert_eq!(driver.list(), Ok(vec![]));
}

#[test]
fn dummy() {
    if !possible("dummy", false) {
        return;
    }
    let bench = Bench::new();
    bench.lab.long_lease();
    let state = bench.lab.file("dummy-state");
    let path = state.display().to_string();
    let spec = spec("d", "ocf:heartbeat:Dummy", parameters(&[("state", &path)]));
    whole_life(&bench.driver(), &spec, &|| state.exists(), &|| {
        fs::remove_file(&state).expect("removed");
    });
}

fn ip(args: &[&str]) -> String {
    let done = Command::new("ip").args(args).output().expect("ip");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[test]
fn ipaddr2() {
    if !possible("ipaddr2", true) || !inside("ipaddr2", &["--net", "--mount"]) {
        return;
    }
    ip(&["link", "set", "lo", "up"]);
    let bench = Bench::new();
    bench.lab.long_lease();
    let (address, bad) = ("192.0.2.7", "192.0.2.777");
    let with = |ip: &str| {
        let p = parameters(&[("ip", ip), ("nic", "lo"), ("cidr_netmask", "32")]);
        spec("ip", "ocf:heartbeat:IPaddr2", p)
    };
    let there = || ip(&["-o", "address", "show"]).contains(address);
    let take = || {
        ip(&["address", "del", "192.0.2.7/32", "dev", "lo"]);
    };
    whole_life(&bench.driver(), &with(address), &there, &take);
    let error = bench.driver().create(G, E, &with(bad), &gate());
    println!("refused: {}", error.expect_err("no address"));
    // The guardian takes it away with nobody else there.
    let driver = bench.driver();
    driver
        .create(G, E, &with(address), &gate())
        .expect("created");
    driver.resume(G, E, &gate()).expect("runs");
    drop(driver);
    assert!(there());
    fs::remove_file(bench.lab.run.lease()).expect("removed");
    let _guardian = bench.lab.guard();
    eventually("the address is gone", || !there());
}

#[test]
fn filesystem() {
    if !possible("filesystem", true) || !inside("filesystem", &["--mount"]) {
        return;
    }
    let bench = Bench::new();
    bench.lab.long_lease();
    let [from, to] = ["from", "to"].map(|n| bench.lab.file(n));
    for dir in [&from, &to] {
        fs::create_dir(dir).expect("made");
    }
    fs::write(from.join("data"), "x").expect("written");
    let device = from.display().to_string();
    let directory = to.display().to_string();
    let p = parameters(&[
        ("device", &device),
        ("directory", &directory),
        ("fstype", "none"),
        ("options", "bind"),
    ]);
    let spec = spec("fs", "ocf:heartbeat:Filesystem", p);
    let there = || to.join("data").exists();
    let take = || {
        let done = Command::new("umount").arg(&to).status().expect("umount");
        assert!(done.success());
    };
    whole_life(&bench.driver(), &spec, &there, &take);
    // In use by a process of somebody else, at lease end.
    let driver = bench.driver();
    driver.create(G, E, &spec, &gate()).expect("created");
    driver.resume(G, E, &gate()).expect("runs");
    let mut user = Command::new("sleep")
        .arg("1000")
        .current_dir(&to)
        .spawn()
        .expect("started");
    drop(driver);
    fs::remove_file(bench.lab.run.lease()).expect("removed");
    let _guardian = bench.lab.guard();
    eventually("it is unmounted", || !there());
    let _ = user.kill();
    let _ = user.wait();
}
