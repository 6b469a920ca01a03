//! The verbs of links that are neither whole nor cut, of shapes, of disks and of machines.

use super::Bad;
use super::fields::{Fields, Scope};
use super::words::{GUARDIANS, LOCKS, SHAPES, WATCHDOGS, WAYS, value};
use crate::cluster::action::{Action, Ask, Fate, Shape, Way, Who};
use crate::cluster::shapes::least;

/// Verb, keys, meaning.
pub(super) const VERBS: &[(&str, &str, &str)] = &[
    (
        "clog",
        "host",
        "its links hold what is sent, both ways, until `unclog`",
    ),
    ("unclog", "host", "what they held comes in one burst"),
    (
        "hole",
        "from, to, largest",
        "messages of more bytes vanish that way",
    ),
    (
        "reorder",
        "chance",
        "per million, overtaken by the next; all links",
    ),
    (
        "rate",
        "messages",
        "so many a second at most on each link; 0: any",
    ),
    (
        "halves",
        "[size,] [host, way, fence-net]",
        "two sides; host is the first of the first",
    ),
    (
        "bridge",
        "[host, way, fence-net]",
        "two halves that both see one host",
    ),
    (
        "ring",
        "[host, way, fence-net]",
        "each sees a majority, no two the same",
    ),
    (
        "chain",
        "[host, way, fence-net]",
        "each sees the one before and after",
    ),
    ("star", "[host, way, fence-net]", "all see one host only"),
    (
        "random-links",
        "pass, graph [, host, way, fence-net]",
        "each passes with a chance per million",
    ),
    (
        "flap",
        "host [, peer], period, count",
        "links are cut half of each period",
    ),
    (
        "swizzle",
        "hosts, every, order",
        "clogged one by one, freed in another order",
    ),
    (
        "store-mends",
        "host",
        "writes succeed again: the disk has room",
    ),
    (
        "disk-stalls",
        "host, for",
        "nothing becomes durable meanwhile",
    ),
    (
        "rot",
        "host",
        "its store is unreadable at the daemon's next start",
    ),
    ("copy-store", "host", "its store is copied as it is"),
    (
        "set-back",
        "host [, boot]",
        "it starts from the copy of its store; boot = true: after a boot",
    ),
    (
        "revert",
        "host",
        "machine and memory are as they were at the copy; the same life goes on",
    ),
    (
        "alter-state",
        "host",
        "what it made of the log is altered, and it starts from that",
    ),
    (
        "alter-memory",
        "host",
        "a number of what it made of the log is altered in memory",
    ),
    (
        "clone",
        "host, onto",
        "another machine starts with a copy of its disk",
    ),
    ("watchdog", "host, mode", "works, late, stuck or absent"),
    ("guardian", "host, mode, for", "gone, still or restless"),
    (
        "events-lost",
        "host, for",
        "nobody tells of ended processes; polls go on",
    ),
    (
        "storage-gone",
        "host, for",
        "its guests are held by I/O errors",
    ),
    (
        "writes-held",
        "host, for",
        "the storage holds its writes, then does them",
    ),
    (
        "scan-hangs",
        "host, for",
        "looking through its processes hangs",
    ),
    (
        "hypervisor-crash",
        "host, for",
        "it ends and is back; guests go on",
    ),
    (
        "lock-turns",
        "guest, to",
        "its lock: foreign, fork, clone, raised, unreadable or readable",
    ),
    ("ask-hold", "host, guest", "an operator has the guest held"),
    (
        "ask-release",
        "host, guest",
        "an operator releases the guest",
    ),
    (
        "late-writes",
        "host, for",
        "last writes of ended guests land so late",
    ),
];

/// Reads one step of these; `None` if the verb is none of them.
pub(super) fn action(
    f: &mut Fields<'_, '_>,
    verb: &str,
    scope: Scope,
) -> Result<Option<Action>, Bad> {
    let at = f.at;
    let missing = |key: &str| (at, format!("{verb} needs `{key}`"));
    macro_rules! need {
        ($key:literal, $found:expr) => {
            $found.ok_or_else(|| missing($key))?
        };
    }
    macro_rules! host {
        ($key:literal) => {
            need!($key, f.who($key, scope)?)
        };
    }
    macro_rules! length {
        ($key:literal) => {
            need!($key, f.seconds($key)?)
        };
    }
    Ok(Some(match verb {
        "clog" | "unclog" => Action::Clog {
            who: host!("host"),
            on: verb == "clog",
        },
        "hole" => Action::Hole {
            from: host!("from"),
            to: host!("to"),
            largest: need!("largest", f.whole("largest", 1, 1 << 20)?) as u32,
        },
        "reorder" => Action::Reorder(need!("chance", f.whole("chance", 0, 1_000_000)?) as u32),
        "rate" => Action::Rate(need!("messages", f.whole("messages", 0, 1_000_000)?) as u32),
        "flap" => {
            let (who, peer) = (host!("host"), f.who("peer", scope)?);
            let period_at = f.place("period");
            let period = length!("period");
            if period < 1_000_000 {
                let what = "period is below 0.001; expected 0.001 s or longer".to_owned();
                return Err((period_at, what));
            }
            Action::Flap {
                who,
                peer,
                period,
                times: need!("count", f.whole("count", 1, 1_000_000)?) as u32,
            }
        }
        "swizzle" => Action::Swizzle {
            hosts: need!("hosts", f.whos("hosts", scope)?),
            every: length!("every"),
            order: f.whole("order", 0, i64::MAX as u64)?.unwrap_or(0),
        },
        "store-mends" => Action::StoreMends(host!("host")),
        "disk-stalls" => Action::DiskStalls {
            who: host!("host"),
            length: length!("for"),
        },
        "rot" => Action::Rots(host!("host")),
        "copy-store" => Action::Store {
            who: host!("host"),
            fate: Fate::Copied,
        },
        "set-back" => Action::Store {
            who: host!("host"),
            fate: match f.truth("boot")? {
                Some(true) => Fate::SetBackOverBoot,
                _ => Fate::SetBack,
            },
        },
        "revert" => Action::Store {
            who: host!("host"),
            fate: Fate::Reverted,
        },
        "alter-state" => Action::Store {
            who: host!("host"),
            fate: Fate::Altered,
        },
        "alter-memory" => Action::Store {
            who: host!("host"),
            fate: Fate::AlteredInMemory,
        },
        "clone" => Action::Clones {
            who: host!("host"),
            onto: host!("onto"),
        },
        "watchdog" => {
            let who = host!("host");
            let (word, at) = need!("mode", f.word("mode")?);
            let mode = value(WATCHDOGS, "watchdog", &word, at)?;
            Action::Watchdog { who, mode }
        }
        "guardian" => {
            let who = host!("host");
            let (word, at) = need!("mode", f.word("mode")?);
            let mode = value(GUARDIANS, "guardian", &word, at)?;
            let length = length!("for");
            Action::Guardian { who, mode, length }
        }
        "events-lost" => Action::EventsLost {
            who: host!("host"),
            length: length!("for"),
        },
        "storage-gone" => Action::StorageGone {
            who: host!("host"),
            length: length!("for"),
        },
        "writes-held" => Action::WritesHeld {
            who: host!("host"),
            length: length!("for"),
        },
        "scan-hangs" => Action::ScanHangs {
            who: host!("host"),
            length: length!("for"),
        },
        "hypervisor-crash" => Action::HypervisorCrash {
            who: host!("host"),
            length: length!("for"),
        },
        "lock-turns" => {
            let guest = need!("guest", f.guest("guest", scope.guests)?);
            let (word, at) = need!("to", f.word("to")?);
            Action::Lock(guest, value(LOCKS, "lock", &word, at)?)
        }
        "ask-hold" | "ask-release" => {
            let host = host!("host");
            let guest = need!("guest", f.guest("guest", scope.guests)?);
            let hold = verb == "ask-hold";
            let ask = if hold {
                Ask::Hold(guest)
            } else {
                Ask::Release(guest)
            };
            Action::Ask(host, ask)
        }
        "late-writes" => Action::LateWrites {
            who: host!("host"),
            length: length!("for"),
        },
        _ => return shape(f, verb, scope),
    }))
}

fn shape(f: &mut Fields<'_, '_>, verb: &str, scope: Scope) -> Result<Option<Action>, Bad> {
    let Some((_, shape)) = SHAPES.iter().find(|(name, _)| *name == verb) else {
        return Ok(None);
    };
    let at = f.at;
    let missing = |key: &str| (at, format!("{verb} needs `{key}`"));
    let shape = match *shape {
        Shape::Halves(_) => Shape::Halves(f.whole("size", 1, 7)?.unwrap_or(0) as usize),
        Shape::Random { .. } => {
            let pass = f.whole("pass", 0, 1_000_000)?;
            let graph = f.whole("graph", 0, i64::MAX as u64)?;
            Shape::Random {
                pass: pass.ok_or_else(|| missing("pass"))? as u32,
                graph: graph.ok_or_else(|| missing("graph"))?,
            }
        }
        other => other,
    };
    let (least, hosts) = (least(shape), scope.hosts);
    if hosts < least {
        let place = f.place("do");
        let what = format!("{verb} of {hosts} hosts; expected {least} hosts or more");
        return Err((place, what));
    }
    let first = f.who("host", scope)?.unwrap_or(Who::Host(0));
    let way = match f.word("way")? {
        Some((word, at)) => value(WAYS, "way", &word, at)?,
        None => Way::Both,
    };
    let fence = f.truth("fence-net")?.unwrap_or(false);
    Ok(Some(Action::Shape {
        shape,
        first,
        way,
        fence,
    }))
}
