//! What runs guests on this host: every kind the build and the configuration have.

use super::DaemonError;
use super::alarms::Look;
use super::host::Ask;
use crate::config::Config;
use crate::guardian::records::RunDir;
use crate::hypervisor::embedded::{Embedded, Settings};
use crate::hypervisor::kinds::{Kind, Kinds};
use crate::ocf::{self, Ocf};
use quorate_membership::{BootId, ClusterId};
use quorate_recovery::contract::Fact;
use quorate_recovery::kinds::GuestKind;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A process tree is created in moments.
const COMMAND: Duration = Duration::from_secs(10);
/// An agent says what it is, judges its parameters and looks, each in its own time.
const RESOURCE: Duration = Duration::from_secs(60);
/// libvirt looks at its emulators when it is first asked, which takes up to half a minute on a
/// busy host; QEMU gathers the guest's memory, which takes minutes if it is much. A libvirt that
/// hangs is known by then: it is asked for something small before.
#[cfg(feature = "libvirt")]
const DOMAIN: Duration = quorate_recovery::contract::CREATION;

/// What every kind is set up with.
pub(super) struct Place<'a> {
    pub(super) config: &'a Config,
    /// This program.
    pub(super) exe: &'a Path,
    pub(super) run: &'a RunDir,
    pub(super) boot: BootId,
    /// Where facts are told.
    #[cfg_attr(
        not(feature = "libvirt"),
        expect(dead_code, reason = "machines are told of")
    )]
    pub(super) facts: mpsc::Sender<Fact>,
    /// K: how long after its lease this host may take to end its guests.
    pub(super) kill: Duration,
    #[cfg_attr(
        not(feature = "libvirt"),
        expect(dead_code, reason = "domains are tagged with it")
    )]
    pub(super) cluster: ClusterId,
}

/// What runs guests here.
pub(super) struct Guests {
    /// Every kind.
    pub(super) kinds: Kinds,
    /// What is seen here that stands against the rules.
    pub(super) looks: mpsc::Receiver<Look>,
    /// Who knows whether something here answers.
    pub(super) asks: Vec<Ask>,
    /// Those who look.
    pub(super) tasks: Vec<JoinHandle<()>>,
}

/// The kinds of guests of this host. The run directory is taken over; nobody is waited for.
///
/// # Errors
/// The run directory cannot be read or written.
pub(super) fn take_over(place: &Place<'_>) -> Result<Guests, DaemonError> {
    let (look, looks) = mpsc::channel(1);
    let (mut asks, mut tasks) = (Vec::new(), Vec::new());
    // The most general first: it finds whatever carries the marks.
    let mut kinds = vec![commands(place)?];
    kinds.extend(domains(place, look, &mut asks, &mut tasks)?);
    kinds.push(resources(place)?);
    Ok(Guests {
        kinds: Kinds::new(kinds),
        looks,
        asks,
        tasks,
    })
}

fn commands(place: &Place<'_>) -> Result<Kind, DaemonError> {
    let driver = Embedded::new(Settings {
        program: place.exe.to_owned(),
        run: place.run.clone(),
        boot: place.boot,
        host: place.config.name.clone(),
        logs: None,
    });
    let driver = driver.map_err(DaemonError::at(place.config.run_dir.display()))?;
    Ok(Kind::new(GuestKind::Command, COMMAND, driver))
}

fn resources(place: &Place<'_>) -> Result<Kind, DaemonError> {
    let settings = &place.config.ocf;
    let driver = Ocf::new(ocf::Settings {
        program: place.exe.to_owned(),
        run: place.run.clone(),
        boot: place.boot,
        host: place.config.name.clone(),
        dirs: settings.dirs.clone(),
        kill: settings.reset.then_some(place.kill),
    });
    let driver = driver.map_err(DaemonError::at(place.config.run_dir.display()))?;
    Ok(Kind::new(GuestKind::Ocf, RESOURCE, driver))
}

#[cfg(feature = "libvirt")]
fn domains(
    place: &Place<'_>,
    look: mpsc::Sender<Look>,
    asks: &mut Vec<Ask>,
    tasks: &mut Vec<JoinHandle<()>>,
) -> Result<Option<Kind>, DaemonError> {
    let Some(settings) = &place.config.libvirt else {
        return Ok(None);
    };
    let driver = crate::libvirt::Libvirt::new(crate::libvirt::Settings {
        uri: settings.uri.clone(),
        run: place.run.clone(),
        boot: place.boot,
        host: place.config.name.clone(),
        // Its id, for two clusters may have one name.
        cluster: place.cluster.to_string(),
        evidence: Some(place.config.state_dir.join("evidence")),
    });
    let driver = driver.map_err(DaemonError::at(place.config.run_dir.display()))?;
    let ask = driver.clone();
    asks.push(Ask {
        source: "libvirt".to_owned(),
        ask: Box::new(move || ask.answering()),
    });
    let round = super::looks::Round {
        uri: settings.uri.clone(),
        cluster: place.cluster.to_string(),
        shared: settings.shared.clone(),
        facts: place.facts.clone(),
    };
    tasks.push(tokio::spawn(round.run(driver.clone(), look)));
    Ok(Some(Kind::new(GuestKind::Domain, DOMAIN, driver)))
}

#[cfg(not(feature = "libvirt"))]
fn domains(
    _: &Place<'_>,
    _: mpsc::Sender<Look>,
    _: &mut Vec<Ask>,
    _: &mut Vec<JoinHandle<()>>,
) -> Result<Option<Kind>, DaemonError> {
    Ok(None)
}
