//! `quorate guest add`: from a description, a domain of libvirt, or a domain's XML.

use super::args::{AddArgs, SocketArg};
use super::{BAD_INPUT, Failure, PATIENCE, change, say};
use crate::api::{self, ApiRequest, Grounds};
use quorate_recovery::contract::Request;
use quorate_recovery::guest::{Definition, GuestSpec, Needs, Policy, Probe};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::process::ExitCode;

/// A guest that may be added, and what the operator should know of it.
struct Judged {
    spec: GuestSpec,
    notes: Vec<String>,
}

/// What `--with` says instead of the description.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Changes {
    priority: Option<i32>,
    #[serde(default)]
    needs: ChangedNeeds,
    policy: Option<Policy>,
    probe: Option<Probe>,
}

/// What is not said stays.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangedNeeds {
    vcpus: Option<u32>,
    memory_mib: Option<u64>,
}

impl Changes {
    fn make(self, spec: &mut GuestSpec) {
        let Needs { vcpus, memory_mib } = spec.needs;
        spec.needs = Needs {
            vcpus: self.needs.vcpus.unwrap_or(vcpus),
            memory_mib: self.needs.memory_mib.unwrap_or(memory_mib),
        };
        spec.priority = self.priority.unwrap_or(spec.priority);
        if let Some(policy) = self.policy {
            spec.policy = policy;
        }
        if self.probe.is_some() {
            spec.probe = self.probe;
        }
    }
}

/// Whether the daemon knows a guest of this name; false with a note if none answers.
fn exists(args: &AddArgs, name: &str) -> Result<bool, String> {
    match api::ask(&args.socket.socket, &ApiRequest::Grounds, PATIENCE) {
        Ok(grounds) => {
            let grounds: Grounds = serde_json::from_value(grounds).map_err(|e| e.to_string())?;
            Ok(grounds.guests.iter().any(|g| g.name == name))
        }
        Err(e) => {
            eprintln!("note: not compared with the guests that are protected already: {e}");
            Ok(false)
        }
    }
}

pub(super) fn add(args: &AddArgs) -> Result<ExitCode, Failure> {
    let changes: Changes = match &args.with {
        Some(file) => read(file)?,
        None => Changes::default(),
    };
    let mut judged = judge(args)?;
    changes.make(&mut judged.spec);
    if let Some(priority) = args.priority {
        judged.spec.priority = priority;
    }
    judged.spec.check()?;
    for note in &judged.notes {
        eprintln!("note: {note}");
    }
    if args.dry_run {
        if exists(args, &judged.spec.name)? {
            let name = &judged.spec.name;
            return Err(format!("a guest named {name:?} exists: it would be refused").into());
        }
        let text = toml::to_string_pretty(&judged.spec).map_err(|e| e.to_string())?;
        say(text.trim_end());
        eprintln!("nothing was changed: this is what would be added");
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(why) = mock(&judged.spec) {
        eprintln!("quorate: {why}");
        return Ok(ExitCode::from(BAD_INPUT));
    }
    change(&args.socket.socket, Request::AddGuest(judged.spec))
}

/// Takes over what a guest is now.
pub(super) fn adopt(
    socket: &SocketArg,
    name: &str,
    xml: Option<&Path>,
    connect: Option<&str>,
) -> Result<ExitCode, Failure> {
    let (xml, notes) = adopted(socket, name, xml, connect)?;
    for note in notes {
        eprintln!("note: {note}");
    }
    let name = name.to_owned();
    change(&socket.socket, Request::AdoptGuest { name, xml })
}

/// Reads a TOML file; every fault has its place.
fn read<T: DeserializeOwned>(file: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    toml::from_str(&text).map_err(|e| {
        let (line, column) = e.span().map_or((1, 1), |span| {
            let before = &text[..span.start.min(text.len())];
            let line = before.matches('\n').count() + 1;
            (
                line,
                before.len() - before.rfind('\n').map_or(0, |n| n + 1) + 1,
            )
        });
        format!("{}:{line}:{column}: {}", file.display(), e.message())
    })
}

fn judge(args: &AddArgs) -> Result<Judged, String> {
    if let Some(file) = &args.what.file {
        let spec: GuestSpec = read(file)?;
        let named = |why: String| format!("{}: {why}", file.display());
        spec.check().map_err(named)?;
        let notes = match &spec.definition {
            Definition::Domain { .. } => described(args, &spec).map_err(named)?,
            Definition::Ocf { .. } => resource(args, &spec).map_err(named)?,
            Definition::Command { .. } => Vec::new(),
        };
        return Ok(Judged { spec, notes });
    }
    domain(args)
}

/// Asks a resource's agent for its description, if this host runs resources.
fn resource(args: &AddArgs, spec: &GuestSpec) -> Result<Vec<String>, String> {
    let Some(dirs) = grounds(&args.socket)?.agents else {
        return Ok(vec![
            "its agent was not looked at: this host runs no resources".to_owned(),
        ]);
    };
    let program = std::env::current_exe().map_err(|e| format!("this program: {e}"))?;
    crate::ocf::add::judge(&program, &dirs, spec)
}

/// What the daemon judges a new guest by: no file of root's is needed.
fn grounds(socket: &SocketArg) -> Result<Grounds, String> {
    let answer = api::ask(&socket.socket, &ApiRequest::Grounds, PATIENCE);
    let answer = answer.map_err(|e| e.to_string())?;
    serde_json::from_value(answer)
        .map_err(|e| format!("the daemon's answer is not understood: {e}"))
}

#[cfg(feature = "libvirt")]
mod real {
    use super::{AddArgs, Definition, GuestSpec, Judged, Path, SocketArg, grounds};
    use crate::api::Grounds;
    use crate::libvirt::add::{Rules, from_domain, from_file, from_running, from_spec};
    use quorate_recovery::domain::Domain;

    /// What the operator named, what is judged by, and the libvirt to ask.
    fn rules(socket: &SocketArg, connect: Option<&str>) -> Result<(Option<String>, Rules), String> {
        let Grounds {
            libvirt, guests, ..
        } = grounds(socket)?;
        let (uri, shared) = libvirt.map_or((None, Vec::new()), |l| (Some(l.uri), l.shared));
        let rules = Rules {
            shared,
            protected: guests,
        };
        Ok((connect.map(str::to_owned).or(uri), rules))
    }

    const UNASKED: &str = "no libvirt was asked whether it runs this domain or would start it: \
                           this host's configuration has no [libvirt]; --connect names one";

    pub(super) fn described(args: &AddArgs, spec: &GuestSpec) -> Result<Vec<String>, String> {
        let (uri, rules) = rules(&args.socket, args.connect.as_deref())?;
        let mut notes = from_spec(spec, uri.as_deref(), &rules)?;
        if uri.is_none() {
            notes.push(UNASKED.to_owned());
        }
        Ok(notes)
    }

    pub(super) fn domain(args: &AddArgs) -> Result<Judged, String> {
        let (uri, rules) = rules(&args.socket, args.connect.as_deref())?;
        let mut ready = match (&args.what.domain, &args.what.xml) {
            (Some(name), _) => {
                let uri = uri.ok_or(
                    "this host's configuration has no [libvirt]: --connect URI names the libvirt \
                     that knows the domain, as qemu:///system",
                )?;
                from_domain(&uri, name, &rules)?
            }
            (None, Some(file)) => {
                let mut ready = from_file(file, uri.as_deref(), &rules)?;
                if uri.is_none() {
                    ready.notes.push(UNASKED.to_owned());
                }
                ready
            }
            (None, None) => return Err("no guest is named".into()),
        };
        ready.notes.sort();
        ready.notes.dedup();
        Ok(Judged {
            spec: ready.spec,
            notes: ready.notes,
        })
    }

    /// The description that a guest is to have from now on, and what should be known of it.
    pub(super) fn adopted(
        socket: &SocketArg,
        name: &str,
        xml: Option<&Path>,
        connect: Option<&str>,
    ) -> Result<(String, Vec<String>), String> {
        let (uri, mut rules) = rules(socket, connect)?;
        let before = rules.protected.len();
        rules.protected.retain(|g| g.name != name);
        if rules.protected.len() == before {
            return Err(format!("no guest is named {name:?}"));
        }
        let ready = match (xml, uri) {
            // What libvirt has of it is the very guest.
            (Some(file), _) => from_file(file, None, &rules)?,
            (None, Some(uri)) => from_running(&uri, name, &rules)?,
            (None, None) => {
                return Err(
                    "this host's configuration has no [libvirt]: --connect or --xml".into(),
                );
            }
        };
        if ready.spec.name != name {
            return Err(format!(
                "the description is of {:?}: a guest keeps its name",
                ready.spec.name
            ));
        }
        match ready.spec.definition {
            Definition::Domain { xml } => Ok((xml, ready.notes)),
            _ => Err("the guest is no virtual machine".into()),
        }
    }

    /// Why a domain can run nowhere.
    pub(super) fn mock(spec: &GuestSpec) -> Option<String> {
        let Definition::Domain { xml } = &spec.definition else {
            return None;
        };
        let mock = Domain::read(xml).is_ok_and(|d| d.kind == "test");
        mock.then(|| {
            format!(
                "domain {}: its type is libvirt's mock hypervisor, which runs nothing",
                spec.name
            )
        })
    }
}

#[cfg(not(feature = "libvirt"))]
mod real {
    use super::{AddArgs, GuestSpec, Judged, Path, SocketArg};

    const NONE: &str = "this build has no libvirt; build with --features libvirt";

    pub(super) fn described(_: &AddArgs, _: &GuestSpec) -> Result<Vec<String>, String> {
        Err(format!("definition.domain: {NONE}"))
    }

    pub(super) fn domain(_: &AddArgs) -> Result<Judged, String> {
        Err(NONE.into())
    }

    pub(super) fn adopted(
        _: &SocketArg,
        _: &str,
        _: Option<&Path>,
        _: Option<&str>,
    ) -> Result<(String, Vec<String>), String> {
        Err(NONE.into())
    }

    pub(super) fn mock(_: &GuestSpec) -> Option<String> {
        None
    }
}

use real::{adopted, described, domain, mock};
