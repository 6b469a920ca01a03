//! The cases: what fails, what must follow, and what is measured.

use super::disk;
use super::domain::{self, Kit};
use super::judge;
use super::lab::Lab;
use super::site::{HOSTS, WITNESS};
use quorate::demo::DemoError;
use quorate::demo::record::now;
use quorate::demo::watch::Event;
use std::collections::BTreeMap;

/// A case of the lab.
pub struct Case {
    /// Its name, as in `CASE=name`.
    pub name: &'static str,
    /// What it shows.
    pub text: &'static str,
    /// It needs a cluster whose brake lets a device cut a host: one in ten minutes.
    pub fresh: bool,
    /// Plays it. Afterwards every host is a member and every guest runs.
    pub play: fn(&mut Lab<'_>) -> Result<(), DemoError>,
}

/// All of them, in the order they are played.
pub const CASES: [Case; 16] = [
    Case {
        name: "power",
        text: "a host loses power",
        fresh: true,
        play: power,
    },
    Case {
        name: "daemon",
        text: "the daemon alone is killed and back within its lease",
        fresh: false,
        play: daemon,
    },
    Case {
        name: "coordinator",
        text: "the coordinator's host loses power",
        fresh: true,
        play: coordinator,
    },
    Case {
        name: "late-start",
        text: "libvirt is stopped during a start, the lease ends, libvirt goes on",
        fresh: false,
        play: late_start,
    },
    Case {
        name: "cut",
        text: "a host's network is cut, its controller is reached",
        fresh: true,
        play: cut,
    },
    Case {
        name: "cut-lease",
        text: "a host's network is cut, its controller is dead",
        fresh: true,
        play: cut_lease,
    },
    Case {
        name: "resources",
        text: "an address and a file system move with a host's power",
        fresh: false,
        play: super::resources::play,
    },
    Case {
        name: "locks",
        text: "another cluster, then an unknown epoch, in the lock of a disk",
        fresh: true,
        play: super::locks::play,
    },
    Case {
        name: "storage",
        text: "a host's storage hangs with its network cut and its controller dead",
        fresh: true,
        play: super::storage::play,
    },
    Case {
        name: "stranger",
        text: "a program whose memory map is locked, on a host whose lease ends",
        fresh: true,
        play: super::storage::stranger,
    },
    Case {
        name: "guardian",
        text: "a guardian is killed, with its daemon too, then stands still as its host is cut off",
        fresh: true,
        play: super::guardian::play,
    },
    Case {
        name: "snapshot",
        text: "a snapshot is left behind, then a host dies",
        fresh: true,
        play: super::images::snapshot,
    },
    Case {
        name: "disks",
        text: "disks are plugged in and copied while a guest runs, then its host dies",
        fresh: true,
        play: super::images::disks,
    },
    Case {
        name: "backup",
        text: "a host dies while one of its guests is backed up",
        fresh: true,
        play: super::backup::play,
    },
    Case {
        name: "by-hand",
        text: "a guest is saved, then migrated, past the cluster",
        fresh: true,
        play: super::by_hand::play,
    },
    Case {
        name: "control",
        text: "the same disk is given to two hosts by hand, and the judge must see it",
        fresh: false,
        play: control,
    },
];

/// Guests for the cases; they run when it returns.
pub fn add_guests(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    lab.mark("three guests are added");
    for number in 1..=3 {
        let kit = match number {
            1 => Kit::HELPED,
            2 => Kit::AGENT,
            _ => Kit::BARE,
        };
        lab.add_guest(number, kit, "")?;
    }
    lab.settled()?;
    let mut words = Vec::new();
    for guest in lab.guests.clone() {
        let host = lab.last(&guest.name)?.map(|r| r.host).unwrap_or_default();
        words.push(format!("{} on {host}", guest.name));
    }
    lab.step("guests run", now(), &words.join(", "));
    Ok(())
}

/// A host with guests that does not coordinate.
pub(super) fn other_host(lab: &Lab<'_>) -> Result<(String, Vec<String>), DemoError> {
    let leader = lab.coordinator()?;
    let mut best: Option<(String, Vec<String>)> = None;
    for host in HOSTS.iter().filter(|h| **h != leader) {
        let guests = lab.guests_on(host)?;
        if best.as_ref().is_none_or(|(_, b)| b.len() < guests.len()) {
            best = Some(((*host).to_owned(), guests));
        }
    }
    best.filter(|(_, guests)| !guests.is_empty())
        .ok_or_else(|| DemoError::Failed("all guests run on the coordinator's host".into()))
}

/// Sees to it that a host has a guest, so that its failure shows something.
fn with_guests(lab: &mut Lab<'_>, host: &str) -> Result<Vec<String>, DemoError> {
    let guests = lab.guests_on(host)?;
    if guests.is_empty() {
        return Err(DemoError::Failed(format!("no guest runs on {host}")));
    }
    Ok(guests)
}

fn power(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    let (victim, guests) = other_host(lab)?;
    lab.begin(
        "power",
        &format!("{victim} loses power with {}", guests.join(", ")),
    );
    lab.site.power_off(&victim)?;
    fail_over(lab, &victim, &guests, true)?;
    power_back(lab, &victim)
}

fn coordinator(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    let victim = lab.leading_host()?;
    let guests = with_guests(lab, &victim)?;
    lab.begin(
        "coordinator",
        &format!(
            "{victim}, the coordinator's host, loses power with {}",
            guests.join(", ")
        ),
    );
    lab.site.power_off(&victim)?;
    fail_over(lab, &victim, &guests, true)?;
    power_back(lab, &victim)
}

fn daemon(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    let (victim, guests) = other_host(lab)?;
    let before = lab.starts()?;
    lab.begin(
        "daemon",
        &format!(
            "{victim}'s daemon is killed; {} run there",
            guests.join(", ")
        ),
    );
    lab.site.signal(&victim, "daemon", "KILL")?;
    let answers = lab.wait("the daemon to answer", || {
        lab.status(&victim).map(|_| now())
    })?;
    lab.step("daemon answers", answers, "started again by its supervisor");
    lab.renewed(&victim)?;
    lab.step("lease renewed", now(), "by the new daemon");
    lab.follow(&victim)?;
    // The same starts go on writing: nobody restarted anything.
    lab.settled()?;
    for guest in &guests {
        let record = lab.last(guest)?;
        let later = lab.wait("further records", || {
            let last = lab.last(guest)?;
            match (&record, &last) {
                (Some(a), Some(b)) if a.start == b.start && b.counter >= a.counter + 5 => Ok(now()),
                _ => Err(format!("{last:?}")),
            }
        })?;
        lab.step(
            "goes on",
            later,
            &format!("{guest} wrote five further records"),
        );
    }
    if lab.starts()? != before {
        return Err(DemoError::Failed(format!(
            "a guest was started anew: {before:?}, now {:?}",
            lab.starts()?
        )));
    }
    let judged = |e: &Event| e.kind == "verdict" && e.host.as_deref() == Some(&victim);
    let since = lab.since();
    if lab
        .events
        .values()
        .any(|s| s.first(since, judged).is_some())
    {
        return Err(DemoError::Failed(format!("{victim} was judged lost")));
    }
    Ok(())
}

fn cut(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    let (victim, guests) = other_host(lab)?;
    lab.begin(
        "cut",
        &format!("{victim}'s network is cut with {} on it", guests.join(", ")),
    );
    lab.site.cable(&victim, false)?;
    fail_over(lab, &victim, &guests, true)?;
    // On a busy machine the lease may have been first; the device comes all the same.
    let off = lab.wait(&format!("{victim}'s controller to cut its power"), || {
        let alive = lab.site.alive(&victim);
        (!alive).then(now).ok_or("it still has power".into())
    })?;
    lab.step(
        "power seen off",
        off,
        "by its controller, as the agent asked",
    );
    power_back(lab, &victim)
}

fn cut_lease(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    let (victim, guests) = other_host(lab)?;
    lab.site.unplug_controller(&victim)?;
    lab.begin(
        "cut-lease",
        &format!(
            "{victim}'s network is cut and its controller is dead; {} run there",
            guests.join(", ")
        ),
    );
    lab.site.cable(&victim, false)?;
    let ended = emptied(lab, &victim)?;
    lab.step(
        "guests ended there",
        ended,
        "by the guardian, at the end of the lease",
    );
    fail_over(lab, &victim, &guests, false)?;
    if !lab.site.alive(&victim) {
        return Err(DemoError::Failed(format!(
            "{victim} lost its power, so this case shows nothing"
        )));
    }
    lab.site.cable(&victim, true)?;
    lab.whole()?;
    // Only now: an attempt of before must not cut the host that is back.
    lab.site.plug_controller(&victim)?;
    lab.settled()?;
    nothing_left(lab, &victim, &guests)
}

fn late_start(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    let guest = lab.guests[0].name.clone();
    lab.site.quorate(WITNESS, &["guest", "stop", &guest])?;
    lab.wait("the guest to be stopped", || {
        let known = lab.known()?;
        match known.iter().find(|g| g.name == guest) {
            Some(row) if row.state == "stopped" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    let before = lab.lives(&guest)?.len();
    lab.begin(
        "late-start",
        &format!("every libvirt is stopped, and {guest} is to start"),
    );
    for host in HOSTS {
        lab.site.signal(host, "libvirtd", "STOP")?;
    }
    lab.site.quorate(WITNESS, &["guest", "start", &guest])?;
    let (at, event) = lab.event("the guest to be placed", "", |e| {
        e.kind == "placed" && e.guest.as_deref() == Some(&guest)
    })?;
    let victim = event.host.ok_or("placed nowhere".to_owned())?;
    lab.step("placed", at, &event.text);
    if victim == lab.coordinator()? {
        // Its order is under way all the same; the rest is led by another.
        lab.mark(&format!("{victim} coordinates as well"));
    }
    let others = lab.guests_on(&victim)?;
    lab.site.unplug_controller(&victim)?;
    lab.mark(&format!(
        "{victim} has the order; its network is cut, its controller is dead; the other libvirts go on"
    ));
    lab.site.cable(&victim, false)?;
    for host in HOSTS.iter().filter(|h| **h != victim) {
        lab.site.signal(host, "libvirtd", "CONT")?;
    }
    let mut moved: Vec<String> = others.into_iter().filter(|g| *g != guest).collect();
    moved.push(guest.clone());
    fail_over(lab, &victim, &moved, false)?;
    lab.site.signal(&victim, "libvirtd", "CONT")?;
    lab.libvirt_answers(&victim)?;
    lab.step(
        "libvirt goes on",
        now(),
        "there, with the order it was given",
    );
    lab.wait("nothing of it to be left there", || {
        match lab.site.emulators(&victim)?.as_slice() {
            [] => Ok(()),
            left => Err(format!("{left:?}")),
        }
    })?;
    lab.site.cable(&victim, true)?;
    lab.whole()?;
    lab.site.plug_controller(&victim)?;
    lab.settled()?;
    let lives = lab.lives(&guest)?;
    match &lives[before..] {
        [one] if one.host != victim => Ok(()),
        other => Err(DemoError::Failed(format!(
            "{guest} was to write from one host, not {victim}: {other:?}"
        ))),
    }
}

/// The lab could see two writers: without this, its silence would mean nothing.
fn control(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    lab.begin(
        "control",
        "a domain nobody protects is created on two hosts by hand",
    );
    let disk = lab.site.disk("twin");
    disk::make(&disk).map_err(|e| format!("{}: {e}", disk.display()))?;
    let xml = domain::describe(lab.setting.tools, "twin", 99, &disk, Kit::BARE);
    let file = lab.site.description("twin");
    std::fs::write(&file, xml).map_err(|e| format!("{}: {e}", file.display()))?;
    let path = file.display().to_string();
    for host in &HOSTS[..2] {
        lab.site.virsh(host, &["create", &path])?;
        // One after the other, or both would choose the same place on the disk.
        lab.wait("it to write", || match lab.last("twin")? {
            Some(r) if r.host == *host && r.counter >= 2 => Ok(()),
            last => Err(format!("{last:?}")),
        })?;
    }
    let found = lab.wait("the judge to see it", || {
        let slots = disk::read(&disk).map_err(|e| e.to_string())?;
        let (_, charges) = judge::judge(&slots);
        charges
            .first()
            .map(ToString::to_string)
            .ok_or("no charge".into())
    })?;
    lab.step("seen by the judge", now(), &found);
    for host in &HOSTS[..2] {
        lab.site.virsh(host, &["destroy", "twin"])?;
    }
    Ok(())
}

/// Waits until no QEMU is left on a host.
fn emptied(lab: &Lab<'_>, host: &str) -> Result<u64, DemoError> {
    lab.wait(&format!("the guests of {host} to end"), || {
        match lab.site.emulators(host)?.as_slice() {
            [] => Ok(now()),
            left => Err(format!("{} emulators", left.len())),
        }
    })
}

/// None of these guests has a process on a host where it does not belong.
fn nothing_left(lab: &Lab<'_>, host: &str, guests: &[String]) -> Result<(), DemoError> {
    let left = lab.site.emulators(host)?;
    for guest in guests {
        let there = lab.last(guest)?.is_some_and(|r| r.host == host);
        let named = format!("guest={guest},");
        if !there && left.iter().any(|(_, line)| line.contains(&named)) {
            return Err(DemoError::Failed(format!(
                "{guest} has a process on {host}"
            )));
        }
    }
    Ok(())
}

/// Notes every step from the failure of `victim` to the first records of its guests elsewhere.
pub(super) fn fail_over(
    lab: &mut Lab<'_>,
    victim: &str,
    guests: &[String],
    fenced: bool,
) -> Result<(), DemoError> {
    // Records are looked for while the events are waited for: both have times of their own.
    let mut first: BTreeMap<String, u64> = BTreeMap::new();
    let before = lab.starts()?;
    let disks: Vec<String> = guests.to_vec();
    lab.wait("every guest to write elsewhere", || {
        let mut missing = Vec::new();
        for guest in &disks {
            if first.contains_key(guest) {
                continue;
            }
            match lab.last(guest)? {
                Some(r)
                    if r.host != victim && before.get(guest) != Some(&Some(r.start.clone())) =>
                {
                    first.insert(guest.clone(), now());
                }
                last => missing.push(format!("{guest}: {last:?}")),
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(missing.join("; "))
        }
    })?;
    let judged = |e: &Event| e.kind == "verdict" && e.host.as_deref() == Some(victim);
    lab.event(&format!("the verdict on {victim}"), victim, judged)?;
    // A quorum's reports may be there before any node finds it silent for long enough itself.
    lab.noted("suspect", victim);
    lab.host_event("verdict", victim)?;
    if fenced {
        lab.host_event("fence", victim)?;
    }
    lab.host_event("proof", victim)?;
    for guest in guests {
        let mut before = 0;
        for kind in ["placed", "started"] {
            let fits = |e: &Event| {
                e.kind == kind
                    && e.guest.as_deref() == Some(guest)
                    && e.host.as_deref() != Some(victim)
            };
            let (at, event) = lab.event(&format!("{guest} to be {kind}"), victim, fits)?;
            lab.step(kind, at, &format!("{guest}: {}", event.text));
            before = at;
        }
        let at = first.get(guest).copied().unwrap_or(0);
        let boot = at.saturating_sub(before) as f64 / 1e9;
        lab.step(
            "first record",
            at,
            &format!("{guest}, of these {boot:.1} s boot"),
        );
    }
    Ok(())
}

/// Somebody presses the power button; the host is a member again.
pub fn power_back(lab: &mut Lab<'_>, victim: &str) -> Result<(), DemoError> {
    // Not before: an attempt under way would cut the host that is back.
    lab.attempts_ended(victim)?;
    lab.site.power_on(victim)?;
    lab.libvirt_answers(victim)?;
    lab.whole()?;
    lab.follow(victim)?;
    lab.settled()
}
