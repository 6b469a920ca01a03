//! How fast a guest's failures are noticed, and what is not taken for one.
//!
//! The moments are those at which the lab heard of it: an event of the daemon, a process that
//! appeared, a line on the guest's console.

use super::cases::Case;
use super::lab::Lab;
use super::site::HOSTS;
use quorate::demo::DemoError;
use quorate::demo::record::now;
use quorate::demo::watch::Event;
use std::time::Duration;

/// All of them, in the order they are played.
pub const NUMBERS: [Case; 7] = [
    Case {
        name: "killed",
        text: "QEMU is killed",
        fresh: true,
        play: killed,
    },
    Case {
        name: "panic",
        text: "the guest's kernel panics",
        fresh: false,
        play: panics,
    },
    Case {
        name: "still",
        text: "a frozen file system, a suspended guest, a stopped agent: 60 s each",
        fresh: false,
        play: still,
    },
    Case {
        name: "blind",
        text: "libvirt is killed on one host and stopped on another: 60 s",
        fresh: false,
        play: blind,
    },
    Case {
        name: "busy",
        text: "two busy loops on every core: 60 s",
        fresh: false,
        play: busy,
    },
    Case {
        name: "hang-agent",
        text: "the guest's kernel is dead, it has an agent and no panic device",
        fresh: false,
        play: hang_agent,
    },
    Case {
        name: "hang-bare",
        text: "the guest's kernel is dead, nothing in it helps",
        fresh: false,
        play: hang_bare,
    },
];

/// How long what is no failure is kept up.
const KEPT_UP: Duration = Duration::from_secs(60);
/// A guest is judged once it was seen to live for so long.
const KNOWN: f64 = 120.0;

/// The guest with everything that helps; with an agent alone; with nothing.
const HELPED: &str = "g1";
const AGENT: &str = "g2";
const BARE: &str = "g3";

fn killed(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    let before = lab.runs(HELPED)?;
    let named = format!("guest={HELPED},");
    let ours = |lab: &Lab<'_>| -> Result<Option<u32>, String> {
        let all = lab.site.emulators(&before.host)?;
        let mut ours = all.iter().filter(|(_, line)| line.contains(&named));
        Ok(ours.next().map(|(pid, _)| *pid))
    };
    let pid = ours(lab)?.ok_or(format!("{HELPED} has no process on {}", before.host))?;
    lab.begin(
        "killed",
        &format!("{HELPED}'s QEMU on {} is killed", before.host),
    );
    super::site::kill(pid)?;
    let appeared = lab.quickly("another QEMU", || match ours(lab)? {
        Some(new) if new != pid => Ok(now()),
        other => Err(format!("{other:?}")),
    })?;
    // That it is gone is told first, how it ended when libvirt has said so or was given the time.
    let (at, event) = lab.event("its end to be told", "", |e| {
        about(e, "ended", HELPED)
            || (about(e, "health", HELPED) && e.text.contains("its process is gone"))
    })?;
    lab.step("noticed", at, &event.text);
    lab.step("restart under way", appeared, "another QEMU is there");
    back(lab, HELPED, &before.start)
}

fn panics(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    let before = lab.runs(HELPED)?;
    let from = lab.console(HELPED)?.len();
    lab.begin("panic", &format!("{HELPED} on {} panics", before.host));
    lab.tell_guest(HELPED, "panic")?;
    let at = lab.quickly("the panic", || {
        let said = lab.console(HELPED)?;
        let new = String::from_utf8_lossy(said.get(from..).unwrap_or_default()).into_owned();
        new.contains("Kernel panic")
            .then(now)
            .ok_or("not yet".into())
    })?;
    lab.mark_at(at, "its console says so");
    restart(lab, HELPED, "panic")?;
    back(lab, HELPED, &before.start)
}

fn still(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    for guest in [HELPED, AGENT, BARE] {
        known(lab, guest)?;
    }
    let host = |lab: &Lab<'_>, guest: &str| {
        lab.last(guest)
            .map(|r| r.map(|r| r.host).unwrap_or_default())
    };
    let (frozen, suspended) = (host(lab, HELPED)?, host(lab, BARE)?);
    let before = lab.starts()?;
    lab.begin(
        "still",
        &format!(
            "{HELPED}'s file systems are frozen, {AGENT}'s agent is stopped, {BARE} is suspended"
        ),
    );
    lab.site.virsh(&frozen, &["domfsfreeze", HELPED])?;
    lab.tell_guest(HELPED, &format!("quiet {}", KEPT_UP.as_secs()))?;
    lab.tell_guest(AGENT, "stop-agent")?;
    lab.site.virsh(&suspended, &["suspend", BARE])?;
    lab.pass(KEPT_UP)?;
    lab.site.virsh(&frozen, &["domfsthaw", HELPED])?;
    lab.tell_guest(AGENT, "go-on-agent")?;
    lab.site.virsh(&suspended, &["resume", BARE])?;
    untouched(lab, &before, "frozen, suspended, agent stopped")
}

fn blind(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    let before = lab.starts()?;
    let hosts = [HELPED, AGENT].map(|g| lab.last(g).map(|r| r.map(|r| r.host).unwrap_or_default()));
    let [away, stopped] = hosts;
    let (away, stopped) = (away?, stopped?);
    // Both on one host: then the other one's libvirt, which has nothing to do, is stopped.
    let other = HOSTS.iter().find(|h| **h != away).map(|h| (*h).to_owned());
    let stopped = if stopped == away {
        other.unwrap_or(stopped)
    } else {
        stopped
    };
    lab.begin(
        "blind",
        &format!("libvirt of {away} is killed and stays away, that of {stopped} is stopped"),
    );
    lab.site.run(&away, &["touch", "/run/no-libvirtd"])?;
    lab.site.signal(&away, "libvirtd", "KILL")?;
    lab.site.signal(&stopped, "libvirtd", "STOP")?;
    lab.pass(KEPT_UP)?;
    lab.site.run(&away, &["rm", "/run/no-libvirtd"])?;
    lab.site.signal(&stopped, "libvirtd", "CONT")?;
    for host in [&away, &stopped] {
        lab.libvirt_answers(host)?;
    }
    untouched(lab, &before, "libvirt killed, libvirt stopped")
}

fn busy(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    let before = lab.starts()?;
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    lab.begin("busy", &format!("two busy loops on each of {cores} cores"));
    let mut loops = Vec::new();
    for _ in 0..2 * cores {
        let mut command = lab.site.beside("sh");
        let child = command.args(["-c", "while :; do :; done"]).spawn();
        loops.push(child.map_err(|e| e.to_string())?);
    }
    let passed = lab.pass(KEPT_UP);
    for mut child in loops {
        super::site::end_group(&mut child, "a busy loop")?;
    }
    passed?;
    untouched(lab, &before, "starved of CPU")
}

fn hang_agent(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    hangs(lab, "hang-agent", AGENT)
}

fn hang_bare(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    hangs(lab, "hang-bare", BARE)
}

fn hangs(lab: &mut Lab<'_>, case: &str, guest: &str) -> Result<(), DemoError> {
    let before = known(lab, guest)?;
    let from = lab.console(guest)?.len();
    lab.begin(
        case,
        &format!("the kernel of {guest} on {} dies", before.host),
    );
    lab.tell_guest(guest, "die")?;
    let at = lab.quickly("its death", || {
        let said = lab.console(guest)?;
        let new = String::from_utf8_lossy(said.get(from..).unwrap_or_default()).into_owned();
        new.contains("Kernel panic")
            .then(now)
            .ok_or("not yet".into())
    })?;
    lab.mark_at(at, "its console says so");
    restart(lab, guest, "hangs")?;
    back(lab, guest, &before.start)
}

/// Notes when the remedy was ordered.
fn restart(lab: &mut Lab<'_>, guest: &str, why: &str) -> Result<(), DemoError> {
    let ordered =
        |e: &Event| about(e, "health", guest) && e.text.starts_with("is ") && e.text.contains(why);
    let (at, event) = lab.event("its restart to be ordered", "", ordered)?;
    lab.step("restart ordered", at, &event.text);
    Ok(())
}

/// Waits until another start of the guest writes.
fn back(lab: &mut Lab<'_>, guest: &str, before: &str) -> Result<(), DemoError> {
    let first = lab.quickly("its first record", || match lab.last(guest)? {
        Some(r) if r.start != before => Ok(now()),
        last => Err(format!("{last:?}")),
    })?;
    let (at, event) = lab.event("its start to be told", "", |e| about(e, "started", guest))?;
    lab.step("started", at, &event.text);
    let boot = first.saturating_sub(at) as f64 / 1e9;
    lab.step("first record", first, &format!("of these {boot:.1} s boot"));
    lab.runs(guest).map(|_| ())
}

/// Waits until the guest was seen to live for so long that its monitors know it.
fn known(lab: &Lab<'_>, guest: &str) -> Result<super::disk::Record, DemoError> {
    lab.wait(
        &format!("{guest} to have run for {KNOWN} s"),
        || match lab.last(guest)? {
            Some(r) if r.uptime >= KNOWN => Ok(r),
            last => Err(format!("{last:?}")),
        },
    )
}

/// All guests go on as they were, and none was reset or restarted meanwhile.
fn untouched(lab: &mut Lab<'_>, before: &super::lab::Starts, what: &str) -> Result<(), DemoError> {
    lab.settled()?;
    let after = lab.starts()?;
    let since = lab.since();
    let remedy = |e: &Event| e.kind == "health" && e.text.starts_with("is ");
    let mut remedies = Vec::new();
    for source in lab.events.values() {
        remedies.extend(source.all(since, remedy).into_iter().map(|(_, e)| e.text));
    }
    if after != *before || !remedies.is_empty() {
        return Err(DemoError::Failed(format!(
            "wrongly touched: {before:?}, now {after:?}; {remedies:?}"
        )));
    }
    let notes = lab.health_notes();
    lab.step(
        "none touched",
        now(),
        &format!("{what}; said meanwhile: {notes}"),
    );
    Ok(())
}

fn about(event: &Event, kind: &str, guest: &str) -> bool {
    event.kind == kind && event.guest.as_deref() == Some(guest)
}
