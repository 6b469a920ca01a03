//! A guest is taken away by hand: saved to a file, migrated past the cluster. It is not started
//! again until a person says so.

use super::cases::power_back;
use super::disk::Record;
use super::domain::Kit;
use super::holds::{QUIET, emulated, held, kinds, not_started};
use super::lab::Lab;
use super::site::{self, HOSTS, OUTSIDER};
use quorate::demo::DemoError;
use quorate::demo::rack::Machine;
use quorate::demo::record::now;

pub fn play(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    lab.begin("by-hand", "a guest with a disk of its own is added");
    helped(lab)?;
    let guest = lab.add_guest(7, Kit::ALONE, "")?;
    let host = lab.runs(&guest)?.host;
    let by = another(&host);
    lab.mark(&format!("{guest} is saved to a file on {host}"));
    let file = lab.directory().join("saved");
    let path = file.display().to_string();
    lab.site.virsh(&host, &["save", &guest, &path])?;
    held(lab, by, &guest, "by-hand")?;
    lab.step("held", now(), &guest);
    not_started(lab, &guest)?;
    lab.step("not started", now(), &format!("{guest}, 8 s later"));
    std::fs::remove_file(&file).map_err(|e| format!("{path}: {e}"))?;
    lab.site.quorate(by, &["guest", "release", &guest])?;
    lab.runs(&guest)?;
    lab.step("released", now(), &format!("{guest} runs"));
    within(lab, &guest)?;
    beyond(lab, &guest)?;
    lab.settled()
}

/// A domain with a helper whose writes no lease ends is refused.
fn helped(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    let disk = lab.site.disk("helped");
    let shared = disk.with_extension("files").display().to_string();
    let helper = format!(
        "<filesystem type='mount'><driver type='virtiofs'/><source dir='{shared}'/><target dir='files'/>\
         </filesystem></devices>"
    );
    let xml = super::domain::describe(lab.setting.tools, "helped", 99, &disk, Kit::ALONE);
    let file = lab.site.description("helped");
    std::fs::write(&file, xml.replace("</devices>", &helper))
        .map_err(|e| format!("{}: {e}", file.display()))?;
    let path = file.display().to_string();
    let added = lab
        .site
        .quorate(HOSTS[0], &["guest", "add", "--xml", &path]);
    match added {
        Err(why) if why.contains("virtiofs") => {
            lab.step(
                "refused",
                now(),
                "a domain with a helper of its own, virtiofsd",
            );
            Ok(())
        }
        other => Err(DemoError::Failed(format!(
            "a domain with virtiofsd: {other:?}"
        ))),
    }
}

/// Another host of the cluster ends what arrives, so it goes on where it was.
fn within(lab: &mut Lab<'_>, guest: &str) -> Result<(), DemoError> {
    let record = lab.runs(guest)?;
    let to = another(&record.host);
    lab.mark(&format!(
        "{guest} is migrated by hand to {to}, a host of this cluster"
    ));
    // Slowly, so that it cannot be over before that host has seen it.
    let why = match migrate(lab, guest, &record.host, to, "4") {
        Ok(()) => return Err(DemoError::Failed(format!("{guest} was migrated to {to}"))),
        Err(why) => why,
    };
    lab.step("refused", now(), why.lines().last().unwrap_or_default());
    let later = lab.runs(guest)?;
    if later.start != record.start {
        let why = format!("{guest} was started anew: {record:?}, {later:?}");
        return Err(DemoError::Failed(why));
    }
    if !kinds(lab, to, guest)?.is_empty() {
        return Err(DemoError::Failed(format!("{guest} is held")));
    }
    lab.step("goes on", now(), &format!("{guest}, on {}", later.host));
    Ok(())
}

/// Where it went nobody of the cluster can see it.
fn beyond(lab: &mut Lab<'_>, guest: &str) -> Result<(), DemoError> {
    lab.site.outsider()?;
    lab.libvirt_answers(OUTSIDER)?;
    let record = lab.runs(guest)?;
    let by = another(&record.host);
    lab.mark(&format!(
        "{guest} is migrated by hand to a host of no cluster"
    ));
    migrate(lab, guest, &record.host, OUTSIDER, "1024")?;
    held(lab, by, guest, "by-hand")?;
    lab.step("held", now(), guest);
    lab.site.power_off(&record.host)?;
    lab.host_event("proof", &record.host)?;
    lab.pass(QUIET)?;
    match emulated(lab, guest)?.as_slice() {
        [OUTSIDER] => {}
        on => return Err(DemoError::Failed(format!("{guest} runs on {on:?}"))),
    }
    let later = lab.last(guest)?;
    let goes_on = |l: &Record| l.start == record.start && l.counter >= record.counter + 5;
    if !later.as_ref().is_some_and(goes_on) {
        let why = format!("{guest} was to go on there: {later:?}");
        return Err(DemoError::Failed(why));
    }
    let text = format!("{guest}, there, although its host died");
    lab.step("runs once", now(), &text);
    lab.site.virsh(OUTSIDER, &["destroy", guest])?;
    lab.site.power_off(OUTSIDER)?;
    not_started(lab, guest)?;
    lab.site.quorate(by, &["guest", "release", guest])?;
    lab.runs(guest)?;
    lab.step("released", now(), &format!("{guest} runs"));
    power_back(lab, &record.host)
}

fn another(host: &str) -> &'static str {
    let found = HOSTS.into_iter().find(|h| *h != host);
    found.unwrap_or(HOSTS[0])
}

fn migrate(lab: &Lab<'_>, guest: &str, from: &str, to: &str, mib_s: &str) -> Result<(), String> {
    let address = Machine::address_of(site::number(to));
    let (uri, way) = (
        format!("qemu+tcp://{address}/system"),
        format!("tcp://{address}"),
    );
    // libvirt cannot know that the disks are shared.
    let words = [
        "migrate",
        "--live",
        "--unsafe",
        "--bandwidth",
        mib_s,
        guest,
        &uri,
        &way,
    ];
    lab.site.virsh(from, &words).map(|_| ())
}
