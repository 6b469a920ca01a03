//! Where the lab finds what it is made of.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Files and programs of the lab.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Where QEMU, the guest and the work directories are.
    pub lab: PathBuf,
    /// The program under test.
    pub exe: PathBuf,
}

impl Tools {
    /// The lab's directory, by `QUORATE_LAB_DIR` or `target/lab`.
    pub fn find() -> Tools {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let lab = std::env::var_os("QUORATE_LAB_DIR").map(PathBuf::from);
        Tools {
            lab: lab.unwrap_or_else(|| root.join("target/lab")),
            exe: env!("CARGO_BIN_EXE_quorate").into(),
        }
    }

    /// A program that the lab unpacked.
    pub fn program(&self, name: &str) -> PathBuf {
        self.lab.join("bin").join(name)
    }

    /// The guest's kernel and memory file system.
    pub fn guest(&self) -> PathBuf {
        self.lab.join("guest")
    }

    /// What is missing here, in words; `None` if nothing.
    pub fn missing(&self) -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("only root can make hosts with a libvirt of their own".into());
        }
        let programs = ["qemu-system-x86_64", "ipmi_sim", "fence_ipmilan"];
        let files = ["vmlinux", "initrd"];
        let wanted = programs
            .map(|name| self.program(name))
            .into_iter()
            .chain(files.map(|name| self.guest().join(name)))
            .chain(["/usr/sbin/libvirtd".into(), "/usr/bin/virsh".into()]);
        let mut away = wanted.filter(|path: &PathBuf| !path.exists());
        if let Some(away) = away.next() {
            return Some(format!(
                "{} is not there: run scripts/lab.sh as root on Debian 12",
                away.display()
            ));
        }
        let tried = Command::new("unshare")
            .args(["-n", "-m", "-u", "-i", "-p", "-f", "--mount-proc", "--"])
            .args(["ip", "link", "add", "br0", "type", "bridge"])
            .stdin(Stdio::null())
            .output();
        match tried {
            Ok(out) if out.status.success() => None,
            Ok(out) => Some(format!(
                "root may not make namespaces with a bridge here ({})",
                String::from_utf8_lossy(&out.stderr).trim()
            )),
            Err(e) => Some(format!("unshare cannot be run: {e}")),
        }
    }
}
