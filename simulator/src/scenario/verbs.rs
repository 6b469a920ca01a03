//! The verbs of a timeline.

use super::Bad;
use super::fields::{Fields, Scope};
use super::twists;
use super::words::{CLASSES, DEVICES, LEAVES, value};
use crate::cluster::action::{Action, Ask, Ill};

/// Verb, keys, meaning.
pub(super) const VERBS: &[(&str, &str, &str)] = &[
    (
        "cut",
        "from, to [, net]",
        "nothing passes from one host to another",
    ),
    ("mend", "from, to", "it passes again"),
    ("isolate", "host", "all links of a host are cut, both ways"),
    ("deaf", "host", "it hears nothing but is heard"),
    ("mute", "host", "it is heard by nobody but hears"),
    (
        "only-to",
        "host, keep",
        "its links to all but one host are cut",
    ),
    (
        "partition",
        "groups = [[..], [..]]",
        "links between the groups are cut",
    ),
    ("reconnect", "host", "all its links pass again"),
    ("heal", "", "all links pass again"),
    (
        "block",
        "from, to, class",
        "one kind of message no longer passes",
    ),
    ("noise", "loss, duplicate", "per million, on all links"),
    (
        "delay",
        "jitter-ms [, long, long-ms]",
        "more delay on all links",
    ),
    (
        "fence-net-cut",
        "host",
        "it no longer reaches any fence device",
    ),
    ("fence-net-mend", "host", "it does again"),
    (
        "crash",
        "host [, restart]",
        "its daemon ends, and starts again",
    ),
    (
        "stop",
        "host, for",
        "its daemon stands still; its guests go on",
    ),
    ("freeze", "host, for", "the whole host stands still"),
    (
        "power-off",
        "host [, back]",
        "it loses power, and gets it back",
    ),
    ("power-on", "host", "it gets its power back"),
    ("all-power-off", "back", "every host loses power at once"),
    ("guest-crash", "guest", "its process ends by itself"),
    (
        "guest-hides",
        "guest",
        "only the kernel's count of its group shows its processes",
    ),
    ("guest-panic", "guest", "its kernel panics and stays"),
    (
        "guest-hang",
        "guest [, spins = false]",
        "its kernel dies, spinning or halted",
    ),
    ("guest-sick", "guest", "what it is for works no more"),
    ("guest-agent-stop", "guest", "the agent inside is stopped"),
    (
        "guest-compute",
        "guest, for",
        "it computes and writes nothing",
    ),
    ("guest-freeze", "guest, for", "its file systems are frozen"),
    ("guest-suspend", "guest, for", "a person holds it"),
    ("guest-disk-full", "guest, for", "its disk has no room"),
    ("guest-shutdown", "guest", "it shuts down from inside"),
    (
        "guest-snapshot",
        "guest [, local = true]",
        "it writes to a new image above its old one",
    ),
    ("guest-merge", "guest", "it writes to the image below again"),
    (
        "guest-copy",
        "guest, for",
        "its image is copied, and it goes on with the copy",
    ),
    (
        "guest-backup",
        "guest, for",
        "a backup keeps old blocks in an image above its own",
    ),
    ("guest-taken", "guest", "it goes on at a host of no cluster"),
    ("starve", "host, for", "others take the CPUs of its guests"),
    ("device", "host, mode", "how its fence device behaves"),
    ("silent", "host, for", "its hypervisor answers nothing"),
    (
        "other-silent",
        "host, for",
        "the hypervisor of another kind of guests answers nothing",
    ),
    (
        "slow-create",
        "host, longest",
        "creations there take up to so long",
    ),
    (
        "stuck-kill",
        "host",
        "ending its guests at lease end sticks",
    ),
    ("slow-disk", "host, from-ms, to-ms", "writes take so long"),
    ("store-fails", "host", "every further write fails"),
    (
        "ask-stop",
        "host, guest",
        "a client wants the guest stopped",
    ),
    ("ask-start", "host, guest", "a client wants it running"),
    ("ask-fence", "host, target", "a client wants a host fenced"),
    (
        "ask-confirm-off",
        "host, target",
        "an operator says that a host is off",
    ),
    (
        "ask-leave",
        "host, why (stop, reboot or shutdown)",
        "a client takes the host out of service",
    ),
    (
        "ask-publish",
        "host [, bytes]",
        "a client publishes some bytes",
    ),
    ("calm", "", "everything is whole again"),
];

/// Reads one step; `time` was taken already.
pub(super) fn action(f: &mut Fields<'_, '_>, scope: Scope) -> Result<Action, Bad> {
    let at = f.at;
    let all = || VERBS.iter().chain(twists::VERBS);
    let verbs = || all().map(|v| v.0).collect::<Vec<_>>().join(", ");
    let (verb, verb_at) = f
        .word("do")?
        .ok_or_else(|| (at, format!("no `do`; allowed: {}", verbs())))?;
    let missing = |key: &str| (at, format!("{verb} needs `{key}`"));
    macro_rules! host {
        ($key:literal) => {
            f.who($key, scope)?.ok_or_else(|| missing($key))?
        };
    }
    macro_rules! seconds {
        ($key:literal) => {
            f.seconds($key)?.ok_or_else(|| missing($key))?
        };
    }
    macro_rules! whole {
        ($key:literal, $most:expr) => {
            f.whole($key, 0, $most)?.ok_or_else(|| missing($key))?
        };
    }
    macro_rules! millis {
        ($key:literal) => {
            f.millis($key)?.ok_or_else(|| missing($key))?
        };
    }
    macro_rules! guest {
        () => {
            f.guest("guest", scope.guests)?
                .ok_or_else(|| missing("guest"))?
        };
    }
    Ok(match verb.as_str() {
        "cut" => Action::Cut {
            from: host!("from"),
            to: host!("to"),
            net: f
                .whole("net", 0, scope.networks as u64 - 1)?
                .map(|n| n as usize),
        },
        "mend" => Action::Mend {
            from: host!("from"),
            to: host!("to"),
        },
        "isolate" => Action::Isolate(host!("host")),
        "deaf" => Action::Deaf(host!("host")),
        "mute" => Action::Mute(host!("host")),
        "only-to" => Action::OnlyTo(host!("host"), host!("keep")),
        "partition" => {
            let groups = f.groups("groups", scope)?;
            Action::Partition(groups.ok_or_else(|| missing("groups"))?)
        }
        "reconnect" => Action::Reconnect(host!("host")),
        "heal" => Action::Heal,
        "block" => {
            let (from, to) = (host!("from"), host!("to"));
            let (word, at) = f.word("class")?.ok_or_else(|| missing("class"))?;
            let class = value(CLASSES, "class", &word, at)?;
            Action::Block { from, to, class }
        }
        "noise" => Action::Noise {
            loss: whole!("loss", 1_000_000) as u32,
            duplicate: whole!("duplicate", 1_000_000) as u32,
        },
        "delay" => Action::Delay {
            jitter: millis!("jitter-ms"),
            long: f.whole("long", 0, 1_000_000)?.unwrap_or(0) as u32,
            long_max: f.millis("long-ms")?.unwrap_or(0),
        },
        "fence-net-cut" | "fence-net-mend" => Action::FenceNetwork {
            from: host!("host"),
            cut: verb == "fence-net-cut",
        },
        "crash" => Action::Crash {
            who: host!("host"),
            restart: f.seconds("restart")?,
        },
        "stop" => Action::Stop {
            who: host!("host"),
            length: seconds!("for"),
        },
        "freeze" => Action::Freeze {
            who: host!("host"),
            length: seconds!("for"),
        },
        "power-off" => Action::PowerOff {
            who: host!("host"),
            back: f.seconds("back")?,
        },
        "power-on" => Action::PowerOn(host!("host")),
        "all-power-off" => Action::AllPowerOff {
            back: seconds!("back"),
        },
        "guest-crash" => Action::GuestCrash(guest!()),
        "guest-hides" => Action::Hides(guest!()),
        "guest-panic" => Action::Guest(guest!(), Ill::Panics),
        "guest-hang" => {
            let spins = f.truth("spins")?.unwrap_or(true);
            Action::Guest(guest!(), Ill::Hangs { spins })
        }
        "guest-sick" => Action::Guest(guest!(), Ill::Sickens),
        "guest-agent-stop" => Action::Guest(guest!(), Ill::AgentStops),
        "guest-compute" => Action::Guest(guest!(), Ill::Computes(seconds!("for"))),
        "guest-freeze" => Action::Guest(guest!(), Ill::Freezes(seconds!("for"))),
        "guest-suspend" => Action::Guest(guest!(), Ill::Suspended(seconds!("for"))),
        "guest-disk-full" => Action::Guest(guest!(), Ill::DiskFull(seconds!("for"))),
        "guest-shutdown" => Action::Guest(guest!(), Ill::ShutsDown),
        "guest-snapshot" => {
            let local = f.truth("local")?.unwrap_or(false);
            Action::Guest(guest!(), Ill::Snapshot { local })
        }
        "guest-merge" => Action::Guest(guest!(), Ill::Merges),
        "guest-copy" => Action::Guest(guest!(), Ill::Copies(seconds!("for"))),
        "guest-backup" => Action::Guest(guest!(), Ill::BackedUp(seconds!("for"))),
        "guest-taken" => Action::Guest(guest!(), Ill::Taken),
        "starve" => Action::Starve {
            who: host!("host"),
            length: seconds!("for"),
        },
        "device" => {
            let who = host!("host");
            let (word, at) = f.word("mode")?.ok_or_else(|| missing("mode"))?;
            let mode = value(DEVICES, "device", &word, at)?;
            Action::Device { who, mode }
        }
        "silent" => Action::Silent {
            who: host!("host"),
            length: seconds!("for"),
        },
        "other-silent" => Action::OtherSilent {
            who: host!("host"),
            length: seconds!("for"),
        },
        "slow-create" => Action::SlowCreate {
            who: host!("host"),
            longest: seconds!("longest"),
        },
        "stuck-kill" => Action::StuckKill(host!("host")),
        "slow-disk" => Action::SlowDisk {
            who: host!("host"),
            delay: (millis!("from-ms"), millis!("to-ms")),
        },
        "store-fails" => Action::StoreFails(host!("host")),
        "ask-stop" => Action::Ask(host!("host"), Ask::Stop(guest!())),
        "ask-start" => Action::Ask(host!("host"), Ask::Start(guest!())),
        "ask-fence" => Action::Ask(host!("host"), Ask::Fence(host!("target"))),
        "ask-confirm-off" => Action::Ask(host!("host"), Ask::ConfirmOff(host!("target"))),
        "ask-leave" => {
            let (word, at) = f.word("why")?.ok_or_else(|| missing("why"))?;
            let why = value(LEAVES, "why", &word, at)?;
            Action::Ask(host!("host"), Ask::Leave(why))
        }
        "ask-publish" => {
            let host = host!("host");
            let bytes = f.whole("bytes", 1, 60_000)?;
            let ask = bytes.map_or(Ask::Publish, |n| Ask::PublishMany(n as u32));
            Action::Ask(host, ask)
        }
        "calm" => Action::Calm,
        _ => {
            let unknown = || (verb_at, format!("do {verb:?}; allowed: {}", verbs()));
            return twists::action(f, &verb, scope)?.ok_or_else(unknown);
        }
    })
}
