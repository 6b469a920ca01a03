//! A libvirtd of its own for each test, gone with the test.
#![allow(unreachable_pub, missing_docs)]

pub mod sector;

use quorate::clock::{self, Clock};
use quorate::guardian::processes::{Process, Scan};
use quorate::guardian::records::{self, GuestRecord, RunDir};
use quorate::guardian::{Guardian, Lease};
use quorate::hypervisor::embedded::{self, Embedded};
use quorate::hypervisor::{Driver, Gate};
use quorate::libvirt::{Libvirt, Settings};
use quorate_membership::{BootId, Incarnation, Time, Token};
use quorate_recovery::guest::{Definition, GuestId, GuestSpec, Needs, Policy};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const G: GuestId = GuestId(0xbeef);
pub const E: Token = Token(5);
/// No test waits longer for anything; only a broken one waits that long.
const PATIENCE: Duration = Duration::from_secs(120);
const NAME: &str = "web1";

pub fn gate() -> Gate {
    Gate::new(None, Clock.now() + Duration::from_secs(60))
}

fn emulator() -> PathBuf {
    let named = std::env::var_os("QUORATE_QEMU").map(PathBuf::from);
    named.unwrap_or_else(|| "/usr/bin/qemu-system-x86_64".into())
}

/// What is missing here for a real domain.
fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can give libvirtd directories of its own".into());
    }
    let programs = [
        PathBuf::from("/usr/sbin/libvirtd"),
        PathBuf::from("/usr/bin/virsh"),
        PathBuf::from("/usr/bin/unshare"),
        emulator(),
    ];
    let away = programs.iter().find(|p| !p.exists())?;
    Some(format!("{} is not installed", away.display()))
}

pub fn skipped(test: &str) -> bool {
    let Some(why) = missing() else {
        return false;
    };
    skip(test, &why);
    true
}

fn skip(test: &str, why: &str) {
    println!("skipped: {test}: {why}");
    if let Some(path) = std::env::var_os("QUORATE_SKIPPED") {
        let file = File::options().create(true).append(true).open(path);
        let mut file = file.expect("the file of skipped tests");
        writeln!(file, "{test}: {why}").expect("the file of skipped tests");
    }
}

/// One libvirtd with its files, a run directory, a disk.
pub struct House {
    dir: tempfile::TempDir,
    pub run: RunDir,
    boot: BootId,
    libvirtd: Child,
    /// The mount namespaces of this test: whatever lives in one of them is the test's.
    /// Each is kept open: the kernel gives the number of one that is gone to the next, which may be
    /// another test's.
    spaces: Vec<(PathBuf, File)>,
}

impl House {
    pub fn build(test: &str) -> Option<House> {
        if skipped(test) {
            return None;
        }
        let dir = tempfile::Builder::new().prefix("quorate-lv-").tempdir();
        let dir = dir.expect("a directory");
        let run = RunDir::create(&dir.path().join("q")).expect("a run directory");
        for name in ["etc/qemu", "lib/qemu", "log/qemu", "cache/qemu", "run"] {
            fs::create_dir_all(dir.path().join(name)).expect("a directory");
        }
        let write = |name: &str, text: &str| {
            fs::write(dir.path().join(name), text).expect("written");
        };
        write(
            "etc/libvirtd.conf",
            "auth_unix_ro = \"none\"\nauth_unix_rw = \"none\"\nunix_sock_group = \"root\"\n\
             host_uuid = \"00000000-0000-4000-8000-000000000001\"\n",
        );
        write(
            "etc/qemu.conf",
            "user = \"root\"\ngroup = \"root\"\ndynamic_ownership = 0\nremember_owner = 0\n\
             security_driver = \"none\"\ncgroup_controllers = [ ]\nnamespaces = [ ]\n\
             stdio_handler = \"file\"\n",
        );
        // libvirtd looks its default user up before it reads its settings.
        for (name, line) in [
            (
                "passwd",
                "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/bin/false\n",
            ),
            ("group", "libvirt-qemu:x:64055:\n"),
        ] {
            let there = fs::read_to_string(Path::new("/etc").join(name)).expect("readable");
            let kept = there.lines().filter(|l| !l.starts_with("libvirt-qemu:"));
            let kept: Vec<&str> = kept.collect();
            write(name, &format!("{}\n{line}", kept.join("\n")));
        }
        let disk = File::create(dir.path().join("disk.raw")).expect("a disk");
        disk.set_len(1 << 20).expect("a disk");
        let libvirtd = launch(dir.path());
        let mut house = House {
            run,
            boot: clock::boot_id(Path::new(clock::BOOT_ID_FILE)).expect("Linux"),
            libvirtd,
            spaces: Vec::new(),
            dir,
        };
        house.await_libvirtd();
        Some(house)
    }

    fn await_libvirtd(&mut self) {
        self.until("libvirtd answers", || self.virsh(&["uri"]).is_some());
        let space = space(self.libvirtd.id()).expect("a namespace");
        assert_ne!(Some(&space), self::space(std::process::id()).as_ref());
        let pinned = File::open(format!("/proc/{}/ns/mnt", self.libvirtd.id()));
        self.spaces.push((space, pinned.expect("a namespace")));
    }

    pub fn uri(&self) -> String {
        let socket = self.dir.path().join("run/libvirt-sock");
        format!("qemu+unix:///system?socket={}", socket.display())
    }

    pub fn driver(&self) -> Libvirt {
        Libvirt::new(Settings {
            uri: self.uri(),
            run: self.run.clone(),
            boot: self.boot,
            host: "here".to_owned(),
            cluster: "house".to_owned(),
            evidence: Some(self.evidence()),
        })
        .expect("a driver")
    }

    /// The guest's disk.
    pub fn disk(&self) -> PathBuf {
        self.dir.path().join("disk.raw")
    }

    /// Where captures are kept.
    pub fn evidence(&self) -> PathBuf {
        self.dir.path().join("evidence")
    }

    /// The built-in hypervisor over the same run directory.
    pub fn embedded(&self) -> Embedded {
        Embedded::new(embedded::Settings {
            program: env!("CARGO_BIN_EXE_quorate").into(),
            run: self.run.clone(),
            boot: self.boot,
            host: "here".to_owned(),
            logs: None,
        })
        .expect("a driver")
    }

    pub fn spec(&self) -> GuestSpec {
        self.spec_with("")
    }

    /// A guest with these devices too.
    pub fn spec_with(&self, devices: &str) -> GuestSpec {
        let xml = format!(
            "<domain type='qemu'>\n<name>{NAME}</name>\n\
             <uuid>0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0</uuid>\n<memory unit='MiB'>32</memory>\n\
             <os><type arch='x86_64' machine='pc'>hvm</type></os>\n\
             <features><acpi/></features>\n<devices>\n\
             <emulator>{}</emulator>\n<disk type='file' device='disk'>\
             <driver name='qemu' type='raw' cache='directsync'/><source file='{}'/>\
             <target dev='vda' bus='virtio'/></disk>\n<controller type='usb' model='none'/>\n\
             <memballoon model='none'/>\n{devices}</devices>\n</domain>\n",
            emulator().display(),
            self.dir.path().join("disk.raw").display()
        );
        GuestSpec {
            name: NAME.to_owned(),
            definition: Definition::Domain { xml },
            needs: Needs::default(),
            priority: 0,
            policy: Policy::default(),
            probe: None,
        }
    }

    /// A guest with a Linux and an agent in it: the lab's, from the directory that
    /// `QUORATE_GUEST` names.
    pub fn linux(&self, test: &str) -> Option<GuestSpec> {
        let named = std::env::var_os("QUORATE_GUEST").map(PathBuf::from);
        let dir = named.filter(|d| d.join("vmlinux").exists() && d.join("initrd").exists());
        let Some(dir) = dir else {
            skip(
                test,
                "QUORATE_GUEST names no directory with vmlinux and initrd",
            );
            return None;
        };
        let channel = "<channel type='unix'><target type='virtio' \
                       name='org.qemu.guest_agent.0'/></channel>\n";
        let mut spec = self.spec_with(channel);
        let boot = format!(
            "hvm</type>\n<kernel>{0}/vmlinux</kernel><initrd>{0}/initrd</initrd>\n\
             <cmdline>console=ttyS0 quiet mitigations=off nokaslr panic=0 labname=web1</cmdline>",
            dir.display()
        );
        if let Definition::Domain { xml } = &mut spec.definition {
            *xml = xml
                .replacen("hvm</type>", &boot, 1)
                .replacen(">32<", ">128<", 1);
        }
        Some(spec)
    }

    pub fn virsh(&self, args: &[&str]) -> Option<String> {
        let mut command = Command::new("/usr/bin/virsh");
        let output = command.args(["-q", "-c", &self.uri()]).args(args).output();
        let output = output.expect("virsh");
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    }

    /// What libvirt says of the domain; nothing if it knows none.
    pub fn state(&self) -> String {
        self.virsh(&["domstate", NAME]).unwrap_or_default()
    }

    pub fn record(&self, epoch: Token) -> Option<GuestRecord> {
        records::read(&self.run.guest(G, epoch)).expect("readable")
    }

    /// How many files the registry has.
    pub fn files(&self) -> usize {
        let files = fs::read_dir(self.run.guests()).expect("listed");
        files.count()
    }

    /// How many starts are under way.
    pub fn intents(&self) -> usize {
        let entries = self.run.entries().expect("listed").into_iter();
        let intents = entries.filter(|(_, e)| matches!(e, records::Entry::Intent(..)));
        intents.count()
    }

    /// Whether any process carries the marks of the run directory.
    pub fn marked(&self) -> bool {
        let scan = Scan::take(Some(self.run.path())).expect("scanned");
        let mut marked = scan.marked.keys();
        marked.any(|pid| scan.get(*pid).is_some_and(|p| !p.gone()))
    }

    fn lease(&self, end: Time) {
        let record = records::LeaseRecord {
            boot: self.boot,
            incarnation: Incarnation {
                counter: 1,
                random: 1,
            },
            end,
        };
        let mut slots = quorate::guardian::slots::Slots::new(self.run.lease());
        slots.write(&record).expect("written");
    }

    pub fn long_lease(&self) {
        let incarnation = Incarnation {
            counter: 1,
            random: 1,
        };
        let mut lease = Lease::new(self.run.clone(), self.boot, incarnation);
        let end = Clock.now() + Duration::from_secs(3600);
        lease.extend(end).expect("written");
    }

    pub fn end_lease(&self) {
        self.lease(Clock.now());
    }

    /// A guardian over the run directory; it leaves when it has nothing to guard and is told.
    pub fn guard(&self) {
        let guardian = Guardian::new(
            env!("CARGO_BIN_EXE_quorate").into(),
            self.run.clone(),
            clock::BOOT_ID_FILE.into(),
            Duration::from_millis(20),
        );
        guardian.expect("a boot id").ensure().expect("in office");
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.libvirtd.id()).expect("a process id");
        let pid = Pid::from_raw(pid).expect("a process id");
        kill_process(pid, signal).expect("signalled");
    }

    pub fn stop_libvirtd(&mut self) {
        self.signal(Signal::STOP);
        let pid = i32::try_from(self.libvirtd.id()).expect("a process id");
        self.until("libvirtd is stopped", || {
            Process::look(pid).is_some_and(|p| p.stopped())
        });
    }

    pub fn continue_libvirtd(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends libvirtd at once and starts another; `between` runs while there is none.
    pub fn restart_libvirtd(&mut self, between: impl FnOnce()) {
        self.libvirtd.kill().expect("ended");
        self.libvirtd.wait().expect("ended");
        between();
        self.libvirtd = launch(self.dir.path());
        self.await_libvirtd();
    }

    /// Waits for something that must come.
    pub fn until(&self, what: &str, there: impl FnMut() -> bool) {
        assert!(self.within(PATIENCE, there), "not in time: {what}");
    }

    /// Waits for something that may come within so long; gives whether it did.
    pub fn within(&self, most: Duration, mut there: impl FnMut() -> bool) -> bool {
        let give_up = Instant::now() + most;
        while !there() {
            if Instant::now() >= give_up {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }
}

/// The mount namespace of a process.
fn space(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()
}

/// libvirtd in a mount namespace that shows it only its own files.
fn launch(dir: &Path) -> Child {
    let script = "set -e; mount --make-rprivate /
        mkdir -p /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt /run/libvirt
        mount --bind $1/etc /etc/libvirt; mount --bind $1/lib /var/lib/libvirt
        mount --bind $1/log /var/log/libvirt; mount --bind $1/cache /var/cache/libvirt
        mount --bind $1/run /run/libvirt
        mount --bind $1/passwd /etc/passwd; mount --bind $1/group /etc/group
        rm -f /run/libvirtd.pid
        exec /usr/sbin/libvirtd --pid-file $1/libvirtd.pid";
    let log = File::options()
        .create(true)
        .append(true)
        .open(dir.join("libvirtd.out"))
        .expect("a log");
    Command::new("/usr/bin/unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("unshare")
}

impl Drop for House {
    fn drop(&mut self) {
        if let (true, Ok(Some(how))) = (std::thread::panicking(), self.libvirtd.try_wait()) {
            eprintln!("libvirtd ended by itself: {how}");
        }
        let _ = self.driver().end(G, Token(u64::MAX), &gate());
        let _ = kill_process(
            Pid::from_raw(i32::try_from(self.libvirtd.id()).unwrap_or(0)).unwrap_or(Pid::INIT),
            Signal::CONT,
        );
        let _ = self.libvirtd.kill();
        let _ = self.libvirtd.wait();
        // Guests a broken test left, and emulators libvirtd was just looking at.
        let give_up = Instant::now() + Duration::from_secs(10);
        loop {
            let all = Scan::take(None).map(|scan| scan.all).unwrap_or_default();
            let left: Vec<&Process> = all
                .values()
                .filter(|p| !p.gone())
                .filter(|p| {
                    let pid = u32::try_from(p.pid).unwrap_or(0);
                    space(pid).is_some_and(|s| self.spaces.iter().any(|(own, _)| *own == s))
                })
                .collect();
            for process in &left {
                let _ = quorate::guardian::processes::signal(process, Signal::KILL);
            }
            if left.is_empty() || Instant::now() > give_up {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Ok(Some(state)) = records::read::<records::GuardianState>(&self.run.guardian_state())
            && let Some(process) = Process::look(state.pid).filter(|p| p.start == state.start)
        {
            let _ = quorate::guardian::processes::signal(&process, Signal::TERM);
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("libvirtd.out"));
            eprintln!("libvirtd said: {}", log.unwrap_or_default());
        }
    }
}
