//! The faults themselves: each breaks something of one host, and mends it.

use crate::common::host;
use crate::over::Over;
use quorate::demo::site::Site;
use quorate::demo::switch;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Its cable is pulled.
    Cable,
    /// Its cable comes and goes.
    Flap,
    /// Its datagrams to the group go nowhere.
    Mute,
    /// What it sends to one other node goes nowhere.
    OneWay,
    /// Its daemon is killed, and started again.
    Kill,
    /// Its daemon stands still.
    Stop,
    /// Daemon, guardian and guests stand still, as on a machine that is paused.
    Freeze,
    /// Its guardian is killed.
    GuardianKilled,
    /// Its guardian stands still.
    GuardianStopped,
    /// One of its guests is killed.
    GuestKilled,
    /// It loses power.
    Power,
}

/// With how many parts of the whole each is drawn.
pub(crate) const WEIGHTS: [(Fault, usize); 11] = [
    (Fault::Cable, 5),
    (Fault::Flap, 3),
    (Fault::Mute, 2),
    (Fault::OneWay, 3),
    (Fault::Kill, 4),
    (Fault::Stop, 3),
    (Fault::Freeze, 2),
    (Fault::GuardianKilled, 2),
    (Fault::GuardianStopped, 2),
    (Fault::GuestKilled, 2),
    (Fault::Power, 3),
];

impl Fault {
    /// Whether it may not hit a majority at once: what stood still or lost its memory cannot be told
    /// from what was lost.
    pub(crate) fn is_rare(self) -> bool {
        matches!(self, Fault::Power | Fault::Freeze)
    }

    /// Whether the host is left alone for a while after it. A guardian and a daemon that are both
    /// lost within one lease leave only a watchdog, which a host of namespaces does not have.
    pub(crate) fn is_of_guardian(self) -> bool {
        matches!(self, Fault::GuardianKilled | Fault::GuardianStopped)
    }
}

/// One fault that was drawn.
#[derive(Clone, Debug)]
pub(crate) struct Drawn {
    pub(crate) fault: Fault,
    pub(crate) host: String,
    /// The other node, where it takes one.
    pub(crate) other: String,
    pub(crate) length: Duration,
    /// How many seconds its clocks are ahead of the kernel's when it has power again.
    pub(crate) clock: u64,
}

/// Breaks what was drawn, waits, and mends it. A host that was reset or fenced meanwhile has nothing
/// to be mended.
pub(crate) fn carry_out(site: &Site, d: &Drawn, over: &Over) -> Result<(), String> {
    let (name, other) = (d.host.as_str(), d.other.as_str());
    match d.fault {
        Fault::Cable => {
            site.cable(name, false)?;
            over.wait(d.length);
            site.cable(name, true)
        }
        Fault::Flap => {
            let until = Instant::now() + d.length;
            while Instant::now() < until {
                site.cable(name, false)?;
                let over_now = over.wait(Duration::from_millis(300));
                site.cable(name, true)?;
                if over_now || over.wait(Duration::from_millis(400)) {
                    break;
                }
            }
            Ok(())
        }
        Fault::Mute => {
            let route = "239.192.7.7/32";
            inside(site, name, &format!("ip route add blackhole {route}"))?;
            over.wait(d.length);
            inside(site, name, &format!("ip route del blackhole {route}"))
        }
        Fault::OneWay => {
            let route = format!("{}/32", address(site, other));
            inside(site, name, &format!("ip route add blackhole {route}"))?;
            over.wait(d.length);
            inside(site, name, &format!("ip route del blackhole {route}"))
        }
        Fault::Kill => site.signal_daemon(name, "KILL"),
        Fault::Stop => {
            site.signal_daemon(name, "STOP")?;
            over.wait(d.length);
            site.signal_daemon(name, "CONT")
        }
        Fault::Freeze => {
            signal_all(site, name, "quorate*", "STOP")?;
            over.wait(d.length.min(Duration::from_secs(2)));
            signal_all(site, name, "quorate*", "CONT")
        }
        Fault::GuardianKilled => signal_all(site, name, "quorate-guardi*", "KILL"),
        Fault::GuardianStopped => {
            signal_all(site, name, "quorate-guardi*", "STOP")?;
            over.wait(d.length);
            signal_all(site, name, "quorate-guardi*", "CONT")
        }
        Fault::GuestKilled => inside(site, name, KILL_A_GUEST),
        Fault::Power => {
            site.power_off(name)?;
            switch::write_state(&site.switch(), name, "off")?;
            over.wait(d.length);
            power_on(site, name, d.clock)
        }
    }
}

/// Kills the first process of a guest, if one runs there.
const KILL_A_GUEST: &str = "for p in /proc/[0-9]*; do \
    [ $p = /proc/$$ ] && continue; if tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q ' demo-guest '; then \
    kill -KILL ${p#/proc/}; break; fi; done; :";

/// Gives a host power, with its daemon and its own clocks.
pub(crate) fn power_on(site: &Site, name: &str, clock: u64) -> Result<(), String> {
    if !site.alive(name) {
        site.power_on_at(name, clock)?;
        site.start_daemon(name)?;
    }
    switch::write_state(&site.switch(), name, "on")
}

/// Sends a signal to every process of a host whose name fits.
fn signal_all(site: &Site, name: &str, comm: &str, signal: &str) -> Result<(), String> {
    let script = format!(
        "for p in /proc/[0-9]*; do read -r c <$p/comm || continue; \
         case $c in {comm}) kill -{signal} ${{p#/proc/}};; esac; done 2>/dev/null; :"
    );
    inside(site, name, &script)
}

fn inside(site: &Site, name: &str, script: &str) -> Result<(), String> {
    let mut command = site.program(name, "sh")?;
    command.args(["-c", script]).stdout(Stdio::null());
    let status = command.status().map_err(|e| format!("{name}: {e}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("{name}: {script}: {status}"))
}

fn address(site: &Site, name: &str) -> String {
    let place = site.nodes().iter().position(|n| n == name);
    format!("10.77.0.{}", place.map_or(0, |at| at + 1))
}

/// Copies a folder of plain files over another.
pub(crate) fn copied(from: &Path, to: &Path) -> std::io::Result<()> {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Whether `by` sees a node as a member in a later incarnation than `earlier`.
pub(crate) fn is_back(status: &serde_json::Value, name: &str, earlier: u64) -> bool {
    let row = host(status, name);
    row["state"] == "member" && row["incarnation"].as_u64() > Some(earlier)
}
