//! The last resort: this host starts anew, at once.

use rustix::system::{RebootCommand, reboot};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

/// Who resets this host.
pub(super) trait Reset {
    /// Resets it. Comes back only if that failed, or if this is not the kernel's.
    ///
    /// # Errors
    /// It is not permitted.
    fn reset(&mut self, why: &str) -> io::Result<()>;
}

/// The kernel: whole machine, or in a process namespace everything in that.
pub(super) struct Kernel;

impl Reset for Kernel {
    fn reset(&mut self, why: &str) -> io::Result<()> {
        // For whoever looks for the reason afterwards; a console or a crash dump keeps it.
        let log = File::options()
            .write(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open("/dev/kmsg");
        if let Ok(mut log) = log {
            let _ = log.write_all(format!("<0>quorate: {why}: this host is reset\n").as_bytes());
        }
        // Without a sync: it may wait for the very disk that is in the way, and what is not
        // written by now must not be.
        reboot(RebootCommand::Restart)?;
        Ok(())
    }
}
