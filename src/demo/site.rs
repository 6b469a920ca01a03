//! The demo's machine room: a rack, five hosts, a power switch, and their files.

use super::rack::{Machine, Rack, fresh_uuid, log};
use super::switch;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// All nodes, in the order of their ids from 1 up; the last is the witness.
pub const NODES: [&str; 5] = ["h1", "h2", "h3", "h4", "w"];
/// The witness.
pub const WITNESS: &str = "w";

/// The machine room. Everything in it ends when it is dropped.
#[derive(Debug)]
pub struct Site {
    dir: PathBuf,
    nodes: Vec<String>,
    exe: PathBuf,
    agent: PathBuf,
    hosts: Mutex<BTreeMap<String, Powered>>,
    // Last: the hosts' processes are reaped first, then all namespaces go.
    rack: Rack,
}

/// A host that has power, with the process that keeps its daemon running.
#[derive(Debug)]
struct Powered {
    machine: Machine,
    daemon: Option<Child>,
}

impl Site {
    /// Lays out `dir` and gives every host of `nodes` power. No daemon runs yet. All are voters,
    /// with ids from 1 up; the one called [`WITNESS`] is one.
    pub fn build(dir: &Path, exe: &Path, agent: &Path, nodes: &[&str]) -> Result<Site, String> {
        // `sun_path` holds 107 bytes.
        if dir.as_os_str().len() > 90 {
            return Err(format!(
                "{} is too long for the path of a unix socket; choose a directory of at most 90 \
                 characters",
                dir.display()
            ));
        }
        let site = Site {
            dir: dir.to_owned(),
            nodes: nodes.iter().map(|n| (*n).to_owned()).collect(),
            exe: exe.to_owned(),
            agent: agent.to_owned(),
            hosts: Mutex::default(),
            rack: Rack::build()?,
        };
        for part in ["records", "switch", "guests"] {
            make_dir(&dir.join(part))?;
        }
        for name in nodes {
            let own = dir.join(name);
            make_dir(&own.join("state"))?;
            write(&own.join("machine-id"), &fresh_uuid()?.replace('-', ""))?;
            write(&site.config(name), &site.config_text(name))?;
            site.power_on(name)?;
            switch::write_state(&site.switch(), name, "on")?;
        }
        Ok(site)
    }

    /// All nodes, in the order of their ids from 1 up.
    pub fn nodes(&self) -> &[String] {
        &self.nodes
    }

    pub fn key(&self) -> PathBuf {
        self.dir.join("key")
    }

    pub fn switch(&self) -> PathBuf {
        self.dir.join("switch")
    }

    pub fn config(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("quorate.toml")
    }

    pub fn socket(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.sock"))
    }

    pub fn record(&self, guest: &str) -> PathBuf {
        self.dir.join("records").join(format!("{guest}.log"))
    }

    pub fn daemon_log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    /// Writes the description of a guest for `quorate guest add`.
    pub fn guest_file(&self, guest: &str) -> Result<PathBuf, String> {
        let path = self.dir.join("guests").join(format!("{guest}.toml"));
        let text = format!(
            "name = {guest:?}\n\n[needs]\nvcpus = 1\nmemory_mib = 64\n\n\
             [definition.command]\nargv = [{:?}, \"demo-guest\", {:?}]\n",
            self.exe.display().to_string(),
            self.record(guest).display().to_string(),
        );
        write(&path, &text)?;
        Ok(path)
    }

    /// The file of one host, as an operator would write it.
    fn config_text(&self, me: &str) -> String {
        let own = |part: &str| format!("{:?}", self.dir.join(me).join(part).display().to_string());
        let number = self.number(me);
        let address = Machine::address_of(number);
        let mut text = format!(
            "node = {number}\n\
             name = {me:?}\n\
             state_dir = {}\n\
             run_dir = {}\n\
             boot_id_file = {}\n\
             machine_id_file = {}\n\
             key_file = {:?}\n\
             socket = {:?}\n\
             listen = \"{address}:5406\"\n",
            own("state"),
            own("run"),
            own("boot-id"),
            own("machine-id"),
            self.key().display().to_string(),
            self.socket(me).display().to_string(),
        );
        if me == WITNESS {
            text.push_str("witness = true\n");
        } else {
            text.push_str("\n[capacity]\nvcpus = 4\nmemory_mib = 4096\n");
        }
        text.push_str(&format!(
            "\n[[link]]\nname = \"bridge\"\naddress = \"{address}\"\n\
             group = \"239.192.7.7:5405\"\n"
        ));
        for peer in self.nodes.iter().filter(|peer| *peer != me) {
            let number = self.number(peer);
            text.push_str(&format!(
                "\n[[peer]]\nnode = {number}\nname = {peer:?}\nsession = \"{}:5406\"\n",
                Machine::address_of(number)
            ));
        }
        let voters: Vec<usize> = (1..=self.nodes.len()).collect();
        text.push_str(&format!(
            "\n[cluster]\nvoters = {voters:?}\nprofile = \"fast\"\n"
        ));
        if me != WITNESS {
            text.push_str(&format!(
                "\n[[fence]]\n[[fence.device]]\nname = \"switch-{me}\"\nagent = {:?}\n\
                 class = \"power\"\nlimit_ms = 5000\n\
                 [fence.device.parameters]\nswitch = {:?}\nplug = {me:?}\n",
                self.agent.display().to_string(),
                self.switch().display().to_string(),
            ));
        }
        text
    }

    /// Gives a host power: a new boot with an empty memory file system.
    pub fn power_on(&self, name: &str) -> Result<(), String> {
        self.power_on_at(name, 0)
    }

    /// The same with clocks so many seconds ahead of the kernel's.
    #[doc(hidden)]
    pub fn power_on_at(&self, name: &str, clock: u64) -> Result<(), String> {
        let own = self.dir.join(name);
        write(&own.join("boot-id"), &fresh_uuid()?)?;
        // A socket of the boot before, on storage that outlived it.
        let _ = fs::remove_file(self.socket(name));
        let machine = self
            .rack
            .power_on_at(name, self.number(name), &own.join("run"), clock)?;
        let powered = Powered {
            machine,
            daemon: None,
        };
        self.hosts().insert(name.to_owned(), powered);
        Ok(())
    }

    /// Cuts a host's power and returns when nothing of it is left. A host without power stays so.
    pub fn power_off(&self, name: &str) -> Result<(), String> {
        let powered = self.hosts().remove(name);
        let Some(mut powered) = powered else {
            return Ok(());
        };
        let run_dir = powered.machine.run_dir().to_path_buf();
        powered.machine.power_off()?;
        if let Some(daemon) = &mut powered.daemon {
            daemon.wait().map_err(|e| format!("{name}: {e}"))?;
        }
        crate::guardian::sweep(&run_dir);
        Ok(())
    }

    /// Pulls or plugs a host's cable.
    pub fn cable(&self, name: &str, plugged: bool) -> Result<(), String> {
        match self.hosts().get(name) {
            Some(powered) => self.rack.cable(&powered.machine, plugged),
            None => Err(format!("{name} has no power")),
        }
    }

    /// Lets nothing above so many bytes pass to and from a host.
    #[doc(hidden)]
    pub fn narrow(&self, name: &str, bytes: u32) -> Result<(), String> {
        match self.hosts().get(name) {
            Some(powered) => self.rack.narrow(&powered.machine, bytes),
            None => Err(format!("{name} has no power")),
        }
    }

    /// Whether a host has power.
    pub fn alive(&self, name: &str) -> bool {
        let mut hosts = self.hosts();
        hosts.get_mut(name).is_some_and(|p| p.machine.alive())
    }

    /// A `quorate` command inside a host.
    pub fn command(&self, name: &str, args: &[&str]) -> Result<std::process::Command, String> {
        match self.hosts().get(name) {
            Some(powered) => {
                let mut command = powered.machine.command(&self.exe);
                command.args(args);
                Ok(command)
            }
            None => Err(format!("{name} has no power")),
        }
    }

    /// Any program inside a host.
    pub fn program(&self, name: &str, program: &str) -> Result<std::process::Command, String> {
        match self.hosts().get(name) {
            Some(powered) => Ok(powered.machine.command(program)),
            None => Err(format!("{name} has no power")),
        }
    }

    /// Starts a host's daemon under a supervisor that starts it again, as systemd would: always,
    /// except after bad input and after `host leave`.
    pub fn start_daemon(&self, name: &str) -> Result<(), String> {
        const SUPERVISE: &str = "pid=$1; shift; while :; do \"$@\" & echo $! >\"$pid\"; wait $!; \
            code=$?; echo \"supervisor: the daemon ended with $code\"; \
            case $code in 2|3) exit $code;; esac; sleep 0.2; done";
        let log = log(&self.daemon_log(name))?;
        let copy = log.try_clone().map_err(|e| e.to_string())?;
        let mut hosts = self.hosts();
        let powered = hosts.get_mut(name).ok_or(format!("{name} has no power"))?;
        let daemon = powered
            .machine
            .command("sh")
            .args(["-c", SUPERVISE, "supervisor"])
            .arg(powered.machine.run_dir().join("daemon.pid"))
            .arg(&self.exe)
            .args(["daemon", "--config"])
            .arg(self.config(name))
            .stdout(log)
            .stderr(copy)
            .spawn()
            .map_err(|e| format!("{name}: {e}"))?;
        powered.daemon = Some(daemon);
        Ok(())
    }

    /// Sends a signal to a host's daemon, and to nothing else of it.
    pub fn signal_daemon(&self, name: &str, signal: &str) -> Result<(), String> {
        let hosts = self.hosts();
        let powered = hosts.get(name).ok_or(format!("{name} has no power"))?;
        let status = powered
            .machine
            .command("sh")
            .args(["-c", "kill -\"$1\" \"$(cat \"$2\")\"", "signal", signal])
            .arg(powered.machine.run_dir().join("daemon.pid"))
            .stdout(Stdio::null())
            .status()
            .map_err(|e| format!("{name}: {e}"))?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("{name}: its daemon cannot be signalled"))
        }
    }

    fn number(&self, name: &str) -> u8 {
        let place = self.nodes.iter().position(|n| n == name);
        place.map_or(0, |i| i as u8 + 1)
    }

    fn hosts(&self) -> MutexGuard<'_, BTreeMap<String, Powered>> {
        // A thread that panicked while it held this left a whole map: no step changes it twice.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let names: Vec<String> = self.hosts().keys().cloned().collect();
        for name in names {
            if let Err(e) = self.power_off(&name) {
                eprintln!("{e}");
            }
        }
    }
}

fn make_dir(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
#[path = "site_tests.rs"]
mod tests;
