//! The protocol of fence agents: what is written to one, and what may be read out of it.
//!
//! An agent is an executable called without arguments. It reads options on its standard input, one
//! `name=value` a line up to the end of input, does one thing, and exits. Exit code 0 is success
//! and anything else is not; for `status`, 0 means on and 2 means reachable and off.
//!
//! Two habits of agents are dangerous to a reader of exit codes, so more than the code is read:
//! a shell exits 2 on a syntax error and Python exits 2 on a script it cannot open. A `status`
//! therefore reads *off* only if the agent exits 2 **and** says `Status: OFF`.
//!
//! The environment variable by which Pacemaker makes agents drop their inner timeouts is not set:
//! agents keep them (login 5 s, command 3 s, power 20 s unless configured), and so mostly end by
//! themselves with a reason to show instead of being ended at the limit.

use crate::class::Device;
use std::fmt;
use thiserror::Error;

/// What an agent is asked to do. There is no reboot among them: its success says nothing about the
/// moment between off and on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Cut the power, or do what the device does in its place.
    Off,
    /// Read the power state.
    Status,
    /// Give the power back.
    On,
    /// Can the device be reached and logged into?
    Monitor,
    /// Describe parameters and actions, in XML.
    Metadata,
}

impl Verb {
    /// The word of the protocol.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Status => "status",
            Self::On => "on",
            Self::Monitor => "monitor",
            Self::Metadata => "metadata",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One call of an agent: run it without arguments, write this, close its input.
#[derive(Clone, PartialEq, Eq)]
pub struct AgentCall {
    /// The agent, as configured: a name to look up or an absolute path.
    pub agent: String,
    /// Everything it reads. Holds passwords: not for logs.
    pub stdin: String,
}

impl fmt::Debug for AgentCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentCall")
            .field("agent", &self.agent)
            .finish_non_exhaustive()
    }
}

/// Why an agent cannot be called at all.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadCall {
    /// The host's name would not reach the agent as one value.
    #[error("host name {0:?} is empty or holds a control character")]
    Target(String),
    /// A parameter name would not reach the agent as a name, or is not for the operator to set.
    #[error("parameter name {name:?}: {why}")]
    Name {
        /// The name.
        name: String,
        /// Why it is refused.
        why: &'static str,
    },
    /// A value would not reach the agent as written, or would make its word worthless. The value
    /// is not shown: it may be a password.
    #[error("value of parameter {name:?}: {why}")]
    Value {
        /// The parameter.
        name: String,
        /// Why it is refused.
        why: &'static str,
    },
}

/// Names and values longer than this are refused, in bytes.
pub const PARAMETER_BYTES_MAX: usize = 4096;

/// Parameter names that agents take as the same, folded to one spelling.
pub(crate) fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

/// Whether this parameter may be handed to an agent as it stands.
///
/// # Errors
/// Which of the two is refused, and why.
pub fn parameter(name: &str, value: &str) -> Result<(), BadCall> {
    let bad_name = |why| {
        Err(BadCall::Name {
            name: name.to_owned(),
            why,
        })
    };
    let bad_value = |why| {
        Err(BadCall::Value {
            name: name.to_owned(),
            why,
        })
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > PARAMETER_BYTES_MAX || !name.chars().all(allowed) {
        return bad_name("letters, digits, '_', '-' and '.' are allowed");
    }
    match folded(name).as_str() {
        "action" | "option" => return bad_name("the verb is chosen per call"),
        "missing_as_off" => {
            return bad_name(
                "it makes a plug that does not exist read as off, which proves nothing",
            );
        }
        "method" if !value.eq_ignore_ascii_case("onoff") => {
            return bad_value("only onoff: a power cycle has no off state to observe");
        }
        "port" | "plug" if value.is_empty() => return bad_value("a plug must be named"),
        "nodename" if value.is_empty() => return bad_value("a name or an address is needed"),
        folded if folded.starts_with("pcmk_") || folded.starts_with("crm_") => {
            return bad_name("it belongs to another cluster manager and would be ignored");
        }
        _ => {}
    }
    if value.len() > PARAMETER_BYTES_MAX {
        return bad_value("longer than 4096 bytes");
    }
    if value.chars().any(char::is_control) {
        return bad_value("holds a line end or another control character");
    }
    if value.trim() != value {
        return bad_value("begins or ends with a space, which agents cut off");
    }
    Ok(())
}

/// What to write to the agent of `device` to make it act on, or read, the host named `target`.
///
/// # Errors
/// A name or value that would not reach the agent as one line of its own. Nothing is escaped or
/// dropped silently.
pub fn request(device: &Device, target: &str, verb: Verb) -> Result<AgentCall, BadCall> {
    if target.is_empty() || target.trim() != target || target.chars().any(char::is_control) {
        return Err(BadCall::Target(target.to_owned()));
    }
    let mut stdin = String::new();
    // An agent takes the last of two lines with one name, so ours come last.
    for (name, value) in &device.parameters {
        parameter(name, value)?;
        stdin.push_str(&format!("{name}={value}\n"));
    }
    // Some agents resolve it, and the host's own name may be in no DNS: then the device says by
    // which name or address its host is known there.
    if !device.parameters.keys().any(|n| folded(n) == "nodename") {
        stdin.push_str(&format!("nodename={target}\n"));
    }
    stdin.push_str(&format!("action={verb}\n"));
    Ok(AgentCall {
        agent: device.agent.clone(),
        stdin,
    })
}

/// How one run of an agent ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentEnd {
    /// It exited by itself.
    Exited {
        /// Its exit code.
        code: i32,
        /// What it wrote to its standard output, cut to a sensible length.
        output: String,
    },
    /// It failed, and said that the device did not let it in: a session of somebody else, a login
    /// refused. Nothing was asked of the device. It may be let in a moment later.
    NotLetIn {
        /// Its exit code.
        code: i32,
    },
    /// It was ended, with every process it started, at the time given with the call.
    TimedOut,
    /// It ended by a signal nobody here sent.
    Crashed {
        /// The signal.
        signal: i32,
    },
    /// It could not be started; nothing was done.
    NotStarted {
        /// Why, in words.
        why: String,
    },
}

impl fmt::Display for AgentEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code, .. } => write!(f, "exit {code}"),
            Self::NotLetIn { code } => write!(f, "exit {code}, not let in"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Crashed { signal } => write!(f, "ended by signal {signal}"),
            Self::NotStarted { why } => write!(f, "not started: {why}"),
        }
    }
}

/// What agents say of a device that does not let them in, in small letters.
const NOT_LET_IN: [&str; 14] = [
    "connect/login",
    "login",
    "log in",
    "logged in",
    "session",
    "too many",
    "in use",
    "busy",
    "try again",
    "temporarily",
    "unavailable",
    "connection refused",
    "unable to connect",
    "connection reset",
];

impl AgentEnd {
    /// The end of an agent that exited with this code and these words on its outputs.
    #[must_use]
    pub fn exited(code: i32, output: String, errors: &str) -> Self {
        let said = |text: &str| {
            let text = text.to_ascii_lowercase();
            NOT_LET_IN.iter().any(|words| text.contains(words))
        };
        // Two of a `status` is off, and only with the words for it.
        let failed = code != 0 && stated(&output) == Reading::Unknown;
        if failed && (said(&output) || said(errors)) {
            Self::NotLetIn { code }
        } else {
            Self::Exited { code, output }
        }
    }
}

/// What a `status` read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The device answered: on.
    On,
    /// The device answered: off.
    Off,
    /// Anything else, a contradiction between exit code and words included.
    Unknown,
}

impl Reading {
    /// Reads the end of a `status` call.
    #[must_use]
    pub fn of(end: &AgentEnd) -> Self {
        let AgentEnd::Exited { code, output } = end else {
            return Self::Unknown;
        };
        match (code, stated(output)) {
            (0, Self::On) => Self::On,
            // Some old agents say nothing when the plug is on. An on is never proof of anything.
            (0, Self::Unknown) if !output.to_ascii_lowercase().contains("off") => Self::On,
            (2, Self::Off) => Self::Off,
            _ => Self::Unknown,
        }
    }
}

/// What the words of a `status` say: the lines `Status: ON` and `Status: OFF`, all agreeing.
fn stated(output: &str) -> Reading {
    let mut seen = Reading::Unknown;
    for line in output.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        if !key.trim().eq_ignore_ascii_case("status") {
            continue;
        }
        let now = match value.trim() {
            v if v.eq_ignore_ascii_case("on") => Reading::On,
            v if v.eq_ignore_ascii_case("off") => Reading::Off,
            _ => return Reading::Unknown,
        };
        if seen != Reading::Unknown && seen != now {
            return Reading::Unknown;
        }
        seen = now;
    }
    seen
}

/// What an `off` said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Exit code 0. Not yet an observation.
    Success,
    /// Any other exit code. It may have acted all the same.
    Failure,
}

impl Said {
    /// Reads an exit code of any verb but `status`.
    #[must_use]
    pub const fn of(code: i32) -> Self {
        if code == 0 {
            Self::Success
        } else {
            Self::Failure
        }
    }
}

#[cfg(test)]
mod tests;
