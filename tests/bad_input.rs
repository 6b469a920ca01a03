//! Bad input: one clear error with place and cause, exit code 2, and nothing changed.
//!
//! The real program, on loopback or on a rack; never a panic, whatever it is given.

mod common;

use common::{Lab, PATIENCE, PROGRAM, ended, file, run};
use quorate::net::ClusterKey;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The files of three nodes on loopback; the first is the one tried.
struct Place {
    dir: tempfile::TempDir,
    udp: u16,
    tcp: u16,
}

impl Place {
    /// Good configurations of a cluster of three, with its key.
    fn new() -> Place {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // Free a moment ago; on an address no other test uses.
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = |a: std::net::SocketAddr| a.port();
        let place = Place {
            udp: port(udp.local_addr().expect("bound")),
            tcp: port(tcp.local_addr().expect("bound")),
            dir,
        };
        for n in ["", "2", "3"] {
            fs::create_dir(place.at(&format!("state{n}"))).expect("a directory");
        }
        file(
            place.dir.path(),
            "machine-id",
            "0f1e2d3c4b5a69788796a5b4c3d2e1f0\n",
        );
        ClusterKey::generate()
            .and_then(|k| k.write_new(&place.at("key")))
            .expect("a key");
        place.write(&place.text());
        for n in [2, 3] {
            file(place.dir.path(), &format!("{n}.toml"), &place.text_of(n));
        }
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self) -> String {
        self.text_of(1)
    }

    fn text_of(&self, n: u32) -> String {
        let own = if n == 1 { String::new() } else { n.to_string() };
        let path = |name: &str| format!("{:?}", self.at(name).display().to_string());
        let own = |name: &str| path(&format!("{name}{own}"));
        let mut text = format!(
            "node = {n}\nname = \"h{n}\"\nstate_dir = {}\nrun_dir = {}\nkey_file = {}\n\
             socket = {}\nmachine_id_file = {}\nlisten = \"127.0.0.{n}:{}\"\n\n[capacity]\n\
             vcpus = 4\nmemory_mib = 4096\n\n[[link]]\nname = \"lo\"\n\
             address = \"127.0.0.{n}\"\nunicast = true\nport = {}\n\n",
            own("state"),
            own("run"),
            path("key"),
            own("sock"),
            path("machine-id"),
            self.tcp,
            self.udp
        );
        for peer in (1..=3).filter(|peer| *peer != n) {
            text.push_str(&format!(
                "[[peer]]\nnode = {peer}\nname = \"h{peer}\"\nsession = \"127.0.0.{peer}:{}\"\n\
                 addresses = [\"127.0.0.{peer}\"]\n\n",
                self.tcp
            ));
        }
        text + "[cluster]\nvoters = [1, 2, 3]\nprofile = \"fast\"\n"
    }

    fn write(&self, text: &str) {
        file(self.dir.path(), "quorate.toml", text);
    }

    fn config(&self) -> String {
        self.at("quorate.toml").display().to_string()
    }

    fn socket(&self) -> String {
        self.at("sock").display().to_string()
    }

    fn run(&self, args: &[&str]) -> Output {
        let config = self.config();
        let child = Command::new(PROGRAM)
            .args(args)
            .args(["--config", &config])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        ended(child.expect("the program runs"))
    }

    /// Everything in the state directory.
    fn state(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(self.at("state"))
            .expect("a directory")
            .flatten();
        entries
            .map(|e| (e.path(), fs::read(e.path()).expect("readable")))
            .collect()
    }

    /// A command must be refused for these reasons and change nothing.
    fn refused(&self, args: &[&str], wanted: &[&str]) {
        let before = self.state();
        let out = self.run(args);
        refusal(&out, wanted);
        assert!(
            before == self.state(),
            "{args:?} changed the state: {out:?}"
        );
    }

    fn start(&self, args: &[&str], n: u32) -> Child {
        let config = if n == 1 {
            self.config()
        } else {
            self.at(&format!("{n}.toml")).display().to_string()
        };
        let log = |name: &str| fs::File::create(self.at(&format!("{name}{n}"))).expect("a log");
        Command::new(PROGRAM)
            .args(args)
            .args(["--config", &config])
            .stdin(Stdio::null())
            .stdout(log("out"))
            .stderr(log("log"))
            .spawn()
            .expect("the program runs")
    }

    /// As [`Place::refused`], where the store was looked into: the file may be another, but no
    /// life of the node began, which is for the test to see.
    fn refused_inside(&self, args: &[&str], wanted: &[&str]) {
        let names = |p: &Place| p.state().into_keys().collect::<Vec<_>>();
        let before = names(self);
        refusal(&self.run(args), wanted);
        assert_eq!(before, names(self), "{args:?}");
    }

    /// Founds the cluster: three stores.
    fn found(&self) {
        let all = [
            self.start(&["cluster", "init"], 1),
            self.start(&["join"], 2),
            self.start(&["join"], 3),
        ];
        for (child, n) in all.into_iter().zip(1..) {
            let out = ended(child);
            let log = fs::read_to_string(self.at(&format!("log{n}"))).unwrap_or_default();
            assert!(out.status.success(), "{log}");
        }
    }

    /// The daemons of the first two: a quorum.
    fn daemons(&self) -> [Daemon; 2] {
        let daemons = [(1, "run"), (2, "run2")].map(|(n, run)| Daemon {
            child: self.start(&["daemon"], n),
            run: self.at(run),
            log: self.at(&format!("log{n}")),
        });
        eventually("the daemon to answer", || {
            self.ask(&["status"]).status.success()
        });
        daemons
    }

    fn ask(&self, args: &[&str]) -> Output {
        let socket = self.socket();
        run(&[args, &["--socket", &socket]].concat())
    }

    fn status(&self) -> serde_json::Value {
        let out = self.ask(&["status", "--json"]);
        assert!(out.status.success(), "{out:?}");
        serde_json::from_slice(&out.stdout).expect("JSON")
    }
}

/// A daemon that ends with the test, its guardian too.
struct Daemon {
    child: Child,
    run: PathBuf,
    log: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        use quorate::guardian::processes::{Process, signal};
        use quorate::guardian::records::{self, GuardianState, RunDir};
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Ok(dir) = RunDir::open(&self.run)
            && let Ok(Some(state)) = records::read::<GuardianState>(&dir.guardian_state())
            && let Some(process) = Process::look(state.pid).filter(|p| p.start == state.start)
        {
            let _ = signal(&process, rustix::process::Signal::KILL);
        }
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "never came: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One error, with all that is `wanted` in it, and exit code 2.
fn refusal(out: &Output, wanted: &[&str]) {
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{out:?}");
    assert!(!text.contains("panicked"), "{text}");
    let errors = text.lines().filter(|l| l.starts_with("quorate: ")).count();
    assert_eq!(errors, 1, "one error: {text}");
    for part in wanted {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

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
    refuse("does not exist");
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
fn a_socket_or_port_in_use_begins_nothing() {
    let p = Place::new();
    p.found();
    let udp = UdpSocket::bind(("127.0.0.1", p.udp)).expect("free");
    p.refused(&["daemon"], &["link \"lo\"", &p.udp.to_string(), "in use"]);
    p.refused(&["join"], &["link \"lo\"", &p.udp.to_string(), "in use"]);
    drop(udp);
    let tcp = TcpListener::bind(("127.0.0.1", p.tcp)).expect("free");
    p.refused(&["daemon"], &[&format!("127.0.0.1:{}", p.tcp), "in use"]);
    drop(tcp);
    let api = UnixListener::bind(p.at("sock")).expect("free");
    p.refused(&["daemon"], &[&p.socket(), "another daemon listens there"]);
    drop(api);
    // Something precious at the place of the socket is not removed.
    fs::remove_file(p.at("sock")).expect("removed");
    fs::write(p.at("sock"), "precious").expect("written");
    p.refused(&["daemon"], &[&p.socket(), "no socket"]);
    assert_eq!(fs::read(p.at("sock")).expect("still there"), b"precious");
}

#[test]
fn a_store_is_refused_by_all_but_its_own_node_and_machine() {
    let p = Place::new();
    p.refused(
        &["daemon"],
        &["store.redb", "does not exist", "quorate cluster init"],
    );
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
    let out = p.run(&["daemon"]);
    refusal(&out, &["another daemon listens there"]);
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
    let (one, two) = (ended(one), ended(two));
    let refused = [&one, &two]
        .into_iter()
        .filter(|o| o.status.code() == Some(2))
        .count();
    assert!(refused >= 1, "{one:?}\n{two:?}");
    for out in [&one, &two].into_iter().filter(|o| !o.status.success()) {
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
