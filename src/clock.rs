//! The clock of this machine and the names the kernel gives it and its boot.

use quorate_membership::{BootId, Time};
use std::fs;
use std::io;
use std::path::Path;

/// Where Linux names the present boot.
pub const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";
/// Where the operating system keeps the machine's own name.
pub const MACHINE_ID_FILE: &str = "/etc/machine-id";

/// The clock all leases are counted on: monotonic, and running on while the machine is suspended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// A reading of `CLOCK_BOOTTIME`, in nanoseconds since the machine booted.
    #[must_use]
    pub fn now(self) -> Time {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(t.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(t.tv_nsec).unwrap_or(0);
        Time(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }
}

/// The kernel's name of this boot, read from `file` (normally [`BOOT_ID_FILE`]).
///
/// # Errors
/// The file cannot be read or holds no 128-bit hexadecimal name.
pub fn boot_id(file: &Path) -> io::Result<BootId> {
    read_id(file).map(BootId)
}

/// The machine's own name, read from `file` (normally [`MACHINE_ID_FILE`]).
///
/// # Errors
/// The file cannot be read or holds no 128-bit hexadecimal name.
pub fn machine_id(file: &Path) -> io::Result<u128> {
    read_id(file)
}

fn read_id(file: &Path) -> io::Result<u128> {
    let text = fs::read_to_string(file)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", file.display())))?;
    parse_id(text.trim()).ok_or_else(|| {
        let found: String = text.trim().chars().take(60).collect();
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{}: found {found:?}, expected 32 hexadecimal digits, not all zero",
                file.display()
            ),
        )
    })
}

/// 32 hexadecimal digits, with or without the dashes of a UUID; zero names nothing.
fn parse_id(text: &str) -> Option<u128> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&digits, 16).ok().filter(|id| *id != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_an_id_are_one_id() {
        let dashed = parse_id("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0");
        assert_eq!(dashed, parse_id("0f1e2d3c4b5a69788796a5b4c3d2e1f0"));
        assert_eq!(dashed, Some(0x0f1e_2d3c_4b5a_6978_8796_a5b4_c3d2_e1f0));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for bad in [
            "",
            "0",
            "00000000000000000000000000000000",
            "zz",
            "+f1e2d3c4b5a69788796a5b4c3d2e1f0",
        ] {
            assert_eq!(parse_id(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_clock_never_goes_back() {
        let a = Clock.now();
        assert!(a > Time::ZERO && Clock.now() >= a);
    }

    #[test]
    fn an_unreadable_file_is_named_in_the_error() {
        let error = boot_id(Path::new("/nonexistent/boot")).expect_err("no such file");
        assert!(error.to_string().contains("/nonexistent/boot"));
    }
}
