//! `quorate guest add` of a resource: what its agent says of itself, before anything is protected.

use super::agent::{self, find};
use super::metadata::Metadata;
use super::registry::Registration;
use crate::agents::AgentExit;
use crate::clock::Clock;
use crate::ocf::call::{Cancel, call};
use crate::ocf::keeper::{Answer, Job};
use quorate_membership::{BootId, Token};
use quorate_recovery::guest::{Definition, GuestId, GuestSpec};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long `meta-data` may take.
const META_DATA: Duration = Duration::from_secs(10);
/// So much of what an agent printed instead of a description is shown, in characters.
const SHOWN: usize = 200;

/// Asks the agent of a resource for its description, on this host and with `program` (the quorate
/// program) as its keeper: what the operator should know.
///
/// # Errors
/// There is no such agent here, it prints no description, or the resource lacks a parameter: what
/// the agent said.
pub fn judge(program: &Path, dirs: &[PathBuf], spec: &GuestSpec) -> Result<Vec<String>, String> {
    let Definition::Ocf {
        agent, parameters, ..
    } = &spec.definition
    else {
        return Ok(Vec::new());
    };
    let found = find(dirs, agent)?;
    let bare = Registration {
        guest: GuestId(0),
        epoch: Token::NONE,
        boot: BootId(0),
        draw: 0,
        name: spec.name.clone(),
        host: String::new(),
        agent: agent.clone(),
        program: found.program,
        root: found.root,
        temporary: std::env::temp_dir(),
        // The agent may look at its parameters even here: none, as Pacemaker does.
        parameters: BTreeMap::new(),
        every_ms: 0,
        start_ms: 0,
        stop_ms: 0,
        monitor_ms: 0,
        kill_ms: None,
    };
    let until = Clock.now() + META_DATA;
    let job = Job::Run {
        of: Box::new(bare),
        action: "meta-data".to_owned(),
        until,
        every: Duration::ZERO,
        hold: None,
    };
    let exit = match call(program, &[], &job, until, &Cancel::default()) {
        Answer::Ran(exit) => exit,
        Answer::Stopped(_) => AgentExit::not_started("its keeper answered something else"),
    };
    agent::done("meta-data", &exit).map_err(|why| format!("agent {agent}: {why}"))?;
    let metadata = Metadata::read(&exit.stdout).map_err(|why| {
        let printed: String = exit.stdout.chars().take(SHOWN).collect();
        format!(
            "agent {agent}: what its meta-data prints is no description ({why}); it begins {printed:?}"
        )
    })?;
    let missing = metadata.missing(parameters);
    if !missing.is_empty() {
        return Err(format!(
            "agent {agent} needs the parameter {}",
            missing.join(" and ")
        ));
    }
    Ok(metadata.strange(agent, parameters))
}
