//! Writing one step of a timeline.

use super::words::{
    CLASSES, DEVICES, GUARDIANS, LEAVES, LOCKS, SHAPES, WATCHDOGS, WAYS, WHENS, word,
};
use crate::cluster::action::{Action, Ask, Fate, Ill, Shape, Way, Who};
use crate::cluster::triggers::Trigger;
use crate::world::{MS, SECOND};
use std::fmt::Write;

/// Nanoseconds as seconds, with every digit.
pub(super) fn seconds(ns: u64) -> String {
    fraction(ns, SECOND, 9)
}

pub(super) fn millis(ns: u64) -> String {
    fraction(ns, MS, 6)
}

pub(super) fn fraction(value: u64, unit: u64, digits: usize) -> String {
    let text = format!("{}.{:0digits$}", value / unit, value % unit);
    let short = text.trim_end_matches('0').trim_end_matches('.');
    short.to_owned()
}

pub(super) fn list(words: impl Iterator<Item = String>) -> String {
    format!("[{}]", words.collect::<Vec<_>>().join(", "))
}

pub(super) fn quoted(word: &str) -> String {
    format!("\"{word}\"")
}

pub(super) fn who(who: &Who) -> String {
    match who {
        Who::Host(host) => format!("h{}", host + 1),
        Who::Coordinator => "coordinator".into(),
        Who::OtherVoter => "other-voter".into(),
        Who::That => "that-host".into(),
        Who::HostOf(guest) => format!("host-of-g{}", guest + 1),
    }
}

/// The lines of one table.
pub(super) struct Step(pub(super) String);

impl Step {
    pub(super) fn put(&mut self, key: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    pub(super) fn unless<T: PartialEq + std::fmt::Display>(
        &mut self,
        key: &str,
        value: T,
        usual: T,
    ) {
        if value != usual {
            self.put(key, value);
        }
    }

    pub(super) fn word(&mut self, key: &str, value: &str) {
        self.put(key, quoted(value));
    }

    fn verb(&mut self, verb: &str) {
        self.word("do", verb);
    }

    fn host(&mut self, verb: &str, host: &Who) {
        self.verb(verb);
        self.word("host", &who(host));
    }

    fn for_so_long(&mut self, verb: &str, host: &Who, length: u64) {
        self.host(verb, host);
        self.put("for", seconds(length));
    }

    fn ends(&mut self, verb: &str, from: &Who, to: &Who) {
        self.verb(verb);
        self.word("from", &who(from));
        self.word("to", &who(to));
    }

    pub(super) fn action(&mut self, action: &Action) {
        match action {
            Action::Cut { from, to, net } => {
                self.ends("cut", from, to);
                if let Some(net) = net {
                    self.put("net", net);
                }
            }
            Action::Mend { from, to } => self.ends("mend", from, to),
            Action::Isolate(host) => self.host("isolate", host),
            Action::Deaf(host) => self.host("deaf", host),
            Action::Mute(host) => self.host("mute", host),
            Action::OnlyTo(host, keep) => {
                self.host("only-to", host);
                self.word("keep", &who(keep));
            }
            Action::Partition(groups) => {
                self.verb("partition");
                let group = |g: &Vec<Who>| list(g.iter().map(|w| quoted(&who(w))));
                self.put("groups", list(groups.iter().map(group)));
            }
            Action::Reconnect(host) => self.host("reconnect", host),
            Action::Heal => self.verb("heal"),
            Action::FenceNetwork { from, cut: true } => self.host("fence-net-cut", from),
            Action::FenceNetwork { from, cut: false } => self.host("fence-net-mend", from),
            Action::Noise { loss, duplicate } => {
                self.verb("noise");
                self.put("loss", loss);
                self.put("duplicate", duplicate);
            }
            Action::Delay {
                jitter,
                long,
                long_max,
            } => {
                self.verb("delay");
                self.put("jitter-ms", millis(*jitter));
                self.unless("long", *long, 0);
                self.unless("long-ms", millis(*long_max), "0".into());
            }
            Action::Block { from, to, class } => {
                self.ends("block", from, to);
                self.word("class", word(CLASSES, class));
            }
            Action::Crash { who, restart } => {
                self.host("crash", who);
                if let Some(restart) = restart {
                    self.put("restart", seconds(*restart));
                }
            }
            Action::Stop { who, length } => self.for_so_long("stop", who, *length),
            Action::Freeze { who, length } => self.for_so_long("freeze", who, *length),
            Action::PowerOff { who, back } => {
                self.host("power-off", who);
                if let Some(back) = back {
                    self.put("back", seconds(*back));
                }
            }
            Action::PowerOn(host) => self.host("power-on", host),
            Action::AllPowerOff { back } => {
                self.verb("all-power-off");
                self.put("back", seconds(*back));
            }
            Action::GuestCrash(guest) => self.guest("guest-crash", *guest),
            Action::Hides(guest) => self.guest("guest-hides", *guest),
            Action::Guest(guest, ill) => self.ill(*guest, *ill),
            Action::Starve { who, length } => self.for_so_long("starve", who, *length),
            Action::Device { who, mode } => {
                self.host("device", who);
                self.word("mode", word(DEVICES, mode));
            }
            Action::Silent { who, length } => self.for_so_long("silent", who, *length),
            Action::OtherSilent { who, length } => self.for_so_long("other-silent", who, *length),
            Action::SlowCreate { who, longest } => {
                self.host("slow-create", who);
                self.put("longest", seconds(*longest));
            }
            Action::StuckKill(host) => self.host("stuck-kill", host),
            Action::SlowDisk { who, delay } => {
                self.host("slow-disk", who);
                self.put("from-ms", millis(delay.0));
                self.put("to-ms", millis(delay.1));
            }
            Action::StoreFails(host) => self.host("store-fails", host),
            Action::Ask(host, ask) => self.ask(host, ask),
            Action::Calm => self.verb("calm"),
            other => self.twist(other),
        }
    }

    /// The actions of `twists.rs`.
    fn twist(&mut self, action: &Action) {
        match action {
            Action::Clog { who, on } => self.host(if *on { "clog" } else { "unclog" }, who),
            Action::Hole { from, to, largest } => {
                self.ends("hole", from, to);
                self.put("largest", largest);
            }
            Action::Reorder(chance) => {
                self.verb("reorder");
                self.put("chance", chance);
            }
            Action::Rate(messages) => {
                self.verb("rate");
                self.put("messages", messages);
            }
            Action::Shape {
                shape,
                first,
                way,
                fence,
            } => self.shape(*shape, first, *way, *fence),
            Action::Flap {
                who: host,
                peer,
                period,
                times,
            } => {
                self.host("flap", host);
                if let Some(peer) = peer {
                    self.word("peer", &who(peer));
                }
                self.put("period", seconds(*period));
                self.put("count", times);
            }
            Action::Swizzle {
                hosts,
                every,
                order,
            } => {
                self.verb("swizzle");
                self.put("hosts", list(hosts.iter().map(|w| quoted(&who(w)))));
                self.put("every", seconds(*every));
                self.unless("order", *order, 0);
            }
            Action::StoreMends(host) => self.host("store-mends", host),
            Action::DiskStalls { who, length } => self.for_so_long("disk-stalls", who, *length),
            Action::Rots(host) => self.host("rot", host),
            Action::Store { who, fate } => match fate {
                Fate::Copied => self.host("copy-store", who),
                Fate::Reverted => self.host("revert", who),
                Fate::Altered => self.host("alter-state", who),
                Fate::AlteredInMemory => self.host("alter-memory", who),
                Fate::SetBack | Fate::SetBackOverBoot => {
                    self.host("set-back", who);
                    self.unless("boot", *fate == Fate::SetBackOverBoot, false);
                }
            },
            Action::Clones { who: host, onto } => {
                self.host("clone", host);
                self.word("onto", &who(onto));
            }
            Action::Watchdog { who, mode } => {
                self.host("watchdog", who);
                self.word("mode", word(WATCHDOGS, mode));
            }
            Action::Guardian { who, mode, length } => {
                self.for_so_long("guardian", who, *length);
                self.word("mode", word(GUARDIANS, mode));
            }
            Action::EventsLost { who, length } => self.for_so_long("events-lost", who, *length),
            Action::StorageGone { who, length } => self.for_so_long("storage-gone", who, *length),
            Action::WritesHeld { who, length } => self.for_so_long("writes-held", who, *length),
            Action::ScanHangs { who, length } => self.for_so_long("scan-hangs", who, *length),
            Action::HypervisorCrash { who, length } => {
                self.for_so_long("hypervisor-crash", who, *length);
            }
            Action::Lock(guest, turn) => {
                self.verb("lock-turns");
                self.put("guest", quoted(&format!("g{}", guest + 1)));
                self.word("to", word(LOCKS, turn));
            }
            Action::LateWrites { who, length } => self.for_so_long("late-writes", who, *length),
            _ => {}
        }
    }

    fn shape(&mut self, shape: Shape, first: &Who, way: Way, fence: bool) {
        let open = match shape {
            Shape::Halves(_) => Shape::Halves(0),
            Shape::Random { .. } => Shape::Random { pass: 0, graph: 0 },
            other => other,
        };
        self.host(word(SHAPES, &open), first);
        match shape {
            Shape::Halves(size) => self.unless("size", size, 0),
            Shape::Random { pass, graph } => {
                self.put("pass", pass);
                self.put("graph", graph);
            }
            _ => {}
        }
        if way != Way::Both {
            self.word("way", word(WAYS, &way));
        }
        self.unless("fence-net", fence, false);
    }

    /// What a trigger waits for.
    pub(super) fn trigger(&mut self, t: &Trigger) {
        self.word("when", word(WHENS, &t.when));
        match (t.host, t.guest) {
            (Some(host), _) => self.word("of", &who(&Who::Host(host))),
            (None, Some(guest)) => self.word("of", &format!("g{}", guest + 1)),
            (None, None) => {}
        }
        self.unless("after", seconds(t.after), "0".into());
        if t.before < u64::MAX {
            self.put("before", seconds(t.before));
        }
        self.unless("nth", t.nth, 1);
        self.unless("times", t.times, 1);
        self.unless("delay", seconds(t.delay), "0".into());
        self.action(&t.action);
    }

    fn guest(&mut self, verb: &str, guest: usize) {
        self.verb(verb);
        self.put("guest", quoted(&format!("g{}", guest + 1)));
    }

    fn ill(&mut self, guest: usize, ill: Ill) {
        let (verb, length) = match ill {
            Ill::Panics => ("guest-panic", None),
            Ill::Hangs { .. } => ("guest-hang", None),
            Ill::Sickens => ("guest-sick", None),
            Ill::AgentStops => ("guest-agent-stop", None),
            Ill::Computes(length) => ("guest-compute", Some(length)),
            Ill::Freezes(length) => ("guest-freeze", Some(length)),
            Ill::Suspended(length) => ("guest-suspend", Some(length)),
            Ill::DiskFull(length) => ("guest-disk-full", Some(length)),
            Ill::ShutsDown => ("guest-shutdown", None),
            Ill::Snapshot { .. } => ("guest-snapshot", None),
            Ill::Merges => ("guest-merge", None),
            Ill::Copies(length) => ("guest-copy", Some(length)),
            Ill::BackedUp(length) => ("guest-backup", Some(length)),
            Ill::Taken => ("guest-taken", None),
        };
        self.guest(verb, guest);
        if let Some(length) = length {
            self.put("for", seconds(length));
        }
        if ill == (Ill::Hangs { spins: false }) {
            self.put("spins", false);
        }
        if ill == (Ill::Snapshot { local: true }) {
            self.put("local", true);
        }
    }

    fn ask(&mut self, host: &Who, ask: &Ask) {
        let verb = match ask {
            Ask::Stop(_) => "ask-stop",
            Ask::Hold(_) => "ask-hold",
            Ask::Release(_) => "ask-release",
            Ask::Start(_) => "ask-start",
            Ask::Fence(_) => "ask-fence",
            Ask::ConfirmOff(_) => "ask-confirm-off",
            Ask::Publish | Ask::PublishMany(_) => "ask-publish",
            Ask::Leave(_) => "ask-leave",
        };
        self.host(verb, host);
        match ask {
            Ask::Stop(guest) | Ask::Start(guest) | Ask::Hold(guest) | Ask::Release(guest) => {
                self.put("guest", quoted(&format!("g{}", guest + 1)));
            }
            Ask::Fence(target) | Ask::ConfirmOff(target) => self.word("target", &who(target)),
            Ask::Publish => {}
            Ask::PublishMany(bytes) => self.put("bytes", bytes),
            Ask::Leave(why) => self.word("why", word(LEAVES, why)),
        }
    }
}

/// The verb that stands for an action in a scenario.
#[must_use]
pub fn verb(action: &Action) -> &'static str {
    let mut step = Step(String::new());
    step.action(action);
    let all = super::verbs::VERBS.iter().chain(super::twists::VERBS);
    let found = all.map(|v| v.0);
    let mut written = found.filter(|v| step.0.contains(&format!("do = \"{v}\"\n")));
    written.next().unwrap_or("?")
}
