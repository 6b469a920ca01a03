//! What a guest keeps outside its disks, and what it needs of its host: refused where it could
//! write after the guest's lease, named otherwise.

use super::Refusal;
use super::reader::{Reader, child};
use roxmltree::Node;

impl<'a, 'x> Reader<'a, 'x> {
    /// Refuses a device that writes what the guest keeps through the host's memory or through a
    /// process beside QEMU.
    pub(super) fn device(&self, node: Node<'a, 'x>) -> Result<(), Refusal> {
        match node.tag_name().name() {
            "memory" => {
                let model = node.attribute("model").unwrap_or_default();
                let source = child(node, "source");
                let path = source.and_then(|s| child(s, "path"));
                let read_only = child(node, "target").and_then(|t| child(t, "readonly"));
                if let Some(path) = path.filter(|_| read_only.is_none()) {
                    let path = path.text().unwrap_or_default();
                    return self.fault(
                        node,
                        format!(
                            "memory device {model}: what the guest writes to {path} waits in this \
                             host's memory and could reach the storage after it runs elsewhere"
                        ),
                    );
                }
            }
            "tpm" => {
                let backend = child(node, "backend");
                let source = backend.and_then(|b| child(b, "source"));
                if let Some(source) =
                    source.filter(|s| s.has_attribute("path") || s.has_attribute("file"))
                {
                    return self.fault(
                        source,
                        "tpm: swtpm writes this state beside QEMU, and this host's lease does not \
                         end it; without <source> the state stays on each host",
                    );
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What an operator should know although nothing is refused for it.
    pub(super) fn notes(&self, root: Node<'a, 'x>, notes: &mut Vec<String>) {
        let mut note = |at: Node<'_, '_>, what: String| {
            notes.push(format!("{}: {what}", self.place(at)));
        };
        let text = |n: Node<'a, 'x>| n.text().map(str::trim).filter(|t| !t.is_empty());
        let os = child(root, "os");
        for node in os.iter().flat_map(Node::children) {
            let name = node.tag_name().name();
            if matches!(name, "kernel" | "initrd" | "loader" | "dtb")
                && let Some(path) = text(node)
            {
                note(
                    node,
                    format!("{name} {path} must be the same on every host"),
                );
            }
        }
        if let Some(os) = os
            && os.attribute("firmware") == Some("efi")
            && child(os, "nvram").and_then(text).is_none()
        {
            note(
                os,
                "firmware=\"efi\" without <nvram>: each host chooses the firmware and keeps the \
                 variables by itself, so on another host the guest starts without its own boot \
                 entries and keys"
                    .into(),
            );
        }
        for node in root.descendants().filter(Node::is_element) {
            if let Some(what) = of_host(node) {
                note(node, what);
            }
        }
        if let Some(node) = root.descendants().find(|n| n.has_attribute("passwd")) {
            let what = "a password stands here; every node of the cluster gets the description";
            note(node, what.into());
        }
        for node in root.children() {
            if node.tag_name().name() == "commandline" && node.tag_name().namespace().is_some() {
                let what = "arguments for QEMU are handed on unread: what they open is not checked";
                note(node, what.into());
            }
        }
    }
}

/// What an element asks of every host that may run the guest.
fn of_host(node: Node<'_, '_>) -> Option<String> {
    let parent = node.parent().map(|p| p.tag_name().name().to_owned());
    let in_devices = parent.as_deref() == Some("devices");
    let attribute = |name: &str| node.attribute(name).unwrap_or_default();
    let kind = attribute("type");
    let of = |child_name: &str, name: &str| {
        let found = child(node, child_name).and_then(|c| c.attribute(name));
        found.unwrap_or_default().to_owned()
    };
    Some(match node.tag_name().name() {
        "hostdev" if in_devices => {
            "a device of the host is handed to the guest: it starts only on hosts that have the like"
                .into()
        }
        "interface" if in_devices => match kind {
            "hostdev" | "vdpa" => {
                "a network card of the host is handed to the guest: it starts only on hosts that \
                 have the like"
                    .into()
            }
            "bridge" => format!("every host needs the bridge {}", of("source", "bridge")),
            "network" => format!(
                "every host needs libvirt's network {}, started",
                of("source", "network")
            ),
            "direct" => format!("every host needs the network card {}", of("source", "dev")),
            "vhostuser" => format!(
                "every host needs what listens at {}",
                of("source", "path")
            ),
            "user" if of("backend", "type") == "passt" => {
                "every host needs passt, a process beside QEMU that touches the network only".into()
            }
            _ => return None,
        },
        "secret" if !kind.is_empty() || node.has_attribute("usage") || node.has_attribute("uuid") => {
            let which = node.attribute("uuid").or(node.attribute("usage"));
            format!(
                "every host's libvirt needs the secret {}, with its value",
                which.unwrap_or("named here")
            )
        }
        "hugepages" => "every host needs enough huge pages of this size, free".into(),
        "launchSecurity" => "it starts only on hosts whose processors can do this".into(),
        "tpm" if in_devices => match child(node, "backend").and_then(|b| b.attribute("type")) {
            Some("passthrough") => {
                "the host's TPM is handed to the guest: another host has another one, with other \
                 keys"
                    .into()
            }
            _ => "the TPM's state stays on the host where it was made: on another host the guest \
                  meets an empty TPM, and what is sealed by it (BitLocker, say) asks for its \
                  recovery key"
                .into(),
        },
        "shmem" if in_devices => {
            "memory shared with other processes of its host stays behind when the host changes".into()
        }
        "lease" if in_devices => "every host needs the lockspace of this lease".into(),
        "numatune" | "cputune" if parent.as_deref() == Some("domain") => {
            "pinned processors or memory nodes must exist on every host".into()
        }
        "redirdev" if in_devices => return None,
        _ => return None,
    })
}
