//! What `quorate check` says about a file: the worst case, the promises, and what to look at.

use super::{Config, FoundingSettings, LibvirtSettings};
use super::{boot_service, machine_memory, memory_room};
use quorate_fencing::Level;
use quorate_membership::{ProofPolicy, Timing};
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// The answer to "how long at worst, and is it safe?".
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckReport {
    /// The file.
    pub file: String,
    /// Name of the host it describes.
    pub host: String,
    /// Where the timing comes from, in words.
    pub timing_from: String,
    /// The timing itself; values in milliseconds.
    pub timing: Timing,
    /// T_d: silence after which a host is judged, in milliseconds.
    pub silence_ms: u64,
    /// (m−1)·h: the longest cut of a host's network that nobody ever judges, in milliseconds.
    pub forgiven_cut_ms: u64,
    /// G: wait after which an unrenewed lease is over, in milliseconds.
    pub takeover_ms: u64,
    /// G_c: wait of a new coordinator, in milliseconds.
    pub coordinator_takeover_ms: u64,
    /// Failure of this host to start of its guests elsewhere, if all its fence levels take their
    /// whole limit; `None` if it has no device, or devices never make a start earlier.
    pub worst_case_fenced_ms: Option<u64>,
    /// The same by the lease alone.
    pub worst_case_lease_ms: u64,
    /// Every inequality of the safety contract that timing can break.
    pub promises: Vec<PromiseLine>,
    /// What runs guests here, in words; none on a witness.
    pub guests: Vec<String>,
    /// What this host's fence devices say when they are read from here, in words; filled in by who
    /// reads them.
    pub devices: Vec<String>,
    /// What an operator should know or change.
    pub warnings: Vec<String>,
}

/// One inequality of the safety contract with both its sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PromiseLine {
    /// Its number in the contract.
    pub promise: &'static str,
    /// In letters.
    pub inequality: &'static str,
    /// Left side in milliseconds.
    pub left_ms: f64,
    /// Right side in milliseconds.
    pub right_ms: f64,
    /// What it keeps from happening.
    pub meaning: &'static str,
}

impl PromiseLine {
    /// Whether it holds. Half a microsecond is forgiven to the arithmetic of this report; the
    /// judgement that refuses a file is exact.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.left_ms + 0.0005 >= self.right_ms
    }
}

/// The report on a file, with the timing of its `[cluster]` table, or the default profile.
#[must_use]
pub fn report(config: &Config) -> CheckReport {
    let (timing, from) = match &config.founding {
        Some(f) => {
            let profile = match f.profile.as_str() {
                "fast" => Timing::fast(),
                _ => Timing::default(),
            };
            let changed = if f.timing == profile {
                ""
            } else {
                " with [cluster.timing]"
            };
            (
                f.timing.clone(),
                format!("[cluster] of this file: profile {}{changed}", f.profile),
            )
        }
        None => (
            Timing::default(),
            "the default profile: the file has no [cluster]; a running cluster keeps the timing it \
             was founded with"
                .into(),
        ),
    };
    report_for(config, &timing, from)
}

/// The report on a file under a given timing, for instance that of the running cluster.
#[must_use]
pub fn report_for(config: &Config, timing: &Timing, timing_from: String) -> CheckReport {
    let founding = config.founding.as_ref();
    let lease_too = founding.is_some_and(|f| f.proof == ProofPolicy::DeviceAndLease);
    let levels: Duration = config.fence.iter().map(Level::limit).sum();
    let fenced =
        (!config.fence.is_empty() && !lease_too).then(|| millis(timing.worst_case_fenced(levels)));
    CheckReport {
        file: config.path.display().to_string(),
        host: config.name.clone(),
        timing_from,
        timing: timing.clone(),
        silence_ms: millis(timing.silence()),
        forgiven_cut_ms: millis(timing.forgiven_cut()),
        takeover_ms: millis(timing.takeover()),
        coordinator_takeover_ms: millis(timing.coordinator_takeover()),
        worst_case_fenced_ms: fenced,
        worst_case_lease_ms: millis(timing.worst_case_lease()),
        promises: promises(timing),
        guests: guests(config),
        devices: Vec::new(),
        warnings: warnings(config, timing, founding),
    }
}

fn guests(config: &Config) -> Vec<String> {
    if config.witness {
        return Vec::new();
    }
    let mut out = vec![room(config)];
    out.push("commands, by the built-in hypervisor".to_owned());
    if let Some(libvirt) = &config.libvirt {
        let shared = if libvirt.shared.is_empty() {
            "nothing is declared shared".to_owned()
        } else {
            format!("shared: {}", libvirt.shared.join(", "))
        };
        out.push(format!("domains, by libvirt at {} ({shared})", libvirt.uri));
    }
    let dirs: Vec<String> = config
        .ocf
        .dirs
        .iter()
        .map(|d| d.display().to_string())
        .collect();
    out.push(format!("resources, by agents in {}", dirs.join(", ")));
    out
}

/// Memory for guests, and what is left to the host.
fn room(config: &Config) -> String {
    let total = machine_memory();
    match (config.capacity.memory_mib, total) {
        (Some(mib), Ok(total)) => {
            format!("room for {mib} MiB of guests, of the machine's {total} MiB")
        }
        (Some(mib), Err(_)) => format!("room for {mib} MiB of guests"),
        (None, Ok(total)) => {
            let room = memory_room(total);
            format!(
                "room for {room} MiB of guests: the machine's {total} MiB without {} MiB for the \
                 host itself",
                total - room
            )
        }
        (None, Err(why)) => format!("room for guests is not known: /proc/meminfo: {why}"),
    }
}

/// Warns of guests that leave the host no memory.
fn crowded(config: &Config) -> Option<String> {
    let (said, total) = (config.capacity.memory_mib?, machine_memory().ok()?);
    (said > memory_room(total)).then(|| {
        format!(
            "capacity.memory_mib = {said} of the machine's {total} MiB leaves the host itself less \
             than {} MiB: guests may be ended for want of memory when hosts are lost; without the \
             key the host keeps that much",
            total - memory_room(total)
        )
    })
}

fn promises(t: &Timing) -> Vec<PromiseLine> {
    let ms = |d: Duration| d.as_secs_f64() * 1000.0;
    let r = f64::from(t.clock_rate_ppm) / 1e6;
    let end = t.kill.max(t.watchdog * 2 + t.watchdog_granularity);
    vec![
        PromiseLine {
            promise: "S3",
            inequality: "G·(1−r) ≥ (L + max(K, 2·W + g) + Q)·(1+r) + E",
            left_ms: ms(t.takeover()) * (1.0 - r),
            right_ms: ms(t.lease + end + t.drain) * (1.0 + r) + ms(t.slack),
            meaning: "a start by an expired lease comes after the last write of the old copy",
        },
        PromiseLine {
            promise: "S4",
            inequality: "L ≥ T_d + h + 2·RTT",
            left_ms: ms(t.lease),
            right_ms: ms(t.least_lease()),
            meaning: "a silence that nobody acts on ends no guest",
        },
        PromiseLine {
            promise: "S4",
            inequality: "L ≥ 2·h + P",
            left_ms: ms(t.lease),
            right_ms: ms(t.heartbeat * 2 + t.pause_margin),
            meaning: "one lost beat pauses no guest",
        },
        PromiseLine {
            promise: "S6",
            inequality: "G_c·(1−r) ≥ L_c·(1+r) + E",
            left_ms: ms(t.coordinator_takeover()) * (1.0 - r),
            right_ms: ms(t.coordinator_lease) * (1.0 + r) + ms(t.slack),
            meaning: "two coordinators never give orders at once",
        },
        PromiseLine {
            promise: "L2",
            inequality: "L_c ≥ 3·T_e",
            left_ms: ms(t.coordinator_lease),
            right_ms: ms(t.election * 3),
            meaning: "a coordinator's renewals are decided before its lease ends",
        },
    ]
}

fn warnings(config: &Config, timing: &Timing, founding: Option<&FoundingSettings>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    if config.bare_metal == Some(true) {
        out.push(
            "bare_metal = true: a new boot of this machine frees its guests at once. If it is a \
             virtual machine after all, a copy of it that is started while it runs makes its guests \
             run twice"
                .into(),
        );
    }
    if let Some(f) = founding {
        let n = f.voters.len();
        if n % 2 == 0 {
            out.push(format!(
                "{n} voters survive the loss of {} like {} would, and are more often without a \
                 quorum; take an odd number",
                (n - 1) / 2,
                n - 1
            ));
        }
        if f.proof == ProofPolicy::DeviceAndLease {
            out.push(
                "proof = \"device-and-lease\": a device's word counts only together with an \
                 expired lease, so fencing never makes a start earlier. The one case the bound \
                 excepts: a host that is lost while nobody is attested to end its guests with its \
                 lease; no device proves it off, and they wait for an operator"
                    .into(),
            );
        }
    }
    if timing.slow_kill_resets_host() {
        out.push(format!(
            "W ≤ K ({} ms ≤ {} ms): with a hardware watchdog an ordinary slow end of guests at \
             lease end resets the whole host",
            millis(timing.watchdog),
            millis(timing.kill)
        ));
    }
    if config.witness {
        out.push(
            "this is a witness: if it is a virtual machine, it must not be a guest of the hosts \
             it votes about"
                .into(),
        );
    } else if config.fence.is_empty() {
        out.push(
            "no fence device: when this host is lost, its guests start elsewhere only after its \
             lease is over"
                .into(),
        );
    }
    if !config.witness {
        out.push(
            "S1 through a freeze of this whole host longer than its lease, or the loss of guardian \
             and daemon within one lease, needs a hardware watchdog or fencing at the storage; \
             after `takes its attestation back` in `quorate events` the bound by lease does not \
             hold, and a device or an operator is needed"
                .into(),
        );
    }
    if let [only] = config.links.as_slice() {
        out.push(format!(
            "a single link ({}): one broken switch or cable is enough to lose this host",
            only.name
        ));
    }
    out.extend(not_in_memory(&config.run_dir));
    if in_memory(&config.state_dir) == Some(true) {
        out.push(format!(
            "state_dir {} is on a memory file system: this node's vote is lost with every boot",
            config.state_dir.display()
        ));
    }
    out.extend(crowded(config));
    if let Some(libvirt) = &config.libvirt {
        of_libvirt(libvirt, Path::new("/"), &mut out);
    }
    if !config.ocf.reset {
        out.push(
            "ocf.reset is off: a resource that does not stop at lease end may run on here beside \
             its next copy"
                .into(),
        );
    }
    out
}

/// What this machine, whose files are under `root`, would do to protected domains.
fn of_libvirt(libvirt: &LibvirtSettings, root: &Path, out: &mut Vec<String>) {
    if libvirt.shared.is_empty() {
        out.push(
            "[libvirt] declares nothing shared: every domain with a disk in a file or on a device \
             is refused"
                .into(),
        );
    }
    for place in &libvirt.shared {
        let here = root.join(place.trim_start_matches('/'));
        if !here.exists() {
            out.push(format!(
                "libvirt.shared: {place} is not there on this host: domains with disks in it \
                 cannot start here"
            ));
        }
    }
    out.extend(boot_service(&libvirt.uri, root));
}

/// A lease end that outlives a power cut would be believed after it.
fn not_in_memory(run_dir: &Path) -> Option<String> {
    match in_memory(run_dir) {
        Some(true) => None,
        Some(false) => Some(format!(
            "run_dir {} is not on a memory file system: what it holds must be gone after a boot",
            run_dir.display()
        )),
        None => Some(format!(
            "run_dir {}: cannot tell its file system",
            run_dir.display()
        )),
    }
}

/// Whether a directory is, or would be, on a memory file system; `None` if that cannot be told.
fn in_memory(dir: &Path) -> Option<bool> {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let there = dir.ancestors().find(|p| p.exists())?;
    let fs = rustix::fs::statfs(there).ok()?;
    Some(matches!(fs.f_type as u64, TMPFS | RAMFS))
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds as people read them.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.0 as f64 / 1000.0)
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})", self.file, self.host)?;
        writeln!(f, "timing: {}", self.timing_from)?;
        writeln!(f)?;
        writeln!(
            f,
            "from this host's failure to the start of its guests elsewhere, at worst"
        )?;
        match self.worst_case_fenced_ms {
            Some(ms) => writeln!(
                f,
                "  {:>9}  by its fence devices, each taking its whole limit",
                Seconds(ms).to_string()
            )?,
            None => writeln!(f, "          –  by a fence device")?,
        }
        writeln!(
            f,
            "  {:>9}  by its lease alone",
            Seconds(self.worst_case_lease_ms).to_string()
        )?;
        writeln!(
            f,
            "  and on top of both: placement and the guest's own boot"
        )?;
        writeln!(f)?;
        for (name, ms, what) in [
            ("T_d", self.silence_ms, "silence before a host is judged"),
            (
                "(m−1)·h",
                self.forgiven_cut_ms,
                "longest cut of its network that is never judged",
            ),
            (
                "G",
                self.takeover_ms,
                "wait until an unrenewed lease is over",
            ),
            (
                "G_c",
                self.coordinator_takeover_ms,
                "wait of a new coordinator",
            ),
        ] {
            writeln!(f, "  {name:<4} {:>9}  {what}", Seconds(ms).to_string())?;
        }
        writeln!(f)?;
        for p in &self.promises {
            let holds = if p.holds() { "holds" } else { "BROKEN" };
            writeln!(f, "  {} {holds}: {}", p.promise, p.inequality)?;
            writeln!(
                f,
                "     {:.0} ms ≥ {:.0} ms: {}",
                p.left_ms, p.right_ms, p.meaning
            )?;
        }
        if !self.guests.is_empty() {
            writeln!(f)?;
        }
        for guests in &self.guests {
            writeln!(f, "  runs {guests}")?;
        }
        if !self.devices.is_empty() {
            writeln!(f)?;
        }
        for device in &self.devices {
            writeln!(f, "  fence device {device}")?;
        }
        if !self.warnings.is_empty() {
            writeln!(f)?;
        }
        for warning in &self.warnings {
            writeln!(f, "  warning: {warning}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_would_stop_or_double_domains_is_said() {
        let root = tempfile::tempdir().expect("a directory");
        let said = |shared: &[&str]| {
            let libvirt = LibvirtSettings {
                uri: "qemu:///system".into(),
                shared: shared.iter().map(|s| (*s).to_owned()).collect(),
            };
            let mut out = Vec::new();
            of_libvirt(&libvirt, root.path(), &mut out);
            out
        };
        let [nothing] = said(&[]).try_into().expect("one warning");
        assert!(nothing.contains("declares nothing shared"), "{nothing}");
        fs::create_dir_all(root.path().join("images")).expect("a directory");
        assert!(said(&["/images"]).is_empty());
        let [away] = said(&["/images", "/other"]).try_into().expect("one");
        assert!(away.contains("/other is not there"), "{away}");
        let wants = root
            .path()
            .join("etc/systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wants).expect("a directory");
        fs::write(wants.join("libvirt-guests.service"), "").expect("written");
        let [service] = said(&["/images"]).try_into().expect("one");
        assert!(service.contains("ON_BOOT=ignore"), "{service}");
    }
}
