//! A rack of hosts on one kernel: namespaces, a bridge, cables, and power.
//!
//! ```text
//!   rack    user + mount + pid + net namespace, bridge br0
//!     h1    net + mount + pid + uts namespace, eth0 on the bridge, a memory file system of its own
//!     …
//! ```
//!
//! No root is needed where the kernel lets anybody make user namespaces. Power off is a SIGKILL of
//! the host's pid 1: the kernel then ends everything in it at once, and what was in its memory
//! file system is gone. A pulled cable is a bridge port set down: the host lives and hears nobody.
//!
//! Nothing outlives the process that holds a [`Rack`]: the rack's own pid 1 waits for the end of a
//! pipe from it, and all hosts live below that pid namespace.

use super::below::init_below;
use super::user::User;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Programs a rack is made of, and the Debian packages they are in.
const NEEDED: [(&str, &str); 5] = [
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("hostname", "hostname"),
    ("ip", "iproute2"),
];

/// Longest time namespaces may take to be made or to go.
const PATIENCE: Duration = Duration::from_secs(20);

/// The bridge and the namespaces around all hosts.
#[derive(Debug)]
pub struct Rack {
    holder: Child,
    pid: u32,
    user: User,
}

/// A host that has power.
#[derive(Debug)]
pub struct Machine {
    name: String,
    number: u8,
    run_dir: PathBuf,
    init: Child,
    pid: u32,
    user: User,
    /// Its clocks are not the kernel's.
    own_clock: bool,
}

impl Rack {
    /// What this machine lacks for a rack, in words; `None` if nothing.
    #[must_use]
    pub fn missing() -> Option<String> {
        for (program, package) in NEEDED {
            if find_program(program).is_none() {
                return Some(format!(
                    "the program `{program}` is missing (Debian package {package})"
                ));
            }
        }
        let tried = Command::new("unshare")
            .args([
                "-U",
                "-r",
                "-n",
                "-m",
                "-u",
                "-p",
                "-f",
                "--mount-proc",
                "--",
            ])
            .args(["ip", "link", "add", "br0", "type", "bridge"])
            .stdin(Stdio::null())
            .output();
        match tried {
            Ok(out) if out.status.success() => None,
            Ok(out) => Some(format!(
                "this kernel or its settings forbid unprivileged namespaces with a bridge ({}); \
                 see user.max_user_namespaces, kernel.unprivileged_userns_clone and \
                 kernel.apparmor_restrict_unprivileged_userns, or a container's seccomp profile",
                String::from_utf8_lossy(&out.stderr).trim()
            )),
            Err(e) => Some(format!("unshare cannot be run: {e}")),
        }
    }

    /// Makes the namespaces and the bridge.
    ///
    /// # Errors
    /// What failed, in words.
    pub fn build() -> Result<Rack, String> {
        Rack::build_as(User::Mapped)
    }

    /// The same by root, without a user namespace: for hosts whose programs need a real root.
    ///
    /// # Errors
    /// What failed, in words.
    #[doc(hidden)]
    pub fn build_as_root() -> Result<Rack, String> {
        Rack::build_as(User::Root)
    }

    fn build_as(user: User) -> Result<Rack, String> {
        let mut holder = Command::new("unshare");
        holder
            .args(user.unshare())
            .args(["-n", "-m", "-p", "-f", "--kill-child", "--mount-proc", "--"])
            .args(["sh", "-c", "echo ready; exec cat >/dev/null 2>&1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for us: we end the hosts, in order.
            .process_group(0);
        let mut holder = holder.spawn().map_err(|e| format!("unshare: {e}"))?;
        let pid = match ready(&mut holder).and_then(|()| init_below(holder.id())) {
            Ok(pid) => pid,
            Err(e) => {
                end(&mut holder);
                return Err(format!("the rack's namespaces {e}"));
            }
        };
        let rack = Rack { holder, pid, user };
        rack.ip("link set lo up\n\
             link add br0 type bridge mcast_snooping 0\n\
             link set br0 up\n")?;
        Ok(rack)
    }

    /// Gives a host power: fresh namespaces, a fresh memory file system, a cable to the bridge.
    ///
    /// `number` makes its address; `run_dir` becomes its memory file system.
    ///
    /// # Errors
    /// What failed, in words.
    pub fn power_on(&self, name: &str, number: u8, run_dir: &Path) -> Result<Machine, String> {
        self.power_on_at(name, number, run_dir, 0)
    }

    /// The same with clocks of its own, which are so many seconds ahead of the kernel's; 0 leaves it
    /// the kernel's.
    ///
    /// # Errors
    /// What failed, in words.
    #[doc(hidden)]
    pub fn power_on_at(
        &self,
        name: &str,
        number: u8,
        run_dir: &Path,
        clock: u64,
    ) -> Result<Machine, String> {
        // Pid 1 of the host. It stays, so that processes whose parent ended have one that reaps.
        const INIT: &str = "hostname \"$1\" && mkdir -p \"$2\" && \
            mount -t tmpfs -o size=32m,mode=755 quorate-demo \"$2\" && echo ready && \
            exec >/dev/null 2>&1 && while :; do sleep 3600 & wait; done";
        let mut unshare = vec!["unshare", "-n", "-u", "-m", "-p", "-f"];
        if self.user == User::Root {
            unshare.push("-i");
        }
        let clock_text = clock.to_string();
        if clock != 0 {
            unshare.extend(["-T", "--monotonic", &clock_text, "--boottime", &clock_text]);
        }
        unshare.extend(["--kill-child", "--mount-proc", "--"]);
        let mut init = self
            .enter()
            .args(unshare)
            .args(["sh", "-c", INIT, "init", name])
            .arg(run_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{name}: nsenter: {e}"))?;
        let pid = match ready(&mut init).and_then(|()| init_below(init.id())) {
            Ok(pid) => pid,
            Err(e) => {
                end(&mut init);
                return Err(format!("{name}: its namespaces {e}"));
            }
        };
        let machine = Machine {
            name: name.to_owned(),
            number,
            run_dir: run_dir.to_owned(),
            init,
            pid,
            user: self.user,
            own_clock: clock != 0,
        };
        // What an earlier boot left on our side goes away in the kernel's own time.
        let port = machine.port();
        let _ = self.ip(&format!("link delete {port}\n"));
        self.ip(&format!(
            "link add {port} type veth peer name eth0 netns {pid}\n\
             link set {port} master br0\n\
             link set {port} up\n"
        ))?;
        let inside = machine.enter_net();
        ip_batch(
            inside,
            &format!(
                "link set lo up\n\
                 addr add {}/24 dev eth0\n\
                 link set eth0 up\n\
                 route add 224.0.0.0/4 dev eth0\n",
                machine.address()
            ),
        )?;
        Ok(machine)
    }

    /// Pulls or plugs the cable of a host, at the bridge.
    ///
    /// # Errors
    /// What failed, in words.
    pub fn cable(&self, machine: &Machine, plugged: bool) -> Result<(), String> {
        let state = if plugged { "up" } else { "down" };
        self.ip(&format!("link set {} {state}\n", machine.port()))
    }

    /// Lets nothing above so many bytes pass to and from a host, without a word, as a port of a switch
    /// does whose hosts believe in larger packets. What is open keeps the packets it has.
    ///
    /// # Errors
    /// What failed, in words.
    #[doc(hidden)]
    pub fn narrow(&self, machine: &Machine, bytes: u32) -> Result<(), String> {
        // The kernel splits nothing that leaves in one piece: only so are packets what they are on a wire.
        ip_batch(machine.enter_net(), "link set eth0 gso_max_segs 1\n")?;
        self.ip(&format!("link set {} mtu {bytes}\n", machine.port()))
    }

    /// Runs `ip` commands in the rack's network namespace. Not in its pid namespace, because a
    /// peer's namespace is named by a pid as we count them.
    fn ip(&self, batch: &str) -> Result<(), String> {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.pid))
            .args(self.user.enter())
            .args(["-n", "--"]);
        ip_batch(command, batch)
    }

    /// Its pid 1, as we count.
    #[doc(hidden)]
    #[must_use]
    pub fn init(&self) -> u32 {
        self.pid
    }

    /// A command that runs in the rack but in no host: it outlives every power cut, and ends with
    /// the rack at the latest.
    #[doc(hidden)]
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.enter();
        command.arg(program).stdin(Stdio::null());
        command
    }

    /// Gives the bridge an address, for a device that all hosts reach.
    ///
    /// # Errors
    /// What failed, in words.
    #[doc(hidden)]
    pub fn device_address(&self, address: Ipv4Addr) -> Result<(), String> {
        self.ip(&format!("addr add {address}/24 dev br0\n"))
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.pid))
            .args(self.user.enter())
            .args(["-n", "-m", "-p", "--"])
            .process_group(0);
        command
    }
}

impl Drop for Rack {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        end(&mut self.holder);
    }
}

impl Machine {
    /// The address of host number `number`.
    #[must_use]
    pub fn address_of(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, number)
    }

    /// Its address on the bridge.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        Machine::address_of(self.number)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Pid 1 of it, as we count.
    #[doc(hidden)]
    #[must_use]
    pub fn init(&self) -> u32 {
        self.pid
    }

    /// Its memory file system, as seen from inside.
    #[must_use]
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// A command that runs inside, with the arguments still to be added. Its parent is outside:
    /// the process returned ends when the command does, or when the host loses power.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.pid))
            .args(self.user.enter())
            .args(["-n", "-u", "-m", "-p"])
            .args(self.own_clock.then_some("-T"))
            .arg("--")
            .arg(program)
            .stdin(Stdio::null())
            .process_group(0);
        command
    }

    /// Cuts its power. Returns when the kernel has ended and reaped everything in it.
    ///
    /// # Errors
    /// It is not gone within 20 s; then it must be taken to run.
    pub fn power_off(mut self) -> Result<(), String> {
        let pid = i32::try_from(self.pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .ok_or("pid out of range")?;
        if !self.alive() {
            // It was reset, and the pid may be anybody's by now.
            return Ok(());
        }
        // Our child below it is not reaped before we wait, so the pid cannot be another's yet.
        match rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(e) => return Err(format!("{}: cutting its power: {e}", self.name)),
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.init.try_wait() {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Err(e) => return Err(format!("{}: waiting for its end: {e}", self.name)),
            }
        }
        Err(format!(
            "{}: still there {PATIENCE:?} after SIGKILL",
            self.name
        ))
    }

    /// Whether it still has power.
    pub fn alive(&mut self) -> bool {
        matches!(self.init.try_wait(), Ok(None))
    }

    fn port(&self) -> String {
        format!("port{}", self.number)
    }

    fn enter_net(&self) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.pid))
            .args(self.user.enter())
            .args(["-n", "--"]);
        command
    }
}

/// Where a program is, by PATH and the places of system programs.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

fn ip_batch(mut command: Command, batch: &str) -> Result<(), String> {
    let program = find_program("ip").ok_or("the program `ip` is missing")?;
    let mut child = command
        .arg(program)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("ip: {e}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(batch.as_bytes())
            .map_err(|e| format!("ip: {e}"))?;
    }
    let out = child.wait_with_output().map_err(|e| format!("ip: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!(
        "ip: {} (of: {})",
        String::from_utf8_lossy(&out.stderr).trim(),
        batch.trim().replace('\n', "; ")
    ))
}

/// Waits for the line "ready"; its absence means the process ended.
fn ready(child: &mut Child) -> Result<(), String> {
    let stdout = child.stdout.take().ok_or("no pipe from it")?;
    let mut line = String::new();
    BufReader::new(stdout)
        .read_line(&mut line)
        .map_err(|e| e.to_string())?;
    if line == "ready\n" {
        return Ok(());
    }
    let mut why = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // Only for the message; an unreadable one is as good as none.
        let _ = stderr.read_to_string(&mut why);
    }
    Err(format!("could not be made: {}", why.trim()))
}

fn end(child: &mut Child) {
    // It may be gone already; then there is nothing to end.
    let _ = child.kill();
    let _ = child.wait();
}

/// A name no other boot has: 128 random bits as the kernel writes them.
pub(crate) fn fresh_uuid() -> Result<String, String> {
    fs::read_to_string("/proc/sys/kernel/random/uuid")
        .map_err(|e| format!("/proc/sys/kernel/random/uuid: {e}"))
}

/// Opens a log for appending.
pub(crate) fn log(path: &Path) -> Result<File, String> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
#[path = "rack_tests.rs"]
pub(crate) mod tests;
