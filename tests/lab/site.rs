//! The lab's machine room: hosts with a libvirt of their own on one kernel, a bridge, controllers.

use super::bmc;
use super::group;
use super::leftovers::Space;
use super::tools::Tools;
use quorate::demo::rack::{Machine, Rack};
use quorate::demo::watch;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Hosts that run guests. The first two vote; the third follows.
pub const HOSTS: [&str; 3] = ["h1", "h2", "h3"];
/// The voter without guests.
pub const WITNESS: &str = "w";
/// All nodes, with ids from 1 up.
pub const NODES: [&str; 4] = ["h1", "h2", "h3", WITNESS];
/// A host with a libvirt that belongs to no cluster; it has no power until a case needs it.
pub const OUTSIDER: &str = "x";
/// Ids of the voters.
const VOTERS: [usize; 3] = [1, 2, 4];

/// Makes a host's directories its own, then runs libvirt for as long as the host has power: it is
/// started again when it ends, as a service manager would. `$1` is the host's directory.
const BOOT: &str = r#"
[ -z "$LAB_GROUP" ] || echo 0 >"$LAB_GROUP/cgroup.procs" || exit 1
mkdir -p /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt &&
mount --bind "$1/etc" /etc/libvirt && mount --bind "$1/lib" /var/lib/libvirt &&
mount --bind "$1/log" /var/log/libvirt && mount --bind "$2" /var/cache/libvirt &&
mount --bind "$1/passwd" /etc/passwd && mount --bind "$1/group" /etc/group &&
mkdir -p /run/libvirt /run/lab-files || exit 1
while :; do
    if [ -e /run/no-libvirtd ]; then sleep 0.1; continue; fi
    rm -f /run/libvirtd.pid
    /usr/sbin/libvirtd --listen --pid-file /run/libvirtd.pid
    echo "supervisor: libvirtd ended with $?"
    sleep 0.2
done
"#;

/// Keeps a daemon running, as a service manager would: always, except after bad input and after
/// the host went out of service.
const SUPERVISE: &str = "[ -z \"$LAB_GROUP\" ] || echo 0 >\"$LAB_GROUP/cgroup.procs\" || exit 1; \
    while :; do \"$@\" & echo $! >/run/daemon.pid; wait $!; code=$?; \
    echo \"supervisor: the daemon ended with $code\"; \
    case $code in 2|3) exit $code;; esac; sleep 0.2; done";

/// The machine room. Everything in it ends when it is dropped, or when this process does.
#[derive(Debug)]
pub struct Site {
    dir: PathBuf,
    tools: Tools,
    hosts: Mutex<BTreeMap<String, Powered>>,
    controllers: Mutex<BTreeMap<String, Child>>,
    /// Every process namespace there ever was.
    spaces: Mutex<Vec<Space>>,
    // Last: what runs in it is reaped first.
    rack: Rack,
}

#[derive(Debug)]
struct Powered {
    machine: Machine,
    /// What was started in it: they end with its power.
    services: Vec<Child>,
}

impl Site {
    /// Lays out `dir` and gives every host power and a libvirt. No daemon runs yet.
    pub fn build(dir: &Path, tools: &Tools) -> Result<Site, String> {
        let site = Site {
            dir: dir.to_owned(),
            tools: tools.clone(),
            hosts: Mutex::default(),
            controllers: Mutex::default(),
            spaces: Mutex::default(),
            rack: Rack::build_as_root()?,
        };
        site.note_space(site.rack.init())?;
        make_dir(&site.shared())?;
        make_dir(&site.cache().join("qemu"))?;
        for name in NODES {
            let own = dir.join(name);
            for part in ["state", "etc/qemu", "lib/qemu", "log/qemu"] {
                make_dir(&own.join(part))?;
            }
            write(&own.join("machine-id"), &uuid()?.replace('-', ""))?;
            write(&site.config(name), &site.config_text(name))?;
            site.write_libvirt(name)?;
            if name != WITNESS {
                bmc::lay_out(&site.controller(name), number(name))?;
                site.rack.device_address(bmc::address(number(name)))?;
            }
            site.boot(name)?;
            if name != WITNESS {
                site.plug_controller(name)?;
            }
        }
        Ok(site)
    }

    /// Gives the host that belongs to no cluster power and a libvirt.
    pub fn outsider(&self) -> Result<(), String> {
        for part in ["etc/qemu", "lib/qemu", "log/qemu"] {
            make_dir(&self.dir.join(OUTSIDER).join(part))?;
        }
        self.write_libvirt(OUTSIDER)?;
        self.boot(OUTSIDER)
    }

    /// What all hosts see: the guests' disks.
    pub fn shared(&self) -> PathBuf {
        self.dir.join("shared")
    }

    /// The disk of a guest.
    pub fn disk(&self, guest: &str) -> PathBuf {
        self.shared().join(format!("{guest}.raw"))
    }

    /// A host's file for its daemon.
    pub fn config(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("quorate.toml")
    }

    /// The key of the cluster.
    pub fn key(&self) -> PathBuf {
        self.dir.join("key")
    }

    /// The directory of a host's controller.
    pub fn controller(&self, name: &str) -> PathBuf {
        self.dir.join(format!("bmc-{name}"))
    }

    /// What a daemon says.
    pub fn daemon_log(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("daemon.log")
    }

    /// Where a description is written for `guest add`.
    pub fn description(&self, guest: &str) -> PathBuf {
        self.dir.join(format!("{guest}.xml"))
    }

    /// Where the rest of what `guest add` is told is written.
    pub fn policy(&self, guest: &str) -> PathBuf {
        self.dir.join(format!("{guest}.toml"))
    }

    /// The program that all hosts run.
    pub fn exe(&self) -> &Path {
        &self.tools.exe
    }

    /// libvirt's memory of what the emulator can do; it is kept from lab to lab.
    fn cache(&self) -> PathBuf {
        self.tools.lab.join("cache")
    }

    fn config_text(&self, me: &str) -> String {
        let own = self.dir.join(me);
        let number = number(me);
        let address = Machine::address_of(number);
        let mut text = format!(
            "node = {number}\nname = {me:?}\nstate_dir = {:?}\nrun_dir = \"/run/quorate\"\n\
             boot_id_file = {:?}\nmachine_id_file = {:?}\nkey_file = {:?}\n\
             listen = \"{address}:5406\"\n",
            own.join("state"),
            own.join("boot-id"),
            own.join("machine-id"),
            self.key(),
        );
        if me == WITNESS {
            text.push_str("witness = true\n");
        } else {
            text.push_str("\n[capacity]\nvcpus = 8\nmemory_mib = 4096\n");
            text.push_str(&format!("\n[libvirt]\nshared = [{:?}]\n", self.shared()));
        }
        text.push_str(&format!(
            "\n[[link]]\nname = \"bridge\"\naddress = \"{address}\"\n\
             group = \"239.192.7.7:5405\"\n"
        ));
        for peer in NODES.iter().filter(|peer| **peer != me) {
            let number = self::number(peer);
            text.push_str(&format!(
                "\n[[peer]]\nnode = {number}\nname = {peer:?}\nsession = \"{}:5406\"\n",
                Machine::address_of(number)
            ));
        }
        text.push_str(&format!(
            "\n[cluster]\nvoters = {VOTERS:?}\nprofile = \"fast\"\n"
        ));
        if me != WITNESS {
            // Without a cipher ipmitool asks for ten seconds which ones there are.
            text.push_str(&format!(
                "\n[[fence]]\n[[fence.device]]\nname = \"bmc-{me}\"\nagent = {:?}\n\
                 class = \"power\"\nlimit_ms = 40000\n[fence.device.parameters]\nip = \"{}\"\n\
                 username = {:?}\npassword = {:?}\nlanplus = \"1\"\npower_wait = \"0\"\ncipher = \"3\"\n\
                 ipmitool_path = {:?}\n",
                self.tools.program("fence_ipmilan"),
                bmc::address(number),
                bmc::USER,
                bmc::PASSWORD,
                self.tools.program("ipmitool"),
            ));
        }
        text
    }

    fn write_libvirt(&self, name: &str) -> Result<(), String> {
        let own = self.dir.join(name);
        write(
            &own.join("etc/libvirtd.conf"),
            &format!(
                "auth_unix_ro = \"none\"\nauth_unix_rw = \"none\"\nunix_sock_group = \"root\"\n\
                 listen_tls = 0\nlisten_tcp = 1\nauth_tcp = \"none\"\n\
                 host_uuid = \"00000000-0000-4000-8000-0000000000{:02x}\"\n\
                 log_outputs = \"3:file:/var/log/libvirt/libvirtd.log\"\n",
                number(name)
            ),
        )?;
        write(
            &own.join("etc/qemu.conf"),
            "user = \"root\"\ngroup = \"root\"\ndynamic_ownership = 0\nremember_owner = 0\n\
             security_driver = \"none\"\ncgroup_controllers = [ ]\nnamespaces = [ ]\n\
             stdio_handler = \"file\"\n",
        )?;
        write(&own.join("etc/lab-host"), name)?;
        // libvirtd looks its default user up before it reads its settings.
        for (file, line) in [
            (
                "passwd",
                "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/bin/false",
            ),
            ("group", "libvirt-qemu:x:64055:"),
        ] {
            let there = fs::read_to_string(Path::new("/etc").join(file));
            let there = there.map_err(|e| format!("/etc/{file}: {e}"))?;
            let kept = there.lines().filter(|l| !l.starts_with("libvirt-qemu:"));
            let kept: Vec<&str> = kept.collect();
            write(&own.join(file), &format!("{}\n{line}\n", kept.join("\n")))?;
        }
        Ok(())
    }

    /// Gives a host power: a new boot, an empty `/run`, a libvirt. No daemon.
    fn boot(&self, name: &str) -> Result<(), String> {
        let own = self.dir.join(name);
        write(&own.join("boot-id"), &uuid()?)?;
        let machine = self.rack.power_on(name, number(name), Path::new("/run"))?;
        self.note_space(machine.init())?;
        let mut services = Vec::new();
        if name != WITNESS {
            let log = open_log(&own.join("libvirtd.out"))?;
            let copy = log.try_clone().map_err(|e| e.to_string())?;
            let service = machine
                .command("sh")
                .env("LAB_GROUP", group::make(&group::of(name)))
                .args(["-c", BOOT, "boot"])
                .arg(&own)
                .arg(self.cache())
                .stdout(log)
                .stderr(copy)
                .spawn()
                .map_err(|e| format!("{name}: {e}"))?;
            services.push(service);
        }
        if HOSTS.contains(&name) {
            bmc::write_state(&self.controller(name), "on")?;
        }
        let powered = Powered { machine, services };
        self.hosts().insert(name.to_owned(), powered);
        Ok(())
    }

    /// The power button: a host without power boots, and its daemon with it.
    pub fn power_on(&self, name: &str) -> Result<(), String> {
        if self.hosts().contains_key(name) {
            return Ok(());
        }
        self.boot(name)?;
        self.start_daemon(name)
    }

    /// Cuts a host's power and returns when nothing of it is left.
    pub fn power_off(&self, name: &str) -> Result<(), String> {
        let Some(powered) = self.hosts().remove(name) else {
            return Ok(());
        };
        powered.machine.power_off()?;
        for mut service in powered.services {
            service.wait().map_err(|e| format!("{name}: {e}"))?;
        }
        group::remove(&group::of(name))?;
        if HOSTS.contains(&name) {
            bmc::write_state(&self.controller(name), "off")?;
        }
        Ok(())
    }

    /// Whether a host has power.
    pub fn alive(&self, name: &str) -> bool {
        self.hosts()
            .get_mut(name)
            .is_some_and(|p| p.machine.alive())
    }

    /// Pulls or plugs a host's cable. Its disks are reached all the same.
    pub fn cable(&self, name: &str, plugged: bool) -> Result<(), String> {
        match self.hosts().get(name) {
            Some(powered) => self.rack.cable(&powered.machine, plugged),
            None => Err(format!("{name} has no power")),
        }
    }

    /// Takes the controller's own power away.
    pub fn unplug_controller(&self, name: &str) -> Result<(), String> {
        if let Some(mut controller) = self.controllers().remove(name) {
            end_group(&mut controller, name)?;
        }
        // A wish it had not been granted must not come true later.
        let _ = fs::remove_file(self.controller(name).join("wanted"));
        Ok(())
    }

    /// Gives the controller its own power.
    pub fn plug_controller(&self, name: &str) -> Result<(), String> {
        let program = self.tools.program("ipmi_sim");
        let child = bmc::start(&self.rack, &program, &self.controller(name))?;
        self.controllers().insert(name.to_owned(), child);
        Ok(())
    }

    /// A command on a host, with the arguments still to be added.
    pub fn command(
        &self,
        name: &str,
        program: impl AsRef<std::ffi::OsStr>,
    ) -> Result<Command, String> {
        match self.hosts().get(name) {
            Some(powered) => Ok(powered.machine.command(program)),
            None => Err(format!("{name} has no power")),
        }
    }

    /// A command beside the hosts, on their bridge.
    pub fn beside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.rack.command(program)
    }

    /// Runs a command on a host to its end, with a deadline.
    pub fn run(&self, name: &str, words: &[&str]) -> Result<String, String> {
        let what = format!("{} (on {name})", words.join(" "));
        let (program, args) = words.split_first().ok_or("no command")?;
        let mut command = self.command(name, program)?;
        watch::finish(watch::start(command.args(args), &what)?, &what)
    }

    /// `quorate` on a host.
    pub fn quorate(&self, name: &str, args: &[&str]) -> Result<String, String> {
        let exe = self.tools.exe.display().to_string();
        let mut words = vec![exe.as_str()];
        words.extend(args);
        self.run(name, &words)
    }

    /// `virsh` on a host.
    pub fn virsh(&self, name: &str, args: &[&str]) -> Result<String, String> {
        let mut words = vec!["/usr/bin/virsh", "-q", "-c", "qemu:///system"];
        words.extend(args);
        self.run(name, &words)
    }

    /// Starts a host's daemon and keeps it running.
    pub fn start_daemon(&self, name: &str) -> Result<(), String> {
        let log = open_log(&self.daemon_log(name))?;
        let copy = log.try_clone().map_err(|e| e.to_string())?;
        let mut hosts = self.hosts();
        let powered = hosts.get_mut(name).ok_or(format!("{name} has no power"))?;
        let daemon = powered
            .machine
            .command("sh")
            .env("LAB_GROUP", group::make(&group::of(name)))
            .args(["-c", SUPERVISE, "supervisor"])
            .arg(&self.tools.exe)
            .args(["daemon", "--config"])
            .arg(self.config(name))
            .stdout(log)
            .stderr(copy)
            .spawn()
            .map_err(|e| format!("{name}: {e}"))?;
        powered.services.push(daemon);
        Ok(())
    }

    /// Signals a host's `daemon` or `libvirtd`, and nothing else of it.
    pub fn signal(&self, name: &str, service: &str, signal: &str) -> Result<(), String> {
        let script = "kill -\"$1\" \"$(cat \"/run/$2.pid\")\"";
        self.run(name, &["sh", "-c", script, "signal", signal, service])
            .map(|_| ())
    }

    /// The QEMU processes of a host, as we count them, with their command lines.
    pub fn emulators(&self, name: &str) -> Result<Vec<(u32, String)>, String> {
        let mut found = Vec::new();
        for pid in self.processes(name, "qemu-system-x86")? {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            // Gone meanwhile, or not yet reaped: it can do nothing any more.
            if !line.is_empty() {
                found.push((pid, line));
            }
        }
        Ok(found)
    }

    /// The processes of a host that bear that name, also those that are being ended.
    pub fn processes(&self, name: &str, called: &str) -> Result<Vec<u32>, String> {
        let init = match self.hosts().get(name) {
            Some(powered) => powered.machine.init(),
            None => return Err(format!("{name} has no power")),
        };
        let here = Space::of(init)?;
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").map_err(|e| e.to_string())?.flatten() {
            let file = entry.file_name();
            let Some(pid) = file.to_str().and_then(|n| n.parse::<u32>().ok()) else {
                continue;
            };
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if comm.trim() == called && here.holds(pid) {
                found.push(pid);
            }
        }
        Ok(found)
    }

    /// Every process namespace there ever was.
    pub fn spaces(&self) -> Vec<Space> {
        let spaces = self.spaces.lock();
        spaces.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_space(&self, pid: u32) -> Result<(), String> {
        let space = Space::of(pid)?;
        let spaces = self.spaces.lock();
        spaces.unwrap_or_else(PoisonError::into_inner).push(space);
        Ok(())
    }

    fn hosts(&self) -> MutexGuard<'_, BTreeMap<String, Powered>> {
        // A thread that panicked while it held this left a whole map: no step changes it twice.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn controllers(&self) -> MutexGuard<'_, BTreeMap<String, Child>> {
        let guard = self.controllers.lock();
        guard.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for name in HOSTS {
            if let Err(e) = self.unplug_controller(name) {
                eprintln!("{e}");
            }
        }
        for name in NODES.into_iter().chain([OUTSIDER]) {
            if let Err(e) = self.power_off(name) {
                eprintln!("{e}");
            }
        }
    }
}

/// The id of a node.
pub fn number(name: &str) -> u8 {
    let mut all = NODES.iter().chain([&OUTSIDER]);
    let place = all.position(|n| *n == name);
    place.map_or(0, |i| i as u8 + 1)
}

/// Ends a process of a host at once.
pub fn kill(pid: u32) -> Result<(), String> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or("pid out of range")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).map_err(|e| e.to_string())
}

/// Ends what `nsenter` and a wrapper started: they are a process group of their own.
pub fn end_group(child: &mut Child, name: &str) -> Result<(), String> {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or("pid out of range")?;
    rustix::process::kill_process_group(pid, rustix::process::Signal::KILL)
        .map_err(|e| format!("{name}: {e}"))?;
    child.wait().map_err(|e| e.to_string()).map(|_| ())
}

fn uuid() -> Result<String, String> {
    let path = "/proc/sys/kernel/random/uuid";
    let text = fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    Ok(text.trim().to_owned())
}

fn open_log(path: &Path) -> Result<fs::File, String> {
    fs::File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|e| format!("{}: {e}", path.display()))
}

fn make_dir(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}
