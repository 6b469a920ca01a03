//! What a resource agent is called with and what its exit status means: OCF resource agents 1.1.

use super::registry::Registration;
use crate::agents::{AgentEnding, AgentExit};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where agents are looked for when nothing is configured.
#[must_use]
pub fn default_dirs() -> Vec<PathBuf> {
    vec![PathBuf::from("/usr/lib/ocf/resource.d")]
}

/// Set in the environment of everything a resource agent starts, but of its `stop`: the run
/// directory it belongs to. `QUORATE_GUEST` and `QUORATE_EPOCH` stand beside it.
pub const MARK_OCF: &str = "QUORATE_OCF_DIR";

/// The part of an agent's last words that goes into a report, in characters.
const WORDS: usize = 300;

/// An agent's program on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The program.
    pub program: PathBuf,
    /// `OCF_ROOT`: the directory that holds `resource.d`.
    pub root: PathBuf,
}

/// Finds `ocf:PROVIDER:TYPE` in the directories.
///
/// # Errors
/// Which places were looked at.
pub fn find(dirs: &[PathBuf], agent: &str) -> Result<Found, String> {
    let (provider, kind) = parts(agent)?;
    let usable = |path: &Path| {
        path.metadata()
            .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    for dir in dirs {
        let program = dir.join(provider).join(kind);
        if usable(&program) {
            let root = dir.parent().unwrap_or(dir).to_path_buf();
            return Ok(Found { program, root });
        }
    }
    let places: Vec<String> = dirs
        .iter()
        .map(|d| d.join(provider).join(kind).display().to_string())
        .collect();
    Err(format!(
        "agent {agent}: no executable file {}; on Debian the package resource-agents has the usual ones",
        places.join(" or ")
    ))
}

/// Provider and type of an agent's name.
///
/// # Errors
/// What is expected.
pub(super) fn parts(agent: &str) -> Result<(&str, &str), String> {
    let plain = |p: &str| {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        !p.is_empty() && !p.starts_with('.') && p.chars().all(fine)
    };
    let mut words = agent.split(':');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("ocf"), Some(provider), Some(kind), None) if plain(provider) && plain(kind) => {
            Ok((provider, kind))
        }
        _ => Err(format!(
            "agent {agent:?}: ocf:PROVIDER:TYPE is expected, as ocf:heartbeat:IPaddr2"
        )),
    }
}

/// The environment of one action, and nothing else is in it. `interval` is that of a regular
/// monitor, and nothing for every other action.
#[must_use]
pub(super) fn environment(
    of: &Registration,
    action: &str,
    timeout: Duration,
    interval: Duration,
) -> BTreeMap<String, String> {
    let (provider, kind) = parts(&of.agent).unwrap_or_default();
    let mut env: BTreeMap<String, String> = of
        .parameters
        .iter()
        .map(|(name, value)| (format!("OCF_RESKEY_{name}"), value.clone()))
        .collect();
    let fixed = [
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("LANG", "C"),
        ("LC_ALL", "C"),
        ("OCF_RA_VERSION_MAJOR", "1"),
        ("OCF_RA_VERSION_MINOR", "1"),
        ("OCF_RESOURCE_INSTANCE", of.name.as_str()),
        ("OCF_RESOURCE_PROVIDER", provider),
        ("OCF_RESOURCE_TYPE", kind),
        ("OCF_CHECK_LEVEL", "0"),
        ("OCF_RESKEY_CRM_meta_name", action),
        ("OCF_RESKEY_CRM_meta_on_node", of.host.as_str()),
        // Their log goes to standard error, which is kept, and to nowhere else.
        ("HA_LOGFACILITY", "none"),
        ("HA_debug", "0"),
    ];
    env.extend(fixed.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let ms = |d: Duration| d.as_millis().to_string();
    env.insert("OCF_RESKEY_CRM_meta_timeout".into(), ms(timeout));
    env.insert("OCF_RESKEY_CRM_meta_interval".into(), ms(interval));
    env.insert("OCF_ROOT".into(), of.root.display().to_string());
    env.insert("HA_RSCTMP".into(), of.temporary.display().to_string());
    env
}

/// What a monitor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It runs.
    Running,
    /// It does not run; nothing of it is there.
    Stopped,
    /// It is there and does not work, or nobody can say.
    Failed(String),
    /// Nothing follows: the monitor itself did not come to its end.
    Unknown(String),
}

/// What the end of a `monitor` means. Only exit status 7 says that a resource does not run.
#[must_use]
pub(super) fn seen(exit: &AgentExit) -> Seen {
    match exit.ending {
        // 190 and 191: it works, and worse than it should.
        AgentEnding::Code(0 | 8 | 190 | 191) => Seen::Running,
        AgentEnding::Code(7) => Seen::Stopped,
        AgentEnding::Code(_) => Seen::Failed(words("monitor", exit)),
        _ => Seen::Unknown(words("monitor", exit)),
    }
}

/// The end of an action other than a monitor.
///
/// # Errors
/// Everything but exit status 0, in words; a time-out is a failure.
pub(super) fn done(action: &str, exit: &AgentExit) -> Result<(), String> {
    match exit.ending {
        AgentEnding::Code(0) => Ok(()),
        _ => Err(words(action, exit)),
    }
}

/// The end of an action in words, with the agent's own reason.
#[must_use]
pub(super) fn words(action: &str, exit: &AgentExit) -> String {
    let how = match &exit.ending {
        AgentEnding::Code(code) => match meaning(*code) {
            Some(meaning) => format!("exit {code} ({meaning})"),
            None => format!("exit {code}"),
        },
        AgentEnding::Signal(signal) => format!("ended by signal {signal}"),
        AgentEnding::Timeout => "did not end in time".to_owned(),
        AgentEnding::NotStarted(why) => format!("not started: {why}"),
    };
    match reason(exit) {
        Some(reason) => format!("{action}: {how}: {reason}"),
        None => format!("{action}: {how}"),
    }
}

fn meaning(code: i32) -> Option<&'static str> {
    Some(match code {
        1 => "failed",
        2 => "bad arguments",
        3 => "not implemented",
        4 => "not permitted",
        5 => "not installed",
        6 => "not configured",
        7 => "not running",
        8 => "running, promoted",
        9 => "failed, promoted",
        190 => "degraded",
        191 => "degraded, promoted",
        _ => return None,
    })
}

/// What the agent gives as its reason, or else the last it said.
fn reason(exit: &AgentExit) -> Option<String> {
    let said = exit
        .stderr
        .lines()
        .rev()
        .find_map(|l| l.trim().strip_prefix("ocf-exit-reason:"));
    let last = |text: &str| {
        let line = text.lines().rev().find(|l| !l.trim().is_empty());
        line.map(str::to_owned)
    };
    said.map(str::to_owned)
        .or_else(|| last(&exit.stderr))
        .or_else(|| last(&exit.stdout))
        .map(|line| line.trim().chars().take(WORDS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(ending: AgentEnding, stderr: &str) -> AgentExit {
        AgentExit {
            ending,
            stdout: String::new(),
            stderr: stderr.into(),
        }
    }

    #[test]
    fn only_seven_says_that_nothing_runs() {
        for code in -1..=255 {
            let stopped = seen(&exit(AgentEnding::Code(code), "")) == Seen::Stopped;
            assert_eq!(stopped, code == 7, "{code}");
        }
        for ending in [
            AgentEnding::Timeout,
            AgentEnding::Signal(9),
            AgentEnding::NotStarted("x".into()),
        ] {
            assert!(matches!(seen(&exit(ending, "")), Seen::Unknown(_)));
        }
    }

    #[test]
    fn the_reason_is_the_one_the_agent_gives() {
        let said = "one\nocf-exit-reason: no such device \nlast\n";
        let exit_1 = exit(AgentEnding::Code(1), said);
        assert_eq!(
            words("start", &exit_1),
            "start: exit 1 (failed): no such device"
        );
        let exit_9 = exit(AgentEnding::Code(99), "a\nb\n\n");
        assert_eq!(words("start", &exit_9), "start: exit 99: b");
        assert!(done("stop", &exit(AgentEnding::Timeout, "")).is_err());
    }

    #[test]
    fn names_do_not_leave_their_directories() {
        for bad in [
            "",
            "ocf:heartbeat",
            "ocf:..:sh",
            "ocf:heartbeat:../sh",
            "ocf:a/b:c",
            "lsb:heartbeat:x",
            "ocf:a:b:c",
        ] {
            assert!(parts(bad).is_err(), "{bad:?}");
        }
        assert_eq!(parts("ocf:heartbeat:IPaddr2"), Ok(("heartbeat", "IPaddr2")));
        let error = find(&["/nowhere/resource.d".into()], "ocf:a:b").expect_err("missing");
        assert!(error.contains("/nowhere/resource.d/a/b"), "{error}");
    }
}
