//! The hardware watchdog: it resets the machine when it is not fed for its time-out, whatever this
//! process, the kernel's other processors or a driver are doing.
#![allow(unsafe_code)]

use rustix::ioctl::{Getter, Updater, ioctl, opcode};
use serde::{Deserialize, Serialize};
use std::ffi::c_int;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `WDIOC_SETTIMEOUT`: takes seconds, gives back what the device made of them.
const SET: rustix::ioctl::Opcode = opcode::read_write::<c_int>(b'W', 6);
/// `WDIOC_GETTIMEOUT`, in seconds.
const GET: rustix::ioctl::Opcode = opcode::read::<c_int>(b'W', 7);
/// Written before closing, it stops the device; anything else feeds it.
const MAGIC: &[u8] = b"V";
const FOOD: &[u8] = b"\0";

/// The watchdog that a guardian feeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchdogSeen {
    /// The device.
    pub device: PathBuf,
    /// Its time-out as the device says it, in milliseconds.
    pub timeout_ms: u64,
}

/// An open watchdog. It counts from the moment it is opened; that it is dropped does not stop it.
pub(super) struct Watchdog {
    file: File,
    seen: WatchdogSeen,
}

impl Watchdog {
    /// Opens `device` and sets its time-out to the whole seconds in `timeout`.
    ///
    /// # Errors
    /// It is not there, somebody else has it, or it cannot be set so short: then it is stopped again.
    pub(super) fn open(device: &Path, timeout: Duration) -> io::Result<Watchdog> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", device.display()));
        let seconds = c_int::try_from(timeout.as_secs()).unwrap_or(c_int::MAX);
        if seconds < 1 {
            return Err(named(io::Error::other(format!(
                "its time-out would be {timeout:?}, and the least is 1 s"
            ))));
        }
        let cloexec = rustix::fs::OFlags::CLOEXEC.bits().cast_signed();
        let mut options = File::options();
        let file = options.write(true).custom_flags(cloexec).open(device);
        let mut watchdog = Watchdog {
            file: file.map_err(named)?,
            seen: WatchdogSeen {
                device: device.to_path_buf(),
                timeout_ms: 0,
            },
        };
        match watchdog.set(seconds) {
            Ok(read) if read >= 1 && read <= seconds => {
                watchdog.seen.timeout_ms = u64::from(read.unsigned_abs()) * 1000;
                Ok(watchdog)
            }
            Ok(read) => {
                let why = format!("its time-out was set to {seconds} s and reads {read} s");
                let _ = watchdog.close();
                Err(named(io::Error::other(why)))
            }
            Err(e) => {
                let _ = watchdog.close();
                Err(named(e))
            }
        }
    }

    /// Sets the time-out, and reads it back.
    fn set(&mut self, seconds: c_int) -> io::Result<c_int> {
        let mut value = seconds;
        // SAFETY: the kernel reads and writes one `int` for this request of a watchdog device.
        unsafe { ioctl(&self.file, Updater::<SET, c_int>::new(&mut value))? };
        // SAFETY: the kernel writes one `int` for this request of a watchdog device.
        let read = unsafe { ioctl(&self.file, Getter::<GET, c_int>::new())? };
        Ok(read)
    }

    pub(super) fn seen(&self) -> &WatchdogSeen {
        &self.seen
    }

    /// Lets it count from the beginning again.
    ///
    /// # Errors
    /// It was not fed.
    pub(super) fn feed(&mut self) -> io::Result<()> {
        self.file.write_all(FOOD)
    }

    /// Stops it, for a host with no guest and no doubt.
    ///
    /// # Errors
    /// It goes on counting.
    pub(super) fn close(mut self) -> io::Result<()> {
        self.file.write_all(MAGIC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_watchdog_is_refused_and_told_to_stop() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("watchdog");
        let error = |timeout| match Watchdog::open(&path, timeout) {
            Ok(_) => panic!("taken"),
            Err(e) => e.to_string(),
        };
        assert!(error(Duration::from_secs(5)).contains("watchdog"));
        std::fs::write(&path, b"").expect("written");
        error(Duration::from_secs(5));
        assert_eq!(std::fs::read(&path).expect("readable"), MAGIC);
        assert!(error(Duration::from_millis(900)).contains("the least is 1 s"));
    }
}
