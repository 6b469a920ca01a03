//! A cluster of real daemons on a rack of its own, and the judge of what its guests wrote.
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod place;

use quorate::demo::judge::{Expected, Finding, judge};
use quorate::demo::rack::Rack;
use quorate::demo::record::{self, Life};
use quorate::demo::site::{Site, WITNESS};
use quorate::demo::switch::{self, Switch};
use quorate::demo::watch;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_quorate");
/// No test waits longer for anything; only a broken one waits that long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Whether a test cannot run here; then it has said so, on the terminal and in the file that the
/// test script shows.
pub fn skipped(test: &str) -> bool {
    let Some(why) = Rack::missing() else {
        return false;
    };
    println!("skipped: {test}: {why}");
    if let Some(path) = std::env::var_os("QUORATE_SKIPPED") {
        let file = File::options().create(true).append(true).open(path);
        let mut file = file.expect("the file of skipped tests");
        writeln!(file, "{test}: {why}").expect("the file of skipped tests");
    }
    true
}

/// Racks that may be at work at once, whichever programs they are in. A rack of a few hosts mostly
/// waits; more of them would starve daemons of a small machine, which lose their leases then, as they
/// should.
const RACKS: usize = 2;

/// The right to have a rack at work.
pub struct Turn(Vec<File>);

impl Turn {
    fn place(number: usize) -> File {
        let path = std::env::temp_dir().join(format!("quorate-tests.turn-{number}"));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path);
        file.expect("the lock file of heavy tests")
    }

    /// Waits for a place beside another rack.
    pub fn take() -> Turn {
        let places: Vec<File> = (0..RACKS).map(Turn::place).collect();
        if let Some(free) = places.iter().position(|place| place.try_lock().is_ok()) {
            return Turn(places.into_iter().skip(free).take(1).collect());
        }
        // None is free: one of them will be.
        let place = Turn::place(std::process::id() as usize % RACKS);
        place.lock().expect("a turn");
        Turn(vec![place])
    }

    /// Waits for all places: what takes the whole machine for itself.
    pub fn alone() -> Turn {
        let places: Vec<File> = (0..RACKS).map(Turn::place).collect();
        for place in &places {
            place.lock().expect("a turn");
        }
        Turn(places)
    }
}

/// A cluster. Everything in it ends with it.
pub struct Lab {
    // In this order: the switch stops, the hosts go, the files go, the next may begin.
    switch: Option<Switch>,
    pub site: Arc<Site>,
    dir: tempfile::TempDir,
    guests: Vec<String>,
    expected: Vec<Expected>,
    _turn: Turn,
}

impl Lab {
    /// Hosts with power and files; no store, no daemon.
    pub fn bare(nodes: &[&str]) -> Lab {
        Lab::at(Turn::take(), nodes)
    }

    fn at(turn: Turn, nodes: &[&str]) -> Lab {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/fence_quorate_demo");
        let site = Site::build(dir.path(), Path::new(PROGRAM), &agent, nodes).expect("a rack");
        let site = Arc::new(site);
        let switch = Some(Switch::start(Arc::clone(&site)));
        Lab {
            switch,
            site,
            dir,
            guests: Vec::new(),
            expected: Vec::new(),
            _turn: turn,
        }
    }

    /// A cluster of these nodes, in one view.
    pub fn new(nodes: &[&str]) -> Lab {
        let lab = Lab::bare(nodes);
        lab.begin(nodes);
        lab
    }

    /// Founds a cluster of these nodes, and waits for one view of all and for whoever guards them.
    pub fn begin(&self, nodes: &[&str]) {
        self.found();
        for name in nodes {
            self.site.start_daemon(name).expect("a daemon");
        }
        self.whole(nodes[0]);
        // A witness runs no guests: nothing of it is guarded.
        for name in nodes.iter().filter(|n| **n != WITNESS) {
            self.wait(&format!("{name} to be guarded"), || {
                let views = self.events(nodes[0], &["view"]);
                let fits = |e: &&Value| {
                    e["host"] == *name
                        && e["text"].as_str().is_some_and(|t| t.starts_with("attests"))
                };
                if views.iter().any(|e| fits(&e)) {
                    Ok(())
                } else {
                    Err(format!("{views:?}"))
                }
            });
            self.renews(name);
        }
        self.read(nodes[0]);
    }

    /// Waits until every fence device was read while its host ran: none is relied on before.
    fn read(&self, by: &str) {
        self.wait("every fence device to be read", || {
            let status = self.status(by)?;
            let hosts = status["view"]["members"].as_array();
            let devices = hosts.into_iter().flatten().map(|h| h["devices"].as_array());
            match devices.flatten().flatten().all(|d| d["said"] == "on") {
                true => Ok(()),
                false => Err(status.to_string()),
            }
        });
    }

    /// Waits until a node has renewed its lease: it has sent two beats, and the second one said
    /// that it may run guests.
    fn renews(&self, name: &str) {
        let mut last = f64::MAX;
        self.wait(&format!("{name} to renew its lease"), || {
            let status = self.status(name)?;
            let left = status["lease_left"].as_f64().ok_or("no number")?;
            let renewed = left > last;
            last = if left > 0.0 { left } else { f64::MAX };
            if renewed {
                Ok(())
            } else {
                Err(status.to_string())
            }
        });
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes the key and all stores.
    pub fn found(&self) {
        let key = self.site.key().display().to_string();
        let made = run(&["key", "generate", &key]);
        assert!(made.status.success(), "{made:?}");
        let mut asked = Vec::new();
        for (i, name) in self.site.nodes().iter().enumerate() {
            let file = self.site.config(name).display().to_string();
            let args: &[&str] = if i == 0 {
                &["cluster", "init", "--config", &file]
            } else {
                &["join", "--config", &file]
            };
            let what = format!("quorate {} on {name}", args[0]);
            let mut command = self.site.command(name, args).expect("power");
            asked.push((watch::start(&mut command, &what).expect("started"), what));
        }
        for (child, what) in asked {
            watch::finish(child, &what).expect("a store");
        }
    }

    /// Waits until all nodes are members and `by` knows a coordinator; gives its status.
    pub fn whole(&self, by: &str) -> Value {
        self.wait(&format!("all nodes in the view of {by}"), || {
            let status = self.status(by)?;
            let all = self
                .site
                .nodes()
                .iter()
                .all(|n| host(&status, n)["state"] == "member");
            let led = !status["view"]["coordinator"].is_null();
            if status["quorate"] == true && all && led {
                Ok(status)
            } else {
                Err(status.to_string())
            }
        })
    }

    pub fn status(&self, by: &str) -> Result<Value, String> {
        self.json(by, &["status", "--json"])
    }

    /// What a node says to a question, as JSON.
    pub fn json(&self, by: &str, args: &[&str]) -> Result<Value, String> {
        let text = watch::ask(Path::new(PROGRAM), &self.site, by, args)?;
        serde_json::from_str(&text).map_err(|e| format!("{args:?}: {e} in {text}"))
    }

    /// What a node answers to a change; the reason if it refuses.
    pub fn ask(&self, by: &str, args: &[&str]) -> Result<String, String> {
        watch::ask(Path::new(PROGRAM), &self.site, by, args)
    }

    /// One guest as `by` sees it; null if there is none.
    pub fn guest(&self, by: &str, name: &str) -> Result<Value, String> {
        let all = self.json(by, &["guests", "--json"])?;
        let mut rows = all.as_array().into_iter().flatten();
        Ok(rows
            .find(|g| g["name"] == name)
            .cloned()
            .unwrap_or(Value::Null))
    }

    /// Events that `by` remembers, of these kinds.
    pub fn events(&self, by: &str, kinds: &[&str]) -> Vec<Value> {
        let text = self.wait("events", || self.ask(by, &["events", "--json"]));
        let lines = text
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).expect("an event"));
        lines
            .filter(|e| kinds.iter().any(|k| e["kind"] == *k))
            .collect()
    }

    /// Asserts that nobody was judged or fenced, as far as `by` remembers.
    pub fn nobody_judged(&self, by: &str) {
        let bad = self.events(by, &["verdict", "fence", "proof"]);
        assert!(bad.is_empty(), "somebody was judged: {bad:#?}");
    }

    /// Adds guests that write their own records, and waits until they run.
    pub fn add(&mut self, by: &str, guests: &[&str]) {
        for guest in guests {
            let file = self.site.guest_file(guest).expect("a guest's file");
            self.add_file(by, guest, &file);
        }
        self.settled(by);
    }

    /// Adds a guest that is described in `file`.
    pub fn add_file(&mut self, by: &str, guest: &str, file: &Path) {
        let file = file.display().to_string();
        self.wait("a guest to be taken", || {
            self.ask(by, &["guest", "add", &file])
        });
        self.guests.push(guest.to_owned());
    }

    /// Waits until every guest runs, by the word of `by` and by its own fresh record.
    pub fn settled(&self, by: &str) {
        for guest in &self.guests {
            self.wait(&format!("{guest} to run"), || {
                let row = self.guest(by, guest)?;
                let last = record::last(&self.site.record(guest)).map_err(|e| e.to_string())?;
                let why = format!("{row}, and it wrote {last:?}");
                let last = last.ok_or(why.clone())?;
                let fresh = record::now().saturating_sub(last.at) < 1_000_000_000;
                let there = row["host"] == *last.life.host && epoch(&row) == last.life.epoch;
                if row["state"] == "running" && fresh && there {
                    Ok(())
                } else {
                    Err(why)
                }
            });
        }
    }

    /// The life each guest last wrote from.
    pub fn lives(&self) -> BTreeMap<String, Life> {
        let life = |guest: &String| {
            let last = record::last(&self.site.record(guest)).expect("readable");
            (guest.clone(), last.expect("a record").life)
        };
        self.guests.iter().map(life).collect()
    }

    /// Guests whose last line was written on `host`.
    pub fn on(&self, host: &str) -> Vec<String> {
        let lives = self.lives().into_iter();
        lives
            .filter(|(_, life)| life.host == host)
            .map(|(guest, _)| guest)
            .collect()
    }

    /// These guests must show a new life elsewhere than on `off` after this moment.
    pub fn expect(&mut self, off: &str, guests: &[String]) -> u64 {
        let failed_at = record::now();
        self.expected.extend(guests.iter().map(|guest| Expected {
            guest: guest.clone(),
            off: off.to_owned(),
            failed_at,
        }));
        failed_at
    }

    /// Waits until every guest of `guests` writes from another host than `off`, since `after`.
    pub fn moved(&self, guests: &[String], off: &str, after: u64) {
        for guest in guests {
            self.wait(
                &format!("{guest} to run elsewhere than on {off}"),
                || match record::last(&self.site.record(guest)).map_err(|e| e.to_string())? {
                    Some(last) if last.life.host != off && last.at > after => Ok(()),
                    other => Err(format!("its last line: {other:?}")),
                },
            );
        }
    }

    /// Waits until `guests` have written nothing for a while: they have ended.
    pub fn silent(&self, guests: &[String]) {
        const QUIET_NS: u64 = 500_000_000;
        for guest in guests {
            self.wait(&format!("{guest} to fall silent"), || {
                match record::last(&self.site.record(guest)).map_err(|e| e.to_string())? {
                    Some(last) if record::now().saturating_sub(last.at) < QUIET_NS => {
                        Err(format!("it wrote {last:?}"))
                    }
                    _ => Ok(()),
                }
            });
        }
    }

    /// Waits until every guest has written for two more seconds, so that a copy which was only
    /// held has time to show.
    pub fn go_on(&self) {
        let after = record::now() + 2_000_000_000;
        for guest in &self.guests {
            self.wait(&format!("{guest} to go on"), || {
                match record::last(&self.site.record(guest)).map_err(|e| e.to_string())? {
                    Some(last) if last.at > after => Ok(()),
                    other => Err(format!("its last line: {other:?}")),
                }
            });
        }
    }

    /// Asserts that no guest ever ran twice, that all expected restarts are there, and that all
    /// guests run; gives the lives of each.
    pub fn judge(&self) -> BTreeMap<String, Finding> {
        let read = |g: &String| {
            (
                g.clone(),
                std::fs::read_to_string(self.site.record(g)).expect("a record"),
            )
        };
        let records = self.guests.iter().map(read).collect();
        let (findings, charges) = judge(&records, &self.expected, record::now());
        let words: Vec<String> = charges.iter().map(ToString::to_string).collect();
        assert!(charges.is_empty(), "the records charge: {words:#?}");
        findings
    }

    /// From here on a guest is not one of those that must run.
    pub fn forget(&mut self, guest: &str) {
        self.guests.retain(|g| g != guest);
    }

    pub fn signal(&self, name: &str, signal: &str) {
        self.wait("a signal to be taken", || {
            self.site.signal_daemon(name, signal)
        });
    }

    /// The daemon's incarnation as it says itself, once it answers.
    pub fn incarnation(&self, name: &str) -> u64 {
        self.wait("an incarnation", || {
            self.status(name)?["incarnation"]
                .as_u64()
                .ok_or("no number".into())
        })
    }

    /// Waits until all of the view of `by` are members and `name` is one in a later incarnation.
    pub fn back(&self, by: &str, name: &str, earlier: u64) {
        self.wait(&format!("{name} to be a member again"), || {
            let status = self.status(by)?;
            let row = host(&status, name);
            let later = row["incarnation"].as_u64() > Some(earlier);
            if row["state"] == "member" && later {
                Ok(())
            } else {
                Err(status.to_string())
            }
        });
    }

    pub fn power_off(&self, name: &str) {
        self.site.power_off(name).expect("power off");
        switch::write_state(&self.site.switch(), name, "off").expect("the switch");
    }

    pub fn power_on(&self, name: &str) {
        self.site.power_on(name).expect("power on");
        self.site.start_daemon(name).expect("a daemon");
        switch::write_state(&self.site.switch(), name, "on").expect("the switch");
    }

    pub fn break_outlet(&self, name: &str) {
        switch::break_outlet(&self.site.switch(), name).expect("the switch");
    }

    /// Repeats `look` until it gives something, or gives why it did not within `patience`.
    pub fn within<T>(
        &self,
        what: &str,
        patience: Duration,
        look: impl FnMut() -> Result<T, String>,
    ) -> Result<T, String> {
        watch::wait(what, patience, &|| false, look).map_err(|e| e.to_string())
    }

    /// Repeats `look` until it gives something.
    pub fn wait<T>(&self, what: &str, look: impl FnMut() -> Result<T, String>) -> T {
        watch::wait(what, PATIENCE, &|| false, look)
            .unwrap_or_else(|e| panic!("{e}\n{}", self.logs()))
    }

    fn logs(&self) -> String {
        let tail = |name: &String| {
            let text = std::fs::read(self.site.daemon_log(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            format!(
                "--- {name}\n{}\n",
                lines[lines.len().saturating_sub(40)..].join("\n")
            )
        };
        self.site.nodes().iter().map(tail).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        // It holds the site too: without it the hosts would go before it stops.
        drop(self.switch.take());
    }
}

/// The row of a host in a status.
pub fn host<'a>(status: &'a Value, name: &str) -> &'a Value {
    let rows = status["view"]["members"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    rows.iter()
        .find(|row| row["name"] == name)
        .unwrap_or(&Value::Null)
}

/// A guest's epoch as it is told to the guest: 16 digits of the token that people read as `1.15`.
fn epoch(row: &Value) -> String {
    let parts = row["epoch"].as_str().unwrap_or_default().split_once('.');
    let number = |text: &str| text.parse::<u64>().expect("a part of a token");
    parts.map_or(String::new(), |(epoch, index)| {
        format!("{:016x}", number(epoch) << 48 | number(index))
    })
}

/// Runs the program to its end.
pub fn run(args: &[&str]) -> Output {
    std::process::Command::new(PROGRAM)
        .args(args)
        .output()
        .expect("the program runs")
}

/// Waits for a child with a deadline and gives all it printed.
pub fn ended(child: std::process::Child) -> Output {
    let name = format!("{child:?}");
    ended_within(child, PATIENCE).unwrap_or_else(|| panic!("still running: {name}"))
}

/// Waits so long for a child and gives all it printed; one that does not end is ended, and gives nothing.
pub fn ended_within(mut child: std::process::Child, most: Duration) -> Option<Output> {
    let deadline = Instant::now() + most;
    while child.try_wait().expect("a child").is_none() {
        if Instant::now() > deadline {
            child.kill().expect("ours");
            child.wait().expect("ended");
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(child.wait_with_output().expect("its words"))
}

/// A file with this text.
pub fn file(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("written");
    path
}
