//! What libvirt here does, or would do, beside the cluster: copies of protected guests that nobody
//! of the cluster started, and domains that start by themselves.
//!
//! The copy that the log placed is the right one, always: it alone is under a lease, and fencing
//! and guardian can end it. The other is never touched from here. It may be somebody's rescue of
//! his data, and whoever started it is asked to end it, by the command that does so.

use super::survey::Found;
use quorate_recovery::domain::{Domain, quoted, uuid};
use quorate_recovery::guest::{Definition, GuestSpec};

/// A protected guest, as far as the log and this host matter.
#[derive(Clone, Copy, Debug)]
pub struct Protected<'a> {
    /// The operator's description.
    pub spec: &'a GuestSpec,
    /// Where it belongs.
    pub place: Place<'a>,
}

/// Where a guest belongs, seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// To this host.
    Here,
    /// To another one, of this name.
    There(&'a str),
    /// To none yet; it waits for one.
    Waits,
    /// To none: it is wanted stopped.
    Stopped,
}

/// Something that stands against the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strange {
    /// What it is, the same at every look.
    pub key: String,
    /// The guest's name.
    pub guest: String,
    /// In words, with what to do.
    pub text: String,
}

/// Judges one complete survey of the libvirt at `uri`. `cluster` is the name its domains carry in
/// their tags; `own` tells the UUIDs of domains whose processes this host's registry has, so that
/// one that lost its tag is not taken for a stranger.
#[must_use]
pub fn judge(
    uri: &str,
    cluster: &str,
    protected: &[Protected<'_>],
    found: &[Found],
    own: &dyn Fn(u128) -> bool,
) -> Vec<Strange> {
    let virsh = if uri == "qemu:///system" {
        "virsh".to_owned()
    } else {
        format!("virsh -c '{uri}'")
    };
    let mut out = Vec::new();
    for one in found {
        let tagged = one.tag.as_ref().is_some_and(|t| t.cluster == cluster);
        let stray = one.activity.is_some() && !tagged && !own(one.uuid);
        if !stray && !one.autostart {
            continue;
        }
        for guest in protected {
            let Some(alike) = likeness(guest.spec, one) else {
                continue;
            };
            let guest_name = &guest.spec.name;
            let name = quoted(&one.name);
            if one.autostart {
                out.push(Strange {
                    key: format!("autostart {guest_name} {}", uuid(one.uuid)),
                    guest: guest_name.clone(),
                    text: format!(
                        "libvirt would start {alike} by itself when this host boots, even while \
                         the guest runs elsewhere: `{virsh} autostart --disable {name}`"
                    ),
                });
            }
            if stray {
                let right = match guest.place {
                    Place::Here => "the cluster runs the guest on this host and cannot beside it; \
                                    its own copy is started once this one is gone"
                        .to_owned(),
                    Place::There(host) => {
                        format!("the cluster's copy belongs to {host}, and that is the right one")
                    }
                    Place::Waits => "the cluster has the guest on no host now, and starts its own \
                                     copy wherever there is room"
                        .to_owned(),
                    Place::Stopped => "the cluster has the guest stopped".to_owned(),
                };
                out.push(Strange {
                    key: format!("copy {guest_name} {}", uuid(one.uuid)),
                    guest: guest_name.clone(),
                    text: format!(
                        "{alike} runs here, and the cluster did not start it: {right}; two copies \
                         destroy its disk, so end this one: `{virsh} destroy {name}`"
                    ),
                });
            }
        }
    }
    out
}

/// What makes a domain a copy of a guest, in words.
fn likeness(spec: &GuestSpec, one: &Found) -> Option<String> {
    let Definition::Domain { xml } = &spec.definition else {
        return None;
    };
    // A guest has its domain's name.
    if spec.name == one.name {
        return Some(format!("a domain {}", one.name));
    }
    let same = Domain::read(xml).is_ok_and(|d| d.uuid == one.uuid);
    same.then(|| {
        let (name, guest) = (&one.name, &spec.name);
        format!("a domain {name} with the UUID of guest {guest}")
    })
}

#[cfg(test)]
mod tests {
    use super::super::survey::Activity;
    use super::super::tag::Tag;
    use super::*;
    use quorate_membership::Token;
    use quorate_recovery::guest::{GuestId, Needs, Policy};

    const ID: u128 = 0x0f1e_2d3c_4b5a_6978_8796_a5b4_c3d2_e1f0;

    fn spec() -> GuestSpec {
        let xml = format!(
            "<domain type='kvm'><name>web1</name><uuid>{}</uuid><memory>65536</memory></domain>",
            uuid(ID)
        );
        GuestSpec {
            name: "web1".into(),
            definition: Definition::Domain { xml },
            needs: Needs::default(),
            priority: 0,
            policy: Policy::default(),
            probe: None,
        }
    }

    fn found(name: &str, id: u128) -> Found {
        Found {
            name: name.into(),
            uuid: id,
            activity: None,
            tag: None,
            persistent: true,
            autostart: false,
            saved: false,
        }
    }

    fn judged(place: Place<'_>, one: Found) -> Vec<Strange> {
        let spec = spec();
        let protected = [Protected { spec: &spec, place }];
        judge("qemu:///system", "c1", &protected, &[one], &|_| false)
    }

    fn running(name: &str, id: u128) -> Found {
        Found {
            activity: Some(Activity::Runs),
            ..found(name, id)
        }
    }

    fn tag(cluster: &str) -> Option<Tag> {
        Some(Tag {
            guest: GuestId(1),
            epoch: Token(2),
            cluster: cluster.into(),
            domain: Some(ID),
        })
    }

    #[test]
    fn a_definition_that_only_lies_there_and_our_own_copy_are_no_alarm() {
        assert_eq!(judged(Place::There("h2"), found("web1", ID)), []);
        assert_eq!(judged(Place::Here, running("other", 7)), []);
        let ours = Found {
            tag: tag("c1"),
            ..running("web1", ID)
        };
        assert_eq!(judged(Place::Here, ours), []);
        // Somebody took the tag off; its process is known.
        let spec = spec();
        let protected = [Protected {
            spec: &spec,
            place: Place::Here,
        }];
        let one = [running("web1", ID)];
        let said = judge("qemu:///system", "c1", &protected, &one, &|id| id == ID);
        assert_eq!(said, []);
    }

    #[test]
    fn a_copy_started_by_hand_loses_to_the_one_the_log_placed() {
        let said = judged(Place::There("h2"), running("web1", ID));
        let [one] = said.as_slice() else {
            panic!("one alarm: {said:?}");
        };
        assert_eq!(one.guest, "web1");
        assert!(
            one.text
                .contains("belongs to h2, and that is the right one"),
            "{}",
            one.text
        );
        assert!(one.text.contains("`virsh destroy web1`"), "{}", one.text);
        let here = judged(Place::Here, running("web1", ID));
        assert_eq!(here[0].key, one.key, "the same alarm, in other words");
        assert!(here[0].text.contains("cannot beside it"), "{here:?}");
        for place in [Place::Waits, Place::Stopped] {
            assert_eq!(judged(place, running("web1", ID)).len(), 1);
        }
        // Held is as bad as running: whoever holds it may let it go on.
        let held = Found {
            activity: Some(Activity::Held),
            ..running("web1", ID)
        };
        assert_eq!(judged(Place::There("h2"), held).len(), 1);
    }

    #[test]
    fn a_copy_is_known_by_name_or_by_uuid_and_of_whatever_cluster() {
        let renamed = judged(Place::There("h2"), running("web1-copy", ID));
        assert!(
            renamed[0].text.contains("web1-copy with the UUID of guest"),
            "{renamed:?}"
        );
        assert!(renamed[0].text.contains("`virsh destroy web1-copy`"));
        assert_eq!(judged(Place::There("h2"), running("web1", 7)).len(), 1);
        let theirs = Found {
            tag: tag("c2"),
            ..running("web1", ID)
        };
        assert_eq!(judged(Place::There("h2"), theirs).len(), 1);
    }

    #[test]
    fn autostart_is_an_alarm_also_while_nothing_runs() {
        let own = Found {
            autostart: true,
            ..found("web1", ID)
        };
        let said = judged(Place::Here, own.clone());
        assert_eq!(said.len(), 1);
        assert!(
            said[0].text.contains("`virsh autostart --disable web1`"),
            "{said:?}"
        );
        let both = Found {
            activity: Some(Activity::Runs),
            ..own
        };
        let keys: Vec<_> = judged(Place::Here, both)
            .into_iter()
            .map(|s| s.key)
            .collect();
        assert_eq!(keys.len(), 2);
        assert_ne!(keys[0], keys[1]);
        let other = Found {
            autostart: true,
            ..found("other", 7)
        };
        assert_eq!(judged(Place::Here, other), []);
    }

    #[test]
    fn another_libvirt_is_named_in_the_command() {
        let spec = spec();
        let protected = [Protected {
            spec: &spec,
            place: Place::Stopped,
        }];
        let uri = "qemu+unix:///system?socket=/run/x";
        let said = judge(uri, "c1", &protected, &[running("web1", ID)], &|_| false);
        assert!(
            said[0]
                .text
                .contains("`virsh -c 'qemu+unix:///system?socket=/run/x' destroy web1`"),
            "{said:?}"
        );
    }

    #[test]
    fn what_somebody_does_by_hand_shows_in_a_survey() {
        use crate::clock;
        use crate::guardian::records::RunDir;
        use crate::libvirt::{Libvirt, Settings};
        // The mock's domains are everybody's: this one is this test's by name and UUID.
        const URI: &str = "test:///default";
        const MINE: u128 = 0x7777_7777_2222_3333_4444_0000_0000_0001;
        let xml = format!(
            "<domain type='test'><name>by-hand</name><uuid>{}</uuid><memory>65536</memory>\
             <os><type>hvm</type></os></domain>",
            uuid(MINE)
        );
        let dir = tempfile::tempdir().expect("a directory");
        let driver = Libvirt::new(Settings {
            uri: URI.into(),
            run: RunDir::create(&dir.path().join("run")).expect("made"),
            boot: clock::boot_id(clock::BOOT_ID_FILE.as_ref()).expect("Linux"),
            host: "here".into(),
            cluster: "c1".into(),
            evidence: None,
        })
        .expect("a driver");
        let mut guest = spec();
        guest.name = "by-hand".into();
        guest.definition = Definition::Domain { xml: xml.clone() };
        let protected = [Protected {
            spec: &guest,
            place: Place::There("h2"),
        }];
        let keys = || {
            let found = driver.survey().expect("the mock answers");
            let own = driver.own().expect("readable");
            let said = judge(URI, "c1", &protected, &found, &|id| own.contains(&id));
            let words = said.into_iter().map(|s| s.key);
            words
                .filter_map(|k| k.split(' ').next().map(str::to_owned))
                .collect::<Vec<_>>()
        };
        let connect = virt::connect::Connect::open(Some(URI)).expect("the mock");
        let domain = connect.define_domain_xml(&xml).expect("defined");
        assert!(keys().is_empty());
        domain.set_autostart(true).expect("set");
        assert_eq!(keys(), ["autostart"]);
        domain.create().expect("started by hand");
        assert_eq!(keys(), ["autostart", "copy"]);
        domain.set_autostart(false).expect("unset");
        domain.destroy().expect("ended");
        assert!(keys().is_empty());
        domain.undefine().expect("forgotten");
    }
}
