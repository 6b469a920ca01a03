//! Three nodes on loopback, by their files: for what the program does before and beside a cluster.

use super::{PATIENCE, PROGRAM, ended, file, run};
use quorate::net::ClusterKey;
use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The files of three nodes on loopback; the first is the one tried.
pub struct Place {
    pub dir: tempfile::TempDir,
    pub udp: u16,
    pub tcp: u16,
}

impl Place {
    /// Good configurations of a cluster of three, with its key.
    pub fn new() -> Place {
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

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self) -> String {
        self.text_of(1)
    }

    pub fn text_of(&self, n: u32) -> String {
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

    pub fn write(&self, text: &str) {
        file(self.dir.path(), "quorate.toml", text);
    }

    pub fn config(&self) -> String {
        self.at("quorate.toml").display().to_string()
    }

    pub fn socket(&self) -> String {
        self.at("sock").display().to_string()
    }

    pub fn run(&self, args: &[&str]) -> Output {
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
    pub fn state(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(self.at("state"))
            .expect("a directory")
            .flatten();
        entries
            .map(|e| (e.path(), fs::read(e.path()).expect("readable")))
            .collect()
    }

    /// A command must be refused for these reasons and change nothing.
    pub fn refused(&self, args: &[&str], wanted: &[&str]) {
        let before = self.state();
        let out = self.run(args);
        refusal(&out, wanted);
        assert!(
            before == self.state(),
            "{args:?} changed the state: {out:?}"
        );
    }

    pub fn start(&self, args: &[&str], n: u32) -> Child {
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
    pub fn refused_inside(&self, args: &[&str], wanted: &[&str]) {
        let names = |p: &Place| p.state().into_keys().collect::<Vec<_>>();
        let before = names(self);
        refusal(&self.run(args), wanted);
        assert_eq!(before, names(self), "{args:?}");
    }

    /// Founds the cluster: three stores.
    pub fn found(&self) {
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
    pub fn daemons(&self) -> [Daemon; 2] {
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

    pub fn ask(&self, args: &[&str]) -> Output {
        let socket = self.socket();
        run(&[args, &["--socket", &socket]].concat())
    }

    pub fn status(&self) -> serde_json::Value {
        let out = self.ask(&["status", "--json"]);
        assert!(out.status.success(), "{out:?}");
        serde_json::from_slice(&out.stdout).expect("JSON")
    }
}

/// A daemon that ends with the test, its guardian too.
pub struct Daemon {
    pub child: Child,
    pub run: PathBuf,
    pub log: PathBuf,
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

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "never came: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One error, with all that is `wanted` in it, and exit code 2.
pub fn refusal(out: &Output, wanted: &[&str]) {
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{out:?}");
    assert!(!text.contains("panicked"), "{text}");
    let errors = text.lines().filter(|l| l.starts_with("quorate: ")).count();
    assert_eq!(errors, 1, "one error: {text}");
    for part in wanted {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}
