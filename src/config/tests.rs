//! Every way a file can be wrong, and that it says so at the right place.

use super::*;
use std::time::Duration;

const GOOD: &str = r#"node = 1
name = "h1"
key_file = "/etc/quorate/key"
listen = "10.0.0.1:5406"

[capacity]
vcpus = 8

[[link]]
name = "front"
address = "10.0.0.1"
group = "239.192.7.7:5405"

[[link]]
name = "back"
address = "10.1.0.1"
unicast = true
port = 5405

[[peer]]
node = 2
name = "h2"
session = "10.0.0.2:5406"
addresses = ["10.0.0.2", "10.1.0.2"]

[[peer]]
node = 3
name = "w"
session = "10.0.0.3:5406"
addresses = ["10.0.0.3", "10.1.0.3"]

[cluster]
voters = [1, 2, 3]
profile = "fast"

[[fence]]
[[fence.device]]
name = "socket strip"
agent = "/bin/sh"
class = "power"
limit_ms = 5000
[fence.device.parameters]
plug = "h1"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("quorate.toml"), text)
}

/// The complaint about the good file with one piece of text replaced.
fn complaint(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "the good file has no {from:?}");
    match parse(&GOOD.replacen(from, to, 1)) {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn a_good_file_reads_as_written_with_its_defaults() {
    let c = parse(GOOD).expect("good file");
    assert_eq!(
        (c.node, c.name.as_str(), c.witness),
        (NodeId(1), "h1", false)
    );
    assert_eq!(c.run_dir, Path::new("/run/quorate"));
    assert_eq!(c.socket, Path::new("/run/quorate/quorate.sock"));
    assert_eq!((c.capacity.vcpus, c.capacity.memory_mib), (Some(8), None));
    assert_eq!(c.links[1].carrier, Carrier::Unicast { port: 5405 });
    assert_eq!(c.peers.len(), 2);
    assert_eq!(c.name_of(NodeId(3)), Some("w"));
    assert_eq!(c.fence[0].devices[0].parameters["plug"], "h1");
    let founding = c.founding.expect("founding");
    assert_eq!(founding.timing, quorate_membership::Timing::fast());
    assert_eq!(founding.voters, [NodeId(1), NodeId(2), NodeId(3)]);
}

#[test]
fn the_example_file_is_a_good_one() {
    let c = parse(include_str!("../../packaging/quorate.toml")).expect("the shipped example");
    assert!(report(&c).promises.iter().all(PromiseLine::holds));
}

#[test]
fn one_list_of_peers_serves_all_hosts() {
    let own = "[[peer]]\nnode = 1\nname = \"h1\"\nsession = \"10.0.0.1:5406\"\n\
               addresses = [\"10.0.0.1\", \"10.1.0.1\"]\n\n[cluster]";
    let c = parse(&GOOD.replace("[cluster]", own)).expect("own entry");
    assert_eq!(c.peers.len(), 2);
    let e = complaint("[cluster]", &own.replace(":5406", ":5499"));
    assert!(e.contains("this host"), "{e}");
}

#[test]
fn every_bad_input_names_place_key_and_what_is_allowed() {
    for (from, to, wanted) in [
        // Place, key, and the nearest key or all of them.
        (
            "vcpus = 8",
            "vcpu = 8",
            "quorate.toml:7:1: capacity.vcpu: is unknown; did you mean `vcpus`?",
        ),
        (
            "vcpus = 8",
            "colour = 8",
            "capacity.colour: is unknown; allowed: vcpus, memory_mib",
        ),
        (
            "port = 5405",
            "port = 5405\nprot = 1",
            "link[1].prot: is unknown; did you mean `port`?",
        ),
        ("node = 1\n", "", "node: is missing"),
        ("name = \"h1\"\n", "", "name: is missing"),
        (
            "key_file = \"/etc/quorate/key\"\n",
            "",
            "key_file: is missing; needed: a file made by",
        ),
        (
            "session = \"10.0.0.2:5406\"\n",
            "",
            "peer[0].session: is missing",
        ),
        (
            "addresses = [\"10.0.0.2\", \"10.1.0.2\"]\n",
            "",
            "peer[0].addresses: is missing",
        ),
        // Wrong kinds and ranges.
        (
            "node = 1\n",
            "node = 0\n",
            "quorate.toml:1:8: node: found 0; allowed: a whole number from 1",
        ),
        (
            "node = 1\n",
            "node = \"one\"\n",
            "node: found the string \"one\"; allowed: a whole number",
        ),
        (
            "name = \"h1\"",
            "name = \"h 1\"",
            "name: found \"h 1\"; allowed: 1 to 64 characters",
        ),
        (
            "/etc/quorate/key",
            "key",
            "key_file: found \"key\"; allowed: an absolute path",
        ),
        ("vcpus = 8", "vcpus = 0", "capacity.vcpus: found 0"),
        (
            "10.0.0.1:5406",
            "10.0.0.1",
            "quorate.toml:4:10: listen: found \"10.0.0.1\"; allowed: an IP address and a port",
        ),
        (
            "10.0.0.1:5406",
            "0.0.0.0:5406",
            "listen: found 0.0.0.0:5406",
        ),
        (
            "port = 5405",
            "port = 70000",
            "link[1].port: found 70000; allowed: a whole number from 1 to 65535",
        ),
        (
            "239.192.7.7:5405",
            "10.192.7.7:5405",
            "link[0].group: found 10.192.7.7:5405; allowed: a multicast group",
        ),
        ("239.192.7.7:5405", "[ff05::7]:5405", "same family"),
        (
            "group = \"239.192.7.7:5405\"\n",
            "",
            "link[0]: has neither `group`",
        ),
        (
            "unicast = true\n",
            "unicast = true\ngroup = \"239.1.1.1:5\"\n",
            "link[1].group: stands beside",
        ),
        (
            "port = 5405\n",
            "",
            "link[1]: has `unicast = true` but no `port`",
        ),
        (
            "[\"10.0.0.2\", \"10.1.0.2\"]",
            "[\"10.0.0.2\"]",
            "peer[0].addresses: found 1; allowed: 2 IP address",
        ),
        (
            "\"10.1.0.2\"",
            "\"nowhere\"",
            "peer[0].addresses[1]: found \"nowhere\"; allowed: an IP address",
        ),
        // Duplicates.
        ("node = 2", "node = 3", "3 is the id of"),
        ("node = 2", "node = 1", "is this host, but"),
        (
            "name = \"w\"",
            "name = \"h2\"",
            "\"h2\" is the name of node 2 too",
        ),
        (
            "10.0.0.3:5406",
            "10.0.0.2:5406",
            "peer[1].session: 10.0.0.2:5406 is \"h2\"'s too",
        ),
        ("\"10.1.0.3\"", "\"10.1.0.1\"", "10.1.0.1 is \"h1\"'s too"),
        (
            "name = \"back\"",
            "name = \"front\"",
            "link[1].name: \"front\" is the name of an earlier link",
        ),
        (
            "address = \"10.1.0.1\"",
            "address = \"10.0.0.1\"",
            "fail together",
        ),
        // The founding.
        (
            "[1, 2, 3]",
            "[1, 2]",
            "cluster.voters: found 2; allowed: 3 to 7 node ids",
        ),
        (
            "[1, 2, 3]",
            "[1, 2, 2]",
            "cluster.voters[2]: 2 is listed twice",
        ),
        (
            "[1, 2, 3]",
            "[1, 2, 9]",
            "9 is neither this node nor a [[peer]]",
        ),
        (
            "\"fast\"",
            "\"quick\"",
            "cluster.profile: found \"quick\"; allowed: \"default\" or \"fast\"",
        ),
        (
            "\"fast\"",
            "\"fast\"\nproof = \"hope\"",
            "cluster.proof: found \"hope\"",
        ),
        (
            "\"fast\"",
            "\"fast\"\n[cluster.timing]\nleese = 4000",
            "cluster.timing.leese: is unknown; did you mean `lease`?",
        ),
        (
            "\"fast\"",
            "\"fast\"\n[cluster.timing]\nmisses = 0",
            "cluster.timing.misses: found 0",
        ),
        // Fencing.
        (
            "/bin/sh",
            "fence_nothing",
            "fence[0].device[0].agent: no such fence agent; looked for /usr/sbin/fence_nothing",
        ),
        (
            "limit_ms = 5000",
            "limit_ms = 0",
            "fence[0].device[0].limit_ms: found 0",
        ),
        (
            "class = \"power\"",
            "class = \"rumour\"",
            "fence[0].device[0].class: unknown variant `rumour`",
        ),
        // What the crate that fences refuses.
        (
            "class = \"power\"\n",
            "",
            "fence[0]: level 1, device \"socket strip\": class: found none",
        ),
        (
            "class = \"power\"",
            "class = \"fabric\"",
            "fence[0]: level 1: devices: found no device of class power or crash",
        ),
        (
            "plug = \"h1\"",
            "plug = \"h1\"\nport = \"h2\"",
            "allowed: one of the two",
        ),
        (
            "plug = \"h1\"",
            "plug = 1",
            "fence[0].device[0].parameters.plug: is not a string",
        ),
        (
            "plug = \"h1\"",
            "plug = \"h1\\nactive=1\"",
            "cannot be said in a line",
        ),
        (
            "name = \"h1\"\n",
            "name = \"h1\"\nwitness = true\n",
            "a witness runs no guests",
        ),
        // Not TOML at all.
        ("node = 1\n", "node = \n", "quorate.toml:1:"),
        ("vcpus = 8", "vcpus = 8\nvcpus = 9", "quorate.toml:8:1"),
    ] {
        let e = complaint(from, to);
        assert!(e.contains(wanted), "{to:?} gave {e:?}, wanted {wanted:?}");
        assert!(e.starts_with("quorate.toml:"), "{e}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let e = Config::load(Path::new("/nowhere/quorate.toml")).expect_err("no file");
    assert!(
        e.to_string()
            .starts_with("/nowhere/quorate.toml: cannot be read"),
        "{e}"
    );
}

#[test]
fn unsafe_timing_is_refused_with_the_promise_and_the_timeline_of_its_violation() {
    let timing = |line: &str| complaint("\"fast\"", &format!("\"fast\"\n[cluster.timing]\n{line}"));
    let e = timing("takeover = 9000");
    assert!(
        e.starts_with("quorate.toml:36:12: cluster.timing.takeover: breaks S3"),
        "{e}"
    );
    // The start must stand before the last write in the timeline.
    let (start, write) = (e.find("G: by a fast"), e.find("Q, E: the last"));
    assert!(start.expect("start") < write.expect("write"), "{e}");
    assert!(e.contains("two copies"), "{e}");
    let e = timing("coordinator_takeover = 900");
    assert!(
        e.contains("breaks S6") && e.contains("two coordinators"),
        "{e}"
    );
    let e = timing("lease = 3100");
    assert!(
        e.contains("breaks S4") && e.contains("would end every guest"),
        "{e}"
    );
    let e = timing("lease = 1500\nmisses = 1");
    assert!(
        e.contains("breaks S4") && e.contains("One lost beat"),
        "{e}"
    );
    // A profile's own lease no longer fits: the key that is short is not in the file.
    let e = timing("heartbeat = 800");
    assert!(e.contains("cluster.timing.lease: breaks S4"), "{e}");
}

#[test]
fn the_report_gives_the_documented_waits_and_bounds() {
    let c = parse(GOOD).expect("good file");
    let r = report(&c);
    assert_eq!((r.silence_ms, r.takeover_ms), (3200, 10_521));
    let t = quorate_membership::Timing::fast();
    let fenced = t.worst_case_fenced(Duration::from_millis(5000)).as_millis() as u64;
    assert_eq!(r.worst_case_fenced_ms, Some(fenced));
    assert_eq!(
        r.worst_case_lease_ms,
        t.worst_case_lease().as_millis() as u64
    );
    assert!(r.promises.iter().all(PromiseLine::holds), "{r}");
    let shown = r
        .to_string()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    for line in ["T_d 3.2 s", "G 10.5 s", "S3 holds", "S6 holds"] {
        assert!(shown.contains(line), "{line:?} not in {shown}");
    }
}

#[test]
fn the_report_warns_of_what_an_operator_should_change() {
    let warned = |text: &str, wanted: &str| {
        let r = report(&parse(text).expect("good file"));
        r.warnings.iter().any(|w| w.contains(wanted))
    };
    assert!(!warned(GOOD, "odd number") && !warned(GOOD, "single link"));
    assert!(!warned(GOOD, "no fence device") && !warned(GOOD, "excepts"));
    let four = GOOD.replace("[1, 2, 3]", "[1, 2, 3, 4]").replace(
        "[cluster]",
        "[[peer]]\nnode = 4\nname = \"h4\"\nsession = \"10.0.0.4:5406\"\n\
                  addresses = [\"10.0.0.4\", \"10.1.0.4\"]\n\n[cluster]",
    );
    assert!(warned(&four, "odd number"));
    let both = GOOD.replace("\"fast\"", "\"fast\"\nproof = \"device-and-lease\"");
    assert!(warned(&both, "excepts"));
    assert_eq!(
        report(&parse(&both).expect("good")).worst_case_fenced_ms,
        None
    );
    let slow = GOOD.replace("\"fast\"", "\"default\"");
    assert!(warned(&slow, "W ≤ K") && !warned(GOOD, "W ≤ K"));
    let bare = GOOD.split("[[fence]]").next().expect("first part");
    assert!(warned(bare, "no fence device"));
    let witness = bare
        .replace("[capacity]\nvcpus = 8", "")
        .replace("node = 1\n", "node = 1\nwitness = true\n");
    assert!(warned(&witness, "a witness") && !warned(&witness, "no fence device"));
    let disk = GOOD.replace("node = 1\n", "node = 1\nrun_dir = \"/proc\"\n");
    assert!(warned(&disk, "memory file system"));
    let memory = GOOD.replace("node = 1\n", "node = 1\nrun_dir = \"/dev/shm/none\"\n");
    assert!(!warned(&memory, "memory file system") || !Path::new("/dev/shm").exists());
}

#[test]
fn resources_need_no_table_and_a_wrong_one_is_refused() {
    let plain = parse(GOOD).expect("good").ocf;
    assert_eq!(plain.dirs, [PathBuf::from("/usr/lib/ocf/resource.d")]);
    assert!(plain.reset, "the promise comes first");
    let with = |table: &str| parse(&format!("{GOOD}\n[ocf]\n{table}\n"));
    let set = with("dirs = [\"/opt/ocf\"]\nreset = false")
        .expect("good")
        .ocf;
    assert_eq!((set.dirs.len(), set.reset), (1, false));
    for (bad, words) in [
        ("dirs = []", "1 to 16"),
        ("dirs = [\"ocf\"]", "absolute"),
        ("reset = 1", "reset"),
        ("dir = \"/x\"", "dir"),
    ] {
        let why = with(bad).expect_err(bad).to_string();
        assert!(why.contains(words), "{bad}: {why}");
    }
}

const LIBVIRT: &str = "[libvirt]\nuri = \"qemu:///system\"\nshared = [\"/var/lib/shared\"]\n";

/// The good file with a table [libvirt].
fn with_libvirt(table: &str) -> Result<Config, ConfigError> {
    parse(&format!("{GOOD}\n{table}"))
}

#[cfg(not(feature = "libvirt"))]
#[test]
fn a_build_without_libvirt_refuses_its_table() {
    assert_eq!(parse(GOOD).expect("good").libvirt, None);
    let why = with_libvirt(LIBVIRT).expect_err("refused").to_string();
    assert!(
        why.ends_with("libvirt: this build has no libvirt; build with --features libvirt"),
        "{why}"
    );
    assert!(why.starts_with("quorate.toml:"), "{why}");
}

#[cfg(feature = "libvirt")]
#[test]
fn libvirt_is_local_and_real_and_what_is_shared_is_a_place() {
    let read = |table: &str| with_libvirt(table).expect("good").libvirt.expect("there");
    let settings = read(LIBVIRT);
    assert_eq!(settings.uri, "qemu:///system");
    assert_eq!(settings.shared, ["/var/lib/shared"]);
    let settings = read("[libvirt]\n");
    assert_eq!(settings.uri, "qemu:///system");
    assert!(settings.shared.is_empty());
    read("[libvirt]\nuri = \"qemu+unix:///system?socket=/run/x\"\n");
    for (table, said) in [
        ("uri = \"test:///default\"", "mock hypervisor"),
        ("uri = \"qemu+ssh://h2/system\"", "on this host"),
        ("uri = \"qemu+tcp://h2/system\"", "on this host"),
        ("uri = \"qemu://h2/system\"", "on this host"),
        ("uri = \"lxc:///\"", "on this host"),
        ("uri = 3", "found the number 3"),
        ("url = \"\"", "did you mean `uri`?"),
        ("shared = [\"images\"]", "an absolute path"),
        ("shared = [\"/\"]", "found \"/\""),
        ("shared = [\"/a/../b\"]", "\"..\""),
        ("shared = \"/a\"", "a list of strings"),
    ] {
        let why = with_libvirt(&format!("[libvirt]\n{table}\n"));
        let why = why.expect_err(table).to_string();
        assert!(why.contains(said), "{table}: {why}");
        assert!(why.contains("libvirt."), "{table}: {why}");
    }
    let why = complaint_of_witness();
    assert!(why.contains("a witness runs no guests"), "{why}");
}

#[cfg(feature = "libvirt")]
fn complaint_of_witness() -> String {
    let (start, _) = GOOD.split_once("[[fence]]").expect("there");
    let text = start
        .replace("name = \"h1\"", "name = \"h1\"\nwitness = true")
        .replace("[capacity]\nvcpus = 8\n", "");
    let read = parse(&format!("{text}{LIBVIRT}"));
    read.expect_err("refused").to_string()
}

#[test]
fn an_address_of_one_link_names_its_card() {
    let of_link = |text: &str| Config::parse(Path::new("quorate.toml"), text);
    let text = |listen: &str, group: &str, session: &str| {
        format!(
            "node = 1\nname = \"h1\"\nkey_file = \"/k\"\nlisten = \"{listen}\"\n\
             link = [{{ name = \"lan\", address = \"fe80::7:1\", group = \"{group}\" }}]\n\
             peer = [{{ node = 2, name = \"h2\", session = \"{session}\" }}]\n"
        )
    };
    let (mine, group, theirs) = (
        "[fe80::7:1%eth0]:5406",
        "[ff02::7]:5405",
        "[fe80::7:2%eth0]:5406",
    );
    let config = of_link(&text(mine, group, theirs)).expect("good");
    assert_eq!(config.listen.to_string(), mine);
    assert_eq!(config.peers[0].session.to_string(), theirs);
    let config = of_link(&text(mine, "[ff02::7%eth0]:5405", theirs)).expect("good");
    assert_eq!(config.links[0].card.as_deref(), Some("eth0"));
    for (listen, group, session, wanted) in [
        (
            "[fe80::7:1]:5406",
            group,
            theirs,
            "quorate.toml:4:10: listen: found [fe80::7:1]:5406",
        ),
        (
            mine,
            group,
            "[fe80::7:2]:5406",
            "like \"[fe80::7:2%eth0]:5406\"",
        ),
        (
            mine,
            "[ff01::7]:5405",
            theirs,
            "a group that leaves this host",
        ),
        (
            "10.0.0.1%eth0:5406",
            group,
            theirs,
            "an IP address and a port",
        ),
    ] {
        let why = of_link(&text(listen, group, session))
            .expect_err("refused")
            .to_string();
        assert!(why.contains(wanted), "{why}");
    }
}
