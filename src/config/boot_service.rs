//! libvirt's own service that starts domains when the host boots.

use std::path::Path;

/// Why the boot of this host would start domains again that ran when it went down: libvirt's own
/// service does that for every domain whose definition stays. `None`: it would not, as far as the
/// files under `root` tell; only a `uri` of this host can be looked at.
#[must_use]
pub fn boot_service(uri: &str, root: &Path) -> Option<String> {
    if !uri.starts_with("qemu:///") {
        return None;
    }
    let wants = "etc/systemd/system/multi-user.target.wants/libvirt-guests.service";
    root.join(wants).symlink_metadata().ok()?;
    let settings = ["etc/default/libvirt-guests", "etc/sysconfig/libvirt-guests"];
    let text = settings
        .iter()
        .find_map(|name| std::fs::read_to_string(root.join(name)).ok());
    // Without a setting it starts them.
    let set = text.as_deref().unwrap_or_default().lines();
    let on_boot = set
        .filter_map(|line| line.trim().strip_prefix("ON_BOOT="))
        .next_back()
        .unwrap_or("start");
    if on_boot.trim_matches(['"', '\'', ' ']) == "ignore" {
        return None;
    }
    Some(format!(
        "the service libvirt-guests is enabled here with ON_BOOT={on_boot}: it would start domains \
         when this host boots, even while they run elsewhere; set ON_BOOT=ignore in /{}, or \
         `systemctl disable libvirt-guests`",
        settings[0]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_service_that_starts_domains_at_boot_is_seen() {
        let root = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            let dir = path.parent().expect("a directory");
            fs::create_dir_all(dir).expect("a directory");
            fs::write(path, text).expect("written");
        };
        let judged = |uri| boot_service(uri, root.path());
        let settings = "etc/default/libvirt-guests";
        write(settings, "ON_BOOT=start\n");
        assert_eq!(judged("qemu:///system"), None, "not enabled");
        write(
            "etc/systemd/system/multi-user.target.wants/libvirt-guests.service",
            "",
        );
        let why = judged("qemu:///system").expect("said");
        assert!(why.contains("ON_BOOT=ignore"), "{why}");
        assert_eq!(judged("test:///default"), None);
        write(settings, "#ON_BOOT=ignore\n");
        assert!(
            judged("qemu:///system").is_some(),
            "its default starts them"
        );
        write(settings, "ON_BOOT=start\n ON_BOOT=\"ignore\"\n");
        assert_eq!(judged("qemu:///system"), None);
    }
}
