//! Before a resource is started: what its agent says of itself, whether it is configured, and that
//! nothing of it runs.

use super::agent::{self, Seen, find};
use super::call::Cancel;
use super::driver::Inner;
use super::metadata::Metadata;
use super::registry::{self, Life, Registration};
use crate::agents::AgentEnding;
use crate::clock::Clock;
use crate::hypervisor::lock;
use quorate_membership::Time;
use quorate_recovery::guest::{Definition, GuestSpec};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// How long `meta-data` may take.
const META_DATA: Duration = Duration::from_secs(10);
/// How long what is under way on a resource may take to give way.
const GIVE_WAY: Duration = Duration::from_secs(2);

/// An agent's file: a later one of the same name is another.
pub(super) type Version = (PathBuf, u64, i64, u64);

impl Inner {
    /// What the operator should know of a resource.
    pub(super) fn notes(&self, of: &Registration, metadata: &Metadata) -> Vec<String> {
        let mut notes = metadata.strange(&of.agent, &of.parameters);
        let stop = Duration::from_millis(of.stop_ms);
        notes.extend(match self.settings.kill {
            Some(kill) if stop > kill => Some(format!(
                "{}: its stop may take {stop:?}; a host whose lease is over is reset if it is not \
                 seen stopped within {kill:?}",
                of.agent
            )),
            Some(_) => None,
            None => Some(format!(
                "{}: a host that cannot stop it at lease end is not reset, and it may then run \
                 twice",
                of.agent
            )),
        });
        notes
    }

    /// The registration that a description leads to on this host, and what the agent says of
    /// itself.
    pub(super) fn described(
        &self,
        life: Life,
        spec: &GuestSpec,
        give_up: Time,
    ) -> Result<(Registration, Metadata), String> {
        let Definition::Ocf {
            agent,
            parameters,
            every_ms,
        } = &spec.definition
        else {
            return Err("resource agents run resources, and this guest is none".into());
        };
        let found = find(&self.settings.dirs, agent)?;
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let mut of = Registration {
            guest: life.0,
            epoch: life.1,
            boot: self.settings.boot,
            draw: crate::hypervisor::embedded::draw()?,
            name: spec.name.clone(),
            host: self.settings.host.clone(),
            agent: agent.clone(),
            program: found.program,
            root: found.root,
            temporary: self.settings.run.path().join("ocf"),
            parameters: parameters.clone(),
            every_ms: *every_ms,
            start_ms: 0,
            stop_ms: 0,
            monitor_ms: 0,
            kill_ms: self.settings.kill.map(ms),
        };
        let metadata = self.metadata(&of, give_up)?;
        of.start_ms = ms(metadata.timeout("start"));
        of.stop_ms = ms(metadata.timeout("stop"));
        of.monitor_ms = ms(metadata.timeout("monitor"));
        let missing = metadata.missing(&of.parameters);
        if !missing.is_empty() {
            return Err(format!(
                "agent {agent} needs the parameter {}",
                missing.join(" and ")
            ));
        }
        Ok((of, metadata))
    }

    fn metadata(&self, of: &Registration, give_up: Time) -> Result<Metadata, String> {
        let named = |e: io::Error| format!("{}: {e}", of.program.display());
        let file = fs::metadata(&of.program).map_err(named)?;
        let version = (of.program.clone(), file.ino(), file.mtime(), file.size());
        if let Some(known) = lock(&self.metadata).get(&version) {
            return Ok(known.clone());
        }
        let limit = META_DATA.min(give_up.since(Clock.now()));
        // The agent may look at its parameters even here: none, as Pacemaker does.
        let bare = Registration {
            parameters: BTreeMap::new(),
            ..of.clone()
        };
        let cancel = Cancel::default();
        let exit = self.look(&bare, "meta-data", limit, Duration::ZERO, false, &cancel);
        agent::done("meta-data", &exit).map_err(|why| format!("{}: {why}", of.agent))?;
        let metadata = Metadata::read(&exit.stdout)
            .map_err(|why| format!("{}: meta-data: {why}", of.agent))?;
        let mut known = lock(&self.metadata);
        // Older versions of it are not needed any more.
        known.retain(|(program, ..), _| *program != of.program);
        known.insert(version, metadata.clone());
        Ok(metadata)
    }

    /// Whether it is configured, and that nothing of it runs here. What somebody else started is
    /// stopped: the log has given the resource to this host, so what runs here is to run under
    /// its lease or not at all. Before its first start nothing of this life can be left behind.
    pub(super) fn check(&self, of: &Registration, cancel: &Cancel) -> Result<(), String> {
        let limit = Duration::from_millis(of.monitor_ms);
        let look = |action| self.look(of, action, limit, Duration::ZERO, true, cancel);
        let exit = look("validate-all");
        if !matches!(exit.ending, AgentEnding::Code(0 | 3)) {
            return Err(agent::words("validate-all", &exit));
        }
        let path = self.path(of);
        match agent::seen(&look("monitor")) {
            Seen::Stopped => return Ok(()),
            Seen::Running => {
                tracing::warn!(
                    "{}: it runs here already, started by somebody else; it is stopped first",
                    of.name
                );
                // From here on it is ours to stop.
                let until = Clock.now() + GIVE_WAY;
                let held = registry::hold(&path, until, &|| cancel.cancelled())?;
                let held = held.ok_or("it is registered no more")?;
                registry::activate(&held, &path).map_err(|e| e.to_string())?;
            }
            Seen::Failed(why) | Seen::Unknown(why) if cancel.cancelled() => return Err(why),
            Seen::Failed(why) | Seen::Unknown(why) => {
                // Remains of an earlier run may be what is in the way.
                let limit = Duration::from_millis(of.stop_ms);
                let exit = self.look(of, "stop", limit, Duration::ZERO, true, cancel);
                agent::done("stop", &exit).map_err(|stop| format!("{why}; {stop}"))?;
                return match agent::seen(&look("monitor")) {
                    Seen::Stopped => Ok(()),
                    _ => Err(why),
                };
            }
        }
        self.stop(of, cancel)
    }
}
