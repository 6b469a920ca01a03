//! Debian's own agents under real daemons: an address and a mounted file system follow the power.

mod common;

use common::Lab;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::Path;

const NODES: [&str; 3] = ["h1", "h2", "h3"];
const TEST: &str = "an_address_and_a_file_system_move_when_power_goes_or_a_daemon_is_gone";

fn missing() -> bool {
    if Path::new("/usr/lib/ocf/resource.d/heartbeat/IPaddr2").exists() {
        return false;
    }
    let why = "resource-agents is not installed (scripts/setup.sh --agents)";
    println!("skipped: {TEST}: {why}");
    if let Some(path) = std::env::var_os("QUORATE_SKIPPED") {
        let file = fs::File::options().create(true).append(true).open(path);
        let mut file = file.expect("the file of skipped tests");
        writeln!(file, "{TEST}: {why}").expect("the file of skipped tests");
    }
    true
}

/// Whether a command on a host succeeds.
fn on(lab: &Lab, host: &str, args: &[&str]) -> bool {
    let Ok(mut command) = lab.site.program(host, args[0]) else {
        return false;
    };
    let done = command
        .args(&args[1..])
        .output()
        .expect("a command on a host");
    done.status.success()
}

/// Where a resource is by the word of `by` and by the hosts themselves: on exactly one.
fn settled(lab: &Lab, by: &str, guest: &str, up: &[&str], look: &[&str]) -> String {
    lab.wait(&format!("{guest} to be on one host"), || {
        let row = lab.guest(by, guest)?;
        let there: Vec<&str> = up.iter().copied().filter(|h| on(lab, h, look)).collect();
        assert!(there.len() <= 1, "{guest} is on {there:?}");
        match (there.as_slice(), &row["host"]) {
            ([one], Value::String(host)) if one == host && row["state"] == "running" => {
                Ok(host.clone())
            }
            _ => Err(format!("{there:?} {row}")),
        }
    })
}

#[test]
fn an_address_and_a_file_system_move_when_power_goes_or_a_daemon_is_gone() {
    if common::skipped(TEST) || missing() {
        return;
    }
    let lab = Lab::new(&NODES);
    let [from, to] = ["from", "to"].map(|n| lab.path().join(n));
    for dir in [&from, &to] {
        fs::create_dir(dir).expect("made");
    }
    fs::write(from.join("data"), "x").expect("written");
    let head = |name: &str, agent: &str| {
        format!(
            "name = \"{name}\"\n[needs]\nvcpus = 0\nmemory_mib = 0\n\
             [definition.ocf]\nagent = \"ocf:heartbeat:{agent}\"\nevery_ms = 1000\n\
             [definition.ocf.parameters]\n"
        )
    };
    let address =
        head("address", "IPaddr2") + "ip = \"192.0.2.7\"\ncidr_netmask = \"32\"\nnic = \"eth0\"\n";
    let mount = head("mount", "Filesystem")
        + &format!(
            "device = {:?}\ndirectory = {:?}\nfstype = \"none\"\noptions = \"bind\"\n",
            from, to
        );
    for (name, text) in [("address", address), ("mount", mount)] {
        let file = common::file(lab.path(), &format!("{name}.toml"), &text);
        let file = file.display().to_string();
        lab.wait("a resource to be taken", || {
            lab.ask("h1", &["guest", "add", &file])
        });
    }
    let data = to.join("data").display().to_string();
    let has_address = ["sh", "-c", "ip -o address show | grep -q 192.0.2.7"];
    let has_data = ["test", "-e", &data];
    let at = settled(&lab, "h1", "address", &NODES, &has_address);
    settled(&lab, "h1", "mount", &NODES, &has_data);

    // Its host's power goes.
    lab.power_off(&at);
    let up: Vec<&str> = NODES.into_iter().filter(|h| *h != at).collect();
    let next = settled(&lab, up[0], "address", &up, &has_address);
    settled(&lab, up[0], "mount", &up, &has_data);
    assert_ne!(next, at);
    lab.power_on(&at);
    lab.whole(up[0]);

    // The daemon alone is killed, and does not come back: its host stops them by itself.
    let here = settled(&lab, up[0], "mount", &NODES, &has_data);
    let by = *NODES.iter().find(|h| **h != here).expect("another");
    lab.break_outlet(&here);
    lab.signal(&here, "STOP");
    lab.wait("the mount to be gone where its lease is over", || {
        if on(&lab, &here, &has_data) {
            Err("it is there".into())
        } else {
            Ok(())
        }
    });
    let there = settled(&lab, by, "mount", &NODES, &has_data);
    assert_ne!(there, here);
}
