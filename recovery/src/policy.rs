//! What is done when a guest fails, and how its owner lets it be looked at.

use serde::{Deserialize, Serialize};

/// What is done when a guest fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Restarts on the same host within one window before it is moved elsewhere.
    pub restarts_here: u32,
    /// Length of that window in milliseconds.
    pub window_ms: u64,
    /// First delay before a guest that failed elsewhere too is tried again, in milliseconds; it
    /// doubles with every further failure, up to 5 minutes, and never ends.
    pub retry_ms: u64,
    /// Resets in place within one window, for a guest that hangs or panicked, before it is
    /// restarted. A reset keeps its process; one without a virtual machine is restarted instead.
    pub resets_here: u32,
    /// What a shutdown from inside means.
    pub on_shutdown: OnShutdown,
    /// What is done about a guest whose operating system hangs.
    pub on_hang: OnHang,
    /// How long the evidence of a hang must agree, in milliseconds.
    pub hang_ms: u64,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            restarts_here: 2,
            window_ms: 600_000,
            retry_ms: 1000,
            resets_here: 0,
            on_shutdown: OnShutdown::Leave,
            on_hang: OnHang::Recover,
            hang_ms: 20_000,
        }
    }
}

/// What a shutdown from inside the guest means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnShutdown {
    /// Its owner wants it off: it is wanted stopped from then on.
    #[default]
    Leave,
    /// It has failed.
    Restart,
}

/// What is done about a guest whose operating system hangs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnHang {
    /// It has failed: the ladder of remedies.
    #[default]
    Recover,
    /// An alert, and nothing else.
    Report,
}

/// A command that tells whether what the guest is for works. In a virtual machine it is run
/// through the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Program and arguments, inside the guest; no shell. Exit status 0 means that it works.
    pub argv: Vec<String>,
    /// Between two runs, in milliseconds.
    #[serde(default = "every")]
    pub every_ms: u64,
    /// How long one run may take, in milliseconds.
    #[serde(default = "limit")]
    pub limit_ms: u64,
    /// So many failures in a row are a failure of the guest.
    #[serde(default = "failures")]
    pub failures: u32,
}

fn every() -> u64 {
    10_000
}

fn limit() -> u64 {
    5000
}

fn failures() -> u32 {
    3
}

impl Policy {
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.window_ms == 0 || self.retry_ms == 0 {
            return Err("policy: window_ms and retry_ms must be at least 1".into());
        }
        if !(5000..=3_600_000).contains(&self.hang_ms) {
            return Err(format!(
                "policy.hang_ms is {}: 5000 to 3600000 is allowed",
                self.hang_ms
            ));
        }
        Ok(())
    }
}

impl Probe {
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.argv.first().is_none_or(String::is_empty) {
            return Err("probe.argv is empty: it needs at least a program".into());
        }
        let length: usize = self.argv.iter().map(String::len).sum();
        if length > 16_384 || self.argv.len() > 256 {
            return Err("probe.argv is longer than 16 KiB, or than 256 words".into());
        }
        if self.every_ms < 1000 || self.limit_ms < 100 || self.failures == 0 {
            return Err(
                "probe: every_ms must be at least 1000, limit_ms at least 100, failures at least 1"
                    .into(),
            );
        }
        Ok(())
    }
}
