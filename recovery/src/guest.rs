//! What is protected, as the operator describes it.

use crate::domain::Domain;
pub use crate::policy::{OnHang, OnShutdown, Policy, Probe};
use quorate_membership::{Token, entry::Capacity};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A guest's name for machines: the token of the entry that added it, so it is never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GuestId(pub u64);

impl fmt::Display for GuestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest {}", Token(self.0))
    }
}

/// The operator's description of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestSpec {
    /// Name for people, unique in the cluster: 1 to 64 of `a-z A-Z 0-9 . _ -`; a domain's guest has
    /// its domain's name, which may be longer and of other characters (`domain_name`).
    pub name: String,
    /// What runs.
    pub definition: Definition,
    /// What it takes on its host.
    #[serde(default)]
    pub needs: Needs,
    /// Higher is placed and started first.
    #[serde(default)]
    pub priority: i32,
    /// What is done when it fails.
    #[serde(default)]
    pub policy: Policy,
    /// A command that tells whether what it is for works.
    #[serde(default)]
    pub probe: Option<Probe>,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Definition {
    /// A process tree of the embedded hypervisor.
    Command {
        /// Program and arguments; no shell.
        argv: Vec<String>,
        /// Added to a clean environment.
        #[serde(default)]
        env: BTreeMap<String, String>,
        /// Files and devices that it writes to: beside each stands a lock.
        #[serde(default)]
        images: Vec<String>,
    },
    /// A virtual machine of libvirt.
    Domain {
        /// Its description, as libvirt's own tools write it.
        xml: String,
    },
    /// What an OCF resource agent manages: an address, a file system, a service.
    Ocf {
        /// The agent, as `ocf:heartbeat:IPaddr2`.
        agent: String,
        /// Its parameters; it gets each as `OCF_RESKEY_name`.
        #[serde(default)]
        parameters: BTreeMap<String, String>,
        /// Between two runs of its `monitor`, in milliseconds.
        #[serde(default = "monitored")]
        every_ms: u64,
    },
}

fn monitored() -> u64 {
    10_000
}

/// What a guest takes on its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Needs {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
}

impl Default for Needs {
    fn default() -> Needs {
        Needs {
            vcpus: 1,
            memory_mib: 128,
        }
    }
}

impl Needs {
    /// The same as a capacity, for sums.
    #[must_use]
    pub fn capacity(self) -> Capacity {
        Capacity {
            vcpus: self.vcpus,
            memory_mib: self.memory_mib,
        }
    }
}

/// What the operator wants of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// It runs somewhere.
    Running,
    /// It runs nowhere.
    Stopped,
}

/// Longest name of a domain, in bytes: libvirt makes file names of it.
const DOMAIN_NAME_MAX: usize = 200;

/// Refuses a domain's name that libvirt would take, but that no shell, table or file name can hold
/// safely.
fn domain_name(name: &str) -> Result<(), String> {
    let fine = |c: char| c.is_alphanumeric() || " ._-+=@#%,:()[]{}~^".contains(c);
    let ends = name.starts_with(['-', ' ']) || name.ends_with(' ') || name.contains("  ");
    if name.is_empty() || name.len() > DOMAIN_NAME_MAX || ends || !name.chars().all(fine) {
        return Err(format!(
            "name {name:?}: up to {DOMAIN_NAME_MAX} bytes of letters and digits of any script, \
             single spaces within and . _ - + = @ # % , : ( ) [ ] {{ }} ~ ^ are allowed, the first \
             no dash; `virsh domrename` gives a domain that is off another name"
        ));
    }
    Ok(())
}

/// The most images of one guest.
const IMAGES: usize = 64;

fn check_images(images: &[String]) -> Result<(), String> {
    if images.len() > IMAGES {
        return Err(format!(
            "definition.command.images: at most {IMAGES} are allowed"
        ));
    }
    for (at, path) in images.iter().enumerate() {
        let strange = path.contains('\0') || path.split('/').any(|part| part == "..");
        if !path.starts_with('/') || path.len() > 4096 || path.ends_with('/') || strange {
            return Err(format!(
                "definition.command.images[{at}] is {path:?}: an absolute path to a file or device \
                 without \"..\" is expected"
            ));
        }
    }
    Ok(())
}

impl GuestSpec {
    /// The bytes it takes in the state, nearly.
    #[must_use]
    pub fn size(&self) -> usize {
        let pairs = |m: &BTreeMap<String, String>| -> usize {
            m.iter().map(|(k, v)| k.len() + v.len() + 8).sum()
        };
        let words = |w: &[String]| -> usize { w.iter().map(|w| w.len() + 4).sum() };
        let definition = match &self.definition {
            Definition::Command { argv, env, images } => words(argv) + pairs(env) + words(images),
            Definition::Domain { xml, .. } => xml.len(),
            Definition::Ocf {
                agent, parameters, ..
            } => agent.len() + pairs(parameters),
        };
        let probe = self.probe.as_ref().map_or(0, |p| words(&p.argv) + 32);
        self.name.len() + definition + probe + 128
    }

    /// Refuses a description no host could run.
    ///
    /// # Errors
    /// Key, what was found, what is allowed.
    pub fn check(&self) -> Result<(), String> {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if matches!(self.definition, Definition::Domain { .. }) {
            domain_name(&self.name)?;
        } else if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(fine) {
            return Err(format!(
                "name {:?}: 1 to 64 characters of a-z A-Z 0-9 . _ - are allowed",
                self.name
            ));
        }
        match &self.definition {
            Definition::Command { argv, env, images } => {
                check_images(images)?;
                if argv.first().is_none_or(String::is_empty) {
                    return Err(
                        "definition.command.argv is empty: it needs at least a program".into(),
                    );
                }
                let length: usize = argv.iter().map(String::len).sum();
                if length > 65_536 || argv.len() > 1024 {
                    return Err(
                        "definition.command.argv is longer than 64 KiB, or than 1024 words".into(),
                    );
                }
                let length: usize = env.iter().map(|(k, v)| k.len() + v.len()).sum();
                if length > 32_768 || env.len() > 1024 {
                    return Err(
                        "definition.command.env is longer than 32 KiB, or than 1024 names".into(),
                    );
                }
            }
            Definition::Domain { xml } => {
                let domain =
                    Domain::read(xml).map_err(|why| format!("definition.domain.xml: {why}"))?;
                if domain.name != self.name {
                    return Err(format!(
                        "definition.domain.xml: its name is {:?}, the guest's is {:?}: they must be the same",
                        domain.name, self.name
                    ));
                }
            }
            Definition::Ocf {
                agent,
                parameters,
                every_ms,
            } => {
                let parts: Vec<&str> = agent.split(':').collect();
                let plain = |p: &&str| !p.is_empty() && !p.starts_with('.') && p.chars().all(fine);
                if parts.len() != 3 || parts[0] != "ocf" || !parts[1..].iter().all(plain) {
                    return Err(format!(
                        "definition.ocf.agent is {agent:?}: ocf:PROVIDER:TYPE is expected, as ocf:heartbeat:IPaddr2"
                    ));
                }
                // Each becomes a variable of an environment.
                let bad = |(k, v): &(&String, &String)| {
                    k.is_empty() || k.len() > 128 || !k.chars().all(fine) || v.contains('\0')
                };
                if let Some((name, _)) = parameters.iter().find(bad) {
                    return Err(format!(
                        "definition.ocf.parameters.{name:?}: names of 1 to 128 characters of a-z A-Z 0-9 . _ - and values without zero bytes are allowed"
                    ));
                }
                let length: usize = parameters.iter().map(|(k, v)| k.len() + v.len()).sum();
                if length > 32_768 {
                    return Err("definition.ocf.parameters are longer than 32 KiB".into());
                }
                if *every_ms < 1000 {
                    return Err("definition.ocf.every_ms must be at least 1000".into());
                }
            }
        }
        if !matches!(self.definition, Definition::Ocf { .. })
            && (self.needs.vcpus == 0 || self.needs.memory_mib == 0)
        {
            return Err("needs: vcpus and memory_mib must be at least 1".into());
        }
        self.policy.check()?;
        self.probe.as_ref().map_or(Ok(()), Probe::check)
    }
}
