//! Room for guests, where the file does not say.

use std::io;

/// The part of a machine's memory that is left to the host itself, its kernel, caches and daemons.
const HOST_SHARE: u64 = 16;
/// But at least and at most so much, in MiB.
const HOST_LEAST_MIB: u64 = 1024;
const HOST_MOST_MIB: u64 = 8192;

/// Memory that guests may have on a machine with `total` MiB: what is left beside the host's own.
/// A small machine keeps half.
#[must_use]
pub fn memory_room(total: u64) -> u64 {
    let share = (total / HOST_SHARE).clamp(HOST_LEAST_MIB, HOST_MOST_MIB);
    (total - share.min(total / 2)).max(1)
}

/// Memory of this machine in MiB.
///
/// # Errors
/// `/proc/meminfo` cannot be read, or names none.
pub fn machine_memory() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let kib = text.lines().find_map(|line| {
        let amount = line.strip_prefix("MemTotal:")?.trim();
        amount.strip_suffix(" kB")?.trim().parse::<u64>().ok()
    });
    kib.map(|kib| kib / 1024)
        .ok_or_else(|| io::Error::other("it names no MemTotal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_keeps_memory_for_itself() {
        for (total, room) in [
            (24_152, 24_152 - 1509),
            (4096, 3072),
            (1024, 512),
            (1 << 20, (1 << 20) - 8192),
            (1, 1),
        ] {
            assert_eq!(memory_room(total), room, "{total}");
        }
    }
}
