//! A resource agent that does what each test wants, and a driver over it.
#![allow(dead_code, unreachable_pub, missing_docs)]

use crate::guardian_support::{Lab, PROGRAM, eventually};
use quorate::guardian::processes::{Process, Scan};
use quorate::guardian::records::RunDir;
use quorate::ocf::registry::{self, Known};
use quorate::ocf::{Ocf, Settings};
use quorate_membership::BootId;
use quorate_recovery::guest::{Definition, GuestSpec, Needs};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where Debian has its agents.
pub const SYSTEM: &str = "/usr/lib/ocf/resource.d";

/// An agent whose resource is a file. Each action notes its name and environment and does first
/// what the test has put into `on-ACTION`.
const AGENT: &str = r#"#!/bin/sh
if [ "$1" = meta-data ]; then
cat <<END
<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
<resource-agent name="Fake" version="1.0"><version>1.1</version>
<parameters><parameter name="dir" required="1"><content type="string"/></parameter></parameters>
<actions>
<action name="start" timeout="20s"/><action name="stop" timeout="2s"/>
<action name="monitor" timeout="500ms" interval="1s"/><action name="validate-all" timeout="5s"/>
<action name="meta-data" timeout="5s"/>
</actions></resource-agent>
END
exit 0
fi
d=$OCF_RESKEY_dir
echo "$1" >> "$d/log"
env > "$d/env-$1"
if [ -e "$d/on-$1" ]; then . "$d/on-$1"; fi
case $1 in
start) touch "$d/state" ;;
stop) rm -f "$d/state" ;;
monitor) [ -e "$d/state" ] || exit 7 ;;
validate-all) ;;
*) exit 3 ;;
esac
exit 0
"#;

/// Notes a test that cannot run here.
pub fn skipped(test: &str, why: &str) {
    println!("skipped: {test}: {why}");
    if let Some(path) = std::env::var_os("QUORATE_SKIPPED") {
        let file = fs::File::options().create(true).append(true).open(path);
        let mut file = file.expect("the file of skipped tests");
        writeln!(file, "{test}: {why}").expect("the file of skipped tests");
    }
}

/// Whether a test of Debian's agents can run: in namespaces of its own, as root.
pub fn possible(test: &str, needs_root: bool) -> bool {
    if !Path::new(SYSTEM).join("heartbeat/Dummy").exists() {
        skipped(test, "resource-agents is not installed");
        return false;
    }
    if needs_root && !rustix::process::geteuid().is_root() {
        skipped(test, "needs root");
        return false;
    }
    true
}

/// Runs one test of this program again in namespaces of its own; `true` inside.
pub fn inside(test: &str, flags: &[&str]) -> bool {
    if std::env::var_os("QUORATE_TEST_INSIDE").is_some() {
        return true;
    }
    let done = Command::new("unshare")
        .args(flags)
        .arg("--")
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env("QUORATE_TEST_INSIDE", "1")
        .output()
        .expect("unshare");
    assert!(
        done.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    false
}

pub struct Bench {
    pub lab: Lab,
}

impl Bench {
    pub fn new() -> Bench {
        let lab = Lab::new();
        let dir = lab.file("ocf/resource.d/test");
        fs::create_dir_all(&dir).expect("made");
        fs::write(dir.join("Fake"), AGENT).expect("written");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(dir.join("Fake"), mode).expect("executable");
        Bench { lab }
    }

    pub fn driver(&self) -> Ocf {
        self.driver_with(None)
    }

    pub fn driver_with(&self, kill: Option<Duration>) -> Ocf {
        driver(&self.lab.run, self.lab.boot, kill)
    }

    /// The resource that is a file in directory `name`.
    pub fn spec(&self, name: &str) -> GuestSpec {
        let dir = self.lab.file(name);
        fs::create_dir_all(&dir).expect("made");
        let parameters = [("dir".to_owned(), dir.display().to_string())].into();
        spec(name, "ocf:test:Fake", parameters)
    }

    pub fn file(&self, name: &str, file: &str) -> PathBuf {
        self.lab.file(name).join(file)
    }

    /// What an action does first.
    pub fn on(&self, name: &str, action: &str, script: &str) {
        let path = self.file(name, &format!("on-{action}"));
        fs::write(path, script).expect("written");
    }

    pub fn usual(&self, name: &str, action: &str) {
        fs::remove_file(self.file(name, &format!("on-{action}"))).expect("removed");
    }

    /// Every action so far but monitors.
    pub fn log(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.file(name, "log")).unwrap_or_default();
        let lines = text.lines().filter(|l| *l != "monitor");
        lines.map(str::to_owned).collect()
    }

    pub fn runs(&self, name: &str) -> bool {
        self.file(name, "state").exists()
    }

    pub fn known(&self) -> Vec<Known> {
        registry::known(&self.lab.run).expect("readable")
    }

    /// Processes that resources have left running.
    pub fn left(&self) -> Vec<Process> {
        let scan = Scan::take(Some(self.lab.run.path())).expect("/proc");
        let marked = scan.agents.keys().filter_map(|pid| scan.get(*pid));
        marked.filter(|p| !p.gone()).copied().collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A test that failed may leave what an agent started.
        for process in self.left() {
            let _ = quorate::guardian::processes::signal(&process, rustix::process::Signal::KILL);
        }
    }
}

pub fn driver(run: &RunDir, boot: BootId, kill: Option<Duration>) -> Ocf {
    let mine = run.path().with_file_name("ocf").join("resource.d");
    Ocf::new(Settings {
        program: PROGRAM.into(),
        run: run.clone(),
        boot,
        host: "here".into(),
        dirs: vec![mine, SYSTEM.into()],
        kill,
    })
    .expect("a driver")
}

pub fn spec(name: &str, agent: &str, parameters: BTreeMap<String, String>) -> GuestSpec {
    GuestSpec {
        name: name.into(),
        definition: Definition::Ocf {
            agent: agent.into(),
            parameters,
            every_ms: 1000,
        },
        needs: Needs {
            vcpus: 0,
            memory_mib: 0,
        },
        priority: 0,
        policy: Default::default(),
        probe: None,
    }
}

/// Waits until a file is there and not empty.
pub fn written(path: &Path) {
    eventually(&path.display().to_string(), || {
        fs::metadata(path).is_ok_and(|m| m.len() > 0)
    });
}
