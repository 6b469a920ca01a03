//! A backup of a running guest is under way as its host is lost. It keeps old blocks in an image whose
//! header looks like that of a snapshot; the guest is started elsewhere all the same.

use super::cases::power_back;
use super::domain::Kit;
use super::images::{beside, goes_on};
use super::lab::Lab;
use quorate::demo::DemoError;
use quorate::demo::watch::Event;
use std::path::Path;

pub fn play(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    lab.begin("backup", "a guest with a disk of its own is added");
    let guest = lab.add_guest(10, Kit::ALONE, "")?;
    let first = begins(lab, &guest, "backup.1")?;
    let record = lab.runs(&guest)?;
    lab.mark(&format!("{first} loses power in the middle of the backup"));
    lab.site.power_off(&first)?;
    goes_on(lab, &guest, &first, &record)?;
    power_back(lab, &first)?;

    // Once more, with what was left of the first one still there. A backup that ends takes its
    // image along.
    let again = begins(lab, &guest, "backup.2")?;
    lab.mark("the backup ends");
    lab.site.virsh(&again, &["domjobabort", &guest])?;
    let left = beside(&lab.disk(&guest), "backup.1");
    let about = |e: &Event| {
        let only = e.text.contains("backup.1") && !e.text.contains("backup.2");
        e.guest.as_deref() == Some(guest.as_str()) && only
    };
    let (at, event) = lab.event("what is left to be told", "", about)?;
    lab.step("told", at, &event.text);
    let record = lab.runs(&guest)?;
    lab.mark(&format!("{again} loses power with {guest}"));
    lab.site.power_off(&again)?;
    goes_on(lab, &guest, &again, &record)?;
    std::fs::remove_file(&left).map_err(|e| format!("{}: {e}", left.display()))?;
    power_back(lab, &again)
}

/// Begins a backup in pull mode beside the guest's image, and waits until its host has told of it.
/// Gives that host.
fn begins(lab: &mut Lab<'_>, guest: &str, end: &str) -> Result<String, DemoError> {
    let host = lab.runs(guest)?.host;
    let scratch = beside(&lab.disk(guest), end);
    lab.mark(&format!("a backup of {guest} begins on {host}"));
    let xml = format!(
        "<domainbackup mode='pull'><server transport='unix' socket='/run/backup-{guest}'/><disks>\
         <disk name='vda' backup='yes' type='file'><driver type='qcow2'/><scratch file='{}'/>\
         </disk></disks></domainbackup>",
        scratch.display()
    );
    let file = lab.directory().join("backup.xml");
    write(&file, &xml)?;
    let path = file.display().to_string();
    lab.site.virsh(&host, &["backup-begin", guest, &path])?;
    let name = scratch.display().to_string();
    let told = |e: &Event| e.guest.as_deref() == Some(guest) && e.text.contains(&name);
    let (at, event) = lab.event("the backup to be told", "", told)?;
    lab.step("told", at, &event.text);
    Ok(host)
}

fn write(path: &Path, text: &str) -> Result<(), DemoError> {
    let done = std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()));
    Ok(done?)
}
