//! What the threads of a domain's virtual CPUs have done, from `/proc`: needs no libvirt and no
//! answer of QEMU.

use std::fs;

/// So many threads of one process are looked at.
const THREADS_MAX: usize = 8192;

/// Virtual CPUs as threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Vcpus {
    /// How many threads run virtual CPUs.
    pub count: u32,
    /// Time they ran, together, in nanoseconds.
    pub ran_ns: u64,
    /// Time they were ready to run and waited for a CPU of the host, in nanoseconds; `None` where
    /// the kernel does not count it.
    pub waited_ns: Option<u64>,
}

/// The virtual CPUs of process `pid`; `None` if it has no threads that are named so.
pub(super) fn of(pid: i32) -> Option<Vcpus> {
    let mut all = Vcpus::default();
    let mut waited = Some(0u64);
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    for task in tasks.take(THREADS_MAX).flatten() {
        let path = task.path();
        // One that ended meanwhile counts as never there.
        let Ok(name) = fs::read_to_string(path.join("comm")) else {
            continue;
        };
        if !runs_vcpus(name.trim_end()) {
            continue;
        }
        let scheduled = fs::read_to_string(path.join("schedstat"));
        let numbers = scheduled.ok().and_then(|text| two(&text));
        let ran = match numbers {
            Some((ran, delay)) => {
                waited = waited.map(|w| w.saturating_add(delay));
                ran
            }
            None => {
                waited = None;
                let Some(ran) = fs::read_to_string(path.join("stat"))
                    .ok()
                    .and_then(|text| ticks(&text))
                else {
                    continue;
                };
                ran
            }
        };
        all.count += 1;
        all.ran_ns = all.ran_ns.saturating_add(ran);
    }
    all.waited_ns = waited;
    (all.count > 0).then_some(all)
}

/// QEMU names them `CPU 0/KVM`, `CPU 1/TCG`, or `ALL CPUs/TCG` where one thread runs all.
fn runs_vcpus(name: &str) -> bool {
    let rest = name.strip_prefix("CPU ").or(name.strip_prefix("ALL CPUs"));
    rest.is_some_and(|r| r.contains('/'))
}

/// Time run and time waited, the first two numbers of `schedstat`.
fn two(text: &str) -> Option<(u64, u64)> {
    let mut words = text.split_ascii_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// User and system time of `stat`, in nanoseconds: a kernel without scheduler figures counts
/// ticks, and a tick is 10 ms on every machine that runs Linux guests.
fn ticks(text: &str) -> Option<u64> {
    let rest = &text[text.rfind(')')? + 1..];
    let mut words = rest.split_ascii_whitespace().skip(11);
    let user: u64 = words.next()?.parse().ok()?;
    let system: u64 = words.next()?.parse().ok()?;
    Some(user.saturating_add(system).saturating_mul(10_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_virtual_cpus_are_told_by_their_names() {
        for name in ["CPU 0/KVM", "CPU 15/TCG", "ALL CPUs/TCG"] {
            assert!(runs_vcpus(name), "{name}");
        }
        for name in ["qemu-system-x86", "IO mon_iothread", "CPU0", "worker"] {
            assert!(!runs_vcpus(name), "{name}");
        }
    }

    #[test]
    fn figures_of_the_kernel_are_read() {
        assert_eq!(two("12 34 5\n"), Some((12, 34)));
        assert_eq!(two("12"), None);
        let stat = "7 (CPU 0/KVM) S 1 2 3 0 -1 4 5 6 7 8 150 50 0 0 20";
        assert_eq!(ticks(stat), Some(2_000_000_000));
        assert_eq!(ticks("damaged"), None);
    }
}
