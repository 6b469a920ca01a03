//! Bad input: one clear error with place and cause, exit code 2, and nothing changed.
//!
//! The real program, on loopback or on a rack; never a panic, whatever it is given.

mod common;

use common::place::{Place, eventually, refusal};
use common::{Lab, PATIENCE, ended, ended_within, file, run};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

/// A founding that nobody refuses within this waits for others to join.
const LONE_FOUNDER: Duration = Duration::from_secs(20);

#[test]
fn a_wrong_file_names_line_column_and_key() {
    let p = Place::new();
    let good = p.text();
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "node = 1\n",
            "node = 1\nnoode = 2\n",
            &["quorate.toml:2:1", "noode", "did you mean `node`"],
        ),
        ("name = \"h1\"\n", "", &["quorate.toml", "name: is missing"]),
        (
            "vcpus = 4",
            "vcpus = 0",
            &["quorate.toml:11:9", "capacity.vcpus", "found 0"],
        ),
        ("node = 1\n", "node = = 1\n", &["quorate.toml:1:8"]),
        (
            "profile = \"fast\"",
            "profile = \"fast\"\n[cluster.timing]\ntakeover = 9000",
            &["quorate.toml", "cluster.timing.takeover: breaks S3"],
        ),
        (
            "[cluster]",
            "[[peer]]\nnode = 4\nname = \"h1\"\nsession = \"127.0.0.4:9\"\naddresses = [\"127.0.0.4\"]\n[cluster]",
            &["quorate.toml", "peer[2].name", "is the name of node 1 too"],
        ),
        (
            "[cluster]",
            "[[peer]]\nnode = 4\nname = \"h4\"\nsession = \"127.0.0.4:9\"\naddresses = [\"127.0.0.1\"]\n[cluster]",
            &["quorate.toml", "address 127.0.0.1 is \"h1\"'s too"],
        ),
        (
            "[cluster]",
            "[[fence]]\n[[fence.device]]\nname = \"pdu\"\nagent = \"fence_nowhere\"\nclass = \"power\"\n[cluster]",
            &[
                "quorate.toml",
                "fence",
                "no such fence agent",
                "fence_nowhere",
            ],
        ),
    ];
    for (from, to, wanted) in cases {
        assert!(good.contains(from), "{from:?}");
        p.write(&good.replacen(from, to, 1));
        for args in [&["daemon"][..], &["cluster", "init"], &["join"], &["check"]] {
            p.refused(args, wanted);
        }
    }
    // The same id for two peers.
    let twice = "[[peer]]\nnode = 2\nname = \"b\"\nsession = \"127.0.0.4:9\"\naddresses = [\"127.0.0.4\"]\n[cluster]";
    p.write(&good.replacen("[cluster]", twice, 1));
    p.refused(&["join"], &["peer[2].node", "2 is the id of \"h2\" too"]);
    fs::remove_file(p.at("quorate.toml")).expect("removed");
    p.refused(&["daemon"], &["quorate.toml", "cannot be read"]);
    assert!(p.state().is_empty(), "no store was made");
}

#[test]
fn a_wrong_key_file_is_refused_before_anything_is_made() {
    let p = Place::new();
    let key = p.at("key");
    let refuse = |wanted: &str| {
        for args in [&["cluster", "init"][..], &["join"], &["daemon"]] {
            p.refused(args, &["key file", &key.display().to_string(), wanted]);
        }
        assert!(p.state().is_empty(), "no store was made");
    };
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("mode");
    refuse("mode 0640");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("mode");
    fs::write(&key, "quorate-key-1\nabcd\n").expect("written");
    refuse("line 2 has 4 characters");
    fs::write(&key, [0xff; 100]).expect("written");
    refuse("line 1");
    fs::remove_file(&key).expect("removed");
    for args in [&["cluster", "init"][..], &["join"]] {
        let out = p.run(args);
        assert_eq!(out.status.code(), Some(1), "it may come: {out:?}");
        assert!(String::from_utf8_lossy(&out.stderr).contains("does not exist"));
    }
    assert!(p.state().is_empty(), "no store was made");
    fs::create_dir(&key).expect("a directory");
    refuse("is not an ordinary file");
    // And a key is never written over.
    let other = p.at("other").display().to_string();
    assert!(run(&["key", "generate", &other]).status.success());
    let kept = fs::read(&other).expect("readable");
    refusal(&run(&["key", "generate", &other]), &["exists already"]);
    assert_eq!(fs::read(&other).expect("readable"), kept);
}

#[test]
fn a_store_is_refused_by_all_but_its_own_node_and_machine() {
    let p = Place::new();
    p.found();
    p.refused_inside(
        &["cluster", "init"],
        &["store.redb", "belongs to cluster", "already"],
    );
    p.refused_inside(&["join"], &["store.redb", "belongs to cluster", "already"]);
    // Another node's file.
    let good = p.text();
    p.write(&good.replace("name = \"h1\"", "name = \"h9\""));
    p.refused_inside(&["daemon"], &["quorate.toml", "\"h9\"", "\"h1\""]);
    p.write(&good);
    // Another machine: a clone.
    file(
        p.dir.path(),
        "machine-id",
        "1f1e2d3c4b5a69788796a5b4c3d2e1f1\n",
    );
    p.refused_inside(&["daemon"], &["store.redb", "made on another machine"]);
    file(p.dir.path(), "machine-id", "nonsense\n");
    p.refused(&["daemon"], &["machine-id", "32 hexadecimal digits"]);
    file(
        p.dir.path(),
        "machine-id",
        "0f1e2d3c4b5a69788796a5b4c3d2e1f0\n",
    );
    // Damage.
    let store = p.at("state").join("store.redb");
    let whole = fs::read(&store).expect("readable");
    for bad in [
        Vec::new(),
        b"not a store at all".to_vec(),
        whole[..whole.len() / 2].to_vec(),
    ] {
        fs::write(&store, &bad).expect("written");
        p.refused(&["daemon"], &["store.redb"]);
        p.refused(&["join"], &["store.redb"]);
    }
    fs::write(&store, &whole).expect("written");
    let _daemons = p.daemons();
    // Founding began one life, this daemon the next: what was refused began none.
    assert_eq!(p.status()["incarnation"], 2);
}

#[test]
fn nonsense_on_every_door_is_counted_and_dropped() {
    let p = Place::new();
    p.found();
    let [daemon, _other] = p.daemons();
    eventually("a coordinator", || {
        !p.status()["view"]["coordinator"].is_null()
    });
    // Datagrams.
    let out = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let mut bytes = 0x9e37_79b9_7f4a_7c15_u64;
    for i in 0..300_usize {
        let len = [0, 1, 7, 60, 500, 1400][i % 6];
        let noise: Vec<u8> = (0..len)
            .map(|_| {
                bytes ^= bytes << 13;
                bytes ^= bytes >> 7;
                bytes ^= bytes << 17;
                bytes as u8
            })
            .collect();
        out.send_to(&noise, ("127.0.0.1", p.udp)).expect("sent");
    }
    eventually("noise to be counted by reason", || {
        let dropped = &p.status()["not_opened"];
        let of = |k: &str| dropped[k].as_u64().unwrap_or(0);
        of("short") >= 100 && of("magic") >= 100
    });
    // Streams.
    for noise in [&b"GET / HTTP/1.0\r\n\r\n"[..], &[0xff; 4096], &[0; 64]] {
        let mut stream = TcpStream::connect(("127.0.0.1", p.tcp)).expect("connected");
        let _ = stream.write_all(noise);
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        // It hangs up on us, in whatever way.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    eventually("streams to be counted", || {
        p.status()["sessions"]["magic"].as_u64() >= Some(1)
    });
    // The API.
    for (noise, wanted) in [
        (&b"\n"[..], "request"),
        (b"{\n", "request"),
        (b"{\"nonsense\": 1}\n", "request"),
        (b"\xff\xfe\xfd\n", "request"),
        (b"{\"ask\":{\"AddGuest\":{\"name\":\"x\"}}}\n", "request"),
        (b"{\"ask\":{\"StartGuest\":{\"name\":\"x\"}}}\n", "no guest is named"),
        (
            b"{\"ask\":{\"AddGuest\":{\"name\":\"\",\"definition\":{\"command\":{\"argv\":[]}}}}}\n",
            "name",
        ),
    ] {
        let mut stream = UnixStream::connect(p.at("sock")).expect("connected");
        stream.write_all(noise).expect("sent");
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let value: serde_json::Value = serde_json::from_str(&answer).expect("one JSON line");
        let why = value["error"].as_str().unwrap_or_default();
        assert!(why.contains(wanted), "{noise:?}: {answer}");
    }
    // Nested deeper than anybody means, and hung up on.
    let mut stream = UnixStream::connect(p.at("sock")).expect("connected");
    stream.write_all(&[b'['; 100_000]).expect("sent");
    drop(stream);
    // Guests' files, and guests that are there.
    let add = |name: &str, text: &str| {
        let path = file(p.dir.path(), name, text).display().to_string();
        p.ask(&["guest", "add", &path])
    };
    refusal(
        &add("a.toml", "name = \"a\"\ncolour = 1\n"),
        &["a.toml:2:1", "colour"],
    );
    refusal(&add("b.toml", "name = \n"), &["b.toml:1:"]);
    let empty = "name = \"c\"\n[definition.command]\nargv = []\n";
    refusal(&add("c.toml", empty), &["c.toml", "argv is empty"]);
    let sleeper = "name = \"d\"\n[definition.command]\nargv = [\"/bin/sleep\", \"600\"]\n";
    let out = add("d.toml", sleeper);
    assert!(out.status.success(), "{out:?}");
    refusal(&add("d.toml", sleeper), &["\"d\"", "exists"]);
    refusal(
        &p.ask(&["guest", "add", "/nonexistent.toml"]),
        &["/nonexistent.toml"],
    );
    refusal(
        &p.ask(&["guest", "remove", "nobody"]),
        &["no guest is named \"nobody\""],
    );
    refusal(&p.ask(&["guest", "remove", "d"]), &["d", "stop"]);
    refusal(
        &p.ask(&["host", "fence", "nobody"]),
        &["no host is named \"nobody\""],
    );
    refusal(
        &run(&["status", "--socket", "/nonexistent/sock"]),
        &["/nonexistent/sock", "no daemon"],
    );
    assert!(p.ask(&["guest", "stop", "d"]).status.success());
    eventually("the guest to be stopped", || {
        String::from_utf8_lossy(&p.ask(&["guests"]).stdout).contains("stopped  stopped")
    });
    // It works on after all that.
    assert_eq!(p.status()["quorate"], true);
    let log = fs::read_to_string(&daemon.log).expect("a log");
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn one_cluster_is_founded_once_and_one_store_votes_once() {
    if common::skipped("one_cluster_is_founded_once_and_one_store_votes_once") {
        return;
    }
    let lab = Lab::bare(&["h1", "h2", "h3"]);
    let key = lab.site.key().display().to_string();
    assert!(run(&["key", "generate", &key]).status.success());
    let start = |name: &str, args: &[&str]| {
        let file = lab.site.config(name).display().to_string();
        let mut command = lab
            .site
            .command(name, &[args, &["--config", &file]].concat())
            .expect("power");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().expect("started")
    };
    // Two found at once: no two clusters come of it.
    let (one, two) = (
        start("h1", &["cluster", "init"]),
        start("h2", &["cluster", "init"]),
    );
    // One that heard nothing of the other, which is gone, waits for it to join.
    let both = [one, two].map(|child| ended_within(child, LONE_FOUNDER));
    let refused = both.iter().flatten();
    let refused: Vec<_> = refused.filter(|out| !out.status.success()).collect();
    assert!(!refused.is_empty(), "{both:?}");
    for out in refused {
        refusal(out, &["cluster"]);
    }
    // Neither has a voter's pledge it could use again: their stores are thrown away, as told.
    for name in ["h1", "h2"] {
        let _ = fs::remove_file(lab.path().join(name).join("state/store.redb"));
    }
    let asked = [
        start("h1", &["cluster", "init"]),
        start("h2", &["join"]),
        start("h3", &["join"]),
    ];
    for out in asked.map(ended) {
        assert!(out.status.success(), "{out:?}");
    }
    for name in ["h1", "h2", "h3"] {
        lab.site.start_daemon(name).expect("a daemon");
    }
    lab.whole("h1");
    // A second founding beside the living cluster, from a node that forgot its disk.
    lab.signal("h3", "STOP");
    let kept = lab.path().join("h3/state");
    let bare = lab.path().join("bare");
    fs::create_dir(&bare).expect("a directory");
    let text = fs::read_to_string(lab.site.config("h3")).expect("readable");
    let text = text
        .replace(&kept.display().to_string(), &bare.display().to_string())
        .replace(":5406\"\n\n[cap", ":5499\"\n\n[cap");
    let other = file(lab.path(), "bare.toml", &text).display().to_string();
    let mut command = lab
        .site
        .command("h3", &["cluster", "init", "--config", &other])
        .expect("power");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    refusal(
        &ended(command.spawn().expect("started")),
        &["exists already on this network"],
    );
    lab.signal("h3", "CONT");
    lab.whole("h1");
    clone(&lab);
}

/// The store of h3, copied and run a second time beside it, on h2's machine.
fn clone(lab: &Lab) {
    lab.signal("h3", "STOP");
    let copy = lab.path().join("clone");
    fs::create_dir(&copy).expect("a directory");
    // While it is held, so that both go on from one incarnation.
    fs::copy(
        lab.path().join("h3/state/store.redb"),
        copy.join("store.redb"),
    )
    .expect("copied");
    let own = |part: &str| lab.path().join("h3").join(part).display().to_string();
    let text = fs::read_to_string(lab.site.config("h3")).expect("readable");
    let text = text
        .replace(&own("state"), &copy.display().to_string())
        .replace(
            &own("run"),
            &lab.path().join("h2/run/clone").display().to_string(),
        )
        .replace("10.77.0.3:", "10.77.0.2:")
        .replace("10.77.0.3\"", "10.77.0.2\"")
        .replace(
            &lab.site.socket("h3").display().to_string(),
            &copy.join("sock").display().to_string(),
        )
        .replace("listen = \"10.77.0.2:5406\"", "listen = \"10.77.0.2:5499\"");
    let config = file(lab.path(), "clone.toml", &text).display().to_string();
    let mut command = lab
        .site
        .command("h2", &["daemon", "--config", &config])
        .expect("power");
    let log = fs::File::create(copy.join("log")).expect("a log");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("started");
    // Then the original ends and is started again: the same counter, another life.
    lab.signal("h3", "KILL");
    lab.wait("the clone to be noticed", || {
        let alerts = lab.events("h1", &["alert"]);
        let told = alerts
            .iter()
            .any(|e| e["text"].as_str().is_some_and(|t| t.contains("runs twice")));
        let counted = lab.status("h1")?["dropped"]["set back or cloned"].as_u64() >= Some(1);
        if told && counted {
            Ok(())
        } else {
            Err(format!("{alerts:#?}"))
        }
    });
    // The others go on without them.
    lab.wait("a quorum with a coordinator", || {
        let status = lab.status("h1")?;
        let led = !status["view"]["coordinator"].is_null();
        if status["quorate"] == true && led {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    child.kill().expect("ours");
    let _ = child.wait();
    let words = fs::read_to_string(copy.join("log")).expect("a log");
    assert!(!words.contains("panicked"), "{words}");
}
