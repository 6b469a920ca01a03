//! The baseboard controllers: `ipmi_sim` on the bridge, one for each host, with power of its own.
//!
//! A controller asks for power by a file, like a front panel with two wires: `wanted`, put there by
//! rename, holds `on` or `off`; `state` says what is. The lab carries it out.

use super::site::Site;
use quorate::demo::rack::Rack;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Who may use a controller.
pub const USER: &str = "admin";
/// The word for it.
pub const PASSWORD: &str = "secret";

/// What `ipmi_sim` runs for `get power` and `set power`; it waits until the power followed.
const CHASSIS: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
want() {
    echo "$1" >".wanted.$$" && mv ".wanted.$$" wanted
    n=0
    until [ "$(cat state)" = "$1" ] && [ ! -e wanted ]; do
        n=$((n + 1))
        [ $n -lt 500 ] || exit 1
        sleep 0.02
    done
}
case "$2 $3 ${4:-}" in
"get power "*) if [ "$(cat state)" = on ]; then echo power:1; else echo power:0; fi ;;
"set power 0") want off ;;
"set power 1") want on ;;
"set reset "*) want off && want on ;;
esac
exit 0
"#;

/// The address of the controller of host number `number`.
pub fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 100 + number)
}

/// Lays out a controller's files in `dir`.
pub fn lay_out(dir: &Path, number: u8) -> Result<(), String> {
    let fault = |e: std::io::Error| format!("{}: {e}", dir.display());
    fs::create_dir_all(dir.join("store")).map_err(fault)?;
    let chassis = dir.join("chassis");
    fs::write(&chassis, CHASSIS).map_err(fault)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&chassis, mode).map_err(fault)?;
    let lan = format!(
        "name \"bmc{number}\"\nset_working_mc 0x20\n startlan 1\n  addr {} 623\n  \
         priv_limit admin\n  allowed_auths_callback none md2 md5 straight\n  \
         allowed_auths_user none md2 md5 straight\n  \
         allowed_auths_operator none md2 md5 straight\n  \
         allowed_auths_admin none md2 md5 straight\n  \
         guid a123456789abcdefa1234567890000{number:02}\n endlan\n \
         chassis_control \"{} 0x20\"\n \
         user 2 true \"{USER}\" \"{PASSWORD}\" admin 10 none md2 md5 straight\n",
        address(number),
        chassis.display()
    );
    fs::write(dir.join("lan.conf"), lan).map_err(fault)?;
    let controller = "mc_setbmc 0x20\n\
        mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
        sel_enable 0x20 100 0x0a\nmc_enable 0x20\n";
    fs::write(dir.join("controller.emu"), controller).map_err(fault)
}

/// Starts a controller; it needs its address on the bridge.
pub fn start(rack: &Rack, program: &Path, dir: &Path) -> Result<Child, String> {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .map_err(|e| e.to_string())?;
    let copy = log.try_clone().map_err(|e| e.to_string())?;
    rack.command(program)
        .args(["-n", "-c"])
        .arg(dir.join("lan.conf"))
        .arg("-f")
        .arg(dir.join("controller.emu"))
        .arg("-s")
        .arg(dir.join("store"))
        .stdout(Stdio::from(log))
        .stderr(Stdio::from(copy))
        .spawn()
        .map_err(|e| format!("{}: {e}", program.display()))
}

/// Says what the power of a host is.
pub fn write_state(dir: &Path, state: &str) -> Result<(), String> {
    let new = dir.join(".state");
    fs::write(&new, format!("{state}\n"))
        .and_then(|()| fs::rename(&new, dir.join("state")))
        .map_err(|e| format!("{}: {e}", dir.display()))
}

/// Carries out what the controllers ask for; dropping it ends that.
#[derive(Debug)]
pub struct Wires {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Wires {
    /// Begins to obey.
    pub fn connect(site: Arc<Site>) -> Wires {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                for host in super::site::HOSTS {
                    if let Err(e) = obey(&site, host) {
                        eprintln!("controller of {host}: {e}");
                    }
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Wires {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}

fn obey(site: &Site, host: &str) -> Result<(), String> {
    let dir = site.controller(host);
    let wanted = dir.join("wanted");
    let Ok(text) = fs::read_to_string(&wanted) else {
        return Ok(());
    };
    match text.trim() {
        "off" => site.power_off(host)?,
        "on" => site.power_on(host)?,
        other => return Err(format!("cannot {other:?}")),
    }
    // The state is written; only now is the wish fulfilled.
    fs::remove_file(&wanted).map_err(|e| e.to_string())
}
