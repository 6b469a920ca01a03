//! An address and a file system, by Debian's resource agents, move with a host's power.

use super::lab::Lab;
use super::site::{HOSTS, WITNESS};
use quorate::demo::DemoError;
use quorate::demo::record::now;
use quorate::demo::watch::Event;

/// An address that no host has of its own.
const ADDRESS: &str = "10.77.0.50";
/// Where the file system is mounted; `/run` is each host's own.
const MOUNTED: &str = "/run/lab-files";

/// A resource: the guest's name and how to see that it runs on a host.
const RESOURCES: [(&str, &str); 2] = [
    (
        "addr",
        "ip -4 -o addr show dev eth0 | grep -q ' 10\\.77\\.0\\.50/'",
    ),
    ("files", "grep -q ' /run/lab-files ' /proc/mounts"),
];

/// The case.
pub fn play(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    let files = lab.site.shared().join("files");
    std::fs::create_dir_all(&files).map_err(|e| format!("{}: {e}", files.display()))?;
    lab.begin("resources", "an address and a file system are added");
    add(
        lab,
        "addr",
        &format!(
            "agent = \"ocf:heartbeat:IPaddr2\"\nevery_ms = 5000\n[definition.ocf.parameters]\n\
             ip = \"{ADDRESS}\"\ncidr_netmask = \"24\"\nnic = \"eth0\"\n"
        ),
    )?;
    add(
        lab,
        "files",
        &format!(
            "agent = \"ocf:heartbeat:Filesystem\"\nevery_ms = 5000\n[definition.ocf.parameters]\n\
             device = {files:?}\ndirectory = \"{MOUNTED}\"\nfstype = \"none\"\noptions = \"bind\"\n"
        ),
    )?;
    for (name, look) in RESOURCES {
        let host = one(lab, name, look, "")?;
        lab.step("runs", now(), &format!("{name} on {host}"));
    }
    for (name, look) in RESOURCES {
        let victim = one(lab, name, look, "")?;
        lab.mark(&format!("{victim} loses power with {name}"));
        lab.site.power_off(&victim)?;
        let host = one(lab, name, look, &victim)?;
        let at = now();
        lab.host_event("proof", &victim)?;
        let placed = |e: &Event| e.kind == "placed" && e.guest.as_deref() == Some(name);
        let (placed, event) = lab.event("it to be placed", &victim, placed)?;
        lab.step("placed", placed, &format!("{name}: {}", event.text));
        lab.step("seen there", at, &format!("{name} on {host}"));
        super::cases::power_back(lab, &victim)?;
        // The host that came back has none of it.
        one(lab, name, look, "")?;
    }
    Ok(())
}

fn add(lab: &mut Lab<'_>, name: &str, definition: &str) -> Result<(), DemoError> {
    let file = lab.site.policy(name);
    let text = format!("name = {name:?}\n[definition.ocf]\n{definition}");
    std::fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
    let path = file.display().to_string();
    Ok(lab
        .site
        .quorate(WITNESS, &["guest", "add", &path])
        .map(|_| ())?)
}

/// Waits until a resource is seen on one host, which is not `except`, and on no other.
fn one(lab: &Lab<'_>, name: &str, look: &str, except: &str) -> Result<String, DemoError> {
    lab.wait(&format!("{name} to run on one host"), || {
        let mut seen = Vec::new();
        for host in HOSTS.iter().filter(|h| lab.site.alive(h)) {
            if lab.site.run(host, &["sh", "-c", look]).is_ok() {
                seen.push(*host);
            }
        }
        match seen.as_slice() {
            [host] if *host != except => Ok((*host).to_owned()),
            other => Err(format!("seen on {other:?}")),
        }
    })
}
