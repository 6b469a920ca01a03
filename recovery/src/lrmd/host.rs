//! How this host stands: what is wrong is told once when it begins and once when it ends.

use super::Report;
use crate::observation::HostHealth;
use std::collections::BTreeMap;

/// Room where the store is, in MiB: below the first it is an alert, from the second on none.
const STATE_FREE: (u64, u64) = (64, 96);
/// The same for memory that is left, in hundredths.
const MEMORY: (u64, u64) = (2, 4);
/// The same for load, in CPUs' worth: above the first, below the second.
const LOAD: (u64, u64) = (8, 4);
/// Sources of faults that are told apart.
const SOURCES: usize = 64;

/// What stands against this host.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostWatch {
    wrong: BTreeMap<String, String>,
    crowded: bool,
}

impl HostWatch {
    /// Takes a look; gives what began and what ended.
    pub(crate) fn take(&mut self, h: &HostHealth) -> Vec<Report> {
        let mut now: BTreeMap<String, String> = h
            .faults
            .iter()
            .take(SOURCES)
            .map(|(source, what)| (short(source), short(what)))
            .collect();
        // A host whose memory is not known was not looked at.
        let known = h.memory_mib > 0;
        let low = |key: &str, free: u64, (raise, clear): (u64, u64)| {
            free < if self.wrong.contains_key(key) {
                clear
            } else {
                raise
            }
        };
        if known && low("state", h.state_free_mib, STATE_FREE) {
            let text = format!("{} MiB are left where the store is", h.state_free_mib);
            now.insert("state".into(), text);
        }
        let left = h.memory_available_mib.saturating_mul(100) / h.memory_mib.max(1);
        if known && low("memory", left, MEMORY) {
            let text = format!(
                "{} of {} MiB of memory are left",
                h.memory_available_mib, h.memory_mib
            );
            now.insert("memory".into(), text);
        }
        let limit = if self.wrong.contains_key("load") {
            LOAD.1
        } else {
            LOAD.0
        };
        if h.cpus > 0 && h.load_milli > u64::from(h.cpus) * limit * 1000 {
            let text = format!("load {} on {} CPUs", h.load_milli / 1000, h.cpus);
            now.insert("load".into(), text);
        }
        self.crowded = h.cpus > 0 && h.load_milli > u64::from(h.cpus) * 1500 + 500;
        let mut reports = Vec::new();
        for (source, what) in &now {
            if !self.wrong.contains_key(source) {
                let text = format!("{source}: {what}");
                reports.push(Report { alert: true, text });
            }
        }
        for source in self.wrong.keys().filter(|s| !now.contains_key(*s)) {
            let text = format!("{source}: well again");
            reports.push(Report { alert: false, text });
        }
        self.wrong = now;
        reports
    }

    /// More wants to run than there are CPUs, by far.
    pub(crate) fn crowded(&self) -> bool {
        self.crowded
    }

    /// What stands against the host now, in words.
    pub(crate) fn remarks(&self) -> impl Iterator<Item = String> + '_ {
        self.wrong
            .iter()
            .map(|(source, what)| format!("{source}: {what}"))
    }
}

fn short(text: &str) -> String {
    text.chars().take(300).collect()
}
