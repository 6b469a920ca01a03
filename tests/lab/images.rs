//! The images of a guest are changed past the cluster while it runs: snapshots left behind, a copy
//! that takes the disk's place, disks plugged in. It is started from what it wrote to, or not at all.

use super::cases::power_back;
use super::disk::{self, Record};
use super::domain::Kit;
use super::holds::{free, held, kinds, not_started};
use super::lab::Lab;
use super::site::HOSTS;
use quorate::demo::DemoError;
use quorate::demo::record::now;
use quorate::demo::watch::Event;
use std::path::{Path, PathBuf};

/// A snapshot that the record follows, then one that its host does not live to tell of.
pub fn snapshot(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    lab.begin("snapshot", "a guest with a disk of its own is added");
    let guest = lab.add_guest(8, Kit::ALONE, "")?;
    let victim = lab.runs(&guest)?.host;
    let base = lab.disk(&guest);
    let top = beside(&base, "1.qcow2");
    lab.mark(&format!("a snapshot of {guest} is left behind on {victim}"));
    snap(lab, &victim, &guest, &top)?;
    followed(lab, &victim, &guest, &top)?;
    let (old, new) = (lock(&base), lock(&top));
    lab.wait("a lock beside the new image", || {
        let there = new.exists();
        there.then(now).ok_or("none".into())
    })?;
    lab.step("locked", now(), "the new image, while the guest runs");
    let record = lab.runs(&guest)?;
    lab.mark(&format!("{victim} loses power with {guest}"));
    lab.site.power_off(&victim)?;
    goes_on(lab, &guest, &victim, &record)?;
    if !old.exists() {
        let why = format!("{} is gone", old.display());
        return Err(DemoError::Failed(why));
    }
    power_back(lab, &victim)?;

    let victim = lab.runs(&guest)?.host;
    let by = another(&victim);
    let top = beside(&base, "2.qcow2");
    lab.mark(&format!(
        "a snapshot of {guest} on {victim}, which loses power at that moment"
    ));
    snap(lab, &victim, &guest, &top)?;
    lab.site.power_off(&victim)?;
    let record = lab
        .last(&guest)?
        .ok_or("it has written nothing".to_owned())?;
    lab.host_event("proof", &victim)?;
    // Its host may have told of it: then the others have to read it first. Otherwise they find it.
    let why = lab.wait("it to be held, or to run from the new image", || {
        let kinds = kinds(lab, by, &guest)?;
        let last = lab.last(&guest)?;
        match last {
            Some(last) if last.start != record.start => Ok(None),
            _ if kinds.iter().any(|k| k == "backing") => Ok(Some(kinds)),
            last => Err(format!("{kinds:?}, {last:?}")),
        }
    })?;
    if let Some(why) = why {
        lab.step("held", now(), &format!("{guest}: {}", why.join(", ")));
        not_started(lab, &guest)?;
        lab.step("not started", now(), &format!("{guest}, 8 s later"));
        adopt(lab, by, &guest, 8, &top)?;
    }
    goes_on(lab, &guest, &victim, &record)?;
    power_back(lab, &victim)
}

/// A copy that takes the disk's place; a disk plugged in and taken out; a disc inserted.
pub fn disks(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    lab.begin("disks", "a guest with a disk of its own is added");
    let guest = lab.add_guest(9, Kit::ALONE, "")?;
    let victim = lab.runs(&guest)?.host;
    let by = another(&victim);
    let (copy, more) = (
        beside(&lab.disk(&guest), "copy.raw"),
        beside(&lab.disk(&guest), "more.raw"),
    );
    std::fs::write(&more, vec![0; 1 << 20]).map_err(|e| format!("{}: {e}", more.display()))?;
    lab.mark(&format!("a disk is plugged into {guest} on {victim}"));
    let path = more.display().to_string();
    lab.site
        .virsh(&victim, &["attach-disk", &guest, &path, "vdb", "--live"])?;
    held(lab, by, &guest, "drift")?;
    lab.step("held", now(), &format!("{guest}, which runs on"));
    lab.runs(&guest)?;
    lab.site
        .virsh(&victim, &["detach-disk", &guest, "vdb", "--live"])?;
    free(lab, by, &guest)?;
    lab.step("free", now(), "the disk is out again");
    lab.site.virsh(
        &victim,
        &["change-media", &guest, "sda", &path, "--insert", "--live"],
    )?;

    let told =
        |e: &Event| e.guest.as_deref() == Some(guest.as_str()) && e.text.contains("it has sda: ");
    let (at, event) = lab.event("the disc to be told", "", told)?;
    lab.step("told", at, &event.text);

    lab.mark(&format!("the disk of {guest} is copied on {victim}"));
    let path = copy.display().to_string();
    let words = [
        "blockcopy",
        &guest,
        "vda",
        "--dest",
        &path,
        "--format",
        "raw",
        "--transient-job",
    ];
    lab.site.virsh(&victim, &words)?;
    held(lab, by, &guest, "new-top")?;
    lab.step(
        "held",
        now(),
        &format!("{guest}, as long as the job is there"),
    );
    lab.wait("the copy to be whole", || {
        lab.site
            .virsh(&victim, &["blockjob", &guest, "vda", "--pivot"])
            .map(|_| ())
    })?;
    lab.mark("the guest writes to the copy");
    followed(lab, &victim, &guest, &copy)?;
    free(lab, by, &guest)?;
    lab.step("free", now(), "also with a disc in its drive");
    let record = lab.runs(&guest)?;
    lab.mark(&format!("{victim} loses power with {guest}"));
    lab.site.power_off(&victim)?;
    goes_on(lab, &guest, &victim, &record)?;
    power_back(lab, &victim)
}

pub fn beside(disk: &Path, end: &str) -> PathBuf {
    disk.with_extension(end)
}

fn lock(image: &Path) -> PathBuf {
    let mut name = image.file_name().unwrap_or_default().to_owned();
    name.push(".quorate-lock");
    image.with_file_name(name)
}

fn another(host: &str) -> &'static str {
    let found = HOSTS.into_iter().find(|h| *h != host);
    found.unwrap_or(HOSTS[0])
}

/// What backup programs do, without the rest.
fn snap(lab: &mut Lab<'_>, host: &str, guest: &str, top: &Path) -> Result<(), DemoError> {
    let spec = format!("vda,file={}", top.display());
    let words = [
        "snapshot-create-as",
        guest,
        "left",
        "--disk-only",
        "--atomic",
        "--no-metadata",
        "--diskspec",
        &spec,
    ];
    lab.site.virsh(host, &words)?;
    lab.writes_to(guest, top);
    Ok(())
}

/// Waits until the record names `top`, and until another host has read it.
fn followed(lab: &mut Lab<'_>, host: &str, guest: &str, top: &Path) -> Result<(), DemoError> {
    lab.writes_to(guest, top);
    let name = top.display().to_string();
    let about = |e: &Event| e.guest.as_deref() == Some(guest);
    let follows = |e: &Event| about(e) && e.text.contains("its record follows");
    let (at, event) = lab.event("the record to follow", "", follows)?;
    if !event.text.contains(&name) {
        return Err(DemoError::Failed(event.text));
    }
    lab.step("followed", at, &event.text);
    let read = |e: &Event| {
        about(e) && e.text.starts_with("has read its images") && e.host.as_deref() != Some(host)
    };
    let (at, event) = lab.event("another host to read it", "", read)?;
    let by = event.host.unwrap_or_default();
    lab.step("read", at, &format!("by {by}, which can take {guest}"));
    Ok(())
}

/// Waits until a guest writes elsewhere, having seen all that it had written before.
pub fn goes_on(
    lab: &mut Lab<'_>,
    guest: &str,
    victim: &str,
    before: &Record,
) -> Result<(), DemoError> {
    lab.wait(&format!("{guest} to write elsewhere"), || {
        match lab.last(guest)? {
            Some(last) if last.start != before.start && last.host != victim => Ok(()),
            last => Err(format!("{last:?}")),
        }
    })?;
    let slots = disk::read(&lab.disk(guest)).map_err(|e| format!("{guest}: {e}"))?;
    let claim = slots.last().and_then(|slot| slot.first().cloned());
    let claim = claim.and_then(Result::ok).flatten();
    let seen = claim.as_ref().and_then(|claim| {
        let mut seen = claim.seen.iter();
        seen.find(|(start, _)| *start == before.start)
    });
    match seen {
        Some((_, counter)) if *counter >= before.counter => {
            let text = format!("{guest}, from its newest image: it has seen record {counter}");
            lab.step("goes on", now(), &text);
            Ok(())
        }
        other => Err(DemoError::Failed(format!(
            "{guest} had written record {} of {}, and was started from an image with {other:?}",
            before.counter, before.start
        ))),
    }
}

/// A person says that the guest's disk is that image.
fn adopt(
    lab: &mut Lab<'_>,
    by: &str,
    guest: &str,
    number: u8,
    top: &Path,
) -> Result<(), DemoError> {
    let tools = lab.setting.tools;
    let xml = super::domain::describe(tools, guest, number, top, Kit::ALONE);
    let xml = xml.replacen("type='raw'", "type='qcow2'", 1);
    let file = lab.site.description(guest);
    std::fs::write(&file, xml).map_err(|e| format!("{}: {e}", file.display()))?;
    let path = file.display().to_string();
    lab.mark(&format!("a person names the image of {guest}"));
    lab.site
        .quorate(by, &["guest", "adopt", guest, "--xml", &path])?;
    Ok(())
}
