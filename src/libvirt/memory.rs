//! What is remembered of each life while it is here: what it is built of, what was seen of it.

use super::agent::Standing;
use super::registry::{Known, Life};
use crate::hypervisor::lock;
use quorate_recovery::observation::Sample;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Mutex;
use std::time::SystemTime;

/// Events of one guest that are kept as evidence.
const EVENTS_MAX: usize = 64;
/// Samples of one guest that are kept as evidence.
const SAMPLES_MAX: usize = 64;
/// A description longer than this is not read.
pub(super) const XML_MAX: usize = 1 << 20;

/// What is known of a domain that never changes while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Build {
    /// It has a channel for the agent.
    pub agent: bool,
    /// It has a display.
    pub display: bool,
    /// Its disks: libvirt's alias and the name in the guest, `virtio-disk0` and `vda`.
    disks: BTreeMap<String, String>,
}

impl Build {
    /// Reads libvirt's description of a running domain.
    pub(super) fn read(xml: &str) -> Build {
        let mut build = Build::default();
        if xml.len() > XML_MAX {
            return build;
        }
        let Ok(doc) = roxmltree::Document::parse(xml) else {
            return build;
        };
        let root = doc.root_element();
        let devices = root.children().filter(|n| n.has_tag_name("devices"));
        for device in devices.flat_map(|d| d.children()) {
            let child = |name: &str, attribute: &str| {
                let found = device.children().find(|n| n.has_tag_name(name));
                found.and_then(|n| n.attribute(attribute))
            };
            match device.tag_name().name() {
                "channel" => {
                    build.agent |= child("target", "name") == Some("org.qemu.guest_agent.0");
                }
                "video" => build.display |= child("model", "type").is_some_and(|t| t != "none"),
                "disk" => {
                    if let (Some(alias), Some(name)) =
                        (child("alias", "name"), child("target", "dev"))
                    {
                        build.disks.insert(alias.to_owned(), name.to_owned());
                    }
                }
                _ => {}
            }
        }
        build
    }
}

/// What is remembered of one life.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub build: Option<Build>,
    /// A look has not come back.
    pub looking: bool,
    /// That its kernel panicked was told; it is told once until the guest goes on.
    panicked: bool,
    /// Looks in a row that found it panicked.
    found_panicked: u8,
    pub agent: Standing,
    pub events: VecDeque<(SystemTime, String)>,
    pub samples: VecDeque<Sample>,
}

/// Everything the looks remember. Threads that hang hold it, so it holds nothing of the driver.
#[derive(Default)]
pub(super) struct Lives {
    all: Mutex<BTreeMap<Life, Memory>>,
}

impl Lives {
    pub(super) fn with<T>(&self, life: Life, act: impl FnOnce(&mut Memory) -> T) -> T {
        act(lock(&self.all).entry(life).or_default())
    }

    /// The same for a life that is known already.
    pub(super) fn if_there<T>(&self, life: Life, act: impl FnOnce(&mut Memory) -> T) -> Option<T> {
        lock(&self.all).get_mut(&life).map(act)
    }

    /// Notes an event for whoever looks for evidence later.
    pub(super) fn note(&self, life: Life, what: &dyn fmt::Debug) {
        self.with(life, |memory| {
            if memory.events.len() >= EVENTS_MAX {
                memory.events.pop_front();
            }
            memory
                .events
                .push_back((SystemTime::now(), format!("{what:?}")));
        });
    }

    /// The name the guest has for a disk.
    pub(super) fn disk(&self, life: Life, alias: &str) -> String {
        let build = self.if_there(life, |m| m.build.clone()).flatten();
        let name = build.and_then(|b| b.disks.get(alias).cloned());
        name.unwrap_or_else(|| alias.to_owned())
    }

    /// Whether its panic is news.
    pub(super) fn panicked(&self, life: Life) -> bool {
        self.with(life, |m| !std::mem::replace(&mut m.panicked, true))
    }

    /// Notes whether a look found it panicked; `true` if that is news. One look alone may be older
    /// than the reset that was told meanwhile.
    pub(super) fn found_panicked(&self, life: Life, found: bool) -> bool {
        let twice = self.with(life, |m| {
            m.found_panicked = if found {
                (m.found_panicked + 1).min(2)
            } else {
                0
            };
            m.found_panicked == 2
        });
        twice && self.panicked(life)
    }

    /// It goes on; what its agent said before counts no more.
    pub(super) fn afresh(&self, life: Life) {
        self.if_there(life, |m| {
            m.panicked = false;
            m.found_panicked = 0;
            m.agent.forget();
        });
    }

    pub(super) fn keep(&self, known: &[Known]) {
        lock(&self.all).retain(|life, _| known.iter().any(|k| k.life == *life));
    }
}

impl Memory {
    pub(super) fn keep(&mut self, sample: &Sample) {
        if self.samples.len() >= SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_tells_what_can_be_looked_at() {
        let xml = "<domain><devices>\
            <disk type='file'><target dev='vda'/><alias name='virtio-disk0'/></disk>\
            <disk type='file'><target dev='sdb'/></disk>\
            <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\
            <video><model type='none'/></video></devices></domain>";
        let build = Build::read(xml);
        assert!(build.agent && !build.display);
        assert_eq!(build.disks.len(), 1);
        let lives = Lives::default();
        let life = (
            quorate_recovery::guest::GuestId(1),
            quorate_membership::Token(2),
        );
        lives.with(life, |m| m.build = Some(build));
        assert_eq!(lives.disk(life, "virtio-disk0"), "vda");
        assert_eq!(lives.disk(life, "ide0-0-0"), "ide0-0-0");
        let display = "<domain><devices><video><model type='vga'/></video></devices></domain>";
        assert!(Build::read(display).display);
        for damaged in ["", "<domain", "<domain/>", "<a><devices/></a>"] {
            assert_eq!(Build::read(damaged), Build::default());
        }
    }

    #[test]
    fn what_is_kept_as_evidence_is_bounded() {
        let lives = Lives::default();
        let life = (
            quorate_recovery::guest::GuestId(1),
            quorate_membership::Token(2),
        );
        for n in 0..EVENTS_MAX * 3 {
            lives.note(life, &n);
        }
        let events = lives.with(life, |m| m.events.clone());
        assert_eq!(events.len(), EVENTS_MAX);
        let last = (EVENTS_MAX * 3 - 1).to_string();
        assert_eq!(events.back().map(|e| e.1.clone()), Some(last));
        assert!(lives.panicked(life) && !lives.panicked(life), "told once");
        lives.afresh(life);
        assert!(!lives.found_panicked(life, true), "may be old");
        assert!(lives.found_panicked(life, true), "told again in the next");
        assert!(!lives.found_panicked(life, true) && !lives.panicked(life));
        lives.afresh(life);
        for found in [true, false, true] {
            assert!(!lives.found_panicked(life, found), "not twice in a row");
        }
    }
}
